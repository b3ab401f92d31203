"""SiLA Server Discovery: which servers there are in the network, by multicast DNS."""

import asyncio
from collections.abc import Sequence
from typing import Any

from zeroconf import IPVersion, ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from ...core import Value


class Discovered(Value, frozen=True):
    """A server that made itself known. `certificate` is what it says its authority is, to be trusted once looked at."""

    identity: str
    address: str
    name: str = ""
    version: str = ""
    description: str = ""
    certificate: str = ""


async def discover(seconds: float = 3.0, interfaces: Sequence[str] = ()) -> list[Discovered]:
    """The SiLA 2 servers that answer by multicast DNS within so many seconds; none of them is connected to.

    `interfaces` are the addresses of our own to ask from, all where empty.
    """
    zone = AsyncZeroconf(interfaces=list(interfaces), ip_version=IPVersion.V4Only) if interfaces else AsyncZeroconf()
    names = set[str]()

    def changed(zeroconf: Any, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        (names.discard if state_change is ServiceStateChange.Removed else names.add)(name)

    browser = AsyncServiceBrowser(zone.zeroconf, "_sila._tcp.local.", handlers=[changed])
    found = list[Discovered]()
    try:
        await asyncio.sleep(seconds)
        for name in sorted(names):
            info = AsyncServiceInfo("_sila._tcp.local.", name)
            if await info.async_request(zone.zeroconf, 1000.0) and info.parsed_addresses():
                said = {key.decode(): (value or b"").decode() for key, value in info.properties.items()}
                lines = [said[f"ca{i}"].rstrip() for i in range(len(said)) if f"ca{i}" in said]
                found.append(
                    Discovered(
                        identity=name.partition(".")[0],
                        address=f"{info.parsed_addresses()[0]}:{info.port}",
                        name=said.get("server_name", ""),
                        version=said.get("version", ""),
                        description=said.get("description", ""),
                        certificate="\n".join(lines),
                    )
                )
    finally:
        await browser.async_cancel()
        await zone.async_close()
    return found
