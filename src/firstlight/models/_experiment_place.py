"""Points of a campaign where an archive has them, and how far they are from what it has seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from firstlight.core import Categorical, Ordered, Parameter, Value, other_unit

from ._embedding import WORD, Array, of_observable, of_parameter
from ._experiment_net import Tokens
from ._experiment_read import SLACK, Kind, Known, Level, Told, are_words, of_words, on_scale
from ._weights import Weights

Columns = Mapping[str, Sequence[Any] | Array]
"""Points by parameter, (n,) values each. Nobody changes them afterwards."""


class ExperimentConfig(Value, frozen=True):
    """What a model of experiments is besides its weights; `depth` is 0 for a Gaussian process."""

    width: int
    parameters: tuple[Known, ...]
    observables: tuple[Level, ...]
    campaigns: int
    limits: tuple[str, ...] = ()
    kind: Kind = "gp"
    depth: int = 0


class Placer:
    """Places the points of one campaign where the archive has them."""

    def __init__(self, known: Sequence[Known], parameters: Sequence[Parameter], level: Level) -> None:
        by_name = {k.name: k for k in known}
        self.shared = [(p, by_name[p.name]) for p in parameters if p.name in by_name]
        self.strange = [p for p in parameters if p.name not in by_name]
        self.static = np.array([of_parameter(p) for p, _ in self.shared])
        self.observable = of_observable(level.name, level.unit)

    def tokens(self, columns: Columns) -> Tokens:
        """The points (n,) as the network has them; a number outside what was tried counts as at its end."""
        n, d = len(next(iter(columns.values()))), len(self.shared)
        number, words = np.zeros((n, d)), np.zeros((n, d, WORD))
        for j, (p, k) in enumerate(self.shared):
            if k.words is None:
                number[:, j] = np.clip(on_scale(k, columns[p.name]), k.least - SLACK, k.most + SLACK)
            else:
                words[:, j] = of_words(k, p, columns[p.name])
        return Tokens(self.static, np.ones(d), self.observable, number, words)

    def outside(self, columns: Columns) -> tuple[Array, Array]:
        """How far points are outside what was tried (n, k), and where they are by what the archive does not know
        (n, s)."""
        n = len(next(iter(columns.values())))
        beyond, strange = [np.zeros((n, 0))], [np.zeros((n, 0))]
        for p, k in self.shared:
            if k.words is None:
                u = on_scale(k, columns[p.name])
                beyond.append((u - np.clip(u, k.least - SLACK, k.most + SLACK))[:, None])
                continue
            new = sorted({str(v) for v in values_of(p)} - set(k.words))
            beyond.append(np.array([[str(v) == w for w in new] for v in columns[p.name]]).reshape(n, len(new)) / 4.0)
        for p in self.strange:
            strange.append(_own(p, columns[p.name]))
        return np.hstack(beyond), np.hstack(strange)


class Expecting:
    """What a model of experiments is before any reading, over the points of one campaign, whatever its kind."""

    def __init__(
        self, weights: Weights, known: Sequence[Known], parameters: Sequence[Parameter], level: Level
    ) -> None:  # fmt: skip
        self._weights, self._level = weights, level
        self._placer = Placer(known, parameters, level)

    @property
    def level(self) -> float:
        """What the archive read on average."""
        return self._level.level

    @property
    def spread(self) -> float:
        """By how much the readings of the archive differ."""
        return self._level.spread


def placed(config: ExperimentConfig, told: Told) -> tuple[Tokens, Array, Array]:
    """A campaign as the network has it: tokens, values (n,) and known noise variances (n,), in spreads."""
    level = next(o for o in config.observables if o.name == told.observable)
    tokens = Placer(config.parameters, told.parameters, level).tokens(told.columns)
    return tokens, (told.values - level.level) / level.spread, (told.sigmas / level.spread) ** 2


def unlike(known: Known, p: Parameter) -> str:
    """Why a parameter is not the one of the archive that has its name; "" where it is."""
    unit = getattr(p, "unit", "")
    if unit != known.unit:
        return other_unit(p.name, unit, known.unit)
    if are_words(p) != (known.words is not None):
        return f"{p.name} has {'words' if are_words(p) else 'numbers'} here, and it has learned the other"
    if known.words is not None:
        return ""  # Of words that were never tried it knows how they are spelled or described, and is less sure.
    ends = on_scale(known, [min(values_of(p)), max(values_of(p))])
    if ends[1] < known.least - SLACK or ends[0] > known.most + SLACK:
        return f"{p.name} is nowhere here where it was in what it has learned from"
    return ""


def values_of(p: Parameter) -> tuple[Any, ...]:
    """The values that a parameter may have, or the ends between which they are."""
    return p.values if isinstance(p, Categorical | Ordered) else (p.low, p.high)


def _own(p: Parameter, values: Sequence[Any] | Array) -> Array:
    """A parameter that the archive does not know, on a range of its own, (n, 1); (n, v) for words."""
    if are_words(p):
        return np.array([[str(v) == str(w) for w in values_of(p)] for v in values]) / math.sqrt(2.0)
    low, high = (float(v) for v in (min(values_of(p)), max(values_of(p))))
    x = np.asarray(values, dtype=float)
    if getattr(p, "scale", "") == "log":
        low, high, x = math.log(low), math.log(high), np.log(np.maximum(x, 1e-300))
    return np.asarray(((x - low) / ((high - low) or 1.0))[:, None])
