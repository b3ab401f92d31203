"""Slots and how busy they were."""

import pytest

from firstlight import core
from firstlight.reports._schedule import schedule


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
