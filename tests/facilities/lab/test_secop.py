"""SECoP against real nodes: the twin's and the demo cryostat of the standard's reference implementation (frappy)."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from firstlight.core import Action, InDoubt, NotStarted, Permit, Reading, Run, Unavailable, check_arguments
from firstlight.facilities.lab._secop_types import from_wire, to_wire
from firstlight.facilities.lab.secop import SecopInstrument

from .contract import Served
from .devices import HOB
from .servers import free_port, python_of, running

T = TypeVar("T")
HOB_NODE = str(Path(__file__).with_name("secop_hob.py"))
CRYOSTAT = """
Node('cryo.test', 'a simulated cryostat', 'tcp://10767')
Mod('cryo', 'frappy_demo.cryo.Cryostat', 'a simulated cc cryostat', jitter=0.0, T_start=10.0, target=10.0,
    looptime=0.05, ramp=600, window=1, tolerance=5, pollinterval=0.1, mode='ramp', maxpower=20.0,
    heater=4.1, timeout=900)
"""
# It has no option for the interface that it listens on, and would listen on all.
FRAPPY = """
import socketserver, runpy, sys
bind = socketserver.TCPServer.server_bind
def on_loopback(self):
    self.server_address = ("127.0.0.1", self.server_address[1])
    bind(self)
socketserver.TCPServer.server_bind = on_loopback
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""
Node = tuple[subprocess.Popen[bytes], int]


def permit(operation: str, id: str = "a1", **settings: object) -> Permit:
    made = Action(id=id, trial="t1", facility="lab", name="step", operation=operation, point={}, settings=settings)
    return Permit(action=made, policies=())


@contextlib.contextmanager
def hob(tmp_path: Path, port: int = 0) -> Iterator[Node]:
    port = port or free_port()
    with running([sys.executable, HOB_NODE, str(port)], tmp_path / f"{port}.log", port) as server:
        yield server, port


@contextlib.contextmanager
def cryostat(tmp_path: Path, port: int = 0) -> Iterator[Node]:
    port = port or free_port()
    python = python_of("instruments")
    server = Path(python).with_name("frappy-server")
    (tmp_path / "cryo_cfg.py").write_text(CRYOSTAT)
    env = {f"FRAPPY_{word}DIR": str(tmp_path) for word in ("CONF", "LOG", "PID")}
    command = [python, "-c", FRAPPY, str(server), "-p", str(port), "-c", str(tmp_path / "cryo_cfg.py"), "cryo"]
    with running(command, tmp_path / "cryo.log", port, env) as process:
        yield process, port


def using(port: int, test: Callable[[SecopInstrument], Awaitable[T]], module: str = "hob", **options: Any) -> T:
    """The test in a loop of its own, with an instrument that is closed after it."""

    async def run() -> T:
        it = SecopInstrument(module, f"127.0.0.1:{port}", module, **{"patience": 1.0, "heartbeat": 0.3, **options})
        try:
            async with asyncio.timeout(25):
                return await test(it)
        finally:
            await it.close()

    return asyncio.run(run())


class Stage:
    """A Drivable whose status and value are what the test says; it refuses targets by the class in `refuses`.

    It reads nothing while `mute`, does not stop while `deaf`, and begins and answers nothing while it is `held`.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"value": 1.0, "target": 1.0, "status": [100, ""]}
        self.writers, self.refuses = set[asyncio.StreamWriter](), ""
        self.talks = set[asyncio.Task[Any] | None]()
        self.mute, self.held, self.stops, self.deaf = False, asyncio.Event(), 0, False
        self.held.set()

    def tell(self, **values: Any) -> None:
        self.values |= values
        for writer in self.writers:
            writer.write("".join(f"update x:{n} {json.dumps([v, {}])}\n" for n, v in values.items()).encode())

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.talks.add(asyncio.current_task())
        number = {"type": "double", "unit": "mm"}
        said: dict[str, Any] = {n: {"datainfo": number, "readonly": n == "value"} for n in ("value", "target")}
        said["status"] = {
            "datainfo": {"type": "tuple", "members": [{"type": "enum", "members": {}}, {"type": "string"}]}
        }
        said["stop"] = {"datainfo": {"type": "command"}}
        structure = {"modules": {"x": {"accessibles": said, "interface_classes": ["Drivable"]}}}
        while line := (await reader.readline()).decode().strip():
            verb, what, data = [*line.split(" ", 2), "", ""][:3]
            name = what.partition(":")[2]
            match verb:
                case "*IDN?":
                    writer.write(b"ISSE,SECoP,,\n")
                case "describe":
                    writer.write(f"describing . {json.dumps(structure)}\n".encode())
                case "activate":
                    self.writers.add(writer)
                    self.tell(**self.values)
                    writer.write(b"active\n")
                case "ping":
                    writer.write(f"pong {what} [null, {{}}]\n".encode())
                case "read" if self.mute:
                    writer.write(f'error_read {what} ["CommunicationFailed", "no", {{}}]\n'.encode())
                case "do" if self.deaf:
                    writer.write(f'error_do {what} ["Impossible", "no", {{}}]\n'.encode())
                case "do":
                    self.stops += 1
                    self.tell(status=[100, "stopped"])
                    writer.write(f"done {what} [null, {{}}]\n".encode())
                case "read":
                    writer.write(f"reply {what} {json.dumps([self.values[name], {}])}\n".encode())
                case "change" if self.refuses:
                    writer.write(f'error_change {what} ["{self.refuses}", "no", {{}}]\n'.encode())
                case "change":
                    await self.held.wait()
                    self.tell(target=json.loads(data), status=[300, "moving"])
                    writer.write(f"changed {what} [{data}, {{}}]\n".encode())
        self.writers.discard(writer)
        writer.close()
        await writer.wait_closed()

    def drop(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


def on_stage(test: Callable[[SecopInstrument, Stage], Awaitable[None]]) -> None:
    async def run() -> None:
        stage = Stage()
        async with await asyncio.start_server(stage.talk, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            it = SecopInstrument("x", f"127.0.0.1:{port}", "x", patience=1.0, heartbeat=0.3)
            async with asyncio.timeout(10):
                await test(it, stage)
            await it.close()
            await asyncio.gather(*(talk for talk in stage.talks if talk), return_exceptions=True)

    asyncio.run(run())


async def to_end(it: SecopInstrument, handle: str) -> list[Run]:
    return [run async for run in it.follow(handle)]


async def perform(it: SecopInstrument, operation: str, id: str = "a1", **settings: object) -> Run:
    return (await to_end(it, await it.start(permit(operation, id, **settings))))[-1]


async def reads(readings: AsyncIterator[Reading], signal: str, wanted: Callable[[Any], bool]) -> Reading:
    """The first reading of a signal whose value is wanted."""
    async for reading in readings:
        if reading.signal == signal and wanted(reading.value):
            return reading
    raise AssertionError(f"{signal} was read no more")


def test_it_describes_itself_as_the_device_does(tmp_path: Path) -> None:
    async def test(it: SecopInstrument) -> None:
        said = await it.describe()
        for operation in HOB.operations:
            there = said.operation(operation.name)
            assert there is not None
            assert (there.effect, there.seconds) == (operation.effect, operation.seconds)
            words = [(a.name, a.type, a.unit, a.low, a.high, a.default, a.choices) for a in operation.arguments]
            assert [(a.name, a.type, a.unit, a.low, a.high, a.default, a.choices) for a in there.arguments] == words
            assert [(r.name, r.unit) for r in there.results] == [(r.name, r.unit) for r in operation.results]
        assert set(HOB.signals) <= set(said.signals)
        assert (said.vendor, said.model, said.serial, said.version, said.slots) == ("Firstlight", "Hob", "7", "1", 1)

    with hob(tmp_path) as (_, port):
        using(port, test)


def test_runs_are_followed_to_their_end(tmp_path: Path) -> None:
    async def test(it: SecopInstrument) -> None:
        runs = await to_end(it, await it.start(permit("Heat", Target=60.0, Seconds=0.2)))
        assert runs[-1].state == "succeeded" and runs[-1].results == {"Reached": 60.0}
        progress = [run.progress for run in runs if run.progress is not None]
        assert len(progress) > 3 and progress == sorted(progress)
        added = await perform(it, "Add", "a2", Volume=5.0, To="vial", Speed="fast")
        assert added.results == {"Added": 5.0}
        broken = await perform(it, "Break", "a3")
        assert (broken.state, broken.cause, broken.message) == ("failed", "instrument-fault", "the element is broken")

    with hob(tmp_path) as (_, port):
        using(port, test)


def test_what_is_refused_has_not_begun(tmp_path: Path) -> None:
    async def test(it: SecopInstrument) -> None:
        handle = await it.start(permit("Heat", Target=60.0, Seconds=5.0))
        with pytest.raises(NotStarted, match="IsBusy") as busy:
            await it.start(permit("Break", "a2"))
        assert busy.value.cause == "refused"
        with pytest.raises(NotStarted, match="WrongType") as wrong:
            await it.start(permit("Add", "a3", Volume="much", To="vial", Speed="slow"))
        assert wrong.value.cause == "invalid-input"
        with pytest.raises(NotStarted, match="no operation"):
            await it.start(permit("Fly", "a4"))
        assert await it.start(permit("Heat", Target=60.0, Seconds=5.0)) == handle
        await it.cancel(handle)
        assert (await to_end(it, handle))[-1].state == "cancelled"

    with hob(tmp_path) as (_, port):
        using(port, test)


def test_a_safe_stop_ends_all_runs(tmp_path: Path) -> None:
    async def test(it: SecopInstrument) -> None:
        handle = await it.start(permit("Heat", Target=60.0, Seconds=50.0))
        await it.safe_stop()
        assert (await it.status(handle)).state == "cancelled"

    with hob(tmp_path) as (_, port):
        using(port, test)


def test_after_our_crash_the_run_goes_on_under_its_id(tmp_path: Path) -> None:
    with hob(tmp_path) as (_, port):
        using(port, lambda it: it.start(permit("Heat", Target=60.0, Seconds=0.6)))

        async def test(it: SecopInstrument) -> None:
            handle = await it.reattach("a1", "")
            assert handle is not None
            assert (await to_end(it, handle))[-1].results == {"Reached": 60.0}
            with pytest.raises(InDoubt):
                await it.reattach("a2", "")
            # Sent again under the same id it is not performed again: the hob would take 50 s.
            other = await it.start(permit("Heat", Target=90.0, Seconds=50.0))
            assert (await to_end(it, other))[-1].results == {"Reached": 60.0}

        using(port, test)


def test_a_run_of_a_node_that_died_is_unknown(tmp_path: Path) -> None:
    port = free_port()

    async def test(it: SecopInstrument) -> None:
        with hob(tmp_path, port) as (server, _):
            handle = await it.start(permit("Heat", Target=60.0, Seconds=50.0))
            readings = it.watch(["Temperature"])
            await reads(readings, "Temperature", lambda value: value is not None)
            server.kill()
            await reads(readings, "Temperature", lambda value: value is None)
            with pytest.raises(Unavailable):
                await it.start(permit("Break", "a2"))
            with pytest.raises(Unavailable):
                await it.status(handle)
        with hob(tmp_path, port):
            assert (await to_end(it, handle))[-1].state == "unknown"
            await reads(readings, "Temperature", lambda value: value == 25.0)
            assert (await perform(it, "Heat", "a3", Target=30.0, Seconds=0.0)).state == "succeeded"

    using(port, test)


def test_a_silent_node_is_noticed(tmp_path: Path) -> None:
    async def test(it: SecopInstrument, server: subprocess.Popen[bytes]) -> None:
        readings = it.watch(["Temperature"])
        handle = await it.start(permit("Heat", Target=60.0, Seconds=1.0))
        await reads(readings, "Temperature", lambda value: value is not None)
        os.kill(server.pid, signal.SIGSTOP)
        since = time.monotonic()
        # A reply that does not come leaves in doubt what was sent.
        with pytest.raises(InDoubt):
            await it.start(permit("Break", "a2"))
        await reads(readings, "Temperature", lambda value: value is None)
        os.kill(server.pid, signal.SIGCONT)
        await reads(readings, "Temperature", lambda value: value is not None)
        # Nothing is asked now: only the ping that is not answered tells.
        os.kill(server.pid, signal.SIGSTOP)
        await reads(readings, "Temperature", lambda value: value is None)
        assert time.monotonic() - since < 6
        os.kill(server.pid, signal.SIGCONT)
        run = (await to_end(it, handle))[-1]
        assert run.state == "succeeded" and run.results == {"Reached": 60.0}

    with hob(tmp_path) as (server, port):
        using(port, lambda it: test(it, server))


def test_the_cryostat_of_others_moves_and_tells_its_limits(tmp_path: Path) -> None:
    async def test(it: SecopInstrument) -> None:
        said = await it.describe()
        move, set_i = said.operation("move"), said.operation("set_i")
        assert move is not None and (move.arguments[0].unit, move.arguments[0].low) == ("K", 0.0)
        assert set_i is not None and set_i.arguments[0].high == 100.0
        _, wrong = check_arguments(set_i, {"i": 99999}, lambda text, unit: float(text))
        assert wrong and "above the highest" in wrong[0]
        with pytest.raises(NotStarted, match="RangeError") as refused:
            await it.start(permit("set_i", i=99999.0))
        assert refused.value.cause == "invalid-input"
        runs = await to_end(it, await it.start(permit("move", "a2", target=11.0)))
        assert [run.state for run in runs[:1]] == ["running"]
        assert runs[-1].state == "succeeded"
        assert 5 < float(str(runs[-1].results["value"])) < 17
        assert (await perform(it, "read", "a3")).results.keys() == {"value"}
        assert (await perform(it, "set_mode", "a4", mode="ramp")).results == {"value": "ramp"}
        assert (await perform(it, "set_pid", "a5", pid=[30.0, 9.0, 1.0])).results == {"value": [30.0, 9.0, 1.0]}
        far = await it.start(permit("move", "a6", target=200.0))
        await it.cancel(far)
        assert (await to_end(it, far))[-1].state == "cancelled"

    with cryostat(tmp_path) as (_, port):
        using(port, test, "cryo")


def test_the_cryostat_of_others_dies_under_way(tmp_path: Path) -> None:
    port = free_port()

    async def test(it: SecopInstrument) -> None:
        with cryostat(tmp_path, port) as (server, _):
            handle = await it.start(permit("move", target=200.0))
            assert await it.reattach("a1", handle) == handle
            with pytest.raises(InDoubt):
                await it.reattach("a1", "")
            server.kill()
        with cryostat(tmp_path, port):
            run = (await to_end(it, handle))[-1]
            assert (run.state, run.cause) == ("unknown", "lost")
            with pytest.raises(InDoubt):
                await it.reattach("a1", handle)

    using(port, test, "cryo")


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ({"status": [100, ""], "value": 5.0}, "succeeded"),
        ({"status": [400, "it is stuck"]}, "failed"),
        ({"status": [0, "off"]}, "failed"),
        ({"target": 2.0, "status": [100, ""]}, "cancelled"),
    ],
)
def test_a_move_is_judged_by_what_the_module_tells(told: dict[str, Any], state: str) -> None:
    async def test(it: SecopInstrument, stage: Stage) -> None:
        handle = await it.start(permit("move", target=5.0))
        assert (await it.status(handle)).state == "running"
        stage.tell(**told)
        assert (await to_end(it, handle))[-1].state == state

    on_stage(test)


@pytest.mark.parametrize(("value", "state"), [(5.0, "succeeded"), (3.0, "unknown")])
def test_after_a_lost_connection_an_idle_module_must_be_where_it_was_sent(value: float, state: str) -> None:
    async def test(it: SecopInstrument, stage: Stage) -> None:
        handle = await it.start(permit("move", target=5.0))
        stage.values |= {"status": [100, ""], "value": value}
        stage.drop()
        assert (await to_end(it, handle))[-1].state == state

    on_stage(test)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("RangeError", NotStarted),
        ("Impossible", NotStarted),
        ("CommunicationFailed", InDoubt),
        ("InternalError", InDoubt),
        ("HardwareError", InDoubt),
        ("SomethingOfItsOwn", InDoubt),
    ],
)
def test_an_error_that_does_not_exclude_motion_leaves_in_doubt(kind: str, error: type[Exception]) -> None:
    async def test(it: SecopInstrument, stage: Stage) -> None:
        stage.refuses = kind
        with pytest.raises(error, match=kind):
            await it.start(permit("move", target=5.0))

    on_stage(test)


def test_a_module_of_which_nothing_is_heard_since_it_was_sent_has_not_arrived() -> None:
    async def test(it: SecopInstrument, stage: Stage) -> None:
        await it.describe()
        tell = stage.tell
        # It answers before it tells that it is busy, and its status cannot be read just then.
        stage.mute, stage.tell = True, lambda **values: tell(target=5.0)  # type: ignore[method-assign]
        handle = await it.start(permit("move", target=5.0))
        assert (await it.status(handle)).state == "running"
        tell(status=[300, "moving"])
        tell(status=[100, "there"], value=5.0)
        assert (await to_end(it, handle))[-1].state == "succeeded"

    on_stage(test)


def test_a_move_that_a_safe_stop_came_upon_while_it_was_answered_is_cancelled() -> None:
    async def test(it: SecopInstrument, stage: Stage) -> None:
        await it.describe()
        stage.held.clear()
        starting = asyncio.create_task(it.start(permit("move", target=5.0)))
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(it.safe_stop())
        await asyncio.sleep(0.05)
        stage.held.set()
        handle = await starting
        await stopping
        assert stage.stops == 2
        assert (await to_end(it, handle))[-1].state == "cancelled"

    on_stage(test)


def test_nothing_begins_after_a_safe_stop_because_it_waited_for_a_connection() -> None:
    async def test(it: SecopInstrument, stage: Stage) -> None:
        await it.describe()
        stage.drop()
        while it._link.online:
            await asyncio.sleep(0.001)
        late = asyncio.create_task(it.start(permit("move", target=5.0)))
        await asyncio.sleep(0)
        await it.safe_stop()
        with pytest.raises(NotStarted, match="stopped, before it began") as refused:
            await late
        assert refused.value.cause == "cancelled"
        assert stage.values["target"] == 1.0

    on_stage(test)


def test_a_connection_that_is_gone_again_before_anybody_used_it_is_waited_for() -> None:
    async def test(it: SecopInstrument, stage: Stage) -> None:
        link = it._link
        link._task = asyncio.create_task(asyncio.sleep(60))
        waiting = asyncio.create_task(link.ready())
        await asyncio.sleep(0)
        link._tell("")
        await asyncio.sleep(0.01)
        assert not waiting.done()
        link.online = True
        link._tell("")
        await waiting

    on_stage(test)


def test_who_does_not_stop_goes_on_to_its_own_end() -> None:
    async def test(it: SecopInstrument, stage: Stage) -> None:
        handle = await it.start(permit("move", target=5.0))
        stage.deaf = True
        with pytest.raises(InDoubt, match="would not stop"):
            await it.cancel(handle)
        with pytest.raises(InDoubt, match="did not stop"):
            await it.safe_stop()
        stage.tell(status=[100, ""], value=5.0)
        assert (await to_end(it, handle))[-1].state == "succeeded"

    on_stage(test)


@pytest.mark.parametrize(
    ("datainfo", "ours", "theirs"),
    [
        ({"type": "enum", "members": {"slow": 0, "fast": 4}}, "fast", 4),
        ({"type": "scaled", "scale": 0.25, "min": 0, "max": 8}, 1.5, 6),
        ({"type": "array", "members": {"type": "scaled", "scale": 0.5}}, [1.0, 2.5], [2, 5]),
        ({"type": "tuple", "members": [{"type": "bool"}, {"type": "string"}]}, [True, "a"], [True, "a"]),
        ({"type": "struct", "members": {"x": {"type": "enum", "members": {"on": 1}}}}, {"x": "on"}, {"x": 1}),
    ],
)
def test_values_travel_as_the_standard_has_them(datainfo: dict[str, Any], ours: object, theirs: object) -> None:
    assert to_wire(datainfo, ours) == theirs
    assert from_wire(datainfo, theirs) == ours


class TestContract(Served):
    """What every adapter keeps, behind the SECoP node of the twin."""

    @classmethod
    def command(cls, port: int) -> list[str]:
        return [sys.executable, HOB_NODE, str(port)]

    @classmethod
    def at(cls, port: int) -> SecopInstrument:
        return SecopInstrument("hob", f"127.0.0.1:{port}", "hob", patience=1.0, heartbeat=0.3)
