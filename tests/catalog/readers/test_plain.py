"""Plain tables as text, which Arrow reads, come out as `csv` reads them."""

import csv
import math
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from firstlight.catalog.readers import Unreadable, _columns, _plain, _text, read

Found = tuple[object, ...]


def found_in(path: Path) -> Found:
    """All that is said of a file, to the sign of zeros and the type of numbers, or why it cannot be read."""
    try:
        found = read(path, "text/csv")
    except Unreadable as error:
        return ("unreadable", str(error))
    assert found.batches is not None
    reader = found.batches()
    batches = [repr([batch.column(n).to_pylist() for n in range(batch.num_columns)]) for batch in reader]
    fields = [reader.schema.field(n) for n in range(len(reader.schema.names))]
    types = [(field.name, str(field.type), field.metadata, field.nullable) for field in fields]
    variables = [repr(variable) for variable in found.variables]
    return ("read", variables, found.rows, found.notes, found.metadata, types, batches)


@contextmanager
def row_by_row() -> Iterator[None]:
    with patch.object(_plain, "piece", lambda *_: None):
        yield


@contextmanager
def small_parts(cells: int, block: int, held: int) -> Iterator[None]:
    with (
        patch.object(_text, "CELLS", cells), patch.object(_text, "_BLOCK", block), patch.object(_text, "_HELD", held),
    ):  # fmt: skip
        yield


def both(path: Path) -> tuple[Found, Found, int]:
    """What is found in a file with Arrow and row by row, and how many parts Arrow had."""
    parts = 0

    def counted(*arguments: object) -> object:
        nonlocal parts
        made = columns(*arguments)  # type: ignore[arg-type]
        parts += made is not None
        return made

    columns = _plain.columns
    with patch.object(_plain, "columns", counted):
        quick = found_in(path)
    with row_by_row():
        return quick, found_in(path), parts


WHOLE = st.integers(-(10**6), 10**6).map(str)
REAL = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["-0.0", "0.0", "1.", ".5", "+2.5", "1e400", "-1E-400", "0.1e+05", "00.5", "-0"]),
)
WORD = st.one_of(
    st.sampled_from(["a", "b", "Na", "no one", "nano", "Nan", "x-y", "n/b", "true", "Köln", "λ", "e5", "#1", "''"]),
    st.text(st.characters(codec="utf-8", exclude_characters='\n\r",;\t|', exclude_categories=["Cc", "Cs"]), max_size=4),
)
GONE = st.sampled_from(["", "", "", "-", "NA", "N/A", "n/a", "NaN", "nan", "NAN", "null", "NULL", "#N/A"])
LARGE = st.sampled_from([str(sign * (2**63 + n)) for sign in (1, -1) for n in (-2, -1, 0, 1)] + ["9" * 25])
TIME = st.sampled_from(
    ["2024-01-02", "2024-01-02T03:04:05Z", "2024-01-02 03:04:05.5+02:00", "2024-01-02T03:04", "2024"]
)
TRUTH = st.sampled_from(["true", "false", "True", "FALSE"])
CODE = st.sampled_from(["0012", "-01", "+007", "0", "12", "00"])
ODD = st.sampled_from(
    ["inf", "-Infinity", "+nan", "-nan", "1_000", "٣", "1,5", "0x1f", "1e", "+", "--", "2\t", "\xa0x", "\ufeff", "# c",
     "1\x0b", "\x0c2", "\x1b", "x" * 40, "\x00", "\x85", "\u2003y\u2003", " ", "\t", " \t1"]
)  # fmt: skip
SPACED = st.sampled_from([" 1", "2 ", " x y ", " NA", "- ", "  3", "  "])
QUOTED = st.sampled_from(
    ['"q"', '"1"', '"2.5"', '""', '"NA"', '" 1 "', '"x y"', '"a,b"', '"x\ny"', '"', 'a"b', '"x"y', '""""', ' "x"',
     '"x" ']
)  # fmt: skip
FLAVOURS = [
    SPACED,
    QUOTED,
    QUOTED.filter(lambda cell: cell[:1] == cell[-1:] == '"' and len(cell) > 1),
    WHOLE,
    REAL,
    WORD,
    LARGE,
    TIME,
    TRUTH,
    CODE,
    GONE,
    ODD,
    st.just(""),
]


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A table, most of it plain."""
    columns = draw(st.lists(st.sampled_from(FLAVOURS), min_size=1, max_size=4))
    others = draw(st.sampled_from([None, None, None, *FLAVOURS]))
    cells = [st.one_of(flavour, flavour, GONE) if draw(st.booleans()) else flavour for flavour in columns]
    delimiter = draw(st.sampled_from(",,,;\t|"))
    lines = [delimiter.join(f"c{n}" for n in range(len(columns)))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 14))):
        row = [draw(one) for one in cells]
        match draw(st.integers(0, 60)):
            case 0:
                row.append("1")
            case 1:
                row.pop()
            case 2 | 3:
                row = [draw(st.sampled_from(["", "", " "]))]
            case 4 | 5 | 6 if others is not None:
                row[draw(st.integers(0, len(row) - 1))] = draw(others)
        lines.append(delimiter.join(row))
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    return end.join(lines) + draw(st.sampled_from([end, end, "", end + end]))


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(
    text=texts(), cells=st.sampled_from([4, 6, 12, 200]), block=st.sampled_from([7, 30, 200, 2**20]),
    held=st.sampled_from([10, 60, 10**6]),
)  # fmt: skip
@example(text="a,b\n1,NA\n2,x\n" * 5, cells=6, block=30, held=60)
@example(text='a,b\n1,x\n2,y\n3,"z\nz"\n4,u\n5,v\n\n6\n', cells=6, block=7, held=60)
@example(text="a,b\n1,-0.0\n0,0.0\n", cells=12, block=200, held=60)
def test_arrow_and_csv_find_the_same(tmp_path: Path, text: str, cells: int, block: int, held: int) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    with small_parts(cells, block, held):
        quick, slow, _ = both(path)
    assert quick == slow


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a,b\n1,x\n2,y\n", True), ("a,b\r\n1,x\r\n2,y\r\n", True), ("a,b\n1,x\n\n\n2,y", True),
        ("a;b\n1;NA\n-;y\n", True), ("a\tb\n1\tx y\n2\t\n", True), ("# at: 3\na|b\n1|x\n|\n", True),
        ('"a","b"\n1,Köln\n2,y\n', True), ("1,2\n3,4\n", True), ("a;b\n1,5;2\n3;4\n", True),
        ("a,b\n1,inf\n2,2024-01-02\n", True), ("a,b\n" + "1,2\n" * 100_001, True),
        ('a,b\n"1","x"\n2,y\n', True), ('a,b\n"NA",""\n" 2", y\n', True), ("a , b\n1,  x\n 2,y z \n", True),
        ("a\tb\n1\t x\n2\ty\n", True), ('a,b\n1,"x""y"\n', False), ('a,b\n1,5" pipe\n', False),
        ('a,b\n1, "x"\n', False),
        ('a,b\n1,"x,y"\n', False), ('a,b\n1,"x\ny"\n', False), ('a,b\n"x"y,"z"\n', False), ("a,b\n1,\tx\n", False),
        ("a,b\n1," + " " * 99 + "x\n", False),
        (",".join(f"c{n}" for n in range(2_001)) + "\n" + "1," * 2_000 + "1\n", False), ("a\n1\n2\n", False),
        ("a,b\n1,x\n2\n", False), ("a,b\n1,2,3\n4\n", False), ("a,b\n1,x\xa0\n2,y\n", False),
        ("a,b\n\ufeff1,x\n", False), ("a,b\n1," + "x" * (csv.field_size_limit() + 1) + "\n", False),
    ],
)  # fmt: skip
def test_what_is_plain(tmp_path: Path, text: str, plain: bool) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode())
    quick, slow, parts = both(tmp_path / "a.csv")
    assert quick == slow
    assert bool(parts) == plain


def test_a_table_is_plain_again_after_a_line_that_is_not(tmp_path: Path) -> None:
    lines = [f"{n},{n / 8},{'abc'[n % 3]}" for n in range(4_000)]
    lines[300] = '300,1.5,"a""b"'
    (tmp_path / "a.csv").write_text("n,x,s\n" + "\n".join(lines))
    with small_parts(2_000, 10_000, 10**6):
        quick, slow, parts = both(tmp_path / "a.csv")
    assert quick == slow
    assert parts == 2 * 6  # Of seven parts the first is read row by row, each of two times.


def test_numbers_are_the_same_to_the_last_bit(tmp_path: Path) -> None:
    r = random.Random(1)
    numbers = [math.ldexp(r.random(), r.randint(-1073, 1023)) for _ in range(20_000)]
    written = [f"{n!r},{n:.{r.randint(0, 40)}e},{r.randint(-(2**63), 2**63 - 1)}" for n in numbers]
    (tmp_path / "a.csv").write_text("x,y,n\n" + "\n".join(written))
    quick, slow, parts = both(tmp_path / "a.csv")
    assert quick == slow and parts == 2


def test_all_that_python_strips_beyond_ascii_is_not_plain() -> None:
    blanks = [chr(n) for n in range(128, sys.maxunicode + 1) if chr(n).isspace()]
    assert len(blanks) > 10
    for blank in blanks:
        assert _plain.piece(f"a,b{blank}\n", ",", 2) is None
    assert _plain.piece("ä,b\n", ",", 2) is not None


def test_an_error_of_arrow_is_for_csv_to_tell(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,NA\n2,y\n")
    expected = found_in(tmp_path / "a.csv")
    for error in (ValueError("no"), BaseException("a panic")):
        with patch.object(_plain, "read_csv", side_effect=error) as asked:
            assert found_in(tmp_path / "a.csv") == expected
        assert asked.call_count == 2
    with patch.object(_plain, "read_csv", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        read(tmp_path / "a.csv")


def test_a_file_that_changed_meanwhile_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,x\n2,y\n")
    found = read(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("a,b\n1,x\n2.5,y\n")
    assert found.batches is not None
    with pytest.raises(ValueError, match="invalid literal"):
        found.batches().read_all()


def test_decimal_commas_are_for_python_and_whole_numbers_beside_them_for_arrow() -> None:
    made = _plain.piece("1,5;2;x\n;3;y\n", ";", 3)
    assert made is not None
    columns = _plain.columns([made], ";")
    assert columns is not None
    kinds = []
    for cells in columns:
        column = _columns.Column(text=True, comma=True)
        column.see(cells)
        kinds.append((column.kind, column.missing, column.low, "texts" in vars(cells)))
    assert kinds == [("float64", 1, 1.5, True), ("int64", 0, 2, False), ("string", 0, math.inf, True)]
