"""Which points may be tried."""

import pytest

from firstlight import core
from firstlight.testing.world import a_spec

PARAMETERS = (
    core.Continuous(name="a", low=0.0, high=1.0),
    core.Continuous(name="b", low=0.0, high=1.0),
    core.Integer(name="n", low=1, high=9),
    core.Ordered(name="speed", values=("slow", "fast")),
    core.Categorical(name="solvent", values=("water", "DMF")),
)
GOOD: core.Point = {"a": 0.5, "b": 0.5, "n": 3, "speed": "slow", "solvent": "DMF"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"a": 1.2}, "a is 1.2, outside 0.0 to 1.0"),
        ({"a": float("nan")}, "a is nan, not a number"),
        ({"a": "high"}, "a is 'high', not a number"),
        ({"n": 2.5}, "n is 2.5, not a whole number"),
        ({"speed": "warp"}, "speed is 'warp', none of slow, fast"),
        ({"solvent": "beer"}, "solvent is 'beer', none of water, DMF"),
        ({"extra": 1}, "extra is not a parameter"),
        ({"b": 0.4}, "a + b is 0.9, not 1"),
        ({"a": 1.0, "b": 0.0}, "1 a + -1 b is 1, not <= 0.5"),
        ({"n": 9, "solvent": "water"}, "n=9, solvent=water are excluded together"),
    ],
)
def test_what_is_wrong_is_said(change: core.Point, said: str) -> None:
    constraints = (
        core.Mixture(parameters=("a", "b")),
        core.Linear(terms={"a": 1.0, "b": -1.0}, relation="<=", bound=0.5),
        core.Exclude(combination={"n": (8, 9), "solvent": ("water",)}),
    )
    spec = a_spec(parameters=PARAMETERS, constraints=constraints)
    assert core.violations(spec, GOOD) == ()
    assert said in core.violations(spec, {**GOOD, **change})


def test_a_missing_parameter_is_named() -> None:
    assert core.violations(a_spec(), {}) == ("x is missing",)


def test_rounding_is_forgiven() -> None:
    spec = a_spec(parameters=PARAMETERS[:2], constraints=(core.Mixture(parameters=("a", "b")),))
    assert core.violations(spec, {"a": 0.1 + 0.2, "b": 0.7}) == ()


def test_a_mixture_counts_its_parts() -> None:
    names = ("a", "b", "c")
    parameters = tuple(core.Continuous(name=n, low=0.0, high=1.0) for n in names)
    spec = a_spec(parameters=parameters, constraints=(core.Mixture(parameters=names, max_parts=2),))
    assert core.violations(spec, {"a": 0.5, "b": 0.5, "c": 0.0}) == ()
    assert core.violations(spec, {"a": 0.5, "b": 0.3, "c": 0.2}) == ("the mixture of a, b, c has 3 parts",)


def test_a_pool_is_all_there_is() -> None:
    pool = core.Pool(columns=("x",), rows=((0.1,), (0.3,)))
    spec = a_spec(pool=pool)
    assert core.violations(spec, {"x": 0.3}) == ()
    assert core.violations(spec, {"x": 0.2}) == ("the point is not in the pool",)
    assert pool.points() == ({"x": 0.1}, {"x": 0.3})
