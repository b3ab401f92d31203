"""Files of every format, made by the libraries that make them in laboratories."""

import io
import sqlite3
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import gemmi
import h5py
import jcamp
import numpy as np
import pytest
import zarr
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write as ase_write
from Bio.Seq import Seq
from Bio.SeqIO import write as bio_write
from Bio.SeqRecord import SeqRecord

from firstlight.catalog.readers import Contents, media_type_of, read

_SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"


def columns(contents: Contents) -> dict[str, list[Any]]:
    assert contents.batches is not None
    table = contents.batches().read_all()
    assert table.num_rows == contents.rows
    assert table.column_names == [v.name for v in contents.variables if v.kind != "array"]
    return {name: list(table[name].to_pylist()) for name in table.column_names}


def said(contents: Contents, part: str) -> bool:
    return any(part in note for note in contents.notes)


# ------------------------------------------------------------------ workbooks


def xlsx(path: Path, sheets: Mapping[str, Sequence[Sequence[object]]]) -> Path:
    """A workbook as ECMA-376 asks for it, with text in the cells."""

    def cell(place: str, value: object) -> str:
        if isinstance(value, bool):
            return f'<c r="{place}" t="b"><v>{int(value)}</v></c>'
        if isinstance(value, str):
            return f'<c r="{place}" t="inlineStr"><is><t>{value}</t></is></c>'
        return "" if value is None else f'<c r="{place}"><f>1+1</f><v>{value}</v></c>'

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="xml" ContentType="application/xml"/></Types>',
        )
        book.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="r" Type="{_OFFICE}/officeDocument" '
            f'Target="xl/workbook.xml"/></Relationships>',
        )
        named = "".join(f'<sheet name="{n}" sheetId="{i}" r:id="r{i}"/>' for i, n in enumerate(sheets, 1))
        book.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{_SHEET}" xmlns:r="{_OFFICE}"><sheets>{named}</sheets></workbook>'
        )
        related = "".join(
            f'<Relationship Id="r{i}" Type="{_OFFICE}/worksheet" Target="worksheets/sheet{i}.xml"/>'
            for i in range(1, len(sheets) + 1)
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{_PACKAGE}/relationships">{related}</Relationships>'
        )
        for i, rows in enumerate(sheets.values(), 1):
            body = "".join(
                f'<row r="{r}">{"".join(cell(f"{chr(65 + c)}{r}", v) for c, v in enumerate(row))}</row>'
                for r, row in enumerate(rows, 1)
            )
            book.writestr(
                f"xl/worksheets/sheet{i}.xml", f'<worksheet xmlns="{_SHEET}"><sheetData>{body}</sheetData></worksheet>'
            )
    return path


def ods(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    """A sheet of OpenDocument 1.2."""

    def cell(value: object) -> str:
        if isinstance(value, str):
            return f'<table:table-cell office:value-type="string"><text:p>{value}</text:p></table:table-cell>'
        return f'<table:table-cell office:value-type="float" office:value="{value}"/>'

    spaces = " ".join(
        f'xmlns:{short}="urn:oasis:names:tc:opendocument:xmlns:{short}:1.0"' for short in ("office", "table", "text")
    )
    body = "".join(f"<table:table-row>{''.join(map(cell, row))}</table:table-row>" for row in rows)
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        manifest = "urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"
        book.writestr("META-INF/manifest.xml", f'<manifest:manifest xmlns:manifest="{manifest}"/>')
        book.writestr(
            "content.xml",
            f"<office:document-content {spaces}><office:body><office:spreadsheet>"
            f'<table:table table:name="one">{body}</table:table>'
            f"</office:spreadsheet></office:body></office:document-content>",
        )
    return path


def test_a_workbook_is_a_table(tmp_path: Path) -> None:
    rows: list[list[object]] = [["Temp (°C)", "ok", "what"], [20.5, True, "a"], [None, False, "NA"], [22, True, "c"]]
    found = read(xlsx(tmp_path / "a.xlsx", {"one": rows, "none": []}))
    assert columns(found) == {"temperature": [20.5, None, 22.0], "ok": [True, False, True], "what": ["a", None, "c"]}
    assert found.variables[0].unit == "degC" and found.variables[0].missing == 1
    assert found.media_type.endswith("spreadsheetml.sheet") and found.metadata == {"sheet": "one"}


def test_sheets_with_the_same_columns_are_one_table(tmp_path: Path) -> None:
    found = read(xlsx(tmp_path / "a.xlsx", {"mon": [["a", "b"], [1, 2]], "tue": [["a", "b"], [3, 4], [5, 6]]}))
    assert columns(found) == {"a": [1.0, 3.0, 5.0], "b": [2.0, 4.0, 6.0], "sheet": ["mon", "tue", "tue"]}
    assert found.metadata["sheet"] == "mon, tue"


def test_of_sheets_with_other_columns_the_first_is_read(tmp_path: Path) -> None:
    found = read(xlsx(tmp_path / "a.xlsx", {"empty": [], "mon": [["a", "b"], [1, 2]], "tue": [["a", "c"], [3, 4]]}))
    assert columns(found) == {"a": [1.0], "b": [2.0]}
    assert said(found, "its sheets have different columns: 'mon' is read, and 'tue' left out")


def test_a_title_above_a_sheet(tmp_path: Path) -> None:
    found = read(xlsx(tmp_path / "a.xlsx", {"one": [["Films of Monday"], [], ["a", "b"], [1, 2]]}))
    assert columns(found) == {"a": [1.0], "b": [2.0]} and found.metadata["title"] == "Films of Monday"


def test_an_opendocument_sheet(tmp_path: Path) -> None:
    found = read(ods(tmp_path / "a.ods", [["x [mm]", "s"], [1.5, "a"], [2.5, "b"]]))
    assert columns(found) == {"x": [1.5, 2.5], "s": ["a", "b"]} and found.variables[0].unit == "mm"


# ------------------------------------------------------------------ JSON


@pytest.mark.parametrize(
    "content",
    [
        '[{"Temp (°C)": 20.5, "s": "a"}, {"Temp (°C)": null, "s": "b"}, {"s": "c"}]',
        '{"columns": ["Temp (°C)", "s"], "index": [0, 1, 2], "data": [[20.5, "a"], [null, "b"], [null, "c"]]}',
        '{"Temp (°C)": [20.5, null, null], "s": ["a", "b", "c"]}',
        '{"Temp (°C)": 20.5, "s": "a"}\n{"Temp (°C)": null, "s": "b"}\n\n{"s": "c"}\n',
        '{"title": "x", "units": {"temperature": "degC"}, "records": '
        '[{"temperature": 20.5, "s": "a"}, {"s": "b"}, {"s": "c"}]}',
    ],
)
def test_json_in_its_shapes(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    found = read(path)
    assert columns(found) == {"temperature": [20.5, None, None], "s": ["a", "b", "c"]}
    assert found.variables[0].unit == "degC" and found.variables[0].missing == 2


def test_json_of_mixed_and_nested_values(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1, "b": {"x": [1]}, "at": "2024-01-02T03:04:05Z"}\n{"a": "x", "b": null, "at": null}\n')
    found = read(path)
    assert columns(found) == {
        "a": ["1", "x"],
        "b": ['{"x":[1]}', None],
        "at": [datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), None],
    }
    assert said(found, "column a mixes types") and found.media_type == "application/x-ndjson"


def test_json_that_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"title": "x", "deep": {"y": 1}}')
    found = read(tmp_path / "a.json")
    assert found.batches is None and found.metadata == {"title": "x"} and said(found, "its JSON has no table")


# ------------------------------------------------------------------ HDF5 and NeXus


def test_hdf5_of_columns_and_arrays(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["title"] = "Films"
        file["run/T"] = np.array([300.0, np.nan, 310.0])
        file["run/T"].attrs["units"] = "K"
        file["run/n"] = np.arange(3, dtype="u1")
        file["run/what"] = ["a", "b", ""]
        file["image"] = np.zeros((4, 5, 6), "u2")
        file["image"].attrs["units"] = "counts"
        file["image"].attrs["long_name"] = "Detector"
        file["run/gain"] = 2.5
    found = read(tmp_path / "a.h5")
    assert [(v.name, v.unit, v.kind, v.shape, v.missing) for v in found.variables] == [
        ("temperature", "K", "float64", (), 1), ("n", "", "int64", (), 0), ("what", "", "string", (), 1),
        ("image", "counts", "array", (4, 5, 6), 0),
    ]  # fmt: skip
    got = columns(found)
    assert got["n"] == [0, 1, 2] and got["what"] == ["a", "b", None] and np.isnan(got["temperature"][1])
    assert (found.variables[0].low, found.variables[0].high) == (300.0, 310.0)
    assert found.variables[0].called == "T" and found.variables[3].description == "Detector"
    assert found.metadata == {"title": "Films", "run.gain": 2.5}


def test_hdf5_tables_of_compounds(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["scan"] = np.array([(1, 0.5, b"x"), (2, 1.5, b"y")], dtype=[("n", "i4"), ("y", "f8"), ("s", "S3")])
    assert columns(read(tmp_path / "a.h5")) == {"n": [1, 2], "y": [0.5, 1.5], "s": ["x", "y"]}


def nexus(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["default"] = "entry"
        entry = file.create_group("entry")
        entry.attrs.update({"NX_class": "NXentry", "default": "plot"})
        entry["title"] = "A scan"
        entry["start_time"] = "2024-01-02T03:04:05Z"
        instrument = entry.create_group("instrument")
        instrument.attrs["NX_class"] = "NXinstrument"
        instrument["name"] = "ID11"
        detector = instrument.create_group("detector")
        detector.attrs["NX_class"] = "NXdetector"
        detector["counts"] = np.array([5, 7, 6])
        detector["frames"] = np.zeros((3, 8, 8), "u2")
        sample = entry.create_group("sample")
        sample.attrs["NX_class"] = "NXsample"
        sample["chemical_formula"] = "La0.8 Sr0.2 Mn O3"
        sample["temperature"] = 295.0
        sample["temperature"].attrs["units"] = "K"
        plot = entry.create_group("plot")
        plot.attrs.update({"NX_class": "NXdata", "signal": "counts", "axes": ["two_theta"]})
        plot["counts"] = h5py.SoftLink("/entry/instrument/detector/counts")
        plot["two_theta"] = np.array([10.0, 10.1, 10.2])
        plot["two_theta"].attrs["units"] = "deg"
        file["entry/other"] = np.arange(7)
    return path


def test_nexus_by_its_default_plot(tmp_path: Path) -> None:
    found = read(nexus(tmp_path / "a.nxs"))
    assert [(v.name, v.role, v.unit) for v in found.variables[:2]] == [
        ("two_theta", "parameter", "degree"), ("counts", "observable", ""),
    ]  # fmt: skip
    assert columns(found) == {"two_theta": [10.0, 10.1, 10.2], "counts": [5, 7, 6]}
    assert found.elements == ("La", "Mn", "O", "Sr")
    assert found.metadata["title"] == "A scan" and found.metadata["instrument.name"] == "ID11"
    assert found.metadata["sample.temperature [K]"] == 295.0
    assert {(v.called, v.shape) for v in found.variables[2:]} == {
        ("/entry/instrument/detector/frames", (3, 8, 8)), ("/entry/other", (7,)),
    }  # fmt: skip


def test_nothing_is_followed_out_of_an_hdf5_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["keys"] = np.arange(3)
    (tmp_path / "secret.raw").write_bytes(b"\1" * 24)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["mine"] = np.arange(3.0)
        file["out"] = h5py.ExternalLink("secret.h5", "/keys")
        file["soft"] = h5py.SoftLink("/out")
        layout = h5py.VirtualLayout((3,), "i8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "keys", (3,))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("raw", (3,), "i8", external=[(str(tmp_path / "secret.raw"), 0, 24)])
        file["loop"] = h5py.SoftLink("/")
        file["group/again"] = file["/"]
        data = file.create_group("plot")
        data.attrs.update({"NX_class": "NXdata", "signal": "counts"})
        data["counts"] = h5py.SoftLink("/out")
    found = read(tmp_path / "a.h5")
    assert columns(found) == {"mine": [0.0, 1.0, 2.0]}
    assert {v.name for v in found.variables} == {"mine", "virtual", "raw"}
    assert said(found, "/out leads to another file, 'secret.h5': it is not followed")
    assert said(found, "the values of /virtual lie in another file") and said(
        found, "the values of /raw lie in another"
    )


def test_an_array_of_hdf5_is_not_read_to_be_described(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("cube", (10**6, 10**6), "f8", chunks=(1000, 1000))
        file.create_dataset("long", (10**12,), "f8", chunks=(1000,))
        file.create_dataset("lump", (2**28,), "f8", chunks=(2**28,))
    found = read(tmp_path / "a.h5")
    assert found.batches is None
    assert {(v.name, v.shape) for v in found.variables} == {
        ("cube", (10**6, 10**6)), ("long", (10**12,)), ("lump", (2**28,)),
    }  # fmt: skip


# ------------------------------------------------------------------ Parquet of others


def test_parquet_of_others(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    duckdb.sql(
        "COPY (SELECT i::INT AS \"Temp (°C)\", CASE WHEN i > 1 THEN i / 4 END AS x, i::UTINYINT::VARCHAR::ENUM('0', "
        "'1', '2') AS e, [1.0, i] AS list, DATE '2024-01-02' AS day, 1.25::DECIMAL(9, 2) AS d, NULL AS nothing, "
        f"18446744073709551615::UBIGINT AS big, TRUE AS ok FROM range(3) t(i)) TO '{path}' (FORMAT parquet)"
    )
    found = read(path)
    assert [(v.name, v.kind) for v in found.variables] == [
        ("temperature", "int64"), ("x", "float64"), ("e", "string"), ("day", "time"), ("d", "float64"),
        ("nothing", "string"), ("big", "float64"), ("ok", "bool"), ("list", "array"),
    ]  # fmt: skip
    got = columns(found)
    assert got["x"] == [None, None, 0.5] and got["e"] == ["0", "1", "2"] and got["big"] == [2.0**64] * 3
    assert got["day"] == [datetime(2024, 1, 2, tzinfo=UTC)] * 3
    assert found.variables[1].missing == 2 and found.variables[1].low == 0.5
    assert said(found, "column list holds lists or other nested values")


# ------------------------------------------------------------------ crystals, atoms, sequences, spectra


def test_cif_of_ase(tmp_path: Path) -> None:
    ase_write(tmp_path / "a.cif", bulk("NaCl", "rocksalt", a=5.64, cubic=True))
    found = read(tmp_path / "a.cif")
    assert found.media_type == "chemical/x-cif" and found.elements == ("Cl", "Na") and found.rows == 8
    assert found.metadata["formula"] == "Na4 Cl4" and found.metadata["cell_length_a"] == pytest.approx(5.64)
    assert found.metadata["space_group"] == "P 1"
    assert columns(found)["fract_x"][:2] == [0.0, 0.5] and columns(found)["type_symbol"][:2] == ["Na", "Cl"]


def test_cif_of_gemmi_with_uncertainties_and_two_blocks(tmp_path: Path) -> None:
    document = gemmi.cif.Document()
    document.add_new_block("global").set_pair("_audit_creation_date", "2024-01-02")
    block = document.add_new_block("quartz")
    block.set_pair("_cell_length_a", "4.9137(2)")
    block.set_pair("_diffrn_ambient_temperature", "293(2)")
    block.set_pair("_space_group_name_H-M_alt", "'P 32 2 1'")
    loop = block.init_loop("_atom_site_", ["label", "fract_x", "U_iso_or_equiv", "multiplicity"])
    loop.add_row(["Si1", "0.4697(1)", "0.008", "3"])
    loop.add_row(["O1", "0.4133(3)", "?", "6"])
    document.write_file(str(tmp_path / "q.cif"))
    found = read(tmp_path / "q.cif")
    assert columns(found) == {
        "label": ["Si1", "O1"], "fract_x": [0.4697, 0.4133], "U_iso_or_equiv": [0.008, None], "multiplicity": [3, 6],
    }  # fmt: skip
    assert found.metadata["cell_length_a"] == 4.9137 and found.metadata["temperature_K"] == 293
    assert found.elements == ("O", "Si") and {v.name: v.unit for v in found.variables}["U_iso_or_equiv"] == "angstrom^2"
    assert said(found, "it has 2 blocks, 1 of them with atoms: 'quartz' is read")


def test_cif_in_latin_1(tmp_path: Path) -> None:
    text = "data_x\n_chemical_name_common 'Größe'\nloop_\n_atom_site_label\n_atom_site_fract_x\nNa1 0.5\n"
    (tmp_path / "a.cif").write_bytes(text.encode("latin-1"))
    found = read(tmp_path / "a.cif")
    assert found.metadata["compound"] == "Größe" and columns(found)["fract_x"] == [0.5] and said(found, "as Latin-1")


def test_frames_of_extended_xyz(tmp_path: Path) -> None:
    one = bulk("NaCl", "rocksalt", a=5.64)
    one.calc = SinglePointCalculator(one, energy=-3.5, forces=np.zeros((2, 3)))  # type: ignore[no-untyped-call]
    two = molecule("H2O")  # type: ignore[no-untyped-call]
    two.info["source"] = "paper"
    ase_write(tmp_path / "a.extxyz", [one, two])
    found = read(tmp_path / "a.extxyz")
    got = columns(found)
    assert got["atoms"] == [2, 3] and got["formula"] == ["ClNa", "H2O"] and got["energy"] == [-3.5, None]
    assert got["source"] == [None, "paper"] and got["volume"] == [pytest.approx(5.64**3 / 4), None]
    assert {v.name: v.unit for v in found.variables}["energy"] == "eV"
    assert found.elements == ("Cl", "H", "Na", "O") and found.metadata == {"frames": 2}


def test_a_plain_xyz_that_nobody_named(tmp_path: Path) -> None:
    ase_write(tmp_path / "atoms", Atoms("CO", [[0, 0, 0], [0, 0, 1.1]]), format="xyz")
    assert media_type_of(tmp_path / "atoms") == "chemical/x-xyz"
    assert columns(read(tmp_path / "atoms"))["formula"] == ["CO"]


def test_sequences_of_biopython(tmp_path: Path) -> None:
    made = [
        SeqRecord(Seq("ACGTGG"), "s1", description="s1 a gene"), SeqRecord(Seq("ACGU"), "s2", description=""),
        SeqRecord(Seq("MKV*"), "s3", description=""),
    ]  # fmt: skip
    bio_write(made, tmp_path / "a.fasta", "fasta")
    assert columns(read(tmp_path / "a.fasta")) == {
        "id": ["s1", "s2", "s3"], "description": ["a gene", None, None], "length": [6, 4, 4],
        "alphabet": ["dna", "rna", "protein"], "gc": [4 / 6, 0.5, None], "sequence": ["ACGTGG", "ACGU", "MKV*"],
    }  # fmt: skip


def spectrum(path: Path, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> Path:
    head = {
        "title": "water", "jcamp-dx": "4.24", "data type": "INFRARED SPECTRUM", "origin": "here", "owner": "us",
        "molform": "H2 O", "xunits": "1/CM", "yunits": "ABSORBANCE", "xfactor": 1.0, "yfactor": 1.0,
        "firstx": float(x[0]), "lastx": float(x[-1]), "npoints": len(x), "x": x, "y": y,
    }  # fmt: skip
    with redirect_stdout(io.StringIO()):  # The library prints how it wraps its lines.
        path.write_text(jcamp.write(head))
    return path


def test_a_spectrum_of_jcamp(tmp_path: Path) -> None:
    x, y = np.linspace(400.0, 800.0, 41), np.arange(41.0)
    found = read(spectrum(tmp_path / "a.jdx", x, y))
    assert [(v.name, v.unit, v.role) for v in found.variables] == [
        ("wavenumber", "1/cm", "parameter"), ("absorbance", "", "observable"),
    ]  # fmt: skip
    got = columns(found)
    assert got["wavenumber"] == pytest.approx(list(x)) and got["absorbance"] == pytest.approx(list(y))
    assert found.metadata["title"] == "water" and found.metadata["data_type"] == "INFRARED SPECTRUM"
    assert found.elements == ("H", "O")


def test_a_compound_file_of_jcamp(tmp_path: Path) -> None:
    one = spectrum(tmp_path / "one.jdx", np.linspace(1.0, 5.0, 5), np.arange(5.0)).read_text()
    (tmp_path / "a.jdx").write_text(f"##TITLE=both\n##DATA TYPE=LINK\n##BLOCKS=3\n{one}\n{one}\n##END=\n")
    found = read(tmp_path / "a.jdx")
    assert found.rows == 5 and said(found, "it has 2 blocks: the first with data is read")


# ------------------------------------------------------------------ Zarr


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("zipped", [False, True])
def test_zarr_is_described(tmp_path: Path, version: Any, zipped: bool) -> None:
    path = tmp_path / ("a.zarr.zip" if zipped else "a.zarr")
    store: Any = zarr.storage.ZipStore(path, mode="w") if zipped else path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # A ZIP archive has the attributes twice where they are written twice.
        group = zarr.open_group(store, mode="w", zarr_format=version, attributes={"title": "Maps"})
        array = group.create_array("scan/map", shape=(10, 20), dtype="f4")
        array.attrs.update({"units": "µm", "long_name": "Height"})
        array[:] = 1.0
        if zipped:
            store.close()
    assert media_type_of(path) == "application/vnd.zarr"
    found = read(path)
    assert [(v.name, v.unit, v.kind, v.shape, v.description) for v in found.variables] == [
        ("scan.map", "um", "array", (10, 20), "Height")
    ]
    assert found.metadata == {"zarr_format": version, "title": "Maps"} and found.batches is None


# ------------------------------------------------------------------ what kind of file


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"##TITLE= x\n##JCAMP-DX= 4.24\n", "chemical/x-jcamp-dx"),
        (b"# c\ndata_x\n_cell_length_a 1\n", "chemical/x-cif"),
        (b">a b\nACGT\n", "text/x-fasta"), (b'[{"a": 1}]', "application/json"),
        (b'{"a": 1}\n{"a": 2}\n', "application/x-ndjson"),
        (b"PAR1", "application/vnd.apache.parquet"), (b"\x89HDF\r\n\x1a\n", "application/x-hdf5"),
        (b"\0" * 512 + b"\x89HDF\r\n\x1a\n", "application/x-hdf5"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/vnd.ms-excel"),
        (b"%PDF-1.7", "application/pdf"), (b"hello", "text/plain"), (b"", "application/octet-stream"),
        (b"\x80\x04\x95pickle\0", "application/octet-stream"),
    ],
)  # fmt: skip
def test_kinds_by_content(tmp_path: Path, content: bytes, kind: str) -> None:
    (tmp_path / "nameless").write_bytes(content)
    assert media_type_of(tmp_path / "nameless") == kind


def test_other_containers_are_kept_as_they_are(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    assert read(tmp_path / "a.zip").media_type == "application/zip"
    sqlite3.connect(tmp_path / "a.db").execute("CREATE TABLE a(b)").connection.close()
    assert read(tmp_path / "a.db").media_type == "application/octet-stream"
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert read(tmp_path / "a.npy").batches is None
