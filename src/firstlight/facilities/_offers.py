"""What facilities have to offer for an action: whether they can take it, how they compare, and that in words. Pure."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..core import Action, FacilityStatus

SOON = 60.0
"""Seconds of waiting that make no difference."""
TURN = 600.0
"""Seconds that an action is taken to last where it has no limit."""
STATES = {"up": 0, "unknown": 1, "degraded": 2}


class Offer(NamedTuple):
    """A facility that can take an action: when it would begin it, for how much, and its place in the order."""

    name: str
    status: FacilityStatus
    slots: int
    turns: float
    """How many actions go first in each slot, 0 where one is free."""
    delay: float
    cost: float
    place: int

    @property
    def rank(self) -> tuple[float, ...]:
        """The less, the better."""
        # Waits are guesses: those that differ by less than a factor of two are the same.
        wait = 1 + math.floor(math.log2(self.delay / SOON)) if self.delay >= SOON else 0
        return (STATES.get(self.status.state, 1), wait, self.turns, self.cost, self.place)


def offer(name: str, place: int, action: Action, status: FacilityStatus, wanted: int, slots: int) -> Offer:
    """That of a facility with so many slots, of which so many are wanted already."""
    turns = wanted / slots if wanted >= slots > 0 else 0.0
    wait = status.wait if status.wait is not None else SOON * bool(status.queued)
    delay = wait + turns * (action.limits.seconds or TURN)
    hours = action.resources.nodes * (action.limits.seconds or 3600.0) / 3600.0
    cost = math.nan if status.price is None else status.price * hours
    return Offer(name=name, status=status, slots=slots, turns=turns, delay=delay, cost=cost, place=place)


def choose(offers: Sequence[Offer]) -> tuple[Offer, dict[str, str]]:
    """The best, and what speaks against each of the others."""
    if any(math.isnan(o.cost) for o in offers):
        offers = [o._replace(cost=0.0) for o in offers]
    best = min(offers, key=lambda o: o.rank)
    return best, {o.name: _worse(o, best) for o in offers if o is not best}


def says(best: Offer) -> str:
    """What speaks for it, or at least not against it."""
    begins = "free now" if not best.turns and best.delay < SOON else f"it {_waits(best)}"
    return f"{begins}, though it {_state(best.status)}" if best.status.state == "degraded" else begins


def against(action: Action, status: FacilityStatus) -> str:
    """Why a facility cannot take an action: what it is, or how it is. "" where it can."""
    if status.state == "down":
        return f"is down ({status.message})" if status.message else "is down"
    wrong = [status.unfit] if status.unfit else []
    needed, limits = action.resources, action.limits
    nodes = max(1, needed.nodes)
    each = -(-needed.processes // nodes)
    wrong += _short("node", nodes, status.nodes)
    wrong += _short("core", each * needed.cores, status.cores, " a node")
    wrong += _short("GPU", each * needed.gpus, status.gpus, " a node")
    if limits.memory is not None and status.memory is not None and limits.memory / nodes > status.memory:
        wrong.append(f"has {status.memory / 2**30:.3g} GiB a node, and it may take {limits.memory / nodes / 2**30:.3g}")
    if limits.seconds is not None and status.seconds is not None and limits.seconds > status.seconds:
        wrong.append(f"lets an action run for {about(status.seconds)}, and it may take {about(limits.seconds)}")
    return ", ".join(wrong)


def about(seconds: float) -> str:
    """As in "40 s", "12 min", "2 h", "3 days"."""
    for size, name in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{round(seconds / size)} {name}"
    return f"{seconds:.0f} s"


def _short(noun: str, needed: int, there: int | None, where: str = "") -> Iterable[str]:
    if there is not None and needed > there:
        yield f"has {there or 'no'} {noun}{'' if there == 1 else 's'}{where}, and it needs {needed}"


def _worse(other: Offer, best: Offer) -> str:
    state, wait, turns, cost, _ = (a > b for a, b in zip(other.rank, best.rank, strict=True))
    if state:
        return _state(other.status)
    if wait or turns:
        return _waits(other)
    if cost:
        return f"costs more ({other.cost:.3g} against {best.cost:.3g})"
    return "would do as well, and comes later in the order"


def _state(status: FacilityStatus) -> str:
    word = "is degraded" if status.state == "degraded" else "does not say whether it is up"
    return f"{word} ({status.message})" if status.message else word


def _waits(o: Offer) -> str:
    said = [f"has {'its one slot' if o.slots == 1 else f'all its {o.slots} slots'} taken"] if o.turns else []
    waits = f", about {about(o.status.wait)}" if o.status.wait is not None and o.status.wait >= SOON else ""
    if o.status.queued:
        said.append(f"has {o.status.queued} job{'' if o.status.queued == 1 else 's'} waiting{waits}")
    elif waits:
        said.append(f"would begin in {waits.removeprefix(', ')}")
    return " and ".join(said)
