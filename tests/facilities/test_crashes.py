"""The local facility when its processes are killed: nothing is lost, and nothing is performed twice."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from firstlight import core
from firstlight.facilities.compute import LocalFacility
from firstlight.facilities.compute._processes import cause_of_death
from firstlight.facilities.compute._rundir import run_directory

ORCHESTRATOR = """
import asyncio, sys, msgspec
from firstlight import core
from firstlight.facilities.compute import LocalFacility

async def main():
    facility = LocalFacility(sys.argv[1], 2)
    job = await facility.submit(msgspec.json.decode(sys.argv[2], type=core.Permit))
    print(job, flush=True)
    await facility.outcome(job)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def lines(tally: Path) -> list[str]:
    return tally.read_text().split() if tally.exists() else []


def waiting(bench: Any, tally: Path, seconds: float, id: str = "c1.1.evaluate", **more: Any) -> core.Permit:
    settings = {"tally": str(tally), "seconds": seconds}
    permit: core.Permit = bench.permit("tally_and_wait", id=id, settings=settings, **more)
    return permit


def orchestrate(bench: Any, permit: core.Permit) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", ORCHESTRATOR, str(bench.root), msgspec.json.encode(permit).decode()]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def kill_orchestrator(bench: Any, process: subprocess.Popen[bytes], tally: Path) -> None:
    """In the middle of its action."""
    with process:
        assert process.stdout
        assert process.stdout.readline()
        bench.wait_until(lambda: len(lines(tally)) == 1)
        process.kill()


def pids(bench: Any, kind: str) -> list[int]:
    return [p for p in bench.processes() if kind in Path(f"/proc/{p}/cmdline").read_text()]


def kill(bench: Any, *kinds: str) -> None:
    """The supervisor first, so that it cannot speak for the workers."""
    for kind in kinds:
        for pid in pids(bench, kind):
            os.kill(pid, signal.SIGKILL)


def test_an_action_outlives_its_orchestrator(bench: Any, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    kill_orchestrator(bench, orchestrate(bench, waiting(bench, tally, 1.5)), tally)

    async def test(facility: LocalFacility) -> core.Outcome:
        job = await facility.find("c1.1.evaluate")
        assert job is not None
        assert await facility.submit(waiting(bench, tally, 1.5)) == job
        assert len(lines(tally)) == 1, "it should still run"
        return await facility.outcome(job)

    assert isinstance(bench.run(test), core.Measured)
    assert len(lines(tally)) == 2


def test_without_an_orchestrator_everything_ends_and_leaves(bench: Any, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    kill_orchestrator(bench, orchestrate(bench, waiting(bench, tally, 0.5)), tally)
    bench.wait_until(lambda: bench.processes() == [])
    assert lines(tally)[-1] == "ended"

    async def test(facility: LocalFacility) -> core.Outcome:
        job = await facility.find("c1.1.evaluate")
        assert job is not None
        return await facility.outcome(job)

    assert isinstance(bench.run(test), core.Measured)
    assert len(lines(tally)) == 2


def test_the_time_limit_holds_without_an_orchestrator(bench: Any, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    permit = waiting(bench, tally, 60.0, limits=core.Limits(seconds=1.0))
    kill_orchestrator(bench, orchestrate(bench, permit), tally)
    bench.wait_until(lambda: any(bench.root.glob("actions/*/result.json")))

    async def test(facility: LocalFacility) -> core.Outcome:
        return await facility.outcome("c1.1.evaluate")

    outcome = bench.run(test)
    assert isinstance(outcome, core.Failure)
    assert outcome.cause == "timed-out"


def test_an_action_outlives_the_supervisor(bench: Any, tmp_path: Path) -> None:
    tally = tmp_path / "tally"

    async def test(facility: LocalFacility) -> core.Outcome:
        job = await facility.submit(waiting(bench, tally, 1.5))
        outcome = asyncio.ensure_future(facility.outcome(job))
        await asyncio.to_thread(bench.wait_until, lambda: len(lines(tally)) == 1)
        kill(bench, "._supervisor")
        other = LocalFacility(bench.root, 2)
        assert await other.find(job) == job
        assert await other.submit(waiting(bench, tally, 1.5)) == job
        await other.close()
        return await outcome

    assert isinstance(bench.run(test), core.Measured)
    assert len(lines(tally)) == 2


@pytest.mark.parametrize(("cause", "limits"), [("timed-out", core.Limits(seconds=1.0)), ("cancelled", core.Limits())])
def test_the_next_supervisor_rules_over_what_it_found(
    bench: Any, tmp_path: Path, cause: str, limits: core.Limits
) -> None:
    tally = tmp_path / "tally"

    async def test(facility: LocalFacility) -> core.Outcome:
        job = await facility.submit(waiting(bench, tally, 60.0, limits=limits))
        await asyncio.to_thread(bench.wait_until, lambda: len(lines(tally)) == 1)
        kill(bench, "._supervisor")
        if cause == "cancelled":
            await facility.cancel(job)
        return await facility.outcome(job)

    outcome = bench.run(test)
    assert isinstance(outcome, core.Failure)
    assert outcome.cause == cause
    assert len(lines(tally)) == 1


def test_what_vanished_is_not_found_and_may_be_performed_again(bench: Any, tmp_path: Path) -> None:
    tally = tmp_path / "tally"

    async def test(facility: LocalFacility) -> core.Outcome:
        await facility.submit(waiting(bench, tally, 1.0))
        await asyncio.to_thread(bench.wait_until, lambda: len(lines(tally)) == 1)
        kill(bench, "._supervisor", "._worker")
        assert await facility.find("c1.1.evaluate") is None
        return await facility.outcome(await facility.submit(waiting(bench, tally, 1.0)))

    assert isinstance(bench.run(test), core.Measured)
    assert [line == "ended" for line in lines(tally)] == [False, False, True]


@pytest.mark.parametrize(("repeatable", "begun", "cause"), [(True, 3, "crashed"), (False, 1, "lost")])
def test_whoever_waits_is_told_in_the_end(bench: Any, tmp_path: Path, repeatable: bool, begun: int, cause: str) -> None:
    """A computation is performed again, three times at most; what may not be repeated is lost."""
    tally = tmp_path / "tally"

    async def test(facility: LocalFacility) -> core.Outcome:
        job = await facility.submit(waiting(bench, tally, 60.0, repeatable=repeatable))
        for n in range(begun):
            outcome = asyncio.ensure_future(facility.outcome(job))
            await asyncio.to_thread(bench.wait_until, lambda n=n: len(lines(tally)) == n + 1)
            kill(bench, "._supervisor", "._worker")
        return await outcome

    outcome = bench.run(test)
    assert isinstance(outcome, core.Failure)
    assert outcome.cause == cause
    assert len(lines(tally)) == begun


def test_two_orchestrators_share_a_root(bench: Any, tmp_path: Path) -> None:
    shared, own = tmp_path / "shared", tmp_path / "own"
    process = orchestrate(bench, waiting(bench, shared, 1.0))

    async def test(facility: LocalFacility) -> list[core.Outcome]:
        await asyncio.to_thread(bench.wait_until, lambda: len(lines(shared)) == 1)
        permits = [waiting(bench, shared, 1.0), waiting(bench, own, 0.1, id="c2.1.evaluate")]
        jobs = [await facility.submit(permit) for permit in permits]
        first = await facility.outcome(jobs[1])
        process.kill()
        return [first, await facility.outcome(jobs[0])]

    with process:
        outcomes = bench.run(test)
    assert all(isinstance(outcome, core.Measured) for outcome in outcomes), outcomes
    assert (len(lines(shared)), len(lines(own))) == (2, 2)


def test_interrupting_the_terminal_does_not_reach_the_workers(bench: Any, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    permit = waiting(bench, tally, 1.0)
    command = [sys.executable, "-c", ORCHESTRATOR, str(bench.root), msgspec.json.encode(permit).decode()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0) as process:
        bench.wait_until(lambda: len(lines(tally)) == 1)
        os.killpg(process.pid, signal.SIGINT)
    bench.wait_until(lambda: len(lines(tally)) == 2)


def test_a_root_that_cannot_be_used_is_unavailable(bench: Any) -> None:
    bench.root.mkdir()
    bench.root.joinpath("actions").write_text("in the way")

    async def test(facility: LocalFacility) -> None:
        with pytest.raises(core.Unavailable, match=r"cannot start: .*actions"):
            await facility.submit(bench.permit("square"))
        bench.root.joinpath("actions").unlink()
        assert isinstance(await facility.outcome(await facility.submit(bench.permit("square"))), core.Measured)

    bench.run(test)


def test_what_cannot_be_written_is_unavailable_for_now(bench: Any) -> None:
    async def test(facility: LocalFacility) -> None:
        assert await facility.find("c1.1.evaluate") is None
        actions = bench.root / "actions"
        actions.rename(bench.root / "away")
        actions.write_text("in the way")
        with pytest.raises(core.Unavailable, match="actions"):
            await facility.submit(bench.permit("square"))
        actions.unlink()
        bench.root.joinpath("away").rename(actions)
        assert isinstance(await facility.outcome(await facility.submit(bench.permit("square"))), core.Measured)

    bench.run(test)


def test_a_closed_facility_says_so(bench: Any) -> None:
    async def test(facility: LocalFacility) -> None:
        other = LocalFacility(bench.root)
        await other.find("c1.1.evaluate")
        await other.close()
        with pytest.raises(core.Unavailable, match="closed"):
            await other.find("c1.1.evaluate")

    bench.run(test)


def test_a_root_that_is_removed_takes_its_supervisor_along(bench: Any, tmp_path: Path) -> None:
    async def test() -> None:
        facility = LocalFacility(bench.root)
        await facility.find("c1.1.evaluate")
        await facility.close()

    asyncio.run(test())
    bench.root.rename(tmp_path / "elsewhere")
    begun = time.monotonic()
    bench.wait_until(lambda: bench.processes() == [])
    assert time.monotonic() - begun < 4


def test_only_the_first_result_counts(tmp_path: Path) -> None:
    run = run_directory(tmp_path, "c1.1.evaluate")
    run.path.mkdir(parents=True)
    first, second = core.Measured(cost=1.0), core.Failure(cause="crashed")
    assert run.commit(first) == first
    assert run.commit(second) == first
    assert run.result() == first
    assert os.listdir(run.path) == ["result.json"]


@pytest.mark.parametrize(
    ("code", "oom", "cause", "words"),
    [
        (3, True, "crashed", "exit code 3"),
        (-11, False, "crashed", "signal 11 (SIGSEGV)"),
        (139, False, "crashed", "128 + SIGSEGV"),
        (-9, False, "crashed", "SIGKILL"),
        (-9, True, "out-of-memory", "kernel"),
        (137, True, "out-of-memory", "kernel"),
        (255, False, "crashed", "exit code 255"),
    ],
)
def test_a_death_has_a_cause(code: int, oom: bool, cause: str, words: str) -> None:
    found, how = cause_of_death(code, oom)
    assert found == cause
    assert words in how
