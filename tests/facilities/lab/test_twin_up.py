"""The twin laboratory as processes: driven through the adapters of four protocols, hurt on purpose, and ended."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from firstlight.core import Action, InDoubt, Instrument, Permit, Reading, Run
from firstlight.facilities.lab.epics import EpicsInstrument
from firstlight.facilities.lab.opcua import OpcuaInstrument
from firstlight.facilities.lab.secop import SecopInstrument
from firstlight.facilities.lab.sila import SilaInstrument
from firstlight.facilities.lab.twin import control, up

ADAPTERS: dict[str, Callable[..., Instrument]] = {
    "sila": SilaInstrument, "opcua": OpcuaInstrument, "epics": EpicsInstrument, "secop": SecopInstrument,
}  # fmt: skip
WELL = "plate-1/A1"
SOLVENT = {"Reagent": "solvent", "Well": WELL, "Volume": 20.0}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[up.LabUp]:
    with up.up(tmp_path_factory.mktemp("lab"), speed=240.0, seed=7) as running:
        yield running


@pytest.fixture(autouse=True)
def _healed(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "lab" in request.fixturenames:
        request.getfixturevalue("lab").clear()


@contextlib.asynccontextmanager
async def using(lab: up.LabUp, *names: str, **options: Any) -> AsyncIterator[list[Instrument]]:
    """Instruments as the laboratory's file says them."""
    said = [(name, lab.instrument(name)) for name in names]
    made = [ADAPTERS[s["protocol"]](name, s["address"], **{**s["options"], **options}) for name, s in said]
    try:
        async with asyncio.timeout(25.0):
            for instrument in made:
                await instrument.describe()
            yield made
    finally:
        for instrument in made:
            await instrument.close()


@contextlib.asynccontextmanager
async def watching(instrument: Instrument, signal: str) -> AsyncIterator[AsyncGenerator[Reading, None]]:
    """Readings of a signal."""
    readings = instrument.watch([signal])
    assert isinstance(readings, AsyncGenerator)
    async with contextlib.aclosing(readings):
        yield readings


def permit(operation: str, settings: dict[str, object]) -> Permit:
    """To perform an operation, under an id of its own."""
    name = f"a{time.monotonic_ns()}"
    return Permit(
        action=Action(
            id=name, trial="t", facility="cell", name="step", operation=operation, point={}, settings=settings
        ),
        policies=(),
    )


async def do(instrument: Instrument, operation: str, **settings: object) -> Run:
    """One operation to its end."""
    handle = await instrument.start(permit(operation, settings))
    return [run async for run in instrument.follow(handle)][-1]


async def bring(lab: up.LabUp, mover: Instrument, to: str) -> None:
    """Put plate-1 somewhere."""
    at = next(place for place, plate in lab.state()["places"].items() if plate == "plate-1")
    if at != to:
        run = await do(mover, "Transfer", Plate="plate-1", From=at, To=to)
        assert run.state == "succeeded", run


def test_a_plate_is_filled_heated_annealed_and_measured(lab: up.LabUp) -> None:
    async def go() -> Run:
        async with using(lab, "handler", "heater", "furnace", "spectrometer", "mover") as (
            handler, heater, furnace, spectrometer, mover,
        ):  # fmt: skip
            await bring(lab, mover, "deck")
            for reagent, volume in (("precursor", 150.0), ("ligand", 150.0), ("catalyst", 30.0)):
                assert (await do(handler, "Dispense", Reagent=reagent, Well=WELL, Volume=volume)).state == "succeeded"
            await bring(lab, mover, "heater")
            heated = await do(heater, "Heat", Temperature=90.0, Duration=300.0, Stirring=300.0)
            assert 89.0 < float(str(heated.results["Reached"])) < 97.0
            await bring(lab, mover, "furnace")
            assert (await do(furnace, "Anneal", Temperature=120.0, Duration=60.0)).state == "succeeded"
            await bring(lab, mover, "reader")
            assert (await do(spectrometer, "MeasureStandard")).state == "succeeded"
            return await do(spectrometer, "Measure", Well=WELL)

    began = len(lab.executions())
    measured = asyncio.run(go())
    assert measured.state == "succeeded"
    assert float(str(measured.results["Intensity"])) > 3000.0
    assert 500.0 < float(str(measured.results["PeakWavelength"])) < 530.0
    assert len(list(measured.results["Spectrum"])) == 31  # type: ignore[call-overload]
    done = lab.executions(began)
    assert [e["operation"] for e in done] == [
        "Transfer", "Dispense", "Dispense", "Dispense", "Transfer", "Heat", "Transfer", "Anneal", "Transfer",
        "MeasureStandard", "Measure",
    ]  # fmt: skip
    assert done[1]["arguments"] == {"Reagent": "precursor", "Well": WELL, "Volume": 150.0}
    assert done[1]["delivered"] == pytest.approx(150.0, abs=6.0)
    assert {e["outcome"] for e in done} == {"done"}
    matter = lab.state()["matter"]
    assert matter["missing"] == pytest.approx(0.0, abs=1e-6)
    assert matter["missing A"] == pytest.approx(0.0, abs=1e-9)


def test_a_hanging_arm_goes_on_when_it_is_freed(lab: up.LabUp) -> None:
    async def go() -> Run:
        async with using(lab, "mover") as (mover,):
            lab.fault("mover", "hang")
            work = asyncio.create_task(bring(lab, mover, "deck"))
            await asyncio.sleep(0.6)
            assert not work.done()
            assert lab.executions()[-1]["outcome"] == "running"
            lab.clear("mover")
            await work
            return await do(mover, "Transfer", Plate="plate-1", From="deck", To="hotel-2")

    collided = asyncio.run(go())
    assert (collided.state, collided.cause) == ("failed", "instrument-fault")
    assert "plate-1 met plate-2" in collided.message


def test_a_clogged_needle_gives_nothing_until_it_is_washed_and_an_empty_bottle_gives_too_little(lab: up.LabUp) -> None:
    async def go() -> None:
        async with using(lab, "handler", "mover") as (handler, mover):
            await bring(lab, mover, "deck")
            lab.fault("handler", "clog")
            before = lab.state()["bottles"]["solvent"]
            clogged = await do(handler, "Dispense", **SOLVENT)
            assert clogged.state == "failed"
            assert "clogged" in clogged.message
            assert lab.state()["bottles"]["solvent"] == before
            assert (await do(handler, "WashNeedle")).state == "succeeded"
            assert (await do(handler, "Dispense", **SOLVENT)).state == "succeeded"
            lab.fault("handler", "empty")
            short = await do(handler, "Dispense", Reagent="catalyst", Well=WELL, Volume=50.0)
            assert short.state == "failed"
            assert "empty: 9.0 uL of 50 uL" in short.message
            lab.fault("handler", "fail")
            assert "drive" in (await do(handler, "Dispense", **SOLVENT)).message

    asyncio.run(go())


def test_an_open_door_refuses_and_a_runaway_furnace_is_stopped_by_a_safe_stop(lab: up.LabUp) -> None:
    async def go() -> None:
        async with using(lab, "furnace") as (furnace,):
            lab.fault("furnace", "door", now=True)
            run = await do(furnace, "Anneal", Temperature=60.0, Duration=5.0)
            assert run.state == "failed"
            assert "door" in run.message
            lab.clear("furnace")
            lab.fault("furnace", "overheat", now=True)
            async with watching(furnace, "Temperature") as readings:
                async for reading in readings:
                    if isinstance(reading.value, float) and reading.value > 270.0:
                        break
                await furnace.safe_stop()
                async for reading in readings:
                    if isinstance(reading.value, float) and reading.value < 150.0:
                        break

    asyncio.run(go())


def test_a_drifting_lamp_is_seen_by_the_standard_and_a_thermometer_can_lie(lab: up.LabUp) -> None:
    async def go() -> tuple[float, float]:
        async with using(lab, "spectrometer") as (spectrometer,):
            before = (await do(spectrometer, "MeasureStandard")).results["LampIntensity"]
            lab.fault("spectrometer", "drift", size=0.3, now=True)
            return float(str(before)), float(str((await do(spectrometer, "MeasureStandard")).results["LampIntensity"]))

    before, after = asyncio.run(go())
    assert after == pytest.approx(0.7 * before, rel=0.05)
    with pytest.raises(ValueError, match="cannot befall"):
        lab.fault("spectrometer", "drop", now=True)


def test_a_server_that_crashes_leaves_its_run_unknown_and_comes_back(lab: up.LabUp) -> None:
    async def go() -> None:
        async with using(lab, "handler", "mover", patience=2.0, heartbeat=0.5) as (handler, mover):
            await bring(lab, mover, "deck")
            was, began = lab.pids()["handler"], len(lab.executions())
            # Long enough that the reply to its start is there, and short enough that it has not ended.
            lab.fault("handler", "crash", after=0.02)
            lab.fault("handler", "hang")
            handle = await handler.start(permit("Dispense", SOLVENT))
            run = [run async for run in handler.follow(handle)][-1]
            assert run.state == "unknown"
            lab.clear("handler")
            for _ in range(100):
                if lab.pids()["handler"] != was and lab.executions(began)[0]["outcome"] == "done":
                    break
                await asyncio.sleep(0.1)
            # The firmware went on without its server.
            assert [e["outcome"] for e in lab.executions(began)] == ["done"]
        for _ in range(100):
            with contextlib.suppress(Exception):
                async with using(lab, "handler") as (handler,):
                    assert (await do(handler, "Dispense", **SOLVENT)).state == "succeeded"
                    return
            await asyncio.sleep(0.1)
        raise AssertionError("it did not come back")

    asyncio.run(go())


def test_a_reply_that_is_swallowed_leaves_a_start_in_doubt_though_it_was_performed_once(lab: up.LabUp) -> None:
    async def go() -> None:
        async with using(lab, "handler", "mover", patience=1.0, heartbeat=0.5) as (handler, mover):
            await bring(lab, mover, "deck")
            began = len(lab.executions())
            lab.fault("handler", "drop", seconds=1.5)
            with pytest.raises(InDoubt):
                await handler.start(permit("Dispense", SOLVENT))
            assert [e["operation"] for e in lab.executions(began)] == ["Dispense"]

    asyncio.run(go())


def test_a_run_is_followed_over_a_connection_that_was_cut(lab: up.LabUp) -> None:
    async def go() -> None:
        async with using(lab, "heater") as (heater,):
            began = len(lab.executions())
            settings: dict[str, object] = {"Temperature": 40.0, "Duration": 240.0, "Stirring": 0.0}
            handle = await heater.start(permit("Heat", settings))
            await asyncio.sleep(0.2)
            lab.fault("heater", "cut", now=True)
            run = [run async for run in heater.follow(handle)][-1]
            assert run.state == "succeeded", run
            assert [e["operation"] for e in lab.executions(began)] == ["Heat"]

    asyncio.run(go())


def test_a_server_that_stands_still_is_read_as_nothing_until_it_goes_on(lab: up.LabUp) -> None:
    async def go() -> list[object]:
        async with using(lab, "spectrometer", silence=0.5) as (spectrometer,):
            seen: list[object] = []
            async with watching(spectrometer, "LampIntensity") as readings:
                async for reading in readings:
                    if not seen:
                        lab.fault("spectrometer", "freeze", seconds=1.5, now=True)
                    if not seen or (reading.value is None) != (seen[-1] is None):
                        seen.append(reading.value)
                    if len(seen) == 3:
                        break
            return seen

    there, gone, again = asyncio.run(go())
    assert isinstance(there, float)
    assert gone is None
    assert isinstance(again, float)


def test_the_control_works_for_people_and_for_nobody_without_the_token(
    lab: up.LabUp, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    control.main([str(lab.directory), "fault", "mover", "hang", "--probability", "0.5", "--times", "0"])
    control.main([str(lab.directory), "state"])
    assert json.loads(capsys.readouterr().out)["faults"][0]["probability"] == 0.5
    control.main([str(lab.directory), "clear"])
    assert lab.state()["faults"] == []
    known = lab.directory / "twin.json"
    assert known.stat().st_mode & 0o777 == 0o600
    (tmp_path / "twin.json").write_text(json.dumps({**json.loads(known.read_text()), "token": "guessed"}))
    with pytest.raises((ValueError, OSError)):
        control.state(tmp_path)


def gone(pids: list[int], within: float = 6.0) -> bool:
    """Whether all these processes end in time."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        if not any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("who", ["caller", "starter", "starter of a frozen one", "world"])
def test_nothing_is_left_when_what_holds_it_together_is_killed(tmp_path: Path, who: str) -> None:
    script = (
        "import sys, time; from pathlib import Path; from firstlight.facilities.lab.twin import up\n"
        "with up.up(Path(sys.argv[1]), only=('mover',)) as lab: print('up', flush=True); time.sleep(60)"
    )
    caller = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert caller.stdout is not None
    with caller, caller.stdout:
        assert caller.stdout.readline() == b"up\n"
        known = json.loads((tmp_path / "twin.json").read_text())
        pids = [*known["pids"].values(), known["starter"]]
        assert len(pids) == 3
        if "frozen" in who:
            control.fault(tmp_path, "mover", "freeze", seconds=60.0, now=True)
            stat = Path(f"/proc/{known['pids']['mover']}/stat")
            while stat.read_text().rpartition(")")[2].split()[0] != "T":
                time.sleep(0.01)
        os.kill({**known["pids"], "caller": caller.pid}.get(who, known["starter"]), signal.SIGKILL)
        left = gone(pids)
        caller.kill()
    assert left, "processes are left"
