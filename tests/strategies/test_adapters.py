"""Other people's optimisers behind our port keep its contract. Those that are not installed here are skipped."""

import importlib.util

import pytest

from firstlight import core
from firstlight.strategies.adapters.baybe import BayBE
from firstlight.strategies.adapters.botorch import BoTorch
from firstlight.strategies.adapters.optuna import Optuna
from firstlight.testing.strategy import StrategyContract


def needs(module: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed here")


@needs("optuna")
class TestOptuna(StrategyContract):
    def make(self) -> core.Strategy:
        return Optuna(initial=4)


@needs("baybe")
class TestBayBE(StrategyContract):
    def make(self) -> core.Strategy:
        return BayBE(initial=8, restarts=1, samples=4, configurations=2, subsets=1)


@needs("botorch")
class TestBoTorch(StrategyContract):
    def make(self) -> core.Strategy:
        return BoTorch(initial=8, restarts=1, samples=8, draws=8)
