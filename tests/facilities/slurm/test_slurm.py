"""What jobs are asked for, what they do, and what Slurm says of itself."""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from firstlight import core
from firstlight.facilities.compute.slurm import SlurmFacility
from firstlight.testing.slurm import SlurmBox

from .bench import SUBJECTS, Bench, until, value

MPI = """
from mpi4py import MPI
world = MPI.COMM_WORLD
total = world.allreduce(world.Get_rank() + {x})
if world.Get_rank() == 0:
    print('{"y": %d}' % total)
"""
CHECKPOINTS = """
n=$(cat "$FIRSTLIGHT_CHECKPOINT/n" 2>/dev/null || echo 0)
trap 'echo $((n+1)) > "$FIRSTLIGHT_CHECKPOINT/n"; kill $!; exit 75' USR1
[ $n -ge 1 ] && echo "{\\"y\\": $n}" && exit 0
sleep 200 & wait
"""


def here(**settings: Any) -> dict[str, Any]:
    return {"directory": SUBJECTS, **settings}


def test_a_command_runs_on_two_nodes_with_mpi(bench: Bench) -> None:
    pytest.importorskip("mpi4py")
    needs = core.Resources(nodes=2, processes=4)
    settings = {"argv": [sys.executable, "-c", MPI]}
    outcome = bench.outcome(bench.permit("command", settings=settings, resources=needs, x=1.0))
    assert value(outcome) == 0 + 1 + 2 + 3 + 4


def test_a_function_runs_on_two_nodes_with_mpi(bench: Bench) -> None:
    pytest.importorskip("mpi4py")
    needs = core.Resources(nodes=2, processes=4)
    outcome = bench.outcome(bench.permit("ranks:total", settings=here(), resources=needs, x=2.0))
    assert isinstance(outcome, core.Measured), outcome
    assert {o.observable: o.value for o in outcome.observations} == {"y": 8.0, "ranks": 4.0, "nodes": 2.0}
    assert outcome.used["node-hours"] == pytest.approx(2 * (outcome.ended - outcome.started) / 3600)


def test_it_is_set_up_as_it_says(bench: Bench) -> None:
    needs = core.Resources(
        pre_launch=("export BEFORE=1",), post_launch=(f"touch '{bench.place}/after'",), container="box.sif",
        exclusive=True, attributes={"nice": "5", "verbose": ""},
    )  # fmt: skip
    outcome = bench.outcome(
        bench.permit("ranks:who", settings=here(), resources=needs), setup="export SET_UP=1",
        container="env IMAGE={container}",
    )  # fmt: skip
    assert isinstance(outcome, core.Measured), outcome
    assert {o.observable: o.value for o in outcome.observations} == {"y": 3.0, "by": 1.0}
    asyncio.run(until((bench.place / "after").exists))


def test_what_comes_together_goes_together(bench: Bench) -> None:
    async def test(facility: SlurmFacility) -> Sequence[float]:
        permits = [bench.permit(id=f"c1.{n}.evaluate", x=float(n)) for n in range(30)]
        jobs = await asyncio.gather(*(facility.submit(permit) for permit in permits))
        return [value(o) for o in await asyncio.gather(*(facility.outcome(job) for job in jobs))]

    # This Slurm takes arrays of up to ten jobs, which the facility does not know.
    assert bench.run(test) == [float(n**2) for n in range(30)]
    assert len({job[1] for job in bench.jobs()}) < 10
    assert len(bench.jobs()) == 30
    assert sum(bench.performed(f"c1.{n}.evaluate") for n in range(30)) == 30


def test_a_command_is_warned_and_continued_in_another_job(bench: Bench) -> None:
    permit = bench.permit("command", settings={"argv": ["bash", "-c", CHECKPOINTS]})
    outcome = bench.outcome(permit, duration=60, warning=58)
    assert value(outcome) == 1.0
    assert outcome.used["attempts"] >= 2.0  # A slow start of the second has it warned again.
    assert outcome.used["node-hours"] > (outcome.ended - outcome.started) / 3600


def warn(bench: Bench, permit: core.Permit, ready: Callable[[], bool] = lambda: True) -> core.Outcome:
    """What comes of it when Slurm sends the signal as it would do before the end, but as soon as it is ready."""

    async def test(facility: SlurmFacility) -> core.Outcome:
        job = await facility.submit(permit)
        await until((bench.run_directory() / "attempt-1.log").exists)
        await until(ready)
        await asyncio.sleep(1.0)  # A command under way says nothing of having made its arrangements.
        bench.box.run("scancel", "--batch", "--signal=USR1", bench.jobs()[0][0])
        return await facility.outcome(job)

    return bench.run(test)


def listening(bench: Bench) -> int:
    """How many processes have said that the warning may come."""
    return len(list(bench.run_directory().rglob("listening-*")))


def test_a_function_is_warned_and_continued_in_another_job(bench: Bench) -> None:
    permit = bench.permit("ranks:warned", settings=here())
    outcome = warn(bench, permit, lambda: listening(bench) == 1)
    assert value(outcome) == 1.0
    assert outcome.used["attempts"] == 2.0


def test_a_function_of_several_processes_is_warned_and_continued_in_another_job(bench: Bench) -> None:
    needs = core.Resources(nodes=2, processes=2)
    permit = bench.permit("ranks:warned", settings=here(), resources=needs)
    outcome = warn(bench, permit, lambda: listening(bench) == 2)
    assert value(outcome) >= 1.0
    assert outcome.used["attempts"] == 2.0


@pytest.mark.parametrize("processes", [1, 2])
def test_a_function_that_knows_nothing_of_the_warning_goes_on(bench: Bench, processes: int) -> None:
    permit = bench.permit("slow", x=3.0, resources=core.Resources(processes=processes))
    assert value(warn(bench, permit, lambda: bench.performed() == processes)) == 9.0
    assert bench.performed() == processes


def test_a_command_that_knows_nothing_of_the_warning_learns_what_to_do(bench: Bench) -> None:
    failure = warn(bench, bench.permit("command", settings={"argv": ["sleep", "200"]}))
    assert isinstance(failure, core.Failure)
    assert failure.cause == "timed-out"
    assert "FIRSTLIGHT_CHECKPOINT" in failure.message


def test_the_limit_on_time_holds_over_all_attempts(bench: Bench) -> None:
    permit = bench.permit(
        "command", settings={"argv": ["sh", "-c", "sleep 0.7; exit 75"]}, limits=core.Limits(seconds=1.2)
    )
    failure = bench.failure(permit)
    assert failure.cause == "timed-out"
    assert failure.used["attempts"] == 2.0


@pytest.mark.parametrize(
    ("more", "cause", "said"),
    [
        ({"resources": core.Resources(queue="nope")}, "refused", "nope"),
        ({"resources": core.Resources(reservation="nope")}, "refused", "reservation"),
        ({"resources": core.Resources(gpus=1)}, "invalid-input", "gres"),
        ({"resources": core.Resources(attributes={"no-such-option": "1"})}, "invalid-input", "no-such-option"),
        ({"resources": core.Resources(attributes={"wrap": "rm"})}, "invalid-input", "set by the facility"),
        ({"limits": core.Limits(memory=2**50)}, "invalid-input", "not available"),
        ({"resources": core.Resources(queue="short"), "limits": core.Limits(seconds=600)}, "refused", "TimeLimit"),
        ({"resources": core.Resources(nodes=9, processes=9)}, "refused", "Partition"),
    ],
    ids=["partition", "reservation", "gpus", "option", "ours", "memory", "time", "nodes"],
)
def test_what_slurm_never_does_is_an_outcome_in_its_own_words(bench: Bench, more: Any, cause: str, said: str) -> None:
    failure = bench.failure(bench.permit(**more))
    assert failure.cause == cause
    assert said in failure.message
    assert bench.performed() == 0


def test_what_waits_is_cancelled(bench: Bench) -> None:
    async def test(facility: SlurmFacility) -> tuple[core.JobStatus, core.Outcome]:
        needs = core.Resources(attributes={"begin": "now+1hour"})
        job = await facility.submit(bench.permit(resources=needs))
        await until(lambda: [j[2] for j in bench.jobs()] == ["PENDING"])
        await asyncio.sleep(0.2)
        status = await facility.job(job)
        await facility.cancel(job)
        return status, await facility.outcome(job)

    status, outcome = bench.run(test)
    assert status.state == "queued"
    assert status.message == "BeginTime"
    assert status.native == bench.jobs()[0][0]
    assert 3000 < status.expected_start - time.time() < 4000
    assert isinstance(outcome, core.Failure)
    assert outcome.cause == "cancelled"
    assert [j[2] for j in bench.jobs()] == ["CANCELLED"]


def test_it_says_how_it_is_and_how_far_a_job_has_come(bench: Bench) -> None:
    async def test(facility: SlurmFacility) -> None:
        job = await facility.submit(bench.permit("slow", x=3.0))
        await until(lambda: bench.performed() == 1)
        await asyncio.sleep(1.5)
        status, how = await facility.status(), await facility.job(job)
        assert (status.state, status.nodes, status.cores, status.running, status.queued) == ("up", 2, 4, 1, 0)
        assert status.memory is not None and status.memory > 2**30
        assert (how.state, how.native) == ("active", bench.jobs()[0][0])
        assert 1 / 3600 <= how.node_hours <= 10 / 3600
        action = bench.permit().action
        assert (await facility.status(action)).wait == pytest.approx(0.0, abs=2.0)
        wide = await facility.status(replace(action, resources=core.Resources(nodes=3, processes=3)))
        assert wide.unfit == "it wants 3 nodes, and there are 2"
        short = core.Resources(queue="short", processes=2, cores=3)
        assert "6 cores" in (await facility.status(replace(action, resources=short))).unfit
        assert "seconds" in (await facility.status(replace(action, resources=short))).unfit
        assert value(await facility.outcome(job)) == 9.0
        assert (await facility.job(job)).state == "ended"

    bench.run(test)


def wrong(facility: SlurmFacility) -> dict[str, core.Finding]:
    return {f.what: f for f in asyncio.run(facility.examine()) if not f.right}


def test_examining_finds_nothing_wrong_where_nothing_is(bench: Bench) -> None:
    findings = asyncio.run(bench.facility().examine())
    assert [f.what for f in findings if not f.right] == []
    assert len(findings) == 7
    assert all(f.seen for f in findings)


def test_examining_says_what_is_wrong_and_what_to_do(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    found = wrong(bench.facility(partition="nope"))
    assert list(found) == ["the partition is up"]
    assert "nope" in found["the partition is up"].seen
    assert "option partition" in found["the partition is up"].advice
    found = wrong(bench.facility(attributes={"reservation": "nope"}, launcher="jsrun", duration=60))
    assert list(found) == ["a job would be accepted", "the launcher is there"]
    bench.box.run("scontrol", "update", "partitionname=short", "state=down")
    assert "down" in wrong(bench.facility(partition="short"))["the partition is up"].seen
    bench.box.run("scontrol", "update", "partitionname=short", "state=up")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "sbatch" in wrong(bench.facility())["Slurm's commands are there"].seen


def test_a_controller_that_is_away_decides_nothing(tmp_path: Path, slurm: SlurmBox, monkeypatch: Any) -> None:
    with SlurmBox(nodes=1) as box:
        for name, is_now in box.environment.items():
            monkeypatch.setenv(name, is_now)
        bench = Bench(tmp_path, box)

        async def test(facility: SlurmFacility) -> core.Outcome:
            job = await facility.submit(bench.permit("slow", x=3.0))
            await until(lambda: bench.performed() == 1)
            box.kill_controller()
            other = bench.permit(id="c1.2.evaluate")
            asked = [facility.submit(other), facility.status(), facility.outcome(job)]
            said = await asyncio.gather(*asked, return_exceptions=True)
            assert [type(error) for error in said[:2]] == [core.Unavailable] * 2
            assert await facility.find("c1.2.evaluate") is None
            assert "controller" in wrong_now(await facility.examine())
            box.start_controller()
            assert value(await facility.outcome(await facility.submit(other))) == 9.0
            return await facility.outcome(job)

        assert value(bench.run(test)) == 9.0
        assert bench.performed() == 1


def wrong_now(findings: Sequence[core.Finding]) -> str:
    return " ".join(f.what for f in findings if not f.right)
