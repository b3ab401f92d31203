"""Croissant packages are valid, and their records can be read by those who never heard of us."""

import json
from pathlib import Path

import pytest

from firstlight.catalog.index import Card, Record, Variable
from firstlight.catalog.packages import Package, read, write

from .conftest import CARD, Run, file_of

READ = """
import json, sys, math
import mlcroissant as mlc

def plain(value):
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float) and math.isnan(value):
        return None
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)

found = []
for path in sys.argv[1:]:
    dataset = mlc.Dataset(path)
    sets = {}
    for records in dataset.metadata.record_sets:
        sets[records.uuid] = [{k: plain(v) for k, v in r.items()} for r in dataset.records(records.uuid)]
    issues, metadata = dataset.metadata.ctx.issues, dataset.metadata
    found.append({
        "errors": sorted(issues.errors), "warnings": sorted(issues.warnings), "sets": sets, "name": metadata.name,
        "licence": metadata.license, "use": metadata.data_use_cases, "limits": metadata.data_limitations,
        "collection": metadata.data_collection, "missing": metadata.data_collection_missing_data,
        "kinds": {str(f.uuid): str(f.data_type) for r in metadata.record_sets for f in r.fields},
    })
print(json.dumps(found))
"""


def test_others_read_the_records(campaign: Package, spectra: Package, tmp_path: Path, fabric: Run) -> None:
    first = write(campaign, "croissant", tmp_path / "first") / "croissant.json"
    second = write(spectra, "croissant", tmp_path / "second") / "croissant.json"
    bare = Package(Record(id="x@1", name="x", digest="sha256:1"), {})
    third = write(bare, "croissant", tmp_path / "third") / "croissant.json"
    of_campaign, of_spectra, of_nothing = fabric(READ, [first, second, third])
    assert of_campaign["errors"] == of_spectra["errors"] == of_nothing["errors"] == []
    assert of_campaign["warnings"] == of_spectra["warnings"] == []
    trials = of_campaign["sets"]["trials"]
    assert len(trials) == 5 == campaign.record.rows
    (recovery,) = (v for v in campaign.record.variables if v.name == "recovery")
    seen = [t["trials/recovery"] for t in trials if t["trials/recovery"] is not None]
    assert (min(seen), max(seen)) == (pytest.approx(recovery.low), pytest.approx(recovery.high))
    assert {t["trials/failed"] for t in trials} == {True, False}
    kinds = of_campaign["kinds"]
    assert kinds["trials/recovery"] == "<class 'float'>" and kinds["trials/failed"] == "<class 'bool'>"
    assert "Timestamp" in kinds["trials/ended"] and kinds["trials/trial"] == "<class 'bytes'>"
    assert of_campaign["use"] == ["benchmark"] and "Sensitivity: CUI." in of_campaign["limits"]
    assert "campaign critical-materials" in of_campaign["collection"]
    assert of_spectra["sets"]["splits"] == [{"splits/name": "test"}, {"splits/name": "train"}]
    assert of_spectra["sets"]["peaks"] == [
        {"peaks/sample": "a", "peaks/position": 531.2, "peaks/intensity": 1.5, "peaks/split": "train"},
        {"peaks/sample": "b", "peaks/position": 529.9, "peaks/intensity": None, "peaks/split": "test"},
    ]  # fmt: skip
    assert of_spectra["missing"] == "Rows without a value: intensity: 1 rows."


def test_units_and_conditions_are_said(spectra: Package, tmp_path: Path) -> None:
    said = json.loads((write(spectra, "croissant", tmp_path / "package") / "croissant.json").read_text())
    assert said["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    (peaks,) = (s for s in said["recordSet"] if s["@id"] == "peaks")
    fields = {field["name"]: field for field in peaks["field"]}
    assert fields["position"]["description"] == "In eV." and fields["position"]["unitText"] == "eV"
    assert fields["position"]["source"]["extract"] == {"column": "position [eV]"}
    assert fields["split"]["references"] == {"field": {"@id": "splits/name"}}
    assert "Sensitivity: CUI." in said["conditionsOfAccess"] and "CRADA crada-17" in said["conditionsOfAccess"]
    files = {o["contentUrl"]: o for o in said["distribution"]}
    for file in spectra.record.files:
        there = files[f"data/{file.path}"]
        assert (there["sha256"], there["contentSize"]) == (file.digest.removeprefix("sha256:"), f"{file.size} B")
    assert files.keys() >= {"firstlight-record.json", "provenance.json"}
    assert said["creator"][0] == {
        "@type": "sc:Person", "name": "Lovelace, Ada", "url": "https://orcid.org/0000-0002-1825-0097"
    }  # fmt: skip


@pytest.mark.parametrize("synthetic", [True, False])
def test_computed_data_are_called_so(spectra: Package, tmp_path: Path, synthetic: bool) -> None:
    record = Record(id="x@1", name="x", digest="sha256:1", synthetic=synthetic, instruments=("XPS",), card=CARD)
    said = json.loads((write(Package(record, {}), "croissant", tmp_path / "p") / "croissant.json").read_text())
    assert said["rai:dataCollectionType"] == ("Simulations" if synthetic else "Experiments")
    assert ("These data are synthetic" in said["description"]) == synthetic


def test_columns_with_odd_names_are_numbered(tmp_path: Path) -> None:
    table = tmp_path / "odd.csv"
    table.write_text("a b,x,x [m],column-1\n1,2,3,4\n")
    record = Record(id="x@1", name="x", digest="sha256:1", variables=(Variable("a b", description="both"),))
    said = json.loads(
        (write(Package(record, {"o d.csv": table}), "croissant", tmp_path / "p") / "croissant.json").read_text()
    )
    (records,) = said["recordSet"]
    assert records["@id"] == "records-1"
    ids = [f["@id"] for f in records["field"]]
    assert len(set(ids)) == 4 and records["field"][0]["description"] == "both"
    assert records["field"][2]["source"]["extract"] == {"column": "x [m]"}


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", b"PAR1PAR1", b"PAR1" + b"x" * 20 + b"\x08\0\0\0PAR1"])
def test_a_table_that_is_none_is_told(tmp_path: Path, content: bytes) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.parquet is no table"):
        write(Package(Record(id="x@1", name="x", digest="1"), {"broken.parquet": broken}), "croissant", tmp_path / "p")
    assert list(tmp_path.iterdir()) == [broken]


def test_croissants_of_others_become_records(tmp_path: Path) -> None:
    place = tmp_path / "theirs"
    place.mkdir()
    (place / "flowers.csv").write_text("petal,kind\n1.5,iris\n")
    file = file_of("flowers.csv", place / "flowers.csv")
    said = {
        "@context": {"cr": "http://mlcommons.org/croissant/"}, "conformsTo": "http://mlcommons.org/croissant/1.0",
        "@type": "sc:Dataset", "name": "Flowers", "license": "https://spdx.org/licenses/CC0-1.0", "citeAs": "Fisher",
        "url": "https://flowers.example", "creator": {"@type": "sc:Person", "name": "Fisher"},
        "datePublished": "1936", "distribution": [
            {"@type": "cr:FileObject", "@id": "f", "contentUrl": "flowers.csv", "encodingFormat": "text/csv",
             "sha256": file.digest.removeprefix("sha256:"), "contentSize": f"{file.size} B"},
            {"@type": "cr:FileObject", "@id": "inner", "containedIn": {"@id": "f"}, "contentUrl": "x"},
            {"@type": "cr:FileObject", "@id": "web", "contentUrl": "https://flowers.example/all.zip"},
        ],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "r", "field": [
            {"@type": "cr:Field", "@id": "r/petal", "name": "petal", "dataType": "sc:Float", "description": "length"},
            {"@type": "cr:Field", "@id": "r/kind", "name": "kind", "dataType": ["sc:Text", "wd:Q1"]},
        ]}],
    }  # fmt: skip
    (place / "metadata.json").write_text(json.dumps(said))
    package = read(place, tmp_path)
    assert package.record.files == (file_with_type(file),) and package.files == {"flowers.csv": place / "flowers.csv"}
    assert package.record.card == Card(title="Flowers", creators=("Fisher",), licence="CC0-1.0", citation="Fisher")
    assert [(v.name, v.kind, v.description) for v in package.record.variables] == [
        ("petal", "float64", "length"), ("kind", "string", ""),
    ]  # fmt: skip
    assert package.record.address == "https://flowers.example" and package.record.created < 0


def file_with_type(file: object) -> object:
    from msgspec.structs import replace  # noqa: PLC0415

    return replace(file, media_type="text/csv")  # type: ignore[type-var]
