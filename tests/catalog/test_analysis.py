"""Questions to many datasets: the answers are right, and nothing but the datasets is read, and nothing written."""

import json
import random
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import duckdb
import pytest
from arro3.core import Array, DataType, Table
from arro3.io import write_parquet

from firstlight.catalog._export import parquet
from firstlight.catalog._table import Column
from firstlight.catalog.analysis import Analysis
from firstlight.core import Unavailable


def ours(file: Path, columns: Sequence[Column]) -> Path:
    """A file as the catalog publishes it."""
    about = {"columns": [{"name": c.name, "type": c.kind, "unit": c.unit, "role": c.role} for c in columns]}
    file.write_bytes(parquet(columns, about))
    return file


def theirs(file: Path, columns: Mapping[str, list[int] | list[str]], metadata: Mapping[str, str] | None = None) -> Path:
    """A file of somebody else."""
    arrays = {
        name: Array(values, type=DataType.int64() if isinstance(values[0], int) else DataType.string())
        for name, values in columns.items()
    }
    write_parquet(
        Table.from_arrays(list(arrays.values()), names=list(arrays)), file, key_value_metadata=dict(metadata or {})
    )
    return file


FILMS = (
    Column("trial", "string", ["t1", "t2", "t3"], role="trial"),
    Column("temperature", "float64", [300.0, 350.0, 400.0], "K", "parameter"),
    Column("yield", "float64", [10.0, None, 30.0], "%", "observable"),
    Column("haze", "float64", [1.0, 2.0, 3.0], "", "observable"),
    Column("haze.unit", "string", ["%", "ppm", None], "", "unit"),
    Column("cost", "float64", [1.0, 1.0, 1.0], "h", "cost"),
    Column("cost (observable)", "float64", [5.0, 6.0, 7.0], "USD", "observable"),
    Column("ended", "time", [1e9, None, 1e9 + 1], "", "time"),
)


@pytest.fixture
def analysis(tmp_path: Path) -> Iterator[Analysis]:
    films = ours(tmp_path / "films.parquet", FILMS)
    steel = theirs(
        tmp_path / "steel.parquet",
        {
            "temperature": [20, 30],
            "grade": ["A", "B"],
            "dataset": [1, 2],
            "cost": ["a", "b"],
        },
    )
    with Analysis({"films@1": [films], "steel": [steel]}, scratch=tmp_path) as made:
        yield made


def test_every_dataset_is_a_view_and_everything_has_the_columns_of_all(analysis: Analysis) -> None:
    assert analysis.views == {"films@1": "films@1", "steel": "steel"}
    answer = analysis.query('SELECT trial, "yield" FROM "films@1" ORDER BY temperature DESC LIMIT 2')
    assert answer.names == ("trial", "yield")
    assert answer.types == ("VARCHAR", "DOUBLE")
    assert answer.rows == (("t3", 30.0), ("t2", None))
    answer = analysis.query('SELECT dataset, temperature, grade, "its dataset", cost FROM everything ORDER BY ALL')
    assert answer.rows == (
        ("films@1", 300.0, None, None, "1.0"), ("films@1", 350.0, None, None, "1.0"),
        ("films@1", 400.0, None, None, "1.0"), ("steel", 20.0, "A", 1, "a"), ("steel", 30.0, "B", 2, "b"),
    )  # fmt: skip
    assert answer.types == ("VARCHAR", "DOUBLE", "VARCHAR", "BIGINT", "VARCHAR")
    assert analysis.query("SELECT max(ended) FROM everything").rows == ((datetime.fromtimestamp(1e9 + 1, UTC),),)


def test_observations_have_a_line_for_each_value_with_its_unit(analysis: Analysis) -> None:
    answer = analysis.query("FROM observations ORDER BY ALL")
    assert answer.names == ("dataset", "trial", "observable", "value", "unit")
    assert answer.types == ("VARCHAR", "VARCHAR", "VARCHAR", "DOUBLE", "VARCHAR")
    assert answer.rows == (
        ("films@1", "t1", "cost", 5.0, "USD"), ("films@1", "t1", "haze", 1.0, "%"),
        ("films@1", "t1", "yield", 10.0, "%"),
        ("films@1", "t2", "cost", 6.0, "USD"), ("films@1", "t2", "haze", 2.0, "ppm"),
        ("films@1", "t3", "cost", 7.0, "USD"), ("films@1", "t3", "haze", 3.0, ""),
        ("films@1", "t3", "yield", 30.0, "%"),
    )  # fmt: skip


def test_aggregates_over_many_datasets_are_those_that_one_gets_by_hand(tmp_path: Path) -> None:
    r, sums = random.Random(1), defaultdict[tuple[str, str], list[float]](list)
    datasets = dict[str, list[Path]]()
    for d in range(12):
        for part in range(1 + d % 2):
            columns = [Column("trial", "string", [f"t{i}" for i in range(50)], role="trial")]
            for name in r.sample(["yield", "haze", "gap"], 2):
                values = [r.choice([None, r.random()]) for _ in range(50)]
                sums[f"d{d}", name] += [v for v in values if v is not None]
                columns.append(Column(name, "float64", list(values), f"u{part}", "observable"))
            datasets.setdefault(f"d{d}", []).append(ours(tmp_path / f"{d}.{part}.parquet", columns))
    with Analysis(datasets) as analysis:
        found = analysis.query("SELECT dataset, observable, count(*), sum(value) FROM observations GROUP BY ALL").rows
        assert {(d, o): n for d, o, n, _ in found} == {key: len(values) for key, values in sums.items()}
        assert {(d, o): s for d, o, _, s in found} == pytest.approx({key: sum(values) for key, values in sums.items()})
        units = analysis.query("SELECT DISTINCT unit FROM observations WHERE dataset = 'd1' ORDER BY unit").rows
        assert units == (("u0",), ("u1",))
        (count,) = analysis.query('SELECT count("gap") FROM everything').rows[0]
        assert count == sum(len(v) for (_, name), v in sums.items() if name == "gap")


@pytest.mark.parametrize(
    "names",
    [
        ["Films", "films", "FILMS"], ["everything", "observations", "Everything"], ["", " ", "\n"],
        ['a"b', "a'b", "a;b", "SELECT", "ä", "x\0y", "main.t", "a b 2", "a b", "A B"],
    ],
)  # fmt: skip
def test_views_have_readable_names_that_are_their_own(tmp_path: Path, names: list[str]) -> None:
    files = {
        name: [theirs(tmp_path / f"{i}.parquet", {"i": [i]})] for i, name in enumerate(names)
    }  # fmt: skip
    with Analysis(files) as analysis:
        assert len({view.casefold() for view in analysis.views.values()} | {"everything", "observations"}) == 2 + len(
            names
        )
        for i, name in enumerate(names):
            quoted = analysis.views[name].replace('"', '""')
            assert analysis.query(f'SELECT i FROM "{quoted}"').rows == ((i,),)
            if "\0" not in name:
                assert analysis.query("SELECT i FROM everything WHERE dataset = ?", [name]).rows == ((i,),)


def test_parameters_are_values_and_answers_end_where_they_are_told_to(analysis: Analysis) -> None:
    sql = 'SELECT trial FROM "films@1" WHERE temperature > {} ORDER BY trial'
    assert analysis.query(sql.format("?"), [320.0]).rows == (("t2",), ("t3",))
    assert analysis.query(sql.format("$least"), {"least": 320.0}).rows == (("t2",), ("t3",))
    assert analysis.query("SELECT ? AS said", ["'; DROP VIEW steel; --"]).rows == (("'; DROP VIEW steel; --",),)
    answer = analysis.query(sql.format("0"), limit=2)
    assert (answer.rows, answer.more) == ((("t1",), ("t2",)), True)
    assert not analysis.query(sql.format("0"), limit=3).more
    with pytest.raises(ValueError, match="parameter"):
        analysis.query(sql.format("?"))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1", "WITH a AS (SELECT 1) SELECT * FROM a", "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 "
        "FROM r WHERE n < 3) FROM r", "FROM everything UNION ALL FROM everything", "VALUES (1), (2)", "DESCRIBE steel",
        "SUMMARIZE everything", "SHOW TABLES", "SELECT 'COPY_QUERY_NODE' AS type", "FROM range(3)",
        "SELECT 1; -- that is all",
        "PIVOT observations ON observable IN ('yield', 'haze') USING avg(value) GROUP BY dataset",
        "SELECT date_trunc('year', ended) FROM everything", "SELECT quantile_cont(value, 0.5) FROM observations",
    ],
)  # fmt: skip
def test_what_only_reads_is_answered(analysis: Analysis, sql: str) -> None:
    assert analysis.query(sql).rows


COPY = "COPY (SELECT 1) TO '{films}' (FORMAT parquet, USE_TMP_FILE false)"
WRITING = f"WITH x AS ({COPY}) SELECT * FROM x"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM read_csv('{here}/secret.csv')",
        "SELECT * FROM '{here}/secret.csv'", "SELECT * FROM '{here}/secret.parquet'",
        "SELECT (SELECT content FROM read_blob('{here}/secret.csv'))", "SELECT * FROM glob('{here}/*')",
        "SELECT * FROM parquet_metadata('{here}/secret.parquet')", "SELECT * FROM sniff_csv('{here}/secret.csv')",
        "SELECT * FROM read_parquet('https://127.0.0.1:9/a.parquet')", "SELECT * FROM 's3://bucket/a.parquet'",
        "COPY steel TO '{here}/out.csv'", COPY, WRITING, f"SELECT * FROM ({WRITING})", f"EXPLAIN ANALYZE {COPY}",
        f"WITH y AS ({WRITING}) FROM y", f"SELECT * FROM query($${WRITING}$$)", f"SELECT 1; {COPY}",
        f"SELECT * FROM json_execute_serialized_sql(json_serialize_sql($${WRITING}$$))", f"DESCRIBE {WRITING}",
        f"SUMMARIZE {WRITING}", f"PREPARE p AS {COPY}", "EXPORT DATABASE '{here}/out'",
        "ATTACH '{here}/other.db'", "ATTACH ':memory:' AS other", "INSTALL httpfs", "LOAD httpfs", "USE memory.main",
        "PRAGMA memory_limit = '100GB'", "SET threads = 99", "RESET memory_limit", "SET enable_external_access = true",
        "SET allowed_paths = ['/etc/passwd']", "CALL pragma_version()", "CHECKPOINT", "FROM force_checkpoint()",
        "CREATE TABLE t AS SELECT 1", "CREATE MACRO m() AS 1", "CREATE SECRET s (TYPE s3)", "DROP VIEW steel",
        "CREATE OR REPLACE VIEW steel AS SELECT 1", "BEGIN", "DELETE FROM steel", "INSERT INTO steel VALUES (1)",
        "FROM arrow_scan(1, 2, 3)", "FROM pandas_scan(1)", "FROM main.arrow_scan(1, 2, 3)", "FROM ARROW_SCAN(1, 2, 3)",
        "FROM enable_logging('QueryLog', storage = 'file', storage_path = '{here}')", "", ";",
        "SELCT 1", "SELECT nope FROM steel", "SELECT 1 FROM nowhere", "SELECT (", "\0", "SELECT 'a' + [1]", "\ud800",
    ],
)  # fmt: skip
def test_nothing_else_is_read_written_or_set(analysis: Analysis, tmp_path: Path, sql: str) -> None:
    (tmp_path / "secret.csv").write_text("word\nsecret\n")
    theirs(tmp_path / "secret.parquet", {"word": ["secret"]})
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    settings = analysis.query("SELECT current_setting('threads'), current_setting('memory_limit')").rows
    with pytest.raises(ValueError, match=r"\S") as caught:
        analysis.query(sql.replace("{here}", str(tmp_path)).replace("{films}", str(tmp_path / "films.parquet")))
    assert "secret\n" not in str(caught.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before
    assert analysis.query("SELECT current_setting('threads'), current_setting('memory_limit')").rows == settings
    assert analysis.query("SELECT count(*) FROM everything").rows == ((5,),)


def test_what_is_wrong_in_a_question_is_said_with_where_and_what_was_meant(analysis: Analysis) -> None:
    with pytest.raises(ValueError, match=r"temperatur(?s:.)*Candidate bindings: .*temperature(?s:.)*LINE 1"):
        analysis.query("SELECT temperatur FROM steel")
    with pytest.raises(ValueError, match="COPY is not allowed: data are only read here"):
        analysis.query("COPY steel TO 'x.csv'")
    with pytest.raises(ValueError, match="Table with name sql does not exist"):  # DuckDB would look for variables.
        analysis.query("SELECT * FROM sql")
    with pytest.raises(ValueError, match="these are 2 statements"):
        analysis.query("SELECT 1; SELECT 2")


def test_a_question_that_takes_too_long_is_stopped_and_the_next_one_is_answered(analysis: Analysis) -> None:
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"longer than 0\.2 s"):
        analysis.query(
            "SELECT count(*) FROM range(10_000_000) a, range(1_000_000) b WHERE a.range + b.range = 7", seconds=0.2
        )
    assert time.monotonic() - began < 10
    assert analysis.query("SELECT 1").rows == ((1,),)


def test_what_needs_more_memory_is_put_aside_and_removed_at_the_end(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    file = theirs(tmp_path / "a.parquet", {"i": list(range(1000))})
    sql = "SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY md5(range::VARCHAR)) AS n FROM range({}))"
    seen, ended = set[str](), threading.Event()

    def look() -> None:
        while not ended.wait(0.002):
            seen.update(str(file) for file in scratch.rglob("*") if not file.is_dir())

    with Analysis({"a": [file]}, memory=96 << 20, threads=1, scratch=scratch) as analysis:
        watch = threading.Thread(target=look)
        watch.start()
        try:
            assert analysis.query(sql.format(1_500_000)).rows == ((1_500_000,),)
        finally:
            ended.set()
            watch.join()
        assert seen
    assert list(scratch.iterdir()) == []


def test_several_threads_ask_at_once(analysis: Analysis) -> None:
    found = list[object]()
    asking = [
        threading.Thread(target=lambda i=i: found.append(analysis.query("SELECT ?::INT", [i]).rows[0][0]))
        for i in range(8)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert sorted(map(int, map(str, found))) == list(range(8))


@pytest.mark.parametrize("content", [b"", b"no Parquet at all", b"PAR1 and then nothing PAR1"])
def test_a_file_that_is_no_parquet_is_said(tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(content)
    good = theirs(tmp_path / "good.parquet", {"i": [1]})
    with pytest.raises(ValueError, match="dataset 'bad' cannot be read as Parquet"):
        Analysis({"good": [good], "bad": [bad]}, scratch=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.parquet", "good.parquet"]
    with pytest.raises(ValueError, match="dataset 'lost' cannot be read"):
        Analysis({"lost": [tmp_path / "lost.parquet"]})
    with pytest.raises(ValueError, match="dataset 'none' has no Parquet file"):
        Analysis({"none": []})
    with pytest.raises(ValueError, match="pattern of several files"):
        Analysis({"all": [tmp_path / "*.parquet"]})


@pytest.mark.parametrize("said", ["", "no JSON", "[]", '{"columns": 7}', '{"columns": [{"role": "observable"}]}'])
def test_somebody_elses_word_for_the_same_key_is_no_description(tmp_path: Path, said: str) -> None:
    file = theirs(tmp_path / "a.parquet", {"i": [1]}, {"firstlight": said})
    lies = json.dumps({"columns": [{"name": "lost", "role": "observable"}, {"name": "i", "role": "observable"}]})
    other = theirs(tmp_path / "b.parquet", {"i": ["7", "x"]}, {"firstlight": lies})
    with Analysis({"a": [file], "b": [other]}) as analysis:
        assert analysis.query("FROM observations").rows == (("b", None, "i", 7.0, ""),)
        assert analysis.query("SELECT count(*) FROM everything").rows == ((3,),)


def test_there_may_be_no_dataset_at_all(tmp_path: Path) -> None:
    with closing(Analysis({})) as analysis:
        assert analysis.query("FROM everything").names == ("dataset",)
        assert analysis.query("FROM observations").types == ("VARCHAR", "VARCHAR", "VARCHAR", "DOUBLE", "VARCHAR")


def test_a_file_that_has_gone_is_unavailable(tmp_path: Path) -> None:
    file = theirs(tmp_path / "a.parquet", {"i": [1]})
    with Analysis({"a": [file]}) as analysis:
        file.unlink()
        with pytest.raises(Unavailable, match=r"a\.parquet is not there any more"):
            analysis.query("FROM a")


def test_where_duckdb_is_missing_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    monkeypatch.delitem(sys.modules, "firstlight.catalog.analysis")
    with pytest.raises(Unavailable, match=r"install firstlight\[data\]"):
        import_module("firstlight.catalog.analysis")
    assert duckdb.__version__
