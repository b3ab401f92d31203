"""Find out whether a journal is what was written."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ._anchors import read_anchors
from ._chain import Finding, Head, check
from ._database import Session

_CHUNK = 2000
Anchors = Mapping[str, Sequence[Head]]


class Verifiable(Protocol):
    """A journal that can be walked."""

    def verify(self, anchors: Anchors) -> Sequence[Finding]: ...


def verify(journal: Verifiable | Path | str, anchors: Path | str | None = None) -> Sequence[Finding]:
    """Walk every campaign's hash chain, and tell what is wrong; nothing found means that nothing is.

    `journal` is a journal, or the path of a SQLite journal, whose anchors (`journal.heads` beside
    `journal.db`) are read too. `anchors` is another copy of such a file, best one kept by somebody else.

    An altered, missing, moved or cut-off entry is found. Whoever owns database and anchors can still write
    a false history anew from its first entry, with digests and anchors to match, or take back what came
    after the last anchor: only anchors kept out of the owner's reach tell that. Blocks while it reads.
    """
    known, findings = _anchored(anchors)
    if isinstance(journal, (Path, str)):
        return [*findings, *verify_file(Path(journal), known)]
    return [*findings, *journal.verify(known)]


def examine(session: Session, anchors: Anchors) -> list[Finding]:
    """Every campaign of an open database, against its recorded heads and the anchors."""
    heads = {
        c: Head(seq, bytes(digest))
        for c, seq, digest in session.execute("SELECT campaign, seq, digest FROM heads").fetchall()
    }
    stored = {c for (c,) in session.execute("SELECT DISTINCT campaign FROM entries").fetchall()}
    found: list[Finding] = []
    for campaign in sorted(stored | heads.keys() | anchors.keys()):
        found += check(campaign, _rows(session, campaign), heads.get(campaign), anchors.get(campaign, ()))
    return found


def _rows(session: Session, campaign: str) -> Iterator[tuple[int, bytes, bytes]]:
    last = -(2**62)
    sql = "SELECT seq, line, digest FROM entries WHERE campaign = ? AND seq > ? ORDER BY seq LIMIT ?"
    while rows := session.execute(sql, (campaign, last, _CHUNK)).fetchall():
        for seq, line, digest in rows:
            yield seq, bytes(line), bytes(digest)
        last = rows[-1][0]


def verify_file(path: Path, anchors: Anchors) -> list[Finding]:
    """The same for a SQLite file and the anchors beside it."""
    # Anchors first: one that is written meanwhile must not look like entries that were cut off.
    beside = path.with_suffix(".heads")
    own, found = _anchored(beside if beside.exists() else None)
    anchors = {c: [*own.get(c, ()), *anchors.get(c, ())] for c in {**own, **anchors}}
    if not path.is_file():
        return [*found, Finding(campaign="", seq=0, problem=f"there is no file {path}")]
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            damage = [p for (p,) in connection.execute("PRAGMA quick_check(20)").fetchall() if p != "ok"]
            found += [Finding(campaign="", seq=0, problem=f"the database is damaged: {p}") for p in damage]
            connection.execute("BEGIN")
            return found + examine(connection, anchors)
        finally:
            connection.close()
    except sqlite3.Error as error:
        return [*found, Finding(campaign="", seq=0, problem=f"{path} cannot be read: {error}")]


def _anchored(path: Path | str | None) -> tuple[Anchors, list[Finding]]:
    if path is None:
        return {}, []
    try:
        anchors, problems = read_anchors(Path(path))
    except OSError as error:
        return {}, [Finding(campaign="", seq=0, problem=f"the anchors cannot be read: {error}")]
    return anchors, [Finding(campaign="", seq=0, problem=problem) for problem in problems]
