"""The strategies that come with Firstlight keep the contract of the port."""

from typing import Any

import pytest

from firstlight import core
from firstlight.strategies.bayes import Bayes
from firstlight.strategies.designs import Grid, Random, Sobol
from firstlight.testing.strategy import FINITE, StrategyContract, check_point


class TestRandom(StrategyContract):
    def make(self) -> core.Strategy:
        return Random()


class TestSobol(StrategyContract):
    def make(self) -> core.Strategy:
        return Sobol()


class TestBayes(StrategyContract):
    def make(self) -> core.Strategy:
        return Bayes(initial=4)


class TestGrid(StrategyContract):
    stochastic = False
    covers = False

    def make(self) -> core.Strategy:
        return Grid(levels=4)


def test_the_checker_finds_what_is_wrong() -> None:
    for wrong in ({"stir": "low", "k": 2.0}, {"stir": "huge", "k": 2}, {"stir": "low"}, {"stir": "low", "k": 5}):
        point: Any = wrong
        with pytest.raises(AssertionError):
            check_point(FINITE, point)
    check_point(FINITE, {"stir": "low", "k": 2})
