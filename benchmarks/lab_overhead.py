"""What our adapters cost an action on top of bare client libraries: SiLA 2, EPICS, OPC UA and SECoP, in one run.

    python benchmarks/lab_overhead.py [--count 200] [--only sila ...] [--json]

Each action is short, on a server of the tests in another process. Ours is `start` and `follow` to the end; bare is
the least that tells the same with the client library alone: begun, its end pushed, its results read. Both go in
turns, so that a busy machine is busy for both. The overhead is the difference of the means of the middle nine tenths: a
server that publishes every 10 ms makes medians jump by as much.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from firstlight.core import Action, Instrument, Permit

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.facilities.lab.devices import HOB  # noqa: E402
from tests.facilities.lab.servers import free_port, running  # noqa: E402

Way = Callable[[int], Awaitable[None]]
Times = tuple[list[float], list[float]]
GOAL = 2.0
WARM = 10


async def adapted(it: Instrument, operation: str, action: str, **settings: object) -> None:
    """An action by the adapter, from `start` to its end."""
    made = Action(id=action, trial="t", facility="lab", name="n", operation=operation, point={}, settings=settings)
    last = [run async for run in it.follow(await it.start(Permit(action=made, policies=())))][-1]
    if last.state != "succeeded":
        raise RuntimeError(f"{operation} {action} is {last.state}: {last.message}")


async def in_turns(count: int, bare: Way, ours: Way) -> Times:
    """Milliseconds that each took, after some that do not count."""
    took: Times = ([], [])
    for number in range(-WARM, count):
        for way, times in zip((bare, ours), took, strict=True):
            began = time.perf_counter()
            await way(number)
            if number >= 0:
                times.append((time.perf_counter() - began) * 1e3)
            await asyncio.sleep(0.003)
    return took


async def sila(port: int, count: int) -> Times:
    """An observable command. The library's own client knows no push: its end is looked for every 0.5 ms."""
    from sila2.client import SilaClient

    from firstlight.facilities.lab.sila import SilaInstrument

    client: Any = await asyncio.to_thread(SilaClient, "127.0.0.1", port, insecure=True)

    def alone() -> None:
        run = client.Mill.Weigh()
        while not run.done:
            time.sleep(0.0005)
        run.get_responses()

    async def bare(_: int) -> None:
        alone()  # In this thread: a hop to another one is no part of the library.

    it = SilaInstrument("mill", f"127.0.0.1:{port}", insecure=True)
    took = await in_turns(count, bare, lambda n: adapted(it, "Mill.Weigh", f"a{n}"))
    await it.close()
    client.close()
    return took


async def epics(port: int, count: int) -> Times:
    """Over PVAccess: three arguments, a trigger, the wait for done, a result."""
    import p4p.client.asyncio as p4p

    from firstlight.facilities.lab.epics import EpicsInstrument
    from firstlight.facilities.lab.twin.serve_epics import options_for

    conf = {"EPICS_PVA_NAME_SERVERS": f"127.0.0.1:{port}", "EPICS_PVA_ADDR_LIST": "", "EPICS_PVA_AUTO_ADDR_LIST": "NO"}
    client = p4p.Context("pva", conf=conf, useenv=False, nt=False)
    done, busy = asyncio.Event(), asyncio.Event()

    async def heard(value: Any) -> None:
        if value["value"] == 0:
            busy.set()
        elif busy.is_set():
            done.set()

    monitor = client.monitor("hob:Heat:DONE", heard)

    async def bare(_: int) -> None:
        busy.clear()
        done.clear()
        for pv, sent in (("Target", 25.0), ("Seconds", 0.0)):
            await client.put(f"hob:Heat:{pv}", {"value": sent}, get=False, wait=True)
        await client.put("hob:Heat:START", {"value": 1}, get=False, wait=True)
        await done.wait()
        await client.get("hob:Heat:RESULT:Reached")

    it = EpicsInstrument("hob", f"127.0.0.1:{port}", **options_for(HOB))
    took = await in_turns(count, bare, lambda n: adapted(it, "Heat", f"a{n}", Target=25.0, Seconds=0.0))
    await it.close()
    monitor.close()
    await monitor.wait_closed()
    client.close()
    return took


class Ends:
    """Says when a functional unit of OPC UA has changed its state."""

    def __init__(self) -> None:
        self.seen = asyncio.Queue[str]()

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        self.seen.put_nowait(str(value.Text))


async def opcua(port: int, count: int) -> Times:
    """A program of a LADS device. Both have one publishing interval, so that ends are seen on the same grid."""
    from asyncua import Client, ua

    from firstlight.facilities.lab.opcua import OpcuaInstrument

    text, body = ua.VariantType.String, ua.VariantType.ExtensionObject
    bodies = (b"\x06\0\0\0Target\x04\0\0\x0025.0", b"\x07\0\0\0Seconds\x03\0\0\x000.0")
    async with Client(f"opc.tcp://127.0.0.1:{port}", timeout=30) as client:
        lads = await client.get_namespace_index("http://opcfoundation.org/UA/LADS/")
        unit = ["0:Objects", "2:DeviceSet", "4:hob", "3:FunctionalUnitSet", "4:hob"]
        state = await client.nodes.root.get_child([*unit, "3:FunctionalUnitState"])
        begin = await state.get_child("3:StartProgram")
        results = await client.nodes.root.get_child([*unit, "3:ProgramManager", "3:ResultSet"])
        items = [ua.ExtensionObject(ua.NodeId(ua.Int32(5042), ua.Int16(lads)), ua.ByteString(b)) for b in bodies]
        given, none = ua.Variant(items, body, is_array=True), ua.Variant([], body, is_array=True)
        ends = Ends()
        subscription = await client.create_subscription(10, ends)
        await subscription.subscribe_data_change(await state.get_child("0:CurrentState"), queuesize=20)

        async def bare(number: int) -> None:
            while not ends.seen.empty():
                ends.seen.get_nowait()
            called = [ua.Variant(word, text) for word in ("Heat", "t", f"bare{number}")]
            run = await state.call_method(begin.nodeid, called[0], given, *called[1:], none)
            for wanted in ("Running", "Stopped"):  # A late one may still be of the run before.
                while await ends.seen.get() != wanted:
                    pass
            value = await results.get_child([f"{lads}:{run}", f"{lads}:VariableSet", f"{lads}:Reached"])
            await value.read_value()

        it = OpcuaInstrument("hob", f"opc.tcp://127.0.0.1:{port}", sampling=0.01, timeout=30.0)
        took = await in_turns(count, bare, lambda n: adapted(it, "Heat", f"a{n}", Target=25.0, Seconds=0.0))
        await it.close()
        return took


async def secop(port: int, count: int) -> Times:
    """A command of a module. Bare is lines on a socket: SECoP has no client library but that of its servers."""
    from firstlight.facilities.lab.secop import SecopInstrument

    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def until(wanted: Callable[[str], bool]) -> str:
        while not wanted(line := (await reader.readline()).decode().strip()):
            if not line or line.startswith("error"):
                raise RuntimeError(f"the node answers {line!r}")
        return line

    def say(line: str) -> None:
        writer.write(f"{line}\n".encode())

    say("activate")
    await until(lambda line: line.startswith("active"))

    async def bare(number: int) -> None:
        say("do hob:_Heat " + json.dumps({"Target": 25.0, "Seconds": 0.0, "_id": f"bare{number}"}))
        missing = {"done hob:_Heat", "succeeded"}  # Which of the two comes first is not laid down.

        def told(line: str) -> bool:
            return any(m in line for m in missing)

        while missing:
            line = await until(told)
            missing = {m for m in missing if m not in line}

    it = SecopInstrument("hob", f"127.0.0.1:{port}", "hob")
    took = await in_turns(count, bare, lambda n: adapted(it, "Heat", f"a{n}", Target=25.0, Seconds=0.0))
    await it.close()
    writer.close()
    await writer.wait_closed()
    return took


SERVED: dict[str, tuple[Callable[[int, int], Awaitable[Times]], Sequence[str]]] = {
    "sila": (sila, (str(ROOT / "tests/facilities/lab/sila_servers.py"), "mill")),
    "epics": (epics, ("-m", "tests.facilities.lab.epics_hob")),
    "opcua": (opcua, (str(ROOT / "tests/facilities/lab/opcua_servers.py"), "hob")),
    "secop": (secop, (str(ROOT / "tests/facilities/lab/secop_hob.py"),)),
}


def measured(protocol: str, count: int) -> dict[str, float]:
    """Medians and the 95th of a hundred, in ms an action."""
    measure, words = SERVED[protocol]
    port, env = free_port(), {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}

    async def run() -> Times:
        return await measure(port, count)

    with tempfile.TemporaryDirectory() as at, running([sys.executable, *words, str(port)], Path(at, "log"), port, env):
        bare, ours = asyncio.run(run())
    told = dict[str, float]()
    for name, times in (("bare", bare), ("ours", ours)):
        told |= {f"{name}_median_ms": statistics.median(times), f"{name}_p95_ms": statistics.quantiles(times, n=20)[-1]}
    return {**told, "overhead_ms": middle(ours) - middle(bare)}


def middle(times: list[float]) -> float:
    """The mean without the twentieth at either end."""
    cut = len(times) // 20
    return statistics.mean(sorted(times)[cut : len(times) - cut])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--only", nargs="+", choices=list(SERVED), default=list(SERVED))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    told = {protocol: measured(protocol, given.count) for protocol in given.only}
    if given.json:
        print(json.dumps({"goal_ms": GOAL, "count": given.count, "protocols": told}))
        return
    print(f"ms an action, {given.count} each: median (95th of 100)")
    for protocol, t in told.items():
        bare, ours = (f"{t[f'{w}_median_ms']:.2f} ({t[f'{w}_p95_ms']:.2f})" for w in ("bare", "ours"))
        met = "" if t["overhead_ms"] <= GOAL else f", more than the {GOAL:g} ms that are the goal"
        print(f"{protocol:6} bare {bare}, ours {ours}, overhead {t['overhead_ms']:+.2f}{met}")


if __name__ == "__main__":
    main()
