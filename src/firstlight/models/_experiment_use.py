"""What was learned from earlier campaigns, used with numpy alone: what to expect of a new one before any reading."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firstlight.core import CampaignSpec, Categorical, Ordered, Parameter, Value

from ._embedding import WORD, Array, of_observable, of_parameter
from ._experiment_net import Described, Tokens, described, kernel, matern, shapes
from ._experiment_read import SLACK, Known, Level, Told, are_words, of_words, on_scale
from ._release import read_release
from ._weights import Weights

Columns = Mapping[str, Sequence[Any] | Array]
"""Points by parameter, (n,) values each."""
STRANGE = 1.0
"""Deviation, in spreads, that parameters which the archive does not know may add to a reading."""
BEYOND = 4.0
"""Deviation, in spreads, that a whole range outside what was tried may add; a word never tried adds a quarter."""
JITTER = 1e-6


class ExperimentConfig(Value, frozen=True):
    """What a model of experiments is besides its weights."""

    width: int
    parameters: tuple[Known, ...]
    observables: tuple[Level, ...]
    campaigns: int
    limits: tuple[str, ...] = ()


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
        return next((why for p in shared if (why := _unlike(known[p.name], p))), "")

    def prior(self, spec: CampaignSpec, observable: str) -> ExperimentPrior:
        """What it expects of an observable of a campaign. Raises ValueError where it does not cover that."""
        if why := self.covers(spec, observable):
            raise ValueError(f"the model has nothing to say of {spec.id or 'this campaign'}: {why}")
        return ExperimentPrior(self, spec.parameters, next(o for o in self.config.observables if o.name == observable))


class ExperimentPrior:
    """A Gaussian process before any reading, over the points of one campaign, in the unit of one observable."""

    def __init__(self, model: ExperimentModel, parameters: Sequence[Parameter], level: Level) -> None:
        self._weights, self._level = model.weights, level
        self._known = {k.name: k for k in model.config.parameters}
        self._parameters = tuple(parameters)
        self._placer = Placer(model.config.parameters, parameters, level)
        heads = described(self._weights, self._placer.tokens(_nowhere(parameters)), np)
        self._noise = float(heads.noise)

    @property
    def level(self) -> float:
        """What the archive read on average."""
        return self._level.level

    @property
    def spread(self) -> float:
        """By how much the readings of the archive differ."""
        return self._level.spread

    @property
    def noise(self) -> float:
        """The deviation of one reading from the quantity."""
        return self._noise * self.spread

    def mean(self, columns: Columns) -> Array:
        """What is expected at points, (n,)."""
        return np.asarray(self.level + self.spread * self._at(columns).mean, dtype=float)

    def covariance(self, a: Columns, b: Columns) -> Array:
        """The covariance (n, m) of the quantity at some points with that at others; greater far from the archive."""
        found = kernel(self._at(a), self._at(b), np)
        (beyond_a, strange_a), (beyond_b, strange_b) = self._placer.outside(a), self._placer.outside(b)
        found = found + BEYOND**2 * beyond_a @ beyond_b.T
        if strange_a.shape[1]:
            apart = ((strange_a[:, None] - strange_b[None]) ** 2).sum(-1)
            found = found + STRANGE**2 * matern(4.0 * apart, np)
        return np.asarray(self.spread**2 * found, dtype=float)

    def variance(self, columns: Columns) -> Array:
        """The variance of the quantity at points, (n,)."""
        at = self._at(columns)
        beyond, strange = self._placer.outside(columns)
        found = at.signal**2 + at.level**2 + at.factor**2 * at.mean**2 + BEYOND**2 * (beyond**2).sum(1)
        return np.asarray(self.spread**2 * (found + STRANGE**2 * bool(strange.shape[1])), dtype=float)

    def _at(self, columns: Columns) -> Described:
        return described(self._weights, self._placer.tokens(columns), np)


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
            new = sorted({str(v) for v in _values(p)} - set(k.words))
            beyond.append(np.array([[str(v) == w for w in new] for v in columns[p.name]]).reshape(n, len(new)) / 4.0)
        for p in self.strange:
            strange.append(_own(p, columns[p.name]))
        return np.hstack(beyond), np.hstack(strange)


def placed(config: ExperimentConfig, told: Told) -> tuple[Tokens, Array, Array]:
    """A campaign as the network has it: tokens, values (n,) and known noise variances (n,), in spreads."""
    level = next(o for o in config.observables if o.name == told.observable)
    tokens = Placer(config.parameters, told.parameters, level).tokens(told.columns)
    return tokens, (told.values - level.level) / level.spread, (told.sigmas / level.spread) ** 2


def log_density(weights: Weights, tokens: Tokens, y: Array, extra: Array) -> float:
    """The log density of the readings (n,) of one campaign, known noise variances (n,) included, in spreads."""
    at = described(weights, tokens, np)
    return gaussian(kernel(at, at, np) + np.diag(at.noise**2 + extra + JITTER), y - at.mean)


def gaussian(covariance: Array, residual: Array) -> float:
    """The log density of a centred Gaussian vector (n,)."""
    factor = np.linalg.cholesky(covariance)
    white = np.linalg.solve(factor, residual)
    total = 0.5 * white @ white + np.log(np.diag(factor)).sum() + 0.5 * len(residual) * math.log(2 * math.pi)
    return -float(total)


def load_experiment(folder: Path) -> ExperimentModel:
    """A released model. Raises ValueError where its files do not go together, OSError where there are none."""
    config, weights = read_release(folder, ExperimentConfig, "experiments")
    if config.width < 1 or {n: w.shape for n, w in weights.items()} != shapes(config.width):
        raise ValueError(f"{folder}: weights and config.json do not go together")
    if not all(np.isfinite(w).all() for w in weights.values()):
        raise ValueError(f"{folder}: some weights are no finite numbers")
    return ExperimentModel(config, {n: w.astype(float) for n, w in weights.items()})


# ------------------------------------------------------------------ one parameter


def _unit(spec: CampaignSpec, observable: str) -> str:
    said = [o.unit for o in spec.observables if o.name == observable]
    said += [o.unit for o in spec.goal.objectives if o.observable == observable]
    said += [c.unit for c in spec.goal.outcome_constraints if c.observable == observable]
    return next((unit for unit in said if unit), "")


def _unlike(known: Known, p: Parameter) -> str:
    """Why a parameter is not the one of the archive that has its name; "" where it is."""
    unit = getattr(p, "unit", "")
    if unit != known.unit:
        return f"{p.name} is in {unit or 'no unit'} here, and it has learned it in {known.unit or 'no unit'}"
    if are_words(p) != (known.words is not None):
        return f"{p.name} has {'words' if are_words(p) else 'numbers'} here, and it has learned the other"
    if known.words is not None:
        return ""  # Of words that were never tried it knows how they are spelled or described, and is less sure.
    ends = on_scale(known, [min(_values(p)), max(_values(p))])
    if ends[1] < known.least - SLACK or ends[0] > known.most + SLACK:
        return f"{p.name} is nowhere here where it was in what it has learned from"
    return ""


def _values(p: Parameter) -> tuple[Any, ...]:
    return p.values if isinstance(p, Categorical | Ordered) else (p.low, p.high)


def _own(p: Parameter, values: Sequence[Any] | Array) -> Array:
    """A parameter that the archive does not know, on a range of its own, (n, 1); (n, v) for words."""
    if are_words(p):
        return np.array([[str(v) == str(w) for w in _values(p)] for v in values]) / math.sqrt(2.0)
    low, high = (float(v) for v in (min(_values(p)), max(_values(p))))
    x = np.asarray(values, dtype=float)
    if getattr(p, "scale", "") == "log":
        low, high, x = math.log(low), math.log(high), np.log(np.maximum(x, 1e-300))
    return np.asarray(((x - low) / ((high - low) or 1.0))[:, None])


def _nowhere(parameters: Sequence[Parameter]) -> dict[str, list[Any]]:
    return {p.name: [_values(p)[0]] for p in parameters}
