"""The journal over a database with SQL: everything but what `_database.Database` names."""

import asyncio
import functools
from collections.abc import AsyncIterator, Sequence

from firstlight import core

from ._bell import Bell
from ._chain import Finding, Head, genesis, link
from ._database import Database, Session
from ._readers import Readers
from ._verify import Anchors
from ._writer import Writer

_CHUNK = 500
"""Entries read at a time: a few milliseconds of decoding."""
_ROWS = 64
"""Rows of one INSERT: one statement costs a switch between threads, however many rows it has."""
_ANCHOR = 1000
"""A head is anchored every so many entries of a campaign, and whenever its lease is released."""


class _Lease:
    """The right to append, good until released, lost, or an append under it failed."""

    def __init__(self, log: "LogJournal", campaign: str, token: object, head: Head) -> None:
        self._log, self.campaign, self.token = log, campaign, token
        self.head, self.anchored = head, head.seq
        self.broken = ""

    async def release(self) -> None:
        """Let go of it, after all appends made before. Doing it again changes nothing."""
        await self._log.release(self)


class LogJournal:
    """An append-only log in a database: one writer with group commit, any number of readers.

    Giving up on `append` (cancelling it) does not take the entry back: it may still become durable.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bell = Bell()
        self._readers = Readers(database)
        self._writer = Writer(database, self._bell)
        self._leases: set[_Lease] = set()
        self._closed = False

    # ------------------------------------------------------------- the lease

    async def lease(self, campaign: str, holder: str) -> core.Lease:
        """Take the lease. Raises Held, which names the holder, and Unavailable."""

        def take() -> _Lease:
            token = self._database.lock(campaign, holder)
            try:
                session = self._database.begin()
                found = session.execute("SELECT seq, digest FROM heads WHERE campaign = ?", (campaign,)).fetchone()
                self._database.rollback()
            except BaseException:
                self._database.unlock(campaign, token)
                raise
            lease = _Lease(self, campaign, token, Head(found[0], bytes(found[1])) if found else genesis(campaign))
            self._leases.add(lease)
            return lease

        taking = asyncio.ensure_future(self._writer.alone(take))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(self._forsake)
            raise

    def _forsake(self, taking: "asyncio.Future[_Lease]") -> None:
        """Give back a lease that came after its taker had gone."""
        if not taking.cancelled() and taking.exception() is None:
            lease = taking.result()
            self._forsaken = asyncio.ensure_future(lease.release())

    async def release(self, lease: _Lease) -> None:
        """What `Lease.release` does."""
        if lease in self._leases:
            await self._writer.alone(lambda: self._let_go(lease))

    def _let_go(self, lease: _Lease) -> None:
        if lease not in self._leases:
            return
        self._leases.discard(lease)
        held = self._database.holds(lease.token)
        lease.broken = lease.broken or "it was released"
        try:
            if held and lease.head.seq > lease.anchored:
                self._database.anchor(lease.campaign, lease.head)
        finally:
            self._database.unlock(lease.campaign, lease.token)

    async def holder(self, campaign: str) -> str:
        return await self._readers.run(lambda session: self._database.holder(session, campaign))

    # ------------------------------------------------------------- writing

    async def append(self, lease: core.Lease, entry: core.Entry, mail: str = "") -> None:
        """Make one entry durable. Raises Conflict, and Unavailable where the database fails.

        Whichever it is, the lease is good for nothing more: release it, take it anew, and read what is there.
        """
        await self.append_all(lease, [(entry, mail)])

    async def append_all(self, lease: core.Lease, entries: Sequence[tuple[core.Entry, str]]) -> None:
        """Make entries durable, in this order and in one transaction: all of them or none. Raises as `append`."""
        mine = self._mine(lease)
        lines = [(entry.seq, core.encode(entry)) for entry, _ in entries]
        mails = [mail for _, mail in entries if mail]
        before: Head | None = None

        def write(session: Session) -> None:
            nonlocal before
            before = head = mine.head
            self._check(mine, mails, session)
            rows: list[tuple[object, ...]] = []
            for seq, line in lines:
                if seq != head.seq + 1:
                    raise core.Conflict(f"entry {seq} cannot follow entry {head.seq} of campaign {mine.campaign}")
                head = link(head, line)
                rows.append((mine.campaign, seq, line, head.digest))
            if not _advance(session, mine.campaign, mine.head, head):
                raise core.Conflict(f"campaign {mine.campaign} was written by somebody else: the lease was not kept")
            _insert(session, rows)
            for mail in mails:
                session.execute("UPDATE mail SET answer = '' WHERE number = ?", (int(mail),))
            mine.head = head

        last = lines[-1][0]
        await self._writer.write(mine.campaign, write, failed=lambda error: _break(mine, before, error), last=last)
        if mine.head.seq - mine.anchored >= _ANCHOR:
            await self._writer.alone(lambda: self._anchor(mine))

    def _anchor(self, lease: _Lease) -> None:
        if lease not in self._leases or lease.broken or lease.head.seq - lease.anchored < _ANCHOR:
            return
        try:
            self._database.anchor(lease.campaign, lease.head)
        except OSError as error:
            # The entry is durable all the same: it is the next one that must not follow.
            lease.broken = f"its anchor could not be written ({error})"
        lease.anchored = lease.head.seq

    def _mine(self, lease: core.Lease) -> _Lease:
        if not isinstance(lease, _Lease):
            raise core.Conflict(f"the lease of campaign {lease.campaign} was not given by this journal")
        return lease

    def _check(self, lease: _Lease, mails: Sequence[str], session: Session) -> None:
        """That the lease is good and these mails still wait."""
        if lease not in self._leases and not lease.broken:
            lease.broken = "it was not given by this journal"
        elif not lease.broken and not self._database.holds(lease.token):
            lease.broken = "it was lost"
        if lease.broken:
            raise core.Conflict(f"the lease of campaign {lease.campaign} is no longer good: {lease.broken}")
        for mail in mails:
            sql = "SELECT 1 FROM mail WHERE number = ? AND campaign = ? AND answer IS NULL"
            if not mail.isdecimal() or session.execute(sql, (int(mail), lease.campaign)).fetchone() is None:
                raise core.Conflict(f"mail {mail} of campaign {lease.campaign} is unknown or answered already")

    # ------------------------------------------------------------- reading

    async def read(self, campaign: str, after: int = 0) -> AsyncIterator[core.Entry]:
        while True:
            chunk = await self._readers.run(functools.partial(_chunk, campaign=campaign, after=after))
            for entry in chunk:
                yield entry
            if len(chunk) < _CHUNK:
                return
            after += len(chunk)

    async def campaigns(self) -> Sequence[str]:
        sql = "SELECT campaign FROM heads ORDER BY number"
        return [campaign for (campaign,) in await self._readers.run(lambda session: session.execute(sql).fetchall())]

    async def changed(self, campaign: str, after: int, timeout: float) -> bool:
        sql = (
            "SELECT 1 FROM heads WHERE campaign = ? AND seq > ? "
            "UNION ALL SELECT 1 FROM mail WHERE campaign = ? AND answer IS NULL LIMIT 1"
        )

        async def news() -> bool:
            values = campaign, after, campaign
            return await self._readers.run(lambda session: session.execute(sql, values).fetchone() is not None)

        return await self._bell.wait(campaign, after, news, timeout, began=self._writer.poke)

    # ------------------------------------------------------------- mail

    async def post(self, campaign: str, fact: core.Fact, by: str) -> str:
        # Mail is kept as an entry that has no place yet, so that old mail is read like old entries.
        line = core.encode(core.Entry(seq=0, at=0.0, by=by, fact=fact))

        def write(session: Session) -> str:
            sql = "INSERT INTO mail (campaign, line) VALUES (?, ?) RETURNING number"
            (number,) = session.execute(sql, (campaign, line)).fetchone()
            return str(number)

        return await self._writer.write(campaign, write)

    async def mail(self, campaign: str) -> Sequence[core.Mail]:
        sql = "SELECT number, line FROM mail WHERE campaign = ? AND answer IS NULL ORDER BY number"
        rows = await self._readers.run(lambda session: session.execute(sql, (campaign,)).fetchall())
        letters = [(number, core.decode(bytes(line))) for number, line in rows]
        return [core.Mail(id=str(number), fact=letter.fact, by=letter.by) for number, letter in letters]

    async def answer(self, lease: core.Lease, mail: str, refusal: str) -> None:
        """Refuse a mail. Raises Conflict where the lease is no longer good, or the mail answered already."""
        if not refusal:
            raise ValueError(f"say why mail {mail} is refused")
        mine = self._mine(lease)

        def write(session: Session) -> None:
            self._check(mine, [mail], session)
            session.execute("UPDATE mail SET answer = ? WHERE number = ?", (refusal, int(mail)))

        await self._writer.write(mine.campaign, write)

    async def answered(self, mail: str) -> str | None:
        """None while it waits, "" once recorded, else why it was refused. Raises LookupError for no such mail."""
        sql = "SELECT answer FROM mail WHERE number = ?"
        number = int(mail) if mail.isdecimal() else 0
        found = await self._readers.run(lambda session: session.execute(sql, (number,)).fetchone())
        if found is None:
            raise LookupError(f"no mail {mail!r}")
        answer: str | None = found[0]
        return answer

    # ------------------------------------------------------------- the whole

    async def close(self) -> None:
        """Write what is queued, release every lease, and let go of the database."""
        if self._closed:
            return
        self._closed = True
        ends = await asyncio.gather(*(lease.release() for lease in list(self._leases)), return_exceptions=True)
        await self._writer.close()
        self._readers.close()
        self._database.close()
        # An anchor that could not be written keeps nothing open, but is not passed over either.
        for end in ends:
            if end is not None:
                raise end

    def verify(self, anchors: Anchors) -> Sequence[Finding]:
        """What `firstlight.journal.verify` does for this journal."""
        return self._database.verify(anchors)


def _advance(session: Session, campaign: str, head: Head, to: Head) -> bool:
    """Move a campaign's recorded head on, if it is where it should be."""
    if head.seq == 0:
        sql = "INSERT INTO heads (campaign, seq, digest) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        return session.execute(sql, (campaign, to.seq, to.digest)).rowcount == 1
    sql = "UPDATE heads SET seq = ?, digest = ? WHERE campaign = ? AND seq = ? AND digest = ?"
    return session.execute(sql, (to.seq, to.digest, campaign, head.seq, head.digest)).rowcount == 1


def _insert(session: Session, rows: Sequence[tuple[object, ...]]) -> None:
    for first in range(0, len(rows), _ROWS):
        some = rows[first : first + _ROWS]
        sql = "INSERT INTO entries VALUES (?, ?, ?, ?)" + ", (?, ?, ?, ?)" * (len(some) - 1)
        session.execute(sql, [value for row in some for value in row])


def _chunk(session: Session, campaign: str, after: int) -> list[core.Entry]:
    sql = "SELECT line FROM entries WHERE campaign = ? AND seq > ? ORDER BY seq LIMIT ?"
    rows = session.execute(sql, (campaign, after, _CHUNK)).fetchall()
    entries = []
    for number, (line,) in enumerate(rows, after + 1):
        try:
            entries.append(core.decode(bytes(line)))
        except core.UnreadableEntry as error:
            raise core.UnreadableEntry(f"campaign {campaign}, entry {number}: {error}") from error
    return entries


def _break(lease: _Lease, before: Head | None, error: Exception) -> None:
    """After a failed append: what was written before it is as far as the chain is known to go."""
    lease.broken = lease.broken or f"an append failed ({error})"
    lease.head = lease.head if before is None else min(lease.head, before)
