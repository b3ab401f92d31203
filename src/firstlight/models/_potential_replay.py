"""Crystals that a potential could do before it was trained on something else: to be asked again, or to be rehearsed.

Labels of the parent itself stand for the data it was trained on, which nobody has at hand. What is asked (PROBE) is
never rehearsed (REPLAY), or the answer would say nothing of the rest of what the parent knew.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._potential_data import Structure

Crystal = tuple[str, str, float]
"""Formula, structure as ase.build.bulk knows it, and edge of the cubic cell in angstrom."""

PROBE: tuple[Crystal, ...] = (
    ("MgO", "rocksalt", 4.21), ("CaO", "rocksalt", 4.81), ("GaAs", "zincblende", 5.65), ("TiN", "rocksalt", 4.24),
)  # fmt: skip
REPLAY: tuple[Crystal, ...] = (
    ("NaCl", "rocksalt", 5.64), ("LiF", "rocksalt", 4.03), ("KBr", "rocksalt", 6.60), ("SrO", "rocksalt", 5.16),
    ("MnO", "rocksalt", 4.45), ("CdO", "rocksalt", 4.70), ("ScN", "rocksalt", 4.50), ("VN", "rocksalt", 4.14),
    ("ZrC", "rocksalt", 4.70), ("TiC", "rocksalt", 4.33), ("HfN", "rocksalt", 4.53), ("PbS", "rocksalt", 5.94),
    ("MgS", "rocksalt", 5.20), ("CaS", "rocksalt", 5.69), ("GaP", "zincblende", 5.45), ("AlAs", "zincblende", 5.66),
    ("InP", "zincblende", 5.87), ("GaN", "zincblende", 4.50), ("ZnS", "zincblende", 5.41), ("CdTe", "zincblende", 6.48),
    ("BN", "zincblende", 3.62), ("SiC", "zincblende", 4.36), ("Si", "diamond", 5.43), ("Ge", "diamond", 5.66),
)  # fmt: skip
RATTLE, STRAIN = 0.08, 0.02
"""How far atoms are displaced (angstrom, a component) and cells are strained: as a hot crystal."""


def rattled(crystals: Sequence[Crystal], times: int, seed: int) -> list[Structure]:
    """Each crystal in its cubic cell, as often, with atoms and cell displaced at random from the seed."""
    from ase.build import bulk  # noqa: PLC0415

    rng, found = np.random.default_rng(seed), []
    for name, kind, edge in crystals:
        perfect = bulk(name, kind, a=edge, cubic=True)
        for _ in range(times):
            strain = np.eye(3) + STRAIN * rng.standard_normal((3, 3))
            places = perfect.positions @ strain + RATTLE * rng.standard_normal((len(perfect), 3))
            numbers = np.asarray(perfect.numbers, np.int64)
            found.append(Structure(numbers, places, perfect.cell.array @ strain, (True, True, True)))
    return found


def probe() -> list[Structure]:
    """What a potential is asked to say how much it forgot: always the same structures."""
    return rattled(PROBE, 2, 20)


def rehearsal(seed: int) -> list[Structure]:
    """What it may rehearse while it is trained."""
    return rattled(REPLAY, 2, seed)
