"""Tables as text: what people and instruments write, and our own exports."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from arro3.core import Table
from arro3.io import read_parquet, write_parquet

from firstlight.catalog import export
from firstlight.catalog.readers import Contents, media_type_of, read
from firstlight.testing.catalog import row_of, some_spec

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def made(text: str, name: str = "some.csv", encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return made


def columns(contents: Contents) -> dict[str, list[Any]]:
    assert contents.batches is not None
    table: Table = contents.batches().read_all()
    assert table.column_names == [v.name for v in contents.variables if v.kind != "array"]
    assert table.num_rows == contents.rows
    return {name: list(table[name].to_pylist()) for name in table.column_names}


def test_a_table_has_typed_columns_with_units(write: Write) -> None:
    found = read(
        write("x [mm],n,ok,when,what\n1.5,1,true,2024-01-02T03:04:05Z,a\n2.5,2,false,2024-01-03T00:00:00Z,b\n")
    )
    assert found.media_type == "text/csv" and found.rows == 2 and found.notes == ()
    assert [(v.name, v.unit, v.kind) for v in found.variables] == [
        ("x", "mm", "float64"), ("n", "", "int64"), ("ok", "", "bool"), ("when", "", "time"), ("what", "", "string"),
    ]  # fmt: skip
    assert (found.variables[0].low, found.variables[0].high) == (1.5, 2.5)
    assert (found.variables[4].low, found.variables[4].high) == (None, None)
    assert columns(found) == {
        "x": [1.5, 2.5], "n": [1, 2], "ok": [True, False], "what": ["a", "b"],
        "when": [datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2024, 1, 3, tzinfo=UTC)],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("header", "name", "unit"),
    [
        ("Temp (°C)", "temperature", "degC"), ("temp_C", "temperature", "degC"), ("T/K", "temperature", "K"),
        ("T / °C", "temperature", "degC"), ("Temperature [degF]", "temperature", "degF"),
        ("Temperature (min)", "temperature_min", ""), ("Temp", "Temp", ""), ("T", "T", ""),
        ("p / kPa", "pressure", "kPa"), ("time (min)", "time", "min"), ("elapsed time (s)", "time", "s"),
        ("time_s", "time", "s"), ("c/(mol/L)", "concentration", "mol/L"), ("λ [nm]", "wavelength", "nm"),
        ("2θ (°)", "two_theta", "degree"), ("V [mL]", "volume", "mL"), ("V [mV]", "voltage", "mV"),
        ("P [W]", "power", "W"), ("P [bar]", "pressure", "bar"), ("E (eV)", "energy", "eV"),
        ("E (V)", "potential", "V"), ("Yield (%)", "Yield", "percent"), ("d [µm]", "d", "um"), ("d [μm]", "d", "um"),
        ("a (Å)", "a", "angstrom"), ("R (Ω)", "resistance", "ohm"), ("I (a.u.)", "I", "a.u."),
        ("I [a.u]", "I", "a.u"), ("x [at%]", "x", "at%"),
        ("ΔH [kJ mol⁻¹]", "delta_h", "kJ*mol^-1"), ("flux [W m-2]", "flux", "W*m^-2"), ("area [m²]", "area", "m^2"),
        ("v [m/s]", "v", "m/s"), ("rate [1/s]", "rate", "1/s"), ("share [-]", "share", ""),
        ("m/z", "m_z", ""), ("C/N", "c_n", ""), ("yield (observable)", "yield_observable", ""),
        ("signal/noise", "signal_noise", ""), ("Name (first)", "name_first", ""), ("x.sigma", "x.sigma", ""),
        ("Mixed Case!", "mixed_case", ""), ("power [9^9^9^9]", "power", "9^9^9^9"), ("file_s", "file_s", ""),
    ],
)  # fmt: skip
def test_headers(write: Write, header: str, name: str, unit: str) -> None:
    found = read(write(f"{header};other\n1;2\n"))
    variable = found.variables[0]
    assert (variable.name, variable.unit) == (name, unit)
    assert variable.called == ("" if name == header else header)
    told = [note for note in found.notes if repr(header) in note]
    if unit in ("a.u.", "a.u", "at%", "9^9^9^9"):
        assert any("not one that is known" in note for note in told)
    elif name not in (header, header.partition(" [")[0], header.partition(" (")[0]):
        assert any(f"is called {name}" in note for note in told)


def test_two_headers_that_mean_the_same_stay_apart(write: Write) -> None:
    found = read(write("T/K,Temp (°C),a b,a-b!,a_b\n1,2,3,4,5\n"))
    assert [v.name for v in found.variables] == ["temperature", "temperature_2", "a_b_2", "a-b", "a_b"]
    assert "column 'Temp (°C)' is called temperature_2, as another one is called temperature" in found.notes


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(write: Write, delimiter: str) -> None:
    found = read(write(f"a{delimiter}b\n1{delimiter}'x y'\n2{delimiter}z\n"))
    assert columns(found) == {"a": [1, 2], "b": ["'x y'", "z"]}


def test_a_decimal_comma(write: Write) -> None:
    found = read(write("a;b\n1,5;x\n-2,25;y\n3;z\n"))
    assert columns(found) == {"a": [1.5, -2.25, 3.0], "b": ["x", "y", "z"]}
    assert "its numbers have a decimal comma" in found.notes


def test_a_point_and_a_comma_are_no_decimal_comma(write: Write) -> None:
    found = read(write("a;b\n1,5;1.5\n"))
    assert columns(found) == {"a": ["1,5"], "b": [1.5]}


@pytest.mark.parametrize("token", ["", "NA", "N/A", "NaN", "nan", "null", "-", " NA "])
def test_missing_values(write: Write, token: str) -> None:
    found = read(write(f"a,b,c\n1,x,0.5\n{token},{token},{token}\n3,z,1.5\n"))
    assert columns(found) == {"a": [1, None, 3], "b": ["x", None, "z"], "c": [0.5, None, 1.5]}
    assert [v.missing for v in found.variables] == [1, 1, 1]
    assert (found.variables[2].low, found.variables[2].high) == (0.5, 1.5)


def test_sodium_is_no_missing_value(write: Write) -> None:
    assert columns(read(write("element,z\nNa,11\nNA,0\n")))["element"] == ["Na", None]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2"], "int64"), (["1", "2.5"], "float64"), (["1e3", "inf"], "float64"), (["0012", "0013"], "string"),
        (["1_000", "2"], "string"), (["9223372036854775808", "1"], "float64"),
        (["-9223372036854775809", "1"], "float64"), (["-9223372036854775808", "1"], "int64"),
        (["true", "FALSE"], "bool"),
        (["true", "maybe"], "string"), (["2024-01-02", "2024-01-03"], "time"), (["2024-13-45", "2024-01-03"], "string"),
        (["2024-01-02 10:30", "2024-01-03T10:30:00.5+02:00"], "time"), (["20240102", "20240103"], "int64"),
        (["", ""], "string"), (["٣", "٤"], "string"), (["1", "x"], "string"),
    ],
)  # fmt: skip
def test_types(write: Write, values: list[str], kind: str) -> None:
    found = read(write("a,b\n" + "".join(f"{value},x\n" for value in values)))
    assert found.variables[0].kind == kind
    assert len(columns(found)["a"]) == 2


def test_a_type_may_change_far_down(write: Write) -> None:
    rows = 70_001
    text = "n,f,s\n" + "1,1,1\n" * rows + "2,2.5,x\n"
    found = read(write(text))
    assert [v.kind for v in found.variables] == ["int64", "float64", "string"]
    assert (found.variables[1].low, found.variables[1].high, found.rows) == (1, 2.5, rows + 1)
    assert "column s mixes types: all its values are read as text" in found.notes
    assert columns(found)["s"][-2:] == ["1", "x"]


def test_times_without_a_zone_are_told(write: Write) -> None:
    found = read(write("at,b\n2024-01-02T03:04:05,1\n"))
    assert columns(found)["at"] == [datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)]
    assert found.notes == ("the times in at have no zone: they are taken to be in UTC",)


@pytest.mark.parametrize(
    ("encoding", "told"),
    [("utf-8", ""), ("utf-8-sig", ""), ("utf-16", ""), ("latin-1", "it is not in UTF-8: it is read as Latin-1")],
)
def test_encodings(write: Write, encoding: str, told: str) -> None:
    found = read(write("Temp (°C),ort\n20,Köln\n", encoding=encoding))
    assert columns(found) == {"temperature": [20], "ort": ["Köln"]}
    assert any(told in note for note in found.notes)
    assert any("Latin-1" in note for note in found.notes) == bool(told)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ends_of_lines(write: Write, end: str) -> None:
    assert columns(read(write(f'a,b{end}1,"x{end}y"{end}{end}2,z{end}'))) == {"a": [1, 2], "b": ["x\ny", "z"]}


def test_a_table_without_rows_and_one_without_names(write: Write) -> None:
    assert columns(read(write("a,b\n"))) == {"a": [], "b": []}
    found = read(write("1,2\n3,4\n"))
    assert columns(found) == {"column_1": [1, 3], "column_2": [2, 4]}
    assert any("numbers only" in note for note in found.notes)
    assert [v.name for v in read(write("a,,column_2\n1,2,3\n")).variables] == ["a", "column_2_", "column_2"]


def test_what_comments_above_a_table_say(write: Write) -> None:
    found = read(write("# instrument: X'Pert\n# date = 2024-01-02\na,b\n1,2\n"))
    assert found.metadata == {"instrument": "X'Pert", "date": "2024-01-02"}
    assert columns(found) == {"a": [1], "b": [2]}


def test_long_cells_are_held_a_few_at_a_time(write: Write) -> None:
    found = read(write("n,s\n" + f"1,{'x' * 100_000}\n" * 200))
    assert found.batches is not None and found.rows == 200
    assert max(batch.num_rows for batch in found.batches()) <= 100


@pytest.mark.parametrize("rows", ["1.5,2\n2.5,3\n", "x,2\ny,3\n"])
def test_names_in_a_comment_as_numpy_writes_them(write: Write, rows: str) -> None:
    found = read(write(f"# made by: us\n# T [K],n\n{rows}"))
    assert [(v.name, v.unit) for v in found.variables] == [("temperature", "K"), ("n", "")]
    assert columns(found)["n"] == [2, 3] and found.rows == 2 and found.metadata == {"made by": "us"}


def test_our_own_csv_comes_back(tmp_path: Path) -> None:
    spec, rows = some_spec(), [row_of(n) for n in range(1, 15)]
    export(spec, rows, "csv", tmp_path / "films.csv")
    export(spec, rows, "parquet", tmp_path / "films.parquet")
    mine, typed = read(tmp_path / "films.csv"), read(tmp_path / "films.parquet")
    assert [(v.name, v.unit, v.role) for v in mine.variables] == [(v.name, v.unit, v.role) for v in typed.variables]
    assert {v.name: v.unit for v in mine.variables}["yield"] == "%"
    assert mine.notes == typed.notes == ()
    got, expected = columns(mine), columns(typed)
    for name in ("trial", "temperature", "yield", "yield.sigma", "started", "failed", "cause", "solvent"):
        assert got[name] == expected[name]


@pytest.mark.parametrize("to", ["json", "parquet"])
def test_our_own_json_and_parquet_come_back(tmp_path: Path, to: Any) -> None:
    spec, rows = some_spec(), [row_of(n) for n in range(1, 15)]
    path = tmp_path / f"films.{to}"
    export(spec, rows, to, path)
    found = read(path)
    assert found.rows == 14 and found.metadata["campaign"] == spec.id and found.notes == ()
    by_name = {v.name: v for v in found.variables}
    assert by_name["temperature"].role == "parameter" and by_name["yield"].role == "observable"
    assert by_name["yield"].unit == "%" and by_name["started"].kind == "time" and by_name["cycles"].kind == "int64"
    assert columns(found)["temperature"] == [r.point["temperature"] for r in rows]
    assert columns(found)["yield"] == [None if r.failure else r.seen["yield"].value for r in rows]


@pytest.mark.parametrize("to", ["csv", "json", "parquet"])
def test_an_export_of_no_trials_keeps_its_types(tmp_path: Path, to: Any) -> None:
    path = tmp_path / f"none.{to}"
    export(some_spec(), [], to, path)
    found = read(path)
    assert found.rows == 0 and {v.name: v.kind for v in found.variables}["started"] == "time"


def test_what_is_read_is_written_as_parquet_with_its_units(write: Write, tmp_path: Path) -> None:
    found = read(write("Temp (°C),b\n1,2\n"))
    assert found.batches is not None
    write_parquet(found.batches(), tmp_path / "made.parquet")
    schema = read_parquet(tmp_path / "made.parquet").schema
    assert schema.field("temperature").metadata == {b"unit": b"degC"}
    assert read(tmp_path / "made.parquet").variables[0].unit == "degC"


def test_a_name_that_says_something_else_is_told(write: Write, tmp_path: Path) -> None:
    write_parquet(_batches(read(write("a,b\n1,2\n"))), tmp_path / "odd.csv")
    found = read(tmp_path / "odd.csv")
    assert found.media_type == "application/vnd.apache.parquet" and found.rows == 1
    assert found.notes == ("its name says text/csv, and it is application/vnd.apache.parquet",)


def _batches(found: Contents) -> Any:
    assert found.batches is not None
    return found.batches()


def test_files_of_other_kinds_are_no_error(write: Write) -> None:
    for name, kind in (("a.md", "text/plain"), ("b.bin", "text/plain"), ("c.py", "text/x-python")):
        found = read(write("import os\nos.abort()\n", name))
        assert (found.media_type, found.batches, found.variables) == (kind, None, ())
        assert found.notes == (f"no reader for {kind}: it is kept as it is",)
    assert media_type_of(write("\0\1\2", "d.bin")) == "application/octet-stream"


def test_the_base_install_loads_no_library_of_the_extra() -> None:
    heavy = {"h5py", "zarr", "gemmi", "ase", "Bio", "jcamp", "python_calamine", "duckdb"}
    source = (
        "import json, sys, firstlight.catalog.readers, firstlight.catalog.quality; print(json.dumps([*sys.modules]))"
    )
    out = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout
    assert not heavy & set(json.loads(out))
