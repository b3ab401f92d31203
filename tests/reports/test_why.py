"""Why these points: how the predictions held, what is said of the parameters, and when it is only a hint."""

import json
from pathlib import Path

import numpy as np
import pytest

from firstlight import core, reports
from firstlight.reports._surrogate import influence
from firstlight.reports._why import calibration, interval

from .builder import goal, measured, spec, subject
from .test_report import data, size, without_plotly

SPACE = (
    core.Continuous(name="a", low=0.0, high=2.0),
    core.Continuous(name="b", low=1e-3, high=1.0, scale="log"),
    core.Continuous(name="idle", low=-1.0, high=1.0),
    core.Categorical(name="kind", values=("u", "v", "w")),
)


def anywhere(count: int, seed: int = 0) -> list[core.Point]:
    rng = np.random.default_rng(seed)
    return [
        {
            "a": float(rng.uniform(0, 2)), "b": float(10 ** rng.uniform(-3, 0)), "idle": float(rng.uniform(-1, 1)),
            "kind": "uvw"[rng.integers(3)],
        }
        for _ in range(count)
    ]  # fmt: skip


def answer(point: core.Point) -> float:
    """On the unit cube a + 4 (a - 1/2) (b - 1/2) + (kind is v) / 2."""
    a, b = float(point["a"]) / 2, (np.log10(float(point["b"])) + 3) / 3
    return float(a + 4 * (a - 0.5) * (b - 0.5) + 0.5 * (point["kind"] == "v"))


def told(sigma_is: float, count: int, bias: float = 0.0) -> list[core.Row]:
    """Trials predicted with sigma 1, whose outcomes really have this sigma."""
    rng = np.random.default_rng(4)
    rows = []
    for i in range(count):
        middle = float(rng.uniform(0, 50))
        expected = core.Observation(observable="y", value=middle, sigma=0.8)
        seen = core.Observation(observable="y", value=middle + bias + sigma_is * rng.normal(), sigma=0.6)
        rows.append(core.Row(trial=str(i), point={"x": 0.5}, predicted=(expected,), observations=(seen,)))
    return rows


@pytest.mark.parametrize(
    ("sigma_is", "count", "said"),
    [
        (1.0, 200, "as sure as they should be, as far as 200 trials can tell"),
        (3.0, 200, "surer than they should have been"),
        (0.3, 200, "less sure than they could have been"),
        (3.0, 5, "5 are too few to tell"),
    ],
)
def test_it_says_how_sure_the_predictions_should_have_been(sigma_is: float, count: int, said: str) -> None:
    found = calibration(told(sigma_is, count), "y")
    assert found is not None
    assert said in found.verdict
    assert "On average" not in found.verdict or count < 8
    assert set(found.sigma) == {1.0}, "both uncertainties together"
    z = np.abs(found.z)
    assert list(found.within) == pytest.approx([(z <= 1).mean(), (z <= 2).mean()])


def test_it_says_when_outcomes_lie_on_one_side() -> None:
    for bias, side in ((-1.0, "lower"), (1.0, "higher")):
        found = calibration(told(1.0, 100, bias), "y")
        assert found is not None
        assert f"standard deviations {side} than predicted" in found.verdict


def test_only_what_was_predicted_and_seen_counts() -> None:
    y = core.Observation(observable="y", value=1.0, sigma=0.5)
    sure = core.Observation(observable="y", value=1.0)
    rows = [
        core.Row(trial="1", point={}, predicted=(y,), failure=core.Failure(cause="crashed")),
        core.Row(trial="2", point={}, observations=(y,)),
        core.Row(trial="3", point={}, predicted=(sure,), observations=(sure,)),
    ]
    assert calibration(rows, "y") is None
    found = calibration([*rows, core.Row(trial="4", point={}, predicted=(y,), observations=(sure,))], "y")
    assert found is not None and found.trials == ("4",)


def test_the_interval_is_wilsons() -> None:
    assert list(interval(5, 10)) == pytest.approx([0.2366, 0.7634], abs=1e-3)
    assert interval(10, 10)[1] == pytest.approx(1.0)


def test_sobol_indices_are_those_of_the_function() -> None:
    rows = [
        core.Row(trial=str(i), point=p, observations=(core.Observation(observable="y", value=answer(p)),))
        for i, p in enumerate(anywhere(150))
    ]
    found = influence(spec(parameters=SPACE), rows, "y")
    alone, both, kind = 1 / 12, 16 / 144, 0.25 * 2 / 9
    whole = alone + both + kind
    assert found.alone == pytest.approx({"a": alone / whole, "b": 0, "idle": 0, "kind": kind / whole}, abs=0.01)
    assert found.total == pytest.approx(
        {"a": (alone + both) / whole, "b": both / whole, "idle": 0, "kind": kind / whole}, abs=0.01
    )
    assert found.pairs[("a", "b")] == pytest.approx(both / whole, abs=0.01)
    assert max(share for pair, share in found.pairs.items() if pair != ("a", "b")) < 0.01


TWO = goal(
    core.Objective(observable="y", direction="maximize", unit="mV"),
    core.Objective(observable="z", direction="minimize"),
)


def campaign(aims: core.Goal, noise: float = 0.0, decided: bool = True, count: int = 60) -> reports.Subject:
    points, rng = anywhere(count), np.random.default_rng(1)

    def respond(point: core.Point, i: int) -> core.Measured | core.Failure:
        if i % 9 == 8:
            return core.Failure(cause="crashed")
        return measured(0.1, {"y": "mV"}, y=answer(point) + noise * rng.normal(), z=float(point["a"]))

    def predict(point: core.Point, i: int) -> tuple[core.Observation, ...]:
        return (core.Observation(observable="y", value=answer(point) + 0.1 * (-1) ** i, sigma=0.2, unit="mV"),)

    def decide(point: core.Point, i: int) -> core.Decision | None:
        return core.Decision(
            criterion="log expected improvement", score=-float(i), trials=i,
            runners_up=(core.Alternative(point=points[0], score=-99.5),),
            informed_by=(core.Influence(campaign="last-year", share=1 / (1 + i), trials=12),),
            outlook=core.Outlook(gain=0.2, chance=1 / (1 + i)),
        )  # fmt: skip

    if not decided:
        return subject(spec(parameters=SPACE, goal=aims), points, respond)
    return subject(spec(parameters=SPACE, goal=aims), points, respond, predict=predict, decide=decide)


def figures(page: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = data(page, "figures")
    return found


def test_the_report_shows_why(tmp_path: Path) -> None:
    aims = goal(
        core.Objective(observable="y", direction="maximize", unit="mV"), regret=core.Regret(gain=0.2, chance=0.02)
    )
    written = reports.write_report(campaign(aims), [], tmp_path)
    page = written.html.read_text("utf-8")
    text = without_plotly(page)
    assert "Why these points" in text
    assert "100% of 54 outcomes came within one standard deviation" in text
    assert "The chance that more than 0.2 mV is still to be gained" in text
    assert "1.7% for trial 60; the campaign stops at 2.0%." in text
    assert "log expected improvement" in text and "-99.5" in text
    assert "last-year" in text
    drawn = json.dumps(figures(page))
    for name in ("one standard deviation", "stops here", "with its interactions", '"heatmap"'):
        assert name in drawn, name
    assert written.why is not None
    assert size(written.why) == (1600, 900)
    outlook = next(f for f in figures(page) if "chance" in json.dumps(f) and "stops here" in json.dumps(f))
    assert outlook["data"][0]["x"] == list(range(1, 61))  # type: ignore[index]
    assert outlook["data"][0]["y"][:3] == [1.0, 0.5, 0.3333333]  # type: ignore[index]


def test_of_several_objectives_each_has_its_indices(tmp_path: Path) -> None:
    page = reports.write_report(campaign(TWO), [], tmp_path).html.read_text("utf-8")
    heats = [f for f in figures(page) if '"heatmap"' in json.dumps(f)]
    assert len(heats) == 2
    for name in ("y", "z"):
        assert f"Shares of the variation of {name} over the whole space" in page
    z = heats[1]["data"][0]["z"]  # type: ignore[index]
    assert [len([v for v in row if v is not None]) for row in z] == [1, 2, 3], "every pair once"
    assert max(v for row in z for v in row if v is not None) < 0.02, "z depends on one parameter alone"


def test_a_surrogate_that_predicts_poorly_is_only_a_hint(tmp_path: Path) -> None:
    poor = campaign(goal(), noise=0.6, count=150)
    page = reports.write_report(poor, [], tmp_path).html.read_text("utf-8")
    assert "The surrogate of y predicts poorly (R² 0." in page
    assert "predicts poorly" not in reports.write_report(campaign(goal()), [], tmp_path).html.read_text("utf-8")


def test_where_nothing_was_said_nothing_is_made_up(tmp_path: Path) -> None:
    plain = subject(spec(), [{"x": i / 5} for i in range(5)], lambda point, i: measured(y=1.0))
    (tmp_path / "why.png").write_bytes(b"of an earlier report")
    written = reports.write_report(plain, [], tmp_path)
    assert written.why is None and not (tmp_path / "why.png").exists()
    assert "Why these points" not in written.html.read_text("utf-8")
    found = reports.summary(plain, [])
    assert (found["calibration"], found["outlook"]) == ({}, None)


def test_one_parameter_has_no_interactions(tmp_path: Path) -> None:
    one = subject(spec(), [{"x": i / 40} for i in range(40)], lambda point, i: measured(y=float(point["x"]) ** 2))
    written = reports.write_report(one, [], tmp_path)
    drawn = json.dumps(figures(written.html.read_text("utf-8")))
    assert '"heatmap"' not in drawn and "with its interactions" in drawn
    assert written.why is not None


def test_the_summary_has_it_in_figures() -> None:
    found = reports.summary(campaign(goal()), [])
    assert found["calibration"]["y"]["within_one_sigma"] == 1.0
    assert found["calibration"]["y"]["trials"] == 54
    assert found["outlook"] == {"gain": 0.2, "chance": pytest.approx(1 / 60)}
    json.dumps(found, allow_nan=False)


def test_what_was_withdrawn_has_an_outlook_too() -> None:
    entries = [
        core.CampaignOpened(spec=spec()),
        core.TrialProposed(
            trial="demo.1", point={"x": 0.5},
            actions=(core.Action(id="demo.1.e", trial="demo.1", facility="f", name="e", operation="o", point={}),),
            decision=core.Decision(criterion="c", outlook=core.Outlook(gain=1.0, chance=0.01)),
        ),
        core.TrialWithdrawn(trial="demo.1", reason="little left to gain"),
    ]  # fmt: skip
    found = reports.gather(
        core.Entry(seq=i, at=float(i), by="ada", fact=fact)  # type: ignore[arg-type]
        for i, fact in enumerate(entries, 1)
    )
    assert found.outlooks == ((1, core.Outlook(gain=1.0, chance=0.01)),)
