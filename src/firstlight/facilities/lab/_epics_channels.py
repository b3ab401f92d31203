"""Process variables over Channel Access (aioca) and PVAccess (p4p) behind one small face, with what went wrong in puts.

Who puts must know whether a put was refused, never left, or may have been carried out; the two libraries say this
differently, and here it is said once: Refused, Unavailable, InDoubt.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import msgspec

from ...core import ArgumentType, InDoubt, Scalar, Unavailable


class Refused(Exception):
    """The IOC answered that it does not take the value."""


class Sample(msgspec.Struct, frozen=True):
    """A value of a PV: a text for an enumeration, a list for a waveform. `severity` is 0 (none) to 3 (invalid).

    `at` is the IOC's time, in seconds since 1970 UTC.
    """

    value: Any
    severity: int = 0
    at: float = 0.0


class Meta(msgspec.Struct, frozen=True):
    """What an IOC says of a PV: type ("number", "integer", "string", "boolean"), whether an array, unit, limits."""

    type: ArgumentType
    array: bool = False
    unit: str = ""
    low: float | None = None
    high: float | None = None
    precision: int | None = None
    choices: tuple[str, ...] = ()


class Channels(Protocol):
    """PVs of one protocol. Times are in seconds."""

    async def get(self, pv: str, within: float) -> Sample:
        """The PV now. Raises Unavailable."""
        ...

    async def meta(self, pv: str, within: float) -> Meta:
        """What the IOC says of it. Raises Unavailable."""
        ...

    async def put(self, pv: str, value: Any, within: float | None) -> None:
        """Put, and wait until the IOC says that it is processed; once. Raises Refused, Unavailable and InDoubt."""
        ...

    def monitor(self, pv: str, tell: Callable[[Sample | None], None]) -> Callable[[], Awaitable[None]]:
        """Tell every value, and None where it is not connected; what ends that."""
        ...

    async def close(self) -> None: ...


def plain(value: Any) -> Any:
    """A number, text or list of Python's own for a value of a library."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def limits(low: float, high: float) -> tuple[float | None, float | None]:
    """As EPICS means them: equal ones are none."""
    return (float(low), float(high)) if low < high else (None, None)


def from_text(value: Any) -> Any:
    """An array or object that an IOC keeps as JSON text."""
    return msgspec.json.decode(value) if isinstance(value, str) else value


class Feed:
    """A monitored PV: its last sample, None while it is not connected or its IOC is silent."""

    def __init__(self) -> None:
        self._last: Sample | None = None
        self._silent = False
        self.known = asyncio.Event()
        """Set while there is a value."""
        self.listeners: list[Callable[[Sample | None], None]] = []

    @property
    def last(self) -> Sample | None:
        return None if self._silent else self._last

    @property
    def gone(self) -> bool:
        """Whether it is not connected, and not merely silent."""
        return self._last is None

    def tell(self, sample: Sample | None) -> None:
        self._last, self._silent = sample, False
        self._changed()

    def silent(self) -> None:
        """Its IOC does not answer."""
        if not self._silent and self._last is not None:
            self._silent = True
            self._changed()

    def heard_again(self, sample: Sample) -> None:
        """Its IOC has answered; what it was before it fell silent may have changed."""
        if self._silent:
            self.tell(sample)

    def _changed(self) -> None:
        if self.last is None:
            self.known.clear()
        else:
            self.known.set()
        for listener in tuple(self.listeners):
            listener(self.last)


class Feeds:
    """All monitored PVs of an instrument, and the heartbeat that finds out that an IOC has gone silent."""

    def __init__(self, channels: Channels, silence: float) -> None:
        self._channels, self._silence = channels, silence
        self._feeds: dict[str, Feed] = {}
        self._ends: list[Callable[[], Awaitable[None]]] = []
        self._heart: asyncio.Task[None] | None = None

    def feed(self, pv: str) -> Feed:
        """Of a PV, monitored from now on."""
        if pv not in self._feeds:
            self._feeds[pv] = feed = Feed()
            self._ends.append(self._channels.monitor(pv, feed.tell))
            if self._heart is None:
                self._heart = asyncio.create_task(self._beat())
        return self._feeds[pv]

    async def known(self, pvs: list[str], within: float) -> None:
        """Wait until all have a value. Raises Unavailable."""
        feeds = [self.feed(pv) for pv in pvs]
        try:
            async with asyncio.timeout(within):
                for feed in feeds:
                    await feed.known.wait()
        except TimeoutError:
            missing = [pv for pv, feed in zip(pvs, feeds, strict=True) if not feed.known.is_set()]
            raise Unavailable(f"not connected: {', '.join(missing)}") from None

    async def close(self) -> None:
        if self._heart is not None:
            self._heart.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._heart
        ends, self._ends, self._heart = self._ends, [], None
        self._feeds.clear()
        for end in ends:
            await end()

    async def _beat(self) -> None:
        # A stopped process or a dropped network keeps its connections: only an answer shows that an IOC is there.
        while True:
            await asyncio.sleep(self._silence / 2)
            await asyncio.gather(*(self._ask(pv, feed) for pv, feed in self._feeds.items()))

    async def _ask(self, pv: str, feed: Feed) -> None:
        try:
            feed.heard_again(await self._channels.get(pv, self._silence / 2))
        except Unavailable:
            feed.silent()


class Ioc(msgspec.Struct):
    """What a run needs of its instrument. `silence` is how many seconds an answer may take."""

    name: str
    channels: Channels
    feeds: Feeds
    metas: dict[str, Meta]
    silence: float

    async def ask(self, pvs: Iterable[str]) -> dict[str, Sample]:
        """All of them now, by name; "" is none. Raises Unavailable."""
        names = [pv for pv in dict.fromkeys(pvs) if pv]
        got = await asyncio.gather(*(self.channels.get(pv, self.silence) for pv in names))
        return dict(zip(names, got, strict=True))

    def same(self, pv: str, value: Any, wanted: Any) -> bool:
        """Whether a PV's value is what is wanted; an enumeration by its text or its number."""
        meta = self.metas.get(pv)
        if meta and meta.choices and isinstance(wanted, int) and 0 <= wanted < len(meta.choices):
            wanted = meta.choices[wanted]
        if isinstance(value, int | float) and isinstance(wanted, int | float):
            close = 10.0**-meta.precision if meta and meta.precision else 0.0
            return abs(value - wanted) <= max(close / 2, 1e-6 * abs(wanted))
        return bool(value == wanted)

    def holds(self, pv: str, wanted: Scalar) -> bool:
        sample = self.feeds.feed(pv).last
        return sample is not None and self.same(pv, sample.value, wanted)


async def put_surely(ioc: Ioc, pv: str, value: Any) -> None:
    """A put that may be repeated, such as a stop. Raises Unavailable whatever went wrong."""
    try:
        await ioc.channels.put(pv, value, ioc.silence)
    except (Refused, InDoubt) as error:
        raise Unavailable(f"cannot stop: {error}") from error
