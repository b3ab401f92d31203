"""What catalogues and registries ask for, in their own words; and tables as files of their own."""

import csv
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest

from firstlight.catalog.index import Card, Record
from firstlight.catalog.packages import Damaged, Form, Package, write

from .conftest import CARD


def written(package: Package, form: Form, place: Path) -> Any:
    return json.loads(write(package, form, place / form).read_text())


def obj(required: str = "", **properties: object) -> dict[str, object]:
    """A JSON Schema of an object with these properties and no others."""
    return {
        "type": "object", "properties": {"@type": {"type": "string"}, "@id": {"type": "string"}, **properties},
        "required": required.split(), "additionalProperties": False,
    }  # fmt: skip


def many(of: object) -> dict[str, object]:
    return {"type": "array", "items": of, "minItems": 1}


TEXT, TIME = {"type": "string", "minLength": 1}, {"type": "string", "format": "date-time"}
IRI = {"type": "string", "pattern": r"^https?://"}
RESTRICTION = obj(
    "restrictionStatus", restrictionNote=TEXT,
    restrictionStatus={"enum": ["Restricted - Fully", "Restricted - Partly", "Restricted - Possibly"]},
)  # fmt: skip
DISTRIBUTION = obj(
    title=TEXT, mediaType={"type": "string", "pattern": "^[a-z]+/"}, accessRights=TEXT, accessURL=IRI, license=TEXT,
    byteSize={"type": "string", "pattern": "^[0-9]+$"}, identifier=TEXT,
    checksum=obj("algorithm checksumValue", algorithm={"const": "SHA-256"},
                 checksumValue={"type": "string", "pattern": "^[0-9a-f]{64}$"}),
    cuiRestriction=obj("cuiBannerMarking designationIndicator", cuiBannerMarking=TEXT, designationIndicator=TEXT),
    accessRestriction=many(RESTRICTION), useRestriction=many(RESTRICTION),
)  # fmt: skip
DCAT_US = obj(
    "description publisher title contactPoint identifier", title=TEXT, description=TEXT, identifier=TEXT, version=TEXT,
    publisher=obj("name", name=TEXT), accessRights=TEXT, rights=many(TEXT), keyword=many(TEXT), scopeNote=TEXT,
    contactPoint=obj("fn hasEmail", fn=TEXT, hasEmail={"type": "string", "pattern": r"^mailto:[\w.+-]+@[\w.-]+$"}),
    conformsTo=many(obj(title=TEXT, identifier=TEXT)), distribution=many(DISTRIBUTION), creator=obj("name", name=TEXT),
    created=TIME, provenance=many(TEXT), relation=many(IRI), purpose=TEXT,
    temporal=many(obj(startDate={"type": "string", "format": "date"}, endDate={"type": "string", "format": "date"})),
    wasGeneratedBy=many(obj("label", label=TEXT)),
)  # fmt: skip
"""What we use of the schemas of GSA/dcat-us, jsonschema/definitions: their types and what they require."""


def test_dcat_us_is_as_the_schema_has_it(campaign: Package, spectra: Package, tmp_path: Path) -> None:
    for number, package in enumerate((campaign, spectra)):
        said = written(package, "dcat-us", tmp_path / str(number))
        jsonschema.validate(said, DCAT_US, format_checker=jsonschema.FormatChecker())
    assert said["contactPoint"]["hasEmail"] == "mailto:ada@anl.gov" and said["publisher"]["name"] == "Argonne"
    assert said["temporal"][0]["startDate"] == "2023-11-14"
    assert any("Made by Grace Hopper, APS, XPS." in line for line in said["provenance"])
    assert said["relation"] == ["https://beam.example/spectra/9"]
    for file, distribution in zip(
        sorted(spectra.record.files, key=lambda f: f.path), said["distribution"], strict=True
    ):
        assert distribution["checksum"]["checksumValue"] == file.digest.removeprefix("sha256:")
        assert distribution["byteSize"] == str(file.size) and distribution["title"] == file.path
        assert distribution["license"] == "https://spdx.org/licenses/CC-BY-4.0"


@pytest.mark.parametrize(
    ("sensitivity", "access", "marking"),
    [
        ("Public", "public", None), ("CUI", "not public: CUI", "CUI"), ("UCNI", "not public: UCNI", "CUI//SP-UCNI"),
        ("Mixed", "not public: Mixed", None),
        ("", "not public: nobody has said yet how sensitive these data are", None),
    ],
)  # fmt: skip
def test_dcat_us_says_who_may_have_the_data(
    spectra: Package, tmp_path: Path, sensitivity: Any, access: str, marking: str | None
) -> None:
    card = msgspec.structs.replace(CARD, sensitivity=sensitivity)
    said = written(spectra._replace(record=msgspec.structs.replace(spectra.record, card=card)), "dcat-us", tmp_path)
    jsonschema.validate(said, DCAT_US)
    assert said["accessRights"] == access
    for distribution in said["distribution"]:
        assert distribution.get("cuiRestriction", {}).get("cuiBannerMarking") == marking
        assert ("accessRestriction" in distribution) == (sensitivity not in ("", "Public"))
        assert "Agreement: CRADA crada-17." in distribution["useRestriction"][0]["restrictionNote"]
    if marking:
        assert "Controlled by: Argonne" in said["distribution"][0]["cuiRestriction"]["designationIndicator"]


NAMED = obj("name", name=TEXT, nameType={"enum": ["Personal", "Organizational"]}, givenName=TEXT, familyName=TEXT,
            contributorType={"enum": ["DataCollector", "HostingInstitution", "ContactPerson"]},
            nameIdentifiers=many(obj("nameIdentifier nameIdentifierScheme", nameIdentifier=TEXT,
                                     nameIdentifierScheme=TEXT, schemeUri=TEXT)))  # fmt: skip


def test_datacite_is_as_the_schema_has_it(spectra: Package, tmp_path: Path) -> None:
    record = msgspec.structs.replace(spectra.record, used=("films@1", "https://doi.org/10.5555/abc"))
    said = written(spectra._replace(record=record), "datacite", tmp_path)
    assert said["types"] == {"resourceType": "Firstlight dataset", "resourceTypeGeneral": "Dataset"}
    assert (said["titles"], said["publicationYear"]) == ([{"title": "Rare earths"}], "2023")
    assert said["publisher"]["publisherIdentifier"] == "https://ror.org/05gvnxz63"
    ada, grace = said["creators"]
    for person in (ada, grace, *said["contributors"]):
        jsonschema.validate(person, NAMED)
    assert (ada["givenName"], ada["familyName"]) == ("Ada", "Lovelace") and grace["name"] == "Grace Hopper"
    assert ada["nameIdentifiers"][0]["nameIdentifier"] == "https://orcid.org/0000-0002-1825-0097"
    related = {r["relatedIdentifier"]: (r["relatedIdentifierType"], r["relationType"])
               for r in said["relatedIdentifiers"]}  # fmt: skip
    assert related == {
        "urn:firstlight:films%401": ("URN", "IsDerivedFrom"), "10.5555/abc": ("DOI", "IsDerivedFrom"),
        "https://beam.example/spectra/9": ("URL", "IsDerivedFrom"), "10.1000/xyz.12": ("DOI", "IsSupplementTo"),
    }  # fmt: skip
    assert said["rightsList"][0]["rightsIdentifier"] == "CC-BY-4.0"
    assert said["rightsList"][0]["rightsIdentifierScheme"] == "SPDX"
    assert {"rights": "Sensitivity: CUI."} in said["rightsList"]
    assert said["sizes"] == ["2 rows", "3 files", f"{sum(f.size for f in record.files)} bytes"]
    assert "text/csv" in said["formats"] and said["dates"][0]["dateType"] == "Created"
    assert said["schemaVersion"] == "http://datacite.org/schema/kernel-4"


LACKING: Mapping[Form, tuple[tuple[dict[str, Any], str], ...]] = {
    "dcat-us": (
        ({"publisher": ""}, "demands a publisher of"), ({"contact": "Ada"}, "a contact with an e-mail address of"),
        ({"description": ""}, "a description"), ({"publisher": "", "contact": ""}, "a publisher, a contact"),
    ),
    "datacite": (({"creators": ()}, "demands creators"), ({"publisher": ""}, "demands a publisher")),
}  # fmt: skip


@pytest.mark.parametrize(("form", "without", "said"), [(f, w, s) for f, some in LACKING.items() for w, s in some])
def test_what_a_form_cannot_do_without_is_named(
    spectra: Package, tmp_path: Path, form: Form, without: dict[str, Any], said: str
) -> None:
    card = msgspec.structs.replace(CARD, **without)
    package = spectra._replace(record=msgspec.structs.replace(spectra.record, card=card))
    with pytest.raises(ValueError, match=said):
        write(package, form, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_datacite_needs_a_year(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the time when the data were made"):
        write(Package(Record(id="x@1", name="x", digest="1", card=CARD), {}), "datacite", tmp_path / "out")


# ---------------------------------------------------------------------- tables


def test_the_table_is_written_as_it_is_stored(campaign: Package, tmp_path: Path) -> None:
    table = write(campaign, "parquet", tmp_path / "t.parquet")
    assert f"sha256:{hashlib.sha256(table.read_bytes()).hexdigest()}" == campaign.record.digest


def test_a_table_that_has_rotted_is_not_sent(campaign: Package, tmp_path: Path) -> None:
    rotten = tmp_path / "rotten.parquet"
    rotten.write_bytes(
        campaign.files["trials.parquet"].read_bytes().replace(b"critical-materials.1", b"critical-materials.9", 1)
    )
    for form in ("csv", "parquet"):
        with pytest.raises(Damaged, match=r"trials\.parquet is damaged"):
            write(
                campaign._replace(files={"trials.parquet": rotten}),
                "csv" if form == "csv" else "parquet",
                tmp_path / form,
            )
        assert not (tmp_path / form).exists()


def test_a_time_that_is_none_is_told(tmp_path: Path) -> None:
    record = Record(id="x@1", name="x", digest="1", created=1e18)
    with pytest.raises(ValueError, match="is no time"):
        write(Package(record, {}), "rocrate", tmp_path / "out")


def test_digests_that_the_record_lacks_are_worked_out(campaign: Package, tmp_path: Path) -> None:
    record = msgspec.structs.replace(campaign.record, files=())
    (distribution,) = written(campaign._replace(record=record), "dcat-us", tmp_path)["distribution"]
    assert f"sha256:{distribution['checksum']['checksumValue']}" == campaign.record.digest


def test_a_table_as_csv_has_its_units_in_the_header(campaign: Package, spectra: Package, tmp_path: Path) -> None:
    rows = list(csv.DictReader(write(campaign, "csv", tmp_path / "t.csv").read_text().splitlines()))
    assert len(rows) == 5 and {"trial", "pH1", "temperature [degC]", "recovery [%]", "failed"} <= rows[0].keys()
    temperature = next(v for v in campaign.record.variables if v.name == "temperature")
    assert min(float(row["temperature [degC]"]) for row in rows) == temperature.low
    assert {row["failed"] for row in rows} == {"True", "False"} and rows[0]["ended"].endswith("Z")
    found = write(spectra, "csv", tmp_path / "s.csv").read_text()
    assert found == "sample,position [eV],intensity,split\na,531.2,1.5,train\nb,529.9,,test\n"


@pytest.mark.parametrize(
    ("files", "form", "said"),
    [
        ({}, "csv", "has no table"), ({"a.csv": "x\n", "b.csv": "y\n"}, "csv", r"has 2 tables \(a.csv, b.csv\)"),
        ({"a.csv": "x\n"}, "parquet", "has no table"), ({"a.csv": "x\n\xff"}, "csv", "a.csv is no table"),
    ],
)  # fmt: skip
def test_a_table_that_is_not_there_is_not_made_up(tmp_path: Path, files: dict[str, str], form: Form, said: str) -> None:
    sources = {path: tmp_path / path for path in files}
    for path, content in files.items():
        sources[path].write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=said):
        write(Package(Record(id="x@1", name="x", digest="1"), sources), form, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == sorted(sources.values())


def test_provenance_is_a_file_of_its_own(campaign: Package, tmp_path: Path) -> None:
    said = written(campaign, "prov", tmp_path)
    assert len([a for a in said["activity"] if a.startswith("fl:action/")]) == 5
    with pytest.raises(ValueError, match="nothing is known of how"):
        write(campaign._replace(provenance=None), "prov", tmp_path / "none")


def test_a_bare_card_lacks_much(tmp_path: Path) -> None:
    package = Package(Record(id="x@1", name="x", digest="1", card=Card()), {})
    with pytest.raises(ValueError, match="a publisher, a contact with an e-mail address, a description of x@1"):
        write(package, "dcat-us", tmp_path / "out")
