"""What there is, found by words, facets, ranges and lineage: a file of SQLite beside the data, or PostgreSQL.

Words and values of facets have bitmaps (roaring, Lemire et al. 2016, doi:10.1002/spe.2325) of the records that have
them, so that facets of a million records are counted in milliseconds, and columns the ends of a variable's values.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from math import log
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
from pyroaring import BitMap

from firstlight.core import Value

from ._bitmaps import Bitmaps, Stamp, keep, numbered
from ._database import Session, among, is_address, open_database
from ._records import Card, File, Record, Variable, digest_of_files
from ._words import sought, words

__all__ = ["Card", "File", "Found", "Index", "Page", "Query", "Range", "Record", "Variable", "digest_of_files"]

_STATE, _WORD, _NUMBER = "state", "word", "number"
"""Facets of our own, which are not counted: what has become of a record, its words, its variables with their units."""
_CREATED = "created"
"""When data were made, among the variables: no variable is called so, as those have a line for their unit."""
_RANKED = 2_000
"""Records found by words that are ordered by how well they match; more of them come newest first."""
_COMPLETED = 500
"""Words that a beginning stands for at most, the first of the alphabet."""
_AT_ONCE = 1_000
"""Records that are taken in together."""
_LAST = chr(0x10FFFF)
"""Comes after everything that a text goes on with."""
_MARKED = "INSERT INTO marks VALUES(?, ?) ON CONFLICT(name) DO UPDATE SET value=excluded.value"
_ROW = "id, body, version, added, retracted, by"

_record = msgspec.json.Decoder(Record)
_encode = msgspec.json.Encoder(order="deterministic").encode


class _Titled(msgspec.Struct):
    """Of a record, what says how well it matches words."""

    name: str
    card: Card = Card()


_titled = msgspec.json.Decoder(_Titled)


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
    """The index in a file, or at an address of PostgreSQL (postgresql://user@host/database), where many hosts share it.

    Safe for several threads and processes: a search sees all that was added before it, and those who add wait for each
    other. Everything here raises `Unavailable` wherever the database cannot be used, and a change that did may be
    repeated: what is known already is left as it is.
    """

    def __init__(self, place: Path | str, convert: Callable[[float, str, str], float] | None = None) -> None:
        """`convert` turns a number from one unit into another, or raises ValueError; without it, ranges are found in
        the unit in which they are asked for only."""
        self._convert = convert
        self.file = Path() if is_address(place) else Path(place)
        """Where it is, if it is a file."""
        self._lock = threading.RLock()
        self._bitmaps = Bitmaps()
        self._database = open_database(place)

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    # ------------------------------------------------------------------ what comes in

    def add(self, records: Iterable[Record], marks: Mapping[str, int] = MappingProxyType({})) -> list[Found]:
        """Take records in, all or none; what is known already is left as it is. Nothing is ever overwritten: another
        digest is another version. `marks` are numbers that are kept in the same stroke.

        Raises ValueError where an id is known with another digest.
        """
        made, now, left = list[Found](), time.time(), iter(records)
        with self._changing() as db:
            stamp = Stamp.taken(db)
            while some := list(islice(left, _AT_ONCE)):
                there = {f.record.id: f for f in _load(db, "id", (record.id for record in some))}
                new = list[Record]()
                for record in some:
                    if record.id not in there:
                        there[record.id] = Found(record, 0, now)
                        new.append(record)
                    elif (known := there[record.id].record.digest) != record.digest:
                        raise ValueError(f"{record.id} is known as {known}, and is not {record.digest}")
                stamp = _take(db, stamp, new, there, now) if new else stamp
                made += (there[record.id] for record in some)
            if marks:
                db.executemany(_MARKED, list(marks.items()))
            stamp.write(db)
        return made

    def mark(self, name: str) -> int:
        """A number that was kept with records, 0 where none was."""
        with self._reading() as db:
            row = db.execute("SELECT value FROM marks WHERE name=?", (name,)).fetchone()
        return int(row[0]) if row else 0

    def count(self) -> int:
        """How many versions it has."""
        with self._reading() as db:
            (found,) = db.execute("SELECT records FROM stamp").fetchone()
        return int(found)

    def retract(self, id: str, reason: str, by: str) -> list[Found]:
        """Say that a record is not to be used any more; all that was made from it. It stays where it is, marked, and
        what is said first stands.

        Raises LookupError where there is none, ValueError without a reason.
        """
        if not reason.strip():
            raise ValueError("say why it is retracted: whoever used it will want to know")
        with self._changing() as db:
            stamp = Stamp.taken(db)
            row = db.execute("SELECT n, retracted FROM records WHERE id=?", (id,)).fetchone()
            if row is None:
                raise LookupError(f"there is no record {id!r}")
            if not row[1]:
                db.execute("UPDATE records SET retracted=?, by=? WHERE n=?", (reason, by, row[0]))
                retracted = _term(_STATE, "retracted")
                stamp, known = numbered(db, stamp, {retracted: False})
                keep(db, stamp, [known[retracted]], [row[0]]).write(db)
        return self.downstream(id)

    # ------------------------------------------------------------------ what is asked

    def get(self, id: str) -> Found:
        """One version by its id, or the newest by its name. Raises LookupError."""
        with self._reading() as db:
            for where in ("id=?", "name=? ORDER BY version DESC LIMIT 1"):
                for row in db.execute(f"SELECT {_ROW} FROM records WHERE {where}", (id,)).fetchall():
                    return _found(row)
        raise LookupError(f"there is no record {id!r}")

    def versions(self, name: str) -> list[Found]:
        """All versions of a name, the oldest first."""
        with self._reading() as db:
            rows = db.execute(f"SELECT {_ROW} FROM records WHERE name=? ORDER BY version", (name,)).fetchall()
        return [_found(row) for row in rows]

    def upstream(self, id: str) -> list[Found]:
        """All that it was made from, and what that was made from, as far as it is known here."""
        return self._along("id", "used", id)

    def downstream(self, id: str) -> list[Found]:
        """All that was made from it, and from that."""
        return self._along("used", "id", id)

    def search(self, query: Query, limit: int = 20, after: int = 0, facets: Sequence[str] | None = None) -> Page:
        """Some of what is found, newest first, or the best first where it is found by words; and counts of facets,
        of all of them where none are named."""
        with self._reading() as db:
            last = self._bitmaps.refresh(db).records
            words = sought(query.text)
            matching = [self._matching(db, word, begins) for word, begins in words]
            hits = self._hits(db, query, last)
            for some in matching:
                hits &= some
            order = _ranked(db, hits, words, matching, last) if matching and len(hits) <= _RANKED else None
            chosen, more = _page(hits, order, limit, after)
            found = {row[0]: _found(row[1:]) for row in among(db, f"SELECT n, {_ROW} FROM records WHERE n IN", chosen)}
            wanted = [t for t, (facet, _) in self._bitmaps.facets.items() if facets is None or facet in facets]
            counts = dict[str, dict[str, int]]()
            for t, some in zip(wanted, self._bitmaps.having(db, wanted), strict=True):
                if count := hits.intersection_cardinality(some):
                    facet, value = self._bitmaps.facets[t]
                    counts.setdefault(facet, {})[value] = count
        ordered = {f: dict(sorted(v.items(), key=lambda item: (-item[1], item[0]))) for f, v in sorted(counts.items())}
        return Page(len(hits), tuple(found[n] for n in chosen), ordered, more)

    def _hits(self, db: Session, query: Query, last: int) -> BitMap:
        """All that is found, but for its words."""
        hits = BitMap()
        hits.add_range(1, last + 1)
        if not query.every:
            hits -= self._having(db, [_term(_STATE, "superseded"), _term(_STATE, "retracted")])
        if query.ids:
            hits &= BitMap([n for (n,) in among(db, "SELECT n FROM records WHERE id IN", query.ids)])
        for facet, values in query.where.items():
            hits &= self._having(db, [_term(facet, value) for value in values])
        for wanted in query.ranges:
            hits &= self._in_any_unit(db, wanted)
        if query.since is not None or query.until is not None:
            hits &= self._within(db, _CREATED, query.since, query.until)
        return hits

    def _having(self, db: Session, terms: Sequence[str]) -> BitMap:
        """The records that have one of some terms."""
        ts = [t for (t,) in among(db, "SELECT t FROM terms WHERE term IN", terms)]
        return BitMap.union(BitMap(), *self._bitmaps.having(db, ts))

    def _matching(self, db: Session, word: str, begins: bool) -> BitMap:
        first = _term(_WORD, word)
        if not begins:
            return self._having(db, [first])
        sql = "SELECT t FROM terms WHERE term>=? AND term<? ORDER BY term LIMIT ?"
        ts = [t for (t,) in db.execute(sql, (first, first + _LAST, _COMPLETED)).fetchall()]
        return BitMap.union(BitMap(), *self._bitmaps.having(db, ts))

    def _in_any_unit(self, db: Session, wanted: Range) -> BitMap:
        found = self._within(db, _number(wanted.variable, wanted.unit), wanted.low, wanted.high)
        first = _term(_NUMBER, _number(wanted.variable, ""))
        sql = "SELECT term FROM terms WHERE term>=? AND term<?"
        for (term,) in db.execute(sql, (first, first + _LAST)).fetchall():
            unit = term.removeprefix(first)
            low, high = wanted.low, wanted.high
            if wanted.unit:
                if self._convert is None or unit == wanted.unit:
                    continue
                try:
                    low, high = (None if end is None else self._convert(end, wanted.unit, unit) for end in (low, high))
                except ValueError:  # Of another kind altogether: nothing in it can be meant.
                    continue
            found |= self._within(db, _number(wanted.variable, unit), low, high)
        return found

    def _within(self, db: Session, what: str, low: float | None, high: float | None) -> BitMap:
        """Records of which a variable has values between two ends."""
        row = db.execute("SELECT t FROM terms WHERE term=?", (_term(_NUMBER, what),)).fetchone()
        return self._bitmaps.within(db, row[0], low, high) if row else BitMap()

    def _along(self, source: str, target: str, id: str) -> list[Found]:
        sql = (
            f"WITH RECURSIVE way(id) AS (SELECT {target} FROM lineage WHERE {source}=? "
            f"UNION SELECT lineage.{target} FROM lineage JOIN way ON lineage.{source}=way.id) SELECT id FROM way"
        )
        with self._reading() as db:
            ids = [other for (other,) in db.execute(sql, (id,)).fetchall() if other != id]
            found = {f.record.id: f for f in _load(db, "id", ids)}
        return [found[other] for other in ids if other in found]

    @contextmanager
    def _changing(self) -> Iterator[Session]:
        with self._lock, self._database.transaction(writing=True) as db:
            yield db

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        with self._lock, self._database.transaction(writing=False) as db:
            yield db


def _take(db: Session, stamp: Stamp, new: Sequence[Record], there: dict[str, Found], now: float) -> Stamp:
    """Write records that are not known yet, and say in `there` which versions they are."""
    sql = "SELECT name, MAX(n), MAX(version) FROM records WHERE name IN"
    newest = {
        name: (n, version) for name, n, version in among(db, sql, {record.name for record in new}, end=" GROUP BY name")
    }
    keys, ns = list[tuple[str, str]](), list[int]()
    ended = dict[tuple[str, int], tuple[float, float]]()
    rows = list[tuple[object, ...]]()
    for n, record in enumerate(new, stamp.records + 1):
        last, version = newest.get(record.name, (0, 0))
        newest[record.name] = (n, version + 1)
        there[record.id] = Found(record, version + 1, now)
        rows.append((n, record.id, record.name, version + 1, now, _encode(record)))
        tags = {*record.terms(), *((_WORD, word) for word in words(record.words()))}
        keys += tags
        ns += [n] * len(tags)
        if last:
            keys.append((_STATE, "superseded"))
            ns.append(last)
        ended[_CREATED, n] = (record.created, record.created)
        for v in record.variables:
            if v.low is not None and v.high is not None:
                ended.setdefault((_number(v.name, v.unit), n), (v.low, v.high))
    db.executemany("INSERT INTO records(n, id, name, version, added, body) VALUES(?, ?, ?, ?, ?, ?)", rows)
    uses = {(record.id, used): None for record in new for used in record.used}
    db.executemany("INSERT INTO lineage VALUES(?, ?)", list(uses))
    said = {*keys, *((_NUMBER, what) for what, _ in ended)}
    stamp, known = numbered(db, stamp, {_term(*term): term[0] not in (_STATE, _WORD, _NUMBER) for term in said})
    ts = {term: known[_term(*term)] for term in said}
    return keep(
        db, stamp._replace(records=stamp.records + len(new)), list(map(ts.__getitem__, keys)), ns,
        [(ts[_NUMBER, what], n, low, high) for (what, n), (low, high) in ended.items()],
    )  # fmt: skip


def _ranked(
    db: Session, hits: BitMap, sought: Sequence[tuple[str, bool]], matching: Sequence[BitMap], last: int
) -> list[int]:
    """By how rare the words are that are in a title, then newest first."""
    worth = [log(1 + last / (1 + len(some))) for some in matching]
    scores = dict[int, float]()
    for n, body in among(db, "SELECT n, body FROM records WHERE n IN", hits):
        record = _titled.decode(body)
        title = words(f"{record.name} {record.card.title}")
        scores[n] = sum(w for w, (word, begins) in zip(worth, sought, strict=True)
                        if any(t.startswith(word) if begins else t == word for t in title))  # fmt: skip
    return sorted(scores, key=lambda n: (-scores[n], -n))


def _page(hits: BitMap, order: Sequence[int] | None, limit: int, after: int) -> tuple[list[int], int]:
    """The numbers of one page, and where the next begins."""
    if order is not None:
        some = list(order[after : after + limit])
        return some, after + limit if after + limit < len(order) else 0
    below = hits if not after else hits & BitMap(range(1, after))
    count = len(below)
    some = [below[i] for i in range(count - 1, max(-1, count - 1 - limit), -1)]
    return some, some[-1] if some and count > limit else 0


def _load(db: Session, column: str, keys: Iterable[object]) -> Iterator[Found]:
    return (_found(row) for row in among(db, f"SELECT {_ROW} FROM records WHERE {column} IN", keys))


def _found(row: Sequence[Any]) -> Found:
    return Found(_record.decode(row[1]), *row[2:])


def _term(facet: str, value: str) -> str:
    return f"{facet}\n{value}"


def _number(variable: str, unit: str) -> str:
    return f"{variable}\n{unit}"
