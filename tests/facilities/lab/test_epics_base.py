"""EPICS: against an IOC of EPICS base itself with its records, over Channel Access and over PVAccess."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

for needed in ("p4p", "aioca"):
    pytest.importorskip(needed, reason="instruments of EPICS need p4p and aioca")

from firstlight.core import NotStarted  # noqa: E402
from firstlight.facilities.lab.epics import EpicsInstrument  # noqa: E402

from .epics_bench import CA_PORT, base_ioc, ended, in_a_loop, instrument, permit, validated  # noqa: E402
from .servers import free_port  # noqa: E402

PVA_PORT = free_port()
TARGET = {"Target": {"pv": "soft:SP"}}
OPERATIONS: dict[str, Any] = {
    "Heat": {
        "effect": "reversible", "arguments": TARGET, "results": {"Reached": "soft:RBV"}, "alarm": ["soft:SP"],
        "readback": {"pv": "soft:RBV", "argument": "Target", "within": 0.5}, "require": {"soft:DOOR": "closed"},
        "stop": {"soft:DOOR": "open"}, "timeout": 20.0,
    },
    "Put": {"arguments": TARGET, "results": {"Reached": "soft:RBV"}},
    "Mode": {"arguments": {"Mode": {"pv": "soft:MODE"}}, "results": {"Mode": "soft:MODE"}},
    "Measure": {
        "effect": "read", "trigger": "soft:GO", "done": {"pv": "soft:DONE", "value": "done"},
        "results": {"Spectrum": "soft:SPECTRUM"},
    },
    "Locked": {"arguments": {"X": {"pv": "soft:LOCKED"}}},
}  # fmt: skip
both = pytest.mark.parametrize("provider", ["ca", "pva"])


def over(provider: str) -> contextlib.AbstractAsyncContextManager[EpicsInstrument]:
    address = f"127.0.0.1:{CA_PORT if provider == 'ca' else PVA_PORT}"
    return instrument(address, provider=provider, operations=OPERATIONS, signals={"Temperature": "soft:RBV"})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with base_ioc(tmp_path_factory.mktemp("base"), PVA_PORT):
        yield


@both
@in_a_loop
async def test_units_drive_limits_and_choices_come_from_the_records(served: None, provider: str) -> None:
    async with over(provider) as it:
        described = await it.describe()
    found = {o.name: o for o in described.operations}
    (target,) = found["Heat"].arguments
    assert (target.type, target.unit, target.low, target.high) == ("number", "degC", 20.0, 200.0)
    assert found["Mode"].arguments[0].choices == ("coarse", "fine")
    assert (found["Measure"].results[0].type, found["Measure"].results[0].schema) == (
        "array", {"items": {"type": "number"}}
    )  # fmt: skip
    assert described.signals[0].unit == "degC"


@both
@in_a_loop
async def test_a_put_is_waited_for_and_its_alarm_is_failure(served: None, provider: str) -> None:
    async with over(provider) as it:
        run = await ended(it, await it.start(permit("t1.heat", "Heat", Target=50.0)))
        assert (run.state, run.results["Reached"]) == ("succeeded", 50.0)
        documents: Any = run.results["documents"]
        validated(documents)
        keys = next(d["data_keys"]["readback"] for n, d in documents if n == "descriptor")
        assert (keys["units"], keys["precision"]) == ("degC", 2)
        run = await ended(it, await it.start(permit("t1.hot", "Heat", Target=195.0)))
        assert (run.state, run.message) == ("failed", "soft:SP is in alarm")
        # With nothing to look at, the put's own answer is the end: the record has been processed by then.
        began = time.monotonic()
        handle = await it.start(permit("t1.put", "Put", Target=30.0))
        assert time.monotonic() - began < 0.25
        run = await ended(it, handle)
        assert (run.state, run.results["Reached"]) == ("succeeded", 30.0)
        run = await ended(it, await it.start(permit("t1.mode", "Mode", Mode="fine")))
        assert (run.state, run.results["Mode"]) == ("succeeded", "fine")


@both
@in_a_loop
async def test_it_triggers_and_reads_a_waveform(served: None, provider: str) -> None:
    async with over(provider) as it:
        run = await ended(it, await it.start(permit("t1.look", "Measure")))
        spectrum: Any = run.results["Spectrum"]
        assert run.state == "succeeded" and spectrum[:2] == [1.0, 2.0]


@both
@in_a_loop
async def test_a_disabled_record_refuses(served: None, provider: str) -> None:
    async with over(provider) as it:
        with pytest.raises(NotStarted, match="refused"):
            await it.start(permit("t1.locked", "Locked", X=1.0))
