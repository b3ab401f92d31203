"""What is compared with what, and when nothing is claimed."""

import json
import time

import numpy as np
import pytest
from msgspec.structs import replace

from firstlight import core, reports

from .builder import curve, goal, measured, spec, subject


def test_random_campaigns_beside_it_give_the_factor() -> None:
    mine = curve([1.0, 5.0, 2.0])
    beside = [curve([0.0, 1.0, 2.0, 3.0, 5.0]).results, curve([0.0, 5.0]).results, curve([0.0]).results]
    found = reports.summary(mine, beside)["acceleration"]
    assert found["against"] == "campaigns"
    assert found["factor"]["median"] == {"value": 1.0, "at_least": False}  # of 5/2, 2/2 and at least 2/2
    assert found["factor"]["reached"] == 2
    assert "1 of which never did as well" in found["statement"]
    assert found["advantage_at"] == 2, "as far as at least half of the campaigns go"


def test_nothing_is_claimed_without_a_reference() -> None:
    found = reports.summary(curve([1.0, 5.0]), [])["acceleration"]
    assert found["factor"] is None
    assert found["against"] == "none"
    assert "firstlight run ... --baseline 5" in found["statement"]


def test_nothing_is_claimed_from_random_campaigns_that_end_too_early() -> None:
    mine = curve([float(i) for i in range(20)])
    found = reports.summary(mine, [curve([0.0, 1.0]).results])["acceleration"]
    assert found["factor"] is None
    assert found["along"] == []
    assert "give them more trials" in found["statement"]


def test_eight_unlearned_trials_of_its_own_give_an_estimate_and_seven_none() -> None:
    values = [9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    estimate = reports.summary(curve(values), [])["acceleration"]
    assert estimate["against"] == "estimate"
    assert estimate["statement"].startswith("As an estimate, random search")
    assert estimate["factor"]["campaign_trials"] == 1
    assert reports.summary(curve(values[:7]), [])["acceleration"]["against"] == "none"


def test_a_pool_of_known_values_is_exact() -> None:
    rows = tuple((i / 8,) for i in range(9))
    problem = spec(pool=core.Pool(columns=("x",), rows=rows), goal=goal())
    mine = subject(problem, [{"x": 0.5}, {"x": 1.0}], lambda p, i: measured(y=float(p["x"])))
    known = replace(mine, pool_values=[r[0] for r in rows])
    found = reports.summary(known, [])["acceleration"]
    assert found["against"] == "pool"
    assert found["factor"]["median"] == {"value": 2.5, "at_least": False}
    tried = subject(problem, [{"x": r[0]} for r in rows], lambda p, i: measured(y=float(p["x"])))
    assert reports.summary(mine, [tried.results])["acceleration"]["against"] == "pool", "a campaign tried all of it"


def test_several_objectives_are_compared_by_hypervolume() -> None:
    aims = goal(
        core.Objective(observable="a", direction="maximize", threshold=0.0),
        core.Objective(observable="b", direction="maximize", threshold=0.0),
    )
    problem = spec(goal=aims)
    pairs = [(1.0, 1.0), (2.0, 1.0), (1.0, 2.0)]
    mine = subject(problem, [{"x": 0.0}] * 3, lambda p, i: measured(a=pairs[i][0], b=pairs[i][1]))
    analysis = reports.analyse(mine, [])
    assert analysis.curve.tolist() == pytest.approx([0.25, 0.5, 0.75])  # of the 2 x 2 box above (0, 0)
    assert reports.summary(mine, [])["hypervolume"] == pytest.approx(0.75)


@pytest.mark.parametrize("values", [[], [1.0], [None, None, None], [None, 2.0]])
def test_the_summary_is_json_whatever_happened(values: list[float | None]) -> None:
    for beside in ([], [curve([None, 1.0, 3.0]).results], [curve([None]).results], [curve([]).results]):
        json.dumps(reports.summary(curve(values), beside), allow_nan=False)


def test_three_hundred_trials_of_four_objectives_are_no_burden() -> None:
    rng = np.random.default_rng(0)
    losses = [tuple(p) for p in rng.uniform(0, 1, (300, 4))]
    begun = time.monotonic()
    curve_of = reports.hypervolume_curve(losses, np.zeros(4), np.ones(4))
    assert (np.diff(curve_of) >= 0).all()
    assert time.monotonic() - begun < 20
