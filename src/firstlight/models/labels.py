"""Labels for structures: which to ask for next, and energies and forces by EMT, xTB or DFT, as a facility performs it.

    StepSpec(operation="firstlight.models.labels:label", settings={"method": "gfn2-xtb"}, outputs=("labelled.extxyz",))

with the structures as an input of the action called `structures`. What it leaves is what `Potential.read` reads.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from firstlight.core import Failed, Scalar

METHODS = ("emt", "gfn1-xtb", "gfn2-xtb", "pyscf:<functional>/<basis>")
EMT_ELEMENTS = ("Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au")
"""Those with which effective medium theory is of use; ASE's has a few light ones for tests besides."""
FEWEST = 32
"""Atoms in a periodic cell for xTB, which samples the zone at its centre only: the energy of NaCl in a cell of 8 is
79 meV an atom from what it converges to in 32."""
HARTREE, BOHR = 27.211386245988, 0.529177210903
"""In eV and angstrom (CODATA 2018)."""
OUTPUT = "labelled.extxyz"


Labeller = Callable[[Any], Any]
"""Gives an ase.Atoms its energy and forces (in a calculator that only holds them); raises Failed."""


def label(point: Mapping[str, Scalar], *, structures: str, method: str = "emt", most: int = 10_000) -> dict[str, float]:
    """Label every structure of an extended XYZ file, into `labelled.extxyz` in the current folder.

    `method` is one of METHODS ("pyscf:pbe/def2-svp"); a value of `point` called "method" takes its place, and one
    called "structure" is the number (from 1) of the only one to be labelled. Observables: `labelled` (structures),
    `atoms`, `seconds`, `largest-force` (eV/angstrom). Raises Failed: "invalid-input" for what the method cannot do,
    "did-not-converge" where it found no answer; each says which structure it was. Nothing is left then, for a file that
    lacks some would pass for a whole one.
    """
    from ase.io import write  # noqa: PLC0415

    began = time.perf_counter()
    labeller = labeller_of(str(point.get("method", method)))
    try:
        images = read_structures(Path(structures))
    except ValueError as error:
        raise Failed("invalid-input", f"structures: {error}") from error
    if not 0 < len(images) <= most:
        raise Failed("invalid-input", f"structures: {structures} holds {len(images)}: from 1 to {most} can be labelled")
    numbers = list(range(1, len(images) + 1))
    if "structure" in point:
        if point["structure"] not in numbers:
            raise Failed("invalid-input", f"structure: {point['structure']} is none of the {len(images)} there are")
        numbers = [int(point["structure"])]
    found = [_labelled(labeller, images[n - 1], f"structure {n} of {len(images)}") for n in numbers]
    write(Path(OUTPUT), found, format="extxyz")
    return {
        "labelled": float(len(found)),
        "atoms": float(sum(len(atoms) for atoms in found)),
        "largest-force": max(float(np.linalg.norm(a.get_forces(), axis=1).max()) for a in found),
        "seconds": time.perf_counter() - began,
    }


def read_structures(path: Path) -> list[Any]:
    """The structures of an extended XYZ file, an ase.Atoms each. Raises ValueError naming the file."""
    from ase.io import read  # noqa: PLC0415

    try:
        return list(read(path, index=":", format="extxyz"))
    except (OSError, ValueError, KeyError, IndexError, AssertionError) as error:
        raise ValueError(f"{path} cannot be read as extended XYZ: {error or type(error).__name__}") from error


def write_structures(path: Path, structures: Sequence[Any]) -> None:
    """Structures without labels, as extended XYZ."""
    from ase.io import write  # noqa: PLC0415

    bare = [atoms.copy() for atoms in structures]  # A copy has no calculator, and so no labels.
    for atoms in bare:
        atoms.info, atoms.arrays = {}, {name: atoms.arrays[name] for name in ("numbers", "positions")}
    write(path, bare, format="extxyz")


def next_labels(
    release: Path | str, pool: Sequence[Any], count: int, known: Sequence[Any] = ()
) -> list[int]:  # fmt: skip
    """The numbers (from 0) of `count` structures of a pool (ase.Atoms each) whose labels would teach a potential most.

    `release` is the folder of a released potential, of the newest at best, or the name of one that comes in a wheel
    ("chgnet-0.3.0"), which cannot say what it knows: what it chooses is spread over the pool. `known` are structures
    that have labels already, or were asked for and failed: they, and those next to them, are of no use.
    Raises ValueError where fewer than `count` structures of the pool are left.
    """
    from . import _potential_net as net  # noqa: PLC0415
    from ._potential_choice import choose  # noqa: PLC0415
    from ._potential_data import key, structure_of  # noqa: PLC0415

    network = net.from_wheel(release) if isinstance(release, str) else net.from_folder(release)[0]
    taken, left = {key(structure_of(atoms)) for atoms in known}, list[int]()
    for n, atoms in enumerate(pool):
        if (same := key(structure_of(atoms))) not in taken:
            taken.add(same)
            left.append(n)
    if count > len(left):
        raise ValueError(
            f"of {len(pool)} structures {len(left)} are neither labelled nor the same as another: "
            f"{count} cannot be chosen"
        )
    return [left[i] for i in choose(network, [pool[n] for n in left], count, known)]


def labeller_of(method: str) -> Labeller:
    """What labels by that method. Raises Failed where there is none, or its package is not installed."""
    name, _, level = method.partition(":")
    if name == "pyscf" and level.count("/") == 1:
        functional, basis = level.split("/")
        return lambda atoms: _pyscf(atoms, functional, basis)
    if method in ("gfn1-xtb", "gfn2-xtb"):
        return lambda atoms: _xtb(atoms, method)
    if method == "emt":
        return _emt
    near = get_close_matches(method, METHODS, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(METHODS)}"
    raise Failed("invalid-input", f"method: there is no {method!r}; {hint}")


def _labelled(labeller: Labeller, atoms: Any, which: str) -> Any:
    if len(atoms) == 0:
        raise Failed("invalid-input", f"{which} has no atoms")
    try:
        found = labeller(atoms.copy())
    except Failed as failed:
        raise Failed(failed.cause, f"{which} ({atoms.get_chemical_formula()}): {failed.message}") from failed
    results = found.calc.results
    if not np.isfinite(results["energy"]) or not np.isfinite(results["forces"]).all():
        raise Failed("invalid-output", f"{which} ({atoms.get_chemical_formula()}): energy or forces are no numbers")
    return found


def _with(atoms: Any, energy: float, forces: Any, stress: Any = None) -> Any:
    singlepoint = import_module("ase.calculators.singlepoint")
    labels = {"energy": float(energy), "forces": np.asarray(forces, float)}
    if stress is not None:
        labels["stress"] = np.asarray(stress, float)
    atoms.calc = singlepoint.SinglePointCalculator(atoms, **labels)
    return atoms


def _emt(atoms: Any) -> Any:
    if others := sorted(set(atoms.get_chemical_symbols()) - set(EMT_ELEMENTS)):
        raise Failed("invalid-input", f"EMT has no {', '.join(others)}; it has {', '.join(EMT_ELEMENTS)}")
    atoms.calc = import_module("ase.calculators.emt").EMT()
    stress = atoms.get_stress() if all(atoms.pbc) else None
    return _with(atoms, atoms.get_potential_energy(), atoms.get_forces(), stress)


def _xtb(atoms: Any, method: str) -> Any:
    from ase.calculators.calculator import CalculationFailed, InputError  # noqa: PLC0415

    try:
        from tblite.ase import TBLite  # noqa: PLC0415
    except ImportError as error:
        raise Failed("invalid-input", f"{method} wants the package tblite: pip install tblite") from error
    if any(atoms.pbc) and len(atoms) < FEWEST:
        raise Failed(
            "invalid-input",
            f"a periodic cell of {len(atoms)} atoms is too small for {method}, which samples the zone at its centre "
            f"only: repeat it to at least {FEWEST}",
        )
    atoms.calc = TBLite(method={"gfn1-xtb": "GFN1-xTB", "gfn2-xtb": "GFN2-xTB"}[method], verbosity=0)
    try:
        stress = atoms.get_stress() if all(atoms.pbc) else None
        return _with(atoms, atoms.get_potential_energy(), atoms.get_forces(), stress)
    except InputError as error:
        raise Failed("invalid-input", str(error)) from error
    except CalculationFailed as error:
        raise Failed("did-not-converge", str(error)) from error


def _pyscf(atoms: Any, functional: str, basis: str) -> Any:
    """A molecule by density functional theory, restricted or, where its electrons are odd, unrestricted; charge 0."""
    try:
        dft, gto = import_module("pyscf.dft"), import_module("pyscf.gto")
        no_basis = import_module("pyscf.lib.exceptions").BasisNotFoundError
    except ImportError as error:
        raise Failed("invalid-input", "DFT wants the package pyscf: pip install pyscf") from error
    if any(atoms.pbc):
        raise Failed("invalid-input", "DFT by pyscf is for molecules here, and this is periodic")
    places = list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist(), strict=True))
    try:
        with warnings.catch_warnings():
            # Where it lacks a basis it recommends another package, and then raises.
            warnings.filterwarnings("ignore", "Basis may be available", UserWarning)
            molecule = gto.M(atom=places, basis=basis, spin=int(atoms.numbers.sum()) % 2, unit="Angstrom", verbose=0)
        field = dft.RKS(molecule) if molecule.spin == 0 else dft.UKS(molecule)
        field.xc = functional
        energy = field.kernel()
    except (no_basis, KeyError, ValueError) as error:
        raise Failed("invalid-input", f"pyscf does not know {functional}/{basis}: {error}") from error
    if not field.converged:
        raise Failed("did-not-converge", f"{functional}/{basis} did not converge in {field.max_cycle} cycles")
    slope = field.nuc_grad_method().kernel()
    return _with(atoms, energy * HARTREE, -slope * HARTREE / BOHR)
