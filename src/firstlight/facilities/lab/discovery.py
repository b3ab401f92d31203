"""Instruments that announce themselves on the network, whatever their protocol."""

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

from ...core import Value
from ._adapters import protocols


class Announced(Value, frozen=True):
    """An instrument that was found."""

    protocol: str
    address: str
    name: str
    description: str = ""


class _Found(Protocol):
    @property
    def address(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def description(self) -> str: ...


class _Discovers(Protocol):
    async def discover(self, seconds: float) -> Sequence[_Found]: ...


async def discover(seconds: float) -> list[Announced]:
    """What announces itself within so many seconds; SiLA 2 is the protocol that does."""
    if "sila" not in protocols():
        return []
    sila: _Discovers = import_module("firstlight.facilities.lab.sila")
    return [
        Announced(
            protocol="sila", address=found.address, name=found.name or "without a name",
            description=f"{found.description} {found.version}".strip(),
        )
        for found in await sila.discover(seconds)
    ]  # fmt: skip
