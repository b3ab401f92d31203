"""The journal without a disk: for trials of the loop itself, simulations and tests."""

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Mapping, Sequence

from firstlight import core

from ._bell import Bell
from ._chain import Finding, Head

_BREATH = 1000
"""Entries read before the event loop gets a turn."""


class _Lease:
    def __init__(self, campaign: str, holder: str, leases: dict[str, "_Lease"]) -> None:
        self.campaign, self.holder, self.broken, self._leases = campaign, holder, "", leases

    async def release(self) -> None:
        if self._leases.get(self.campaign) is self:
            del self._leases[self.campaign]


class MemoryJournal:
    """Remembers while the process lives. One instance may serve several threads and event loops."""

    def __init__(self) -> None:
        self._entries: dict[str, list[core.Entry]] = {}
        self._leases: dict[str, _Lease] = {}
        self._mail: dict[str, tuple[str, core.Mail]] = {}
        self._answers: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._bell = Bell()

    async def lease(self, campaign: str, holder: str) -> core.Lease:
        lease = _Lease(campaign, holder, self._leases)
        held = self._leases.setdefault(campaign, lease)
        if held is not lease:
            raise core.Held(campaign, held.holder)
        return lease

    async def append(self, lease: core.Lease, entry: core.Entry, mail: str = "") -> None:
        mine = self._leases.get(lease.campaign)
        if mine is not lease or mine.broken:
            why = mine.broken if mine is lease else "it was released"
            raise core.Conflict(f"the lease of campaign {lease.campaign} is no longer good: {why}")
        entries = self._entries.get(lease.campaign, [])
        if entry.seq != len(entries) + 1:
            mine.broken = f"entry {entry.seq} cannot follow entry {len(entries)} of campaign {lease.campaign}"
            raise core.Conflict(mine.broken)
        if mail and not self._waits(lease.campaign, mail):
            mine.broken = f"mail {mail} of campaign {lease.campaign} is unknown or answered already"
            raise core.Conflict(mine.broken)
        if not entries:
            self._entries[lease.campaign] = entries
        entries.append(entry)
        if mail:
            self._settle(mail, "")
        if self._bell.awaited:
            self._bell.ring({lease.campaign: entry.seq})

    async def append_all(self, lease: core.Lease, entries: Sequence[tuple[core.Entry, str]]) -> None:
        """Append them one after the other. Raises as `append`."""
        for entry, mail in entries:
            await self.append(lease, entry, mail)

    async def read(self, campaign: str, after: int = 0) -> AsyncIterator[core.Entry]:
        entries = self._entries.get(campaign, [])
        place = after
        while place < len(entries):
            yield entries[place]
            place += 1
            if place % _BREATH == 0:
                await asyncio.sleep(0)

    async def campaigns(self) -> Sequence[str]:
        return list(self._entries)

    async def holder(self, campaign: str) -> str:
        lease = self._leases.get(campaign)
        return lease.holder if lease else ""

    async def post(self, campaign: str, fact: core.Fact, by: str) -> str:
        mail = core.Mail(id=str(next(self._numbers)), fact=fact, by=by)
        self._mail[mail.id] = campaign, mail
        self._bell.ring({campaign: math.inf})
        return mail.id

    async def mail(self, campaign: str) -> Sequence[core.Mail]:
        return [mail for owner, mail in self._mail.values() if owner == campaign]

    async def answer(self, lease: core.Lease, mail: str, refusal: str) -> None:
        if not refusal:
            raise ValueError(f"say why mail {mail} is refused")
        if self._leases.get(lease.campaign) is not lease:
            raise core.Conflict(f"the lease of campaign {lease.campaign} is no longer good: it was released")
        if not self._waits(lease.campaign, mail):
            raise core.Conflict(f"mail {mail} of campaign {lease.campaign} is unknown or answered already")
        self._settle(mail, refusal)

    async def answered(self, mail: str) -> str | None:
        if mail not in self._answers and mail not in self._mail:
            raise LookupError(f"no mail {mail!r}")
        return self._answers.get(mail)

    async def changed(self, campaign: str, after: int, timeout: float) -> bool:
        async def news() -> bool:
            return len(self._entries.get(campaign, ())) > after or bool(await self.mail(campaign))

        return await self._bell.wait(campaign, after, news, timeout, began=lambda: None)

    async def close(self) -> None:
        """Let go of all leases. What was remembered stays readable."""
        self._leases.clear()

    def verify(self, anchors: Mapping[str, Sequence[Head]]) -> Sequence[Finding]:
        """Nothing: there is no file that anybody could have altered."""
        return ()

    def _waits(self, campaign: str, mail: str) -> bool:
        return mail in self._mail and self._mail[mail][0] == campaign

    def _settle(self, mail: str, answer: str) -> None:
        self._answers[mail] = answer
        del self._mail[mail]
