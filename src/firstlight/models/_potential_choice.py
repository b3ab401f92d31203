"""Which structures to label next: those of whose forces a potential is least sure, and that are unlike each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._potential_data import Array, structure_of
from ._potential_familiar import doubt
from ._potential_train import BATCH, ask


def choose(network: Any, pool: Sequence[Any], count: int, labelled: Sequence[Any] = ()) -> list[int]:
    """The numbers of `count` structures of a pool (ase.Atoms each) whose labels would teach a potential most.

    `network` is the newest potential (`_potential_net.Network`): it chooses the better, the more it has learned;
    `labelled` are the structures that have labels already. Deterministic; it takes as long as one question to the
    potential for each structure. Raises ValueError where the pool is too small, or an atom of it has no other near.
    """
    if not 0 <= count <= len(pool):
        raise ValueError(f"{count} structures cannot be chosen of a pool of {len(pool)}")
    if not count:
        return []
    every, features = [structure_of(atoms) for atoms in (*pool, *labelled)], list[Array]()
    for first in range(0, len(every), BATCH):  # As graphs they take much more memory than as atoms.
        features += ask(network, [network.graph(structure) for structure in every[first : first + BATCH]]).features
    places = _places(features)
    return select(_doubts(network, features[: len(pool)]), places[: len(pool)], places[len(pool) :], count)


def _doubts(network: Any, features: Sequence[Array]) -> Array:
    """How unsure it is of each structure: how far its atoms are from those that it learned from, as it says to whoever
    uses it. What has come in a wheel does not know what it learned from, and is as unsure of all."""
    if not bool(np.isfinite(float(network.limit))):
        return np.ones(len(features))
    return np.array([doubt(network.apart(f)) for f in features])


def _places(features: Sequence[Array]) -> Array:
    """Where structures are, (n, 2 d), by the mean and the deviation of the features of their atoms."""
    places = np.stack([np.concatenate([f.mean(0), f.std(0)]) for f in features])
    return np.asarray(places - places.mean(0))


def select(doubts: Array, places: Array, known: Array, count: int) -> list[int]:
    """The numbers of `count` structures, from the doubt (n,) about each, where it is (n, d), and where those are that
    are labelled (m, d).

    One after another, the one of most doubt times the distance to the nearest that is labelled or chosen: doubt alone
    would choose many that are alike, and distance alone (Gonzalez, Theoretical Computer Science 38, 293, 1985) many of
    which enough is known. Where none is labelled, the first is in the middle of all.
    """
    apart = np.full(len(places), np.inf)
    for place in known:
        apart = np.minimum(apart, np.linalg.norm(places - place, axis=1))
    chosen = list[int]()
    while len(chosen) < count:
        middle = not chosen and not len(known)
        worth = -np.linalg.norm(places, axis=1) if middle else doubts * apart
        worth[chosen] = -np.inf
        chosen.append(int(np.argmax(worth)))
        apart = np.minimum(apart, np.linalg.norm(places - places[chosen[-1]], axis=1))
    return chosen
