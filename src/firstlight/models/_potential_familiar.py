"""How far atoms are from those that a potential learned from, and what error of forces goes with that.

The distance is Mahalanobis's in the features of atoms: nearly that of Bayesian linear regression on the last layer,
and free, since the features are there anyway. Such distances rank errors about as well as ensembles do, which cost
many times as much (Zhu and others, Journal of Chemical Physics 158, 164111, 2023).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SHRINK = 0.05
"""The part of the covariance that is replaced by that of uncorrelated features: few atoms fill few directions."""
ROOM = 1.2
"""How much further than all structures that are known to be of its kind a structure must be to be unfamiliar."""


def whitening(features: Array) -> tuple[Array, Array]:
    """Mean (d,) of features (n, d), and a matrix (d, d) by which they become uncorrelated and of unit variance."""
    mean = features.mean(0)
    centred = features - mean
    covariance = centred.T @ centred / len(features)
    d = covariance.shape[0]
    # A feature that never varied must not make every new value infinitely strange.
    floor = max(float(np.trace(covariance)) / d, 1e-12)
    covariance = (1.0 - SHRINK) * covariance + SHRINK * floor * np.eye(d)
    values, vectors = np.linalg.eigh(covariance)
    return mean, vectors / np.sqrt(values)


def distances(features: Array, mean: Array, whiten: Array) -> Array:
    """Of atoms, (n,), from features (n, d); about one for an atom like those that were learned from."""
    white = (features - mean) @ whiten
    return np.asarray(np.sqrt((white * white).mean(1)))


def doubt(apart: Array) -> float:
    """Of a whole structure, from the distances (n,) of its atoms."""
    return float(np.sqrt((apart**2).mean()))


def scale_of(apart: Array, errors: Array) -> float:
    """The root mean square error of a component of a force, per unit of distance (n,); `errors` are (n, 3)."""
    return float(np.sqrt((errors**2).mean() / np.maximum((apart**2).mean(), 1e-12)))


def limit_of(apart: Sequence[Array]) -> float:
    """The distance beyond which an atom is unfamiliar, from those in structures that are of its kind."""
    return ROOM * max(float(a.max()) for a in apart)
