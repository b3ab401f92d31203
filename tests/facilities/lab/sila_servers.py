"""SiLA 2 servers of the tests, each a process: hob|announced|turned PORT [LOG [CERTIFICATE KEY]], or mill PORT."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from sila2.framework import Feature
from sila2.server import FeatureImplementationBase, SilaServer

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.facilities.lab.devices import Hob

from firstlight.core import InstrumentDescription
from firstlight.facilities.lab.twin.serve_sila import serve


class Counted(Hob):
    """A hob that keeps a log of what it does, for a test in another process."""

    def __init__(self, log: str) -> None:
        super().__init__()
        self.log = log or self.log


class Turned(Counted):
    """One whose feature has the name of the other's, and the arguments in another order."""

    def describe(self) -> InstrumentDescription:
        said = super().describe()
        turned = (msgspec.structs.replace(o, arguments=o.arguments[::-1]) for o in said.operations)
        return msgspec.structs.replace(said, name="turned", operations=tuple(turned))


def _named(name: str) -> str:
    return f"<Identifier>{name}</Identifier><DisplayName>{name}</DisplayName><Description>{name}</Description>"


def _limited(basic: str, constraints: str) -> str:
    return (
        f"<DataType><Constrained><DataType><Basic>{basic}</Basic></DataType>"
        f"<Constraints>{constraints}</Constraints></Constrained></DataType>"
    )


_REAL = "<DataType><Basic>Real</Basic></DataType>"
_HEAD = 'SiLA2Version="1.0" Originator="org.firstlight" Category="tests" xmlns="http://www.sila-standard.org"'
MILL = (
    f'<Feature FeatureVersion="1.0" {_HEAD}>{_named("Mill")}'
    f"<Command>{_named('Grind')}<Observable>No</Observable>"
    f"<Parameter>{_named('Seconds')}{_limited('Real', '<MinimalExclusive>0</MinimalExclusive>')}</Parameter>"
    f"<Parameter>{_named('Gear')}{_limited('Integer', '<Set><Value>1</Value><Value>2</Value></Set>')}</Parameter>"
    f"<Parameter>{_named('Teeth')}{_limited('Integer', '<MaximalExclusive>9</MaximalExclusive>')}</Parameter>"
    f"<Parameter>{_named('Label')}{_limited('String', '<MaximalLength>5</MaximalLength>')}</Parameter>"
    f"<Response>{_named('Powder')}{_limited('Real', '<MaximalInclusive>1</MaximalInclusive>')}</Response>"
    f"<Response>{_named('Sieves')}<DataType><Constrained><DataType><List>{_REAL}</List></DataType>"
    "<Constraints><MaximalElementCount>3</MaximalElementCount></Constraints></Constrained></DataType></Response>"
    f"<DefinedExecutionErrors><Identifier>TimedOut</Identifier></DefinedExecutionErrors></Command>"
    f"<Command>{_named('Weigh')}<Observable>Yes</Observable><Response>{_named('Mass')}{_REAL}</Response></Command>"
    f"<Property>{_named('Dust')}<Observable>No</Observable>{_REAL}</Property>"
    f"<DefinedExecutionError>{_named('TimedOut')}</DefinedExecutionError></Feature>"
)
LID = (
    f'<Feature FeatureVersion="1.0" {_HEAD}>{_named("Lid")}'
    f"<Command>{_named('Weigh')}<Observable>No</Observable></Command>"
    f"<Command>{_named('Shut')}<Observable>No</Observable></Command></Feature>"
)


def mill(port: int) -> None:
    """A server with unobservable commands, and one of a name that two features have."""
    server = SilaServer("mill", "Mill", "Grinds.", "1.0", "https://localhost")
    feature, lid = Feature(MILL), Feature(LID)
    grinder: Any = FeatureImplementationBase(server)

    def grind(seconds: float, gear: int, teeth: int, label: str, *, metadata: Any) -> tuple[float, list[float]]:
        time.sleep(seconds)
        if label == "stuck":
            raise ValueError("a stone")
        return (0.5, [1.0, 2.0])

    grinder.Grind, grinder.Weigh = grind, lambda *, metadata, instance: 7.0
    grinder.get_Dust = lambda *, metadata: 0.25
    cover: Any = FeatureImplementationBase(server)
    cover.Weigh = cover.Shut = lambda *, metadata: None
    server.set_feature_implementation(feature, grinder)
    server.set_feature_implementation(lid, cover)
    server.start_insecure("127.0.0.1", port, enable_discovery=False)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    what, port, *more = sys.argv[1:]
    if what == "mill":
        mill(int(port))
    log, *files = more or [""]
    keys: dict[str, Any] = dict(zip(("certificate", "key"), (Path(f).read_bytes() for f in files), strict=False))
    device = (Turned if what == "turned" else Counted)(log)
    asyncio.run(serve(device, int(port), announce=what == "announced", **keys))
