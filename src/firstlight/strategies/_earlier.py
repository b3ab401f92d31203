"""What an earlier campaign made of a point of this one: parameters matched by name, values by number or by name."""

from collections.abc import Callable
from difflib import SequenceMatcher

import numpy as np
from scipy.optimize import linear_sum_assignment

from firstlight import core

from ._encoding import Array, Encoding, numbers_of

Column = Callable[[Array], Array]
"""The features of one parameter of the earlier campaign (n, k), from those of the same one here."""


def translated(here: Encoding, there: Encoding, alike: bool) -> Callable[[Array], Array]:
    """A function from features here (n, D) to features there (n, D').

    What has no counterpart is put in the middle. With `alike`, a name that the earlier campaign did not have stands
    for the name most like it in spelling that this one does not have ("4-chlorotoluene" for "4-chloroanisole").
    """
    columns: list[tuple[np.ndarray, Column]] = []
    for j, name in enumerate(there.names):
        i = here.names.index(name) if name in here.names else None
        owned = np.flatnonzero(here.owner == i) if i is not None else np.empty(0, int)
        columns.append((owned, _column(here, i, there, j, alike)))

    def translate(features: Array) -> Array:
        return np.hstack([column(features[:, owned]) for owned, column in columns])

    return translate


def strangers(here: Encoding, there: Encoding) -> bool:
    """Whether some parameter has names here that it did not have there, and the other way round."""
    for name in set(here.names) & set(there.names):
        p, q = here.parameters[here.names.index(name)], there.parameters[there.names.index(name)]
        match p, q:
            case core.Categorical(values=here_too), core.Categorical(values=there_too):
                if set(here_too) - set(there_too) and set(there_too) - set(here_too):
                    return True
            case _:
                pass
    return False


def _column(here: Encoding, i: int | None, there: Encoding, j: int, alike: bool) -> Column:
    table = there.tables[j]
    middle = (
        np.full((1, 1), 0.5) if table is None or numbers_of(there.parameters[j]) is not None else table.mean(0)[None]
    )
    if i is None:
        return lambda features: np.repeat(middle, len(features), axis=0)
    value, back = _number_of(here, i), _unit_of(there, j)
    if value is not None and back is not None:
        return lambda features: back(value(features[:, 0]))[:, None]
    names, own = here.tables[i], here.parameters[i]
    other = there.parameters[j]
    if names is None or table is None or value is not None or back is not None:
        return lambda features: np.repeat(middle, len(features), axis=0)
    assert isinstance(own, core.Categorical | core.Ordered) and isinstance(other, core.Categorical | core.Ordered)
    match = _matched([str(v) for v in own.values], [str(v) for v in other.values], alike)
    rows = np.array([table[match[str(v)]] if str(v) in match else middle[0] for v in own.values])
    square = (names**2).sum(1)
    return lambda features: rows[(square - 2.0 * features @ names.T).argmin(1)]


def _matched(own: list[str], other: list[str], alike: bool) -> dict[str, int]:
    """Which value there each value here stands for."""
    match = {v: other.index(v) for v in own if v in other}
    new, gone = [v for v in own if v not in match], [v for v in other if v not in own]
    if alike and new and gone:
        likeness = np.array([[SequenceMatcher(None, a, b).ratio() for b in gone] for a in new])
        for a, b in zip(*linear_sum_assignment(-likeness), strict=True):
            match[new[a]] = other.index(gone[b])
    return match


def _number_of(e: Encoding, j: int) -> Callable[[Array], Array] | None:
    """From the feature of a numeric parameter to its value; None where it has names."""
    numbers = numbers_of(e.parameters[j])
    if numbers is not None:
        return lambda u: numbers[0] + u * (numbers[-1] - numbers[0])
    if e.tables[j] is not None:
        return None
    return lambda u: e.value(j, u)


def _unit_of(e: Encoding, j: int) -> Callable[[Array], Array] | None:
    """From the value of a numeric parameter to its feature, at most half a width outside its bounds."""
    numbers = numbers_of(e.parameters[j])
    if numbers is not None:
        width = (numbers[-1] - numbers[0]) or 1.0
        return lambda value: np.clip((value - numbers[0]) / width, -0.5, 1.5)
    if e.tables[j] is not None:
        return None
    return lambda value: np.clip(e.unit_value(j, value), -0.5, 1.5)
