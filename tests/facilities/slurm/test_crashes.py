"""Whatever dies, is forgotten or taken away: one outcome, and what may be performed once only is."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from firstlight import core
from firstlight.facilities.compute._rundir import RunDirectory
from firstlight.facilities.compute.slurm import SlurmFacility
from firstlight.testing.slurm import SlurmBox

from .bench import Bench, until, value

Blow = Callable[[Bench], Awaitable[None]]


async def restarted(bench: Bench) -> None:
    bench.box.kill_controller()
    bench.box.start_controller()


async def node_lost(bench: Bench) -> None:
    node = bench.box.run("squeue", "--noheader", "--format=%N").strip()
    bench.box.lose(node)
    bench.box.restore(node)


async def requeued(bench: Bench) -> None:
    bench.box.run("scontrol", "requeue", bench.jobs()[0][0])


async def taken_away(bench: Bench) -> None:
    bench.box.scancel(bench.jobs()[0][1])


async def forgotten(bench: Bench) -> None:
    bench.box.forget()


def outcome(bench: Bench, blow: Blow, x: float = 2.0, **more: Any) -> core.Outcome:
    """What comes of an action after a blow while it is performed."""

    async def test(facility: SlurmFacility) -> core.Outcome:
        job = await facility.submit(bench.permit("slow", x=x, **more))
        await until(lambda: bench.performed() == 1)
        waiting = asyncio.ensure_future(facility.outcome(job))
        await blow(bench)
        return await waiting

    return bench.run(test)


def test_a_controller_that_crashes_disturbs_no_job(bench: Bench) -> None:
    assert value(outcome(bench, restarted)) == 4.0
    assert bench.performed() == 1


def test_a_job_that_is_forgotten_and_goes_on_is_believed(bench: Bench) -> None:
    assert value(outcome(bench, forgotten)) == 4.0


@pytest.mark.parametrize("blow", [node_lost, requeued, taken_away])
def test_what_may_be_performed_again_is(bench: Bench, blow: Blow) -> None:
    ended = outcome(bench, blow)
    assert value(ended) == 4.0
    # A node that is slow to come back on a busy machine may cost another attempt.
    assert ended.used["attempts"] == bench.performed() >= 2


@pytest.mark.parametrize("blow", [node_lost, taken_away, forgotten])
def test_what_may_be_performed_once_only_is_lost(bench: Bench, blow: Blow) -> None:
    failure = outcome(bench, blow, x=60.0, repeatable=False)
    assert isinstance(failure, core.Failure), failure
    assert failure.cause == "lost"
    assert bench.performed() == 1


def test_what_ends_without_a_result_again_and_again_has_crashed(bench: Bench) -> None:
    failure = bench.failure(bench.permit(), setup="echo no such module >&2; exit 3", tries=2)
    assert failure.cause == "crashed"
    assert "FAILED (submitted 2 times)" in failure.message
    assert "no such module" in failure.log


def test_a_number_that_was_given_to_another_job_is_not_taken_for_its_own(bench: Bench) -> None:
    later = core.Resources(attributes={"begin": "now+3"})
    ids = ("c1.1.evaluate", "c1.2.evaluate")

    async def test(facility: SlurmFacility) -> list[core.Outcome]:
        jobs = [await facility.submit(bench.permit(id=id, resources=later)) for id in ids]
        numbers = {job[0] for job in bench.jobs()}
        bench.box.forget()
        sbatch = ("sbatch", "--parsable", "--hold", "--output=/dev/null", "--job-name=other", "--wrap=true")
        while not numbers <= {job[0] for job in bench.box.jobs()}:
            bench.box.run(*sbatch)
        await facility.cancel(jobs[1])
        outcomes = [await facility.outcome(job) for job in jobs]
        assert {state for id, _, state in bench.box.jobs() if id in numbers} == {"PENDING"}
        return outcomes

    first, second = bench.run(test)
    assert value(first) == 9.0
    assert isinstance(second, core.Failure)
    assert second.cause == "cancelled"
    assert [bench.performed(id) for id in ids] == [1, 0]


def test_a_job_that_cannot_be_launched_is_released_and_not_for_ever(
    tmp_path: Path, slurm: SlurmBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SlurmBox(nodes=1) as box:
        for name, is_now in box.environment.items():
            monkeypatch.setenv(name, is_now)
        bench, spool = Bench(tmp_path, box), box.directory / "n1" / "spool"
        spool.rename(spool.with_name("aside"))
        spool.touch()
        failure = bench.failure(bench.permit(id="c1.2.evaluate"), tries=2)
        assert failure.cause == "crashed"
        assert "launched 3 times" in failure.message

        async def test(facility: SlurmFacility) -> core.Outcome:
            waiting = asyncio.ensure_future(facility.outcome(await facility.submit(bench.permit())))
            await until(lambda: "launch failed" in box.run("squeue", "--format=%r"))
            spool.unlink()
            spool.with_name("aside").rename(spool)
            return await waiting

        assert value(bench.run(test, tries=1000)) == 9.0


def test_what_was_about_to_be_asked_for_is_asked_for_by_the_next(bench: Bench) -> None:
    permit = bench.permit()
    run = RunDirectory(bench.run_directory())
    run.write_spec(permit)
    run.submitting("fl-0123456789-0123456789ab[0]")

    async def test(facility: SlurmFacility) -> core.Outcome:
        assert await facility.find(permit.action.id) == permit.action.id
        return await facility.outcome(permit.action.id)

    assert value(bench.run(test)) == 9.0
    assert len(run.submissions()) == 2


def test_what_was_asked_for_before_a_crash_is_not_asked_for_again(bench: Bench) -> None:
    permit = bench.permit(resources=core.Resources(attributes={"begin": "now+3"}))

    async def submit(facility: SlurmFacility) -> None:
        await facility.submit(permit)
        run = RunDirectory(bench.run_directory())
        # The answer of sbatch was lost with whoever asked.
        run.submitted(run.path / "submit-1.json", "")

    async def again(facility: SlurmFacility) -> core.Outcome:
        return await facility.outcome(permit.action.id)

    bench.run(submit)
    assert value(bench.run(again)) == 9.0
    assert len(bench.jobs()) == bench.performed() == 1
