"""Earlier data become trials of a new campaign: in its units, each once, and with where they are from."""

import asyncio
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from arro3.core import Array, DataType, Field, Schema, Table
from arro3.io import write_parquet
from msgspec.structs import replace

from firstlight import core
from firstlight.catalog import FileCatalog
from firstlight.catalog._records import cited
from firstlight.catalog.index import Found, Query, Record, Variable
from firstlight.catalog.library import Library
from firstlight.catalog.warm import earlier_trials
from firstlight.testing.catalog import campaign_of, row_of, some_spec
from firstlight.units import PintUnits

SPEC = some_spec("next")
CONVERT = PintUnits().convert


def parquet(columns: Mapping[str, Sequence[Any]], units: Mapping[str, str] = {}) -> bytes:
    arrays = [
        Array(list(values), type=DataType.string() if any(isinstance(v, str) for v in values) else DataType.float64())
        for values in columns.values()
    ]
    fields = [
        Field(name, array.type, metadata={"unit": units[name]} if name in units else {})
        for name, array in zip(columns, arrays, strict=True)
    ]
    out = io.BytesIO()
    write_parquet(Table.from_arrays(arrays, schema=Schema(fields)), out)
    return out.getvalue()


COLUMNS: dict[str, Sequence[Any]] = {
    "temperature": [50.0, 60.0, 70.0],
    "cycles": [1.0, 2.0, 3.0],
    "speed": [2.0, 2.0, 5.0],
    "solvent": ["DMF", "DMSO", "DMF"],
    "yield": [0.5, 0.6, 0.7],
}
UNITS = {"temperature": "degC", "speed": "rpm", "yield": ""}


def kept(
    library: Library, name: str, columns: Mapping[str, Sequence[Any]], units: Mapping[str, str] = UNITS, **more: Any
) -> Found:
    variables = tuple(Variable(column, unit=units.get(column, "")) for column in columns)
    record = Record(id="", name=name, digest="", variables=variables, **more)
    return library.add(record, {"data.parquet": parquet(columns)})


def test_a_table_is_read_in_the_campaign_s_units(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        columns = COLUMNS | {"yield": [50.0, 60.0, 70.0], "yield.sigma": [1.0, 1.0, 1.0], "haze": [2.0, 3.0, None]}
        found = kept(library, "old", columns, UNITS | {"yield": "percent", "haze": "1/cm", "yield.sigma": "percent"})
        earlier = earlier_trials(library, [found], SPEC, CONVERT)
    first, _, third = earlier.trials
    assert first.point == {"temperature": pytest.approx(323.15), "cycles": 1, "speed": 2, "solvent": "DMF"}
    assert isinstance(first.point["cycles"], int)
    assert isinstance(first.outcome, core.Measured)
    haze, amount = first.outcome.observations
    assert amount.value == pytest.approx(50.0)
    assert (amount.observable, amount.unit, amount.sigma) == ("yield", "%", 1.0)
    assert haze.value == pytest.approx(200.0)
    assert haze.unit == "1/m"
    assert isinstance(third.outcome, core.Measured)
    assert [o.observable for o in third.outcome.observations] == ["yield"]
    assert first.source == f"{found.record.id}#1"
    assert cited(first.source) == (found.record.id, "1")
    assert earlier.used == (found.record.id,)


@pytest.mark.parametrize(
    ("changes", "units", "why"),
    [
        ({"temperature": [900.0, 60.0, 70.0]}, {}, "their temperature is beyond the bounds"),
        ({"temperature": [None, 60.0, 70.0]}, {}, "they have no temperature"),
        ({"cycles": [1.5, 2.0, 3.0]}, {}, "their cycles is not whole"),
        ({"speed": [3.0, 2.0, 5.0]}, {}, "their speed is none of this campaign's"),
        ({"solvent": ["water", "DMSO", "DMF"]}, {}, "their solvent is none of this campaign's"),
        ({"yield": [None, 0.6, 0.7]}, {}, "nothing of haze, yield was observed"),
        ({"yield": [float("nan"), 0.6, 0.7]}, {}, "nothing of haze, yield was observed"),
    ],
)
def test_a_row_that_says_nothing_is_left_out(
    tmp_path: Path, changes: Mapping[str, Sequence[Any]], units: Mapping[str, str], why: str
) -> None:
    with Library(tmp_path) as library:
        found = kept(library, "old", {**COLUMNS, **changes}, {**UNITS, "yield": "percent", **units})
        earlier = earlier_trials(library, [found], SPEC, CONVERT)
    assert len(earlier.trials) == 2
    assert earlier.left_out == {why: 1}


def test_a_row_that_breaks_a_constraint_is_left_out(tmp_path: Path) -> None:
    spec = replace(SPEC, constraints=(core.Forbid(ranges={"temperature": (330.0, 340.0)}),))
    with Library(tmp_path) as library:
        found = kept(library, "old", COLUMNS, UNITS | {"yield": "percent"})
        earlier = earlier_trials(library, [found], spec, CONVERT)
    assert (len(earlier.trials), earlier.left_out) == (2, {"they break a constraint": 1})


@pytest.mark.parametrize(
    ("units", "why"),
    [
        ({"temperature": "kg"}, r"3: their temperature is in kg, and here it is in K"),
        ({"temperature": ""}, r"3: their temperature is in no unit, and here it is in K"),
        ({"yield": "g"}, r"3: their yield is in g, and here it is in %"),
    ],
)
def test_what_cannot_be_converted_is_said(tmp_path: Path, units: Mapping[str, str], why: str) -> None:
    with Library(tmp_path) as library:
        found = kept(library, "old", COLUMNS, {**UNITS, "yield": "percent", **units})
        with pytest.raises(ValueError, match=why):
            earlier_trials(library, [found], SPEC, CONVERT)
        with pytest.raises(ValueError, match="nothing that was found"):
            earlier_trials(library, [], SPEC, CONVERT)


def published(place: Path, *rows: core.Row) -> str:
    async def body() -> str:
        catalog = FileCatalog(place)
        for row in rows:
            await catalog.ingest(campaign_of(some_spec()), row)
        return (await catalog.publish(campaign_of(some_spec())))[0]

    return asyncio.run(body())


def test_a_campaign_s_dataset_brings_what_its_trials_came_to(tmp_path: Path) -> None:
    rejected = replace(row_of(3), rejected="the lamp was off")
    published(tmp_path, row_of(1), rejected, row_of(5), row_of(7))
    with Library(tmp_path) as library:
        earlier = earlier_trials(library, [library.index.get("films")], SPEC, CONVERT)
    by = {fact.source.partition("#")[2]: fact for fact in earlier.trials}
    assert sorted(by) == ["films.1", "films.5", "films.7"]
    assert earlier.left_out == {"a person rejected them": 1}
    assert by["films.5"].point == row_of(5).ran
    seen = row_of(1).seen
    assert isinstance(by["films.1"].outcome, core.Measured)
    assert {o.observable for o in by["films.1"].outcome.observations} == {"yield", "haze"}
    for o in by["films.1"].outcome.observations:
        assert o.value == pytest.approx(seen[o.observable].value)
        assert o.sigma == pytest.approx(seen[o.observable].sigma)
    failure = row_of(7).failure
    assert failure is not None
    assert isinstance(by["films.7"].outcome, core.Failure)
    assert by["films.7"].outcome.cause == failure.cause


def test_nothing_counts_twice(tmp_path: Path) -> None:
    percent = UNITS | {"yield": "percent"}
    published(tmp_path, row_of(1))
    published(tmp_path, row_of(1), row_of(2))
    with Library(tmp_path) as library:
        one, two = library.index.versions("films")
        # Two versions of one dataset.
        earlier = earlier_trials(library, [two, one, two], SPEC, CONVERT)
        assert (len(earlier.trials), earlier.used) == (2, (two.record.id,))
        # The same rows under another name, as somebody exported them and added them again.
        copy = kept(library, "copied", COLUMNS, percent)
        again = kept(library, "again", {**COLUMNS, "yield": [0.5, 0.6, 0.9]}, percent)
        earlier = earlier_trials(library, [copy, again], SPEC, CONVERT)
        assert (len(earlier.trials), earlier.left_out) == (4, {"they are in several datasets": 2})
        # A campaign that began with the data, beside the data.
        begun = {**COLUMNS, "source": [f"{copy.record.id}#1", f"{copy.record.id}#2", ""], "yield": [0.5, 0.66, 0.99]}
        other = kept(library, "begun", begun, percent)
        earlier = earlier_trials(library, [copy, other], SPEC, CONVERT)
        assert (len(earlier.trials), earlier.left_out) == (4, {"they are in several datasets": 2})
        # Readings that are alike within one dataset are replicates.
        alike = kept(library, "alike", {name: [values[0]] * 3 for name, values in COLUMNS.items()}, percent)
        assert len(earlier_trials(library, [alike], SPEC, CONVERT).trials) == 3


def test_what_is_retracted_teaches_nothing(tmp_path: Path) -> None:
    published(tmp_path, row_of(1))
    with Library(tmp_path) as library:
        found = library.index.get("films")
        library.retract(found.record.id, "wrong scale", "ada")
        assert library.index.search(Query(where={"kind": ("dataset",)})).total == 0
        with pytest.raises(ValueError, match=r"is retracted: wrong scale \(ada\)"):
            earlier_trials(library, [library.index.get("films")], SPEC, CONVERT)


def test_each_table_has_its_own_units(tmp_path: Path) -> None:
    percent = UNITS | {"yield": "percent"}
    with Library(tmp_path) as library:
        variables = tuple(Variable(column, unit=percent.get(column, "")) for column in COLUMNS)
        record = Record(id="", name="two", digest="", variables=variables)
        kelvin = {**COLUMNS, "temperature": [310.0, 320.0, 330.0]}
        found = library.add(record, {
            "one.parquet": parquet(COLUMNS), "two.parquet": parquet(kelvin, {"temperature": "K"}),
        })  # fmt: skip
        earlier = earlier_trials(library, [found], SPEC, CONVERT)
    assert [fact.point["temperature"] for fact in earlier.trials] == [
        pytest.approx(323.15), pytest.approx(333.15), pytest.approx(343.15), 310.0, 320.0, 330.0,
    ]  # fmt: skip
