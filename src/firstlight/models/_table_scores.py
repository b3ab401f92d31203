"""How good predictions with uncertainty are, and what anybody would predict without a model of ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from ._table_encode import Array

LEVEL = 0.9
"""The intervals by which predictions are calibrated hold so much of what was not learned from."""
MOST_FOR_GP = 500


def crps(y: Array, mean: Array, deviation: Array) -> Array:
    """The continuous ranked probability score of Gaussian predictions (Gneiting and Raftery 2007), elementwise.

    It is in the unit of y: for a prediction without uncertainty it is the absolute error.
    """
    z = (y - mean) / deviation
    density = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return np.asarray(deviation * (z * (2.0 * ndtr(z) - 1.0) + 2.0 * density - 1.0 / math.sqrt(math.pi)))


def conformal(y: Array, mean: Array, deviation: Array) -> Array:
    """The factor (t,) for deviations with which intervals of 90 % hold: split conformal (Lei et al. 2018).

    Of n values that were not learned from, the ceil(0.9 (n + 1))-th smallest error in deviations is at the edge; below
    nine values it is the greatest, and no more is promised. One where a target has no value.
    """
    made = np.ones(y.shape[1])
    for j in range(y.shape[1]):
        off = np.sort(np.abs((y[:, j] - mean[:, j]) / deviation[:, j]))
        off = off[~np.isnan(off)]
        if len(off):
            made[j] = max(off[min(math.ceil(LEVEL * (len(off) + 1)), len(off)) - 1] / ndtri(0.5 + LEVEL / 2), 1e-3)
    return made


def scores(y: Array, mean: Array, deviation: Array, names: tuple[str, ...]) -> dict[str, float]:
    """Figures of predictions (n, t) of what came out (n, t).

    `crps`, `rmse`, `mae` and `nll` are the mean over targets, each in the deviation of what came out there (so they are
    the same for every model judged on the same test). `coverage_90` is the part that lies in intervals of 90 %, and
    `calibration_error` the mean gap between 19 quantiles and what lies below them. `rmse.<target>` is in its own unit.
    """
    spread = np.nanstd(y, 0)
    spread = np.where(spread > 0, spread, 1.0)
    z = (y - mean) / deviation
    known = ~np.isnan(y)
    below = ndtr(z[known])
    levels = np.arange(1, 20) / 20
    made = {
        "crps": float(np.mean(np.nanmean(crps(y, mean, deviation), 0) / spread)),
        "nll": float(np.nanmean(0.5 * z * z + np.log(deviation / spread) + 0.5 * math.log(2 * math.pi))),
        "rmse": float(np.mean(np.sqrt(np.nanmean((y - mean) ** 2, 0)) / spread)),
        "mae": float(np.mean(np.nanmean(np.abs(y - mean), 0) / spread)),
        "coverage_90": float(np.mean(np.abs(z[known]) <= ndtri(0.5 + LEVEL / 2))),
        "calibration_error": float(np.mean([abs(np.mean(below <= level) - level) for level in levels])),
    }
    off = np.sqrt(np.nanmean((y - mean) ** 2, 0))
    return made | {f"rmse.{name}": float(v) for name, v in zip(names, off, strict=True)} if len(names) > 1 else made


def baselines(
    x: Array, y: Array, asked: Array, names: tuple[str, ...], answers: Array
) -> Mapping[str, dict[str, float]]:
    """Scores on (asked, answers) of the mean, of ridge regression, of a random forest and of a Gaussian process.

    Each is learned from (x, y), target by target; its deviation is that of its errors on rows it left out (the
    process has its own). The process sees at most 500 rows. Raises ImportError without scikit-learn.
    """
    made: dict[str, tuple[list[Array], list[Array]]] = {}
    for j in range(y.shape[1]):
        known = ~np.isnan(y[:, j])
        for name, (mean, deviation) in _peers(x[known], y[known, j], asked).items():
            means, deviations = made.setdefault(name, ([], []))
            means.append(mean)
            deviations.append(np.maximum(deviation, 1e-9 + 1e-6 * y[known, j].std()))
    return {n: scores(answers, np.stack(m, 1), np.stack(d, 1), names) for n, (m, d) in made.items()}


def _peers(x: Array, y: Array, asked: Array) -> dict[str, tuple[Array, Array]]:
    from sklearn.ensemble import RandomForestRegressor  # noqa: PLC0415
    from sklearn.linear_model import RidgeCV  # noqa: PLC0415
    from sklearn.model_selection import cross_val_predict  # noqa: PLC0415

    made: dict[str, tuple[Array, Array]] = {"mean": (np.full(len(asked), y.mean()), np.full(len(asked), y.std()))}
    if len(y) < 5:
        return made
    ridge = RidgeCV(alphas=np.logspace(-3, 3, 13))
    off = y - cross_val_predict(ridge, x, y, cv=min(5, len(y)))
    made["ridge"] = (ridge.fit(x, y).predict(asked), np.full(len(asked), off.std()))
    forest = RandomForestRegressor(100, min_samples_leaf=2, random_state=0, n_jobs=1)
    off = y - cross_val_predict(forest, x, y, cv=min(5, len(y)))
    made["forest"] = (forest.fit(x, y).predict(asked), np.full(len(asked), off.std()))
    made["gp"] = _process(x, y, asked)
    return made


def _process(x: Array, y: Array, asked: Array) -> tuple[Array, Array]:
    import warnings  # noqa: PLC0415

    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
    from sklearn.gaussian_process import GaussianProcessRegressor  # noqa: PLC0415
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel  # noqa: PLC0415

    some = np.random.default_rng(0).permutation(len(y))[:MOST_FOR_GP]
    kernel: Any = ConstantKernel(1.0) * RBF(np.full(x.shape[1], 2.0), (1e-1, 1e3)) + WhiteKernel(0.1, (1e-5, 1e1))
    with warnings.catch_warnings():
        # A length-scale at its bound only means that a feature does not matter.
        warnings.simplefilter("ignore", ConvergenceWarning)
        process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0).fit(x[some], y[some])
        mean, deviation = process.predict(asked, return_std=True)
    return mean, deviation
