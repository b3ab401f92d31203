"""Parquet: columns that have types already, and in exports of Firstlight their units and roles, too."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from arro3.core import Array, DataType, RecordBatch, RecordBatchReader, Schema
from arro3.io import read_parquet

from .._records import Variable, VariableKind
from . import _names, _ours
from ._columns import Column, schema_of, type_of
from ._contents import CELLS, Contents, Unreadable, trouble

_MAGIC = b"PAR1"
_DO = "write it again: its footer comes last, and is missing where writing was cut short"


def read(path: Path, media_type: str) -> Contents:
    """The table of a Parquet file. Columns of lists and of other nested types are named, and left out of it."""
    _whole(path)
    notes = list[str]()
    with trouble(path, "it is damaged", _DO):
        schema = read_parquet(path).schema
    _names.many(len(schema.names), path)
    own = _ours.about(schema.metadata.get(b"firstlight", b""), schema.names)
    units = [_unit(schema, n) for n in range(len(schema.names))]
    labels = own.labels() if own else _labels(schema, units, path, notes)
    kinds = [_kind(schema.field(n).type) for n in range(len(labels))]
    kept = [n for n, kind in enumerate(kinds) if kind != "array"]
    columns = [Column(text=False) for _ in kept]
    for column, n in zip(columns, kept, strict=True):
        column.kind = kinds[n]
    rows = 0
    with trouble(path, "it is damaged", _DO):
        for batch in _batches(path, len(labels)):
            rows += batch.num_rows
            for column, n in zip(columns, kept, strict=True):
                _see(column, batch.column(n))
    roles = own.roles() if own else {}
    table = [c.variable(labels[n], roles.get(labels[n].name, "other")) for c, n in zip(columns, kept, strict=True)]
    typed = schema_of(table)

    def again() -> Iterator[RecordBatch]:
        for batch in _batches(path, len(labels)):
            arrays = [_cast(batch.column(n), v.kind) for n, v in zip(kept, table, strict=True)]
            yield RecordBatch.from_arrays(arrays, schema=typed)

    others = [
        Variable(name=labels[n].name, unit=labels[n].unit, called=labels[n].called, kind="array", shape=(rows,))
        for n, kind in enumerate(kinds) if kind == "array"
    ]  # fmt: skip
    notes += [
        f"column {other.name} holds lists or other nested values: it is left out of the table" for other in others
    ]
    return Contents(
        media_type=media_type, variables=(*table, *others), rows=rows, metadata=own.metadata() if own else {},
        batches=(lambda: RecordBatchReader.from_batches(typed, again())) if table else None, notes=tuple(notes),
    )  # fmt: skip


def _whole(path: Path) -> None:
    """Raises Unreadable where a file does not begin and end as the format asks, before a library would panic."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        begins = file.read(4) == _MAGIC
        file.seek(max(0, size - 8))
        end = file.read(8)
    if not begins:
        raise Unreadable(path, "it is not Parquet: it does not begin with PAR1", "check the file and its name")
    if size < 12 or end[4:] != _MAGIC or int.from_bytes(end[:4], "little") > size - 12:
        raise Unreadable(path, "it is truncated: it does not end with a footer and PAR1", _DO)


def _batches(path: Path, columns: int) -> Iterator[RecordBatch]:
    yield from read_parquet(path, batch_size=max(1, CELLS // max(1, columns)))


def _unit(schema: Schema, n: int) -> str:
    said = schema.field(n).metadata
    return (said.get(b"unit") or said.get(b"units") or b"").decode("utf-8", "replace")


def _labels(schema: Schema, units: list[str], path: Path, notes: list[str]) -> list[_names.Label]:
    if not any(units):
        return _names.labels(schema.names, path, notes)
    named = zip(schema.names, units, strict=True)
    return _names.unique([_names.label(name, n, notes, unit) for n, (name, unit) in enumerate(named, 1)], notes)


_KINDS: Sequence[tuple[VariableKind, Callable[[DataType], bool]]] = (
    ("int64", DataType.is_integer), ("float64", DataType.is_floating), ("float64", DataType.is_decimal),
    ("bool", DataType.is_boolean), ("time", DataType.is_timestamp), ("time", DataType.is_date),
    ("string", DataType.is_string), ("string", DataType.is_large_string), ("string", DataType.is_string_view),
    ("string", DataType.is_null), ("string", DataType.is_time), ("string", DataType.is_dictionary),
)  # fmt: skip


def _kind(type: DataType) -> VariableKind:
    return next((kind for kind, test in _KINDS if test(type)), "array")


def _cast(values: Array, kind: VariableKind) -> Array:
    return values if values.type.equals(type_of(kind)) else values.cast(type_of(kind))


def _see(column: Column, values: Array) -> None:
    """As `Column.see`, of values that have a type: whole numbers beyond 64 bits make a column of real ones."""
    cast = _cast(values, column.kind)
    if column.kind == "int64" and cast.null_count > values.null_count:
        column.kind, cast = "float64", _cast(values, "float64")
    column.missing += cast.null_count
    if column.kind not in ("int64", "float64"):
        return
    if cast.null_count:
        numbers = [v for v in cast.to_pylist() if v is not None and math.isfinite(v)]
        column.measure(min(numbers, default=math.inf), max(numbers, default=-math.inf))
        return
    column.see_numbers(cast.to_numpy())
