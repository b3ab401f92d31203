"""Words for tests of EPICS: permits, endings, IOCs in processes of their own."""

import asyncio
import contextlib
import functools
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ParamSpec

from firstlight.core import ENDED, Action, Instrument, Permit, Reading, Run
from firstlight.facilities.lab.epics import EpicsInstrument
from firstlight.facilities.lab.twin.serve_epics import options_for

from .devices import HOB
from .servers import free_port, python_of, running

P = ParamSpec("P")
ROOT = Path(__file__).parents[3]
# The client library reads its addresses once a process, so that all IOCs of these tests have one port in turn.
CA_PORT = free_port()
SILENCE = 1.0


def in_a_loop(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """A test that runs in a loop of its own, for 30 seconds at most."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def within() -> None:
            async with asyncio.timeout(30):
                await test(*args, **kwargs)

        asyncio.run(within())

    return run


def permit(id: str, operation: str, **settings: object) -> Permit:
    action = Action(
        id=id, trial="t1", facility="lab", name="n", operation=operation, point={}, settings=settings, repeatable=False
    )
    return Permit(action=action, policies=("test",))


async def ended(instrument: Instrument, handle: str, within: float = 10.0) -> Run:
    async with asyncio.timeout(within):
        last = [run async for run in instrument.follow(handle)][-1]
    assert last.state in ENDED
    return last


async def heard(readings: AsyncIterator[Reading], wanted: Callable[[Reading], bool], within: float = 10.0) -> Reading:
    async with asyncio.timeout(within):
        async for reading in readings:
            if wanted(reading):
                return reading
    raise AssertionError("no more readings")


@contextlib.asynccontextmanager
async def instrument(address: str, **options: Any) -> AsyncIterator[EpicsInstrument]:
    made = EpicsInstrument("hob", address, **{"silence": SILENCE, **options})
    try:
        yield made
    finally:
        await made.close()


@contextlib.contextmanager
def hob_served(tmp_path: Path, port: int, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A hob behind our own shell; "mute": one that stops for good while it is triggered."""
    command = [sys.executable, "-m", "tests.facilities.lab.epics_hob", str(port), *words]
    env = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    with running(command, tmp_path / "hob.log", port, env) as server:
        yield server


CAS = {
    "EPICS_CA_ADDR_LIST": "127.0.0.1", "EPICS_CA_AUTO_ADDR_LIST": "NO", "EPICS_CA_SERVER_PORT": str(CA_PORT),
    "EPICS_CAS_SERVER_PORT": str(CA_PORT), "EPICS_CAS_INTF_ADDR_LIST": "127.0.0.1",
    "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO", "EPICS_CAS_BEACON_ADDR_LIST": "127.0.0.1",
}  # fmt: skip


@contextlib.contextmanager
def ioc(tmp_path: Path, module: str, prefix: str) -> Iterator[subprocess.Popen[bytes]]:
    """An IOC of the examples of caproto, on the loopback interface."""
    command = [python_of("instruments"), "-m", f"caproto.ioc_examples.{module}", "--prefix", prefix]
    with running([*command, "--interfaces", "127.0.0.1"], tmp_path / "ioc.log", CA_PORT, CAS) as server:
        yield server


@contextlib.contextmanager
def base_ioc(tmp_path: Path, pva_port: int) -> Iterator[subprocess.Popen[bytes]]:
    """An IOC of EPICS base (epics_base_ioc.py), over both protocols on the loopback interface."""
    env = {**CAS, "EPICS_PVAS_INTF_ADDR_LIST": "127.0.0.1", "EPICS_PVAS_AUTO_BEACON_ADDR_LIST": "NO"}
    env |= {f"EPICS_PVAS_{word}_PORT": str(pva_port) for word in ("SERVER", "BROADCAST")}
    command = [python_of("instruments"), str(Path(__file__).with_name("epics_base_ioc.py"))]
    with running(command, tmp_path / "base.log", CA_PORT, env) as server:
        yield server


def over_ca(**options: Any) -> contextlib.AbstractAsyncContextManager[EpicsInstrument]:
    return instrument(f"127.0.0.1:{CA_PORT}", **options)


def over_pva(address: str, **options: Any) -> contextlib.AbstractAsyncContextManager[EpicsInstrument]:
    return instrument(address, **{**options_for(HOB), **options})


def validated(made: Sequence[Any]) -> None:
    """Documents, held by the schemas of the package event-model in an environment of its own."""
    check = (
        "import json, sys, event_model as e\n"
        "for name, document in json.load(sys.stdin):\n"
        "    e.schema_validators[e.DocumentNames[name]].validate(document)\n"
    )
    python = python_of("instruments")
    subprocess.run([python, "-c", check], input=json.dumps(made).encode(), check=True, timeout=30)
