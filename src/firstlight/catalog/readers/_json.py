"""Tables in JSON: a list of records, columns with data, lists by name, or one record a line."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec

from . import _columns, _names, _ours
from ._contents import Contents, Unreadable, short
from ._media import JSON, LINES

_LARGEST = 512 * 2**20
"""Bytes of a JSON document that is not one record a line: it can only be read whole."""
_LONGEST = 16 * 2**20
"""Bytes of one line."""
_SHAPES = "write a list of records, {columns, data}, lists of one length by name, or one record a line"

Record = dict[str, object]
_record = msgspec.json.Decoder(Record)


def read(path: Path, media_type: str) -> Contents:
    """The table of a JSON file. Raises Unreadable. What has another shape has no table, and a note."""
    if path.stat().st_size == 0:
        raise Unreadable(path, "it is empty", "export it again")
    if media_type == LINES or _lines_of_records(path):
        return _lined(path)
    if path.stat().st_size > _LARGEST:
        raise Unreadable(path, f"it has more than {_LARGEST >> 20} MiB in one document", "write one record a line")
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        whole: list[Any] | dict[str, Any] | str | float | bool | None = msgspec.json.decode(content)
    except RecursionError as error:
        raise Unreadable(path, "it is nested too deeply", "write a list of flat records") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable(path, f"it is not JSON: {_where(content, error)}", "check that it is complete") from error
    fields: dict[str, Any] = whole if isinstance(whole, dict) else {}
    match whole:
        case {"records": [*records]} if all(isinstance(r, dict) for r in records):
            return _records(path, records, {k: v for k, v in fields.items() if k != "records"})
        case [*records] if records and all(isinstance(r, dict) for r in records):
            return _records(path, records, {})
        case {"columns": [*columns], "data": [*rows]} if all(isinstance(c, str) for c in columns):
            return _split(path, columns, rows, {k: v for k, v in fields.items() if k not in ("columns", "data")})
    if fields and all(isinstance(v, list) for v in fields.values()):
        return _by_name(path, fields)
    return Contents(media_type=JSON, metadata=_plain(fields), notes=(f"its JSON has no table: {_SHAPES}",))


def _records(path: Path, records: list[Record], about: Mapping[str, object]) -> Contents:
    """Records, of which each may lack some columns."""
    names = list(dict.fromkeys(chain.from_iterable(records)))
    notes = list[str]()
    # An export without rows has its columns, too.
    own = _ours.about(about, names or _named(about))
    units = about.get("units")
    table = _table(
        path, names if not own else [c.name for c in own.columns], lambda: iter(records), notes,
        units if isinstance(units, dict) else {}, own,
    )  # fmt: skip
    said = own.metadata() if own else _plain(about)
    return _contents(JSON, table, said, notes)


def _named(about: Mapping[str, object]) -> list[str]:
    columns = about.get("columns")
    return [str(c["name"]) for c in columns if isinstance(c, dict) and "name" in c] if isinstance(columns, list) else []


def _split(path: Path, columns: list[str], rows: list[object], about: Mapping[str, object]) -> Contents:
    """As pandas writes it with orient="split"."""
    made = list[Sequence[object]]()
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, list) or len(row) != len(columns):
            count = len(row) if isinstance(row, list) else 1
            raise Unreadable(path, f"row {number} of its data has {count} values for {len(columns)} columns", _SHAPES)
        made.append(row)
    notes = list[str]()
    labels = _names.labels(columns, path, notes)
    table = _columns.table(labels, lambda: _columns.chunked(iter(made), len(columns)), notes)
    return _contents(JSON, table, _plain(about), notes)


def _by_name(path: Path, lists: Mapping[str, list[object]]) -> Contents:
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in islice(lengths.items(), 5))
        raise Unreadable(path, f"its lists differ in length: {told}", "give every column a value or null for every row")
    notes = list[str]()
    labels = _names.labels(list(lists), path, notes)
    table = _columns.table(labels, lambda: iter([list(lists.values())]), notes)
    return _contents(JSON, table, {}, notes)


def _lined(path: Path) -> Contents:
    """One record a line, never read whole."""
    names: dict[str, None] = {}
    for record in _each_line(path):
        names.update(dict.fromkeys(record))
        _names.many(len(names), path)
    if not names:
        raise Unreadable(path, "it has no record", "export it again")
    notes = list[str]()
    return _contents(LINES, _table(path, list(names), lambda: _each_line(path), notes, {}, None), {}, notes)


def _each_line(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b""), start=1):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not text.strip():
                continue
            if len(line) >= _LONGEST:
                raise Unreadable(path, f"line {number} has more than {_LONGEST >> 20} MiB", "write one record a line")
            try:
                yield _record.decode(text)
            except RecursionError as error:
                raise Unreadable(path, f"line {number} is nested too deeply", "write flat records") from error
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise Unreadable(
                    path, f"line {number} is not a JSON record: {short(error)}", "mend the line"
                ) from error


def _lines_of_records(path: Path) -> bool:
    """Whether the first two lines are records by themselves."""
    with path.open("rb") as file:
        lines = [file.readline(_LONGEST).removeprefix(b"\xef\xbb\xbf"), file.readline(_LONGEST)]
    try:
        return all(isinstance(_record.decode(line), dict) for line in lines)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def _table(
    path: Path, names: list[str], records: Callable[[], Iterator[Record]], notes: list[str], units: Record,
    own: _ours.About | None,
) -> _columns.Table:  # fmt: skip
    _names.many(len(names), path)
    if own:
        labels = own.labels()
    else:
        told = ((name, n, str(units.get(name, ""))) for n, name in enumerate(names, start=1))
        labels = _names.unique([_names.label(name, n, notes, unit) for name, n, unit in told], notes)
    kinds, roles = (own.kinds(), own.roles()) if own else ({}, {})
    return _columns.table(labels, lambda: _columns.records(names, records()), notes, kinds=kinds, roles=roles)


def _contents(media_type: str, table: _columns.Table, said: dict[str, str | float | int], notes: list[str]) -> Contents:
    return Contents(
        media_type=media_type, variables=table.variables, rows=table.rows, batches=table.batches, metadata=said,
        notes=tuple(notes),
    )  # fmt: skip


def _plain(about: Mapping[str, object]) -> dict[str, str | float | int]:
    """What is said with one word or number."""
    return {str(k): v for k, v in about.items() if isinstance(v, str | int | float) and len(str(v)) <= 1000}


def _where(content: bytes, error: Exception) -> str:
    """The line and column of a decoding error, which msgspec gives in bytes."""
    text = short(error)
    digits = text.rpartition("(byte ")[2].rstrip(")")
    if not digits.isdigit():
        return text
    before = content[: int(digits)]
    return f"{text} at line {before.count(10) + 1}, column {len(before) - before.rfind(10)}"
