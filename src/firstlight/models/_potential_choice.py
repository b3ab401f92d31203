"""Which structures to label next: those of which the potential is unsure, and no two of a kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ._potential_data import structure_of

Array = npt.NDArray[np.float64]

NOISE = 0.1
"""Variance of what a label says of an atom, where that of an atom of the pool is one."""


def choose(potential: Any, pool: Sequence[Any], count: int, labelled: Sequence[Any] = ()) -> list[int]:
    """The numbers of `count` structures of a pool (ase.Atoms each) whose labels would teach a potential most.

    `potential` is what `Potential.load` gives; `labelled` are the structures that have labels already. Deterministic.
    Raises ValueError where the pool is too small.
    """
    found = features(potential.network, [*pool, *labelled])
    return select(found[: len(pool)], found[len(pool) :], count)


def features(network: Any, structures: Sequence[Any]) -> list[Array]:
    """Of the atoms of each structure (an ase.Atoms), (n, d): each as long as the force on its atom.

    Errors of forces grow with forces. So these stand for the gradient of the loss by the last layer, which is the error
    times the features (Ash and others, ICLR 2020, arXiv 1906.03671), without anybody knowing the error.
    """
    from ._potential_train import ask  # noqa: PLC0415

    if not structures:
        return []
    told = ask(network, [network.graph(structure_of(atoms)) for atoms in structures])
    centre = np.concatenate(told.features).mean(0)
    return [_long(f, centre, forces) for f, forces in zip(told.features, told.forces, strict=True)]


def _long(f: Array, centre: Array, forces: Array) -> Array:
    """Features about a centre and a constant one, at unit length times the force."""
    away = np.hstack([f - centre, np.ones((len(f), 1))])
    return np.asarray(
        away / np.linalg.norm(away, axis=1, keepdims=True) * np.linalg.norm(forces, axis=1, keepdims=True)
    )


def select(pool: Sequence[Array], known: Sequence[Array], count: int) -> list[int]:
    """The numbers of structures to label, from the features of their atoms, (n, d) each, about zero.

    Atoms' energies are taken to be linear in their features, as in the network's last layer. Each choice is the
    structure of whose atoms least is known, given those that are known and those already chosen: the largest
    log-determinant of its posterior covariance, which a structure like one chosen before no longer has (Holzmueller and
    others, Journal of Machine Learning Research 24, 164, 2023: "MaxDet"). Raises ValueError.
    """
    if not 0 <= count <= len(pool):
        raise ValueError(f"{count} structures cannot be chosen of a pool of {len(pool)}")
    if not count:
        return []
    scale = float(np.sqrt(max((np.concatenate([*pool, *known]) ** 2).sum(1).mean(), 1e-12)))
    scaled = [f / scale for f in pool]
    covariance = np.eye(pool[0].shape[1])
    for f in known:
        covariance = _seen(covariance, f / scale)
    chosen = list[int]()
    while len(chosen) < count:
        gains = [-np.inf if i in chosen else _gain(covariance, f) for i, f in enumerate(scaled)]
        chosen.append(int(np.argmax(gains)))
        covariance = _seen(covariance, scaled[chosen[-1]])
    return chosen


def _gain(covariance: Array, f: Array) -> float:
    return float(np.linalg.slogdet(np.eye(len(f)) + f @ covariance @ f.T / NOISE)[1])


def _seen(covariance: Array, f: Array) -> Array:
    """The covariance of the weights once atoms with these features have been seen."""
    gain = covariance @ f.T @ np.linalg.inv(f @ covariance @ f.T + NOISE * np.eye(len(f)))
    return np.asarray(covariance - gain @ f @ covariance)
