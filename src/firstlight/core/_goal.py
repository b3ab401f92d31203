"""How good is what was seen: losses, feasibility, dominance. Pure functions of a goal and observations."""

from collections.abc import Iterable, Mapping

from ._nouns import Observation
from ._problem import Goal, Objective, Value


class Standing(Value, frozen=True):
    """Where all trials together stand: the losses of the best ones, and the first that met the goal ("": none)."""

    front: tuple[tuple[float, ...], ...] = ()
    met_by: str = ""


Seen = Mapping[str, Observation]
"""The latest observation of every observable of one trial."""


def loss(objective: Objective, value: float) -> float:
    """What is to be made small: in the objective's unit, 0 inside the tolerance of a "match"."""
    if objective.direction == "maximize":
        return -value
    if objective.direction == "minimize":
        return value
    return max(0.0, abs(value - (objective.target or 0.0)) - objective.tolerance)


def losses(goal: Goal, seen: Seen) -> tuple[float, ...] | None:
    """One loss an objective, or None where an objective was not observed or an outcome constraint is broken."""
    if any(o.observable not in seen for o in goal.objectives) or not feasible(goal, seen):
        return None
    return tuple(loss(o, seen[o.observable].value) for o in goal.objectives)


def feasible(goal: Goal, seen: Seen) -> bool:
    """Whether every outcome constraint was observed and kept."""
    for bound in goal.outcome_constraints:
        if bound.observable not in seen:
            return False
        value = seen[bound.observable].value
        if value > bound.bound if bound.relation == "<=" else value < bound.bound:
            return False
    return True


def met(goal: Goal, seen: Seen) -> bool:
    """Whether this one trial reaches the target of every objective that has one (and some objective has)."""
    targets = [o for o in goal.objectives if o.target is not None]
    if not targets or losses(goal, seen) is None:
        return False
    return all(loss(o, seen[o.observable].value) <= _target_loss(o) for o in targets)


def _target_loss(objective: Objective) -> float:
    if objective.direction == "match" or objective.target is None:
        return 0.0
    return loss(objective, objective.target)


def dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether a is nowhere worse than b and somewhere better (losses)."""
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def advance(front: tuple[tuple[float, ...], ...], new: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    """The Pareto front with `new` in it; the same front, unchanged, where `new` adds nothing."""
    if any(old == new or dominates(old, new) for old in front):
        return front
    return (*(old for old in front if not dominates(new, old)), new)


def latest(observations: Iterable[Observation]) -> dict[str, Observation]:
    """The last observation of each observable."""
    return {o.observable: o for o in observations}
