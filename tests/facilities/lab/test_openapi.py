"""OpenAPI against real servers: an oven with jobs, and the simulated chiller of flowchem."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from firstlight.core import Action, InDoubt, NotStarted, Permit, Run, Unavailable, check_arguments
from firstlight.facilities.lab.openapi import OpenApiInstrument

from .servers import free_port, python_of, running

T = TypeVar("T")
OVEN = str(Path(__file__).with_name("openapi_oven.py"))
STATUS = {
    "path": "/jobs/{id}", "field": "status", "progress": "done", "results": "result", "message": "error",
    "states": {"baking": "running", "ready": "succeeded", "broken": "failed", "aborted": "cancelled"},
}  # fmt: skip
SET, REACHED = "/chiller/temperature-control/temperature", "/chiller/temperature-control/target-reached"
CHILLER: dict[str, Any] = {
    "names": {f"PUT {SET}": "set_temperature", f"GET {SET}": "temperature", f"GET {REACHED}": "reached"},
    "only": ["/chiller/temperature-control"], "quantities": {"temp": "degC"}, "units": {"temperature": "degC"},
    "effects": {"set_temperature": "reversible"},
    "status": {"set_temperature": {
        "path": REACHED, "field": "", "states": {"true": "succeeded", "false": "running"}}},
}  # fmt: skip


def permit(operation: str, id: str = "a1", **settings: object) -> Permit:
    made = Action(id=id, trial="t1", facility="lab", name="step", operation=operation, point={}, settings=settings)
    return Permit(action=made, policies=())


@contextlib.contextmanager
def oven(tmp_path: Path, port: int = 0, token: str = "") -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = port or free_port()
    with running([sys.executable, OVEN, str(port)], tmp_path / "oven.log", port, {"TOKEN": token}) as server:
        yield server, port


@contextlib.contextmanager
def chiller(tmp_path: Path) -> Iterator[int]:
    port, python = free_port(), python_of("flowchem")
    (tmp_path / "lab.toml").write_text(f'port = {port}\n[device.chiller]\ntype = "HuberChiller"\nport = "COM2"\n')
    command = [str(Path(python).with_name("flowchem-sim")), "--host", "127.0.0.1", str(tmp_path / "lab.toml")]
    with running(command, tmp_path / "flowchem.log", port):
        yield port


def using(port: int, test: Callable[[OpenApiInstrument], Awaitable[T]], **options: Any) -> T:
    """The test in a loop of its own, with an instrument that is closed after it."""
    given = {
        "status": STATUS,
        "cancel": "DELETE /jobs/{id}",
        "stop": ["halt"],
        "poll": 0.05,
        "patience": 1.0,
        "longest": 1.0,
    }

    async def run() -> T:
        it = OpenApiInstrument("oven", f"http://127.0.0.1:{port}", **{**given, **options})
        try:
            async with asyncio.timeout(20):
                return await test(it)
        finally:
            await it.close()

    return asyncio.run(run())


async def to_end(it: OpenApiInstrument, handle: str) -> list[Run]:
    return [run async for run in it.follow(handle)]


def test_the_document_becomes_operations_and_signals(tmp_path: Path) -> None:
    async def test(it: OpenApiInstrument) -> None:
        said = await it.describe()
        bake = said.operation("bake")
        assert bake is not None and bake.effect == "consuming"
        words = [(a.name, a.type, a.unit, a.low, a.high, a.default, a.choices) for a in bake.arguments]
        assert words == [
            ("target", "number", "degC", 20.0, 300.0, None, ()),
            ("seconds", "number", "s", 0.0, None, 0.1, ()),
            ("gas", "string", "", None, None, "air", ("air", "argon")),
        ]
        assert [r.name for r in bake.results] == ["id", "status"]
        temperature = said.operation("temperature")
        assert temperature is not None and temperature.effect == "read"
        assert [(s.name, s.unit) for s in said.signals] == [("temperature", "degC")]
        assert said.operation("DELETE /jobs/{id}") is not None
        assert (said.model, said.version) == ("Oven", "3")

    with oven(tmp_path) as (_, port):
        using(port, test)


def test_an_answer_or_a_job_ends_a_run(tmp_path: Path) -> None:
    async def test(it: OpenApiInstrument) -> None:
        runs = await to_end(it, await it.start(permit("bake", target=80.0, seconds=0.4, gas="argon")))
        assert runs[-1].state == "succeeded" and runs[-1].results == {"reached": 80.0}
        assert len({run.progress for run in runs}) > 2
        broken = (await to_end(it, await it.start(permit("bake", "a2", target=299.0, seconds=0.0, gas="air"))))[-1]
        assert (broken.state, broken.message) == ("failed", "the fan is stuck")
        door = (await to_end(it, await it.start(permit("door", "a3", side="left", open=True))))[-1]
        assert door.results == {"side": "left", "open": "true"}
        read = (await to_end(it, await it.start(permit("temperature", "a4"))))[-1]
        assert read.results == {"result": 27.0}
        long = await it.start(permit("bake", "a5", target=80.0, seconds=30.0, gas="air"))
        await it.cancel(long)
        assert (await to_end(it, long))[-1].state == "cancelled"
        long = await it.start(permit("bake", "a6", target=80.0, seconds=30.0, gas="air"))
        await it.safe_stop()
        assert (await to_end(it, long))[-1].state == "cancelled"

    with oven(tmp_path) as (_, port):
        using(port, test)


def test_refused_is_not_started_and_no_answer_is_doubt(tmp_path: Path) -> None:
    async def test(it: OpenApiInstrument, server: subprocess.Popen[bytes]) -> None:
        with pytest.raises(NotStarted, match="too hot") as hot:
            await it.start(permit("bake", target=5000.0, seconds=0.0, gas="air"))
        assert hot.value.cause == "invalid-input"
        with pytest.raises(NotStarted, match="another path"):
            await it.start(permit("door", "a3", side="..", open=True))
        with pytest.raises(NotStarted, match="it is busy") as busy:
            await it.start(permit("busy", "a2"))
        assert busy.value.cause == "refused"
        for n, what in enumerate(("hang", "fault", "moved", "late", "drop")):
            with pytest.raises(InDoubt):
                await it.start(permit(what, f"b{n}"))
        # While it dies, its port still takes connections that it never serves: those are in doubt too.
        server.wait()
        with pytest.raises(Unavailable):
            await it.start(permit("busy", "a3"))

    with oven(tmp_path) as (server, port):
        using(port, lambda it: test(it, server))


def test_what_goes_on_after_the_answer_and_cannot_be_followed_is_not_taken_for_done(tmp_path: Path) -> None:
    async def test(it: OpenApiInstrument) -> None:
        with pytest.raises(NotStarted, match="option status") as told:
            await it.start(permit("bake", target=80.0, seconds=0.1, gas="air"))
        assert told.value.cause == "invalid-input"
        assert (await to_end(it, await it.start(permit("temperature", "a2"))))[-1].results == {"result": 25.0}
        with pytest.raises(InDoubt, match="accepted"):
            await it.start(permit("later", "a3"))
        with pytest.raises(NotStarted, match="not there yet"):
            await it.start(permit("pending", "a4"))

    with oven(tmp_path) as (_, port):
        using(port, test, status={})


@pytest.mark.parametrize("known", [True, False])
def test_nothing_begins_after_a_safe_stop_because_it_was_on_its_way(tmp_path: Path, known: bool) -> None:
    async def test(it: OpenApiInstrument) -> None:
        if known:
            await it.describe()
        starting = asyncio.create_task(it.start(permit("bake", target=80.0, seconds=30.0, gas="air")))
        await asyncio.sleep(0)
        await it.safe_stop()
        with pytest.raises(NotStarted, match="stopped, before it began") as told:
            await starting
        assert told.value.cause == "cancelled"
        # The temperature tells how many jobs there are; and what is asked for later is begun.
        assert (await to_end(it, await it.start(permit("temperature", "a2"))))[-1].results == {"result": 25.0}
        assert (await to_end(it, await it.start(permit("bake", target=80.0, seconds=0.1, gas="air"))))[-1].results

    with oven(tmp_path) as (_, port):
        using(port, test)


@pytest.mark.parametrize("cancel", ["DELETE /jobs/{id}", ""])
def test_a_start_that_a_safe_stop_overtook_is_ended(tmp_path: Path, cancel: str) -> None:
    async def test(it: OpenApiInstrument) -> None:
        await it.describe()
        starting = asyncio.create_task(it.start(permit("bake", target=298.0, seconds=30.0, gas="air")))
        await asyncio.sleep(0.2)
        await it.safe_stop()
        assert (await it.status(await starting)).state == "cancelled"

    with oven(tmp_path) as (_, port):
        using(port, test, cancel=cancel)


def test_a_start_that_a_safe_stop_overtook_and_that_cannot_be_ended_is_in_doubt(tmp_path: Path) -> None:
    async def test(it: OpenApiInstrument) -> None:
        await it.describe()
        starting = asyncio.create_task(it.start(permit("bake", target=298.0, seconds=30.0, gas="air")))
        await asyncio.sleep(0.2)
        with pytest.raises(InDoubt, match="no idea"):
            await it.safe_stop()
        with pytest.raises(InDoubt, match="overtaken"):
            await starting

    with oven(tmp_path) as (_, port):
        using(port, test, cancel="", stop=["fault"])


def test_a_stop_that_is_silent_or_fails_does_not_keep_the_next_from_being_sent(tmp_path: Path) -> None:
    async def test(it: OpenApiInstrument) -> None:
        long = await it.start(permit("bake", target=80.0, seconds=30.0, gas="air"))
        stopping = asyncio.create_task(it.safe_stop())
        async with asyncio.timeout(3.0):
            assert (await to_end(it, long))[-1].state == "cancelled"
        with pytest.raises(InDoubt) as told:
            await stopping
        assert all(word in str(told.value) for word in ("there is no operation", "no idea", "hang:", "moved:"))
        assert "halt" not in str(told.value)

    with oven(tmp_path) as (_, port):
        using(port, test, patience=5.0, stop=["nothing", "fault", "moved", "hang", "halt"])


def test_after_our_crash_a_job_is_followed_by_its_id_and_an_answer_known_by_its_handle(tmp_path: Path) -> None:
    async def begin(it: OpenApiInstrument) -> tuple[str, str]:
        job = await it.start(permit("bake", target=80.0, seconds=0.4, gas="air"))
        return job, await it.start(permit("door", "a2", side="left", open=False))

    async def go_on(it: OpenApiInstrument, job: str, door: str) -> None:
        assert await it.reattach("a1", job) == job
        assert (await to_end(it, job))[-1].results == {"reached": 80.0}
        assert (await it.status(door)).results == {"side": "left", "open": "false"}
        with pytest.raises(InDoubt):
            await it.reattach("a3", "")

    with oven(tmp_path) as (_, port):
        handles = using(port, begin)
        using(port, lambda it: go_on(it, *handles))


def test_a_server_that_died_or_is_silent_is_noticed(tmp_path: Path) -> None:
    port = free_port()

    async def test(it: OpenApiInstrument) -> None:
        with oven(tmp_path, port) as (server, _):
            handle = await it.start(permit("bake", target=80.0, seconds=30.0, gas="air"))
            readings = it.watch(["temperature"])
            assert (await anext(readings)).value == 26.0
            os.kill(server.pid, signal.SIGSTOP)
            assert (await anext(readings)).value is None
            with pytest.raises(Unavailable):
                await it.status(handle)
            with pytest.raises(InDoubt):
                await it.start(permit("busy", "a2"))
            server.kill()
        with oven(tmp_path, port):
            run = (await to_end(it, handle))[-1]
            assert (run.state, run.cause) == ("unknown", "lost")
            assert (await anext(readings)).value == 25.0

    using(port, test)


def test_the_token_is_named_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="never the token"):
        OpenApiInstrument("oven", token="s3cret-s3cret")
    with oven(tmp_path, token="s3cret") as (_, port):
        with pytest.raises(Unavailable, match="who are you"):
            using(port, lambda it: it.describe())
        with pytest.raises(Unavailable, match=r"no token in \$OVEN"):
            using(port, lambda it: it.describe(), token="OVEN")
        monkeypatch.setenv("OVEN", "s3cret")
        assert using(port, lambda it: it.describe(), token="OVEN").model == "Oven"


def test_the_chiller_of_others(tmp_path: Path) -> None:
    async def test(it: OpenApiInstrument) -> None:
        said = await it.describe()
        operation = said.operation("set_temperature")
        assert operation is not None and operation.effect == "reversible"
        assert (operation.arguments[0].type, operation.arguments[0].unit) == ("number", "degC")
        taken, wrong = check_arguments(operation, {"temp": 50.0}, lambda text, unit: float(text))
        assert not wrong
        run = (await to_end(it, await it.start(permit("set_temperature", "a1", **taken))))[-1]
        assert run.state == "succeeded"
        assert any(s.name == "temperature" and s.unit == "degC" for s in said.signals)
        assert (await anext(it.watch(["temperature"]))).value == 50.0

    with chiller(tmp_path) as port:
        using(port, test, **CHILLER)
