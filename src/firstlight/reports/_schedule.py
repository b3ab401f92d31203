"""When what ran where: actions laid out on slots, and how busy those were."""

import heapq
from collections.abc import Iterable, Sequence

from firstlight import core


class Bar(core.Value, frozen=True):
    """One action on one slot, in seconds since 1970 UTC."""

    facility: str
    slot: int
    action: str
    started: float
    ended: float
    failed: bool


class Schedule(core.Value, frozen=True):
    """All actions in order of start. `slots` counts, for each facility, how many ran at once at most.

    `busy` is the share of those slots' time between the first start and the last end in which they
    worked; `waited` is the mean time in seconds between dispatch and start, where the facility told it.
    """

    bars: tuple[Bar, ...] = ()
    slots: dict[str, int] = {}
    busy: float = 0.0
    waited: float = 0.0


def schedule(rows: Sequence[core.Row]) -> Schedule:
    """Give every action the lowest free slot of its facility at its start."""
    spans = sorted(((_start(s), s, row) for row in rows for s in row.spans), key=lambda item: (item[0], item[1].action))
    if not spans:
        return Schedule()
    running: dict[str, list[tuple[float, int]]] = {}
    free: dict[str, list[int]] = {}
    slots: dict[str, int] = {}
    bars = []
    for start, span, row in spans:
        end = max(span.ended, start)
        under_way, vacant = running.setdefault(span.facility, []), free.setdefault(span.facility, [])
        while under_way and under_way[0][0] <= start:
            heapq.heappush(vacant, heapq.heappop(under_way)[1])
        slot = heapq.heappop(vacant) if vacant else slots.get(span.facility, 0)
        slots[span.facility] = max(slots.get(span.facility, 0), slot + 1)
        heapq.heappush(under_way, (end, slot))
        bars.append(
            Bar(facility=span.facility, slot=slot, action=span.action, started=start, ended=end, failed=_failed(row))
        )
    length = max(b.ended for b in bars) - bars[0].started
    busy = sum(b.ended - b.started for b in bars) / (length * sum(slots.values())) if length > 0 else 0.0
    return Schedule(bars=tuple(bars), slots=slots, busy=min(busy, 1.0), waited=_mean_wait(s for _, s, _ in spans))


def _start(span: core.Span) -> float:
    return span.started or span.dispatched


def _failed(row: core.Row) -> bool:
    return row.failure is not None


def _mean_wait(spans: Iterable[core.Span]) -> float:
    waits = [max(0.0, s.started - s.dispatched) for s in spans if s.started]
    return sum(waits) / len(waits) if waits else 0.0
