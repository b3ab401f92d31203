"""Workbooks of Excel and of OpenDocument, through calamine: values as they were last computed, never formulas."""

import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import _columns, _names
from ._contents import Contents, Unreadable, library, trouble
from ._media import XLS

_MOST_BYTES = 2 * 2**30
"""Bytes of a workbook once it is unpacked."""
_MOST_RATIO = 200
"""How much smaller packing can make a workbook that people made: beyond that and `_SUSPICIOUS` it is a bomb."""
_SUSPICIOUS = 100 * 2**20
_MOST_CELLS = 20_000_000
"""Cells of one sheet, empty ones included, as a sheet is held as a rectangle."""
_PIECE = 2**20
_AGAIN = "open it in a spreadsheet program and save it again"
_REFERENCE = re.compile(rb"""<(?:\w+:)?c\b[^>]*?\br=["']([A-Z]{1,3})(\d{1,7})["']""")
_REPEATED = re.compile(rb"<table:table-(row|cell)\b([^>]*)>")
_TIMES = re.compile(rb'number-(?:rows|columns)-repeated="(\d{1,10})"')


class _Sheet(NamedTuple):
    name: str
    title: str
    headers: list[str]
    rows: list[list[object]]


def read(path: Path, media_type: str) -> Contents:
    """The sheets as one table with a column `sheet`, where several have the same headers; else the first that is not
    empty. Raises Unreadable where a workbook has no table, is damaged, or is made to fill the memory."""
    calamine = library("python_calamine", path)
    if media_type != XLS:
        _unpacks(path)
    notes = list[str]()
    with (
        trouble(path, "it is not a workbook that can be read", _AGAIN),
        calamine.CalamineWorkbook.from_path(str(path)) as book,
    ):
        sheets = [s for name in book.sheet_names if (s := _sheet(path, name, book, notes)) is not None]
        hidden = sum(1 for one in book.sheets_metadata if str(one.visible) != "SheetVisibleEnum.Visible")
    if not sheets:
        raise Unreadable(path, "none of its sheets has a table", "put names of columns above values")
    if hidden:
        notes.append(f"{hidden} of its sheets are hidden, and are read like the others")
    first = sheets[0]
    together = len(sheets) > 1 and all(one.headers == first.headers for one in sheets)
    if len(sheets) > 1 and not together:
        left = ", ".join(repr(one.name) for one in sheets[1:])
        notes.append(
            f"its sheets have different columns: {first.name!r} is read, and {left} left out; save each as one file"
        )
    used = sheets if together else sheets[:1]
    labels = _names.labels(first.headers, path, notes)
    if together:
        labels = _names.unique([*labels, _names.Label("sheet")], notes)

    def rows() -> Iterator[Sequence[object]]:
        for one in used:
            yield from ([*row, one.name] for row in one.rows) if together else one.rows

    made = _columns.table(labels, lambda: _columns.chunked(rows(), len(labels)), notes)
    said: dict[str, str | float | int] = {"title": first.title} if first.title else {}
    return Contents(
        media_type=media_type, variables=made.variables, rows=made.rows, batches=made.batches, notes=tuple(notes),
        metadata={**said, "sheet": ", ".join(one.name for one in used)},
    )  # fmt: skip


def _sheet(path: Path, name: str, book: Any, notes: list[str]) -> _Sheet | None:
    """A sheet as headers and rows, None where it has no table. A line with one cell above the headers is its title."""
    sheet = book.get_sheet_by_name(name)
    rows = [row for row in sheet.to_python() if any(cell != "" for cell in row)]
    title = ""
    while len(rows) > 1 and len(rows[0]) > 1 and sum(cell != "" for cell in rows[0]) == 1:
        title = title or str(next(cell for cell in rows[0] if cell != ""))
        rows = rows[1:]
    if not rows or not any(isinstance(cell, str) and cell.strip() for cell in rows[0]):
        return None
    last = max(n for n in range(len(rows[0])) if any(row[n] != "" for row in rows)) + 1
    _names.many(last, path)
    headers = ["" if cell == "" else str(cell) for cell in rows[0][:last]]
    if title:
        notes.append(f"the line {title!r} above the columns of sheet {name!r} is taken for its title")
    return _Sheet(name, title[:1000], headers, [row[:last] for row in rows[1:]])


def _unpacks(path: Path) -> None:
    """Raises Unreadable where a container is damaged or would unpack to more than a workbook has."""
    with trouble(path, "it is no whole ZIP container", _AGAIN), zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        size, packed = sum(p.file_size for p in parts), sum(p.compress_size for p in parts)
        if size > _MOST_BYTES or (size > _SUSPICIOUS and size > _MOST_RATIO * max(1, packed)):
            raise Unreadable(path, f"it would unpack to {size >> 20} MiB from {packed >> 10} KiB", _AGAIN)
        if any(part.flag_bits & 1 for part in parts):
            raise Unreadable(path, "it is encrypted", "save it without a password")
        # Also where the sizes lie: what is unpacked is no more than it says, and then its checksum is wrong.
        if damaged := archive.testzip():
            raise Unreadable(path, f"its part {damaged} is damaged", _AGAIN)
        for part in parts:
            if part.filename.startswith("xl/") and part.filename.endswith(".xml"):
                _rectangle(path, archive, part.filename)
            elif part.filename == "content.xml":
                _repeats(path, archive)


def _pieces(archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    """A part in pieces that end where a tag ends."""
    rest = b""
    with archive.open(name) as part:
        while piece := part.read(_PIECE):
            whole, end, rest = (rest + piece).rpartition(b">")
            yield whole + end


def _rectangle(path: Path, archive: zipfile.ZipFile, name: str) -> None:
    """Raises Unreadable where two cells are so far apart that the sheet between them would fill the memory."""
    columns = rows = 0
    for piece in _pieces(archive, name):
        found = _REFERENCE.findall(piece)
        if found:
            rows = max(rows, max(int(row) for _, row in found))
            letters = max({column for column, _ in found}, key=lambda c: (len(c), c))
            columns = max(columns, _ordinal(letters))
        if rows * columns > _MOST_CELLS:
            raise Unreadable(
                path, f"its sheet {name} spans {rows:,} rows and {columns:,} columns",
                "delete cells that stand far away from the table",
            )  # fmt: skip


def _ordinal(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def _repeats(path: Path, archive: zipfile.ZipFile) -> None:
    """Raises Unreadable where a sheet of OpenDocument repeats a cell with a value more often than it may."""
    rows = cells = 0
    for piece in _pieces(archive, "content.xml"):
        for what, said in _REPEATED.findall(piece):
            found = _TIMES.search(said)
            times = int(found[1]) if found else 1
            if what == b"row":
                rows = times
            elif b"value-type=" in said:
                cells += rows * times
            if cells > _MOST_CELLS:
                raise Unreadable(
                    path, f"it repeats cells to more than {_MOST_CELLS:,}", "delete cells that are repeated"
                )
