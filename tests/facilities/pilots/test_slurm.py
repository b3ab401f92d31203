"""Pilots on a real Slurm: blocks come and go with the work, and none is left in the queue whatever dies."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("parsl", reason="pilots need Parsl")

from firstlight import core
from firstlight.facilities.compute.parsl import ParslFacility
from firstlight.testing.slurm import SlurmBox, available

from .bench import GUARDIAN, INTERCHANGE, KEEPER, Bench, value, wait_until

pytestmark = pytest.mark.skipif(bool(available()), reason=f"Slurm is needed: {available()}")


@pytest.fixture(scope="module")
def box() -> Iterator[SlurmBox]:
    with SlurmBox(nodes=2, cpus=4) as box:
        yield box


@pytest.fixture
def queue(box: SlurmBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    for name, text in box.environment.items():
        monkeypatch.setenv(name, text)
    made = Bench(tmp_path / "facility", provider="slurm", address="127.0.0.1", max_blocks=2, walltime=600.0)
    yield made
    wait_until(lambda: live(box) == [] and made.processes() == [])


def live(box: SlurmBox) -> list[str]:
    """The names of the jobs that have not ended."""
    return [name for _, name, state in box.jobs() if state in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING")]


def test_blocks_come_with_the_work_and_go_without(queue: Bench, box: SlurmBox) -> None:
    async def test(facility: ParslFacility) -> list[core.Outcome]:
        jobs = [await facility.submit(queue.waiting(6.0, f"c1.{n}.evaluate")) for n in range(4)]
        await queue.begun(3)
        assert len(live(box)) == 2
        status = await facility.status()
        assert (status.state, status.message) == ("up", "4 workers in 2 blocks")
        # Some may have ended by now, where this machine is busy.
        assert any("block" in native for native in [(await facility.job(job)).native for job in jobs])
        outcomes = [await facility.outcome(job) for job in jobs]
        await asyncio.to_thread(wait_until, lambda: live(box) == [])
        assert value(await facility.outcome(await facility.submit(queue.permit(id="c1.9.evaluate")))) == 9.0
        return outcomes

    outcomes = queue.run(test, idle=1.0)
    assert all(isinstance(o, core.Measured) and o.used["attempts"] == 1 for o in outcomes), outcomes


def test_a_block_that_is_cancelled_costs_only_what_it_had_begun(queue: Bench, box: SlurmBox) -> None:
    async def test(facility: ParslFacility) -> list[core.Outcome]:
        jobs = [await facility.submit(queue.waiting(3.0, f"c1.{n}.evaluate")) for n in range(2)]
        await queue.begun(2)
        box.scancel(live(box)[0])
        return [await facility.outcome(job) for job in jobs]

    outcomes = queue.run(test, max_blocks=1)
    assert all(isinstance(o, core.Measured) and o.used["attempts"] == 2 for o in outcomes), outcomes
    assert queue.lines().count("ended") == 2


def test_a_block_whose_node_is_lost_is_replaced_by_a_fresh_one(queue: Bench, box: SlurmBox) -> None:
    """Slurm would put the job into the queue again, and let it wait there for two minutes."""

    async def test(facility: ParslFacility) -> core.Outcome:
        job = await facility.submit(queue.waiting(3.0))
        await queue.begun()
        node = box.run("squeue", "--noheader", "--format=%N").split()[0]
        box.lose(node)
        try:
            return await facility.outcome(job)
        finally:
            box.restore(node)

    outcome = queue.run(test, max_blocks=1, patience=90.0)
    assert isinstance(outcome, core.Measured), outcome
    assert outcome.used["attempts"] == 2


@pytest.mark.parametrize("kinds", [(KEEPER,), (INTERCHANGE, GUARDIAN, KEEPER)])
def test_whatever_dies_no_block_is_left(queue: Bench, box: SlurmBox, kinds: tuple[str, ...]) -> None:
    with queue.orchestrator(queue.waiting(60.0)):
        wait_until(lambda: len(queue.lines()) == 1)
    queue.kill(*kinds)
    wait_until(lambda: live(box) == [], 20)


def test_what_the_scheduler_refuses_is_said_in_its_words(queue: Bench) -> None:
    async def test(facility: ParslFacility) -> None:
        job = await facility.submit(queue.permit())
        with pytest.raises(core.Unavailable, match="nowhere"):
            await facility.outcome(job)
        status = await facility.status()
        assert status.state == "down"
        assert "nowhere" in status.message
        assert (await facility.job(job)).state == "held"
        assert any(not finding.right and "nowhere" in finding.seen for finding in await facility.examine())
        await facility.cancel(job)
        outcome = await facility.outcome(job)
        assert isinstance(outcome, core.Failure)
        assert outcome.cause == "cancelled"

    queue.run(test, queue="nowhere")
    assert os.listdir(queue.root / "pilots")
