"""Packages that the libraries of others wrote are read."""

from pathlib import Path

from firstlight.catalog.packages import read

from .conftest import Run

WRITE = """
import hashlib, json, sys
from pathlib import Path
import mlcroissant as mlc
from rocrate.model.person import Person
from rocrate.rocrate import ROCrate

place = Path(sys.argv[1])
table = place / "growth \\u00b5.csv"
table.write_text("t,rate\\n300,1.5\\n", encoding="utf-8")
(place / "raw").mkdir()
(place / "raw" / "one.txt").write_text("1")

crate = ROCrate()
crate.name, crate.description, crate.license = "Growth", "of films", "https://spdx.org/licenses/MIT"
crate.creator = crate.add(Person(crate, "https://orcid.org/0000-0002-1825-0097", properties={"name": "Ada"}))
crate.root_dataset["author"] = crate.creator
crate.add_file(table, properties={"encodingFormat": "text/csv", "contentSize": str(table.stat().st_size)})
crate.add_directory(place / "raw", "raw/")
crate.write(place / "crate")
crate.write_zip(place / "crate.zip")

file = mlc.FileObject(
    id="table", name="table", content_url="growth.csv", encoding_formats=["text/csv"],
    sha256=hashlib.sha256(table.read_bytes()).hexdigest(),
)
fields = [
    mlc.Field(id=f"rows/{name}", name=name, data_types=type, description=f"the {name}",
              source=mlc.Source(file_object="table", extract=mlc.Extract(column=name)))
    for name, type in (("t", mlc.DataType.INTEGER), ("rate", mlc.DataType.FLOAT))
]
metadata = mlc.Metadata(
    name="Growth", description="of films", license=["https://spdx.org/licenses/MIT"], distribution=[file],
    record_sets=[mlc.RecordSet(id="rows", name="rows", fields=fields)], creators=[mlc.Person(name="Ada")],
    url="https://growth.example", version="1.0.0", keywords=["films"],
)
(place / "croissant").mkdir()
(place / "croissant" / "growth.csv").write_bytes(table.read_bytes())
(place / "croissant" / "croissant.json").write_text(json.dumps(metadata.to_json(), default=str))
print(json.dumps("done"))
"""


def test_what_the_libraries_of_others_wrote_is_read(tmp_path: Path, fabric: Run) -> None:
    fabric(WRITE, [tmp_path])
    crate = read(tmp_path / "crate", tmp_path)
    assert sorted(crate.files) == ["growth µ.csv", "raw/one.txt"]
    assert crate.files["growth µ.csv"].read_text() == "t,rate\n300,1.5\n"
    card = crate.record.card
    assert (card.title, card.description, card.licence) == ("Growth", "of films", "MIT")
    assert card.creators == ("Ada (https://orcid.org/0000-0002-1825-0097)",)
    zipped = read(tmp_path / "crate.zip", tmp_path / "scratch")
    assert zipped.record.files == crate.record.files and zipped.record.id == crate.record.id
    croissant = read(tmp_path / "croissant", tmp_path).record
    assert [file.path for file in croissant.files] == ["growth.csv"] and croissant.files[0].size == 15
    assert [(v.name, v.kind, v.description) for v in croissant.variables] == [
        ("t", "int64", "the t"), ("rate", "float64", "the rate"),
    ]  # fmt: skip
    assert croissant.card.creators == ("Ada",) and croissant.card.licence == "MIT"
    assert croissant.card.keywords == ("films",) and croissant.address == "https://growth.example"
