"""How good is what was seen: losses, feasibility, dominance. Pure functions of a goal and observations."""

import math
from collections.abc import Iterable, Mapping, Sequence

from ._nouns import Observation
from ._problem import Goal, Objective, Value


class Standing(Value, frozen=True):
    """Where all trials together stand: the losses of the best ones, and the first that met the goal ("": none)."""

    front: tuple[tuple[float, ...], ...] = ()
    met_by: str = ""


Seen = Mapping[str, Observation]
"""One observation of every observable of one trial: the mean where there were several readings."""


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


def pooled(observations: Iterable[Observation]) -> dict[str, Observation]:
    """One observation of each observable: several readings of it are replicates, and count with their mean.

    Readings with a sigma each are weighed by it. The mean's sigma is the greater of what these sigmas give and of
    what the scatter gives (the standard error).
    """
    readings: dict[str, list[Observation]] = {}
    for o in observations:
        readings.setdefault(o.observable, []).append(o)
    return {name: _mean(several) if len(several) > 1 else several[0] for name, several in readings.items()}


def _mean(readings: Sequence[Observation]) -> Observation:
    told = all(o.sigma > 0 for o in readings)
    weights = [(min(o.sigma for o in readings) / o.sigma) ** 2 if told else 1.0 for o in readings]
    total = math.fsum(weights)
    mean = math.fsum(w / total * o.value for w, o in zip(weights, readings, strict=True))
    known = min(o.sigma for o in readings) / math.sqrt(total) if told else 0.0
    widest = max(abs(o.value / 2 - mean / 2) for o in readings) * 2
    parts = (
        math.fsum(w * ((o.value - mean) / widest) ** 2 for w, o in zip(weights, readings, strict=True)) if widest else 0
    )
    scatter = widest * math.sqrt(parts / (len(readings) - 1) / total)
    last = readings[-1]
    return Observation(observable=last.observable, value=mean, unit=last.unit, sigma=min(max(known, scatter), 1e300))
