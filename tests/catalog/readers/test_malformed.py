"""What cannot be read says which file it is, what is wrong with it and where, and what to do."""

import io
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from arro3.core import Array, DataType, Field, Schema, Table
from arro3.io import write_parquet
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from firstlight.catalog.readers import Unreadable, read
from firstlight.catalog.readers._apart import apart

_TYPES = "<Types xmlns='http://schemas.openxmlformats.org/package/2006/content-types'/>"
_SPECTRUM = (
    "##TITLE=x\n##JCAMP-DX=4.24\n##XUNITS=1/CM\n##YUNITS=ABSORBANCE\n##FIRSTX=1\n##LASTX=4\n##NPOINTS=4\n"
    "##XYDATA=(X++(Y..Y))\n1 1 2 3 4\n##END=\n"
)
_FRAME = "2\n\nH 0 0 0\nH 0 0 1\n"
_CIF = "data_x\n_cell_length_a 5.6\nloop_\n_atom_site_label\n_atom_site_fract_x\nNa1 0.0\nCl1 0.5\n"


def parquet() -> bytes:
    out = io.BytesIO()
    column = Array.from_numpy(np.arange(1000.0))
    write_parquet(Table.from_arrays([column], schema=Schema([Field("a", DataType.float64())])), out)
    return out.getvalue()


def hdf5(userblock: int = 0) -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w", userblock_size=userblock) as file:
        file["a"] = np.arange(10_000.0)
    return out.getvalue()


def zipped(parts: dict[str, bytes | str], cut: int = 0, compress: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compress) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()[: len(out.getvalue()) - cut]


def workbook(cells: str, **others: str) -> bytes:
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    return zipped(
        {
            "[Content_Types].xml": _TYPES,
            "_rels/.rels": f"<Relationships xmlns='{package}'><Relationship Id='r' Type='{office}/officeDocument' "
            "Target='xl/workbook.xml'/></Relationships>",
            "xl/workbook.xml": f"<workbook xmlns='{main}' xmlns:r='{office}'><sheets><sheet name='one' sheetId='1' "
            "r:id='r1'/></sheets></workbook>",
            "xl/_rels/workbook.xml.rels": f"<Relationships xmlns='{package}'><Relationship Id='r1' "
            f"Type='{office}/worksheet' Target='worksheets/sheet1.xml'/></Relationships>",
            "xl/worksheets/sheet1.xml": f"<worksheet xmlns='{main}'><sheetData>{cells}</sheetData></worksheet>",
            **others,
        }
    )


def repeating() -> bytes:
    table = (
        "<table:table-row table:number-rows-repeated='1000000'><table:table-cell table:number-columns-repeated='16000' "
        "office:value-type='float' office:value='1'/></table:table-row>"
    ).replace("'", '"')
    return zipped({"mimetype": "application/vnd.oasis.opendocument.spreadsheet", "content.xml": table})


def damaged(content: bytes, at: int) -> bytes:
    return content[:at] + bytes(byte ^ 0xFF for byte in content[at : at + 40]) + content[at + 40 :]


CASES: list[tuple[str, str | bytes | Callable[[], bytes], str]] = [
    # Tables as text.
    ("empty.csv", "", "it is empty"),
    ("blank.csv", "\n\n  \n", "it is empty"),
    ("comments.csv", "# only: this\n", "it is empty"),
    ("ragged.csv", "a,b\n1,2\n\n3,4,5\n", "line 4 has 3 cells, and its header has 2; quote cells"),
    ("short.csv", "a,b,c\n1,2,3\n4,5\n", "line 3 has 2 cells, and its header has 3"),
    ("late.csv", "a,b\n" + "1,2\n" * 150_000 + "3\n", "line 150002 has 1 cells, and its header has 2"),
    ("after-quoted.csv", 'a,b\n1,"x\ny"\n3\n', "line 4 has 1 cells"),
    ("twice.csv", "a,b,a\n1,2,3\n", "columns 1 and 3 are both called 'a'; give each column its own name"),
    ("nul.csv", b"a,b\n1,2\n3\x00,4\n", "line 3 has a NUL byte at character 2"),
    ("control.csv", b"a,b\n1,\x07\n", "line 2 has the control character '\\x07' at character 3"),
    ("late-nul.csv", b"a,b\n" + b"1,2\n" * 400_000 + b"\x00", "line 400002 has a NUL byte at character 1"),
    ("open.csv", 'a,b\n1,"x\n2,y\n', "close the quotation marks"),
    ("quotes.csv", 'a,b\n1,"x"y\n', "line 2: ',' expected after '\"'"),
    ("wide.csv", ",".join(f"c{n}" for n in range(20_001)), "has 20,001 columns, and 20,000 is the most"),
    ("line.csv", "a,b\n" + "x" * 17_000_000, "line 2 has more than 16,777,216 characters"),
    ("cell.csv", 'a,b\n1,"' + "x" * 200_000 + '"\n', "line 2: field larger than field limit"),
    ("odd.csv", b"\xff\xfea\x00b", "it is not in utf-16, as its first bytes say; save it as UTF-8"),
    # JSON.
    ("empty.json", "", "it is empty"),
    ("cut.json", '[{"a": 1}, {"a"', "it is not JSON: Input data was truncated"),
    ("bad.json", '[{"a": 1},\n {"a" 2}]', "at line 2, column 7; check that it is complete"),
    ("deep.json", "[" * 100_000, "it is nested too deeply"),
    ("deep-record.json", '[{"a": ' + "[" * 100_000 + "]" * 100_000 + "}]", "it is nested too deeply"),
    ("lengths.json", '{"a": [1, 2], "b": [1]}', "its lists differ in length: a has 2, b has 1"),
    ("split.json", '{"columns": ["a", "b"], "data": [[1, 2], [3]]}', "row 2 of its data has 1 values for 2 columns"),
    ("lines.jsonl", '{"a": 1}\n\n{"a": 2\n', "line 3 is not a JSON record"),
    ("list.jsonl", '{"a": 1}\n[1]\n', "line 2 is not a JSON record: Expected `object`, got `array`"),
    ("deep.jsonl", '{"a": 1}\n{"a": ' + "[" * 100_000 + "\n", "line 2 is nested too deeply"),
    ("none.jsonl", "\n\n", "it has no record"),
    ("wide.json", "[{" + ",".join(f'"c{n}": 1' for n in range(20_001)) + "}]", "20,001 columns"),
    # HDF5, Parquet.
    ("text.h5", "hello", "it is not HDF5, or it is damaged: Unable to"),
    ("empty.h5", "", "it is not HDF5, or it is damaged"),
    ("cut.h5", lambda: hdf5()[:5000], "truncated file"),
    ("damaged.h5", lambda: damaged(hdf5(), 96), "it is not HDF5, or it is damaged"),
    ("text.parquet", "hello", "it does not begin with PAR1; check the file and its name"),
    ("tiny.parquet", b"PAR1", "it is truncated: it does not end with a footer and PAR1"),
    ("end.parquet", lambda: parquet()[:-8] + b"\0" * 8, "it is truncated"),
    ("cut.parquet", lambda: parquet()[:-200], "it is truncated"),
    ("long.parquet", b"PAR1" + b"x" * 50 + b"\xff\xff\xff\x7fPAR1", "it is truncated"),
    ("footer.parquet", lambda: damaged(parquet(), len(parquet()) - 120), "it is damaged"),
    ("pages.parquet", lambda: damaged(parquet(), 4), "it is damaged"),
    # Workbooks.
    ("text.xlsx", "hello", "it is no whole ZIP container"),
    ("cut.xlsx", lambda: zipped({"xl/workbook.xml": "x" * 5000}, cut=60), "it is no whole ZIP container"),
    ("other.xlsx", lambda: zipped({"xl/workbook.xml": "<a/>"}), "it is not a workbook that can be read"),
    ("nosheet.xlsx", lambda: workbook(""), "none of its sheets has a table"),
    ("bomb.xlsx", lambda: workbook("", **{"xl/media/bomb": "0" * (150 * 2**20)}), "it would unpack to 150 MiB"),
    (
        "far.xlsx",
        lambda: workbook(
            "<row r='1'><c r='A1'><v>1</v></c></row><row r='1048576'><c s='1' r='XFD1048576'><v>1</v></c></row>"
        ),
        "spans 1,048,576 rows and 16,384 columns; delete cells that stand far away",
    ),
    ("repeats.ods", repeating, "it repeats cells to more than 20,000,000"),
    (
        "twice.xlsx",
        lambda: workbook("<row r='1'><c r='A1' t='str'><v>a</v></c><c r='B1' t='str'><v>a</v></c></row>"),
        "columns 1 and 2 are both called 'a'",
    ),
    ("broken.xlsx", lambda: workbook("<row r='1'><c r='A1'"), "it is not a workbook that can be read"),
    ("flipped.xlsx", lambda: damaged(zipped({"xl/workbook.xml": os.urandom(500)}, compress=0), 100), "is damaged"),
    ("text.xls", "hello", "it is not a workbook that can be read"),
    ("cut.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 100, "it is not a workbook that can be read"),
    # Crystals, atoms, sequences, spectra, arrays.
    ("text.cif", "hello", "it is not CIF: line 1: expected block header (data_)"),
    ("empty.cif", "", "it has no block"),
    ("cut.cif", _CIF.removesuffix(" 0.5\n"), "Wrong number of values in loop"),
    ("open.cif", "data_x\n_a 'unclosed\n", "unterminated"),
    ("nul.cif", b"data_x\n_a \0\0\n", "it is not CIF"),
    ("cut.xyz", _FRAME + "3\n\nH 0 0 0\n", "frame 2 promises 3 atoms on line 5 and has 1"),
    ("count.xyz", _FRAME + "many\n\nH 0 0 0\n", "line 5 is to have the number of atoms of frame 2, and is 'many'"),
    ("symbol.xyz", "1\n\nQq 0 0 0\n", "frame 1, which begins on line 1, cannot be read"),
    ("number.xyz", "1\n\nH 0 0 x\n", "could not convert string to float"),
    ("none.xyz", "\n", "it has no frame"),
    ("huge.xyz", "999999999\n\nH 0 0 0\n", "frame 1 promises 999999999 atoms"),
    ("binary.xyz", b"2\n\0\0", "it has NUL bytes"),
    ("start.fasta", "ACGT\n", "line 1 does not begin with '>'"),
    ("cut.fasta", ">a\nACGT\n>b\n", "sequence 2 ('b') has no letters"),
    ("digits.fasta", ">a\nACGT\n>b x\nAC1T\n", "sequence 2 ('b') has '1' among its letters"),
    ("binary.fasta", b">a\nAC\xffT\n", "it is not FASTA: 'utf-8' codec can't decode"),
    ("text.jdx", "hello", "line 1 is no label such as ##TITLE="),
    ("cut.jdx", _SPECTRUM.removesuffix("##END=\n"), "it has no line ##END="),
    ("points.jdx", _SPECTRUM.replace("1 1 2 3 4", "1 1 2"), "it promises 4 points and has 2"),
    ("huge.jdx", _SPECTRUM.replace("NPOINTS=4", "NPOINTS=99999999999"), "its NPOINTS is '99999999999'"),
    ("label.jdx", _SPECTRUM.replace("##XUNITS=", "##XUNITS "), "line 3 begins with ## and has no '='"),
    ("first.jdx", _SPECTRUM.replace("##FIRSTX=1\n", ""), "it is not JCAMP-DX as the library jcamp knows it"),
    ("text.zarr", "hello", "it is not a Zarr store"),
    ("bad.zarr", lambda: zipped({"zarr.json": '{"zarr_format": 3, "node_type"'}), "it is not a Zarr store"),
]


@pytest.mark.parametrize(("name", "content", "wrong"), CASES, ids=[case[0] for case in CASES])
def test_what_cannot_be_read_says_why(
    tmp_path: Path, name: str, content: str | bytes | Callable[[], bytes], wrong: str
) -> None:
    path = tmp_path / name
    made = content() if callable(content) else content
    path.write_bytes(made.encode() if isinstance(made, str) else made)
    with pytest.raises(Unreadable) as raised:
        read(path)
    said = str(raised.value)
    assert said.startswith(f"{path}: ") and wrong in said
    assert len(said) < 800 and "\n" not in said and "; " in said


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"it cannot be read: No such file or directory; check the path"):
        read(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(Unreadable, match="Is a directory"):
        read(tmp_path / "folder.csv", "text/csv")


def test_a_library_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.cif").write_text(_CIF)
    monkeypatch.setitem(sys.modules, "gemmi", None)
    with pytest.raises(Unreadable, match=r"takes the library gemmi; install firstlight\[data\]"):
        read(tmp_path / "a.cif")


SEEDS: dict[str, Callable[[], bytes]] = {
    "a.csv": lambda: b"a [mm],b\n1,x\n2,y\n", "a.json": lambda: b'[{"a": 1}, {"a": 2}]',
    "a.jsonl": lambda: b'{"a": 1}\n{"a": 2}\n', "a.cif": _CIF.encode, "a.xyz": _FRAME.encode,
    "a.fasta": lambda: b">a b\nACGT\n", "a.jdx": _SPECTRUM.encode, "a.parquet": parquet,
    "a.xlsx": lambda: workbook("<row r='1'><c r='A1' t='str'><v>a</v></c></row><row><c r='A2'><v>1</v></c></row>"),
    "a.ods": lambda: zipped({"mimetype": "application/vnd.oasis.opendocument.spreadsheet", "content.xml": "<a/>"}),
    "a.xls": lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "a.tsv": lambda: b"a\tb\n1\t2\n",
}  # fmt: skip


def consume(path: Path) -> None:
    """Read a file to its end, or be told why not."""
    try:
        found = read(path)
    except Unreadable:
        return
    if found.batches is not None:
        rows = sum(batch.num_rows for batch in found.batches())
        assert rows == found.rows


@pytest.mark.parametrize("name", SEEDS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(data=st.data())
def test_any_bytes_are_read_or_unreadable(tmp_path: Path, name: str, data: st.DataObject) -> None:
    seed = SEEDS[name]()
    kind = data.draw(st.sampled_from(["any", "changed", "cut", "inserted"]))
    at = data.draw(st.integers(0, len(seed)))
    some = data.draw(st.binary(max_size=40))
    content = {
        "any": some, "changed": seed[:at] + some + seed[at + len(some) :], "cut": seed[:at],
        "inserted": seed[:at] + some + seed[at:],
    }[kind]  # fmt: skip
    (tmp_path / name).write_bytes(content)
    consume(tmp_path / name)


CELLS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["", "NA", "1", "-2.5", "1,5", "1e9", "true", "2024-01-02", '"', "007", "∞", "9" * 30]),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(
    rows=st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=6), delimiter=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)  # fmt: skip
@example(rows=[["a", "b"], ["1", "x"], ["NA", ""]], delimiter=";", end="\n")
def test_any_text_is_a_table_or_unreadable(tmp_path: Path, rows: list[list[str]], delimiter: str, end: str) -> None:
    text = end.join(delimiter.join(row) for row in rows)
    (tmp_path / "a.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    consume(tmp_path / "a.csv")


_MEASURE = """
import resource, sys
from pathlib import Path
from firstlight.catalog.readers import read
small, large = map(Path, sys.argv[1:])
for path in (small, large):
    found = read(path)
    rows = sum(batch.num_rows for batch in found.batches())
    print(rows, found.rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_a_large_table_takes_little_memory(tmp_path: Path) -> None:
    random.seed(1)
    block = "".join(
        f"{n},{random.random():.12f},{random.random():.12f},{'word' * 200}\n" for n in range(1_000)
    ).encode()
    for name, times in (("small.csv", 1), ("large.csv", 175)):
        with (tmp_path / name).open("wb") as file:
            file.write(b"n,x [mm],y,what\n")
            for _ in range(times):
                file.write(block)
    assert (tmp_path / "large.csv").stat().st_size > 140e6
    out = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path / "small.csv"), str(tmp_path / "large.csv")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    before, after = ([int(word) for word in line.split()] for line in out.splitlines())
    assert after[0] == after[1] == 175_000
    assert (after[2] - before[2]) / 1024 < 100, out


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"its library came to grief over it \(signal 11\)"),
        ("raise SystemExit('no memory')", r"\(status 1, no memory\): it is damaged; copy it again"),
    ],
)
def test_a_library_that_crashes_takes_nobody_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    (tmp_path / "crashing.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(Unreadable, match=said):
        apart("crashing", tmp_path / "crashing.py")


def test_damaged_hdf5_never_ends_the_process(tmp_path: Path) -> None:
    content, chance = hdf5(), random.Random(3)
    for _ in range(3):
        changed = bytearray(content)
        for at in chance.sample(range(8, 2048), 20):
            changed[at] = chance.randrange(256)
        (tmp_path / "a.h5").write_bytes(changed)
        consume(tmp_path / "a.h5")
