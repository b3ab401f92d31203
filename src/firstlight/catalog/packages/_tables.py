"""The tables of a dataset: which there are, what columns they have, and the one table as a file of its own."""

import csv
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from arro3.core import DataType, RecordBatchReader
from arro3.io import read_parquet

from .._records import Record, VariableKind
from ._package import Package, media_type, verify


class Column(NamedTuple):
    """A column of a file: its `place` (from 0), what it is `called` there, and its variable's `name`, without unit."""

    place: int
    called: str
    name: str
    kind: VariableKind
    unit: str
    description: str = ""


class Table(NamedTuple):
    """A file with columns, and the distinct values of the column that says which split a row belongs to."""

    path: str
    source: Path
    columns: tuple[Column, ...]
    splits: tuple[str, ...] = ()


SPLIT = "split"
_CSV, _PARQUET = "text/csv", "application/vnd.apache.parquet"


def tables(package: Package) -> list[Table]:
    """The Parquet and CSV files of a package, by their paths. Raises ValueError where one of them cannot be read."""
    known = {file.path: file for file in package.record.files}
    found = list[Table]()
    for path, source in sorted(package.files.items()):
        type = media_type(known.get(path, path))
        if type == _PARQUET or path.endswith(".parquet"):
            columns = _of_parquet(source, path, package.record)
        elif type == _CSV:
            columns = _of_csv(source, path, package.record)
        else:
            continue
        split = next((c for c in columns if c.name == SPLIT), None)
        found.append(Table(path, source, columns, _values(source, path, split) if split else ()))
    return found


def _of_parquet(source: Path, path: str, record: Record) -> tuple[Column, ...]:
    schema, columns = _parquet(source, path).schema, list[Column]()
    for place in range(len(schema)):
        field = schema.field(place)
        unit = (field.metadata or {}).get(b"unit", b"").decode()
        columns.append(_column(place, field.name, unit, _kind(field.type), record))
    return tuple(columns)


def _of_csv(source: Path, path: str, record: Record) -> tuple[Column, ...]:
    header = next(_csv_rows(source, path, headed=False), [])
    return tuple(_column(place, name, "", "", record) for place, name in enumerate(header))


def _csv_rows(source: Path, path: str, headed: bool = True) -> Iterator[list[str]]:
    try:
        with open(source, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            if headed:
                next(rows, None)
            yield from (row for row in rows if row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no table: {error}") from error


def _column(place: int, called: str, unit: str, kind: VariableKind, record: Record) -> Column:
    """A column as the record knows it, or as its header says it ("name [unit]")."""
    name, bracket, rest = called.rpartition(" [")
    plain, said = (name, rest[:-1]) if bracket and rest.endswith("]") else (called, "")
    for variable in record.variables:
        if variable.name in (called, plain) or (variable.called and variable.called in (called, plain)):
            return Column(
                place,
                called,
                variable.name,
                kind or variable.kind,
                unit or variable.unit or said,
                variable.description,
            )
    return Column(place, called, plain, kind, unit or said)


def _kind(type: DataType) -> VariableKind:
    tests: tuple[tuple[Callable[[DataType], bool], VariableKind], ...] = (
        (DataType.is_boolean, "bool"), (DataType.is_integer, "int64"), (DataType.is_floating, "float64"),
        (DataType.is_temporal, "time"), (DataType.is_nested, "array"),
    )  # fmt: skip
    return next((kind for test, kind in tests if test(type)), "string")


def _parquet(source: Path, path: str) -> RecordBatchReader:
    content = source.stat().st_size
    with open(source, "rb") as file:
        head = file.read(4)
        file.seek(max(0, content - 8))
        tail = file.read()
    if head != b"PAR1" or tail[4:] != b"PAR1" or int.from_bytes(tail[:4], "little") > content - 12:
        raise ValueError(f"{path} is no table: it is no Parquet file, or not a whole one")
    try:
        return read_parquet(source)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # What the library raises for a damaged file is no Exception, and has no public name.
        raise ValueError(f"{path} is no table: {error}") from error


def _values(source: Path, path: str, column: Column) -> tuple[str, ...]:
    found = dict[str, None]()
    for row in _rows(source, path, (column,)):
        if row[0] is not None:
            found[str(row[0])] = None
    return tuple(sorted(found))


def _rows(source: Path, path: str, columns: Sequence[Column]) -> Iterator[list[object]]:
    if not path.endswith(".parquet"):
        for row in _csv_rows(source, path):
            # A row that is short lacks its last values.
            yield [row[c.place] if c.place < len(row) else None for c in columns]
        return
    for batch in _parquet(source, path):
        values = [batch.column(c.place).to_pylist() for c in columns]
        yield from (list(row) for row in zip(*values, strict=True))


def _one(package: Package, kind: str) -> Table:
    found = [t for t in tables(package) if kind != "parquet" or t.path.endswith(".parquet")]
    # A table that is kept in two formats is one table: the typed one says more.
    chosen = [t for t in found if t.path.endswith(".parquet")] or found
    if len(chosen) != 1:
        said = "no table" if not chosen else f"{len(chosen)} tables ({', '.join(t.path for t in chosen)})"
        raise ValueError(f"{package.record.id} has {said}: one is needed to write it as {kind}")
    known = next((file for file in package.record.files if file.path == chosen[0].path), None)
    if known is not None:
        verify(known.path, chosen[0].source, known.digest, known.size)
    return chosen[0]


def as_parquet(package: Package, place: Path) -> None:
    """The table's Parquet file as it is stored, bit by bit. Raises ValueError where there is not one."""
    shutil.copyfile(_one(package, "parquet").source, place)


def as_csv(package: Package, place: Path) -> None:
    """The table as CSV: a header row of `name [unit]`, times in ISO 8601. Raises ValueError where there is not one."""
    table = _one(package, "csv")
    with open(place, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([f"{c.name} [{c.unit}]" if c.unit else c.name for c in table.columns])
        for row in _rows(table.source, table.path, table.columns):
            writer.writerow([_plain(value) for value in row])


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return value
