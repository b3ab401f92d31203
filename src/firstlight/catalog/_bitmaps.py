"""Which records have which term, and where their variables have values: blocks of 65,536 records, and what waits.

Each transaction leaves its tags (a term and a record) and ends of values in one row, which waits until it is worth
while to write blocks anew: an ingest stays as quick with a million records as with ten. A process keeps what it has
read, and learns from the rows that came since.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from ._database import Session, among

_MERGED_AFTER = 250_000
"""Tags that wait: more of them make the first search of a process slower, fewer an ingest."""
_BLOCK = 16
"""Bits of a record's number within its block."""
_N = 32
"""Bits of a record's number within a tag; those above are the term's."""
_LOW = np.uint64((1 << _N) - 1)
_END = np.dtype([("n", "<u4"), ("low", "<f8"), ("high", "<f8")])
_WAITING = np.dtype([("t", "<u4"), *((name, _END[name]) for name in ("n", "low", "high"))])

Tags = NDArray[np.uint64]
Ends = np.ndarray[Any, np.dtype[np.void]]


class Stamp(NamedTuple):
    """How far an index has come: the last numbers of records, terms and waiting rows, how many tags wait, and how often
    they were written into blocks."""

    records: int
    terms: int
    part: int
    tags: int
    merged: int

    @classmethod
    def read(cls, db: Session) -> "Stamp":
        return cls(*db.execute("SELECT records, terms, part, tags, merged FROM stamp").fetchone())

    @classmethod
    def taken(cls, db: Session) -> "Stamp":
        """That of a writer, who is alone from now on."""
        db.execute("UPDATE stamp SET merged=merged")
        return cls.read(db)

    def write(self, db: Session) -> None:
        db.execute("UPDATE stamp SET records=?, terms=?, part=?, tags=?, merged=?", self)


def numbered(db: Session, stamp: Stamp, terms: Mapping[str, bool]) -> tuple[Stamp, dict[str, int]]:
    """The numbers of terms, each of which says whether it is counted in facets; new ones get theirs."""
    known = {term: t for term, t in among(db, "SELECT term, t FROM terms WHERE term IN", terms)}
    new = [term for term in terms if term not in known]
    known.update(zip(new, range(stamp.terms + 1, stamp.terms + 1 + len(new)), strict=True))
    db.executemany("INSERT INTO terms VALUES(?, ?, ?)", [(known[term], term, int(terms[term])) for term in new])
    return stamp._replace(terms=stamp.terms + len(new)), known


def keep(
    db: Session, stamp: Stamp, ts: Sequence[int], ns: Sequence[int],
    ends: Sequence[tuple[int, int, float, float]] = (),
) -> Stamp:  # fmt: skip
    """Let tags (terms, and the record of each) and ends of values (of what, of which record, from, to) wait; or write
    blocks anew."""
    whole = np.sort(np.array(ts, np.uint64) << np.uint64(_N) | np.array(ns, np.uint64))
    content = (whole.astype("<u8").tobytes(), np.array(list(ends), _WAITING).tobytes())
    db.execute("INSERT INTO waiting VALUES(?, ?, ?)", (stamp.part + 1, *content))
    stamp = stamp._replace(part=stamp.part + 1, tags=stamp.tags + len(ts))
    return _merged(db, stamp) if stamp.tags >= _MERGED_AFTER else stamp


def _merged(db: Session, stamp: Stamp) -> Stamp:
    tags, ends = _read(db.execute("SELECT tags, ends FROM waiting ORDER BY part").fetchall())
    places, starts = np.unique(tags >> np.uint64(_BLOCK), return_index=True)
    new = {
        (int(place) >> (_N - _BLOCK), int(place) & ((1 << (_N - _BLOCK)) - 1)): _bitmap(part)
        for place, part in zip(places, np.split(tags, starts[1:]), strict=True)
    }
    for t, block, content in _blocks(db, "bits", new):
        new[t, block] |= BitMap.deserialize(content)
    _write(db, "bits", ((*place, some.serialize()) for place, some in new.items()))
    ends = ends[np.lexsort((ends["n"], ends["t"]))]
    kinds = ends["t"].astype(np.uint64) << np.uint64(_N) | (ends["n"] >> _BLOCK)
    places, starts = np.unique(kinds, return_index=True)
    columns = {
        (int(place) >> _N, int(place) & int(_LOW)): _plain(part).tobytes()
        for place, part in zip(places, np.split(ends, starts[1:]), strict=True)
    }
    for t, block, content in _blocks(db, "columns", columns):
        columns[t, block] = content + columns[t, block]
    _write(db, "columns", ((*place, content) for place, content in columns.items()))
    db.execute("DELETE FROM waiting")
    return stamp._replace(tags=0, merged=stamp.merged + 1)


def _blocks(db: Session, table: str, places: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, bytes]]:
    """What there is already of some blocks."""
    by_block = dict[int, list[int]]()
    for t, block in places:
        by_block.setdefault(block, []).append(t)
    for block, ts in by_block.items():
        for t, content in among(db, f"SELECT t, content FROM {table} WHERE block=? AND t IN", ts, block):
            yield t, block, content


def _write(db: Session, table: str, rows: Iterable[tuple[int, int, bytes]]) -> None:
    db.executemany(
        f"INSERT INTO {table} VALUES(?, ?, ?) ON CONFLICT(t, block) DO UPDATE SET content=excluded.content", rows
    )


def _read(rows: Sequence[tuple[bytes, bytes]]) -> tuple[Tags, Ends]:
    tags = [np.frombuffer(row[0], "<u8") for row in rows]
    ends = [np.frombuffer(row[1], _WAITING) for row in rows]
    # Each part is in order already: sorting them is merging.
    whole = np.sort(np.concatenate([np.empty(0, "<u8"), *tags]), kind="stable")
    return whole, np.concatenate([np.empty(0, _WAITING), *ends])


def _bitmap(tags: Tags) -> BitMap:
    return BitMap((tags & _LOW).astype(np.uint32))


def _plain(ends: Ends) -> Ends:
    """Without what they are ends of."""
    plain = np.empty(len(ends), _END)
    for name in ("n", "low", "high"):
        plain[name] = ends[name]
    return plain


class Bitmaps:
    """What one process has read of them. `refresh` comes first in every transaction."""

    def __init__(self) -> None:
        self.facets = dict[int, tuple[str, str]]()
        """Terms that are counted: their facets and values."""
        self._stamp = Stamp(0, 0, 0, 0, -1)
        self._have, self._columns = dict[int, BitMap](), dict[int, Ends]()
        self._tags, self._ends = _read([])

    def refresh(self, db: Session) -> Stamp:
        """Learn what has come since; what was written into blocks meanwhile is forgotten, and read again when it is
        asked for."""
        stamp, before = Stamp.read(db), self._stamp
        if stamp.merged != before.merged:
            self._have, self._columns = {}, {}
            self._tags, self._ends = _read([])
            before = before._replace(part=0)
        if stamp.part != before.part:
            rows = db.execute("SELECT tags, ends FROM waiting WHERE part>? ORDER BY part", (before.part,)).fetchall()
            tags, ends = _read(rows)
            for t in self._have:
                if len(more := _of(tags, t)):
                    self._have[t] |= _bitmap(more)
            self._tags = np.sort(np.concatenate([self._tags, tags]), kind="stable")
            self._ends = np.concatenate([self._ends, ends])
        if stamp.terms != before.terms:
            for t, term in db.execute(
                "SELECT t, term FROM terms WHERE counted = 1 AND t>?", (before.terms,)
            ).fetchall():
                facet, value = term.split("\n", maxsplit=1)
                self.facets[t] = (facet, value)
        self._stamp = stamp
        return stamp

    def having(self, db: Session, ts: Iterable[int]) -> list[BitMap]:
        """All records that have each of some terms. They are not to be changed."""
        ts = list(ts)
        if missing := [t for t in ts if t not in self._have]:
            new = {t: _bitmap(_of(self._tags, t)) for t in missing}
            for t, content in among(db, "SELECT t, content FROM bits WHERE t IN", missing):
                new[t] |= BitMap.deserialize(content)
            self._have.update(new)
        return [self._have[t] for t in ts]

    def within(self, db: Session, t: int, low: float | None, high: float | None) -> BitMap:
        """Records of which a variable has values between two ends, None being no end."""
        if t not in self._columns:
            blocks = db.execute("SELECT content FROM columns WHERE t=? ORDER BY block", (t,)).fetchall()
            self._columns[t] = np.concatenate([np.empty(0, _END), *(np.frombuffer(c, _END) for (c,) in blocks)])
        low, high = -inf if low is None else low, inf if high is None else high
        found = BitMap()
        for ends in (self._columns[t], self._ends[self._ends["t"] == t]):
            found |= BitMap(np.ascontiguousarray(ends["n"][(ends["low"] <= high) & (ends["high"] >= low)]))
        return found


def _of(tags: Tags, t: int) -> Tags:
    """Those of a term, of tags in order."""
    first, end = np.searchsorted(tags, np.array([t << _N, (t + 1) << _N], np.uint64))
    return tags[first:end]
