"""What there is, found by words, facets, ranges and lineage: one SQLite file beside the data.

Words and values of facets have bitmaps (roaring, Lemire et al. 2016, doi:10.1002/spe.2325) of the records that have
them, so that facets of a million records are counted in milliseconds, and columns the ends of a variable's values.
Both are kept in blocks of 65,536 records, and what came last waits in tables until it is worth while to write blocks
anew: an ingest stays as quick with a million records as with ten.
"""

import re
import sqlite3
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from math import inf, log
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
from pyroaring import BitMap

from firstlight.core import Unavailable, Value

from ._records import Card, File, Record, Variable, digest_of_files

__all__ = ["Card", "File", "Found", "Index", "Page", "Query", "Range", "Record", "Variable", "digest_of_files"]

_TABLES = """
CREATE TABLE IF NOT EXISTS records(
    n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, version INTEGER NOT NULL, digest TEXT NOT NULL,
    created REAL NOT NULL, added REAL NOT NULL, body BLOB NOT NULL, retracted TEXT NOT NULL DEFAULT '',
    by TEXT NOT NULL DEFAULT '');
CREATE UNIQUE INDEX IF NOT EXISTS records_by_name ON records(name, version);
CREATE TABLE IF NOT EXISTS terms(t INTEGER PRIMARY KEY, facet TEXT NOT NULL, value TEXT NOT NULL, UNIQUE(facet, value));
CREATE TABLE IF NOT EXISTS bits(t INTEGER, block INTEGER, content BLOB NOT NULL, PRIMARY KEY(t, block)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tagged(t INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY(t, n)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS columns(
    t INTEGER, block INTEGER, content BLOB NOT NULL, PRIMARY KEY(t, block)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS measured(
    t INTEGER NOT NULL, n INTEGER NOT NULL, low REAL NOT NULL, high REAL NOT NULL, PRIMARY KEY(t, n)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lineage(id TEXT NOT NULL, used TEXT NOT NULL, PRIMARY KEY(id, used)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lineage_down ON lineage(used);
CREATE TABLE IF NOT EXISTS marks(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stamp(
    one INTEGER PRIMARY KEY CHECK(one = 1), merged INTEGER NOT NULL, changed INTEGER NOT NULL,
    waiting INTEGER NOT NULL);
INSERT OR IGNORE INTO stamp VALUES(1, 0, 0, 0);
"""
_MERGED_AFTER = 30_000
"""Tags that wait in a table: more of them make a search slower, fewer an ingest."""
_BLOCK = 16
"""Bits of a record's number within its block."""
_STATE, _WORD, _NUMBER = "state", "word", "number"
"""Facets of our own, which are not counted: what has become of a record, its words, its variables with their units."""
_CREATED = "created"
"""When data were made, among the variables: no variable is called so, as those have a line for their unit."""
_RANKED = 2_000
"""Records found by words that are ordered by how well they match; more of them come newest first."""
_COMPLETED = 500
"""Words that a beginning stands for at most, the first of the alphabet."""
_END = np.dtype([("n", "<u4"), ("low", "<f8"), ("high", "<f8")])

_record = msgspec.json.Decoder(Record)
_encode = msgspec.json.Encoder(order="deterministic").encode


class Range(Value, frozen=True):
    """Where a variable is to have values: some of them between these ends (None is no end).

    The ends are in `unit`; without one they are compared with the numbers of each record, whatever its unit.
    """

    variable: str
    low: float | None = None
    high: float | None = None
    unit: str = ""


class Query(Value, frozen=True):
    """What is looked for: all of this holds of what is found.

    `ids` are the only ones that are looked at, where any are given. `where` has, by facet, values of which a record
    must have one; `since` and `until` bound when the data were made.
    Only the newest version of each name is found, and nothing retracted, unless `every` version is asked for.
    """

    text: str = ""
    ids: tuple[str, ...] = ()
    where: dict[str, tuple[str, ...]] = {}
    ranges: tuple[Range, ...] = ()
    since: float | None = None
    until: float | None = None
    every: bool = False


class Found(Value, frozen=True):
    """A record as the index has it: its version, when it came, and why it was retracted, and by whom, if it was."""

    record: Record
    version: int
    added: float
    retracted: str = ""
    by: str = ""


class Page(Value, frozen=True):
    """Some of what was found, how much there is in all, and how many of it have each value of each facet."""

    total: int
    found: tuple[Found, ...]
    facets: dict[str, dict[str, int]]
    after: int = 0
    """Where the next page begins, 0 where there is none."""


class Index:
    """The index in a file. Safe for several threads and processes; a search sees what was added before it.

    Raises `Unavailable` wherever the file cannot be used.
    """

    def __init__(self, file: Path | str, convert: Callable[[float, str, str], float] | None = None) -> None:
        """`convert` turns a number from one unit into another, or raises ValueError; without it, ranges are found in
        the unit in which they are asked for only."""
        self.file, self._convert = Path(file), convert
        self._lock = threading.RLock()
        self._bits, self._whole, self._tail = dict[int, BitMap](), dict[int, BitMap](), dict[int, BitMap]()
        self._columns = dict[int, np.ndarray[Any, np.dtype[np.void]]]()
        self._merged, self._changed = -1, -1
        with self._usable():
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.file, timeout=30.0, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_TABLES)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # ------------------------------------------------------------------ what comes in

    def add(self, records: Iterable[Record], marks: Mapping[str, int] = MappingProxyType({})) -> list[Found]:
        """Take records in, all or none; what is known already is left as it is. Nothing is ever overwritten: another
        digest is another version. `marks` are numbers that are kept in the same stroke.

        Raises ValueError where an id is known with another digest."""
        made, now = list[Found](), time.time()
        with self._changing() as db:
            known: dict[tuple[str, str], int] = {}
            for record in records:
                if (there := self._find(db, record.id)) is not None:
                    if there.record.digest != record.digest:
                        raise ValueError(f"{record.id} is known as {there.record.digest}, and is not {record.digest}")
                    made.append(there)
                    continue
                (last, version) = db.execute(
                    "SELECT n, version FROM records WHERE name=? ORDER BY version DESC LIMIT 1", (record.name,)
                ).fetchone() or (0, 0)
                n = db.execute(
                    "INSERT INTO records(id, name, version, digest, created, added, body) VALUES(?, ?, ?, ?, ?, ?, ?)",
                    (record.id, record.name, version + 1, record.digest, record.created, now, _encode(record)),
                ).lastrowid
                assert n is not None
                said = {*record.terms(), *((_WORD, word) for word in _words(record.words()))}
                tags = [(self._term(db, known, facet, value), n) for facet, value in sorted(said)]
                if last:
                    tags.append((self._term(db, known, _STATE, "superseded"), last))
                self._tag(db, tags)
                ends = [(_number(v.name, v.unit), v.low, v.high) for v in record.variables]
                ends.append((_CREATED, record.created, record.created))
                db.executemany(
                    "INSERT OR IGNORE INTO measured VALUES(?, ?, ?, ?)",
                    [(self._term(db, known, _NUMBER, what), n, low, high) for what, low, high in ends
                     if low is not None and high is not None],
                )  # fmt: skip
                db.executemany("INSERT OR IGNORE INTO lineage VALUES(?, ?)", [(record.id, u) for u in record.used])
                made.append(Found(record, version + 1, now))
            for name, value in marks.items():
                db.execute("INSERT INTO marks VALUES(?, ?) ON CONFLICT(name) DO UPDATE SET value=excluded.value",
                           (name, value))  # fmt: skip
            self._merge(db)
        return made

    def mark(self, name: str) -> int:
        """A number that was kept with records, 0 where none was."""
        with self._lock, self._usable():
            row = self._db.execute("SELECT value FROM marks WHERE name=?", (name,)).fetchone()
        return row[0] if row else 0

    def count(self) -> int:
        """How many versions it has."""
        with self._lock, self._usable():
            (found,) = self._db.execute("SELECT COUNT(*) FROM records").fetchone()
        return int(found)

    def retract(self, id: str, reason: str, by: str) -> list[Found]:
        """Say that a record is not to be used any more; all that was made from it. It stays where it is, marked.

        Raises LookupError where there is none, ValueError without a reason.
        """
        if not reason.strip():
            raise ValueError("say why it is retracted: whoever used it will want to know")
        with self._changing() as db:
            row = db.execute("SELECT n, retracted FROM records WHERE id=?", (id,)).fetchone()
            if row is None:
                raise LookupError(f"there is no record {id!r}")
            if not row[1]:
                db.execute("UPDATE records SET retracted=?, by=? WHERE n=?", (reason, by, row[0]))
                self._tag(db, [(self._term(db, {}, _STATE, "retracted"), row[0])])
        return self.downstream(id)

    # ------------------------------------------------------------------ what is asked

    def get(self, id: str) -> Found:
        """One version by its id, or the newest by its name. Raises LookupError."""
        with self._lock, self._usable():
            found = self._find(self._db, id)
            if found is None:
                row = self._db.execute(
                    "SELECT id FROM records WHERE name=? ORDER BY version DESC LIMIT 1", (id,)
                ).fetchone()
                found = self._find(self._db, row[0]) if row else None
        if found is None:
            raise LookupError(f"there is no record {id!r}")
        return found

    def versions(self, name: str) -> list[Found]:
        """All versions of a name, the oldest first."""
        with self._lock, self._usable():
            return list(self._load("WHERE name=? ORDER BY version", name))

    def upstream(self, id: str) -> list[Found]:
        """All that it was made from, and what that was made from, as far as it is known here."""
        return self._along(
            "SELECT used FROM lineage WHERE id=?", "lineage.used FROM lineage JOIN way ON lineage.id", id
        )

    def downstream(self, id: str) -> list[Found]:
        """All that was made from it, and from that."""
        return self._along(
            "SELECT id FROM lineage WHERE used=?", "lineage.id FROM lineage JOIN way ON lineage.used", id
        )

    def search(self, query: Query, limit: int = 20, after: int = 0, facets: Sequence[str] | None = None) -> Page:
        """Some of what is found, newest first, or the best first where it is found by words; and counts of facets,
        of all of them where none are named."""
        with self._lock, self._usable():
            self._db.execute("BEGIN")  # One state of the file for all that is asked of it.
            try:
                return self._search(query, limit, after, facets)
            finally:
                self._db.execute("ROLLBACK")

    def _search(self, query: Query, limit: int, after: int, facets: Sequence[str] | None) -> Page:
        self._refresh()
        (last,) = self._db.execute("SELECT COALESCE(MAX(n), 0) FROM records").fetchone()
        hits = BitMap()
        hits.add_range(1, last + 1)
        if not query.every:
            for value in ("superseded", "retracted"):
                hits -= self._having(_STATE, value)
        if query.ids:
            hits &= BitMap(
                n for id in query.ids for (n,) in self._db.execute("SELECT n FROM records WHERE id=?", (id,))
            )
        for facet, values in query.where.items():
            hits &= BitMap.union(BitMap(), *(self._having(facet, value) for value in values))
        for wanted in query.ranges:
            hits &= self._in_any_unit(wanted)
        if query.since is not None or query.until is not None:
            hits &= self._within(_CREATED, query.since, query.until)
        sought = _sought(query.text)
        matching = [self._matching(word, begins) for word, begins in sought]
        for some in matching:
            hits &= some
        order = self._ranked(hits, sought, matching, last) if matching and len(hits) <= _RANKED else None
        chosen, more = _page(hits, order, limit, after)
        shown = dict(self._numbered(chosen))
        counts = dict[str, dict[str, int]]()
        for t, facet, value in self._db.execute(
            "SELECT t, facet, value FROM terms WHERE facet NOT IN (?, ?, ?)", (_STATE, _WORD, _NUMBER)
        ):
            if (facets is None or facet in facets) and (count := hits.intersection_cardinality(self._of(t))):
                counts.setdefault(facet, {})[value] = count
        ordered = {f: dict(sorted(v.items(), key=lambda item: (-item[1], item[0]))) for f, v in sorted(counts.items())}
        return Page(len(hits), tuple(shown[n] for n in chosen), ordered, more)

    def _ranked(
        self, hits: BitMap, sought: Sequence[tuple[str, bool]], matching: Sequence[BitMap], last: int
    ) -> list[int]:  # fmt: skip
        """By how rare the words are that are in a title, then newest first."""
        worth = [log(1 + last / (1 + len(some))) for some in matching]
        scores = dict[int, float]()
        for n, found in self._numbered(hits):
            title = _words(f"{found.record.name} {found.record.card.title}")
            scores[n] = sum(w for w, (word, begins) in zip(worth, sought, strict=True)
                            if any(t.startswith(word) if begins else t == word for t in title))  # fmt: skip
        return sorted(scores, key=lambda n: (-scores[n], -n))

    # ------------------------------------------------------------------ bitmaps and columns

    def _refresh(self) -> None:
        """Learn what has been tagged since, and forget bitmaps that have been written anew."""
        merged, changed = self._db.execute("SELECT merged, changed FROM stamp").fetchone()
        if merged != self._merged:
            self._bits, self._columns = {}, {}
        if changed != self._changed:
            rows = self._db.execute("SELECT t, n FROM tagged ORDER BY t, n").fetchall()
            self._tail, self._whole = _by_term(rows), {}
        self._merged, self._changed = merged, changed

    def _having(self, facet: str, value: str) -> BitMap:
        row = self._db.execute("SELECT t FROM terms WHERE facet=? AND value=?", (facet, value)).fetchone()
        return self._of(row[0]) if row else BitMap()

    def _matching(self, word: str, begins: bool) -> BitMap:
        if not begins:
            return self._having(_WORD, word)
        rows = self._db.execute(
            "SELECT t FROM terms WHERE facet=? AND value>=? AND value<? LIMIT ?",
            (_WORD, word, word + chr(0x10FFFF), _COMPLETED),
        ).fetchall()
        return BitMap.union(BitMap(), *(self._of(t) for (t,) in rows))

    def _of(self, t: int) -> BitMap:
        """All records with a term."""
        if t not in self._whole:
            if t not in self._bits:
                rows = self._db.execute("SELECT content FROM bits WHERE t=?", (t,))
                self._bits[t] = BitMap.union(BitMap(), *(BitMap.deserialize(content) for (content,) in rows))
            self._whole[t] = self._bits[t] | self._tail[t] if t in self._tail else self._bits[t]
        return self._whole[t]

    def _in_any_unit(self, wanted: Range) -> BitMap:
        found = self._within(_number(wanted.variable, wanted.unit), wanted.low, wanted.high)
        prefix = _number(wanted.variable, "")
        for (value,) in self._db.execute(
            "SELECT value FROM terms WHERE facet=? AND value>=? AND value<?", (_NUMBER, prefix, prefix + chr(0x10FFFF))
        ).fetchall():
            unit = value.removeprefix(prefix)
            if not wanted.unit:
                found |= self._within(value, wanted.low, wanted.high)
            elif self._convert is not None and unit != wanted.unit:
                with suppress(ValueError):  # Of another kind altogether: nothing in it can be meant.
                    low, high = (
                        None if end is None else self._convert(end, wanted.unit, unit)
                        for end in (wanted.low, wanted.high)
                    )
                    found |= self._within(value, low, high)
        return found

    def _within(self, what: str, low: float | None, high: float | None) -> BitMap:
        """Records of which a variable has values between two ends."""
        row = self._db.execute("SELECT t FROM terms WHERE facet=? AND value=?", (_NUMBER, what)).fetchone()
        if row is None:
            return BitMap()
        (t,) = row
        if t not in self._columns:
            blocks = self._db.execute("SELECT content FROM columns WHERE t=?", (t,))
            self._columns[t] = np.concatenate([np.empty(0, _END), *(np.frombuffer(c, _END) for (c,) in blocks)])
        tail = np.array(self._db.execute("SELECT n, low, high FROM measured WHERE t=?", (t,)).fetchall(), _END)
        ends = np.concatenate([self._columns[t], tail])
        low, high = -inf if low is None else low, inf if high is None else high
        return BitMap(np.ascontiguousarray(ends["n"][(ends["low"] <= high) & (ends["high"] >= low)]))

    @staticmethod
    def _tag(db: sqlite3.Connection, tags: Sequence[tuple[int, int]]) -> None:
        db.executemany("INSERT OR IGNORE INTO tagged VALUES(?, ?)", tags)
        db.execute("UPDATE stamp SET waiting=waiting+?", (len(tags),))

    def _merge(self, db: sqlite3.Connection) -> None:
        """Write blocks anew with what has been tagged, once that is enough."""
        if db.execute("SELECT waiting FROM stamp").fetchone()[0] < _MERGED_AFTER:
            return
        for t, some in _by_term(db.execute("SELECT t, n FROM tagged ORDER BY t, n").fetchall()).items():
            for block, part in _blocks(some):
                row = db.execute("SELECT content FROM bits WHERE t=? AND block=?", (t, block)).fetchone()
                whole = BitMap.deserialize(row[0]) | part if row else part
                db.execute("INSERT OR REPLACE INTO bits VALUES(?, ?, ?)", (t, block, whole.serialize()))
        measured = db.execute("SELECT t, n >> ?, n, low, high FROM measured ORDER BY t, n", (_BLOCK,)).fetchall()
        for (t, block), group in groupby(measured, key=lambda row: row[:2]):
            row = db.execute("SELECT content FROM columns WHERE t=? AND block=?", (t, block)).fetchone()
            more = np.array([tuple(r[2:]) for r in group], _END).tobytes()
            db.execute("INSERT OR REPLACE INTO columns VALUES(?, ?, ?)", (t, block, (row[0] if row else b"") + more))
        db.execute("DELETE FROM tagged")
        db.execute("DELETE FROM measured")
        db.execute("UPDATE stamp SET merged=merged+1, waiting=0")

    @staticmethod
    def _term(db: sqlite3.Connection, known: dict[tuple[str, str], int], facet: str, value: str) -> int:
        if (facet, value) not in known:
            db.execute("INSERT OR IGNORE INTO terms(facet, value) VALUES(?, ?)", (facet, value))
            (known[facet, value],) = db.execute(
                "SELECT t FROM terms WHERE facet=? AND value=?", (facet, value)
            ).fetchone()
        return known[facet, value]

    # ------------------------------------------------------------------ rows

    def _find(self, db: sqlite3.Connection, id: str) -> Found | None:
        return next(iter(self._load("WHERE id=?", id)), None)

    def _load(self, where: str, *args: object) -> Iterator[Found]:
        for body, version, added, retracted, by in self._db.execute(
            f"SELECT body, version, added, retracted, by FROM records {where}", args
        ):
            yield Found(_record.decode(body), version, added, retracted, by)

    def _numbered(self, chosen: Iterable[int]) -> Iterator[tuple[int, Found]]:
        for n in chosen:
            yield n, next(self._load("WHERE n=?", n))

    def _along(self, first: str, step: str, id: str) -> list[Found]:
        sql = f"WITH RECURSIVE way(id) AS ({first} UNION SELECT {step}=way.id) SELECT id FROM way"
        with self._lock, self._usable():
            ids = [row[0] for row in self._db.execute(sql, (id,)) if row[0] != id]
            return [found for other in ids if (found := self._find(self._db, other)) is not None]

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._usable():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("UPDATE stamp SET changed=changed+1")
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(f"the index {self.file} cannot be used: {error}") from error


def _by_term(rows: Sequence[tuple[int, int]]) -> dict[int, BitMap]:
    """The records of each term, from pairs in order."""
    if not rows:
        return {}
    pairs = np.array(rows, np.uint32)
    ts, starts = np.unique(pairs[:, 0], return_index=True)
    return {
        int(t): BitMap(np.ascontiguousarray(ns)) for t, ns in zip(ts, np.split(pairs[:, 1], starts[1:]), strict=True)
    }


def _blocks(some: BitMap) -> Iterator[tuple[int, BitMap]]:
    while some:
        block = some[0] >> _BLOCK
        end = (block + 1) << _BLOCK
        part = some & BitMap(range(block << _BLOCK, end)) if some[len(some) - 1] >= end else some
        yield block, part
        some = some - part


def _words(text: str) -> set[str]:
    """The words of a text, without case and accents."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return set(re.findall(r"\w+", plain))


def _sought(text: str) -> list[tuple[str, bool]]:
    """The words that are looked for, and whether they are beginnings: the last one is, where no space follows it."""
    whole = [(word, False) for word in sorted(_words(text))]
    last = re.search(r"\w+$", text)
    if last is not None:
        (word,) = _words(last[0])
        whole = [*((w, b) for w, b in whole if w != word), (word, True)]
    return whole


def _number(variable: str, unit: str) -> str:
    return f"{variable}\n{unit}"


def _page(hits: BitMap, order: Sequence[int] | None, limit: int, after: int) -> tuple[list[int], int]:
    """The numbers of one page, and where the next begins."""
    if order is not None:
        some = list(order[after : after + limit])
        return some, after + limit if after + limit < len(order) else 0
    below = hits if not after else hits & BitMap(range(1, after))
    count = len(below)
    some = [below[i] for i in range(count - 1, max(-1, count - 1 - limit), -1)]
    return some, some[-1] if some and count > limit else 0
