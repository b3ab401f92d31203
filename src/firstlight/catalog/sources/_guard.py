"""Which addresses may be asked: what others name must not lead into the network of whoever follows it."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""IP addresses of a host. Raises OSError where it has none."""

_SHARED = ipaddress.ip_network("100.64.0.0/10")
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")


async def resolve(host: str, port: int) -> Sequence[str]:
    """As the system does it: "127.1", "2130706433" and "0x7f.1" are addresses, too."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


def inwardness(address: str) -> int:
    """How far inside an address is: 0 anybody's, 1 of a private network, 2 this computer, 3 never to be asked (link
    local, where clouds tell computers their secrets; multicast; reserved)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.is_site_local:
            return 1
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return inwardness(str(inner))
    if ip.is_loopback or ip.is_unspecified:
        return 2
    if ip.is_link_local or ip.is_multicast or ip.is_reserved:
        return 3
    if ip.is_private or (ip.version == 4 and ip in _SHARED) or not ip.is_global:
        return 1
    return 0
