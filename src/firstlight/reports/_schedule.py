"""When what ran where: actions laid out on slots, and how busy those were."""

import heapq
from collections.abc import Iterable, Sequence

from firstlight import core


class Bar(core.Value, frozen=True):
    """One action on one slot of its facility, or of its instrument where that is known, in seconds since 1970 UTC."""

    facility: str
    slot: int
    action: str
    started: float
    ended: float
    failed: bool
    instrument: str = ""
    trial: str = ""
    waited: float = 0.0

    @property
    def lane(self) -> str:
        """Whose slots it is on."""
        return lane_of(self.facility, self.instrument)


class Schedule(core.Value, frozen=True):
    """All actions in order of start. `slots` counts, for each lane, how many ran at once at most.

    A lane is an instrument where it is known, else a facility. `busy` is the share of those slots' time between the
    first start and the last end in which they worked; an instrument counts as one slot, which works while anything
    runs on it. `instruments` is that share for each instrument's lane. `waited` is the mean time in seconds between
    dispatch and start, where the facility told it.
    """

    bars: tuple[Bar, ...] = ()
    slots: dict[str, int] = {}
    busy: float = 0.0
    waited: float = 0.0
    instruments: dict[str, float] = {}


def lane_of(facility: str, instrument: str) -> str:
    """The words for a lane."""
    return f"{facility}: {instrument}" if instrument else facility


def schedule(rows: Sequence[core.Row]) -> Schedule:
    """Give every action the lowest free slot of its lane at its start."""
    spans = sorted(((_start(s), s, row) for row in rows for s in row.spans), key=lambda item: (item[0], item[1].action))
    if not spans:
        return Schedule()
    running: dict[str, list[tuple[float, int]]] = {}
    free: dict[str, list[int]] = {}
    slots: dict[str, int] = {}
    bars = []
    for start, span, row in spans:
        end = max(span.ended, start)
        lane = lane_of(span.facility, span.instrument)
        under_way, vacant = running.setdefault(lane, []), free.setdefault(lane, [])
        while under_way and under_way[0][0] <= start:
            heapq.heappush(vacant, heapq.heappop(under_way)[1])
        slot = heapq.heappop(vacant) if vacant else slots.get(lane, 0)
        slots[lane] = max(slots.get(lane, 0), slot + 1)
        heapq.heappush(under_way, (end, slot))
        bars.append(
            Bar(
                facility=span.facility, slot=slot, action=span.action, started=start, ended=end, failed=_failed(row),
                instrument=span.instrument, trial=row.trial, waited=max(0.0, start - span.dispatched),
            )
        )  # fmt: skip
    length = max(b.ended for b in bars) - bars[0].started
    worked = _worked(bars)
    instruments = {b.lane for b in bars if b.instrument}
    count = sum(1 if lane in instruments else n for lane, n in slots.items())
    return Schedule(
        bars=tuple(bars), slots=slots, waited=_mean_wait(s for _, s, _ in spans),
        busy=min(sum(worked.values()) / (length * count), 1.0) if length > 0 else 0.0,
        instruments={lane: worked[lane] / length if length > 0 else 0.0 for lane in slots if lane in instruments},
    )  # fmt: skip


def _worked(bars: Iterable[Bar]) -> dict[str, float]:
    """Seconds each lane worked: of a facility all its slots, of an instrument while anything ran on it."""
    worked: dict[str, float] = {}
    until: dict[str, float] = {}
    for bar in bars:
        since = max(bar.started, until.get(bar.lane, bar.started)) if bar.instrument else bar.started
        worked[bar.lane] = worked.get(bar.lane, 0.0) + max(0.0, bar.ended - since)
        until[bar.lane] = max(until.get(bar.lane, bar.ended), bar.ended)
    return worked


def _start(span: core.Span) -> float:
    return span.started or span.dispatched


def _failed(row: core.Row) -> bool:
    return row.failure is not None


def _mean_wait(spans: Iterable[core.Span]) -> float:
    waits = [max(0.0, s.started - s.dispatched) for s in spans if s.started]
    return sum(waits) / len(waits) if waits else 0.0
