"""Atoms in XYZ and extended XYZ, one frame after the other, through ASE."""

from collections.abc import Iterator, Mapping
from io import StringIO
from itertools import count, islice
from pathlib import Path
from typing import Any

from . import _columns, _elements, _names
from ._contents import Contents, Unreadable, library, trouble

_UNITS = {"energy": "eV", "free_energy": "eV", "volume": "angstrom^3"}
"""Of what the format itself defines, in the units of ASE."""
_OWN = ("frame", "atoms", "formula")


def read(path: Path, media_type: str) -> Contents:
    """One row a frame: its number of atoms, its formula (Hill), its energy and volume and what else it says of itself
    with one number or word."""
    names: dict[str, None] = dict.fromkeys(_OWN)
    symbols = set[str]()
    frames = 0
    for row in _rows(path, symbols):
        names.update(dict.fromkeys(row))
        _names.many(len(names), path)
        frames += 1
    if not frames:
        raise Unreadable(path, "it has no frame", "a frame begins with its number of atoms")
    notes = list[str]()
    told = [_names.label(name, n, notes, _UNITS.get(name, "")) for n, name in enumerate(names, start=1)]
    table = _columns.table(_names.unique(told, notes), lambda: _columns.records(list(names), _rows(path, set())), notes)
    return Contents(
        media_type=media_type, variables=table.variables, rows=table.rows, batches=table.batches,
        elements=_elements.elements(symbols), metadata={"frames": frames}, notes=tuple(notes),
    )  # fmt: skip


def _rows(path: Path, symbols: set[str]) -> Iterator[Mapping[str, object]]:
    """What each frame says of itself; the symbols of its atoms are put into the set."""
    extxyz = library("ase.io.extxyz", path)
    with path.open("rb") as file:
        if b"\0" in file.read(4096):
            raise Unreadable(path, "it has NUL bytes: it is not a text file", "check the file and its name")
    with path.open(encoding="utf-8") as file:
        line = 1
        for number in count(1):
            with trouble(path, f"line {line}, where frame {number} begins, is no text", "check the file and its name"):
                first = file.readline()
                atoms = first.strip()
                if not atoms:
                    return
                if not (atoms.isascii() and atoms.isdigit() and len(atoms) < 10):
                    raise Unreadable(
                        path, f"line {line} is to have the number of atoms of frame {number}, and is {atoms[:40]!r}",
                        "check that the frame before it is complete",
                    )  # fmt: skip
                lines = [first, *islice(file, int(atoms) + 1)]
            if len(lines) < int(atoms) + 2:
                raise Unreadable(
                    path, f"frame {number} promises {atoms} atoms on line {line} and has {max(0, len(lines) - 2)}",
                    "it was cut short: get it again",
                )  # fmt: skip
            with trouble(path, f"frame {number}, which begins on line {line}, cannot be read", "check its symbols"):
                frame = next(extxyz.read_xyz(StringIO("".join(lines)), index=0))
            line += len(lines)
            symbols.update(frame.get_chemical_symbols())
            yield _row(number, frame)


def _row(number: int, frame: Any) -> Mapping[str, object]:
    row: dict[str, object] = {"frame": number, "atoms": len(frame), "formula": frame.get_chemical_formula()}
    if frame.cell.rank == 3:
        row["volume"] = float(frame.get_volume())
    results = dict(frame.calc.results) if frame.calc else {}
    for name, value in {**frame.info, **results}.items():
        plain = value.item() if getattr(value, "ndim", None) == 0 else value
        if isinstance(plain, str | int | float | bool) and name not in _OWN:
            row[str(name)] = plain
    return row
