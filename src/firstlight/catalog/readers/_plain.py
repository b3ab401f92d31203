"""Plain text with delimiters, as columns and without a Python object for each cell.

Plain is what can be made into what `csv` and Arrow's reader of CSV (in Rust) understand alike: as many cells on each
line, no blanks around them but spaces, no quotation marks but around whole cells, in which there is no delimiter. What
is not is for `csv`, and so is a column of something other than numbers and words.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, overload

import numpy as np
from arro3.core import Array, DataType, Field, RecordBatch, Schema
from arro3.io import read_csv

MISSING = frozenset({"", "NA", "N/A", "n/a", "NaN", "nan", "NAN", "null", "NULL", "-", "#N/A"})
"""How a table says that there is no value. Not "Na", which is sodium."""
# Letters that `str.strip` takes for blanks beyond ASCII, and the mark that Rust leaves out at the beginning of a text.
_ODD = re.compile("[\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]")
_BLANKS = (b" ", b"\t", b"\v", b"\f")
_LINE = 10
_ZERO, _NINE, _PLUS, _MINUS, _QUOTE, _SPACE = b'09+-" '
_WIDEST = 2_000
"""Columns, of which each takes its time however few rows there are."""
_MOST_SPACES = 40
_STRING = DataType.string()

Bytes = np.ndarray[tuple[int], np.dtype[np.uint8]]
Places = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Flags = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
Numbers = np.ndarray[tuple[int], np.dtype[np.int64] | np.dtype[np.float64]]


class Piece(NamedTuple):
    """Some rows as UTF-8, where each of their cells ends (rows x columns), and which are missing and hence empty."""

    data: bytes
    ends: Places
    gone: Flags

    def cut(self, rows: int) -> "tuple[Piece, Piece]":
        """The first rows, and the others."""
        if rows >= len(self.ends):
            return self, self._replace(data=b"", ends=self.ends[:0], gone=self.gone[:0])
        at = int(self.ends[rows - 1, -1]) + 1
        return (
            Piece(self.data[:at], self.ends[:rows], self.gone[:rows]),
            Piece(self.data[at:], self.ends[rows:] - at, self.gone[rows:]),
        )

    def rows(self, delimiter: str) -> Iterator[list[str]]:
        """The rows as `csv` has them."""
        return csv.reader(io.StringIO(self.data.decode(), newline=""), delimiter=delimiter)


def piece(text: str, delimiter: str, width: int) -> Piece | None:
    """Whole lines of a text, in which blank lines are left out. None where something in them is not plain."""
    # A table of one column can have lines that are blank and yet rows.
    if not 2 <= width <= _WIDEST or (not text.isascii() and _ODD.search(text)):
        return None
    if text.startswith("\n") or "\n\n" in text:
        text = re.sub("\n\n+", "\n", text).removeprefix("\n")
    data = text.encode()
    if not data.endswith(b"\n") and data:
        data += b"\n"
    table = _Table(data, delimiter, width)
    if not table.whole:
        return None
    if '"' in text:
        if not table.quoted():  # Nor with blanks outside the quotation marks, of which `csv` allows some.
            return None
        table = _Table(data.replace(b'"', b""), delimiter, width)
    if table.blanks():
        bare = _without_blanks(table.data, delimiter)
        if bare is None or (table := _Table(bare, delimiter, width)).blanks():
            return None
    if (words := table.words()).any():
        keep = np.ones(len(table.data), np.bool_)
        for start, end in zip(table.starts[words].tolist(), table.ends[words].tolist(), strict=True):
            keep[start:end] = False
        gone = words | (table.lengths == 0)
        table = _Table(table.letters[keep].tobytes(), delimiter, width)
        return Piece(table.data, table.ends, gone)
    return Piece(table.data, table.ends, table.lengths == 0)


def columns(pieces: Sequence[Piece], delimiter: str) -> "list[Cells] | None":
    """The columns of some rows, at least one. None where Arrow finds something else in them."""
    data, width = b"".join(piece.data for piece in pieces), pieces[0].ends.shape[1]
    before = np.cumsum([0, *(len(piece.data) for piece in pieces[:-1])])
    ends = np.concatenate([piece.ends + at for piece, at in zip(pieces, before, strict=True)])
    gone = np.concatenate([piece.gone for piece in pieces])
    schema = Schema([Field(str(n), _STRING) for n in range(width)])
    if (batch := _batch(data, schema, delimiter, len(ends))) is None:
        return None
    letters, starts = np.frombuffer(data, np.uint8), _starts(ends)
    missing = gone.sum(axis=0).tolist()
    return [Cells(batch.column(n), letters, starts[:, n], gone[:, n], missing[n]) for n in range(width)]


class Cells(Sequence[str]):
    """The cells of one column, "" where there is no value."""

    def __init__(self, strings: Array, letters: Bytes, starts: Places, gone: Flags, missing: int) -> None:
        self.strings, self.missing = strings, missing
        self._letters, self._starts, self._gone = letters, starts, gone

    def __len__(self) -> int:
        return len(self._gone)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        return self.texts[at]

    @cached_property
    def texts(self) -> list[str]:
        return [text or "" for text in self.strings.to_pylist()]

    def cast(self, to: DataType) -> Array | None:
        """The values as another type, None where one of them is something else."""
        made = self.strings.cast(to)
        return made if made.null_count == self.missing else None

    def numbers(self, made: Array) -> Numbers:
        """The values that there are, of a column that was cast to numbers."""
        if self.missing:
            made = made.take(Array.from_numpy(np.flatnonzero(~self._gone).astype(np.uint64)))
        numbers: Numbers = made.to_numpy()
        return numbers

    def coded(self) -> bool:
        """Whether one of the values, all whole numbers, begins with a zero and goes on."""
        first = self._letters[self._starts]
        digits = self._starts + ((first == _PLUS) | (first == _MINUS))
        zeros = digits[self._letters[digits] == _ZERO]
        after = self._letters[zeros + 1]
        return bool(((after >= _ZERO) & (after <= _NINE)).any())

    def odd(self, to: DataType) -> str | None:
        """The first value that cannot be cast."""
        made = zip(self.texts, self.strings.cast(to).to_pylist(), strict=True)
        return next((text for text, one in made if text and one is None), None)


class _Table:
    """Lines as bytes, and where their cells begin and end, if the delimiter ends a cell wherever it is."""

    def __init__(self, data: bytes, delimiter: str, width: int) -> None:
        self.data, self.letters = data, np.frombuffer(data, np.uint8)
        self._delimiter, rows = delimiter.encode(), data.count(b"\n")
        ends = np.flatnonzero((self.letters == ord(delimiter)) | (self.letters == _LINE))
        self.whole = len(ends) == rows * width
        self.ends = ends.reshape(rows, width) if self.whole else ends.reshape(-1, 1)
        self.starts = _starts(self.ends)
        self.lengths = self.ends - self.starts
        # As many lines as rows, and a line ends with the last cell of each row: none ends with another cell.
        self.whole &= bool((self.letters[self.ends[:, -1]] == _LINE).all())
        self.whole &= not rows or int(self.lengths.max()) <= csv.field_size_limit()

    def quoted(self) -> bool:
        """Whether a cell with quotation marks has one at its beginning, one at its end and none between."""
        long = self.lengths > 1
        first, last = self.letters[self.starts[long]], self.letters[self.ends[long] - 1]
        return self.data.count(b'"') == 2 * int(((first == _QUOTE) & (last == _QUOTE)).sum())

    def blanks(self) -> bool:
        """Whether a cell begins or ends with a blank."""
        if not any(blank in self.data for blank in _BLANKS if blank != self._delimiter):
            return False
        full = self.lengths > 0
        first, last = self.letters[self.starts[full]], self.letters[self.ends[full] - 1]
        return bool((first <= _SPACE).any() or (last <= _SPACE).any())

    def words(self) -> Flags:
        """Which cells are words for a missing value."""
        found = np.zeros(self.starts.size, np.bool_)
        starts, lengths = self.starts.ravel(), self.lengths.ravel()
        for length, keys in _KEYS.items():
            cells = np.flatnonzero(lengths == length)
            cells = cells[_FIRST[self.letters[starts[cells]]]]
            if len(cells):
                made = sum(self.letters[starts[cells] + n].astype(np.int64) << 8 * n for n in range(length))
                found[cells[np.isin(made, keys)]] = True
        return found.reshape(self.starts.shape)


def _without_blanks(data: bytes, delimiter: str) -> bytes | None:
    """The text without spaces around its cells; None where there are very many at once."""
    data, end = data.strip(b" "), delimiter.encode()
    for one in (end, b"\n"):
        for spaced in (b" " + one, one + b" "):
            for _ in range(_MOST_SPACES):
                if spaced not in data:
                    break
                data = data.replace(spaced, one)
            else:
                return None
    return data


def _starts(ends: Places) -> Places:
    """Where the cells begin."""
    flat = ends.ravel()
    return np.concatenate([np.zeros(min(1, len(flat)), np.int64), flat[:-1] + 1]).reshape(ends.shape)


def _keys() -> Mapping[int, Places]:
    """The words for a missing value by their length, as numbers."""
    words = [word.encode() for word in MISSING if word]
    return {
        length: np.array([int.from_bytes(word, "little") for word in words if len(word) == length])
        for length in {len(word) for word in words}
    }


_KEYS = _keys()
_FIRST = np.isin(np.arange(256), [word.encode()[0] for word in MISSING if word])


def _batch(data: bytes, schema: Schema, delimiter: str, rows: int) -> RecordBatch | None:
    try:
        batches = list(read_csv(io.BytesIO(data), schema, has_header=False, batch_size=rows, delimiter=delimiter))
    except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException:  # noqa: BLE001 - of which a panic in Rust is one; `csv` says what is wrong, and where
        return None
    return batches[0] if len(batches) == 1 and batches[0].num_rows == rows else None
