"""The hash chain: every entry's digest covers all entries before it.

digest(0) = sha256("firstlight journal\\n" + campaign); digest(n) = sha256(digest(n-1) + line(n)).
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from firstlight import core


class Finding(core.Value, frozen=True):
    """Something wrong with a journal: where (`campaign` "" and `seq` 0 where it is the whole store), and what."""

    campaign: str
    seq: int
    problem: str


class Head(NamedTuple):
    """How far a campaign's chain goes, and the digest that covers all of it."""

    seq: int
    digest: bytes


def genesis(campaign: str) -> Head:
    """The head of a campaign without entries."""
    return Head(0, hashlib.sha256(b"firstlight journal\n" + campaign.encode()).digest())


def link(head: Head, line: bytes) -> Head:
    """The head after one more entry."""
    return Head(head.seq + 1, hashlib.sha256(head.digest + line).digest())


def check(
    campaign: str, rows: Iterable[tuple[int, bytes, bytes]], end: Head | None, anchors: Iterable[Head]
) -> Iterator[Finding]:
    """Walk one campaign's rows (seq, line, digest), in order of seq, up to its recorded end and past its anchors.

    One altered row gives one finding: the walk goes on from the digest that the row bears.
    """
    recorded: dict[int, set[bytes]] = {}
    for record in [*anchors, end] if end else anchors:
        recorded.setdefault(record.seq, set()).add(record.digest)
    head = genesis(campaign)
    for seq, line, digest in rows:
        if seq != head.seq + 1:
            yield Finding(campaign=campaign, seq=head.seq + 1, problem=f"{_span(head.seq + 1, seq - 1)} missing")
        elif link(head, line).digest != digest:
            yield Finding(campaign=campaign, seq=seq, problem=f"entry {seq} or its digest was altered")
        elif problem := _unreadable(seq, line):
            yield Finding(campaign=campaign, seq=seq, problem=problem)
        head = Head(seq, digest)
        if any(digest != other for other in recorded.get(seq, ())):
            yield Finding(campaign=campaign, seq=seq, problem=f"the chain up to entry {seq} is not the one recorded")
    if end is None and head.seq:
        yield Finding(campaign=campaign, seq=0, problem="there is no record of where its entries end")
    elif end is not None and head.seq > end.seq:
        extra = _span(end.seq + 1, head.seq)
        yield Finding(campaign=campaign, seq=end.seq + 1, problem=f"{extra} beyond the recorded end")
    last = max(recorded, default=0)
    if last > head.seq:
        yield Finding(campaign=campaign, seq=head.seq + 1, problem=f"{_span(head.seq + 1, last)} cut off the end")


def _unreadable(seq: int, line: bytes) -> str:
    try:
        entry = core.decode(line)
    except core.UnreadableEntry as error:
        return f"entry {seq} cannot be read: {error}"
    return "" if entry.seq == seq else f"entry {entry.seq} stands in the place of entry {seq}"


def _span(first: int, last: int) -> str:
    return f"entry {first} is" if first == last else f"entries {first} to {last} are"
