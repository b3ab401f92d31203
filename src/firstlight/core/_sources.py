"""Where trials come from several sources: which of them count, and what they cost. Pure."""

from collections.abc import Sequence

from msgspec.structs import replace

from ._nouns import Action
from ._problem import CampaignSpec, Point


def counts(spec: CampaignSpec, ran: Point) -> bool:
    """Whether a trial at this point, as run, counts towards the goal: where there are sources, only by the target."""
    return spec.fidelity is None or ran.get(spec.fidelity.parameter) == spec.fidelity.target


def priced(spec: CampaignSpec, point: Point, actions: Sequence[Action]) -> tuple[Action, ...]:
    """The actions of one trial, whose estimated costs make up that of its source.

    What a step says of its own cost stands; the actions of steps that say nothing share the rest equally.
    """
    silent = [a for a in actions if not a.cost]
    if spec.fidelity is None or not silent:
        return tuple(actions)
    costs = {s.value: s.cost for s in spec.fidelity.sources}
    rest = costs[point[spec.fidelity.parameter]] - sum(a.cost for a in actions)
    share = max(0.0, rest) / len(silent)
    return tuple(a if a.cost else replace(a, cost=share) for a in actions)
