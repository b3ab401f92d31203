"""Where trials come from several sources: which of them count, and what they cost. Pure."""

from collections.abc import Sequence

from msgspec.structs import replace

from ._nouns import Action
from ._problem import CampaignSpec, Fidelity, Point, Scalar


def counts(spec: CampaignSpec, ran: Point) -> bool:
    """Whether a trial at this point, as run, counts towards the goal: where there are sources, only by the target."""
    return spec.fidelity is None or ran.get(spec.fidelity.parameter) == spec.fidelity.target


def source_cost(fidelity: Fidelity, value: Scalar) -> float:
    """What a trial by this source costs."""
    return next(s.cost for s in fidelity.sources if s.value == value)


def target_cost(fidelity: Fidelity) -> float:
    """What a trial by the target costs."""
    return source_cost(fidelity, fidelity.target)


def priced(spec: CampaignSpec, point: Point, actions: Sequence[Action]) -> tuple[Action, ...]:
    """The actions of one trial; where there are sources, they share equally what its source costs."""
    fidelity = spec.fidelity
    if fidelity is None:
        return tuple(actions)
    cost = source_cost(fidelity, point[fidelity.parameter])
    return tuple(replace(a, cost=cost / len(actions)) for a in actions)
