"""PVAccess, through p4p."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ...core import ArgumentType, InDoubt, Unavailable
from ._epics_channels import Meta, Refused, Sample, limits, plain


class PvAccess:
    """PVAccess. `address` is the servers' "host:port", several apart by spaces, or "" for the environment's.

    With an address nothing is broadcast: the servers are asked there, over TCP and UDP.
    """

    def __init__(self, address: str, silence: float) -> None:
        self._address, self._silence = address, silence
        self._made: Any = None
        self._choices: dict[str, tuple[str, ...]] = {}

    async def get(self, pv: str, within: float) -> Sample:
        return self._sample(pv, await self._get(pv, within))

    async def meta(self, pv: str, within: float) -> Meta:
        value = await self._get(pv, within)
        said, kind = value.todict(), value.getID()
        if kind.startswith("epics:nt/NTEnum"):
            self._choices[pv] = tuple(map(str, said["value"]["choices"]))
            return Meta(type="string", choices=self._choices[pv])
        code = value.type()["value"]
        array = not isinstance(code, str) or code.startswith("a")
        display, control = said.get("display", {}), said.get("control", {})
        low, high = limits(control.get("limitLow", 0), control.get("limitHigh", 0))
        if low is None:
            low, high = limits(display.get("limitLow", 0), display.get("limitHigh", 0))
        return Meta(
            type=_PVA_TYPES.get(str(code)[-1:], "number"), array=array, unit=str(display.get("units", "")), low=low,
            high=high, precision=display.get("precision"),
        )  # fmt: skip

    async def put(self, pv: str, value: Any, within: float | None) -> None:
        if pv in self._choices:
            sent = {"value.index": self._choices[pv].index(value) if isinstance(value, str) else int(value)}
        else:
            sent = {"value": value}
        client, library = self._client()
        try:
            await asyncio.wait_for(client.put(pv, sent, get=False, wait=True), within)
        except library.Disconnected as error:
            raise InDoubt(f"{pv} was put, and the connection went before an answer came") from error
        except library.RemoteError as error:
            raise Refused(f"the IOC refused {value!r} for {pv}: {error}") from error
        except TimeoutError as error:
            raise InDoubt(f"{pv} was put and not answered in {within:g} s") from error

    def monitor(self, pv: str, tell: Callable[[Sample | None], None]) -> Callable[[], Awaitable[None]]:
        client, _ = self._client()

        async def take(value: Any) -> None:
            tell(None if isinstance(value, Exception) else self._sample(pv, value))

        subscription = client.monitor(pv, take, request="record[queueSize=32]field()", notify_disconnect=True)

        async def end() -> None:
            if subscription._S is not None:
                subscription.close()
                await subscription.wait_closed()

        return end

    async def close(self) -> None:
        made, self._made = self._made, None
        if made is not None:
            await asyncio.to_thread(made.close)

    async def _get(self, pv: str, within: float) -> Any:
        client, library = self._client()
        try:
            return await asyncio.wait_for(client.get(pv), within)
        except (TimeoutError, library.Disconnected) as error:
            raise Unavailable(f"{pv} is not connected") from error
        except library.RemoteError as error:
            raise Unavailable(f"cannot read {pv}: {error}") from error

    def _client(self) -> tuple[Any, Any]:
        import p4p.client.asyncio as library  # noqa: PLC0415

        if self._made is None:
            conf, own = {"EPICS_PVA_NAME_SERVERS": self._address}, bool(self._address)
            # Asked over TCP at first; a server that comes back is found much sooner over UDP.
            conf |= {"EPICS_PVA_ADDR_LIST": self._address, "EPICS_PVA_AUTO_ADDR_LIST": "NO"}
            self._made = library.Context("pva", conf=conf if own else None, useenv=not own, nt=False)
        return self._made, library

    def _sample(self, pv: str, value: Any) -> Sample:
        found = value["value"]
        if value.getID().startswith("epics:nt/NTEnum"):
            if value.changed("value.choices"):
                self._choices[pv] = tuple(map(str, found["choices"]))
            choices, index = self._choices.get(pv, ()), int(found["index"])
            found = choices[index] if 0 <= index < len(choices) else index
        stamp = value["timeStamp"]
        at = stamp["secondsPastEpoch"] + stamp["nanoseconds"] * 1e-9
        return Sample(plain(found), int(value["alarm"]["severity"]), at or time.time())


_PVA_TYPES: dict[str, ArgumentType] = {"?": "boolean", "s": "string"}
_PVA_TYPES |= dict.fromkeys("bBhHiIlL", "integer")
