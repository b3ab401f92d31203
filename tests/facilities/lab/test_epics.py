"""EPICS over PVAccess: against our own shell in another process."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

for needed in ("p4p", "aioca"):
    pytest.importorskip(needed, reason="instruments of EPICS need p4p and aioca")

from firstlight.core import InDoubt, NotStarted, Unavailable  # noqa: E402
from firstlight.facilities.lab._bluesky import Key, Record, Taken, documents  # noqa: E402
from firstlight.facilities.lab.epics import EpicsInstrument  # noqa: E402
from firstlight.facilities.lab.twin.serve_epics import options_for  # noqa: E402

from .contract import Served  # noqa: E402
from .devices import HOB  # noqa: E402
from .epics_bench import SILENCE, ended, heard, hob_served, in_a_loop, instrument, over_pva, permit, validated  # noqa: E402
from .epics_hob import ODD  # noqa: E402
from .servers import free_port  # noqa: E402

# -- our own shell, over PVAccess


@pytest.fixture(scope="module")
def hob(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    with hob_served(tmp_path_factory.mktemp("hob"), port):
        yield f"127.0.0.1:{port}"


@in_a_loop
async def test_the_description_survives_epics(hob: str) -> None:
    async with over_pva(hob) as hobby:
        described = await hobby.describe()
    assert described.operations == HOB.operations
    assert [(s.name, s.type, s.unit, s.low, s.high) for s in described.signals] == [
        (s.name, s.type, s.unit, s.low, s.high) for s in HOB.signals
    ]
    assert (described.vendor, described.serial, described.slots) == (HOB.vendor, HOB.serial, HOB.slots)


@in_a_loop
async def test_it_heats_with_progress_and_tells_what_it_reached(hob: str) -> None:
    async with over_pva(hob) as hobby:
        handle = await hobby.start(permit("t1.heat", "Heat", Target=60.0, Seconds=0.2))
        seen = [run async for run in hobby.follow(handle)]
        assert seen[-1].state == "succeeded" and seen[-1].results["Reached"] == 60.0
        assert {r.state for r in seen[:-1]} == {"running"}
        assert len({r.progress for r in seen}) > 5


@in_a_loop
async def test_a_text_and_a_choice_arrive(hob: str) -> None:
    async with over_pva(hob) as hobby:
        run = await ended(hobby, await hobby.start(permit("t1.add", "Add", Volume=12.5, To="vial", Speed="fast")))
        assert (run.state, run.results["Added"]) == ("succeeded", 12.5)


@in_a_loop
async def test_what_the_instrument_calls_a_failure_is_one(hob: str) -> None:
    async with over_pva(hob) as hobby:
        run = await ended(hobby, await hobby.start(permit("t1.break", "Break")))
        assert (run.state, run.cause, run.message) == ("failed", "instrument-fault", "the element is broken")


@in_a_loop
async def test_a_cancelled_run_is_cancelled_and_the_next_one_begins(hob: str) -> None:
    async with over_pva(hob) as hobby:
        handle = await hobby.start(permit("t1.long", "Heat", Target=150.0, Seconds=60.0))
        with pytest.raises(NotStarted, match="busy"):
            await hobby.start(permit("t1.other", "Heat", Target=50.0, Seconds=0.1))
        await hobby.cancel(handle)
        assert (await ended(hobby, handle)).state == "cancelled"
        run = await ended(hobby, await hobby.start(permit("t1.next", "Heat", Target=50.0, Seconds=0.1)))
        assert run.state == "succeeded"


@in_a_loop
async def test_a_busy_ioc_refuses_another_client(hob: str) -> None:
    async with over_pva(hob) as first, over_pva(hob) as second:
        handle = await first.start(permit("t1.first", "Heat", Target=30.0, Seconds=60.0))
        with pytest.raises(NotStarted, match="busy"):
            # Its own DONE is 1: only the IOC knows, and refuses the trigger.
            await second.start(permit("t1.second", "Add", Volume=3.0, To="vial", Speed="slow"))
        await first.safe_stop()
        assert (await ended(first, handle)).state == "cancelled"


@in_a_loop
async def test_a_new_process_takes_up_a_run(hob: str) -> None:
    async with over_pva(hob) as first:
        handle = await first.start(permit("t1.heat9", "Heat", Target=90.0, Seconds=1.0))
    async with over_pva(hob) as second:
        assert await second.reattach("t1.heat9", "") == handle
        run = await ended(second, handle)
        assert (run.state, run.results["Reached"]) == ("succeeded", 90.0)
    async with over_pva(hob) as third:
        assert await third.reattach("t1.heat9", handle) == handle
        assert (await ended(third, handle)).state == "succeeded"
        with pytest.raises(InDoubt):
            await third.reattach("t1.never", "")


@in_a_loop
async def test_it_watches_signals(hob: str) -> None:
    async with over_pva(hob) as hobby:
        readings = hobby.watch(["Temperature", "Door"])
        assert {(await anext(readings)).signal, (await anext(readings)).signal} == {"Temperature", "Door"}
        await hobby.start(permit("t1.heat5", "Heat", Target=175.0, Seconds=0.2))
        await heard(readings, lambda r: r.signal == "Temperature" and r.value == 175.0)
        await readings.aclose()  # type: ignore[attr-defined]


@in_a_loop
async def test_a_restarted_ioc_does_not_know_the_run_and_signals_come_back(tmp_path: Path) -> None:
    port = free_port()
    async with over_pva(f"127.0.0.1:{port}") as hobby:
        with hob_served(tmp_path, port):
            readings = hobby.watch(["Temperature"])
            assert (await anext(readings)).value == 25.0
            handle = await hobby.start(permit("t1.long", "Heat", Target=150.0, Seconds=60.0))
            await heard(readings, lambda r: r.value is not None and float(r.value) > 25.0, 8.0)
        await heard(readings, lambda r: r.value is None)
        assert (await hobby.status(handle)).state == "running"
        with pytest.raises(Unavailable):
            await hobby.start(permit("t1.dead", "Heat", Target=30.0, Seconds=0.1))
        with hob_served(tmp_path, port):
            run = await ended(hobby, handle, 20.0)
            assert (run.state, run.cause) == ("unknown", "lost")
            await heard(readings, lambda r: r.value == 25.0)
            with pytest.raises(InDoubt):
                await hobby.reattach("t1.other", handle.replace("t1.long", "t1.other"))
            again = await hobby.start(permit("t1.again", "Heat", Target=30.0, Seconds=0.1))
            assert (await ended(hobby, again)).state == "succeeded"
        await readings.aclose()  # type: ignore[attr-defined]


@in_a_loop
async def test_a_silent_ioc_is_noticed_and_the_run_found_again(tmp_path: Path) -> None:
    port = free_port()
    with hob_served(tmp_path, port) as server:
        async with over_pva(f"127.0.0.1:{port}") as hobby:
            readings = hobby.watch(["Temperature"])
            handle = await hobby.start(permit("t1.heat", "Heat", Target=80.0, Seconds=0.5))
            server.send_signal(signal.SIGSTOP)
            await heard(readings, lambda r: r.value is None, 4 * SILENCE)
            assert (await hobby.status(handle)).state == "running"
            server.send_signal(signal.SIGCONT)
            run = await ended(hobby, handle)
            assert (run.state, run.results["Reached"]) == ("succeeded", 80.0)
            server.send_signal(signal.SIGSTOP)
            with pytest.raises(Unavailable):
                await hobby.start(permit("t1.not", "Heat", Target=30.0, Seconds=0.1))
            server.send_signal(signal.SIGCONT)
            await readings.aclose()  # type: ignore[attr-defined]


@in_a_loop
async def test_a_trigger_without_an_answer_is_in_doubt(tmp_path: Path) -> None:
    port = free_port()
    with hob_served(tmp_path, port, "mute"):
        operations = {"Shoot": {"trigger": "mute:START"}}
        async with instrument(f"127.0.0.1:{port}", provider="pva", operations=operations) as gun:
            with pytest.raises(InDoubt):
                await gun.start(permit("t1.shoot", "Shoot"))


@in_a_loop
async def test_what_was_started_is_not_started_again(hob: str) -> None:
    async with over_pva(hob) as hobby:
        wanted = permit("t1.once", "Heat", Target=60.0, Seconds=0.5)
        handle = await hobby.start(wanted)
        assert await hobby.start(wanted) == handle
        run = await ended(hobby, handle)
        assert await hobby.start(wanted) == handle
        assert await hobby.status(handle) == run


def at_put(it: EpicsInstrument, pv: str, do: Callable[[], Awaitable[None]]) -> list[str]:
    """Have something done while a PV is put for the first time; the PVs that are put."""
    put, seen = it._ioc.channels.put, list[str]()

    async def noting(name: str, value: Any, within: float | None) -> None:
        seen.append(name)
        await put(name, value, within)
        if name == pv and seen.count(pv) == 1:
            await do()

    it._ioc.channels.put = noting  # type: ignore[method-assign, assignment]
    return seen


@in_a_loop
async def test_a_stop_among_the_puts_of_a_start_is_not_followed_by_its_trigger(hob: str) -> None:
    async with over_pva(hob) as hobby:
        seen = at_put(hobby, "hob:Heat:Target", hobby.safe_stop)
        with pytest.raises(NotStarted, match="stopped, before it began") as refused:
            await hobby.start(permit("t1.stopped", "Heat", Target=60.0, Seconds=60.0))
        assert refused.value.cause == "cancelled"
        assert "hob:Heat:START" not in seen
        run = await ended(hobby, await hobby.start(permit("t1.after", "Heat", Target=30.0, Seconds=0.1)))
        assert run.state == "succeeded"


@in_a_loop
async def test_a_stop_before_the_puts_of_a_start_is_not_followed_by_any(hob: str) -> None:
    async with over_pva(hob) as hobby:
        may_start = hobby._may_start

        async def stopped(*given: Any) -> None:
            await may_start(*given)
            await hobby.safe_stop()

        hobby._may_start = stopped  # type: ignore[method-assign, assignment]
        seen = at_put(hobby, "", hobby.safe_stop)
        with pytest.raises(NotStarted, match="stopped, before it began"):
            await hobby.start(permit("t1.early", "Heat", Target=60.0, Seconds=60.0))
        assert not {pv for pv in seen if pv.rpartition(":")[2] not in ("STOP", "ABORT")}


BOTH: dict[str, Any] = {
    "arguments": {"Target": {"pv": "hob:Heat:Target"}, "Volume": {"pv": "hob:Add:Volume"}},
    "stop": {"hob:Heat:ABORT": 1},
}


@pytest.mark.parametrize("by", ["safe_stop", "cancel"])
@in_a_loop
async def test_a_stop_among_puts_that_need_no_trigger_ends_them(hob: str, by: str) -> None:
    async with instrument(hob, provider="pva", operations={"Set": BOTH}) as it:

        async def stop() -> None:
            await (it.safe_stop() if by == "safe_stop" else it.cancel(next(iter(it._runs))))

        seen = at_put(it, "hob:Heat:Target", stop)
        run = await ended(it, await it.start(permit("t1.half", "Set", Target=60.0, Volume=2.0)))
        assert (run.state, run.cause) == ("cancelled", "cancelled")
        assert run.message == "stopped, after hob:Heat:Target had been put"
        assert "hob:Add:Volume" not in seen
        assert seen[-1] == "hob:Heat:ABORT"


@pytest.mark.parametrize("trigger", ["", "hob:Break:START"])
@in_a_loop
async def test_an_interlock_that_opens_among_the_puts_is_followed_by_none(hob: str, trigger: str) -> None:
    guarded = {**BOTH, "require": {"hob:Heat:Seconds": 5.0}, "trigger": trigger}
    async with instrument(hob, provider="pva", operations={"Set": guarded}) as it:
        put = it._ioc.channels.put
        await put("hob:Heat:Seconds", 5.0, SILENCE)

        async def open_it() -> None:
            await put("hob:Heat:Seconds", 6.0, SILENCE)
            while it._ioc.holds("hob:Heat:Seconds", 5.0):
                await asyncio.sleep(0.01)

        seen = at_put(it, "hob:Heat:Target", open_it)
        start = it.start(permit("t1.open", "Set", Target=60.0, Volume=2.0))
        if trigger:
            with pytest.raises(NotStarted, match="interlock: hob:Heat:Seconds is 6") as refused:
                await start
            assert refused.value.cause == "interlock"
        else:
            run = await ended(it, await start)
            assert (run.state, run.cause) == ("failed", "interlock")
            assert "hob:Add:Volume" not in seen
        assert trigger not in seen


@in_a_loop
async def test_arguments_and_results_of_every_type_go_through(tmp_path: Path) -> None:
    port = free_port()
    sent = {
        "Points": [1.0, 2.5], "Names": ["a", "b c"], "Mixed": [1, "x", None], "Plan": {"steps": [{"at": 1.5}]},
        "Flag": True, "Count": 7, "Text": "50 % of µL",
    }  # fmt: skip
    with hob_served(tmp_path, port, "odd"):
        async with instrument(f"127.0.0.1:{port}", **options_for(ODD)) as odd:
            assert [(a.name, a.type) for a in (await odd.describe()).operations[0].arguments] == [
                (a.name, a.type) for a in ODD.operations[0].arguments
            ]
            run = await ended(odd, await odd.start(permit("t1.echo", "Echo", **sent)))
            assert run.state == "succeeded" and {name: run.results[name] for name in sent} == sent
        async with instrument(f"127.0.0.1:{port}", **options_for(ODD)) as odd:
            # Arguments are read back from the IOC where our handle was lost.
            handle = await odd.reattach("t1.echo", "")
            assert handle is not None and (await ended(odd, handle)).results["Mixed"] == [1, "x", None]


# -- options


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        ({"arguments": {"X": {"pv": "x", "lowest": 3}}}, "lowest"),
        ({"arguments": {"X": {"pv": "x"}}, "put": [{"argument": "Y"}]}, "no argument Y"),
        ({"effect": "harmless", "motor": "m"}, "harmless"),
        ({}, "puts nothing and reads nothing"),
    ],
)
def test_a_wrong_option_says_what_is_wrong(operation: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=f"operation Move.*{said}"):
        EpicsInstrument("m", operations={"Move": operation})


# -- documents


def test_documents_are_those_of_the_event_model(tmp_path: Path) -> None:
    record = Record(
        id="t1.scan", instrument="m", operation="Scan", settings={"A.b": 1.0}, state="failed", started=1.0, ended=3.0,
        message="stuck", keys={
            "x": Key(source="m:x", unit="mm", precision=3, low=0.0, high=10.0), "w": Key(source="m:w"),
            "e": Key(source="m:e", type="string", choices=("a", "b")),
        }, taken=(
            Taken("readback_monitor", 1.5, {"x": (0.5, 1.4)}), Taken("readback_monitor", 1.6, {"x": (0.6, 1.5)}),
            Taken("primary", 2.5, {"x": (1.0, 2.4), "w": ([1.0, 2.0], 2.4), "e": ("a", 2.4)}),
        ),
    )  # fmt: skip
    made = documents(record)
    assert [name for name, _ in made] == ["start", "descriptor", "event", "event", "descriptor", "event", "stop"]
    assert made[-1][1]["exit_status"] == "fail" and made[-1][1]["num_events"] == {"readback_monitor": 2, "primary": 1}
    assert made == documents(record)
    key = made[4][1]["data_keys"]
    assert key["w"]["shape"] == [2] and key["x"]["limits"]["control"] == {"low": 0.0, "high": 10.0}
    validated(made)


class TestContract(Served):
    """What every adapter keeps, behind the IOC of the twin."""

    @classmethod
    def command(cls, port: int) -> list[str]:
        return [sys.executable, "-m", "tests.facilities.lab.epics_hob", str(port)]

    @classmethod
    def at(cls, port: int) -> EpicsInstrument:
        return EpicsInstrument("hob", f"127.0.0.1:{port}", silence=SILENCE, **options_for(HOB))
