"""The border to gest-api, in both directions."""

from typing import Any

import pytest

pytest.importorskip("gest_api")

from gest_api.generator import Generator
from gest_api.vocs import VOCS

from firstlight import core
from firstlight.strategies.bayes import Bayes
from firstlight.strategies.gest import FirstlightGenerator, GeneratorStrategy, from_vocs, to_vocs
from firstlight.testing.strategy import SPECS, pend, tried

BY_NAME = {s.id: s for s in SPECS}


class Halton(Generator):  # type: ignore[misc]
    """An outside generator: steps through each variable by its own fraction, on from what it has ingested."""

    built = 0

    def __init__(self, vocs: VOCS, stride: float = 0.618) -> None:
        super().__init__(vocs)
        type(self).built += 1
        self.vocs, self.stride, self.told = vocs, stride, 0

    def _validate_vocs(self, vocs: VOCS) -> None:
        if len(vocs.objectives) != 1:
            raise ValueError("Halton has one objective")

    def suggest(self, num_points: int | None = None) -> list[dict[str, Any]]:
        out = []
        for i in range(self.told, self.told + (num_points or 1)):
            entry: dict[str, Any] = {}
            for k, (name, v) in enumerate(self.vocs.variables.items(), 1):
                at = (i * self.stride * k) % 1.0
                options = sorted(v.values, key=str) if hasattr(v, "values") else None
                entry[name] = (
                    options[int(at * len(options))] if options else v.domain[0] + at * (v.domain[1] - v.domain[0])
                )
            out.append(entry)
        return out

    def ingest(self, results: list[dict[str, Any]]) -> None:
        self.told += len(results)


def test_an_outside_generator_drives_a_campaign() -> None:
    spec, strategy = BY_NAME["ordered"], GeneratorStrategy(Halton)
    first = [p.point for p in strategy.propose(spec, core.Results(), 3, 0)]
    assert all(core.violations(spec, p) == () for p in first)
    before = Halton.built
    more = strategy.propose(spec, tried(spec, first), 2, 0)
    assert Halton.built == before
    rebuilt = GeneratorStrategy(Halton).propose(spec, tried(spec, first), 2, 0)
    assert list(more) == list(rebuilt) == list(strategy.propose(spec, tried(spec, first), 2, 0))
    assert not [p for p in more if p.point in first]
    assert more[0].reason == "suggested by Halton"


def test_pending_points_are_not_suggested_twice_and_options_reach_the_factory() -> None:
    spec, strategy = BY_NAME["ordered"], GeneratorStrategy(Halton, stride=0.3)
    first = [p.point for p in strategy.propose(spec, core.Results(), 2, 0)]
    second = [p.point for p in strategy.propose(spec, pend(core.Results(), first), 2, 0)]
    assert len(second) == 2
    assert not [p for p in second if p in first]
    other = [p.point for p in GeneratorStrategy(Halton).propose(spec, core.Results(), 2, 0)]
    assert other != first


def test_our_strategy_serves_an_outside_loop() -> None:
    vocs = VOCS(
        variables={"x": [-2.0, 2.0], "k": {1, 2, 4}, "kind": {"a", "b"}},
        objectives={"f": "MINIMIZE"},
        constraints={"g": ["LESS_THAN", 1.5]},
        constants={"alpha": 0.5},
    )
    generator = FirstlightGenerator(vocs, Bayes(initial=5), seed=3)
    best = 99.0
    for _ in range(8):
        points = generator.suggest(3)
        assert all(set(p) == {"x", "k", "kind", "alpha", "_id"} and p["k"] in {1, 2, 4} for p in points)
        for p in points:
            p["f"] = (p["x"] - 0.7) ** 2 + p["k"] + (p["kind"] == "b")
            p["g"] = p["x"]
            best = min(best, p["f"])
        points[0]["f"] = points[0]["f"] if points[0]["k"] < 4 else float("nan")
        generator.ingest(points)
    assert best < 1.02
    with pytest.raises(ValueError, match="not one of a point suggested"):
        generator.ingest([{"x": 0.0, "k": 1, "kind": "a", "f": 0.0, "g": 0.0, "_id": "t999"}])
    generator.ingest([{"x": 0.0, "k": 1, "kind": "a", "f": 0.0, "g": 0.0}])


def test_a_generator_that_runs_out_says_so() -> None:
    generator = FirstlightGenerator(VOCS(variables={"k": {1, 2, 4}}, objectives={"f": "MAXIMIZE"}))
    assert len(generator.suggest(2)) == 2
    with pytest.raises(ValueError, match="only 1 points left"):
        generator.suggest(2)


def test_there_and_back() -> None:
    spec = core.CampaignSpec(
        id="vocs",
        parameters=(core.Continuous(name="x", low=0.0, high=1.0), core.Ordered(name="n", values=(1, 2, 3))),
        goal=core.Goal(
            objectives=(core.Objective(observable="f", direction="maximize"),),
            outcome_constraints=(
                core.OutcomeConstraint(observable="g", relation=">=", bound=0.0),
                core.OutcomeConstraint(observable="g", relation="<=", bound=2.0),
            ),
        ),
        procedure=core.ProcedureSpec(steps=()),
        observables=(core.Observable(name="seen"),),
    )
    assert from_vocs(to_vocs(spec)) == spec
    assert to_vocs(BY_NAME["one value"]).constant_names == ["fixed"]


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [(BY_NAME["pool"], "no pools"), (BY_NAME["simplex"], "no constraints on points"),
     (BY_NAME["several goals"], "cannot match ph"), (BY_NAME["integer"], "big has too many")],
    ids=lambda x: getattr(x, "id", ""),
)  # fmt: skip
def test_what_vocs_cannot_say_is_refused(spec: core.CampaignSpec, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        to_vocs(spec)


@pytest.mark.parametrize(
    ("vocs", "complaint"),
    [
        ({"variables": {"x": [0.0, 1.0]}}, "without objectives"),
        ({"variables": {"x": [0.0, 1.0]}, "objectives": {"f": "EXPLORE"}}, "to be explored"),
        ({"variables": {"x": "CONTEXTUAL"}, "objectives": {"f": "MINIMIZE"}}, "x is contextual"),
        ({"variables": {"x": {1, "a"}}, "objectives": {"f": "MINIMIZE"}}, "only numbers or only words"),
    ],
)
def test_what_a_specification_cannot_say_is_refused(vocs: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        FirstlightGenerator(VOCS(**vocs))
