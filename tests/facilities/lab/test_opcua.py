"""OPC UA against real servers: the twin's, shaped as LADS, one with control functions, plain ones, and others' own."""

import asyncio
import contextlib
import itertools
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

pytest.importorskip("asyncua")

from asyncua import Client, ua

from firstlight.core import (
    ENDED,
    Action,
    InDoubt,
    NotStarted,
    Permit,
    Reading,
    Run,
    Unavailable,
)
from firstlight.facilities.lab.opcua import OpcuaInstrument, discover
from firstlight.facilities.lab.opcua._link import Refused

from .contract import Served
from .devices import HOB
from .servers import free_port, running

T = TypeVar("T")
SERVERS = str(Path(__file__).with_name("opcua_servers.py"))
Server = tuple[subprocess.Popen[bytes], int]


NUMBERS = itertools.count(1)


def permit(operation: str, action: str = "", **settings: object) -> Permit:
    made = Action(
        id=action or f"a{next(NUMBERS)}",
        trial="t1",
        facility="lab",
        name="step",
        operation=operation,
        point={},
        settings=settings,
    )
    return Permit(action=made, policies=())


def using(port: int, test: Callable[[OpcuaInstrument], Awaitable[T]], **options: Any) -> T:
    """The test in a loop of its own, with an instrument that is closed after it."""

    async def run() -> T:
        it = OpcuaInstrument("it", f"opc.tcp://127.0.0.1:{port}", **{"timeout": 1.0, "keepalive": 1.0, **options})
        try:
            async with asyncio.timeout(25):
                return await test(it)
        finally:
            await it.close()

    return asyncio.run(run())


async def to_end(it: OpcuaInstrument, handle: str) -> list[Run]:
    return [run async for run in it.follow(handle)]


async def perform(it: OpcuaInstrument, operation: str, action: str = "", **settings: object) -> Run:
    return (await to_end(it, await it.start(permit(operation, action, **settings))))[-1]


@contextlib.contextmanager
def serving(tmp_path: Path, what: str, port: int = 0, *more: str) -> Iterator[Server]:
    port = port or free_port()
    with running([sys.executable, SERVERS, what, str(port), *more], tmp_path / f"{port}.log", port) as server:
        yield server, port


@pytest.fixture(scope="module")
def hob(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with serving(tmp_path_factory.mktemp("hob"), "hob") as (_, port):
        yield port


@pytest.fixture(scope="module")
def chiller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with serving(tmp_path_factory.mktemp("chiller"), "chiller") as (_, port):
        yield port


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with serving(tmp_path_factory.mktemp("bench"), "bench") as (_, port):
        yield port


class Line:
    """A line to a server that can be cut, or lose what the server answers."""

    def __init__(self, port: int) -> None:
        self.port, self.deaf = port, False
        self.writers = list[asyncio.StreamWriter]()

    @contextlib.asynccontextmanager
    async def laid(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]
            self.cut()
            await asyncio.sleep(0.05)

    def cut(self) -> None:
        for writer in self.writers:
            writer.close()
        self.writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onward = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers += [writer, onward]
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(self._carry(reader, onward, False), self._carry(there, writer, True))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if not (back and self.deaf):
                    writer.write(data)
                    await writer.drain()
        writer.close()


async def over(line: Line, test: Callable[[OpcuaInstrument], Awaitable[T]], **options: Any) -> T:
    async with line.laid() as port:
        it = OpcuaInstrument("it", f"opc.tcp://127.0.0.1:{port}", **{"timeout": 0.7, "keepalive": 0.7, **options})
        try:
            return await test(it)
        finally:
            await it.close()


# What a LADS device says of itself, and does.


def test_a_device_describes_itself_as_it_is(hob: int) -> None:
    said = using(hob, lambda it: it.describe())
    assert said.operations == HOB.operations
    assert said.signals == HOB.signals
    assert (said.vendor, said.model, said.serial, said.version) == ("Firstlight", "Hob", "7", "1")
    assert (said.name, said.protocol, said.slots) == ("it", "opcua", 1)


def test_a_program_runs_to_its_end_and_tells_of_its_progress(hob: int) -> None:
    async def test(it: OpcuaInstrument) -> None:
        runs = await to_end(it, await it.start(permit("Heat", "heat-1", Target=60.0, Seconds=0.2)))
        assert runs[-1].state == "succeeded"
        assert runs[-1].results == {"Reached": 60.0}
        assert 0.15 < runs[-1].ended - runs[-1].started < 2
        told = [r.progress for r in runs if r.progress is not None]
        assert told == sorted(told)
        assert len(told) >= 5
        assert all(r.state == "running" for r in runs[:-1])

    using(hob, test)


def test_a_fault_of_the_instrument_is_a_failure_and_it_goes_on_after_it(hob: int) -> None:
    async def test(it: OpcuaInstrument) -> None:
        broken = await perform(it, "Break", "break-1")
        assert (broken.state, broken.cause, broken.message) == ("failed", "instrument-fault", "the element is broken")
        assert (await perform(it, "Add", "add-1", Volume=3.0, To="vial", Speed="fast")).results == {"Added": 3.0}

    using(hob, test)


def test_a_busy_unit_refuses_with_the_status_code_in_words(hob: int) -> None:
    async def test(it: OpcuaInstrument) -> None:
        first = await it.start(permit("Heat", "busy-1", Target=40.0, Seconds=0.3))
        with pytest.raises(NotStarted, match=r"BadInvalidState.*operation cannot be completed"):
            await it.start(permit("Add", "busy-2", Volume=3.0, To="vial", Speed="fast"))
        with pytest.raises(NotStarted, match="no operation 'Melt'; it has: Heat, Add, Break"):
            await it.start(permit("Melt"))
        assert (await to_end(it, first))[-1].state == "succeeded"
        with pytest.raises(NotStarted, match="BadInvalidArgument") as refused:
            await it.start(permit("Heat", "busy-3", Target="hot"))
        assert refused.value.cause == "invalid-input"

    using(hob, test)


def test_a_run_is_cancelled_and_only_it(hob: int) -> None:
    async def test(it: OpcuaInstrument) -> None:
        done = await it.start(permit("Heat", "cancel-0", Target=30.0, Seconds=0.0))
        await to_end(it, done)
        handle = await it.start(permit("Heat", "cancel-1", Target=90.0, Seconds=30.0))
        await it.cancel(done)
        assert (await it.status(handle)).state == "running"
        await it.cancel(handle)
        run = (await to_end(it, handle))[-1]
        assert (run.state, run.cause) == ("cancelled", "cancelled")
        assert (await it.status(done)).state == "succeeded"

    using(hob, test)


def test_a_safe_stop_ends_what_runs_before_it_returns(hob: int) -> None:
    async def test(it: OpcuaInstrument) -> None:
        await it.safe_stop()  # with nothing to stop
        handle = await it.start(permit("Heat", "stop-1", Target=90.0, Seconds=30.0))
        began = time.monotonic()
        await it.safe_stop()
        assert 0.2 <= time.monotonic() - began < 1.5
        assert (await it.status(handle)).state == "cancelled"
        assert (await perform(it, "Heat", "stop-2", Target=25.0, Seconds=0.0)).state == "succeeded"

    using(hob, test)


def test_signals_are_pushed(hob: int) -> None:
    async def test(it: OpcuaInstrument) -> None:
        seen = list[Reading]()

        async def watch() -> None:
            async for reading in it.watch(("Temperature", "Door")):
                seen.append(reading)

        watching = asyncio.create_task(watch())
        await perform(it, "Heat", "watch-1", Target=80.0, Seconds=0.3)
        await asyncio.sleep(0.1)
        watching.cancel()
        values = [r.value for r in seen if r.signal == "Temperature"]
        assert values[-1] == 80.0
        assert len(values) >= 4
        assert [r.value for r in seen if r.signal == "Door"] == [0]
        assert abs(seen[-1].at - time.time()) < 2
        with pytest.raises(LookupError, match="no signal Pressure; it has: Temperature, Door"):
            await anext(it.watch(("Pressure",)))

    using(hob, test)


# What becomes of a run when something breaks.


def test_a_run_is_found_again_from_another_process(hob: int) -> None:
    script = (
        "import asyncio, sys; from firstlight.core import *; from firstlight.facilities.lab.opcua import *\n"
        "async def main():\n"
        " it = OpcuaInstrument('it', f'opc.tcp://127.0.0.1:{sys.argv[1]}')\n"
        " s = {'Target': 77.0, 'Seconds': 1.5}\n"
        " a = Action(id='orphan', trial='t', facility='f', name='n', operation='Heat', point={}, settings=s)\n"
        " print(await it.start(Permit(a, ())), flush=True)\n"
        " await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(hob)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        handle = other.stdout.readline().strip()
        other.kill()

    async def test(it: OpcuaInstrument) -> None:
        assert await it.reattach("orphan", handle) == handle
        found = await it.reattach("orphan", "")
        assert found is not None
        assert (await it.status(found)).state == "running"
        run = (await to_end(it, found))[-1]
        assert (run.state, run.results) == ("succeeded", {"Reached": 77.0})
        assert (await it.status(handle)).state == "succeeded"
        with pytest.raises(InDoubt, match="no result of never-begun"):
            await it.reattach("never-begun", "")

    using(hob, test)
    assert using(hob, lambda it: it.reattach("never-begun", ""), results_outlast_restarts=True) is None


def test_a_run_that_a_restarted_server_does_not_know_is_unknown(tmp_path: Path) -> None:
    port = free_port()

    async def test(it: OpcuaInstrument) -> None:
        with contextlib.ExitStack() as first:
            server, _ = first.enter_context(serving(tmp_path, "hob", port))
            readings = it.watch(("Temperature",))
            assert (await anext(readings)).value == 25.0
            handle = await it.start(permit("Heat", "lost", Target=90.0, Seconds=30.0))
            runs = it.follow(handle)
            assert (await anext(runs)).state == "running"
            server.kill()
            began = time.monotonic()
            async for reading in readings:
                if reading.value is None:
                    break
            async for run in runs:
                assert run.state == "running"
                if run.message == "not connected":
                    break
            assert time.monotonic() - began < 2
            with pytest.raises(Unavailable, match="cannot be reached"):
                await it.start(permit("Heat", "later", Target=90.0, Seconds=0.0))
        with serving(tmp_path, "hob", port):
            async for reading in readings:
                if reading.value is not None:
                    assert reading.value == 25.0
                    break
            last = [run async for run in runs][-1]
            assert (last.state, last.cause) == ("unknown", "lost")
            with pytest.raises(InDoubt):
                await it.reattach("lost", "")
            assert (await perform(it, "Heat", "later", Target=30.0, Seconds=0.0)).state == "succeeded"

    using(port, test)


def test_a_silent_server_is_noticed_and_its_run_goes_on_when_it_wakes(tmp_path: Path) -> None:
    async def test(it: OpcuaInstrument) -> None:
        handle = await it.start(permit("Heat", "silent", Target=90.0, Seconds=1.0))
        readings, runs = it.watch(("Temperature",)), it.follow(handle)
        await anext(readings)
        await anext(runs)
        server.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises((InDoubt, Unavailable)):
            await it.start(permit("Add", "in-doubt", Volume=1.0, To="vial", Speed="slow"))
        async for reading in readings:
            if reading.value is None:
                break
        assert time.monotonic() - began < 3
        assert (await anext(runs)).state == "running"
        server.send_signal(signal.SIGCONT)
        last = [run async for run in runs][-1]
        assert (last.state, last.results) == ("succeeded", {"Reached": 90.0})
        async for reading in readings:
            if reading.value == 90.0:
                break

    with serving(tmp_path, "hob") as (server, port):
        using(port, test)


def test_a_lost_answer_is_a_doubt_that_the_supervisory_task_id_resolves(hob: int) -> None:
    line = Line(hob)

    async def test(it: OpcuaInstrument) -> None:
        await perform(it, "Heat", "heard", Target=25.0, Seconds=0.0)
        line.deaf = True
        with pytest.raises(InDoubt, match="nothing came in time"):
            await it.start(permit("Heat", "unheard", Target=66.0, Seconds=1.5))
        line.deaf = False
        line.cut()
        handle = await it.reattach("unheard", "")
        assert handle is not None
        run = (await to_end(it, handle))[-1]
        assert (run.state, run.results) == ("succeeded", {"Reached": 66.0})

    asyncio.run(over(line, test))


def test_a_run_outlasts_a_cut_line(hob: int) -> None:
    line = Line(hob)

    async def test(it: OpcuaInstrument) -> None:
        handle = await it.start(permit("Heat", "cut", Target=66.0, Seconds=0.8))
        runs = it.follow(handle)
        await anext(runs)
        line.cut()
        seen = [run async for run in runs]
        assert "not connected" in [r.message for r in seen]
        assert (seen[-1].state, seen[-1].results) == ("succeeded", {"Reached": 66.0})
        assert [r.state for r in seen if r.state in ENDED] == ["succeeded"]

    asyncio.run(over(line, test))


def test_nobody_there_is_unavailable() -> None:
    port = free_port()
    with pytest.raises(Unavailable, match="cannot be reached"):
        using(port, lambda it: it.describe())
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
        asyncio.run(discover([f"opc.tcp://127.0.0.1:{port}"]))


def test_where_results_tell_no_outcome_the_states_do_while_somebody_looks(tmp_path: Path) -> None:
    async def test(it: OpcuaInstrument) -> None:
        assert (await perform(it, "Heat", "good", Target=40.0, Seconds=0.1)).state == "succeeded"
        broken = await perform(it, "Break", "bad")
        assert (broken.state, broken.cause) == ("failed", "instrument-fault")
        handle = await it.start(permit("Heat", "stopped", Target=90.0, Seconds=30.0))
        await it.cancel(handle)
        assert (await to_end(it, handle))[-1].state == "cancelled"
        assert (await perform(it, "Heat", "again", Target=30.0, Seconds=0.0)).state == "succeeded"
        await it.start(permit("Heat", "unseen", Target=40.0, Seconds=0.2))

    async def later(it: OpcuaInstrument) -> None:
        handle = await it.reattach("unseen", "")
        assert handle is not None
        while (run := await it.status(handle)).state == "running":
            await asyncio.sleep(0.05)
        assert (run.state, run.cause) == ("unknown", "lost")
        assert "while nobody looked" in run.message

    with serving(tmp_path, "mute") as (_, port):
        using(port, test)
        time.sleep(0.4)
        using(port, later)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with serving(tmp_path_factory.mktemp("odd"), "lads") as (_, port):
        yield port


async def begun(it: OpcuaInstrument) -> float:
    """How often the odd unit has begun anything, as it counts itself."""
    return float(str((await anext(it.watch(("Begun",)))).value))


def test_a_result_that_is_written_after_the_end_is_waited_for(odd: int) -> None:
    """Longer than a server may take to show what it has begun: that its result is empty until then means nothing."""

    async def test(it: OpcuaInstrument) -> None:
        runs = await to_end(it, await it.start(permit("Late")))
        assert (runs[-1].state, runs[-1].results) == ("succeeded", {"Volume": 4.5})

    using(odd, test)


@pytest.mark.parametrize("program", ["Never", "Vanish", "Undated"])
def test_a_result_that_is_never_completed_is_no_success(odd: int, program: str) -> None:
    async def test(it: OpcuaInstrument) -> None:
        handle = await it.start(permit(program))
        # Two may look after one run: each of them sees its end.
        for runs in await asyncio.gather(to_end(it, handle), to_end(it, handle)):
            assert (runs[-1].state, runs[-1].cause) == ("unknown", "lost")
            assert "was not completed" in runs[-1].message

    using(odd, test)


def test_a_refusal_from_the_middle_of_a_start_is_a_doubt_until_there_is_a_result(odd: int) -> None:
    async def test(it: OpcuaInstrument) -> None:
        before = await begun(it)
        with pytest.raises(InDoubt, match="may have begun"):
            await it.start(permit("Hidden", "hidden"))
        with pytest.raises(InDoubt, match="did not say that it was not begun"):
            await it.reattach("hidden", "")
        assert await begun(it) == before + 1.0
        await it.safe_stop()

    async def later(it: OpcuaInstrument) -> None:
        with pytest.raises(InDoubt, match="may have begun"):
            await it.start(permit("Hidden", "again"))

    async def another(it: OpcuaInstrument) -> None:
        # A process that knows nothing of it sees that something runs, and not what.
        with pytest.raises(InDoubt, match="it may be that"):
            await it.reattach("again", "")
        await it.safe_stop()
        assert await it.reattach("never-begun", "") is None

    using(odd, test, results_outlast_restarts=True)
    using(odd, later, results_outlast_restarts=True)
    using(odd, another, results_outlast_restarts=True)


def test_a_start_that_is_given_up_is_in_doubt(odd: int) -> None:
    async def test(it: OpcuaInstrument) -> None:
        connection = await it._link.connection()
        await it.describe()
        sent = asyncio.Event()

        async def call(*arguments: Any) -> Any:
            sent.set()
            await asyncio.sleep(60)

        connection.call = call  # type: ignore[method-assign, assignment]
        starting = asyncio.create_task(it.start(permit("Late", "given-up")))
        await sent.wait()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        with pytest.raises(InDoubt, match="did not say that it was not begun"):
            await it.reattach("given-up", "")

    using(odd, test, results_outlast_restarts=True)


def test_a_line_that_breaks_while_a_refusal_is_looked_into_leaves_a_doubt(odd: int) -> None:
    line = Line(odd)

    async def test(it: OpcuaInstrument) -> None:
        connection = await it._link.connection()
        await it.describe()
        call = connection.call

        async def refused(*arguments: Any) -> Any:
            try:
                return await call(*arguments)
            finally:
                line.cut()
                connection.lose()

        connection.call = refused  # type: ignore[method-assign, assignment]
        with pytest.raises(InDoubt):
            await it.start(permit("Torn", "torn"))
        handle = await it.reattach("torn", "")
        assert handle is not None
        await it.safe_stop()

    asyncio.run(over(line, test))


@pytest.mark.parametrize("what", ["program", "function", "method", "variable"])
def test_nothing_begins_after_a_safe_stop_because_it_was_on_its_way(tmp_path: Path, what: str) -> None:
    made = {
        "program": ("hob", permit("Heat", Target=66.0, Seconds=1.0)),
        "function": ("chiller", permit("Bath.Temperature.Set", Target=66.0)),
        "method": ("bench", permit("Dispense", Amount=5.0, Seconds=0.5)),
        "variable": ("bench", permit("SetSpeed", Value=7.0)),
    }  # fmt: skip
    server, given = made[what]

    async def test(it: OpcuaInstrument) -> None:
        await it.describe()
        find, at, go = it._what, asyncio.Event(), asyncio.Event()

        async def found(connection: Any) -> Any:
            if asyncio.current_task() is starting:
                at.set()
                await go.wait()
            return await find(connection)

        it._what = found  # type: ignore[method-assign]
        starting = asyncio.create_task(it.start(given))
        await at.wait()
        stopping = asyncio.create_task(it.safe_stop())
        await asyncio.sleep(0.1)
        go.set()
        with pytest.raises(NotStarted, match="stopped, before it began") as refused:
            await starting
        assert refused.value.cause == "cancelled"
        await stopping

    with serving(tmp_path, server) as (_, port):
        using(port, test, **({"stop": "Halt"} if server == "bench" else {}))


# Control functions.


def test_a_control_function_is_set_and_waited_for(chiller: int) -> None:
    async def test(it: OpcuaInstrument) -> None:
        said = await it.describe()
        (operation,) = said.operations
        (target,) = operation.arguments
        assert (operation.name, operation.effect) == ("Bath.Temperature.Set", "consuming")
        assert (target.name, target.unit, target.low, target.high) == ("Target", "degC", 5.0, 95.0)
        assert {s.name: s.unit for s in said.signals} == {
            "Bath.Temperature": "degC", "Bath.Temperature.Target": "degC", "Room.Air": "degC",
        }  # fmt: skip
        runs = await to_end(it, await it.start(permit(operation.name, Target=50.0)))
        assert runs[-1].state == "succeeded"
        assert abs(float(str(runs[-1].results["Reached"])) - 50.0) <= 0.9
        assert len(runs) > 5
        assert (await perform(it, operation.name, Target=45.0)).state == "succeeded"

    using(chiller, test)


def test_a_control_function_is_cancelled_overruled_or_aborted(chiller: int) -> None:
    async def test(it: OpcuaInstrument) -> None:
        name = "Bath.Temperature.Set"
        first = await it.start(permit(name, Target=95.0))
        second = await it.start(permit(name, Target=5.0))
        overruled = (await to_end(it, first))[-1]
        assert (overruled.state, overruled.cause) == ("unknown", "lost")
        assert "another target" in overruled.message
        assert await it.reattach("a1", second) == second
        await it.cancel(second)
        assert (await to_end(it, second))[-1].state == "cancelled"
        third = await it.start(permit(name, Target=95.0))
        await it.safe_stop()
        assert (await to_end(it, third))[-1].state == "cancelled"
        with pytest.raises(NotStarted, match=r"is Aborted: somebody has to clear it"):
            await it.start(permit(name, Target=50.0))
        # Nothing is left of what control functions were set to: whether one was, nobody can tell after a crash.
        with pytest.raises(InDoubt, match="keeps nothing of what its control functions were set to"):
            await it.reattach("set-before-a-crash", "")

    using(chiller, test)


@pytest.mark.parametrize(
    "breaks",
    [
        Unavailable("the line is gone"),
        Refused(ua.StatusCodes.BadInternalError),
        Refused(ua.StatusCodes.BadInvalidState),
        NotStarted("stopped, before it began", "cancelled"),
    ],
)
def test_a_function_with_a_new_target_of_which_nobody_knows_whether_it_runs_is_in_doubt(
    tmp_path: Path, breaks: Exception
) -> None:
    async def test(it: OpcuaInstrument) -> None:
        connection = await it._link.connection()

        async def call(*arguments: Any) -> Any:
            raise breaks

        connection.call = call  # type: ignore[method-assign, assignment]
        with pytest.raises(InDoubt):
            await it.start(permit("Bath.Temperature.Set", Target=50.0))

    with serving(tmp_path, "chiller") as (_, port):
        using(port, test)


# Plain servers.


def test_a_plain_server_offers_its_methods_and_variables(bench: int) -> None:
    async def test(it: OpcuaInstrument) -> None:
        said = await it.describe()
        found = {o.name: o for o in said.operations}
        assert set(found) == {"Dispense", "SetSpeed"}
        assert [a.name for a in found["Dispense"].arguments] == ["Amount", "Seconds"]
        assert (found["Dispense"].effect, found["SetSpeed"].effect) == ("consuming", "reversible")
        speed = found["SetSpeed"].arguments[0]
        assert (speed.unit, speed.low, speed.high) == ("mL/min", 0.0, 10.0)
        assert {s.name: s.unit for s in said.signals} == {"Volume": "uL", "Speed": "mL/min"}
        runs = await to_end(it, await it.start(permit("Dispense", Amount=5.0, Seconds=0.6)))
        assert [r.state for r in runs] == ["running", "succeeded"]
        assert runs[-1].results == {"Dispensed": 5.0}
        assert (await perform(it, "SetSpeed", Value=2.5)).state == "succeeded"
        assert (await anext(it.watch(("Speed",)))).value == 2.5
        # Longer than the timeout of any other question.
        assert (await perform(it, "Dispense", Amount=1.0, Seconds=1.3)).results == {"Dispensed": 1.0}
        with pytest.raises(NotStarted, match="BadOutOfRange"):
            await it.start(permit("Dispense", Amount=5000.0, Seconds=0.0))

    words = {"Dispense": {}, "SetSpeed": {"effect": "reversible"}}
    using(bench, test, root="Pump", stop="Halt", operations=words)


def test_a_method_under_way_blocks_neither_its_stop_nor_the_readings(bench: int) -> None:
    async def test(it: OpcuaInstrument) -> None:
        handle = await it.start(permit("Dispense", Amount=5.0, Seconds=30.0))
        assert (await it.status(handle)).state == "running"
        await it.safe_stop()
        run = (await to_end(it, handle))[-1]
        assert run.state == "failed"
        assert "BadOperationAbandoned" in run.message

    using(bench, test, root="Pump", stop="Halt", keepalive=0.4)


def test_a_method_whose_answer_is_lost_is_in_doubt(tmp_path: Path) -> None:
    async def test(it: OpcuaInstrument) -> None:
        handle = await it.start(permit("Dispense", Amount=5.0, Seconds=30.0))
        server.kill()
        run = (await to_end(it, handle))[-1]
        assert (run.state, run.cause) == ("unknown", "lost")

    async def later(it: OpcuaInstrument) -> None:
        with pytest.raises(InDoubt):
            await it.reattach("a1", '["call", "Dispense", "", "a1", ""]')

    with serving(tmp_path, "bench") as (server, port):
        using(port, test)
        using(port, later)


def test_what_the_options_name_must_be_there(bench: int) -> None:
    with pytest.raises(Unavailable, match="no operation Fly; it has: Dispense, Halt, SetSpeed"):
        using(bench, lambda it: it.describe(), root="Pump", operations={"Fly": {}})
    with pytest.raises(Unavailable, match="no 'Valve' under 'Objects'"):
        using(bench, lambda it: it.describe(), root="Valve")
    with pytest.raises(NotStarted, match="no method to stop"):
        using(bench, lambda it: it.safe_stop(), root="Pump")


def test_secrets_stay_where_they_are(tmp_path: Path, bench: int) -> None:
    with pytest.raises(ValueError, match="holds no user") as refused:
        OpcuaInstrument("it", "opc.tcp://me:geheim@127.0.0.1:4840")
    assert "geheim" not in str(refused.value)
    password = tmp_path / "password"
    password.write_text("geheim")
    with pytest.raises(ValueError, match="in the clear"):
        OpcuaInstrument("it", "opc.tcp://far.example:4840", user="me", password_file=str(password))
    password.chmod(0o644)
    with pytest.raises(Unavailable, match="chmod 600"):
        using(bench, lambda it: it.describe(), user="me", password_file=str(password))


def test_a_guarded_server_lets_in_who_has_certificate_and_password(tmp_path: Path) -> None:
    key, certificate, password = tmp_path / "key.pem", tmp_path / "certificate.der", tmp_path / "password"
    host = Client("opc.tcp://127.0.0.1")
    asyncio.run(host.setup_self_signed_certificate(key, certificate))
    password.write_text("geheim\n")
    for file in (key, password):
        file.chmod(0o600)
    access = {"certificate": str(certificate), "key": str(key), "user": "me", "password_file": str(password)}
    with serving(tmp_path, "guarded", 0, str(certificate), str(key)) as (_, port):
        assert using(port, lambda it: it.describe(), timeout=5.0, **access).protocol == "opcua"
        password.write_text("wrong")
        with pytest.raises(Unavailable, match=r"BadUserAccessDenied|BadIdentityTokenRejected") as refused:
            using(port, lambda it: it.describe(), timeout=5.0, **access)
        assert "wrong" not in str(refused.value)
        with pytest.raises(Unavailable):
            using(port, lambda it: it.describe())


# A server that others wrote.


def test_the_example_server_of_the_library(tmp_path: Path) -> None:
    port = free_port()
    tool = [sys.executable, "-c", "from asyncua.tools import uaserver; uaserver()"]
    command = [*tool, "-u", f"opc.tcp://127.0.0.1:{port}", "--populate"]

    async def test(it: OpcuaInstrument) -> None:
        said = await it.describe()
        assert [o.name for o in said.operations] == ["MyMethod", "SetMyWritableVariable"]
        assert [(a.name, a.type) for a in said.operations[0].arguments] == [("in0", "number"), ("in1", "integer")]
        assert (await perform(it, "MyMethod", in0=2.5, in1=4)).results == {"out0": 10.0}
        assert (await perform(it, "SetMyWritableVariable", Value=1.5)).state == "succeeded"
        seen = list[object]()
        async for reading in it.watch(("MyWritableVariable", "MyVariable")):
            seen.append(reading.value)
            if len(seen) >= 3:
                break
        assert 1.5 in seen

    with running(command, tmp_path / "log", port):
        using(port, test, root="MyObject")
        assert list(asyncio.run(discover([f"opc.tcp://127.0.0.1:{port}"])).values()) == ["FreeOpcUa Example Server"]


class TestContract(Served):
    """What every adapter keeps, behind the LADS server of the twin."""

    @classmethod
    def command(cls, port: int) -> list[str]:
        return [sys.executable, SERVERS, "hob", str(port)]

    @classmethod
    def at(cls, port: int) -> OpcuaInstrument:
        return OpcuaInstrument("hob", f"opc.tcp://127.0.0.1:{port}", timeout=1.0, keepalive=1.0)
