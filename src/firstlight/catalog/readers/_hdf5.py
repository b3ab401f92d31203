"""Data in HDF5, and in NeXus where it is that, through h5py: nothing is followed that leads out of the file."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from arro3.core import Array, RecordBatch, RecordBatchReader

from firstlight.core import Value

from .._records import Variable, VariableKind
from . import _elements, _names, _nexus, _units
from ._apart import apart
from ._columns import Column, schema_of, type_of
from ._contents import CELLS, Contents, Unreadable, library, trouble

_MOST = 10_000
"""Datasets that are described."""
_DEEPEST = 32
"""Groups within one another."""
_LONGEST = 10**9
"""Rows of a table: a dataset that claims more of them is described like an array."""
_LARGEST_CHUNK = 2**30
"""Bytes of a chunk, which is unpacked as a whole to read any of it."""
_WRONG = "it is not HDF5, or it is damaged"
_DAMAGED = "copy it again, and close files properly where they are written"


class Found(NamedTuple):
    """A dataset, or one field of it: where it stands, and its unit as it is written."""

    path: str
    dataset: Any
    field: str = ""

    @property
    def place(self) -> str:
        """Its path within the file, with its field."""
        return f"{self.path}/{self.field}" if self.field else self.path


class Described(Value, frozen=True):
    """What was found in a file: its columns with their places, its arrays, what it says; or why it is unreadable."""

    columns: tuple[Variable, ...] = ()
    places: tuple[tuple[str, str], ...] = ()
    rows: int = 0
    arrays: tuple[Variable, ...] = ()
    metadata: dict[str, str | float | int] = {}
    notes: tuple[str, ...] = ()
    wrong: str = ""


def read(path: Path, media_type: str) -> Contents:
    """One-dimensional datasets of one length are a table (those of the default plot of a NeXus file, else of the whole
    file where all agree, else the most that agree within one group); others are arrays, and single values metadata.

    All is read once in a process of its own: a damaged file may crash the library, but only there.
    """
    library("h5py", path)
    found = msgspec.json.decode(apart(__name__, path), type=Described)
    if found.wrong:
        raise Unreadable(path, found.wrong, _DAMAGED)
    table, places = found.columns, found.places
    return Contents(
        media_type=media_type, variables=(*table, *found.arrays), rows=found.rows, metadata=found.metadata,
        batches=(lambda: _batches(path, places, table)) if table else None, notes=found.notes,
        elements=_elements.of_formula(str(found.metadata.get("sample.chemical_formula", ""))),
    )  # fmt: skip


def describe(path: Path) -> Described:
    """What a file holds, after a look at every value of its table. Raises Unreadable, or does not come back."""
    notes = list[str]()
    h5py = library("h5py", path)
    with trouble(path, _WRONG, _DAMAGED), h5py.File(path, "r", locking=False) as file:
        found = list(_datasets(h5py, file, notes))
        plot = _nexus.plot(h5py, file)
        chosen = _chosen([f for f in found if _is_column(h5py, f, notes)], plot)
        labels = _labels(chosen, path, notes)
        measured = [_measured(h5py, one) for one in chosen]
        kept = {one.place for one in chosen}
        arrays = [_array(one, notes) for one in found if one.place not in kept and one.dataset.shape]
        said = _nexus.metadata(h5py, file, [f for f in found if not f.field and f.dataset.size == 1])
        roles = plot.roles() if plot else {}
        rows = int(chosen[0].dataset.shape[0]) if chosen else 0
    table = tuple(
        column.variable(label, roles.get(one.path, "other"))
        for one, label, column in zip(chosen, labels, measured, strict=True)
    )
    return Described(
        columns=table, places=tuple((one.path, one.field) for one in chosen), rows=rows,
        arrays=tuple(_distinct(arrays, table)), metadata=said, notes=tuple(notes),
    )  # fmt: skip


def main(path: Path) -> bytes:
    """What is found, as JSON for the process that asked."""
    try:
        return msgspec.json.encode(describe(path))
    except Unreadable as error:
        return msgspec.json.encode(Described(wrong=error.wrong))


def _datasets(h5py: Any, file: Any, notes: list[str]) -> Iterator[Found]:
    """Every dataset that lies in this file, once."""
    seen, count = set[int](), 0
    waiting = [("", file, 0)]
    while waiting:
        at, group, depth = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        for name in group:
            where, link = f"{at}/{name}", group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                notes.append(f"{where} leads to another file, {link.filename!r}: it is not followed")
            if not isinstance(link, h5py.HardLink):
                continue  # A soft link leads to what is found where it stands, or out of the file.
            item = group[name]
            if isinstance(item, h5py.Dataset):
                if count == _MOST:
                    notes.append(f"it has more than {_MOST:,} datasets: the others are left out")
                    return
                count += 1
                yield from _fields(where, item)
            elif isinstance(item, h5py.Group) and depth < _DEEPEST:
                waiting.append((where, item, depth + 1))
            elif isinstance(item, h5py.Group):
                notes.append(f"{where} lies deeper than {_DEEPEST} groups: it is left out")


def _fields(where: str, dataset: Any) -> Iterator[Found]:
    """A dataset or, where it is a table by itself, its columns."""
    names = dataset.dtype.names
    if names and len(dataset.shape) == 1:
        yield from (Found(where, dataset, name) for name in names)
    elif dataset.shape is not None:
        yield Found(where, dataset)


def _is_column(h5py: Any, one: Found, notes: list[str]) -> bool:
    """Whether values of a dataset may be read as a column."""
    dataset = one.dataset
    if len(dataset.shape) != 1 or dataset.size < 1 or _kind(h5py, _type(one)) == "array":
        return False
    outside = "another file" if dataset.is_virtual or dataset.external else ""
    if outside or dataset.size > _LONGEST or _chunk(dataset) > _LARGEST_CHUNK:
        notes.append(f"the values of {one.place} {f'lie in {outside}' if outside else 'are too many'}: it is not read")
        return False
    return True


def _chunk(dataset: Any) -> int:
    return int(np.prod(dataset.chunks, dtype=object)) * dataset.dtype.itemsize if dataset.chunks else 0


def _type(one: Found) -> Any:
    return one.dataset.dtype[one.field] if one.field else one.dataset.dtype


def _kind(h5py: Any, dtype: Any) -> VariableKind:
    if h5py.check_string_dtype(dtype) is not None:
        return "string"
    if h5py.check_enum_dtype(dtype) is not None and dtype.kind != "b":
        return "array"
    if dtype.kind in "iu" and not dtype.subdtype:
        return "int64" if dtype.kind == "i" or dtype.itemsize < 8 else "float64"
    return {"b": "bool", "f": "float64"}.get(dtype.kind, "array") if not dtype.subdtype else "array"  # type: ignore[return-value]


def _chosen(columns: Sequence[Found], plot: _nexus.Plot | None) -> list[Found]:
    """The columns of the one table that is read."""
    if plot is not None:
        lengths = [one.dataset.size for one in columns if one.path == plot.signal]
        drawn = [one for one in columns if one.path in plot.paths and lengths[:1] == [one.dataset.size]]
        if drawn:
            return sorted(drawn, key=lambda one: plot.paths.index(one.path))
    long = [one for one in columns if one.dataset.size > 1] or list(columns)
    if len({one.dataset.size for one in long}) <= 1:
        return long
    groups: dict[tuple[str, int], list[Found]] = {}
    for one in long:
        groups.setdefault((one.path if one.field else one.path.rpartition("/")[0], one.dataset.size), []).append(one)
    return max(groups.values(), key=lambda some: (len(some), some[0].dataset.size))


def _labels(chosen: Sequence[Found], path: Path, notes: list[str]) -> list[_names.Label]:
    """Each is called by the last part of its path, or by the whole of it where others end alike."""
    _names.many(len(chosen), path)
    last = [one.place.rpartition("/")[2] for one in chosen]
    made = list[_names.Label]()
    for n, one in enumerate(chosen):
        alone = last.count(last[n]) == 1
        name = last[n] if alone else one.place.strip("/").replace("/", ".")
        label = _names.label(name, n + 1, notes, _unit(one))
        made.append(label if label.called or one.place == f"/{name}" else label._replace(called=one.place))
    return _names.unique(made, notes)


def _unit(one: Found) -> str:
    return "" if one.field else _nexus.attribute(one.dataset, "units") or _nexus.attribute(one.dataset, "unit")


def _array(one: Found, notes: list[str]) -> Variable:
    written = _unit(one)
    unit = _units.normal(written)
    if unit is None:
        notes.append(f"the unit {written!r} of {one.place} is not one that is known: it is kept as it is")
    name = ".".join(_names.identifier(part) for part in one.place.strip("/").split("/"))
    return Variable(
        name=name, unit=written if unit is None else unit, kind="array", shape=tuple(one.dataset.shape),
        called=one.place, description=_nexus.attribute(one.dataset, "long_name"),
    )  # fmt: skip


def _distinct(arrays: Sequence[Variable], table: Sequence[Variable]) -> Iterator[Variable]:
    taken = {variable.name for variable in table}
    yield from (v for v in arrays if v.name not in taken)


def _values(dataset: Any, field: str, start: int, stop: int) -> Any:
    return dataset.fields(field)[start:stop] if field else dataset[start:stop]


def _measured(h5py: Any, one: Found) -> Column:
    """What the values of a column have in common, read a piece at a time."""
    column = Column(text=False)
    column.kind = _kind(h5py, _type(one))
    for start in range(0, one.dataset.size, CELLS):
        values = _values(one.dataset, one.field, start, start + CELLS)
        if column.kind in ("int64", "float64"):
            column.see_numbers(np.asarray(values))
        elif column.kind == "string":
            column.missing += sum(1 for value in values if not value)
    return column


def _batches(path: Path, places: Sequence[tuple[str, str]], table: Sequence[Variable]) -> RecordBatchReader:
    schema = schema_of(table)
    h5py = library("h5py", path)
    at_once = max(1, CELLS // len(places))

    def read() -> Iterator[RecordBatch]:
        with trouble(path, "it cannot be read any more", _DAMAGED), h5py.File(path, "r", locking=False) as file:
            for start in range(0, file[places[0][0]].size, at_once):
                parts = [_values(file[place], field, start, start + at_once) for place, field in places]
                arrays = [_arrow(values, v.kind) for values, v in zip(parts, table, strict=True)]
                yield RecordBatch.from_arrays(arrays, schema=schema)

    return RecordBatchReader.from_batches(schema, read())


def _arrow(values: Any, kind: VariableKind) -> Array:
    if kind in ("int64", "float64"):
        return Array.from_numpy(np.ascontiguousarray(values, kind))
    if kind == "bool":
        return Array([bool(value) for value in values], type=type_of(kind))
    texts = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]
    return Array([text or None for text in texts], type=type_of(kind))


if __name__ == "__main__":
    sys.stdout.buffer.write(main(Path(sys.argv[1])))
