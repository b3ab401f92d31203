"""Slots and how busy they were."""

import pytest

from firstlight import core
from firstlight.reports._inputs import timeline
from firstlight.reports._schedule import schedule
from firstlight.reports._words import laid_words


def row(name: str, *spans: tuple[float, float, float], facility: str = "robot") -> core.Row:
    found = tuple(
        core.Span(action=f"{name}.{i}", facility=facility, dispatched=d, started=s, ended=e)
        for i, (d, s, e) in enumerate(spans)
    )
    return core.Row(trial=name, point={}, spans=found)


def test_an_action_takes_the_lowest_free_slot_of_its_facility() -> None:
    laid = schedule(
        [row("a", (10, 10, 20)), row("b", (12, 12, 14)), row("c", (14, 14, 30)), row("d", (12, 15, 25), facility="hpc")]
    )
    assert [(b.action, b.slot) for b in laid.bars] == [("a.0", 0), ("b.0", 1), ("c.0", 1), ("d.0", 0)]
    assert laid.slots == {"robot": 2, "hpc": 1}
    assert laid.busy == pytest.approx((10 + 2 + 16 + 10) / (3 * 20))
    assert laid.waited == pytest.approx(3 / 4)


def test_without_a_facility_clock_it_starts_at_dispatch() -> None:
    assert schedule([row("a", (5, 0, 9))]).bars[0].started == 5
    assert schedule([core.Row(trial="a", point={})]).bars == ()


def on(trial: str, *spans: tuple[str, float, float], failed: bool = False) -> core.Row:
    found = tuple(
        core.Span(action=f"{trial}.{i}", facility="lab", dispatched=s - 2, started=s, ended=e, instrument=name)
        for i, (name, s, e) in enumerate(spans)
    )
    failure = core.Failure(cause="instrument-fault") if failed else None
    return core.Row(trial=trial, point={}, spans=found, failure=failure)


def test_instruments_have_a_lane_each_and_are_busy_while_anything_runs_on_them() -> None:
    laid = schedule([
        on("a", ("handler", 100, 110), ("heater", 110, 140)),
        on("b", ("handler", 110, 120), ("heater", 120, 150), failed=True),
        row("c", (100, 100, 200), facility="hpc"),
    ])  # fmt: skip
    assert laid.slots == {"lab: handler": 1, "hpc": 1, "lab: heater": 2}
    assert laid.instruments == pytest.approx({"lab: handler": 0.2, "lab: heater": 0.4})
    assert laid.busy == pytest.approx((20 + 40 + 100) / 300)
    drawn, count = timeline(laid)
    (bars,) = drawn["data"]
    assert count == 5
    assert drawn["layout"]["yaxis"]["categoryarray"] == ["lab: heater", "lab: handler", "hpc"]
    of = dict(zip(bars["text"], range(5), strict=True))
    a, b, c = of["a.1"], of["b.1 (its trial failed)"], of["a.0"]
    # What ran at once on the heater shares its lane: one half each, beside one another.
    assert (bars["offset"][a], bars["offset"][b], bars["width"][a]) == (-0.4, 0.0, 0.4)
    assert bars["marker"]["color"][a] == bars["marker"]["color"][c] != bars["marker"]["color"][b]
    assert bars["marker"]["line"]["color"][b] == "--bad" != bars["marker"]["line"]["color"][a]
    assert bars["customdata"][b] == [30, 2, "b"]
    assert "Busy were lab: handler 20%, lab: heater 40%, all together 53% of the time" in laid_words(laid)
