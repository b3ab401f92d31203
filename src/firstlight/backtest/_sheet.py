"""Tables of text as they lie on disk: cells with the line they stand on, and what was wrong with others."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from arro3.io import read_parquet

from firstlight import core

OWN = {"spec", "columns"}
"""What an export of ours says of itself."""
Cell = str | float | int | bool | None


class Fault(core.Value, frozen=True):
    """Something in a file that cannot be used: which file, which line of it (0: the file as a whole), and why."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


class Unreadable(ValueError):
    """A file that is no table at all; the message says why and what to do."""


class Sheet(core.Value, frozen=True):
    """Columns by name, and the line of every row in the file."""

    columns: dict[str, list[Cell]]
    lines: tuple[int, ...]
    faults: tuple[Fault, ...] = ()
    about: dict[str, Any] = {}
    """What an export of ours says of itself; empty for other files."""


def read_sheet(path: Path, names: Sequence[str] = ()) -> Sheet:
    """The table in a CSV, Parquet or exported JSON file. With `names`, a CSV file has no header. Raises Unreadable."""
    try:
        if path.suffix == ".parquet":
            return _parquet(path)
        return _json(path) if path.suffix == ".json" else _csv(path, names)
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error.strerror or error}") from error
    except (ValueError, csv.Error, msgspec.DecodeError) as error:
        raise Unreadable(f"it is not a table: {error}") from error


def number(cell: Cell) -> float | None:
    """The finite number in a cell, None where there is none."""
    if isinstance(cell, bool) or cell is None:
        return None
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def blank(cell: Cell) -> bool:
    """Whether there is nothing in it."""
    return cell is None or (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, float) and cell != cell)


def _csv(path: Path, names: Sequence[str]) -> Sheet:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header = [name.strip() for name in (names or next(reader, []))]
        if not header:
            raise ValueError("it is empty")
        if len(set(header)) < len(header):
            raise ValueError("two columns have the same name")
        rows, lines, faults = list[list[str]](), list[int](), list[Fault]()
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) < len(header) or (len(cells) > len(header) and not names):
                message = f"it has {len(cells)} values for {len(header)} columns"
                faults.append(Fault(file=str(path), line=reader.line_num, message=message))
                continue
            rows.append([cell.strip() for cell in cells[: len(header)]])
            lines.append(reader.line_num)
    columns: dict[str, list[Cell]] = {name: [row[j] for row in rows] for j, name in enumerate(header)}
    return Sheet(columns=columns, lines=tuple(lines), faults=tuple(faults))


def _parquet(path: Path) -> Sheet:
    table = read_parquet(path).read_all()
    own = dict(table.schema.metadata or {}).get(b"firstlight")
    columns: dict[str, list[Cell]] = {str(name): list(table.column(name).to_pylist()) for name in table.column_names}
    about = msgspec.json.decode(own) if own else {}
    lines = tuple(range(1, table.num_rows + 1))
    return Sheet(columns=columns, lines=lines, about=about if about.keys() >= OWN else {})


def _json(path: Path) -> Sheet:
    content = msgspec.json.decode(path.read_bytes())
    if not isinstance(content, dict) or not {"records", *OWN} <= content.keys():
        raise ValueError("it is not a dataset that firstlight exported")
    records, names = content.pop("records"), [column["name"] for column in content["columns"]]
    return Sheet(
        columns={name: [record.get(name) for record in records] for name in names},
        lines=tuple(range(1, len(records) + 1)), about=content,
    )  # fmt: skip
