"""Backbones of proteins: read from PDB files as ProteinMPNN wants them, and an ideal helix to try things with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
GAP = "X"
"""A residue that the numbering has and the file lacks."""
ATOMS = ("N", "CA", "C", "O")
MOST = 5_000
"""Residues of a file, with those that it lacks: more is another kind of task, or a wrong number."""
_NAMES = {
    "ALA": "A", "CYS": "C", "ASP": "D", "GLU": "E", "PHE": "F", "GLY": "G", "HIS": "H", "ILE": "I", "LYS": "K",
    "LEU": "L", "MET": "M", "ASN": "N", "PRO": "P", "GLN": "Q", "ARG": "R", "SER": "S", "THR": "T", "VAL": "V",
    "TRP": "W", "TYR": "Y",
}  # fmt: skip
_THREE = {letter: name for name, letter in _NAMES.items()}
_RESIDUES = re.compile(r"(?P<chain>\w)(?P<first>-?\d+[A-Za-z]?)(?:-(?P<last>-?\d+[A-Za-z]?))?")

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Backbone:
    """Chains by their letters, in order: residues as one letter each, their numbers in the file, and where their
    atoms are, (residues, 4, 3) in angstrom (N, CA, C, O; not a number where the file lacks one)."""

    letters: Mapping[str, str]
    numbers: Mapping[str, tuple[str, ...]]
    places: Mapping[str, Array]

    @property
    def chains(self) -> list[str]:
        """Their letters."""
        return list(self.letters)

    def item(self) -> dict[str, Any]:
        """What ProteinMPNN takes for a structure."""
        told: dict[str, Any] = {
            "name": "backbone",
            "seq": "".join(self.letters.values()),
            "num_of_chains": len(self.letters),
        }
        for chain, text in self.letters.items():
            told[f"seq_chain_{chain}"] = text
            told[f"coords_chain_{chain}"] = {
                f"{atom}_chain_{chain}": self.places[chain][:, k].tolist() for k, atom in enumerate(ATOMS)
            }
        return told

    def chosen(self, chains: Sequence[str]) -> list[str]:
        """These chains in order, all for (). Raises ValueError where the file has none of that letter."""
        if strange := [c for c in chains if c not in self.letters]:
            raise ValueError(f"chains: there is no chain {strange[0]!r}; there are: {', '.join(self.letters)}")
        return sorted(set(chains)) if chains else self.chains

    def positions(self, residues: Sequence[str], chains: Sequence[str]) -> dict[str, list[int]]:
        """Where in each of `chains` the residues "A12" and "A20-25" are, counted from 1.

        Raises ValueError for what names no residue of those chains.
        """
        found: dict[str, set[int]] = {chain: set() for chain in chains}
        for told in residues:
            match = _RESIDUES.fullmatch(told)
            if match is None:
                raise ValueError(f"fixed: {told!r} names no residues: write A12, or A20-25 for several")
            chain, ends = match["chain"], (match["first"], match["last"] or match["first"])
            if chain not in found:
                raise ValueError(f"fixed: {told!r} is not in a chain to be designed ({', '.join(chains)})")
            numbers = self.numbers[chain]
            if lost := [end for end in ends if end not in numbers]:
                raise ValueError(f"fixed: chain {chain} has no residue {lost[0]}; it has {numbers[0]} to {numbers[-1]}")
            first, last = map(numbers.index, ends)
            if last < first:
                raise ValueError(f"fixed: {told!r} ends before it begins")
            found[chain].update(range(first + 1, last + 2))
        return {chain: sorted(places) for chain, places in found.items()}


def read_backbone(path: Path) -> Backbone:
    """The first model of a PDB file.

    Where an atom has several places, the first counts; selenomethionine is read as methionine; residues that the
    numbering leaves out are GAP. Waters, ligands and whatever else is no ATOM are not read.

    Raises ValueError saying which line or residue it is that cannot be read, OSError where there is no such file.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no PDB file: byte {error.start} is not ASCII") from error
    found: dict[str, dict[tuple[int, str], tuple[str, dict[str, list[float]]]]] = {}
    for at, line in enumerate(lines, 1):
        if line.startswith("ENDMDL"):
            break
        if line.startswith("ATOM  ") or (line.startswith("HETATM") and line[17:20] == "MSE"):
            chain, place, letter, atom, where = _atom(line, f"{path}, line {at}")
            found.setdefault(chain, {}).setdefault(place, (letter, {}))[1].setdefault(atom, where)
    if not found:
        raise ValueError(f"{path} has no line that begins with ATOM: is it a PDB file?")
    made = {chain: _filled(found[chain]) for chain in sorted(found)}
    if (size := sum(len(letters) for letters, _, _ in made.values())) > MOST:
        raise ValueError(f"{path} numbers {size} residues, gaps between them included: at most {MOST} can be read")
    backbone = Backbone(*({chain: told[k] for chain, told in made.items()} for k in range(3)))  # type: ignore[arg-type]
    if bare := next((c for c, x in backbone.places.items() if not np.isfinite(x).all((1, 2)).any()), None):
        raise ValueError(f"{path}: no residue of chain {bare} has all of the atoms {', '.join(ATOMS)}")
    return backbone


def _atom(line: str, at: str) -> tuple[str, tuple[int, str], str, str, list[float]]:
    """Chain, number of the residue, its letter, the atom's name, and its place; by the columns of the format."""
    name, chain = line[17:20].strip().replace("MSE", "MET"), line[21:22].strip()
    if not chain:
        raise ValueError(f"{at}: the residue has no chain letter (column 22): give it one")
    if name not in _NAMES:
        raise ValueError(
            f"{at}: residue {name} {chain}{line[22:27].strip()} is none of the 20 amino acids: take it out"
        )
    try:
        number = int(line[22:26])
        where = [float(line[i : i + 8]) for i in (30, 38, 46)]
    except ValueError as error:
        raise ValueError(
            f"{at}: the residue's number (columns 23 to 26) or its place (31 to 54) is no number"
        ) from error
    if not np.isfinite(where).all():
        raise ValueError(f"{at}: the place of the atom is not finite")
    return chain, (number, line[26:27].strip()), _NAMES[name], line[12:16].strip(), where


def _filled(
    residues: Mapping[tuple[int, str], tuple[str, dict[str, list[float]]]],
) -> tuple[str, tuple[str, ...], Array]:
    """One chain, with a GAP for every number that is left out."""
    ordered = sorted(residues)
    lacking = [float("nan")] * 3
    letters, numbers, places = [], [], []
    for k, (number, code) in enumerate(ordered):
        # Two with letters after their numbers may share one.
        gap = range(ordered[k - 1][0] + 1, number) if k else range(0)
        if len(gap) > MOST:
            raise ValueError(f"the numbers jump from {ordered[k - 1][0]} to {number}: at most {MOST} can be left out")
        letters += [GAP] * len(gap)
        numbers += [str(n) for n in gap]
        places += [[lacking] * len(ATOMS)] * len(gap)
        letter, atoms = residues[(number, code)]
        letters.append(letter)
        numbers.append(f"{number}{code}")
        places.append([atoms.get(atom, lacking) for atom in ATOMS])
    return "".join(letters), tuple(numbers), np.array(places, float)


# ------------------------------------------------------------------ a backbone to try things with

_BONDS = {"N": 1.329, "CA": 1.458, "C": 1.525, "O": 1.231}
"""Angstrom, to the atom before (of O, to C)."""
_ANGLES = {"N": 117.2, "CA": 121.7, "C": 111.0, "O": 120.5}
"""Degrees, between the atom, the one before and the one before that (Engh and Huber, Acta Cryst. A47, 392, 1991)."""
_PHI, _PSI, _OMEGA = -60.0, -47.0, 180.0
"""Degrees. With these bonds and angles a residue rises by 1.5 angstrom, and O is 3.0 from the N four residues on."""


def helix(letters: str, chain: str = "A") -> str:
    """A straight alpha helix with these residues, as the text of a PDB file with N, CA, C and O.

    Raises ValueError for what is no amino acid.
    """
    if strange := next((letter for letter in letters if letter not in AMINO_ACIDS), None):
        raise ValueError(f"{strange!r} is no amino acid: there are {AMINO_ACIDS}")
    turns = {"N": _PSI, "CA": _OMEGA, "C": _PHI}
    # Three places in front, from which the first atom follows; they are left out of the file.
    line: list[Array] = [np.array([0.0, 1.4, 0.0]), np.zeros(3), np.array([1.3, 0.0, 0.0])]
    rows, n = [], 0
    for number, letter in enumerate(letters, 1):
        for atom in ("N", "CA", "C"):
            line.append(_next(line[-3:], _BONDS[atom], _ANGLES[atom], turns[atom]))
        own = dict(zip(ATOMS, [*line[-3:], _next(line[-3:], _BONDS["O"], _ANGLES["O"], _PSI + 180.0)], strict=True))
        for atom, (x, y, z) in own.items():
            n += 1
            head = f"ATOM  {n:5d}  {atom:<3s} {_THREE[letter]} {chain}{number:4d}    "
            rows.append(f"{head}{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           {atom[0]}\n")
    return "".join([*rows, "END\n"])


def _next(before: Sequence[Array], bond: float, angle: float, torsion: float) -> Array:
    """Where the fourth of four atoms is, (3,), by its bond (angstrom), angle and torsion (degrees) to three."""
    a, b, c = before
    bend, turn = np.radians(angle), np.radians(torsion)
    along = (c - b) / np.linalg.norm(c - b)
    across = np.cross(b - a, along)
    across /= np.linalg.norm(across)
    frame = np.stack([along, np.cross(across, along), across], axis=1)
    local = bond * np.array([-np.cos(bend), np.sin(bend) * np.cos(turn), np.sin(bend) * np.sin(turn)])
    return np.asarray(c + frame @ local, float)
