"""A small surrogate for looking, not for choosing: which parameters matter, and how the objective goes with them.

Kernel ridge regression with one squared-exponential length scale a parameter, chosen by the closed-form
leave-one-out error. What it says is worth what it predicts: the R² given is that of five folds, in each of
which the scales are chosen anew without the fold.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstlight import core

from ._hypervolume import Floats

WEIGHTS = (0.0, 0.1, 0.5, 2.0, 8.0, 32.0)
"""Inverse squared length scales on the unit cube; 0 leaves the parameter out."""
RIDGES = (1e-5, 1e-3, 1e-2, 1e-1, 0.5)
MOST = 200
FOLDS = 5
GOOD_ENOUGH = 0.2
"""Below this cross-validated R² the surrogate says nothing."""
POOR = 0.5
"""Below this what it says is a hint."""


class Slice(core.Value, frozen=True):
    """Partial dependence on one parameter: its values, and the mean prediction there over the trials seen."""

    parameter: str
    values: tuple[core.Scalar, ...]
    means: tuple[float, ...]


class Influence(core.Value, frozen=True):
    """What the parameters do to one observable.

    `importance` is by how much R² falls in the held-out folds where a parameter's values are shuffled. `alone`, `total`
    and `pairs` are the Sobol indices of the surrogate over the whole space: shares of its variance that a parameter
    accounts for by itself, with all its interactions, and by its interaction with one other.
    Where `unknown` is not empty it says why nothing can be said.
    """

    observable: str
    r2: float = 0.0
    trials: int = 0
    importance: dict[str, float] = {}
    alone: dict[str, float] = {}
    total: dict[str, float] = {}
    pairs: dict[tuple[str, str], float] = {}
    slices: tuple[Slice, ...] = ()
    unknown: str = ""


def influence(spec: core.CampaignSpec, rows: Sequence[core.Row], observable: str) -> Influence:
    """Fit the trials that succeeded and measured this observable, at the points as run."""
    rows = [r for r in rows if not r.failure and observable in r.seen]
    need = max(12, 2 * (len(spec.parameters) + 1))
    if len(rows) < need:
        why = f"not enough data: {len(rows)} trials measured {observable}, and {need} are needed"
        return Influence(observable=observable, trials=len(rows), unknown=why)
    rng = np.random.default_rng(0)
    if len(rows) > MOST:
        rows = [rows[i] for i in np.sort(rng.permutation(len(rows))[:MOST])]
    x = encode(spec, [r.ran for r in rows])
    y = np.array([r.seen[observable].value for r in rows])
    spread = float(y.std())
    if spread <= 1e-12 * max(1.0, float(np.abs(y).max())):
        return Influence(observable=observable, trials=len(rows), unknown=f"{observable} is the same in all trials")
    y = (y - y.mean()) / spread
    r2, drops = _cross_validate(spec, x, y, rng)
    if r2 < GOOD_ENOUGH:
        why = f"a surrogate does not predict {observable} from these trials (cross-validated R² {max(r2, 0.0):.2f})"
        return Influence(observable=observable, r2=r2, trials=len(rows), unknown=why)
    importance = {p.name: float(d) for p, d in zip(spec.parameters, drops, strict=True)}
    seen = np.array([r.seen[observable].value for r in rows])
    fit = _fit(spec, x, y)
    slices = _slices(spec, fit, importance, float(seen.mean()), spread)
    names = [p.name for p in spec.parameters]
    alone, total, pairs = sobol(spec, fit)
    return Influence(
        observable=observable, r2=r2, trials=len(rows), importance=importance, slices=slices,
        alone=dict(zip(names, map(float, alone), strict=True)), total=dict(zip(names, map(float, total), strict=True)),
        pairs={(a, b): float(pairs[names.index(a), names.index(b)]) for a, b in itertools.combinations(names, 2)},
    )  # fmt: skip


def encode(spec: core.CampaignSpec, points: Sequence[core.Point]) -> Floats:
    """Points as (n, parameters) numbers: 0 to 1 by distance as felt; names as their place in the list."""
    columns = [[_place(p, point[p.name]) for point in points] for p in spec.parameters]
    return np.array(columns, dtype=float).T.reshape(len(points), len(spec.parameters))


def _place(parameter: core.Parameter, value: core.Scalar) -> float:
    match parameter:
        case core.Categorical(values=values):
            return float(values.index(str(value))) if value in values else -1.0
        case core.Ordered(values=values) if any(isinstance(v, str) for v in values):
            return values.index(value) / max(len(values) - 1, 1) if value in values else 0.0
        case core.Ordered(values=values):
            low, high = float(values[0]), float(values[-1])
        case _:
            low, high = float(parameter.low), float(parameter.high)
            if parameter.scale == "log" and float(value) > 0:
                low, high, value = np.log(low), np.log(high), float(np.log(float(value)))
    return (float(value) - low) / ((high - low) or 1.0)


def _distances(spec: core.CampaignSpec, a: Floats, b: Floats) -> Floats:
    """Squared distances (parameters, n, m), 0 or 1 between names."""
    found = (a.T[:, :, None] - b.T[:, None, :]) ** 2
    for j, parameter in enumerate(spec.parameters):
        if isinstance(parameter, core.Categorical):
            found[j] = found[j] > 0
    return found


def _left_out(exponent: Floats, ridge: float, y: Floats) -> float:
    inverse = np.linalg.inv(np.exp(-exponent) + ridge * np.eye(len(y)))
    return float(np.mean(((inverse @ y) / np.diag(inverse)) ** 2))


def _scales(distances: Floats, y: Floats) -> tuple[Floats, float]:
    """Weights and ridge by descent, one coordinate at a time, on the leave-one-out error."""
    count = len(distances)
    weights, ridge = np.full(count, 2.0 / max(1.0, count / 4)), 1e-2
    total = np.tensordot(weights, distances, 1)
    best = _left_out(total, ridge, y)
    for _ in range(2):
        for candidate in RIDGES:
            error = _left_out(total, candidate, y)
            if error < best:
                best, ridge = error, candidate
        for j in range(count):
            rest = total - weights[j] * distances[j]
            errors = [_left_out(rest + w * distances[j], ridge, y) for w in WEIGHTS]
            k = int(np.argmin(errors))
            if errors[k] < best:
                best, weights[j] = errors[k], WEIGHTS[k]
            total = rest + weights[j] * distances[j]
    return weights, ridge


class _Fit(core.Value, frozen=True):
    x: Floats
    weights: Floats
    alpha: NDArray[Any]


def _fit(spec: core.CampaignSpec, x: Floats, y: Floats) -> _Fit:
    distances = _distances(spec, x, x)
    weights, ridge = _scales(distances, y)
    kernel = np.exp(-np.tensordot(weights, distances, 1)) + ridge * np.eye(len(y))
    return _Fit(x=x, weights=weights, alpha=np.linalg.solve(kernel, y))


def _predict(spec: core.CampaignSpec, fit: _Fit, x: Floats) -> Floats:
    found: Floats = np.exp(-np.tensordot(fit.weights, _distances(spec, x, fit.x), 1)) @ fit.alpha
    return found


def _cross_validate(
    spec: core.CampaignSpec, x: Floats, y: Floats, rng: np.random.Generator
) -> tuple[float, NDArray[np.float64]]:
    fold = rng.permutation(len(y)) % FOLDS
    missed, shuffled = 0.0, np.zeros(x.shape[1])
    for k in range(FOLDS):
        out = fold == k
        mean = y[~out].mean()
        fit = _fit(spec, x[~out], y[~out] - mean)
        held, wanted = x[out], y[out] - mean
        missed += float(np.sum((wanted - _predict(spec, fit, held)) ** 2))
        for j in range(x.shape[1]):
            for _ in range(4):
                mixed = held.copy()
                mixed[:, j] = rng.permutation(x[:, j])[: len(held)]
                shuffled[j] += float(np.sum((wanted - _predict(spec, fit, mixed)) ** 2)) / 4
    return 1.0 - missed / len(y), np.maximum(shuffled - missed, 0.0) / len(y)


def sobol(spec: core.CampaignSpec, fit: _Fit) -> tuple[Floats, Floats, Floats]:
    """Sobol indices of the fit, all parameters uniform and independent: first-order (d,), total (d,), second (d, d).

    Exact, for the kernel is a product over the parameters: every variance is a quadratic form in the fit's
    coefficients, made of means over one parameter at a time.
    """
    d, n = len(spec.parameters), len(fit.alpha)
    ratios, fixed, free = np.empty((d, n, n)), np.ones((n, n)), np.ones((n, n))
    for j, parameter in enumerate(spec.parameters):
        apart = (_spread_out(parameter)[:, None] - fit.x[:, j]) ** 2
        kernel = np.exp(-fit.weights[j] * (np.sign(apart) if isinstance(parameter, core.Categorical) else apart))
        mean, second = kernel.mean(0), kernel.T @ kernel / len(kernel)
        ratios[j] = second / np.outer(mean, mean)
        fixed *= np.outer(mean, mean)
        free *= second

    def variance(second: Floats) -> float:
        return float(fit.alpha @ (second - fixed) @ fit.alpha)

    whole = max(variance(free), np.finfo(float).tiny)
    alone = np.array([variance(fixed * ratios[j]) for j in range(d)]) / whole
    total = np.array([1.0 - variance(free / ratios[j]) / whole for j in range(d)])
    pairs = np.zeros((d, d))
    for j, k in itertools.combinations(range(d), 2):
        pairs[j, k] = pairs[k, j] = variance(fixed * ratios[j] * ratios[k]) / whole - alone[j] - alone[k]
    # What is below zero is rounding.
    return np.clip(alone, 0, 1), np.clip(total, 0, 1), np.clip(pairs, 0, 1)


def _spread_out(parameter: core.Parameter) -> Floats:
    """The values of a parameter as the surrogate sees them, each as likely as the others."""
    match parameter:
        case core.Categorical(values=values):
            return np.arange(len(values), dtype=float)
        case core.Ordered(values=values):
            return np.array([_place(parameter, v) for v in values])
        case core.Integer(low=low, high=high, scale="linear") if high - low < 64:
            return np.array([_place(parameter, v) for v in range(low, high + 1)])
        case _:
            return (np.arange(64) + 0.5) / 64


def _slices(
    spec: core.CampaignSpec, fit: _Fit, importance: dict[str, float], mean: float, spread: float
) -> tuple[Slice, ...]:
    chosen = sorted(importance, key=lambda name: -importance[name])[:6]
    found = []
    for name in chosen:
        j = [p.name for p in spec.parameters].index(name)
        values = _grid(spec.parameters[j])
        means = []
        for value in values:
            moved = fit.x.copy()
            moved[:, j] = _place(spec.parameters[j], value)
            means.append(mean + spread * float(_predict(spec, fit, moved).mean()))
        found.append(Slice(parameter=name, values=values, means=tuple(means)))
    return tuple(found)


def _grid(parameter: core.Parameter) -> tuple[core.Scalar, ...]:
    match parameter:
        case core.Categorical(values=names):
            return names
        case core.Ordered(values=values):
            return values
        case core.Integer(low=low, high=high, scale="linear"):
            return tuple(sorted({round(v) for v in np.linspace(low, high, 25)}))
        case _ if parameter.scale == "log" and parameter.low > 0:
            return tuple(float(v) for v in np.geomspace(parameter.low, parameter.high, 25))
        case _:
            return tuple(float(v) for v in np.linspace(parameter.low, parameter.high, 25))
