"""DataCite 4.6 (https://datacite-metadata-schema.readthedocs.io/en/4.6/), the metadata behind a DOI, as JSON."""

import re
from datetime import UTC, datetime
from urllib.parse import quote

from .._records import Record
from ._package import Json, conditions, description, iso, licence, media_type, organization, person, title


def datacite(record: Record) -> Json:
    """A record as the attributes of a DOI. Raises ValueError that names what the standard demands and is not said."""
    card = record.card
    lacking = [
        what for what, there in (
            ("creators", card.creators), ("a publisher", card.publisher),
            ("the time when the data were made", record.created or record.retrieved),
        ) if not there
    ]  # fmt: skip
    if lacking:
        raise ValueError(f"DataCite demands {', '.join(lacking)} of {record.id}: say so in its data card")
    year = datetime.fromtimestamp(record.created or record.retrieved, UTC).year
    return {
        "types": {"resourceType": f"Firstlight {record.kind}", "resourceTypeGeneral": _general(record)},
        "creators": [_creator(said) for said in card.creators],
        "titles": [{"title": title(record)}],
        "publisher": _publisher(card.publisher),
        "publicationYear": str(year),
        "subjects": [{"subject": word} for word in card.keywords],
        "contributors": _contributors(record),
        "dates": _dates(record),
        "language": "en",
        "alternateIdentifiers": [
            {"alternateIdentifier": record.id, "alternateIdentifierType": "Firstlight"},
            {"alternateIdentifier": record.digest, "alternateIdentifierType": "sha256"},
        ],
        "relatedIdentifiers": _related(record),
        "sizes": _sizes(record),
        "formats": sorted({media_type(file) for file in record.files}),
        "version": record.id.rpartition("@")[2],
        "rightsList": _rights(record),
        "descriptions": _descriptions(record),
        "schemaVersion": "http://datacite.org/schema/kernel-4",
    }


def _general(record: Record) -> str:
    return "Model" if record.kind == "model" else "Dataset"


def _creator(said: str) -> Json:
    name, orcid = person(said)
    found: Json = {"name": name, "nameType": "Personal"}
    family, comma, given = name.partition(", ")
    if comma and family and given:
        found |= {"givenName": given, "familyName": family}
    if orcid:
        found["nameIdentifiers"] = [{
            "nameIdentifier": orcid, "nameIdentifierScheme": "ORCID", "schemeUri": "https://orcid.org",
        }]  # fmt: skip
    return found


def _publisher(said: str) -> Json:
    name, url = organization(said)
    if "ror.org/" not in url:
        return {"name": name}
    return {"name": name, "publisherIdentifier": url, "publisherIdentifierScheme": "ROR",
            "schemeUri": "https://ror.org/"}  # fmt: skip


def _contributors(record: Record) -> list[Json]:
    kinds = (("DataCollector", record.people), ("HostingInstitution", record.facilities))
    found: list[Json] = [
        {"name": name, "contributorType": kind, "nameType": "Personal" if kind == "DataCollector" else "Organizational"}
        for kind, names in kinds for name in names if name not in record.card.creators
    ]  # fmt: skip
    if record.card.contact:
        found.append({"name": record.card.contact, "contributorType": "ContactPerson"})
    return found


def _dates(record: Record) -> list[Json]:
    known = (("Created", record.created), ("Collected", record.created if record.campaign else 0.0),
             ("Available", record.retrieved))  # fmt: skip
    return [{"date": iso(at), "dateType": type} for type, at in known if at]


def _related(record: Record) -> list[Json]:
    """What the data were made from, and the paper that they belong to."""
    found = [_identified(id, "IsDerivedFrom") for id in record.used]
    found += [_identified(record.address, "IsDerivedFrom")] if "://" in record.address else []
    return [*found, *([paper] if (paper := _paper(record.card.citation)) else [])]


def _identified(id: str, relation: str) -> Json:
    doi = _doi(id)
    if doi is None and "://" not in id:
        return {"relatedIdentifier": f"urn:firstlight:{quote(id)}", "relatedIdentifierType": "URN",
                "relationType": relation}  # fmt: skip
    return {"relatedIdentifier": doi or id, "relatedIdentifierType": "DOI" if doi else "URL", "relationType": relation}


def _paper(citation: str) -> Json | None:
    doi = _doi(citation)
    if doi is None:
        return None
    return {"relatedIdentifier": doi, "relatedIdentifierType": "DOI", "relationType": "IsSupplementTo"}


def _doi(said: str) -> str | None:
    found = re.search(r"10\.\d{4,9}/[^\s\"<>]+", said)
    return found[0].rstrip(".,;)") if found else None


def _sizes(record: Record) -> list[str]:
    rows = [f"{record.rows} rows"] if record.rows else []
    size = record.size or sum(file.size for file in record.files)
    return [*rows, *([f"{len(record.files)} files"] if record.files else []), *([f"{size} bytes"] if size else [])]


def _rights(record: Record) -> list[Json]:
    url, name = licence(record.card)
    found: list[Json] = []
    if url.startswith("https://spdx.org/"):
        found.append({
            "rights": name, "rightsUri": url, "rightsIdentifier": name, "rightsIdentifierScheme": "SPDX",
            "schemeUri": "https://spdx.org/licenses/",
        })  # fmt: skip
    elif name:
        found.append({"rights": name, **({"rightsUri": url} if url else {})})
    return [*found, *({"rights": said} for said in conditions(record.card))]


def _descriptions(record: Record) -> list[Json]:
    found = [{"description": description(record), "descriptionType": "Abstract"}]
    units = [f"{v.name} [{v.unit}]" if v.unit else v.name for v in record.variables]
    if units:
        found.append({"description": f"Variables: {', '.join(units)}", "descriptionType": "TechnicalInfo"})
    if record.software:
        software = ", ".join(f"{name} {version}" for name, version in record.software.items())
        found.append({"description": f"Made with {software}", "descriptionType": "Methods"})
    return found
