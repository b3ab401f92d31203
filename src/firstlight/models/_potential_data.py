"""Labelled structures: what is read of files, by what two are the same, and the energies that nobody can compare."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Group = Literal["composition", "file", "structure"]

ELEMENTS = 94
"""Those that CHGNet knows: hydrogen to plutonium."""
SUFFIXES = (".extxyz", ".xyz")
DIGITS = 4
"""Of positions and cells, in angstrom, to which two structures are compared."""
NOISE, SPREAD = 0.05, 1.0
"""Of energy shifts, eV an atom: what a model misses anyway, and by how much elements differ from their mean."""


@dataclass(frozen=True)
class Structure:
    """Atoms in space: atomic numbers (n,), positions (n, 3) and cell (3, 3) in angstrom, periodic along which axes."""

    numbers: npt.NDArray[np.int64]
    positions: Array
    cell: Array
    periodic: tuple[bool, bool, bool]

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class Labelled(Structure):
    """A structure with its energy (eV), forces (n, 3) in eV/angstrom and, if it has one, stress (3, 3) in
    eV/angstrom**3 (positive where it is pulled)."""

    energy: float
    forces: Array
    stress: Array | None = None


def structure_of(atoms: Any) -> Structure:
    """What of an ase.Atoms is a structure."""
    return Structure(*_geometry(atoms))


def labelled_of(atoms: Any) -> Labelled:
    """An ase.Atoms with its labels. Raises ValueError saying which are missing or are not finite."""
    found = dict(atoms.calc.results) if atoms.calc is not None else {}
    if missing := [name for name in ("energy", "forces") if name not in found]:
        raise ValueError(f"has no {' and no '.join(missing)}")
    stress = found.get("stress") if all(atoms.pbc) else None
    if stress is not None:
        stress = _matrix(np.asarray(stress, float))
    labels = (float(found["energy"]), np.asarray(found["forces"], float), stress)
    if not all(np.isfinite(label).all() for label in labels if label is not None):
        raise ValueError("has labels that are not finite numbers")
    return Labelled(*_geometry(atoms), *labels)


def _geometry(atoms: Any) -> tuple[npt.NDArray[np.int64], Array, Array, tuple[bool, bool, bool]]:
    a, b, c = (bool(axis) for axis in atoms.pbc)
    numbers = np.asarray(atoms.numbers, np.int64)
    if len(numbers) == 0:
        raise ValueError("has no atoms")
    if not ((numbers >= 1) & (numbers <= ELEMENTS)).all():
        raise ValueError(f"has elements beyond plutonium, or none at all ({atoms.get_chemical_formula()})")
    return numbers, np.asarray(atoms.positions, float), np.asarray(atoms.cell.array, float), (a, b, c)


def _matrix(stress: Array) -> Array:
    """A stress as (3, 3); it may come in Voigt's order (xx, yy, zz, yz, xz, xy)."""
    if stress.shape != (6,):
        return stress.reshape(3, 3)
    xx, yy, zz, yz, xz, xy = stress
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


# ------------------------------------------------------------------ files


def read_file(path: Path, name: str, unlabelled: Literal["refuse", "skip"]) -> list[tuple[Labelled, Any]]:
    """The labelled structures of an extended XYZ file, each with its ase.Atoms.

    Raises ValueError naming the file (as `name`) and the structure where something is wrong with one, or, unless
    `unlabelled` is "skip", where one has no labels.
    """
    from ase.io import read  # noqa: PLC0415

    try:
        images = read(path, index=":", format="extxyz")
    except (ValueError, KeyError, IndexError, OSError, AssertionError) as error:
        raise ValueError(f"{name} cannot be read as extended XYZ: {error or type(error).__name__}") from error
    found = []
    for number, atoms in enumerate(images, 1):
        if unlabelled == "skip" and (atoms.calc is None or not {"energy", "forces"} <= set(atoms.calc.results)):
            continue
        try:
            found.append((labelled_of(atoms), atoms))
        except ValueError as error:
            raise ValueError(f"{name}: structure {number} of {len(images)} {error}") from error
    return found


def key(structure: Structure) -> str:
    """The same for structures that differ by less than can be told from their files."""
    digest = hashlib.sha256(np.ascontiguousarray(structure.numbers).tobytes())
    digest.update(bytes(structure.periodic))
    for array in (structure.positions, structure.cell):
        # Adding nothing makes the zero of -0.00001 that of 0.00001.
        digest.update((np.round(array, DIGITS) + 0.0).tobytes())
    return digest.hexdigest()


def formula(atoms: Any) -> str:
    """The reduced formula: the same for Cu2Au2 and Cu4Au4."""
    return f"{atoms.symbols.formula.reduce()[0]:hill}"


# ------------------------------------------------------------------ energy references


def fit_shift(structures: Sequence[Structure], missing: Array) -> Array:
    """How much an atom of each element adds to the energy of a model, eV (ELEMENTS,), by least squares.

    `missing` (n,) is what the model lacks to the labels, in eV an atom. Every code and every functional has a zero of
    its own, and without this a model would have to learn it. Elements are drawn to their mean, as far apart as
    elements are, so that few structures of many elements still have an answer. Elements not seen get the mean.
    """
    shares = np.stack([np.bincount(s.numbers - 1, minlength=ELEMENTS) / len(s) for s in structures])
    seen = shares.any(0)
    known = shares[:, seen]
    mean = float(missing.mean())
    curvature = known.T @ known + (NOISE / SPREAD) ** 2 * np.eye(known.shape[1])
    shift = np.full(ELEMENTS, mean)
    shift[seen] = mean + np.linalg.solve(curvature, known.T @ (missing - mean))
    return shift


def shifted(structures: Sequence[Structure], shift: Array) -> Array:
    """What that is for these structures, eV an atom (n,)."""
    return np.array([shift[s.numbers - 1].mean() for s in structures])
