"""A transformer that was trained on earlier campaigns, used with numpy alone.

What it is told of a new campaign are data: a release of it together with them is as secret as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from firstlight.core import Parameter

from ._embedding import Array
from ._experiment_net import Tokens
from ._experiment_place import Columns, Expecting, Placer, values_of
from ._experiment_read import SLACK, Known, are_words, on_scale
from ._incontext_net import WIDTH, answered, chained, log_density, moments, order, told
from ._weights import Weights

MOST = 128
"""Of more readings than this it is told so many, evenly over time: it has learned from no longer campaigns."""
RESOLUTION = WIDTH / 2.0
"""Half a bar: the deviation of readings, in spreads, below which it does not tell noise from the quantity."""


class InContextPrior(Expecting):
    """What a transformer expects of one observable of one campaign, in the observable's unit."""

    @property
    def noise(self) -> float:
        """The deviation of one reading from the quantity, as far as it tells the two apart."""
        return RESOLUTION * self.spread

    def mean(self, columns: Columns) -> Array:
        """What is expected at points before any reading, (n,)."""
        return np.asarray(self.level + self.spread * before(self._weights, self._placer.tokens(columns)))

    def given(self, columns: Columns, values: Array, variances: Array) -> InContextPosterior:
        """What it expects once values (n,) with known noise variances (n,) were read at points. They are the context
        of every answer, and learned by nothing."""
        n = len(values)
        some = np.unique(np.linspace(0, n - 1, MOST).round().astype(int)) if n > MOST else np.arange(n)
        tokens = _at(self._placer.tokens(columns), some)
        y = (values[some] - self.level) / self.spread
        return InContextPosterior(self, self._weights, self._placer, tokens, y, variances[some] / self.spread**2)


class InContextPosterior:
    """What a transformer expects of a campaign once it was told some readings."""

    def __init__(
        self, prior: InContextPrior, weights: Weights, placer: Placer, tokens: Tokens, y: Array, extra: Array
    ) -> None:  # fmt: skip
        self._prior, self._weights, self._placer = prior, weights, placer
        self._told = (tokens, y, extra)

    @cached_property
    def evidence(self) -> Array:
        """The log density (n,) of the first reading, the first two, and so on."""
        if not len(self._told[1]):
            return np.empty(0)
        return np.cumsum(chain(self._weights, *self._told) - np.log(self._prior.spread))

    def at(self, columns: Columns) -> tuple[Array, Array]:
        """Mean and deviation (n,) of the quantity at points."""
        tokens = _float32(self._placer.tokens(columns))
        mean, variance = moments(answered(self._weights, tokens, self._remembered).astype(float))
        floor = (0.2 * RESOLUTION) ** 2
        deviation = np.sqrt(np.maximum(variance - RESOLUTION**2, floor))
        return self._prior.level + self._prior.spread * mean, self._prior.spread * deviation

    @cached_property
    def _remembered(self) -> list[tuple[Array, Array]]:
        tokens, y, extra = self._told
        return told(self._weights, _float32(tokens), y.astype(np.float32), np.sqrt(extra).astype(np.float32))


def chain(weights: Weights, tokens: Tokens, y: Array, extra: Array) -> Array:
    """The log density of each reading (n,) of one campaign, in spreads, given those before it."""
    y, sigma = y.astype(np.float32), np.sqrt(extra).astype(np.float32)
    chances = chained(weights, _float32(tokens), y, sigma, order(len(y)), np)
    return np.asarray(log_density(chances, y, np), dtype=float)


def before(weights: Weights, tokens: Tokens) -> Array:
    """What is expected at points (n,) before any reading, in spreads."""
    nothing, none = _at(_float32(tokens), slice(0, 0)), np.zeros(0, dtype=np.float32)
    known = told(weights, nothing, none, none)
    return np.asarray(moments(answered(weights, _float32(tokens), known).astype(float))[0])


def too_far(known: Mapping[str, Known], parameters: Sequence[Parameter]) -> str:
    """Why a transformer has not seen all that parameters may be, and so cannot tell how unsure it is; "" where it has.

    A Gaussian process is less sure where it knows less, and need not have.
    """
    for p in parameters:
        if p.name not in known:
            return f"it has not seen {p.name}, and a transformer must have seen every parameter"
        k = known[p.name]
        if are_words(p):
            if new := sorted({str(v) for v in values_of(p)} - set(k.words or ())):
                return f"of {p.name} it has not seen {', '.join(new)}, and a transformer must have seen every value"
            continue
        ends = on_scale(k, [min(values_of(p)), max(values_of(p))])
        if ends[0] < k.least - SLACK or ends[1] > k.most + SLACK:
            return f"{p.name} may be beyond what it has seen, of which a transformer can say nothing"
    return ""


def _at(t: Tokens, some: Any) -> Tokens:
    return Tokens(t.static, t.there, t.observable, t.number[some], t.words[some])


def _float32(t: Tokens) -> Tokens:
    parts = (t.static, t.there, t.observable, t.number, t.words)
    return Tokens(*(np.asarray(a, dtype=np.float32) for a in parts))
