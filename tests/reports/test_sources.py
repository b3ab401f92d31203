"""Trials by several sources: compared by cost, told apart, and only those by the target counted."""

import json
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from firstlight import core, reports
from firstlight.reports._metrics import by_cost

from .builder import goal, measured, spec, subject
from .test_report import data, without_plotly

COSTS = {"model": 1.0, "instrument": 20.0}
Trial = tuple[str, float | None]


def sourced(**changes: object) -> core.CampaignSpec:
    by = core.Categorical(name="by", values=tuple(COSTS))
    sources = tuple(core.Source(value=v, cost=c) for v, c in COSTS.items())
    plain = spec(goal=goal(budget=core.Budget(cost=500.0, cost_unit="USD")))
    fidelity = core.Fidelity(parameter="by", target="instrument", sources=sources)
    return replace(plain, parameters=(*plain.parameters, by), fidelity=fidelity, **changes)


def tried(*trials: Trial, problem: core.CampaignSpec | None = None) -> reports.Subject:
    """A campaign of these trials: their source, and the value of y (None: it failed)."""

    def respond(point: core.Point, i: int) -> core.Measured | core.Failure:
        by, value = trials[i]
        if value is None:
            return core.Failure(cause="crashed", cost=COSTS[by])
        return replace(measured(y=value), cost=COSTS[by])

    return subject(problem or sourced(), [{"x": 0.5, "by": by} for by, _ in trials], respond)


MINE = tried(("model", 9.0), ("model", 1.0), ("instrument", 3.0), ("model", None), ("instrument", 5.0))


def test_a_curve_over_cost_holds_what_had_ended_by_then() -> None:
    curve, costs = np.array([1.0, 4.0, 5.0]), np.array([1.0, 1.5, 2.0])
    assert by_cost(curve, costs, 1.0).tolist() == [1.0, 1.0, 4.0, 4.0, 5.0]
    assert by_cost(curve, costs, 10.0).tolist() == [5.0]
    assert by_cost(curve, costs, 0.5).tolist() == [-np.inf, 1.0, 1.0, 1.0, 4.0, 4.0, 4.0, 4.0, 5.0]
    assert by_cost(np.array([2.0]), np.array([0.3]), 0.1).tolist() == [-np.inf, -np.inf, 2.0]
    assert len(by_cost(np.empty(0), np.empty(0), 1.0)) == 0


def test_only_the_target_is_the_best_so_far_and_the_axis_is_cost() -> None:
    found = reports.analyse(MINE, [])
    assert found.steps.tolist() == [-np.inf, -np.inf, 3.0, 3.0, 5.0]
    assert found.paid.tolist() == [1.0, 2.0, 22.0, 23.0, 43.0]
    assert found.per == 1.0
    assert len(found.curve) == 43
    assert (found.curve[20], found.curve[21], found.curve[42]) == (-np.inf, 3.0, 5.0)


def test_random_search_is_that_by_the_target_alone_and_what_is_counted_is_cost() -> None:
    random = tried(*(("model", 99.0), ("instrument", 1.0)) * 3, ("instrument", 5.0))
    found = reports.summary(MINE, [random.results])["acceleration"]
    assert found["counted_in"] == "cost"
    assert found["factor"]["campaign_trials"] == 43.0
    assert found["factor"]["random_trials"] == {"value": 80.0, "at_least": False}
    assert found["factor"]["median"]["value"] == pytest.approx(80 / 43)
    said = "Random search spends a median of 80 USD to do as well as this campaign did for 43 USD"
    assert found["statement"].startswith(said)
    assert "1 random campaign (4 trials by instrument, the others left out) on the same problem" in found["statement"]


def test_without_sources_trials_are_counted_as_ever() -> None:
    plain = spec()
    mine = subject(plain, [{"x": 0.1}, {"x": 0.2}], lambda p, i: replace(measured(y=float(i)), cost=7.0))
    found = reports.analyse(mine, [])
    assert (found.per, found.curve.tolist(), found.places.tolist()) == (0.0, [0.0, 1.0], [1.0, 2.0])
    assert reports.summary(mine, [])["acceleration"]["counted_in"] == "trials"
    assert reports.summary(mine, [])["sources"] == []


def test_own_trials_by_other_sources_are_no_sample_of_random_search() -> None:
    trials = [*(("model", float(i)) for i in range(6)), ("instrument", 1.0), ("instrument", 2.0)]
    assert reports.summary(tried(*trials), [])["acceleration"]["against"] == "none"
    trials = [("instrument", float(i)) for i in range(8)]
    assert reports.summary(tried(*trials), [])["acceleration"]["against"] == "estimate"


def test_a_pool_of_points_by_any_source_gives_no_exact_random_search() -> None:
    pool = core.Pool(columns=("x", "by"), rows=((0.5, "model"), (0.5, "instrument")))
    mine = tried(("model", 1.0), ("instrument", 2.0), problem=sourced(pool=pool))
    assert reports.summary(mine, [])["acceleration"]["against"] == "none"


def test_trials_are_counted_by_source_and_their_cost_summed() -> None:
    model, instrument = reports.summary(MINE, [])["sources"]
    assert model == {"source": "model", "counts": False, "price": 1.0, "trials": 3, "failed": 1, "cost": 3.0}
    assert instrument == {"source": "instrument", "counts": True, "price": 20.0, "trials": 2, "failed": 0, "cost": 40.0}
    assert reports.summary(MINE, [])["best"][0]["observations"]["y"]["value"] == 5.0


def test_the_page_draws_best_at_the_target_against_cost_and_each_source_by_itself(tmp_path: Path) -> None:
    random = tried(*(("instrument", float(i)) for i in range(9)))
    page = reports.write_report(MINE, [random.results], tmp_path).html.read_text("utf-8")
    text = without_plotly(page)
    assert "<h2>Sources</h2>" in text
    assert "<td>model</td><td>informs</td><td>1 USD</td><td>3</td><td>1</td><td>3 USD</td><td>7%</td>" in text
    assert "3 trials came from other sources than instrument, and inform." in text
    assert "succeeded without meeting the constraints" not in text
    assert "at equal cost" in text
    progress = data(page, "figures")[0]
    assert progress["layout"]["xaxis"]["title"]["text"] == "cost spent (USD)"
    drawn = {d.get("name"): d for d in progress["data"]}
    assert drawn["this campaign"]["x"] == [1.0, 2.0, 22.0, 23.0, 43.0]
    assert drawn["this campaign"]["y"] == [None, None, 3.0, 3.0, 5.0]
    assert (drawn["trials"]["x"], drawn["by model"]["x"]) == ([22.0, 43.0], [1.0, 2.0])
    assert drawn["failed"]["x"] == [23.0]
    assert drawn["random search, median"]["x"][-1] == 180.0
    assert [row[1] for row in data(page, "trials")["rows"]] == ["informs", "informs", "good", "crashed", "good"]
    assert "by: model for 1 USD, instrument for 20 USD; instrument counts" in text


@pytest.mark.parametrize("trials", [(), (("model", 1.0),), (("model", None),), (("instrument", None),)])
def test_a_report_can_be_made_of_any_sources(trials: tuple[Trial, ...], tmp_path: Path) -> None:
    mine = tried(*trials)
    for beside in ([], [MINE.results], [tried(("model", 3.0)).results]):
        json.dumps(reports.summary(mine, beside), allow_nan=False)
        assert reports.write_report(mine, beside, tmp_path).png.stat().st_size > 0
