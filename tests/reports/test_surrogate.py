"""What the surrogate says, and when it holds its tongue."""

import numpy as np
import pytest

from firstlight import core
from firstlight.reports._surrogate import encode, influence

PARAMETERS = (
    core.Continuous(name="heat", low=0.0, high=10.0),
    core.Continuous(name="dose", low=1e-3, high=1.0, scale="log"),
    core.Categorical(name="solvent", values=("a", "b", "c")),
    core.Ordered(name="grade", values=("low", "mid", "high")),
)


def problem() -> core.CampaignSpec:
    return core.CampaignSpec(
        id="s",
        parameters=PARAMETERS,
        goal=core.Goal(objectives=(core.Objective(observable="y", direction="maximize"),)),
        procedure=core.ProcedureSpec(steps=(core.StepSpec(operation="none"),)),
    )


def rows(count: int, noise: float = 0.0, signal: float = 1.0) -> list[core.Row]:
    rng = np.random.default_rng(5)
    found = []
    for i in range(count):
        point: core.Point = {
            "heat": float(rng.uniform(0, 10)), "dose": float(10 ** rng.uniform(-3, 0)),
            "solvent": "abc"[rng.integers(3)], "grade": ("low", "mid", "high")[rng.integers(3)],
        }  # fmt: skip
        y = signal * (np.sin(float(point["heat"]) / 3) + (point["solvent"] == "b")) + noise * rng.normal()
        found.append(core.Row(trial=str(i), point=point, observations=(core.Observation(observable="y", value=y),)))
    return found


def test_it_finds_what_matters_and_what_does_not() -> None:
    found = influence(problem(), rows(80, noise=0.05), "y")
    assert found.unknown == ""
    assert found.r2 > 0.9
    assert found.importance["heat"] > 0.2
    assert found.importance["solvent"] > 0.2
    assert max(found.importance["dose"], found.importance["grade"]) < 0.05
    best = next(s for s in found.slices if s.parameter == "solvent")
    assert best.values[int(np.argmax(best.means))] == "b"
    heat = next(s for s in found.slices if s.parameter == "heat")
    assert heat.values[int(np.argmax(heat.means))] == pytest.approx(3 * np.pi / 2, abs=1.0)


def test_it_says_nothing_of_noise() -> None:
    found = influence(problem(), rows(60, noise=1.0, signal=0.0), "y")
    assert "does not predict" in found.unknown
    assert not found.importance


def test_it_says_when_there_is_too_little() -> None:
    assert "not enough data: 5 trials" in influence(problem(), rows(5), "y").unknown
    assert "the same in all trials" in influence(problem(), rows(30, signal=0.0), "y").unknown


def test_distance_is_encoded_as_it_is_felt() -> None:
    x = encode(problem(), [{"heat": 5.0, "dose": 10**-1.5, "solvent": "c", "grade": "mid"}])
    assert x[0] == pytest.approx([0.5, 0.5, 2.0, 0.5])
