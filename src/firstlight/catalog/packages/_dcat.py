"""A dataset of DCAT-US 3.0, the metadata of federal catalogues (https://github.com/GSA/dcat-us, jsonschema/)."""

from .._records import Card, Record
from ..store import digest_of
from ._package import (
    DATA,
    Json,
    Package,
    conditions,
    contact,
    description,
    encoded,
    iso,
    licence,
    media_type,
    organization,
    title,
)

_MARKINGS = {"CUI": "CUI", "UCNI": "CUI//SP-UCNI"}
"""Banner markings. The card knows no category of CUI, so that the banner has none but where the word is one."""


def dcat_us(package: Package) -> Json:
    """A record as a Dataset. Raises ValueError that names what the standard demands and the card does not say."""
    record, card = package.record, package.record.card
    name, address = contact(card)
    lacking = [
        what for what, there in (
            ("a publisher", card.publisher), ("a contact with an e-mail address", address),
            ("a description", card.description), ("a title", title(record)),
        ) if not there
    ]  # fmt: skip
    if lacking:
        raise ValueError(f"DCAT-US demands {', '.join(lacking)} of {record.id}: say so in its data card")
    publisher = {"@type": "Organization", "name": organization(card.publisher)[0]}
    rights = conditions(card)
    found: Json = {
        "@type": "Dataset", "title": title(record), "description": description(record), "identifier": record.id,
        "publisher": publisher, "version": record.digest,
        "contactPoint": {"@type": "Kind", "fn": name, "hasEmail": f"mailto:{address}"},
        "accessRights": _access(card), "conformsTo": [_standard()],
        "distribution": [_distribution(package, path) for path in sorted(package.files)],
    }  # fmt: skip
    optional = {
        "keyword": [word for word in card.keywords if word], "rights": rights,
        "creator": {"@type": "Agent", "name": "; ".join(card.creators)} if card.creators else None,
        "created": iso(record.created) if record.created else "",
        "temporal": _temporal(package), "provenance": _provenance(record),
        "wasGeneratedBy": [{"@type": "Activity", "label": f"campaign {record.campaign}"}] if record.campaign else [],
        "relation": [record.address] if "://" in record.address else [],
        "scopeNote": f"Cite as: {card.citation}" if card.citation else "",
        "purpose": ", ".join(card.uses),
    }  # fmt: skip
    return found | {name: value for name, value in optional.items() if value}


def _standard() -> Json:
    return {
        "@type": "Standard", "title": "DCAT-US 3.0", "@id": "https://resources.data.gov/dcat-us/3.0.0",
        "identifier": "DCAT-US-3.0",
    }  # fmt: skip


def _access(card: Card) -> str:
    if card.sensitivity == "Public" and card.export_control in ("", "No"):
        return "public"
    if not card.sensitivity:
        return "not public: nobody has said yet how sensitive these data are"
    return f"not public: {card.sensitivity}" + (
        f"; export control: {card.export_control}" if card.export_control not in ("", "No") else ""
    )


def _distribution(package: Package, path: str) -> Json:
    record, card = package.record, package.record.card
    file = next((f for f in record.files if f.path == path), None)
    url, name = licence(card)
    found: Json = {
        "@type": "Distribution", "title": path, "mediaType": media_type(file or path), "accessRights": _access(card),
    }  # fmt: skip
    if "://" in record.address and not record.address.startswith("file:"):
        found["accessURL"] = record.address
    digest, size = (file.digest, file.size) if file is not None else digest_of(package.files[path])
    found["byteSize"] = str(size)
    found["checksum"] = {
        "@type": "Checksum", "algorithm": "SHA-256", "checksumValue": digest.removeprefix("sha256:"),
    }  # fmt: skip
    if name:
        found["license"] = url or name
    if marking := _MARKINGS.get(card.sensitivity):
        found["cuiRestriction"] = {
            "@type": "CUIRestriction", "cuiBannerMarking": marking,
            "designationIndicator": f"Controlled by: {card.publisher}. Contact: {card.contact}",
        }  # fmt: skip
    if card.sensitivity not in ("", "Public"):
        status = "Fully" if card.sensitivity in ("CUI", "UCNI", "Classified") else "Possibly"
        note = f"Sensitivity: {card.sensitivity}"
        found["accessRestriction"] = [_restriction("AccessRestriction", status, note)]
    if rules := [said for said in conditions(card) if not said.startswith("Sensitivity")]:
        found["useRestriction"] = [_restriction("UseRestriction", "Possibly", " ".join(rules))]
    found["identifier"] = f"{record.id}/{DATA}/{encoded(path)}"
    return found


def _restriction(type: str, status: str, note: str) -> Json:
    """`status` is a word of NARA's list of restriction statuses."""
    return {"@type": type, "restrictionStatus": f"Restricted - {status}", "restrictionNote": note}


def _temporal(package: Package) -> list[Json]:
    """When the data were made: while its campaign ran, or the day that the record has."""
    graph, record = package.provenance, package.record
    times = [t for a in (graph.activities if graph else ()) if a.kind != "import" for t in (a.started, a.ended) if t]
    if not times and record.created:
        times = [record.created]
    return [{"@type": "PeriodOfTime", "startDate": _day(min(times)), "endDate": _day(max(times))}] if times else []


def _day(at: float) -> str:
    return iso(at)[:10]


def _provenance(record: Record) -> list[str]:
    said = [f"Derived from {id}." for id in record.used]
    makers = [*record.people, *record.facilities, *record.instruments, *record.models]
    said += [f"Made by {', '.join(makers)}."] if makers else []
    software = ", ".join(f"{name} {version}" for name, version in record.software.items())
    return said + ([f"Software: {software}."] if software else [])
