"""EPICS over Channel Access: against IOCs that others wrote, the examples of caproto."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

for needed in ("p4p", "aioca"):
    pytest.importorskip(needed, reason="instruments of EPICS need p4p and aioca")

from firstlight.core import InDoubt, NotStarted, Unavailable  # noqa: E402

from .epics_bench import (  # noqa: E402
    CA_PORT,
    ROOT,
    SILENCE,
    base_ioc,
    ended,
    heard,
    in_a_loop,
    instrument,
    ioc,
    over_ca,
    permit,
    validated,
)
from .servers import free_port  # noqa: E402

MOTOR: dict[str, Any] = {"motor": "sim:mtr1", "effect": "reversible", "timeout": 20.0}
MOVES: dict[str, Any] = {"operations": {"Move": MOTOR}, "signals": {"Position": "sim:mtr1.RBV"}}


@in_a_loop
async def test_a_motor_moves_within_the_limits_that_its_ioc_tells(tmp_path: Path) -> None:
    with ioc(tmp_path, "fake_motor_record", "sim:"):
        operations = {"Move": MOTOR, "Narrow": {"arguments": {"High": {"pv": "sim:mtr1.HLM"}}}}
        async with over_ca(operations=operations) as motor:
            (argument,) = (await motor.describe()).operations[0].arguments
            assert (argument.name, argument.type, argument.low, argument.high) == ("Position", "number", 0.0, 10.0)
            run = await ended(motor, await motor.start(permit("t1.move", "Move", Position=0.5)))
            assert run.state == "succeeded" and run.results["Position"] == pytest.approx(0.5, abs=0.01)
            made = run.results["documents"]
            assert isinstance(made, list) and [n for n, _ in made].count("event") > 2
            validated(made)
            with pytest.raises(NotStarted, match=r"0\.0 to 10\.0"):
                await motor.start(permit("t1.far", "Move", Position=99.0))
            assert (await ended(motor, await motor.start(permit("t1.n", "Narrow", High=2.0)))).state == "succeeded"
            with pytest.raises(NotStarted, match=r"0\.0 to 2\.0"):
                await motor.start(permit("t1.far2", "Move", Position=3.0))
            # Where it is already: the record says so by a pulse of DMOV.
            assert (await ended(motor, await motor.start(permit("t1.same", "Move", Position=0.5)))).state == "succeeded"


@in_a_loop
async def test_a_motion_is_cancelled_and_stopped(tmp_path: Path) -> None:
    with ioc(tmp_path, "fake_motor_record", "sim:"):
        async with over_ca(**MOVES) as motor:
            readings = motor.watch(["Position"])
            for end in (motor.cancel, lambda handle: motor.safe_stop()):
                handle = await motor.start(permit(f"t1.{end}", "Move", Position=9.0))
                await heard(readings, lambda r: isinstance(r.value, float) and r.value > 0.3)
                await end(handle)
                run = await ended(motor, handle)
                assert run.state == "cancelled"
            await readings.aclose()  # type: ignore[attr-defined]


@in_a_loop
async def test_an_ioc_killed_in_mid_motion_leaves_the_run_unknown(tmp_path: Path) -> None:
    async with over_ca(**MOVES) as motor:
        readings = motor.watch(["Position"])
        with ioc(tmp_path, "fake_motor_record", "sim:"):
            handle = await motor.start(permit("t1.move", "Move", Position=9.0))
            await heard(readings, lambda r: isinstance(r.value, float) and r.value > 0.2)
        await heard(readings, lambda r: r.value is None)
        assert (await motor.status(handle)).state == "running"
        with pytest.raises(Unavailable):
            await motor.start(permit("t1.dead", "Move", Position=1.0))
        with ioc(tmp_path, "fake_motor_record", "sim:"):
            run = await ended(motor, handle, 20.0)
            assert (run.state, run.cause) == ("unknown", "lost")
            await heard(readings, lambda r: r.value == 0.0)
        await readings.aclose()  # type: ignore[attr-defined]


@in_a_loop
async def test_a_silent_ioc_is_noticed_and_the_motion_found_again(tmp_path: Path) -> None:
    with ioc(tmp_path, "fake_motor_record", "sim:") as server:
        async with over_ca(**MOVES) as motor:
            readings = motor.watch(["Position"])
            handle = await motor.start(permit("t1.move", "Move", Position=1.0))
            server.send_signal(signal.SIGSTOP)
            await heard(readings, lambda r: r.value is None, 4 * SILENCE)
            assert (await motor.status(handle)).state == "running"
            with pytest.raises(Unavailable):
                await motor.start(permit("t1.not", "Move", Position=2.0))
            server.send_signal(signal.SIGCONT)
            assert (await ended(motor, handle)).state == "succeeded"
            await readings.aclose()  # type: ignore[attr-defined]


@in_a_loop
async def test_an_interlock_holds_before_and_during(tmp_path: Path) -> None:
    speed = {"arguments": {"Speed": {"pv": "sim:mtr3.VELO"}}}
    operations = {"Move": {**MOTOR, "require": {"sim:mtr3.VELO": 3.0}}, "Speed": speed}
    with ioc(tmp_path, "fake_motor_record", "sim:"):
        async with over_ca(operations=operations, slots=2) as motor:
            handle = await motor.start(permit("t1.move", "Move", Position=9.0))
            await ended(motor, await motor.start(permit("t1.speed", "Speed", Speed=1.0)))
            run = await ended(motor, handle)
            assert (run.state, run.cause) == ("failed", "interlock")
            with pytest.raises(NotStarted, match="interlock") as refused:
                await motor.start(permit("t1.again", "Move", Position=2.0))
            assert refused.value.cause == "interlock"


@in_a_loop
async def test_a_put_that_the_ioc_refuses_has_not_begun(tmp_path: Path) -> None:
    first = {"arguments": {"X": {"pv": "sim:mtr1.RBV"}}}
    second = {"arguments": {"V": {"pv": "sim:mtr1.VELO"}, "X": {"pv": "sim:mtr1.RBV"}}}
    with ioc(tmp_path, "fake_motor_record", "sim:"):
        async with over_ca(operations={"First": first, "Second": second}) as motor:
            with pytest.raises(NotStarted, match="refuse"):
                await motor.start(permit("t1.first", "First", X=1.0))
            # Something was put before it: that is no run which never began.
            run = await ended(motor, await motor.start(permit("t1.second", "Second", V=1.0, X=1.0)))
            assert (run.state, run.cause) == ("failed", "refused")


STARTS = """
import asyncio, json, os, sys
from tests.facilities.lab.epics_bench import permit
from firstlight.facilities.lab.epics import EpicsInstrument

async def main():
    motor = EpicsInstrument("m", sys.argv[1], **json.loads(sys.argv[2]))
    print(await motor.start(permit("t1.move", "Move", Position=float(sys.argv[3]))), flush=True)
    os._exit(9)

asyncio.run(main())
"""


def started_by_another(position: float, options: dict[str, Any]) -> str:
    """The handle of a motion whose process died without a word."""
    command = [sys.executable, "-c", STARTS, f"127.0.0.1:{CA_PORT}", json.dumps(options), str(position)]
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, timeout=20)
    assert done.returncode == 9
    return done.stdout.decode().strip()


@in_a_loop
async def test_after_our_own_crash_a_motion_is_judged_by_what_can_be_read(tmp_path: Path) -> None:
    consuming = {"operations": {"Move": {**MOTOR, "effect": "consuming"}}}
    with ioc(tmp_path, "fake_motor_record", "sim:"):
        handle = await asyncio.to_thread(started_by_another, 1.5, MOVES)
        async with over_ca(**MOVES) as motor:
            assert await motor.reattach("t1.move", handle) == handle
            assert (await motor.status(handle)).state == "running"
            run = await ended(motor, handle)
            assert run.state == "succeeded" and run.results["Position"] == pytest.approx(1.5, abs=0.01)
            with pytest.raises(InDoubt):
                await motor.reattach("t1.other", "")
        async with over_ca(**MOVES) as motor:
            await ended(motor, await motor.start(permit("t1.elsewhere", "Move", Position=1.0)))
            with pytest.raises(InDoubt):
                await motor.reattach("t1.move", handle)
        async with over_ca(**consuming) as motor:
            with pytest.raises(InDoubt):
                await motor.reattach("t1.move", handle.replace("1.5", "1.0"))


@in_a_loop
async def test_put_and_wait_for_a_readback_to_settle(tmp_path: Path) -> None:
    heat = {
        "effect": "reversible", "arguments": {"Decay": {"pv": "thermo:K"}, "Target": {"pv": "thermo:SP"}},
        "readback": {"pv": "thermo:I", "argument": "Target", "within": 1.0, "hold": 0.3}, "timeout": 8.0,
        "results": {"Temperature": "thermo:I"},
    }  # fmt: skip
    hopeless = {**heat, "readback": {"pv": "thermo:K", "argument": "Target", "within": 1.0}, "timeout": 0.3}
    with ioc(tmp_path, "thermo_sim", "thermo:"):
        async with over_ca(operations={"Heat": heat, "Hopeless": hopeless}) as thermo:
            run = await ended(thermo, await thermo.start(permit("t1.heat", "Heat", Decay=0.3, Target=50.0)))
            assert run.state == "succeeded" and run.results["Temperature"] == pytest.approx(50.0, abs=1.0)
            made: Any = run.results["documents"]
            events = [d for n, d in made if n == "event" and "readback" in d["data"]]
            # It oscillates, and is done only once it has been near for so long.
            assert run.ended - max(e["time"] for e in events if abs(e["data"]["readback"] - 50.0) > 1.0) > 0.3
            run = await ended(thermo, await thermo.start(permit("t1.no", "Hopeless", Decay=0.3, Target=60.0)))
            assert (run.state, run.cause) == ("failed", "timed-out")


@in_a_loop
async def test_several_puts_and_a_waveform(tmp_path: Path) -> None:
    option = {
        "effect": "reversible", "put": [{"argument": "B"}, {"argument": "C"}, {"pv": "simple:A", "value": 7}],
        "arguments": {"B": {"pv": "simple:B", "unit": "mm"}, "C": {"pv": "simple:C"}},
        "results": {"A": "simple:A", "B": "simple:B", "C": "simple:C"},
    }  # fmt: skip
    with ioc(tmp_path, "simple", "simple:"):
        async with over_ca(operations={"Set": option, "Look": {"effect": "read", "results": {"A": "simple:A"}}}) as it:
            described = (await it.describe()).operations[0]
            assert [(a.name, a.type, a.unit) for a in described.arguments] == [
                ("B", "number", "mm"),
                ("C", "array", ""),
            ]
            run = await ended(it, await it.start(permit("t1.set", "Set", B=2.5, C=[4, 5, 6])))
            assert {n: run.results[n] for n in "ABC"} == {"A": 7, "B": 2.5, "C": [4, 5, 6]}
            validated(run.results["documents"])  # type: ignore[arg-type]
            run = await ended(it, await it.start(permit("t1.look", "Look")))
            assert run.results["A"] == 7


@in_a_loop
async def test_choices_are_those_of_the_ioc(tmp_path: Path) -> None:
    operations = {
        "Switch": {
            "arguments": {"To": {"pv": "enum:mbbi"}},
            "results": {"Now": "enum:mbbi"},
            "require": {"enum:bi": 0},
        },
        "Open": {"arguments": {"To": {"pv": "enum:mbbi"}}, "require": {"enum:bi": "b"}},
    }
    with ioc(tmp_path, "enums", "enum:"):
        async with over_ca(operations=operations, signals={"Bo": "enum:bo"}) as it:
            (argument,) = (await it.describe()).operations[0].arguments
            assert (argument.type, argument.choices) == ("string", ("zero", "one", "two", "three", "four"))
            run = await ended(it, await it.start(permit("t1.switch", "Switch", To="three")))
            assert (run.state, run.results["Now"]) == ("succeeded", "three")
            with pytest.raises(NotStarted, match="enum:bi is a and not b"):
                await it.start(permit("t1.open", "Open", To="one"))
            readings: AsyncIterator[Any] = it.watch(["Bo"])
            assert (await anext(readings)).value == "One Value"
            await readings.aclose()  # type: ignore[attr-defined]


@in_a_loop
async def test_nothing_is_put_twice_where_an_ioc_dies_with_a_put_unanswered(tmp_path: Path) -> None:
    """Over both protocols at a time: each has a record of its own, which takes long over a put."""
    port = free_port()
    ca, pva = (
        {"provider": p, "operations": {"Heat": {"effect": "reversible", "arguments": {"Target": {"pv": f"soft:{p}"}},
         "readback": {"pv": "soft:RBV", "argument": "Target", "within": 0.5}, "timeout": 20.0}},
         "signals": {"Set": f"soft:{p}"}}
        for p in ("ca", "pva")
    )  # fmt: skip
    async with instrument(f"127.0.0.1:{CA_PORT}", **ca) as one, instrument(f"127.0.0.1:{port}", **pva) as other:
        readings = [it.watch(["Set"]) for it in (one, other)]
        with base_ioc(tmp_path, port):
            handles = [await it.start(permit("t1.heat", "Heat", Target=160.0)) for it in (one, other)]
            for it, handle, heard_of in zip((one, other), handles, readings, strict=True):
                assert (await it.status(handle)).state == "running"
                await heard(heard_of, lambda r: r.value == 160.0)
        for heard_of in readings:
            await heard(heard_of, lambda r: r.value is None)
        with base_ioc(tmp_path, port):
            for it, handle, heard_of in zip((one, other), handles, readings, strict=True):
                run = await ended(it, handle, 20.0)
                assert (run.state, run.cause) == ("unknown", "lost")
                await heard(heard_of, lambda r: r.value == 25.0)
                with pytest.raises(TimeoutError):
                    await heard(heard_of, lambda r: r.value == 160.0, 0.3)
        for heard_of in readings:
            await heard_of.aclose()  # type: ignore[attr-defined]
