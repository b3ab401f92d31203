"""Alloy clusters with labels by EMT: as a laboratory has them on its disks, and drawn evenly.

Clusters of five to eight atoms of two metals, as catalysts are made of. Labels are those of ASE's effective medium
theory: nothing has to be downloaded, and a label costs milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

WORKED_ON = (("Cu", "Au"), ("Ag", "Pd"), ("Pt", "Ni"), ("Cu", "Pd"), ("Ag", "Au"), ("Cu", "Ni"))
"""The alloys that the laboratory has worked on ..."""
NEW = (("Au", "Pd"), ("Cu", "Pt"), ("Ag", "Ni"))
"""... and those that it has not."""
KINDS = ("room", "hot", "search", "torn")
SIZES = (5, 6, 7, 8)
APART = 2.6
"""Of neighbours, about, in angstrom."""
Rng = np.random.Generator


def archive(seed: int, room: int = 50) -> tuple[list[Any], list[str]]:
    """All frames that the laboratory has kept, and of which run each is.

    Of each of its six alloys: a long run of molecular dynamics at 300 K (so many frames), which is what such a cluster
    works at, a short one at 900 K, all steps of two relaxations of a search for the best shape, and an atom that is
    torn off. Every run is of a cluster of its own, and its frames are as alike as frames of one run are.
    """
    rng, found, runs = np.random.default_rng([seed, 0]), list[Any](), list[str]()
    for metals in WORKED_ON:
        for kind, frames in (("room", room), ("hot", 10), ("search", 12), ("search", 12), ("torn", 7)):
            new = MAKE[kind](rng, metals, frames)
            found += new
            runs += [f"{''.join(metals)} {kind}"] * len(new)
    return found, runs


def wanted(seed: int, each: int, alloys: Sequence[Sequence[str]] = (*WORKED_ON, *NEW)) -> list[Any]:
    """What the potential is for: of every alloy, the new ones too, as many of every kind, each of a run of its own."""
    rng = np.random.default_rng([seed, 1])
    return [MAKE[kind](rng, metals, 1)[0] for metals in alloys for kind in KINDS for _ in range(each)]


# ------------------------------------------------------------------ how they are made


def labelled(atoms: Any) -> Any:
    """A copy with its energy and forces."""
    atoms = with_emt(atoms.copy())
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = import_module("ase.calculators.singlepoint").SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def with_emt(atoms: Any) -> Any:
    atoms.calc = import_module("ase.calculators.emt").EMT()
    return atoms


def piled(rng: Rng, metals: Sequence[str]) -> Any:
    """A cluster as a search begins with: atoms one after another in a place where they touch others."""
    places = [np.zeros(3)]
    size = int(rng.choice(SIZES))
    while len(places) < size:
        way = rng.standard_normal(3)
        place = places[int(rng.integers(len(places)))] + APART * rng.uniform(0.85, 1.15) * way / np.linalg.norm(way)
        if min(np.linalg.norm(place - other) for other in places) > 0.85 * APART:
            places.append(place)
    return import_module("ase").Atoms(rng.choice(metals, size), places)


def relaxed(atoms: Any, steps: int, keep: Callable[[Any], None] | None = None) -> Any:
    from ase.optimize import BFGS

    with BFGS(with_emt(atoms), logfile=None, maxstep=0.1) as search:
        if keep is not None:
            search.attach(lambda: keep(labelled(atoms)))
        search.run(fmax=0.05, steps=steps)
    return atoms


def moved(rng: Rng, metals: Sequence[str], frames: int, kelvin: float) -> list[Any]:
    """Frames of molecular dynamics, 40 fs apart, once it has warmed up."""
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
    from ase.units import fs

    atoms, found = relaxed(piled(rng, metals), 25), list[Any]()
    MaxwellBoltzmannDistribution(atoms, temperature_K=2 * kelvin, rng=rng)
    run = Langevin(atoms, 4 * fs, temperature_K=kelvin, friction=0.02 / fs, fixcm=False, rng=rng)
    run.run(25)  # type: ignore[no-untyped-call]
    while len(found) < frames:
        found.append(labelled(atoms))
        run.run(10)  # type: ignore[no-untyped-call]
    return found


def searched(rng: Rng, metals: Sequence[str], frames: int) -> list[Any]:
    """Steps of a relaxation: its first ones, or of a single one any of them."""
    found = list[Any]()
    relaxed(piled(rng, metals), max(frames, 12) - 1, found.append)
    return found[:frames] if frames > 1 else [found[int(rng.integers(len(found)))]]


def torn(rng: Rng, metals: Sequence[str], frames: int) -> list[Any]:
    """The outermost atom on its way out, up to 3 angstrom."""
    atoms = relaxed(piled(rng, metals), 25)
    middle = atoms.positions.mean(0)
    out = int(np.argmax(np.linalg.norm(atoms.positions - middle, axis=1)))
    way = (atoms.positions[out] - middle) / np.linalg.norm(atoms.positions[out] - middle)
    far = np.linspace(0.2, 3.0, frames) if frames > 1 else [float(rng.uniform(0.2, 3.0))]
    found = list[Any]()
    for away in far:
        other = atoms.copy()
        other.positions[out] += away * way
        found.append(labelled(other))
    return found


MAKE: dict[str, Callable[[Rng, Sequence[str], int], list[Any]]] = {
    "room": lambda rng, metals, frames: moved(rng, metals, frames, 300.0),
    "hot": lambda rng, metals, frames: moved(rng, metals, frames, 900.0),
    "search": searched,
    "torn": torn,
}


# ------------------------------------------------------------------ crystals, for train.py

EDGES = {"Cu": 3.61, "Ag": 4.09, "Au": 4.08, "Pd": 3.89, "Pt": 3.92, "Ni": 3.52}


def crystals(count: int, seed: int) -> list[Any]:
    """Eight atoms of a random alloy on a face-centred cubic lattice, displaced and strained as in a hot crystal."""
    from ase.build import bulk

    rng, found = np.random.default_rng(seed), list[Any]()
    for _ in range(count):
        symbols = rng.choice(tuple(EDGES), 8)
        atoms = bulk("Cu", a=float(np.mean([EDGES[s] for s in symbols])), cubic=True) * (2, 1, 1)
        atoms.symbols[:] = symbols
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * rng.standard_normal((3, 3))), scale_atoms=True)
        atoms.positions += 0.15 * rng.standard_normal((len(atoms), 3))
        found.append(labelled(atoms))
    return found
