"""Channel Access, through aioca."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

from ...core import InDoubt, Unavailable
from ._epics_channels import Meta, Refused, Sample, limits, plain

_ADDRESSES: dict[str, None] = {}
_CA_OPEN: list["ChannelAccess"] = []


class ChannelAccess:
    """Channel Access. Its client library has ONE list of addresses a process, read when the first PV is searched for.

    So addresses ("host" or "host:port", several apart by spaces) are collected when instruments are made, and set
    before the first search, after those of EPICS_CA_ADDR_LIST. One that comes later is refused loudly.
    """

    def __init__(self, address: str, silence: float) -> None:
        self._addresses, self._silence = address.split(), silence
        _ADDRESSES.update(dict.fromkeys(self._addresses))

    async def get(self, pv: str, within: float) -> Sample:
        ca = self._library()
        try:
            return _ca_sample(await ca.caget(pv, datatype=ca.DBR_ENUM_STR, format=ca.FORMAT_TIME, timeout=within))
        except (ca.CANothing, _cadef().CAException, _cadef().Disconnected) as error:
            raise Unavailable(f"cannot read {pv}: {error}") from error

    async def meta(self, pv: str, within: float) -> Meta:
        ca = self._library()
        try:
            found = await ca.caget(pv, format=ca.FORMAT_CTRL, timeout=within)
        except (ca.CANothing, _cadef().CAException, _cadef().Disconnected) as error:
            raise Unavailable(f"cannot read {pv}: {error}") from error
        if found.datatype == ca.DBR_ENUM:
            return Meta(type="string", choices=tuple(str(c) for c in found.enums))
        array = found.element_count > 1
        if found.datatype == ca.DBR_STRING:
            return Meta(type="string", array=array)
        low, high = limits(found.lower_ctrl_limit, found.upper_ctrl_limit)
        real = found.datatype in (ca.DBR_DOUBLE, ca.DBR_FLOAT)
        return Meta(
            type="number" if real else "integer", array=array, unit=str(found.units), low=low, high=high,
            precision=int(found.precision) if real else None,
        )  # fmt: skip

    async def put(self, pv: str, value: Any, within: float | None) -> None:
        ca = self._library()
        try:
            await ca.connect(pv, timeout=self._silence)
        except ca.CANothing as error:
            raise Unavailable(f"{pv} is not connected") from error
        try:
            await ca.caput(pv, int(value) if isinstance(value, bool) else value, wait=True, timeout=within)
        except ca.CANothing as error:
            if error.errorcode in (_ECA_TIMEOUT, _ECA_DISCONN):
                raise InDoubt(f"{pv} was put and not answered: {error}") from error
            raise Refused(f"the IOC refused {value!r} for {error}") from error
        except _cadef().Disconnected as error:
            raise Unavailable(f"{pv} is not connected") from error
        except _cadef().CAException as error:
            # The library looks at what it may write before it sends anything.
            raise Refused(f"the IOC refuses {value!r} for {pv}: {error}") from error

    def monitor(self, pv: str, tell: Callable[[Sample | None], None]) -> Callable[[], Awaitable[None]]:
        ca = self._library()
        subscription = ca.camonitor(
            pv, lambda value: tell(_ca_sample(value) if value.ok else None), datatype=ca.DBR_ENUM_STR,
            format=ca.FORMAT_TIME, all_updates=True, notify_disconnect=True, connect_timeout=self._silence,
        )  # fmt: skip

        async def end() -> None:
            subscription.close()

        return end

    async def close(self) -> None:
        if self in _CA_OPEN:
            _CA_OPEN.remove(self)
        if not _CA_OPEN:
            # Channels outlive their event loop otherwise, and call into it from a thread when an IOC goes away.
            import aioca  # noqa: PLC0415

            aioca.purge_channel_caches()

    def _library(self) -> Any:
        if self not in _CA_OPEN:
            _search_at(tuple(_ADDRESSES), self._addresses, self._silence)
            _CA_OPEN.append(self)
        import aioca  # noqa: PLC0415

        return aioca


_ECA_TIMEOUT, _ECA_DISCONN = 80, 192


def _cadef() -> Any:
    from epicscorelibs.ca import cadef  # noqa: PLC0415

    return cadef


_SEARCHED: list[str] = []


def _search_at(addresses: tuple[str, ...], own: list[str], silence: float) -> None:
    if not _SEARCHED:
        known = os.environ.get("EPICS_CA_ADDR_LIST", "").split()
        _SEARCHED.extend([*known, *(a for a in addresses if a not in known)])
        os.environ.setdefault("EPICS_CA_CONN_TMO", str(silence))
        os.environ.setdefault("EPICS_CA_MAX_SEARCH_PERIOD", "60")
        if addresses:
            os.environ["EPICS_CA_ADDR_LIST"] = " ".join(_SEARCHED)
            os.environ.setdefault("EPICS_CA_AUTO_ADDR_LIST", "NO")
        _SEARCHED.append("")
    if late := [a for a in own if a not in _SEARCHED]:
        raise Unavailable(
            f"Channel Access already searches at {' '.join(_SEARCHED).strip() or 'its default addresses'} in this "
            f"process and cannot be told of {' '.join(late)} any more: name it in EPICS_CA_ADDR_LIST"
        )


def _ca_sample(value: Any) -> Sample:
    return Sample(plain(value), int(value.severity), float(value.timestamp))
