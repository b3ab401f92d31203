"""Plain text with delimiters, as columns and without a Python object for each cell.

Plain is what `csv` and Arrow's reader of CSV (in Rust) understand alike: as many cells on each line, no quotation
marks, no blanks around cells. What is not is for `csv`, and so is a column of something other than numbers and words.
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
_ZERO, _NINE, _PLUS, _MINUS = b"09+-"
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
    if width < 2 or '"' in text or (not text.isascii() and _ODD.search(text)):
        return None
    if text.startswith("\n") or "\n\n" in text:
        text = re.sub("\n\n+", "\n", text).removeprefix("\n")
    data = text.encode()
    if not data.endswith(b"\n") and data:
        data += b"\n"
    letters, ends = _cells(data, delimiter)
    rows = data.count(b"\n")
    if len(ends) != rows * width:
        return None
    ends = ends.reshape(rows, width)
    # As many lines as rows, and the last cell of each row at the end of a line: no other cell is there.
    if not (letters[ends[:, -1]] == _LINE).all():
        return None
    starts = _starts(ends)
    lengths = ends - starts
    if rows and lengths.max() > csv.field_size_limit():
        return None
    if any(blank in data for blank in _BLANKS if blank != delimiter.encode()):
        full = lengths > 0
        if (letters[starts[full]] <= ord(" ")).any() or (letters[ends[full] - 1] <= ord(" ")).any():
            return None
    gone = lengths == 0
    if (words := _words(letters, starts, lengths)).any():
        keep = np.ones(len(letters), np.bool_)
        for start, end in zip(starts[words].tolist(), ends[words].tolist(), strict=True):
            keep[start:end] = False
        data = letters[keep].tobytes()
        ends = _cells(data, delimiter)[1].reshape(rows, width)
    return Piece(data, ends, gone | words)


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


def _cells(data: bytes, delimiter: str) -> tuple[Bytes, Places]:
    """The bytes, and where the cells end."""
    letters = np.frombuffer(data, np.uint8)
    return letters, np.flatnonzero((letters == ord(delimiter)) | (letters == _LINE))


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


def _words(letters: Bytes, starts: Places, lengths: Places) -> Flags:
    """Which cells are words for a missing value."""
    found = np.zeros(starts.size, np.bool_)
    flat, long = starts.ravel(), lengths.ravel()
    for length, keys in _KEYS.items():
        cells = np.flatnonzero(long == length)
        cells = cells[_FIRST[letters[flat[cells]]]]
        if len(cells):
            made = sum(letters[flat[cells] + n].astype(np.int64) << 8 * n for n in range(length))
            found[cells[np.isin(made, keys)]] = True
    return found.reshape(starts.shape)


def _batch(data: bytes, schema: Schema, delimiter: str, rows: int) -> RecordBatch | None:
    try:
        batches = list(read_csv(io.BytesIO(data), schema, has_header=False, batch_size=rows, delimiter=delimiter))
    except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException:  # noqa: BLE001 - of which a panic in Rust is one; `csv` says what is wrong, and where
        return None
    return batches[0] if len(batches) == 1 and batches[0].num_rows == rows else None
