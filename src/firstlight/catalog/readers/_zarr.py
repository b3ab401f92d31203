"""Arrays in Zarr, version 2 or 3, in a directory or in a ZIP archive: described by what they say, never read."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._records import Variable
from . import _units
from ._contents import Contents, library, trouble
from ._names import identifier

_MOST = 10_000
"""Arrays that are described."""
_SAID = ("title", "institution", "source", "instrument", "history", "date", "license", "Conventions")


def read(path: Path, media_type: str) -> Contents:
    """Each array with its shape, type and unit; no value of one is read, so that no codec runs."""
    zarr = library("zarr", path)
    notes = list[str]()
    with warnings.catch_warnings(), trouble(path, "it is not a Zarr store", "check that it is complete"):
        # What the library finds unusual is no error: a store of a newer or an older kind.
        warnings.simplefilter("ignore")
        store = (
            zarr.storage.LocalStore(path, read_only=True) if path.is_dir() else zarr.storage.ZipStore(path, mode="r")
        )
        try:
            variables, said = _describe(zarr, zarr.open(store=store, mode="r"), notes)
        finally:
            store.close()
    return Contents(media_type=media_type, variables=tuple(variables), metadata=said, notes=tuple(notes))


def _describe(zarr: Any, top: Any, notes: list[str]) -> tuple[list[Variable], dict[str, str | float | int]]:
    said: dict[str, str | float | int] = {"zarr_format": top.metadata.zarr_format}
    attributes = dict(top.attrs)
    said |= {key: str(attributes[key])[:1000] for key in _SAID if isinstance(attributes.get(key), str | int | float)}
    if isinstance(top, zarr.Array):
        return [_variable("array", top.shape, attributes, notes)], said
    made = list[Variable]()
    for name, member in sorted(top.members(max_depth=None), key=lambda found: str(found[0])):
        if isinstance(member, zarr.Array):
            if len(made) == _MOST:
                notes.append(f"it has more than {_MOST:,} arrays: the others are left out")
                break
            made.append(_variable(name, member.shape, dict(member.attrs), notes))
    return made, said


def _variable(name: str, shape: tuple[int, ...], attributes: Mapping[str, object], notes: list[str]) -> Variable:
    written = str(attributes.get("units", attributes.get("unit", "")))
    unit = _units.normal(written)
    if unit is None:
        notes.append(f"the unit {written!r} of {name} is not one that is known: it is kept as it is")
    plain = ".".join(identifier(part) for part in name.split("/"))
    said = attributes.get("long_name", attributes.get("description", ""))
    return Variable(
        name=plain, unit=written if unit is None else unit, kind="array", shape=tuple(shape),
        called=name if plain != name else "", description=said if isinstance(said, str) else "",
    )  # fmt: skip
