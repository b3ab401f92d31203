"""Tables as text: CSV, TSV and their relatives (RFC 4180, with what instruments make of it)."""

import csv
import re
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from .._records import Role, VariableKind
from . import _columns, _names, _plain
from ._contents import CELLS, Contents, Unreadable

_END = "\n"
_BLOCK = 2**20
"""Characters read at a time."""
_HELD = 8 * 2**20
"""Characters held as cells at a time, about."""
_LONGEST = 16 * 2**20
"""Characters of one line."""
_LOOKED_AT = 200
"""Lines from which the delimiter is told."""
_BOMS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_CONTROLS = bytes(number for number in range(128) if _CONTROL.match(chr(number)))
_SAID = re.compile(r"#\s*([^:=]{1,80}?)\s*[:=]\s*(.*)")
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+(?:[eE][-+]?\d+)?")
_DECIMAL_POINT = re.compile(r"[-+]?\d*\.\d+(?:[eE][-+]?\d+)?")
_OURS = ("cost", "proposed", "started", "ended", "failed", "cause", "message")
"""Columns of Firstlight's own exports, after "trial" and "source"."""


def read(path: Path, media_type: str) -> Contents:
    """The table of a text file with delimiters. Raises Unreadable."""
    notes = list[str]()
    encoding = _encoding(path)
    try:
        return _read(path, media_type, encoding, notes)
    except UnicodeDecodeError as error:
        if encoding == "utf-16":
            raise Unreadable(path, f"it is not in {encoding}, as its first bytes say", "save it as UTF-8") from error
        notes = ["it is not in UTF-8: it is read as Latin-1, so look at letters that are not English"]
        return _read(path, media_type, "latin-1", notes)


def _read(path: Path, media_type: str, encoding: str, notes: list[str]) -> Contents:
    with closing(_texts(path, encoding)) as texts:
        head = list(islice(_Lines(texts), _LOOKED_AT))
    said, skipped = _preamble(head)
    comments, head = head[:skipped], head[skipped:]
    if not any(line.strip() for line in head):
        raise Unreadable(path, "it is empty: it has no line with names of columns", "export it again")
    delimiter = _delimiter(head, tab=media_type == "text/tab-separated-values")
    first = next(_rows(iter(head), delimiter, path, skipped))
    names = _commented(comments[-1], delimiter, len(first)) if comments else []
    headless = bool(names) or (len(first) > 1 and all(_is_number(cell) for cell in first))
    if headless and not names:
        notes.append("its first line has numbers only: its columns are called column_1, column_2 ...")
        names = [f"column_{n + 1}" for n in range(len(first))]
    labels, roles = _labels(names or first, path, notes)
    comma = delimiter in ";\t" and _commas(head, delimiter)
    if comma:
        notes.append("its numbers have a decimal comma")

    def chunks() -> Iterator[_columns.Chunk]:
        taken = Counter[str]()
        with closing(_texts(path, encoding, taken)) as texts:
            lines = _Lines(texts)
            next(islice(lines, skipped, skipped), None)
            if not headless:
                next(_rows(lines, delimiter, path, skipped), None)
            yield from _parts(lines, delimiter, len(first), path, taken)

    kinds: dict[str, VariableKind] = {name: "time" for name in _OURS[1:4]} if roles is not None else {}
    table = _columns.table(labels, chunks, notes, text=True, comma=comma, kinds=kinds, roles=roles)
    return Contents(
        media_type=media_type, variables=table.variables, rows=table.rows, batches=table.batches, metadata=said,
        notes=tuple(notes),
    )  # fmt: skip


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(3)
    return next((encoding for bom, encoding in _BOMS.items() if start.startswith(bom)), "utf-8")


def _texts(path: Path, encoding: str, taken: Counter[str] | None = None) -> Generator[str, None, None]:
    """The whole lines of a text, some at a time; the characters that were read are counted in `taken`.

    Raises Unreadable where it is no text, UnicodeDecodeError where it is in another encoding.
    """
    done, rest = 0, ""
    with path.open(encoding=encoding) as file:
        while block := file.read(_BLOCK):
            data = block.encode()
            if len(data.translate(None, _CONTROLS)) < len(data) and (found := _CONTROL.search(block)):
                before = rest + block[: found.start()]
                what = "a NUL byte" if found[0] == "\0" else f"the control character {found[0]!r}"
                raise Unreadable(
                    path, f"line {done + before.count(_END) + 1} has {what} at character "
                    f"{len(before) - before.rfind(_END)}: it is not a text file",
                    "check that it was copied as a whole, or give its media type",
                )  # fmt: skip
            if taken is not None:
                taken["characters"] += len(block)
            whole, end, rest = (rest + block).rpartition(_END)
            lines = whole.count(_END) + len(end)
            if len(rest) > _LONGEST:
                raise Unreadable(
                    path, f"line {done + lines + 1} has more than {_LONGEST:,} characters", "check that it is a table"
                )
            done += lines
            if end:
                yield whole + end
    if rest:
        yield rest


class _Lines(Iterator[str]):
    """The lines of some texts, one by one or many at a time."""

    def __init__(self, texts: Iterator[str]) -> None:
        self._texts, self._here, self.done = texts, iter(list[str]()), 0

    def __next__(self) -> str:
        while (line := next(self._here, None)) is None:
            self.back(next(self._texts))
        self.done += 1
        return line

    def text(self) -> str:
        """Some of the lines that are left, which are not counted as done. "" at the end."""
        return "".join(self._here) or next(self._texts, "")

    def back(self, text: str) -> None:
        """Lines that come next."""
        *whole, rest = text.split(_END)
        self._here = iter([line + _END for line in whole] + ([rest] if rest else []))


def _preamble(head: Sequence[str]) -> tuple[dict[str, str | float | int], int]:
    """What lines with "#" before the table say, and how many there are."""
    said = dict[str, str | float | int]()
    count = next((n for n, line in enumerate(head) if not line.startswith("#")), len(head))
    for line in head[:count]:
        if match := _SAID.fullmatch(line.strip()):
            said[match[1]] = match[2][:1000]
    return said, count


def _commented(line: str, delimiter: str, width: int) -> list[str]:
    """Names of columns in the last line with "#", as numpy.savetxt writes them; [] where it says something else."""
    if width < 2 or _SAID.fullmatch(line.strip()):
        return []
    cells = [cell.strip() for cell in line.strip().removeprefix("#").split(delimiter)]
    return cells if len(cells) == width else []


def _delimiter(head: Sequence[str], tab: bool) -> str:
    """The character at which most lines have as many cells as the first; of several the one that makes most."""
    best, found = (0.0, 0), "\t" if tab else ","
    whole = head[:-1] if len(head) == _LOOKED_AT else head
    for candidate in ("\t", ",", ";", "|") if tab else (",", ";", "\t", "|"):
        try:
            widths = [len(row) for row in csv.reader(whole, delimiter=candidate) if row]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            alike = sum(width == widths[0] for width in widths) / len(widths)
            if (alike, widths[0]) > best:
                best, found = (alike, widths[0]), candidate
    return found


def _rows(lines: Iterator[str], delimiter: str, path: Path, skipped: int, width: int = 0) -> Iterator[list[str]]:
    """The rows that are not blank. Raises Unreadable where one has another width than the header, which comes first
    where `width` does not say what that is. `skipped` lines came before.
    """
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter != "\t", strict=True)
    try:
        for row in reader:
            if not row or (width > 1 and len(row) == 1 and not row[0].strip()):
                continue
            width = width or len(row)
            if len(row) != width:
                raise Unreadable(
                    path, f"line {skipped + reader.line_num} has {len(row)} cells, and its header has {width}",
                    "quote cells that hold the delimiter, or complete the line",
                )  # fmt: skip
            yield row
    except csv.Error as error:
        raise Unreadable(
            path, f"line {skipped + reader.line_num}: {error}", "close the quotation marks, and double those in a cell"
        ) from error


def _parts(
    lines: _Lines, delimiter: str, width: int, path: Path, taken: Counter[str]
) -> Iterator[_columns.Chunk]:  # fmt: skip
    """The columns of so many cells at a time, or of so many characters of the file where cells are long.

    Lines that are plain become columns as a whole, and others row by row; both make the same parts.
    """
    at_once, start = max(1, CELLS // width), 0
    held, count = list[_plain.Piece](), 0
    while text := lines.text():
        piece = _plain.piece(text, delimiter, width)
        if piece is None:
            lines.back(text)
            some = [row for one in held for row in one.rows(delimiter)]
            for row in _rows(lines, delimiter, path, lines.done, width):
                some.append(row)
                if len(some) == at_once or taken["characters"] - start > _HELD:
                    break
            if some:
                yield [_stripped(values) for values in zip(*some, strict=True)]
            held, count, start = [], 0, taken["characters"]
            continue
        lines.done += text.count(_END)
        while len(piece.ends):
            some_more, piece = piece.cut(1 if taken["characters"] - start > _HELD else at_once - count)
            held.append(some_more)
            count += len(some_more.ends)
            if count == at_once or taken["characters"] - start > _HELD:
                yield _chunk(held, delimiter)
                held, count, start = [], 0, taken["characters"]
    if held:
        yield _chunk(held, delimiter)


def _chunk(held: list[_plain.Piece], delimiter: str) -> _columns.Chunk:
    columns = _plain.columns(held, delimiter)
    return columns or list(zip(*(row for one in held for row in one.rows(delimiter)), strict=True))


def _labels(first: Sequence[str], path: Path, notes: list[str]) -> tuple[list[_names.Label], dict[str, Role] | None]:
    """The columns and, in an export of our own, their roles: there names and units are taken as they stand."""
    names = _names.labels(first, path, notes)
    if list(first[:2]) != ["trial", "source"] or not all(name in first for name in _OURS[1:]):
        return names, None
    notes.clear()
    ours = [_own(header) for header in first]
    known = {label.name for label in ours}
    roles: dict[str, Role] = {}
    for label in ours[2 : next(n for n, one in enumerate(ours) if one.name == "cost")]:
        if not label.name.endswith((".sigma", ".as_run", ".unit", ".all")):
            roles[label.name] = "observable" if f"{label.name}.sigma" in known else "parameter"
    return ours, roles


def _own(header: str) -> _names.Label:
    name, bracket, unit = header.rpartition(" [")
    return _names.Label(name, unit[:-1]) if bracket and unit.endswith("]") else _names.Label(header)


def _commas(head: Sequence[str], delimiter: str) -> bool:
    """Whether numbers have a decimal comma: some do, and none has a point."""
    cells = [cell.strip() for row in csv.reader(head, delimiter=delimiter) for cell in row]
    return any(map(_DECIMAL_COMMA.fullmatch, cells)) and not any(map(_DECIMAL_POINT.fullmatch, cells))


def _stripped(values: Sequence[object]) -> Sequence[object]:
    """The cells without blanks around them, which are rarely there."""
    joined = "".join(map(str, values))
    return [str(v).strip() for v in values] if " " in joined or "\t" in joined else values


def _is_number(cell: str) -> bool:
    try:
        float(cell.strip().replace(",", "."))
    except ValueError:
        return False
    return True
