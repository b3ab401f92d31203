"""What is wrong with data is found and counted, against data in which it was put."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import duckdb
import msgspec
import numpy as np
import pytest

from firstlight.catalog import export
from firstlight.catalog._records import Role, Variable
from firstlight.catalog.quality import Conflict, Examined, Hint, Leak, Quality, examine
from firstlight.core import Unavailable
from firstlight.testing.catalog import row_of, some_spec


def variables(**roles: Role) -> list[Variable]:
    return [Variable(name=name, role=role) for name, role in roles.items()]


def made(path: Path, query: str) -> Path:
    duckdb.sql(f"COPY ({query}) TO '{str(path).replace(chr(39), chr(39) * 2)}' (FORMAT parquet)")
    return path


def of_rows(path: Path, names: str, rows: Sequence[Sequence[object]]) -> Path:
    values = ", ".join(f"({', '.join('NULL' if v is None else repr(v) for v in row)})" for row in rows)
    return made(path, f"SELECT * FROM (VALUES {values}) t({names})")


def column(found: Quality, name: str) -> Examined:
    return next(c for c in found.columns if c.name == name)


def test_clean_data_have_no_problems(tmp_path: Path) -> None:
    path = made(tmp_path / "a.parquet", "SELECT i * 0.37 % 1 AS x, i % 7 AS n, sin(i) AS y FROM range(500) t(i)")
    found = examine(path, variables(x="parameter", n="parameter", y="observable"))
    assert found.rows == 500 and found.problems == () and found.exact
    assert msgspec.json.decode(msgspec.json.encode(found), type=Quality) == found


def test_figures_of_a_column(tmp_path: Path) -> None:
    values = [4.0, 1.0, None, 2.5, float("nan"), 2.5, float("inf"), 9.0]
    path = made(
        tmp_path / "a.parquet",
        "SELECT * FROM (VALUES (4.0::DOUBLE, 'a'), (1, 'b'), (NULL, NULL), (2.5, 'c'), ('nan', 'a'), (2.5, 'a'), "
        "('inf', 'a'), (9, 'a')) t(x, s)",
    )
    found = examine(path, [])
    x = column(found, "x")
    finite = np.array([v for v in values if v is not None and np.isfinite(v)])
    assert (x.missing, x.distinct, x.infinite, x.low, x.high) == (2, 5, 1, 1.0, 9.0)
    assert x.mean == pytest.approx(finite.mean()) and x.sd == pytest.approx(finite.std(ddof=1))
    assert x.quartiles == pytest.approx(tuple(np.quantile(finite, [0.25, 0.5, 0.75])))
    s = column(found, "s")
    assert (s.missing, s.distinct, s.mean, s.constant) == (1, 3, None, False)
    assert found.problems == (
        "x is missing in 2 of 8 rows (25.0%)", "s is missing in 1 of 8 rows (12.5%)", "x is infinite in 1 of 8 rows",
    )  # fmt: skip


def test_outliers_by_the_modified_z_score(tmp_path: Path) -> None:
    # Heavy tails: many values lie about where outliers begin.
    values = 10 + 2 * np.random.default_rng(1).standard_t(2, 2000)
    values[17] = 90_000.0
    path = of_rows(tmp_path / "a.parquet", "x", [(float(v),) for v in values])
    x = column(examine(path, []), "x")
    median = np.median(values)
    score = 0.6745 * np.abs(values - median) / np.median(np.abs(values - median))
    expected = np.flatnonzero(score > 3.5)
    assert x.outliers == len(expected) > 50
    assert list(x.outlying) == sorted(expected, key=lambda n: -score[n])[:5] and x.outlying[0] == 17


def test_outliers_where_most_values_are_the_same(tmp_path: Path) -> None:
    path = of_rows(tmp_path / "a.parquet", "x, two", [(5.0, n % 50 // 49) for n in range(99)] + [(6.0, 1), (90.0, 1)])
    found = examine(path, [])
    assert column(found, "x").outliers == 1 and column(found, "x").outlying == (100,)
    assert column(found, "two").outliers == 0


def test_a_constant_column(tmp_path: Path) -> None:
    path = made(tmp_path / "a.parquet", "SELECT i AS x, 'a' AS same, NULL::INT AS none FROM range(9) t(i)")
    found = examine(path, [])
    assert [c.constant for c in found.columns] == [False, True, False]
    assert found.problems == ("none is missing in 9 of 9 rows (100.0%)", "same is the same in all rows")


def test_rows_that_occur_twice(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [(f"t{n}", n * 1.5, "a", n % 3) for n in range(400)]
    for n in range(12):
        rows[388 + n] = ("copy", *rows[n * 10][1:])
    rows[399] = (*rows[399][:1], None, None, None)
    rows[200] = ("t200", None, None, None)
    found = examine(of_rows(tmp_path / "a.parquet", "id, x, s, n", rows), [])
    assert found.repeated == 12
    assert found.repeats[:3] == ((0, 388), (10, 389), (20, 390))
    assert "12 of 400 rows occur twice (rows 0 and 388, for example)" in found.problems


def test_repeats_without_names_of_rows_count_whole_rows(tmp_path: Path) -> None:
    found = examine(of_rows(tmp_path / "a.parquet", "x, y", [(1, 1), (1, 2), (1, 1), (1, 1)]), [])
    assert found.repeated == 2 and found.repeats == ((0, 2, 3),)
    assert "2 of 4 rows occur several times (rows 0, 2 and 3, for example)" in found.problems


def test_points_with_different_observables_are_conflicts(tmp_path: Path) -> None:
    rows = [(n / 100, "a", np.sin(n).item()) for n in range(100)]
    rows += [
        (0.10, "b", 0.0),
        (0.10 + 1e-9, "a", rows[10][2] + 2.0),
        (0.20, "a", rows[20][2] + 1e-9),
        (0.30, "a", rows[30][2] + 0.5),
    ]
    path = of_rows(tmp_path / "a.parquet", "x, solvent, y", rows)
    found = examine(path, variables(x="parameter", solvent="parameter", y="observable"))
    sd = np.std([row[2] for row in rows], ddof=1)
    assert found.conflicting == 2
    assert found.conflicts == (
        Conflict(rows=(10, 101), observable="y", spread=pytest.approx(2.0 / sd)),  # type: ignore[arg-type]
        Conflict(rows=(30, 103), observable="y", spread=pytest.approx(0.5 / sd)),  # type: ignore[arg-type]
    )
    assert found.problems[0].startswith("2 points occur with different observables: y differs by up to")


def test_leakage_between_the_values_of_a_column(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [(n, n * 0.1, n % 7, n * 3.0, "train" if n < 80 else "test") for n in range(100)]
    for n in (85, 90, 91):
        rows[n] = (n, *rows[n - 50][1:3], 999.0, "test")
    path = of_rows(tmp_path / "a.parquet", "id, x, n, y, Split", rows)
    found = examine(path, variables(x="parameter", n="parameter", y="observable"))
    assert found.leaks == (Leak(out_of="train", into="test", count=3, share=0.15, rows=(85, 90, 91)),)
    assert found.problems[0].startswith("3 of the rows of test (15.0%) occur in train, too")
    unknown = examine(path, [])
    assert unknown.leaks == (), "without roles y is an input, too, and differs"


def test_leakage_between_files(tmp_path: Path) -> None:
    train = of_rows(tmp_path / "train[1].parquet", "x, y", [(n, n * 2.0) for n in range(50)])
    test = of_rows(tmp_path / "it's a test.parquet", "x, y", [(n, n * 2.0 + 1) for n in range(48, 58)])
    val = of_rows(tmp_path / "val.parquet", "x, y", [(57, 0.0), (100, 1.0)])
    splits = {"test": test, "val": val, "train": train}
    found = examine([train, test], variables(x="parameter", y="observable"), splits)
    assert found.rows == 60
    assert found.leaks == (
        Leak(out_of="train", into="test", count=2, share=0.2, rows=(0, 1)),
        Leak(out_of="val", into="test", count=1, share=0.1, rows=(9,)),
    )


def test_nothing_equals_nothing_where_leaks_are_counted(tmp_path: Path) -> None:
    path = of_rows(tmp_path / "a.parquet", "x, n, split", [(None, 1, "train"), (None, 1, "test"), (None, 2, "test")])
    assert examine(path, []).leaks == (Leak(out_of="train", into="test", count=1, share=0.5, rows=(1,)),)


@pytest.mark.parametrize(
    ("expression", "hinted"),
    [("y * 2 + 1", True), ("-y", True), ("y + 0.001 * sin(i * 17)", True), ("y + 0.1 * sin(i * 17)", False),
     ("y * y", False),     ("round(y, 3)", False), ("7", False), ("CASE WHEN i % 2 = 0 THEN y END", True)],
)  # fmt: skip
def test_a_column_that_determines_the_target(tmp_path: Path, expression: str, hinted: bool) -> None:
    path = made(
        tmp_path / "a.parquet",
        f"SELECT x, y, {expression} AS z FROM (SELECT i, i % 13 AS x, sin(i) AS y FROM range(1000) t(i))",
    )
    found = examine(path, variables(x="parameter", y="observable"))
    assert [(h.column, h.target) for h in found.hints] == ([("z", "y")] if hinted else [])
    if hinted:
        assert isinstance(found.hints[0], Hint) and abs(found.hints[0].r) > 0.9999
        assert any("z determines y" in said and "look before" in said for said in found.problems)


def test_rows_are_counted_over_files(tmp_path: Path) -> None:
    one = of_rows(tmp_path / "b.parquet", "x", [(n,) for n in range(30)])
    two = of_rows(tmp_path / "a.parquet", "x", [(n,) for n in range(30, 50)] + [(10_000,)])
    found = examine([one, two], [])
    assert found.rows == 51 and column(found, "x").outlying == (50,)


def test_an_export_of_a_campaign(tmp_path: Path) -> None:
    export(some_spec(), [row_of(n) for n in range(1, 15)], "parquet", tmp_path / "a.parquet")
    roles: dict[str, Role] = {"temperature": "parameter", "solvent": "parameter", "yield": "observable"}
    found = examine(tmp_path / "a.parquet", variables(**roles))
    assert found.rows == 14 and column(found, "yield").missing == 2
    assert any(said.startswith("yield is missing in 2 of 14 rows") for said in found.problems)


def test_lists_and_huge_numbers_are_no_trouble(tmp_path: Path) -> None:
    path = made(
        tmp_path / "a.parquet",
        "SELECT [1, i] AS list, {'a': i} AS nested, i * 1e308 AS huge, i::HUGEINT AS big, i::DECIMAL(9, 2) AS d, "
        '\'x"y\' || i AS "odd "" name", i AS row FROM range(1, 20) t(i)',
    )
    found = examine(path, [])
    assert {c.name for c in found.columns} == {"huge", "big", "d", 'odd " name', "row"}
    assert column(found, "huge").infinite > 0 and column(found, "d").mean == 10.0


def test_no_rows(tmp_path: Path) -> None:
    path = made(tmp_path / "a.parquet", "SELECT 1.5 AS x, 'train' AS split WHERE false")
    found = examine(path, variables(x="parameter"))
    assert found.rows == 0 and found.problems == ("there are no rows",)


@pytest.mark.parametrize(
    ("case", "wrong"),
    [("none", "no file"), ("missing", "cannot be read: No such file"), ("text", "is not a Parquet file that can be"),
     ("columns", "has no column 'z', which the variables name"), ("split", "the split 'test' has no column 'x'"),
     ("differ", "has the columns q, and")],
)  # fmt: skip
def test_what_cannot_be_examined_says_why(tmp_path: Path, case: str, wrong: str) -> None:
    good = of_rows(tmp_path / "good.parquet", "x, y", [(1, 2)])
    other = of_rows(tmp_path / "other.parquet", "q", [("a",)])
    (tmp_path / "text.parquet").write_text("hello")
    asked: dict[str, tuple[Path | list[Path], list[Variable], dict[str, Path]]] = {
        "none": ([], [], {}), "missing": (tmp_path / "no.parquet", [], {}), "text": (tmp_path / "text.parquet", [], {}),
        "columns": (good, variables(z="parameter"), {}), "split": (good, [], {"train": good, "test": other}),
        "differ": ([good, other], [], {}),
    }  # fmt: skip
    with pytest.raises(ValueError, match=wrong):
        examine(*asked[case])


def test_a_library_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(Unavailable, match=r"takes the library duckdb: install firstlight\[data\]"):
        examine(tmp_path / "a.parquet", [])


_MEASURE = """
import resource, sys, time
from pathlib import Path
from firstlight.catalog._records import Variable
from firstlight.catalog.quality import examine
began = time.perf_counter()
found = examine(Path(sys.argv[1]), [Variable("a", role="parameter"), Variable("y", role="observable")])
print(found.rows, time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def test_a_million_rows_take_seconds_and_bounded_memory(tmp_path: Path) -> None:
    path = made(
        tmp_path / "a.parquet",
        "SELECT i AS id, random() AS a, random() AS b, i % 1000 / 3 AS c, random() * 1e5 AS y, "
        "CASE WHEN random() < 0.8 THEN 'train' ELSE 'test' END AS split FROM range(1000000) t(i)",
    )
    out = subprocess.run([sys.executable, "-c", _MEASURE, str(path)], capture_output=True, text=True, check=True).stdout
    rows, seconds, megabytes = map(float, out.split())
    assert rows == 1_000_000 and seconds < 30 and megabytes < 1500, out
