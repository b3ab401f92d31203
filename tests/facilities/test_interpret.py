"""What a function may give back."""

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from firstlight.core import Failed, Failure, Measured, Observation
from firstlight.facilities.compute import interpret


def seen(value: object) -> list[tuple[str, float, float, str]]:
    outcome = interpret(value)
    assert isinstance(outcome, Measured), outcome
    return [(o.observable, o.value, o.sigma, o.unit) for o in outcome.observations]


@pytest.mark.parametrize(
    "value",
    [2, 2.0, np.float32(2), np.int64(2), np.array(2.0), Decimal(2), [2.0, 0.0], Observation(observable="", value=2)],
)  # fmt: skip
def test_a_number_is_an_observation_without_a_name(value: object) -> None:
    assert seen(value) == [("", 2.0, 0.0, "")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1, (1.0, 0.0, "")),
        ([1, 0.5], (1.0, 0.5, "")),
        ((1, np.float64(0.5)), (1.0, 0.5, "")),
        ({"value": 1}, (1.0, 0.0, "")),
        ({"value": 1, "sigma": 0.5, "unit": "mg"}, (1.0, 0.5, "mg")),
        (Observation(observable="y", value=1, unit="mg"), (1.0, 0.0, "mg")),
        (Observation(observable="", value=1), (1.0, 0.0, "")),
    ],
)
def test_a_mapping_names_its_observables(given: object, expected: tuple[float, float, str]) -> None:
    assert seen({"y": given}) == [("y", *expected)]


def test_numbers_are_pythons_own() -> None:
    outcome = interpret({"y": np.float64(1.5), "as_run": {"n": np.int64(2), "t": np.float64(0.5), "k": "a"}})
    assert isinstance(outcome, Measured)
    assert type(outcome.observations[0].value) is float
    assert [type(v) for v in outcome.as_run.values()] == [int, float, str]


def test_as_run_and_cost_are_no_observables() -> None:
    outcome = interpret({"y": 1, "as_run": {"x": 2.5}, "cost": 4})
    assert outcome == Measured(
        observations=(Observation(observable="y", value=1.0),), as_run={"x": 2.5}, cost=4.0
    )  # fmt: skip


def test_an_empty_mapping_is_a_success_that_observed_nothing() -> None:
    assert interpret({}) == Measured()


def test_outcomes_and_failures_are_themselves() -> None:
    measured = Measured(observations=(Observation(observable="y", value=1.0),), cost=2.0)
    assert interpret(measured) == measured
    assert interpret(Failure(cause="lost")) == Failure(cause="lost")
    assert interpret(Failed("timed-out", "late")) == Failure(cause="timed-out", message="late")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "None"),
        ("1.0", "text '1.0'"),
        (True, "True (bool)"),
        (np.bool_(True), "bool"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (np.array([1.0, 2.0]), "ndarray"),
        ([1.0, 2.0, 3.0], "[value, sigma]"),
        (1j, "complex"),
        (10**400, "number"),
        ({"y": None}, "'y'"),
        ({"z": 1, "y": math.nan}, "'y'"),
        ({"y": "high"}, "'y'"),
        ({"y": [1, -1]}, "sigma of observable 'y'"),
        ({"y": [1, math.nan]}, "sigma of observable 'y'"),
        ({"y": {"value": 1, "unit": 3}}, "unit of observable 'y'"),
        ({"y": {"mean": 1}}, "'y'"),
        ({"y": {"value": 1, "error": 1}}, "'y'"),
        ({"y": Observation(observable="z", value=1)}, "'z'"),
        ({1: 2.0}, "named by text"),
        ({"y": 1, "as_run": 3}, "as_run"),
        ({"y": 1, "as_run": {"x": None}}, "as_run of 'x'"),
        ({"y": 1, "cost": -1}, "cost"),
        ({"y": 1, "cost": math.inf}, "cost"),
    ],
)
def test_anything_else_is_invalid_and_says_where(value: Any, words: str) -> None:
    outcome = interpret(value)
    assert isinstance(outcome, Failure)
    assert outcome.cause == "invalid-output"
    assert words in outcome.message
