"""What the adapters share: the vendor's module, what it is told, and its suggestion made one of our points."""

import math
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from firstlight import core

from .._common import Taken, asked_for, generator
from .._encoding import Array
from .._space import Space

INSIDE = r"(ax|baybe|botorch|gpytorch|linear_operator|torch)\."
"""The modules that call what is deprecated among themselves."""

_alone = threading.Lock()
HUGE = 1e30
"""Readings beyond this are cut to it for vendors that square them."""


def vendor(module: str, extra: str) -> Any:
    """A vendor's module. Raises ValueError, saying what to install, where it is absent."""
    try:
        with warnings.catch_warnings():
            # As they are imported, vendors call what they or torch deprecate: nothing that a user here could mend.
            warnings.simplefilter("ignore", DeprecationWarning)
            return import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(f"there is no module {error.name}: pip install 'firstlight[{extra}]'") from None


@contextmanager
def torch_alone(seed: int, extra: str) -> Iterator[None]:
    """Torch's one generator for us alone, begun at a seed and put back afterwards: campaigns in threads take turns.

    What torch, GPyTorch and BoTorch have to say to whoever develops with them is not passed on.
    """
    with _alone, warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=INSIDE)
        for message in ("Optimization failed", "Unknown solver options", "To copy construct from a tensor"):
            warnings.filterwarnings("ignore", message=message)
        torch = vendor("torch", extra)
        for category in (
            vendor("botorch.exceptions.warnings", extra).BotorchWarning,
            vendor("gpytorch.utils.warnings", extra).GPInputWarning,
            vendor("linear_operator.utils.warnings", extra).NumericalWarning,
        ):
            warnings.simplefilter("ignore", category)
        threads = torch.get_num_threads()
        # The matrices are small: more threads only fight, with each other and with the trials.
        torch.set_num_threads(1)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(small(seed))
                yield
        finally:
            torch.set_num_threads(threads)


def small(seed: int) -> int:
    """A seed that every vendor takes, from any whole number."""
    return int(generator(seed).integers(2**31))


def varied(spec: core.CampaignSpec) -> list[core.Parameter]:
    """The parameters that have more than one value: vendors refuse the others."""
    return [
        p
        for p in spec.parameters
        if (p.low < p.high if isinstance(p, core.Continuous | core.Integer) else len(p.values) > 1)
    ]


def ran(spec: core.CampaignSpec, row: core.Row) -> core.Point | None:
    """Where a trial ran, in values that the space has: numbers that overshot are brought back to the nearest.

    None where a value is missing or is a word that the space does not know.
    """
    point: core.Point = {}
    for p in spec.parameters:
        value = _nearest_value(p, row.ran.get(p.name))
        if value is None:
            return None
        point[p.name] = value
    return point


def _nearest_value(p: core.Parameter, value: core.Scalar | None) -> core.Scalar | None:
    if isinstance(p, core.Continuous | core.Integer):
        if value is None or isinstance(value, str) or not math.isfinite(value):
            return None
        inside = min(max(value, p.low), p.high)
        return round(inside) if isinstance(p, core.Integer) else float(inside)
    if value in p.values:
        return p.values[p.values.index(value)]
    numbers = [v for v in p.values if not isinstance(v, str)]
    if value is None or isinstance(value, str) or not math.isfinite(value) or len(numbers) < len(p.values):
        return None
    return min(numbers, key=lambda v: abs(v - value))


def measured(spec: core.CampaignSpec, row: core.Row) -> core.Seen | None:
    """What was seen of everything that the goal asks for; None where the trial failed or something is missing."""
    seen = row.seen
    return None if row.failure or not set(asked_for(spec.goal)) <= seen.keys() else seen


def cut(value: float) -> float:
    """A reading that can be squared."""
    return min(max(value, -HUGE), HUGE)


def excess(constraint: core.OutcomeConstraint, seen: core.Seen) -> float:
    """By how much an outcome constraint is broken: negative where it is kept with room to spare."""
    value = seen[constraint.observable].value
    return value - constraint.bound if constraint.relation == "<=" else constraint.bound - value


def nearest(space: Space, taken: Taken, wish: Array, rng: np.random.Generator) -> Array | None:
    """The free point (1, d) next to a wish (1, d) that need not be legal; None where all points are taken.

    On a listed space it is the nearest; elsewhere the nearest of some made near the wish.
    """
    e = space.encoding
    at = e.features(np.clip(np.where(e.whole, np.round(wish), wish), e.low, e.high))

    def first(rows: Array) -> Array | None:
        """The nearest free one: only as many are looked at as it takes."""
        order = np.argsort(((e.features(rows) - at) ** 2).sum(1), kind="stable")
        for most in (8, 64, len(order)):
            free = taken.free(rows[order[:most]])
            if len(free):
                return free[:1]
        return None

    if space.rows is not None:
        return first(space.rows)
    made = space.around(wish, rng)
    made = made if len(made) else space.sample(64, rng)
    found = first(made)
    for width in (1e-3, 1e-2, 0.1, 0.5):
        if found is None and len(made):
            found = first(space.near(made, 64, width, rng))
    return found


def only(space: Space, taken: Taken) -> Array | None:
    """The one free point (1, d), or none (0, d), where a listed space leaves no choice; None where there is one."""
    free = None if space.rows is None else taken.free(space.rows)
    return free if free is not None and len(free) <= 1 else None


def proposals(space: Space, rows: Sequence[Array], reason: str) -> list[core.Proposal]:
    """Proposals of rows (1, d), all for one reason."""
    return [core.Proposal(point=point, reason=reason) for row in rows for point in space.encoding.points(row)]
