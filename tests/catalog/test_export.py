"""What is exported comes back the same, with its units, to whoever reads it."""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from arro3.core import Table
from arro3.io import read_parquet

from firstlight import core
from firstlight.catalog import Format, export
from firstlight.testing.catalog import row_of, some_spec

SPEC = some_spec()
ROWS = [row_of(n) for n in range(1, 15)]
SEEN = core.Observation(observable="yield", value=1.0, unit="%")


def parquet(path: Path, spec: core.CampaignSpec = SPEC, rows: list[core.Row] = ROWS) -> Table:
    export(spec, rows, "parquet", path)
    return read_parquet(path).read_all()


def values(table: Table, name: str) -> list[Any]:
    return list(table[name].to_pylist())


def test_parquet_columns_are_typed(tmp_path: Path) -> None:
    table = parquet(tmp_path / "films.parquet")
    kinds = {
        name: str(table.field(name).type).removeprefix("arro3.core.DataType<").strip("\n>")
        for name in table.column_names
    }
    time = 'Timestamp(µs, "UTC")'
    assert kinds == {
        "trial": "Utf8", "source": "Utf8", "temperature": "Float64", "temperature.as_run": "Float64",
        "cycles": "Int64", "speed": "Int64", "solvent": "Utf8", "yield": "Float64", "yield.sigma": "Float64",
        "haze": "Float64", "haze.sigma": "Float64", "cost": "Float64", "proposed": time, "started": time,
        "ended": time, "failed": "Boolean", "cause": "Utf8", "message": "Utf8",
    }  # fmt: skip


def test_parquet_values_come_back_exactly(tmp_path: Path) -> None:
    table = parquet(tmp_path / "films.parquet")
    assert values(table, "trial") == [r.trial for r in ROWS]
    assert values(table, "temperature") == [r.point["temperature"] for r in ROWS]
    assert values(table, "temperature.as_run") == [r.ran["temperature"] for r in ROWS]
    assert values(table, "yield") == [None if r.failure else r.seen["yield"].value for r in ROWS]
    assert values(table, "yield.sigma") == [None if r.failure else 0.5 for r in ROWS]
    assert values(table, "failed") == [r.failure is not None for r in ROWS]
    assert values(table, "cause")[6] == "instrument-fault" and values(table, "cause")[0] is None
    began = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=1_700_000_012.25)
    assert values(table, "started")[0] == began


def test_parquet_says_what_it_is(tmp_path: Path) -> None:
    table = parquet(tmp_path / "films.parquet")
    about = msgspec.json.decode(table.schema.metadata_str["firstlight"])
    assert (about["campaign"], about["title"], about["rows"]) == ("films", "Thin films, µm scale", 14)
    assert about["created"] == "2023-11-14T22:15:49.750000Z"
    assert msgspec.convert(about["spec"], core.CampaignSpec) == SPEC
    units = {name: table.field(name).metadata_str["unit"] for name in table.column_names}
    assert {name: unit for name, unit in units.items() if unit} == {
        "temperature": "K", "temperature.as_run": "K", "speed": "rpm", "yield": "%", "yield.sigma": "%",
        "haze": "1/m", "haze.sigma": "1/m", "cost": "USD",
    }  # fmt: skip
    assert {c["name"]: c["unit"] for c in about["columns"]} == units


def test_other_programs_read_the_parquet(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    parquet(tmp_path / "films.parquet")
    query = 'select count(*), max("temperature.as_run"), sum(failed::int), min(ended) < max(ended) from '
    assert duckdb.sql(f"{query} '{tmp_path / 'films.parquet'}'").fetchall() == [(14, 301.5, 2, True)]


def test_csv_has_one_header_with_units(tmp_path: Path) -> None:
    export(SPEC, ROWS, "csv", tmp_path / "films.csv")
    with open(tmp_path / "films.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["temperature [K]"]) for r in rows] == [r.point["temperature"] for r in ROWS]
    assert rows[6]["yield [%]"] == "" and rows[6]["message"] == 'needle "2", clogged'
    assert rows[0]["ended"] == "2023-11-14T22:13:39.750000Z"


def test_pandas_reads_the_csv_without_options(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    export(SPEC, ROWS, "csv", tmp_path / "films.csv")
    frame = pandas.read_csv(tmp_path / "films.csv")
    assert [str(frame[name].dtype) for name in ("temperature [K]", "cycles", "failed")] == ["float64", "int64", "bool"]
    assert frame["yield [%]"].count() == 12


def test_json_is_records_and_units(tmp_path: Path) -> None:
    export(SPEC, ROWS, "json", tmp_path / "films.json", versions={"phreeqc": "1.1.1"})
    content = msgspec.json.decode((tmp_path / "films.json").read_bytes())
    assert content["units"]["haze"] == "1/m" and content["versions"] == {"phreeqc": "1.1.1"}
    assert len(content["records"]) == 14
    assert content["records"][4]["temperature.as_run"] == 301.5
    assert content["records"][6]["yield"] is None


def test_a_column_as_run_only_where_something_came_out_otherwise(tmp_path: Path) -> None:
    assert "temperature.as_run" not in parquet(tmp_path / "a.parquet", rows=ROWS[:3]).column_names
    assert "cycles.as_run" not in parquet(tmp_path / "b.parquet").column_names
    widened = parquet(tmp_path / "c.parquet", rows=[row_of(1, as_run={"cycles": 2.5})])
    assert values(widened, "cycles.as_run") == [2.5] and values(widened, "cycles") == [2]


def test_replicates_are_all_kept(tmp_path: Path) -> None:
    twice = (SEEN, core.Observation(observable="yield", value=3.0, unit="%"))
    table = parquet(tmp_path / "films.parquet", rows=[row_of(1, observations=twice), row_of(2, observations=(SEEN,))])
    assert values(table, "yield") == [2.0, 1.0]
    assert values(table, "yield.sigma") == [1.0, 0.0]
    assert values(table, "yield.all") == ["[1.0, 3.0]", "[1.0]"]


def test_units_that_disagree_are_not_mixed_up(tmp_path: Path) -> None:
    grams = core.Observation(observable="mass", value=1.0, unit="g")
    kilograms = core.Observation(observable="mass", value=2.0, unit="kg")
    rows = [row_of(1, observations=(grams,)), row_of(2, observations=(kilograms,)), row_of(3, observations=())]
    table = parquet(tmp_path / "films.parquet", rows=rows)
    assert values(table, "mass.unit") == ["g", "kg", None]
    assert table.field("mass").metadata_str["unit"] == ""


def test_names_that_collide_are_told_apart(tmp_path: Path) -> None:
    names = ("cost", "yield")
    spec = msgspec.structs.replace(SPEC, parameters=tuple(core.Continuous(name=n, low=0.0, high=9.0) for n in names))
    row = row_of(1, point={"cost": 7.0, "yield": 8.0}, as_run={}, observations=(SEEN,), cost=2.0)
    table = parquet(tmp_path / "films.parquet", spec, [row])
    found = {name: values(table, name) for name in ("cost", "cost (parameter)", "yield", "yield (observable)")}
    assert found == {"cost": [2.0], "cost (parameter)": [7.0], "yield": [8.0], "yield (observable)": [1.0]}


def test_no_rows_make_an_empty_table_with_types(tmp_path: Path) -> None:
    table = parquet(tmp_path / "films.parquet", rows=[])
    assert table.num_rows == 0
    assert "Int64" in str(table.field("cycles").type)
    export(SPEC, [], "csv", tmp_path / "films.csv")
    assert len((tmp_path / "films.csv").read_text().splitlines()) == 1


@pytest.mark.parametrize("to", ["csv", "json", "parquet"])
def test_the_same_rows_make_the_same_bytes_and_replace_what_was_there(tmp_path: Path, to: Format) -> None:
    export(SPEC, ROWS, to, tmp_path / "a" / "one")
    export(SPEC, ROWS[:2], to, tmp_path / "two")
    export(SPEC, list(ROWS), to, tmp_path / "two")
    assert (tmp_path / "a" / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["one"]


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="use one of csv, parquet, json"):
        export(SPEC, ROWS, "xlsx", tmp_path / "films.xlsx")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
