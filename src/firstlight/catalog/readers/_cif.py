"""Crystals in CIF, through gemmi: cell, space group, formula, and the atoms as a table."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import _columns, _elements, _names
from ._contents import Contents, Unreadable, library, trouble
from ._names import Label

_PLACE = re.compile(r"data:(\d+)(?::\d+\(\d+\):)? ?")
"""Where the library says that something is wrong."""
_LARGEST = 512 * 2**20
_CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma", "volume")
_GROUPS = ("_space_group_name_H-M_alt", "_symmetry_space_group_name_H-M", "_symmetry.space_group_name_H-M",
           "_space_group.name_H-M_alt")  # fmt: skip
_FORMULAS = ("_chemical_formula_sum", "_chemical_formula.sum", "_chemical_formula_structural")
_SAID = {
    "title": ("_publ_section_title", "_struct.title"),
    "compound": ("_chemical_name_common", "_chemical_name_systematic"),
    "doi": ("_journal_paper_doi", "_citation_doi", "_citation.pdbx_database_id_DOI"),
    "database_code": ("_database_code_ICSD", "_database_code_depnum_ccdc_archive", "_cod_database_code", "_entry.id"),
    "instrument": ("_diffrn_measurement_device_type", "_diffrn_measurement_device"),
    "date": ("_audit_creation_date",),
}  # fmt: skip
_NUMBERS = {"temperature_K": ("_diffrn_ambient_temperature", "_cell_measurement_temperature"),
            "wavelength_angstrom": ("_diffrn_radiation_wavelength",)}  # fmt: skip
_UNITS = {"Cartn_x": "angstrom", "Cartn_y": "angstrom", "Cartn_z": "angstrom", "U_iso_or_equiv": "angstrom^2",
          "B_iso_or_equiv": "angstrom^2"}  # fmt: skip
"""Of the core dictionary of CIF (IUCr, cif_core.dic)."""


def read(path: Path, media_type: str) -> Contents:
    """The first block that has atoms, or else the first; values in brackets behind a number (its s.u.) are left out."""
    if path.stat().st_size > _LARGEST:
        raise Unreadable(path, f"it has more than {_LARGEST >> 20} MiB", "split it by its blocks")
    cif = library("gemmi", path).cif
    notes = list[str]()
    content = path.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError:
        content = content.decode("latin-1").encode()
        notes.append("it is not in UTF-8: it is read as Latin-1, so look at letters that are not English")
    with trouble(path, "it is not CIF", "check that it is complete, and its quotation marks"):
        # A path would be opened by the library, which also takes one that ends in ".gz" for an archive.
        try:
            blocks = list(cif.read_string(content))
        except (ValueError, RuntimeError) as error:
            raise ValueError(_PLACE.sub(r"line \1: ", str(error))) from error
    if not blocks:
        raise Unreadable(path, "it has no block", "a block begins with a line such as 'data_name'")
    with_atoms = [block for block in blocks if _atoms(block)]
    block = (with_atoms or blocks)[0]
    if len(blocks) > 1:
        notes.append(f"it has {len(blocks)} blocks, {len(with_atoms)} of them with atoms: {block.name!r} is read")
    said = _said(cif, block)
    table = _table(path, cif, block, notes)
    formula = str(said.get("formula", ""))
    return Contents(
        media_type=media_type, variables=table.variables if table else (), rows=table.rows if table else 0,
        batches=table.batches if table else None, metadata=said, notes=tuple(notes),
        elements=_elements.of_formula(formula) or _types(cif, block),
    )  # fmt: skip


def _atoms(block: Any) -> Any:
    loop = block.find_loop("_atom_site_label").get_loop() or block.find_loop("_atom_site_fract_x").get_loop()
    return loop or block.find_loop("_atom_site.id").get_loop()


def _said(cif: Any, block: Any) -> dict[str, str | float | int]:
    said: dict[str, str | float | int] = {"block": block.name}
    for name in _CELL:
        number = _number(cif, block.find_value(f"_cell_{name}") or block.find_value(f"_cell.{name}"))
        if number is not None:
            said[f"cell_{name}"] = number
    for name, tags in _NUMBERS.items():
        number = next((n for tag in tags if (n := _number(cif, block.find_value(tag))) is not None), None)
        if number is not None:
            said[name] = number
    for name, tags in {"space_group": _GROUPS, "formula": _FORMULAS, **_SAID}.items():
        text = next((t for tag in tags if (t := _text(cif, block.find_value(tag)))), "")
        if text:
            said[name] = text[:1000]
    return said


def _number(cif: Any, value: str | None) -> float | None:
    number = float(cif.as_number(value)) if value else math.nan
    return number if math.isfinite(number) else None


def _text(cif: Any, value: str | None) -> str:
    return "" if not value or cif.is_null(value) else " ".join(cif.as_string(value).split())


def _table(path: Path, cif: Any, block: Any, notes: list[str]) -> _columns.Table | None:
    loop = _atoms(block)
    if loop is None:
        notes.append("it has no atoms")
        return None
    tags = [tag.removeprefix("_atom_site").lstrip("_.") for tag in loop.tags]
    _names.many(len(tags), path)
    labels = _names.unique([Label(tag, _UNITS.get(tag, "")) for tag in tags], notes)
    width = loop.width()
    values = loop.values

    def column(n: int) -> list[object]:
        raw = values[n::width]
        there = [v for v in raw if not cif.is_null(v)]
        numbers = [float(cif.as_number(v)) for v in there]
        if there and all(map(math.isfinite, numbers)):
            whole = all(v.lstrip("+-").isdigit() for v in there)
            return [None if cif.is_null(v) else int(v) if whole else float(cif.as_number(v)) for v in raw]
        return [None if cif.is_null(v) else cif.as_string(v) for v in raw]

    def chunks() -> Iterator[_columns.Chunk]:
        yield [column(n) for n in range(width)]

    return _columns.table(labels, chunks, notes)


def _types(cif: Any, block: Any) -> tuple[str, ...]:
    """The elements of the atoms: of their types, or else of their labels."""
    for tag in ("_atom_site_type_symbol", "_atom_site.type_symbol", "_atom_site_label"):
        found = [cif.as_string(v) for v in block.find_values(tag)]
        if found:
            heads = ["".join(c for c in one[:2] if c.isalpha()).capitalize() for one in found]
            return _elements.elements(h if h in _elements.SYMBOLS else h[:1] for h in heads)
    return ()
