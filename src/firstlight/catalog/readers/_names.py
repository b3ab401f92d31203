"""Headers as people write them: a name, with its unit beside it; and what each is called here."""
# ruff: noqa: RUF001 - the letters of units and quantities are meant

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from . import _units
from ._contents import MOST_COLUMNS, Unreadable
from ._vocabulary import QUANTITIES, Quantity


class Label(NamedTuple):
    """A column's name and unit, and what its header was where that was something else."""

    name: str
    unit: str = ""
    called: str = ""


_BRACKETS = re.compile(r"(?P<name>.*?\S)\s*\[(?P<unit>[^\[\]]*)\]")
_PARENTHESES = re.compile(r"(?P<name>.*?[^\s/])\s*\((?P<unit>[^()]*(?:\([^()]*\)[^()]*)*)\)")
_SLASH = re.compile(r"(?P<name>[^/]*?\S)(?P<space>\s*)/\s*(?P<unit>\S.*)")
_TAIL = re.compile(r"(?P<name>.+)_(?P<unit>[^_]+)")
_PLAIN = re.compile(r"[A-Za-z0-9_.\-]+")

_DEGREES = {"C": "degC", "F": "degF"}
"""What a temperature is in, where pint would read coulomb and farad."""
_GREEK = {"λ": "lambda", "ν": "nu", "θ": "theta", "ρ": "rho", "η": "eta", "κ": "kappa", "σ": "sigma", "α": "alpha",
          "β": "beta", "γ": "gamma", "δ": "delta", "Δ": "delta", "ε": "epsilon", "μ": "mu", "µ": "mu", "φ": "phi",
          "χ": "chi", "ω": "omega", "Ω": "omega", "τ": "tau", "π": "pi", "%": "percent"}  # fmt: skip


def labels(headers: Sequence[str], path: Path, notes: list[str]) -> list[Label]:
    """The headers of a table. Raises Unreadable where two are the same, or where there are too many."""
    many(len(headers), path)
    seen: dict[str, int] = {}
    for place, header in enumerate(headers, start=1):
        if header.strip() and header in seen:
            raise Unreadable(
                path, f"columns {seen[header]} and {place} are both called {header!r}", "give each column its own name"
            )
        seen[header] = place
    found = [label(header, place, notes) for place, header in enumerate(headers, start=1)]
    # A column without a name gives way to one that is called so.
    found = [
        one if header.strip() or one.name not in seen else one._replace(name=f"{one.name}_")
        for one, header in zip(found, headers, strict=True)
    ]
    return unique(found, notes)


def many(columns: int, path: Path) -> None:
    """Raises Unreadable where a table has too many columns."""
    if columns > MOST_COLUMNS:
        raise Unreadable(
            path, f"its table has {columns:,} columns, and {MOST_COLUMNS:,} is the most",
            "store a matrix as HDF5 or Zarr, or check the delimiter",
        )  # fmt: skip


def label(header: str, place: int, notes: list[str], unit: str = "") -> Label:
    """One header; `unit` is its unit where that is known from elsewhere. `place` is told where it is empty."""
    text = header.strip()
    if not text:
        notes.append(f"column {place} has no name: it is called column_{place}")
        return Label(f"column_{place}", called="")
    if unit:
        name, known, as_written = text, _units.normal(unit), unit
    else:
        name, known, as_written = split(text)
    if known is None:
        notes.append(f"the unit {as_written!r} of column {text!r} is not one that is known: it is kept as it is")
    told = as_written.strip() if known is None else known
    quantity = _quantity(name, told)
    if quantity and told in _DEGREES:
        told = _DEGREES[told]
    final = quantity.name if quantity else identifier(name) or f"column_{place}"
    beside = text.removeprefix(name).strip()[:1] in ("[", "(", "")
    if not beside or final not in (text, name) or told != as_written.strip():
        notes.append(f"column {text!r} is called {final}" + (f" and is in {told}" if told else ""))
    return Label(final, told, "" if final == text else text)


def split(header: str) -> tuple[str, str | None, str]:
    """A header's name, its unit (None where it is an unknown one) and the unit as it is written."""
    if match := _BRACKETS.fullmatch(header):
        return match["name"], _units.normal(match["unit"]), match["unit"]
    if match := _PARENTHESES.fullmatch(header):
        name, unit = match["name"], match["unit"].strip()
        if unit in _units.UNKNOWN:
            return name, None, unit
        known = _units.normal(unit)
        if known is not None and not _denied(name, known):
            return name, known, unit
    elif match := _SLASH.fullmatch(header):
        name, unit = match["name"], match["unit"].strip()
        bare = unit[1:-1] if unit.startswith("(") and unit.endswith(")") and ")" not in unit[1:-1] else unit
        known = _units.normal(bare)
        if known and (_quantity(name, known) or (match["space"] and not _denied(name, known))):
            return name, known, unit
        if bare in _units.UNKNOWN and match["space"]:
            return name, None, unit
    elif (match := _TAIL.fullmatch(header)) and len(match["name"]) > 1:
        name, known = match["name"], _units.normal(match["unit"])
        if known and _quantity(name, known):
            return name, known, match["unit"]
    return header, "", ""


def identifier(name: str) -> str:
    """The name in lower-case letters, digits and underscores where it has anything beyond [A-Za-z0-9_.-]."""
    if _PLAIN.fullmatch(name):
        return name
    for letter, word in _GREEK.items():
        name = name.replace(letter, f" {word} ")
    return re.sub(r"[^a-z0-9_.\-]+", "_", name.lower()).strip("_")


def unique(found: Sequence[Label], notes: list[str]) -> list[Label]:
    """The labels with names that differ: one that would get the name of another is numbered."""
    theirs, used = {label.name for label in found if not label.called}, set[str]()
    made = list[Label]()
    for one in found:
        name, number = one.name, 2
        while name in used or (one.called and name in theirs):
            name, number = f"{one.name}_{number}", number + 1
        if name != one.name:
            notes.append(f"column {(one.called or one.name)!r} is called {name}, as another one is called {one.name}")
        used.add(name)
        made.append(one._replace(name=name))
    return made


def _quantity(name: str, unit: str) -> Quantity | None:
    """What the vocabulary calls this, where that is certain: a name it knows, in a unit of the right dimension."""
    if not unit:
        return None
    for quantity in QUANTITIES:
        if _goes_by(quantity, name):
            told = _DEGREES.get(unit, unit) if quantity.name == "temperature" else unit
            if _units.same_dimension(told, quantity.unit):
                return quantity
    return None


def _denied(name: str, unit: str) -> bool:
    """Whether a quantity goes by this name whose unit is of another dimension: "temperature (min)"."""
    known = [quantity for quantity in QUANTITIES if _goes_by(quantity, name)]
    return bool(known) and _quantity(name, unit) is None and unit != ""


def _goes_by(quantity: Quantity, name: str) -> bool:
    """A single letter is a symbol and has its case; a word has none."""
    if len(name) == 1:
        return name in quantity.called
    plain = re.sub(r"\s+", "_", name.lower())
    return plain == quantity.name or plain in (called.lower() for called in quantity.called if len(called) > 1)
