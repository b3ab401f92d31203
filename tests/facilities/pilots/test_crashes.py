"""Clients, workers, managers, interchanges and keepers that are killed: one result each, and nothing left behind."""

import asyncio
import os
import signal
import time

import pytest

pytest.importorskip("parsl", reason="pilots need Parsl")

from firstlight import core
from firstlight.facilities.compute.parsl import ParslFacility

from .bench import GUARDIAN, INTERCHANGE, KEEPER, MANAGER, Bench, value, wait_until


def test_actions_outlive_their_orchestrator_and_are_found_again(pilots: Bench) -> None:
    permits = [pilots.waiting(2.0, f"c1.{n}.evaluate") for n in range(3)]
    with pilots.orchestrator(*permits):
        wait_until(lambda: len(pilots.lines()) >= 2)

    async def test(facility: ParslFacility) -> list[core.Outcome]:
        jobs = [await facility.find(p.action.id) for p in permits]
        assert [await facility.submit(p) for p in permits] == jobs
        return [await facility.outcome(str(job)) for job in jobs]

    outcomes = pilots.run(test)
    assert all(isinstance(o, core.Measured) and o.used["attempts"] == 1 for o in outcomes), outcomes
    assert pilots.lines().count("ended") == 3
    assert len(pilots.lines()) == 6


def test_nobody_comes_back_and_everything_is_given_back(pilots: Bench) -> None:
    pilots.options["linger"] = 1.0
    with pilots.orchestrator(pilots.waiting(1.0)):
        wait_until(lambda: len(pilots.lines()) >= 1)
    wait_until(lambda: pilots.processes() == [])
    assert pilots.lines()[-1] == "ended"
    assert list((pilots.root / "pilots").glob("*.json")) == []


def test_a_client_that_leaves_of_its_own_accord_leaves_nothing(pilots: Bench) -> None:
    async def test() -> float:
        facility = pilots.facility()
        assert value(await facility.outcome(await facility.submit(pilots.permit()))) == 9.0
        await facility.close()
        left = time.monotonic()
        await asyncio.to_thread(wait_until, lambda: pilots.processes() == [])
        return time.monotonic() - left

    assert asyncio.run(test()) < 5


def test_a_worker_that_is_killed_costs_only_what_it_had_begun(pilots: Bench) -> None:
    async def test(facility: ParslFacility) -> list[core.Outcome]:
        jobs = [await facility.submit(pilots.waiting(2.0, f"c1.{n}.evaluate")) for n in range(2)]
        await pilots.begun(2)
        os.kill(int(pilots.lines()[0]), signal.SIGKILL)
        return [await facility.outcome(job) for job in jobs]

    outcomes = pilots.run(test)
    assert all(isinstance(o, core.Measured) for o in outcomes), outcomes
    assert sorted(o.used["attempts"] for o in outcomes) == [1, 2]
    assert pilots.lines().count("ended") == 2


def test_what_kills_its_worker_is_not_begun_for_ever(pilots: Bench) -> None:
    async def test(facility: ParslFacility) -> list[core.Outcome]:
        permits = [pilots.permit("segfault"), pilots.permit("segfault", "c1.2.evaluate", repeatable=False)]
        jobs = [await facility.submit(p) for p in (*permits, pilots.permit(id="c1.3.evaluate"))]
        return [await facility.outcome(job) for job in jobs]

    again, once, other = pilots.run(test, tries=2)
    assert isinstance(again, core.Failure)
    assert isinstance(once, core.Failure)
    assert (again.cause, again.used["attempts"]) == ("crashed", 2)
    assert (once.cause, once.used["attempts"]) == ("lost", 1)
    assert "about to read address 0" in again.log
    assert value(other) == 9.0


def test_a_manager_that_is_killed_is_replaced_and_orphans_are_believed(pilots: Bench) -> None:
    """Its workers end what they have begun, which is not begun again."""

    async def test(facility: ParslFacility) -> list[core.Outcome]:
        jobs = [await facility.submit(pilots.waiting(6.0, f"c1.{n}.evaluate")) for n in range(2)]
        await pilots.begun(2)
        pilots.kill(MANAGER)
        jobs.append(await facility.submit(pilots.permit(id="c1.9.evaluate")))
        return [await facility.outcome(job) for job in jobs]

    outcomes = pilots.run(test)
    assert all(isinstance(o, core.Measured) for o in outcomes), outcomes
    assert pilots.lines().count("ended") == 2
    assert len(pilots.lines()) == 4


def test_an_interchange_that_is_killed_is_replaced(pilots: Bench) -> None:
    async def test(facility: ParslFacility) -> list[core.Outcome]:
        jobs = [await facility.submit(pilots.waiting(1.0, f"c1.{n}.evaluate")) for n in range(5)]
        await pilots.begun(2)
        pilots.kill(INTERCHANGE)
        return [await facility.outcome(job) for job in jobs]

    outcomes = pilots.run(test)
    assert all(isinstance(o, core.Measured) for o in outcomes), outcomes
    assert pilots.lines().count("ended") == 5


def test_a_keeper_that_is_killed_leaves_nothing_and_loses_nothing(pilots: Bench) -> None:
    permits = [pilots.waiting(1.0, f"c1.{n}.evaluate") for n in range(4)]

    async def test(facility: ParslFacility) -> list[core.Outcome]:
        jobs = [await facility.submit(p) for p in permits]
        await facility.outcome(jobs[0])
        await pilots.begun(3)
        pilots.kill(KEEPER)
        await asyncio.to_thread(wait_until, lambda: pilots.processes() == [], 15)
        assert list((pilots.root / "pilots").glob("*.json")) == []
        return [await facility.outcome(job) for job in jobs]

    outcomes = pilots.run(test)
    assert all(isinstance(o, core.Measured) for o in outcomes), outcomes
    assert outcomes[0].used["attempts"] == 1
    assert pilots.lines().count("ended") == 4


def test_all_killed_at_once_leave_nothing(pilots: Bench) -> None:
    with pilots.orchestrator(pilots.waiting(60.0)):
        wait_until(lambda: len(pilots.lines()) >= 1)
    pilots.kill(GUARDIAN, KEEPER)
    wait_until(lambda: pilots.processes() == [], 20)

    async def test(facility: ParslFacility) -> core.Outcome:
        await facility.cancel(str(await facility.find("c1.1.evaluate")))
        return await facility.outcome("c1.1.evaluate")

    outcome = pilots.run(test)
    assert isinstance(outcome, core.Failure)
    assert outcome.cause == "cancelled"
    assert list((pilots.root / "pilots").glob("*.json")) == []


def test_a_function_that_does_not_end_is_ended_and_its_worker_replaced(pilots: Bench) -> None:
    async def test(facility: ParslFacility) -> list[core.Outcome]:
        jobs = [
            await facility.submit(pilots.waiting(60.0, limits=core.Limits(seconds=0.5))),
            await facility.submit(pilots.waiting(60.0, "c1.2.evaluate")),
        ]
        await pilots.begun(2)
        begun = time.monotonic()
        await facility.cancel(jobs[1])
        outcomes = [await facility.outcome(job) for job in jobs]
        assert time.monotonic() - begun < 3
        others = [await facility.submit(pilots.waiting(0.5, f"c1.{n}.evaluate")) for n in range(3, 7)]
        outcomes += [await facility.outcome(other) for other in others]
        assert len({line for line in pilots.lines() if line.isdigit()}) == 4, "those that died are replaced"
        return outcomes

    outcomes = pilots.run(test)
    assert [o.cause for o in outcomes[:2] if isinstance(o, core.Failure)] == ["timed-out", "cancelled"]
    assert all(isinstance(o, core.Measured) for o in outcomes[2:])
