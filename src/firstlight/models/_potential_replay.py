"""Crystals that a potential could do before it was trained on something else: to be asked again, or to be rehearsed.

Labels of the parent itself stand for the data it was trained on, which nobody has at hand. What is asked (PROBE) is
never rehearsed, or the answer would say nothing of the rest of what the parent knew.
"""

from __future__ import annotations

import numpy as np

from ._potential_data import Structure

Crystal = tuple[str, str, float]
"""Formula, structure as ase.build.bulk knows it, and edge of the cubic cell in angstrom."""

PROBE: tuple[Crystal, ...] = (
    ("MgO", "rocksalt", 4.21), ("CaO", "rocksalt", 4.81), ("GaAs", "zincblende", 5.65), ("TiN", "rocksalt", 4.24),
)  # fmt: skip
HEAVIEST = 89
"""Actinium: few data have what is beyond."""
NOBLE = (2, 10, 18, 36, 54, 86)
REHEARSED = 128
KINDS = (
    (2.0, 0.5 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]]), 0.5),
    (4.0 / np.sqrt(3.0), 0.5 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]]), 0.25),
    (2.0 / np.sqrt(3.0), np.eye(3), 0.5),
)
"""Rocksalt, zincblende and caesium chloride: the edge of the cube in distances of neighbours, the primitive cell in
edges, and where along its diagonals the second atom is."""
RATTLE, STRAIN = 0.1, 0.03
"""How far atoms are displaced (angstrom, a component) and cells are strained: as a hot crystal."""


def probe() -> list[Structure]:
    """What a potential is asked to say how much it forgot: always the same structures."""
    from ase.build import bulk  # noqa: PLC0415

    rng, found = np.random.default_rng(20), []
    for name, kind, edge in PROBE:
        perfect = bulk(name, kind, a=edge, cubic=True)
        for _ in range(2):
            strain = np.eye(3) + 0.02 * rng.standard_normal((3, 3))
            places = perfect.positions @ strain + 0.08 * rng.standard_normal((len(perfect), 3))
            numbers = np.asarray(perfect.numbers, np.int64)
            found.append(Structure(numbers, places, perfect.cell.array @ strain, (True, True, True)))
    return found


def rehearsal(seed: int) -> list[Structure]:
    """What it may rehearse while it is trained: crystals of any two elements, in cells of two atoms.

    Many small ones of everything tell more of what a potential knows than few that are large, and cost less.
    """
    from ase import Atoms  # noqa: PLC0415
    from ase.data import covalent_radii  # noqa: PLC0415

    rng, found = np.random.default_rng(seed), list[Structure]()
    known = [z for z in range(1, HEAVIEST + 1) if z not in NOBLE]
    asked = [set(Atoms(name).numbers.tolist()) for name, _, _ in PROBE]
    while len(found) < REHEARSED:
        pair = rng.choice(known, 2, replace=False)
        apart = covalent_radii[pair].sum() * rng.uniform(0.95, 1.15)
        edge, cell, second = KINDS[int(rng.integers(len(KINDS)))]
        if set(pair.tolist()) in asked:
            continue
        strained = edge * apart * cell @ (np.eye(3) + STRAIN * rng.standard_normal((3, 3)))
        places = np.array([np.zeros(3), np.full(3, second) @ strained]) + RATTLE * rng.standard_normal((2, 3))
        found.append(Structure(pair.astype(np.int64), places, strained, (True, True, True)))
    return found
