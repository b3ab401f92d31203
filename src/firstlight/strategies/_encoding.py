"""Points as numbers: a raw number a parameter to search with, and features a parameter to measure likeness with."""

from collections.abc import Mapping, Sequence
from copy import copy

import numpy as np
import numpy.typing as npt

from firstlight import core

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


class Encoding:
    """Both encodings of the points over some parameters.

    Raw rows have shape (n, d): the native value of a continuous or integer parameter, the index of an
    ordered or categorical value. Features have shape (n, D): every number lies in [0, 1] and two
    different names are at unit distance, so that one length-scale a parameter has one meaning;
    `owner[column]` is the parameter that a feature belongs to.
    """

    def __init__(self, parameters: Sequence[core.Parameter]) -> None:
        self.parameters = tuple(parameters)
        self.names = tuple(p.name for p in parameters)
        self.tables = [_table(p) for p in parameters]
        widths = [1 if t is None else t.shape[1] for t in self.tables]
        self.owner: Indices = np.repeat(np.arange(len(widths)), widths)
        self.low = np.array([_bounds(p)[0] for p in parameters])
        self.high = np.array([_bounds(p)[1] for p in parameters])
        self.log = np.array([getattr(p, "scale", "") == "log" for p in parameters], dtype=bool)
        self._first = np.where(self.log, np.log(np.where(self.log, self.low, 1.0)), self.low)
        last = np.where(self.log, np.log(np.where(self.log, self.high, 1.0)), self.high)
        self._width = np.where(last > self._first, last - self._first, 1.0)

    def narrowed(self, fixed: Mapping[str, core.Scalar]) -> "Encoding":
        """The same encoding, in which some parameters have no other value than theirs here."""
        made = copy(self)
        made.low, made.high = self.low.copy(), self.high.copy()
        for j, p in enumerate(self.parameters):
            if p.name in fixed:
                value = fixed[p.name]
                raw = value if isinstance(p, core.Continuous | core.Integer) else list(p.values).index(value)
                made.low[j] = made.high[j] = float(raw)
        return made

    def by_source(self, features: Array, fidelity: core.Fidelity | None, value: core.Scalar | None = None) -> Array:
        """The same points by another source (by default the target one), as features (n, D)."""
        if fidelity is None:
            return features
        j = self.names.index(fidelity.parameter)
        wanted = fidelity.target if value is None else value
        made = features.copy()
        made[:, self.owner == j] = _as_run(self, j, [wanted])
        return made

    def raw(self, points: Sequence[core.Point]) -> Array:
        """Legal points as raw rows."""
        out = np.empty((len(points), len(self.names)))
        for j, p in enumerate(self.parameters):
            if isinstance(p, core.Continuous | core.Integer):
                out[:, j] = [point[p.name] for point in points]
            else:
                index = {value: i for i, value in enumerate(p.values)}
                out[:, j] = [index[point[p.name]] for point in points]
        return out

    def points(self, raw: Array) -> list[core.Point]:
        """Raw rows as points: whole numbers are ints, ordered and categorical values are the very values given."""
        return [{p.name: _value(p, x) for p, x in zip(self.parameters, row, strict=True)} for row in raw]

    def unit(self, raw: Array) -> Array:
        """Raw rows on [0, 1]: linear or log for numbers, by rank for ordered and categorical values."""
        value = np.where(self.log, np.log(np.where(self.log, np.maximum(raw, np.finfo(float).tiny), 1.0)), raw)
        return np.asarray((value - self._first) / self._width)

    def from_unit(self, unit: Array) -> Array:
        """Numbers on [0, 1] as raw rows: inside the bounds, and whole where they must be."""
        value = self._first + np.clip(unit, 0.0, 1.0) * self._width
        value = np.where(self.log, np.exp(np.where(self.log, value, 0.0)), value)
        return np.asarray(np.clip(np.where(self.whole, np.round(value), value), self.low, self.high))

    def value(self, j: int, unit: Array) -> Array:
        """Features of one number as its values, wherever they lie."""
        value = self._first[j] + unit * self._width[j]
        return np.asarray(np.exp(value) if self.log[j] else value)

    def unit_value(self, j: int, value: Array) -> Array:
        """Values of one number as its features, wherever they lie."""
        value = np.log(np.maximum(value, np.finfo(float).tiny)) if self.log[j] else value
        return np.asarray((value - self._first[j]) / self._width[j])

    @property
    def whole(self) -> npt.NDArray[np.bool_]:
        """Which parameters take only whole raw numbers."""
        return np.array([not isinstance(p, core.Continuous) for p in self.parameters], dtype=bool)

    def features(self, raw: Array) -> Array:
        """The features of raw rows."""
        unit = self.unit(raw)
        parts = [unit[:, [j]] if table is None else table[raw[:, j].astype(int)] for j, table in enumerate(self.tables)]
        return np.hstack(parts) if parts else np.empty((len(raw), 0))

    def features_as_run(self, points: Sequence[core.Point]) -> Array:
        """The features of points as they came out, which need not be legal: what is unknown is put in the middle."""
        parts = [_as_run(self, j, [point.get(name) for point in points]) for j, name in enumerate(self.names)]
        return np.hstack(parts) if parts else np.empty((len(points), 0))


def _bounds(p: core.Parameter) -> tuple[float, float]:
    if isinstance(p, core.Continuous | core.Integer):
        return float(p.low), float(p.high)
    return 0.0, float(len(p.values) - 1)


def _value(p: core.Parameter, x: float) -> core.Scalar:
    if isinstance(p, core.Continuous):
        return float(min(max(x, p.low), p.high))
    return round(x) if isinstance(p, core.Integer) else p.values[round(x)]


def _table(p: core.Parameter) -> Array | None:
    """The features of every value of an ordered or categorical parameter, a row each; None for numbers."""
    if isinstance(p, core.Ordered):
        numbers = numbers_of(p)
        levels = np.arange(len(p.values), dtype=float) if numbers is None else numbers
        return np.asarray((levels - levels[0]) / ((levels[-1] - levels[0]) or 1.0))[:, None]
    if isinstance(p, core.Categorical):
        names: Array = np.eye(len(p.values)) / np.sqrt(2.0)
        keys = sorted({key for d in p.descriptors.values() for key in d})
        told = np.array([[p.descriptors.get(v, {}).get(key, np.nan) for key in keys] for v in p.values])
        if not keys or not np.isfinite(told).all() or len(p.values) < 2 or np.ptp(told, axis=0).max() == 0:
            return names
        told = told[:, np.ptp(told, axis=0) > 0]
        told = (told - told.mean(0)) / told.std(0)
        apart = ((told[:, None] - told[None]) ** 2).sum(-1)
        told /= np.sqrt(apart[np.triu_indices(len(told), 1)].mean())
        # Half by likeness, half by name: names alike in every descriptor can still turn out different.
        return np.asarray(np.hstack([told, names]) / np.sqrt(2.0))
    return None


def numbers_of(p: core.Parameter) -> Array | None:
    """The values of an ordered parameter as numbers; None where they are words or there are none."""
    if not isinstance(p, core.Ordered) or any(isinstance(v, str) for v in p.values):
        return None
    return np.array([float(v) for v in p.values])


def _as_run(encoding: Encoding, j: int, values: Sequence[core.Scalar | None]) -> Array:
    p, table = encoding.parameters[j], encoding.tables[j]
    numbers = numbers_of(p)
    if table is not None and numbers is None:
        index = {value: i for i, value in enumerate(getattr(p, "values", ()))}
        rows = [table[index[v]] if v in index else table.mean(0) for v in values]
        return np.array(rows).reshape(len(values), table.shape[1])
    value = np.array([np.nan if v is None or isinstance(v, str) else float(v) for v in values])
    if numbers is not None:
        unit = (value - numbers[0]) / ((numbers[-1] - numbers[0]) or 1.0)
    else:
        unit = encoding.unit_value(j, value)
    # An instrument may overshoot a bound; far beyond it the value is taken for a slip of the pen.
    return np.clip(np.where(np.isfinite(unit), unit, 0.5), -0.5, 1.5)[:, None]
