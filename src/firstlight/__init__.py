"""Firstlight: closed-loop AI experimentation.

A campaign states a goal; strategies design the trials; facilities perform them; results come back; and the loop
goes round until the goal is met or the budget is spent. Start with `Campaign`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .core import (
    Budget,
    Categorical,
    Continuous,
    Exclude,
    Failed,
    Failure,
    Fidelity,
    Forbid,
    Integer,
    Limits,
    Linear,
    Measured,
    Mixture,
    NoImprovement,
    Observable,
    Observation,
    Ordered,
    OutcomeConstraint,
    Pool,
    Regret,
    Source,
    StrategySpec,
)

if TYPE_CHECKING:
    from .api import Campaign, match, maximize, minimize

__all__ = [
    "Budget",
    "Campaign",
    "Categorical",
    "Continuous",
    "Exclude",
    "Failed",
    "Failure",
    "Fidelity",
    "Forbid",
    "Integer",
    "Limits",
    "Linear",
    "Measured",
    "Mixture",
    "NoImprovement",
    "Observable",
    "Observation",
    "Ordered",
    "OutcomeConstraint",
    "Pool",
    "Regret",
    "Source",
    "StrategySpec",
    "match",
    "maximize",
    "minimize",
]

_FROM_API = ("Campaign", "match", "maximize", "minimize")


def __getattr__(name: str) -> Any:
    # Campaigns bring in every part; whoever only wants the words should not wait for them.
    if name in _FROM_API:
        return getattr(import_module(".api", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
