"""Another process at the same SQLite journal: `child.py PATH CAMPAIGNS` appends for ever and says what is durable."""

import asyncio
import os
import sys

from firstlight import core
from firstlight.journal import SqliteJournal
from firstlight.testing.journal import entries, entry


async def write(journal: SqliteJournal, campaign: str) -> None:
    lease = await journal.lease(campaign, f"child pid {os.getpid()}")
    seq = len(await entries(journal, campaign))
    say(f"{campaign} {seq}")
    while True:
        seq += 1
        await journal.append(lease, entry(seq, core.CampaignPaused(reason="x" * 400)))
        say(f"{campaign} {seq}")


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


async def main(path: str, campaigns: int) -> None:
    journal = SqliteJournal(path)
    await asyncio.gather(*(write(journal, f"c{number}") for number in range(campaigns)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
