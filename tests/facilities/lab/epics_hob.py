"""A hob as an IOC of the twin, in a process of its own: python -m tests.facilities.lab.epics_hob PORT [mute | odd]."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

from p4p.nt import NTScalar
from p4p.server import Server, StaticProvider
from p4p.server.asyncio import SharedPV

from firstlight.core import Argument, InstrumentDescription, Operation
from firstlight.facilities.lab.twin.serve_epics import serve

from .devices import Hob

ECHOED = (
    Argument(name="Points", type="array", schema={"items": {"type": "number"}}),
    Argument(name="Names", type="array", schema={"items": {"type": "string"}}),
    Argument(name="Mixed", type="array"),
    Argument(name="Plan", type="object"),
    Argument(name="Flag", type="boolean"),
    Argument(name="Count", type="integer", low=1.0, high=9.0),
    Argument(name="Text", type="string"),
)
ODD = InstrumentDescription(
    name="odd", protocol="", operations=(Operation(name="Echo", effect="read", arguments=ECHOED, results=ECHOED),)
)


class Odd(Hob):
    """Gives back arguments of every type."""

    def describe(self) -> InstrumentDescription:
        return ODD

    async def perform(
        self, operation: str, arguments: Mapping[str, object], progress: Callable[[float], None]
    ) -> dict[str, object]:
        return dict(arguments)


class Stops:
    """Takes a put and stops its process before it can answer."""

    def put(self, pv: SharedPV, op: Any) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)


async def mute(port: int) -> None:
    """One PV, mute:START."""
    provider = StaticProvider("mute")
    provider.add("mute:START", SharedPV(handler=Stops(), nt=NTScalar("i"), initial=0))
    conf = {"EPICS_PVAS_INTF_ADDR_LIST": "127.0.0.1"}
    conf |= {f"EPICS_PVAS_{word}_PORT": str(port) for word in ("SERVER", "BROADCAST")}
    with Server(providers=[provider], conf=conf, useenv=False):
        await asyncio.Event().wait()


if __name__ == "__main__":
    served = Odd() if "odd" in sys.argv else Hob()
    asyncio.run(mute(int(sys.argv[1])) if "mute" in sys.argv else serve(served, int(sys.argv[1])))
