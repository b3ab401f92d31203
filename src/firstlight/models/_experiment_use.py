"""What was learned from earlier campaigns, used with numpy alone: what to expect of a new one before any reading."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firstlight.core import CampaignSpec, Parameter

from . import _incontext_net
from ._embedding import Array
from ._experiment_net import Described, Tokens, described, kernel, matern, shapes
from ._experiment_place import Columns, Expecting, ExperimentConfig, unlike, values_of
from ._experiment_read import Known, Level
from ._incontext_use import InContextPrior, before, chain, too_far
from ._release import read_release
from ._weights import Weights

STRANGE = 1.0
"""Deviation, in spreads, that parameters which the archive does not know may add to a reading."""
BEYOND = 4.0
"""Deviation, in spreads, that a whole range outside what was tried may add; a word never tried adds a quarter."""
JITTER = 1e-6
KEPT = 4
"""Of so many sets of points that were asked for last it is known what was made of them."""


@dataclass
class ExperimentModel:
    """A model in use."""

    config: ExperimentConfig
    weights: Weights

    def covers(self, spec: CampaignSpec, observable: str) -> str:
        """Why it says nothing of an observable of a campaign, fit to show; "" where it does say something."""
        levels = {level.name: level for level in self.config.observables}
        if observable not in levels:
            return f"it has learned {', '.join(levels)}, and not {observable}"
        unit, theirs = _unit(spec, observable), levels[observable].unit
        if unit != theirs:
            return f"{observable} is in {unit or 'no unit'} here, and it has learned it in {theirs or 'no unit'}"
        known = {k.name: k for k in self.config.parameters}
        shared = [p for p in spec.parameters if p.name in known]
        if 2 * len(shared) < len(spec.parameters) or not shared:
            strange = ", ".join(p.name for p in spec.parameters if p.name not in known)
            return f"it knows too few of the parameters (not {strange})"
        why = next((why for p in shared if (why := unlike(known[p.name], p))), "")
        return why or (too_far(known, spec.parameters) if self.config.kind == "transformer" else "")

    def prior(self, spec: CampaignSpec, observable: str) -> ExperimentPrior | InContextPrior:
        """What it expects of an observable of a campaign. Raises ValueError where it does not cover that."""
        if why := self.covers(spec, observable):
            raise ValueError(f"the model has nothing to say of {spec.id or 'this campaign'}: {why}")
        return self.expecting(spec.parameters, next(o for o in self.config.observables if o.name == observable))

    def expecting(self, parameters: Sequence[Parameter], level: Level) -> ExperimentPrior | InContextPrior:
        """What it expects of an observable over some parameters, of which it knows some."""
        kind = ExperimentPrior if self.config.kind == "gp" else InContextPrior
        return kind(self.weights, self.config.parameters, parameters, level)

    def log_density(self, tokens: Tokens, y: Array, extra: Array) -> float:
        """The log density of the readings (n,) of one campaign, known noise variances (n,) included, in spreads."""
        if self.config.kind == "gp":
            at = described(self.weights, tokens, np)
            return gaussian(kernel(at, at, np) + np.diag(at.noise**2 + extra + JITTER), y - at.mean)
        return float(chain(self.weights, tokens, y, extra).sum())

    def unread(self, tokens: Tokens) -> Array:
        """What it expects at points (n,) before any reading, in spreads."""
        if self.config.kind == "gp":
            return np.asarray(described(self.weights, tokens, np).mean)
        return before(self.weights, tokens)


class ExperimentPrior(Expecting):
    """A Gaussian process before any reading, over the points of one campaign, in the unit of one observable."""

    def __init__(
        self, weights: Weights, known: Sequence[Known], parameters: Sequence[Parameter], level: Level
    ) -> None:  # fmt: skip
        super().__init__(weights, known, parameters, level)
        heads = described(self._weights, self._placer.tokens(_nowhere(parameters)), np)
        self._noise = float(heads.noise)
        self._last: tuple[tuple[Columns, tuple[Described, Array, Array]], ...] = ()

    @property
    def noise(self) -> float:
        """The deviation of one reading from the quantity."""
        return self._noise * self.spread

    def mean(self, columns: Columns) -> Array:
        """What is expected at points, (n,)."""
        return np.asarray(self.level + self.spread * self._placed(columns)[0].mean, dtype=float)

    def covariance(self, a: Columns, b: Columns) -> Array:
        """The covariance (n, m) of the quantity at some points with that at others; greater far from the archive."""
        (at_a, beyond_a, strange_a), (at_b, beyond_b, strange_b) = self._placed(a), self._placed(b)
        found = kernel(at_a, at_b, np)
        found = found + BEYOND**2 * beyond_a @ beyond_b.T
        if strange_a.shape[1]:
            apart = ((strange_a[:, None] - strange_b[None]) ** 2).sum(-1)
            found = found + STRANGE**2 * matern(4.0 * apart, np)
        return np.asarray(self.spread**2 * found, dtype=float)

    def variance(self, columns: Columns) -> Array:
        """The variance of the quantity at points, (n,)."""
        at, beyond, strange = self._placed(columns)
        found = at.signal**2 + at.level**2 + at.factor**2 * at.mean**2 + (at.modes**2).sum(1)
        further = BEYOND**2 * (beyond**2).sum(1) + STRANGE**2 * bool(strange.shape[1])
        return np.asarray(self.spread**2 * (found + further), dtype=float)

    def _placed(self, columns: Columns) -> tuple[Described, Array, Array]:
        """What is made of points, and how far they are outside what was tried: of the last few it is known."""
        for own, found in self._last:
            if own is columns:
                return found
        found = (described(self._weights, self._placer.tokens(columns), np), *self._placer.outside(columns))
        self._last = ((columns, found), *self._last[: KEPT - 1])
        return found


def gaussian(covariance: Array, residual: Array) -> float:
    """The log density of a centred Gaussian vector (n,)."""
    factor = np.linalg.cholesky(covariance)
    white = np.linalg.solve(factor, residual)
    total = 0.5 * white @ white + np.log(np.diag(factor)).sum() + 0.5 * len(residual) * math.log(2 * math.pi)
    return -float(total)


def load_experiment(folder: Path) -> ExperimentModel:
    """A released model. Raises ValueError where its files do not go together, OSError where there are none."""
    config, weights = read_release(folder, ExperimentConfig, "experiments")
    if config.width < 1 or {n: w.shape for n, w in weights.items()} != _shapes(config):
        raise ValueError(f"{folder}: weights and config.json do not go together")
    if not all(np.isfinite(w).all() for w in weights.values()):
        raise ValueError(f"{folder}: some weights are no finite numbers")
    kind = float if config.kind == "gp" else np.float32
    return ExperimentModel(config, {n: w.astype(kind) for n, w in weights.items()})


def _shapes(config: ExperimentConfig) -> dict[str, tuple[int, ...]]:
    return shapes(config.width) if config.kind == "gp" else _incontext_net.shapes(config.width, config.depth)


def _unit(spec: CampaignSpec, observable: str) -> str:
    said = [o.unit for o in spec.observables if o.name == observable]
    said += [o.unit for o in spec.goal.objectives if o.observable == observable]
    said += [c.unit for c in spec.goal.outcome_constraints if c.observable == observable]
    return next((unit for unit in said if unit), "")


def _nowhere(parameters: Sequence[Parameter]) -> dict[str, list[Any]]:
    return {p.name: [values_of(p)[0]] for p in parameters}
