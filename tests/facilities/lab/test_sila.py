"""SiLA 2 against real servers: the twin's, one with unobservable commands, and that of the standard's own tests."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

pytest.importorskip("sila2")

from sila2.framework import Feature
from sila2.server.encryption import generate_self_signed_certificate

from firstlight.core import (
    Action,
    InDoubt,
    NotStarted,
    Permit,
    Reading,
    Run,
    Unavailable,
)
from firstlight.facilities.lab import _sila_runs as sila_runs
from firstlight.facilities.lab._sila_link import Answer, Link, Silent
from firstlight.facilities.lab._sila_types import scalar as understood
from firstlight.facilities.lab.sila import SilaInstrument, discover
from firstlight.facilities.lab.twin.serve_sila import feature_of

from .contract import Served
from .devices import HOB
from .servers import free_port, running

T = TypeVar("T")
SERVERS = str(Path(__file__).with_name("sila_servers.py"))
Server = tuple[subprocess.Popen[bytes], int]


def permit(operation: str, **settings: object) -> Permit:
    made = Action(id="a1", trial="t1", facility="lab", name="step", operation=operation, point={}, settings=settings)
    return Permit(action=made, policies=())


def instrument(port: int, **options: Any) -> SilaInstrument:
    options = {"insecure": True, "patience": 2.0, "heartbeat": 0.5, **options}
    return SilaInstrument("hob", f"127.0.0.1:{port}", **options)


def using(port: int, test: Callable[[SilaInstrument], Awaitable[T]], **options: Any) -> T:
    """The test in a loop of its own, with an instrument that is closed after it."""

    async def run() -> T:
        it = instrument(port, **options)
        try:
            async with asyncio.timeout(25):
                return await test(it)
        finally:
            await it.close()

    return asyncio.run(run())


async def to_end(it: SilaInstrument, handle: str) -> list[Run]:
    return [run async for run in it.follow(handle)]


async def perform(it: SilaInstrument, operation: str, **settings: object) -> Run:
    return (await to_end(it, await it.start(permit(operation, **settings))))[-1]


@contextlib.contextmanager
def serving(tmp_path: Path, *words: str, port: int = 0) -> Iterator[Server]:
    port = port or free_port()
    what, *more = words
    with running([sys.executable, SERVERS, what, str(port), *more], tmp_path / f"{port}.log", port) as server:
        yield server, port


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The port of a hob for tests that leave it as it was, and its log."""
    folder = tmp_path_factory.mktemp("hob")
    log = folder / "done"
    log.touch()
    with serving(folder, "hob", str(log)) as (_, port):
        yield port, log


@pytest.fixture(scope="module")
def mill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with serving(tmp_path_factory.mktemp("mill"), "mill") as (_, port):
        yield port


def test_the_description_is_that_of_the_device(shared: tuple[int, Path]) -> None:
    said = using(shared[0], lambda it: it.describe())
    assert (said.protocol, said.model, said.version) == ("sila", "Hob", "1.0")
    for operation in HOB.operations:
        told = said.operation(operation.name)
        assert told is not None and told.description == (operation.description or operation.name)
        assert told.effect == "consuming"  # SiLA does not say, so the worst is assumed
        for mine, theirs in zip(operation.arguments, told.arguments, strict=True):
            assert (mine.name, mine.type, mine.unit) == (theirs.name, theirs.type, theirs.unit)
            assert (mine.low, mine.high, mine.choices) == (theirs.low, theirs.high, theirs.choices)
        assert [(r.name, r.unit) for r in operation.results] == [(r.name, r.unit) for r in told.results]
    assert [(s.name, s.type, s.unit) for s in said.signals] == [(s.name, s.type, s.unit) for s in HOB.signals]
    reading = said.operation("Get_Temperature")
    assert reading is not None and reading.repeatable and reading.results[0].unit == "degC"


def test_a_unit_is_told_by_its_si_base_units() -> None:
    feature = Feature(feature_of(HOB))
    told = {}
    for command in feature._observable_commands.values():
        for node in command.parameters:
            for constraint in getattr(node.data_type, "constraints", []):
                if hasattr(constraint, "factor"):
                    told[constraint.label] = (constraint.factor, constraint.offset)
    assert told["degC"] == (1.0, 273.15) and told["s"] == (1.0, 0.0)
    assert told["uL"] == (pytest.approx(1e-9), 0.0)


def test_a_run_is_pushed_from_its_beginning_to_its_results(shared: tuple[int, Path]) -> None:
    async def test(it: SilaInstrument) -> list[Run]:
        return await to_end(it, await it.start(permit("Heat", Target=60.0, Seconds=0.2)))

    runs = using(shared[0], test)
    assert runs[-1].state == "succeeded" and runs[-1].results == {"Reached": 60.0}
    progress = [run.progress for run in runs if run.progress is not None]
    assert progress == sorted(progress) and len(set(progress)) > 5
    assert runs[-1].ended > runs[-1].started > time.time() - 60


def test_a_fault_is_a_failure_with_its_cause(shared: tuple[int, Path]) -> None:
    run = using(shared[0], lambda it: perform(it, "Break"))
    assert run.state == "failed" and run.cause == "instrument-fault" and "the element is broken" in run.message


def test_a_cancelled_run_comes_to_rest(shared: tuple[int, Path]) -> None:
    async def test(it: SilaInstrument) -> Run:
        handle = await it.start(permit("Heat", Target=60.0, Seconds=30.0))
        assert (await it.status(handle)).state in ("queued", "running")
        await it.cancel(handle)
        run = (await to_end(it, handle))[-1]
        await it.cancel(handle)  # one that has ended by then
        return run

    run = using(shared[0], test)
    assert run.state == "cancelled" and run.cause == "cancelled"


def test_a_safe_stop_ends_all_and_is_done_when_it_returns(shared: tuple[int, Path]) -> None:
    async def test(it: SilaInstrument) -> Run:
        handle = await it.start(permit("Heat", Target=60.0, Seconds=30.0))
        await it.safe_stop()
        assert "stop" in shared[1].read_text()
        return (await to_end(it, handle))[-1]

    assert using(shared[0], test).state == "cancelled"


def test_nothing_begins_after_a_safe_stop_because_it_was_on_its_way(shared: tuple[int, Path]) -> None:
    before = shared[1].read_text().split().count("Heat")

    async def test(it: SilaInstrument) -> None:
        await it.describe()
        for operation, settings in (("Heat", {"Target": 60.0, "Seconds": 30.0}), ("Get_Door", {})):
            starting = asyncio.create_task(it.start(permit(operation, **settings)))
            await asyncio.sleep(0)
            await it.safe_stop()
            with pytest.raises(NotStarted, match="stopped, before it began") as told:
                await starting
            assert told.value.cause == "cancelled"
        assert (await perform(it, "Get_Door")).state == "succeeded"  # what is asked for later is begun

    using(shared[0], test)
    assert shared[1].read_text().split().count("Heat") == before


@pytest.mark.parametrize("answered", [True, False])
def test_a_start_that_a_safe_stop_overtook_is_ended(
    shared: tuple[int, Path], monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    call, stops = Link.call, shared[1].read_text().split().count("stop")

    async def slow(link: Link, node: Any, name: str, message: Any, seconds: float | None) -> Any:
        if name == "Heat":
            await asyncio.sleep(0.5)
            reply = await call(link, node, name, message, seconds)
            if not answered:
                raise Silent("lost")
            return reply
        return await call(link, node, name, message, seconds)

    async def test(it: SilaInstrument) -> None:
        await it.describe()
        monkeypatch.setattr(Link, "call", slow)
        starting = asyncio.create_task(it.start(permit("Heat", Target=60.0, Seconds=30.0)))
        await asyncio.sleep(0.3)
        await it.safe_stop()
        assert starting.done()
        assert shared[1].read_text().split().count("stop") == stops + 2
        if answered:
            assert (await it.status(await starting)).state == "cancelled"
        else:
            with pytest.raises(InDoubt):
                await starting

    using(shared[0], test)


def answering(monkeypatch: pytest.MonkeyPatch, answers: Mapping[str, Exception]) -> None:
    """Calls of these names get these answers, without being sent."""
    call, stream = Link.call, Link.stream

    async def answered(link: Link, node: Any, name: str, message: Any, seconds: float | None) -> Any:
        if name in answers:
            raise answers[name]
        return await call(link, node, name, message, seconds)

    async def streamed(link: Link, node: Any, name: str, message: Any, quiet: float) -> AsyncGenerator[Any, None]:
        if name in answers:
            raise answers[name]
        async with contextlib.aclosing(stream(link, node, name, message, quiet)) as items:
            async for item in items:
                yield item

    monkeypatch.setattr(Link, "call", answered)
    monkeypatch.setattr(Link, "stream", streamed)


@pytest.mark.parametrize("asked", ["Heat_Info", "Heat_Result"])
def test_a_run_of_a_command_that_the_server_has_no_more_is_unknown(
    shared: tuple[int, Path], monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    async def test(it: SilaInstrument) -> None:
        handle = await it.start(permit("Heat", Target=60.0, Seconds=0.05))
        answering(monkeypatch, {asked: Answer("unimplemented", "what?")})
        run = (await to_end(it, handle))[-1]
        assert (run.state, run.cause) == ("unknown", "lost")
        assert (await it.status(handle)).state == "unknown"

    using(shared[0], test)


def test_only_an_answer_that_says_so_is_a_refusal(shared: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(it: SilaInstrument) -> None:
        heat = permit("Heat", Target=60.0, Seconds=0.05)
        await it.describe()
        answering(monkeypatch, answers := {"Heat": Answer("defined", "it boils over", "Interlock")})
        run = (await to_end(it, await it.start(heat)))[-1]
        assert (run.state, run.cause) == ("failed", "interlock") and "boils over" in run.message
        answers["Heat"] = Answer("undefined", "no idea")
        assert (await to_end(it, await it.start(heat)))[-1].state == "failed"
        answers["Heat"] = Answer("COMMAND_EXECUTION_NOT_FINISHED", "what?")
        with pytest.raises(InDoubt, match="was sent Heat"):
            await it.start(heat)
        answers["Heat"] = Answer("COMMAND_EXECUTION_NOT_ACCEPTED", "busy")
        with pytest.raises(NotStarted, match="busy"):
            await it.start(heat)

    using(shared[0], test)


def test_a_call_on_a_closed_connection_is_unavailable(mill: int, monkeypatch: pytest.MonkeyPatch) -> None:
    message = Link.message

    async def closing(link: Link, command: Any, given: dict[str, object]) -> Any:
        made = await message(link, command, given)
        await link.close()
        return made

    async def test(it: SilaInstrument) -> None:
        await it.describe()
        monkeypatch.setattr(Link, "message", closing)
        with pytest.raises(Unavailable, match="closed"):
            await it.start(permit("Grind", Seconds=0.01, Gear=1, Teeth=8, Label="fine"))

    using(mill, test)


def test_one_way_to_stop_does_not_wait_for_the_other(shared: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    call, other = Link.call, asyncio.Event()

    async def waiting(link: Link, node: Any, name: str, message: Any, seconds: float | None) -> Any:
        if name == "Break":
            other.set()
        elif name == "CancelAll":
            try:
                await asyncio.wait_for(other.wait(), 1.0)
            except TimeoutError:
                raise Silent("no answer") from None
        return await call(link, node, name, message, seconds)

    async def test(it: SilaInstrument) -> None:
        await it.describe()
        monkeypatch.setattr(Link, "call", waiting)
        with pytest.raises(NotStarted, match="Break") as told:
            await it.safe_stop()
        assert "CancelAll" not in str(told.value)

    using(shared[0], test, stop_command="Break")


def test_a_value_that_cannot_be_read_is_a_failure(shared: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    values = Link.values

    async def garbled(link: Link, nodes: Any, reply: Any) -> dict[str, object]:
        if any(node._identifier == "Door" for node in nodes):
            raise TypeError("neither open nor shut")
        return await values(link, nodes, reply)

    async def test(it: SilaInstrument) -> None:
        await it.describe()
        monkeypatch.setattr(Link, "values", garbled)
        run = await perform(it, "Get_Door")
        assert (run.state, run.cause) == ("failed", "invalid-output") and "neither open" in run.message

    using(shared[0], test)


@pytest.mark.parametrize(
    ("operation", "settings"),
    [
        ("Heat", {"Target": 201.0, "Seconds": 0.1}),
        ("Heat", {"Target": "hot", "Seconds": 0.1}),
        ("Heat", {"Target": 50.0}),
        ("Add", {"Volume": 5.0, "To": "v", "Speed": "furious"}),
        ("Juggle", {}),
        ("Temperature", {}),
        ("Get_Heat", {}),
    ],
)
def test_what_is_not_allowed_is_not_begun(
    shared: tuple[int, Path], operation: str, settings: dict[str, object]
) -> None:
    port, log = shared
    before = log.read_text()

    async def test(it: SilaInstrument) -> None:
        with pytest.raises(NotStarted) as told:
            await it.start(permit(operation, **settings))
        assert told.value.cause == "invalid-input"

    using(port, test)
    assert log.read_text() == before


def test_two_features_of_one_name_are_told_apart(shared: tuple[int, Path], tmp_path: Path) -> None:
    async def test(it: SilaInstrument, other: SilaInstrument) -> None:
        for one, target in ((it, 40.0), (other, 60.0), (it, 50.0)):
            assert (await perform(one, "Heat", Target=target, Seconds=0.05)).results == {"Reached": target}
        said, turned = (await it.describe()).operations[0], (await other.describe()).operations[0]
        assert [a.name for a in turned.arguments] == [a.name for a in said.arguments][::-1]
        await other.close()

    with serving(tmp_path, "turned") as (_, port):
        using(shared[0], lambda it: test(it, instrument(port)))


def test_a_property_can_be_read_as_an_operation(shared: tuple[int, Path]) -> None:
    run = using(shared[0], lambda it: perform(it, "Get_Door"))
    assert run.state == "succeeded" and run.results == {"Door": False}


def test_signals_are_pushed(shared: tuple[int, Path]) -> None:
    async def test(it: SilaInstrument) -> list[Reading]:
        seen = list[Reading]()
        handle = await it.start(permit("Heat", Target=150.0, Seconds=0.5))
        async with contextlib.aclosing(it.watch(["Temperature", "Door"])) as readings:
            async for reading in readings:
                seen.append(reading)
                if reading.value == 150.0:
                    break
        await to_end(it, handle)
        return seen

    seen = using(shared[0], test)
    assert [r.value for r in seen if r.signal == "Door"] == [False]
    assert len([r for r in seen if r.signal == "Temperature"]) > 4
    with pytest.raises(ValueError, match="no signal"):
        using(shared[0], lambda it: anext(aiter(it.watch(["Pressure"]))))


@pytest.mark.parametrize("signal", ["Temperature", "Mill.Dust"])
def test_a_signal_that_cannot_be_understood_is_none_and_read_on(
    shared: tuple[int, Path], mill: int, signal: str, monkeypatch: pytest.MonkeyPatch
) -> None:

    wrong = [ValueError("that is no number")]

    def scalar(value: Any) -> Any:
        if wrong:
            raise wrong.pop()
        return understood(value)

    async def test(it: SilaInstrument) -> None:
        await it.describe()
        monkeypatch.setattr(sila_runs, "scalar", scalar)
        async with contextlib.aclosing(it.watch([signal])) as readings:
            assert (await anext(readings)).value is None
            if signal == "Mill.Dust":  # It is polled; what is pushed comes again when it has changed.
                assert (await anext(readings)).value is not None

    using(shared[0] if signal == "Temperature" else mill, test)


def test_nobody_there_is_unavailable_and_nothing_was_sent() -> None:
    async def test(it: SilaInstrument) -> None:
        for ask in (it.describe(), it.start(permit("Heat", Target=50.0, Seconds=0.1)), it.safe_stop()):
            with pytest.raises(Unavailable):
                await ask
        async with contextlib.aclosing(it.watch(["Door"])) as readings:
            assert (await anext(readings)).value is None
        async with contextlib.aclosing(it.follow("Hob.Heat/98e73d4c-4a1b-451d-bcd8-77c38bf5c1ee")) as runs:
            assert (await anext(runs)).state == "running"

    using(free_port(), test)


def test_a_lost_reply_is_in_doubt_and_never_sent_again(tmp_path: Path) -> None:
    log = tmp_path / "done"

    async def test(wire: "Wire") -> None:
        it = instrument(wire.port, patience=0.7)
        await it.describe()
        with pytest.raises(InDoubt, match="did not answer"):
            await it.start(permit("Add", Volume=5.0, To="lost vial", Speed="slow"))
        with pytest.raises(InDoubt):
            await it.reattach("a1", "")
        await it.close()

    with serving(tmp_path, "hob", str(log)) as (_, port):
        asyncio.run(Wire.between(port, b"lost vial", test))
        assert log.read_text().split() == ["Add"]


class Wire:
    """A wire to a server that carries no more answers once it has carried certain words."""

    def __init__(self, words: bytes) -> None:
        self._words, self._mute, self.port = words, False, free_port()

    @classmethod
    async def between(cls, port: int, words: bytes, test: Callable[["Wire"], Awaitable[None]]) -> None:
        wire, pipes = cls(words), set[asyncio.Task[None]]()

        async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, out = await asyncio.open_connection("127.0.0.1", port)
            ways = (wire._carry(reader, out, True), wire._carry(there, writer, False))
            pipes.update(asyncio.ensure_future(way) for way in ways)

        server = await asyncio.start_server(joined, "127.0.0.1", wire.port)
        try:
            await test(wire)
        finally:
            server.close()
            for pipe in pipes:
                pipe.cancel()
            await asyncio.gather(*pipes, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asks: bool) -> None:
        try:
            while data := await reader.read(65536):
                self._mute = self._mute or (asks and self._words in data)
                if asks or not self._mute:
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()


OURS = """
import asyncio, sys
from firstlight.core import Action, Permit
from firstlight.facilities.lab._sila_types import scalar as understood
from firstlight.facilities.lab.sila import SilaInstrument, discover

async def main():
    it = SilaInstrument("hob", "127.0.0.1:" + sys.argv[1], insecure=True)
    action = Action(id="a1", trial="t", facility="f", name="s", operation="Heat", point={},
                    settings={"Target": 90.0, "Seconds": 1.2})
    print(await it.start(Permit(action=action, policies=())), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_run_outlasts_our_own_death(tmp_path: Path) -> None:
    log = tmp_path / "done"
    with serving(tmp_path, "hob", str(log)) as (_, port):
        with subprocess.Popen([sys.executable, "-c", OURS, str(port)], stdout=subprocess.PIPE, text=True) as ours:
            assert ours.stdout is not None
            handle = ours.stdout.readline().strip()
            ours.kill()

        async def test(it: SilaInstrument) -> list[Run]:
            assert await it.reattach("a1", handle) == handle
            return await to_end(it, handle)

        runs = using(port, test)
        assert runs[0].state == "running" and runs[-1].results == {"Reached": 90.0}
        assert log.read_text().split() == ["Heat"]


def test_what_a_server_that_died_was_doing_is_unknown(tmp_path: Path) -> None:
    port = free_port()

    async def test(it: SilaInstrument) -> None:
        with serving(tmp_path, "hob", port=port) as (server, _):
            handle = await it.start(permit("Heat", Target=90.0, Seconds=30.0))
            runs, readings = it.follow(handle), it.watch(["Temperature"])
            assert (await anext(runs)).state == "running"
            assert (await anext(readings)).value is not None
            server.kill()
            async for reading in readings:
                if reading.value is None:
                    break
            async for run in runs:
                assert run.state == "running"  # nobody knows, and nobody has said that it failed
                if run.message:
                    break
        with serving(tmp_path, "hob", port=port):
            assert (await anext(readings)).value == 25.0
            last = [run async for run in runs][-1]
            assert last.state == "unknown" and last.cause == "lost"
            assert (await it.status(handle)).state == "unknown"
            await readings.aclose()

    using(port, test, patience=1.0)


def test_a_server_that_stands_still_is_noticed(tmp_path: Path) -> None:
    async def test(it: SilaInstrument, server: subprocess.Popen[bytes]) -> None:
        handle = await it.start(permit("Heat", Target=90.0, Seconds=1.0))
        runs, readings = it.follow(handle), it.watch(["Door"])
        assert (await anext(runs)).state == "running"
        assert (await anext(readings)).value is False
        os.kill(server.pid, signal.SIGSTOP)
        try:
            stopped = time.monotonic()
            assert (await anext(readings)).value is None
            async for run in runs:
                if run.message:
                    break
            assert run.state == "running" and time.monotonic() - stopped < 4
            with pytest.raises(Unavailable):
                await it.start(permit("Heat", Target=90.0, Seconds=1.0))
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert (await anext(readings)).value is False
        assert [run async for run in runs][-1].state == "succeeded"
        await readings.aclose()

    with serving(tmp_path, "hob") as (server, port):
        using(port, lambda it: test(it, server), patience=0.3, heartbeat=0.3)


def test_the_connection_is_encrypted_and_the_server_known_by_its_certificate(tmp_path: Path) -> None:
    import uuid  # noqa: PLC0415

    files = dict[str, Path]()
    for who in ("own", "other"):
        key, certificate = generate_self_signed_certificate(uuid.uuid4(), "127.0.0.1")
        for what, text in (("key", key), ("pem", certificate)):
            files[f"{who}.{what}"] = tmp_path / f"{who}.{what}"
            files[f"{who}.{what}"].write_bytes(text)

    async def fails(it: SilaInstrument) -> None:
        with pytest.raises(Unavailable):
            await it.describe()

    with serving(tmp_path, "hob", "", str(files["own.pem"]), str(files["own.key"])) as (_, port):
        known = {"insecure": False, "root_certificate": str(files["own.pem"])}
        assert using(port, lambda it: perform(it, "Get_Door"), **known).state == "succeeded"
        using(port, fails, insecure=False, root_certificate=str(files["other.pem"]))
        using(port, fails, insecure=False)  # the authorities of the system do not know it
        using(port, fails)  # unencrypted


def test_unencrypted_is_for_this_machine_only() -> None:
    for host in ("192.168.1.7:50051", "pump.lab:50051"):
        with pytest.raises(ValueError, match="not this machine"):
            SilaInstrument("pump", host, insecure=True)
        SilaInstrument("pump", host, insecure=True, force_insecure=True)
    SilaInstrument("pump", "[::1]:50051", insecure=True)
    with pytest.raises(ValueError, match="leave out insecure"):
        SilaInstrument("pump", insecure=True, root_certificate="pump.pem")


def test_limits_come_from_the_constraints(mill: int) -> None:
    said = using(mill, lambda it: it.describe())
    grind = said.operation("Mill.Grind")
    assert grind is not None and {o.name for o in said.operations} == {
        "Mill.Grind", "Mill.Weigh", "Mill.Get_Dust", "Lid.Weigh", "Lid.Shut"
    }  # fmt: skip
    seconds, gear, teeth, label = grind.arguments
    assert seconds.low is not None and 0 < seconds.low < 1e-300
    assert (gear.type, gear.choices, teeth.high) == ("integer", (1, 2), 8.0)
    assert label.schema == {"maxLength": 5}
    assert grind.results[1].type == "array" and grind.results[1].schema["maxItems"] == 3
    assert using(mill, lambda it: it.describe(), features=["Lid"]).operation("Shut") is not None


def test_an_unobservable_command_is_waited_for(mill: int) -> None:
    async def test(it: SilaInstrument) -> None:
        handle = await it.start(permit("Grind", Seconds=0.3, Gear=1, Teeth=8, Label="fine"))
        assert (await it.status(handle)).state == "running"
        with pytest.raises(NotStarted, match="cannot cancel"):
            await it.cancel(handle)
        assert await it.reattach("a1", handle) == handle
        runs = await to_end(it, handle)
        # The list has a constraint, which sila2 by itself cannot read.
        assert [r.state for r in runs] == ["running", "succeeded"] and runs[-1].results["Sieves"] == [1.0, 2.0]
        assert (await perform(it, "Grind", Seconds=0.01, Gear=1, Teeth=8, Label="stuck")).state == "failed"
        assert (await perform(it, "Mill.Weigh")).results == {"Mass": 7.0}
        for refused in (permit("Weigh"), permit("Grind", Seconds=0.0, Gear=1, Teeth=8, Label="fine")):
            with pytest.raises(NotStarted):
                await it.start(refused)
        with pytest.raises(NotStarted, match="no way to stop"):
            await it.safe_stop()
        async with contextlib.aclosing(it.watch(["Mill.Dust"])) as readings:
            assert (await anext(readings)).value == 0.25  # polled, as it cannot be subscribed

    using(mill, test)
    using(mill, lambda it: it.safe_stop(), stop_command="Lid.Shut")
    with pytest.raises(InDoubt):  # another process made that call
        using(mill, lambda it: it.reattach("a1", "Mill.Grind/call/a1"))
    assert using(mill, lambda it: it.status("Mill.Grind/call/a1")).state == "unknown"


def test_a_server_that_begins_anew_under_another_identity_is_taken_up(tmp_path: Path) -> None:
    port = free_port()

    async def test(it: SilaInstrument) -> None:
        with serving(tmp_path, "mill", port=port) as (server, _):
            handle = await it.start(permit("Mill.Weigh"))
            assert (await to_end(it, handle))[-1].state == "succeeded"
            pending = await it.start(permit("Grind", Seconds=20.0, Gear=1, Teeth=8, Label="fine"))
            readings = it.watch(["Mill.Dust"])
            assert (await anext(readings)).value == 0.25
            server.kill()
            assert (await anext(readings)).value is None
        with serving(tmp_path, "mill", port=port):
            assert (await anext(readings)).value == 0.25
            assert (await perform(it, "Mill.Weigh")).results == {"Mass": 7.0}
            assert (await to_end(it, handle))[-1].state == "unknown"
            assert (await to_end(it, pending))[-1].state == "unknown"
            last = await it.start(permit("Grind", Seconds=9.0, Gear=1, Teeth=8, Label="fine"))
            follower = asyncio.create_task(to_end(it, last))
            await asyncio.sleep(0)
            await readings.aclose()
            await it.close()
            assert (await follower)[-1].state == "unknown"

    using(port, test, poll=0.1)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_what_came_of_a_call_that_got_no_answer_is_unknown(tmp_path: Path, end: signal.Signals) -> None:
    async def test(it: SilaInstrument, server: subprocess.Popen[bytes]) -> Run:
        handle = await it.start(permit("Grind", Seconds=20.0, Gear=1, Teeth=8, Label="fine"))
        os.kill(server.pid, end)
        return (await to_end(it, handle))[-1]

    with serving(tmp_path, "mill") as (server, port):
        options = {"patience": 0.3, "heartbeat": 0.3, "lost_after": 0.5}
        run = using(port, lambda it: test(it, server), **options)
    assert run.state == "unknown" and run.cause == "lost"


def test_servers_are_found_in_the_network(tmp_path: Path) -> None:
    with serving(tmp_path, "announced") as (_, port):
        # It makes itself known only about a second after it listens.
        for _ in range(6):
            found = asyncio.run(discover(0.7, ["127.0.0.1"]))
            if here := [server for server in found if server.address == f"127.0.0.1:{port}"]:
                break
    if not here:
        pytest.skip("there is no multicast on this machine")
    assert here[0].name == "hob" and here[0].version == "1.0"


class TestContract(Served):
    """What every adapter keeps, behind the SiLA 2 server of the twin."""

    @classmethod
    def command(cls, port: int) -> list[str]:
        return [sys.executable, SERVERS, "hob", str(port)]

    @classmethod
    def at(cls, port: int) -> SilaInstrument:
        return instrument(port)
