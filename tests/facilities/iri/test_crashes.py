"""Clients that are killed, servers that are killed, and answers that never arrive: each action is performed once."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

for needed in ("httpx", "starlette", "uvicorn", "multipart"):
    pytest.importorskip(needed, reason=f"the IRI facility and its test server need {needed}")

from firstlight import core  # noqa: E402
from firstlight.facilities.compute._rundir import run_directory  # noqa: E402
from firstlight.facilities.compute.iri import IriFacility  # noqa: E402

from .bench import Bench  # noqa: E402


def test_an_answer_that_is_lost_is_asked_for_again_and_makes_no_second_job(bench: Bench) -> None:
    bench.server.fail("drop", "launchJob")
    outcome = bench.outcome(bench.permit())
    assert isinstance(outcome, core.Measured), outcome
    assert (len(bench.server.requests("launchJob")), bench.jobs(), bench.performed()) == (2, 1, 1)


def test_what_may_have_been_accepted_is_found_and_asked_for_under_the_same_key(bench: Bench) -> None:
    bench.server.fail("drop", "launchJob", times=3)

    async def first(facility: IriFacility) -> None:
        with pytest.raises(core.Unavailable):
            await facility.submit(bench.permit())

    bench.run(first)
    bench.server.kill()
    bench.server.start()

    async def second(facility: IriFacility) -> core.Outcome:
        job = await facility.find("c1.1.evaluate")
        assert job is not None
        return await facility.outcome(job)

    # Other options by now: the request stays what it was, as its key demands.
    outcome = bench.run(second, queue="another")
    assert isinstance(outcome, core.Measured), outcome
    assert (len(bench.server.requests("launchJob")), bench.jobs(), bench.performed()) == (4, 1, 1)
    assert outcome.used["attempts"] == 1


def test_what_may_have_been_accepted_does_not_fail_where_asking_again_is_not_allowed(bench: Bench) -> None:
    bench.server.fail("drop", "launchJob", times=3)
    bench.server.fail("403", "launchJob")

    async def test(facility: IriFacility) -> core.Outcome:
        for words in ("cannot do it just now", "does not allow it"):
            with pytest.raises(core.Unavailable, match=words):
                await facility.submit(bench.permit())
        return await facility.outcome("c1.1.evaluate")

    assert isinstance(bench.run(test), core.Measured)
    assert (bench.jobs(), bench.performed()) == (1, 1)


def test_two_roots_with_an_action_of_the_same_name_do_not_share_a_job(bench: Bench, tmp_path: Path) -> None:
    workdirs = [str(bench.server.workdir / name) for name in ("a", "b")]
    for n, workdir in enumerate(workdirs):
        outcome = bench.outcome(bench.permit(x=float(n)), root=tmp_path / f"root-{n}", workdir=workdir)
        assert isinstance(outcome, core.Measured), outcome
        assert outcome.observations[0].value == n**2
    assert (bench.jobs(), bench.performed()) == (2, 2)


def test_a_server_that_is_killed_and_started_again_costs_nothing(bench: Bench) -> None:
    async def test(facility: IriFacility) -> core.Outcome:
        job = await facility.submit(bench.permit("slow", x=1.0))
        waiting = asyncio.ensure_future(facility.outcome(job))
        while not bench.performed():
            await asyncio.sleep(0.02)
        await asyncio.to_thread(bench.server.kill)
        await asyncio.sleep(1.2)
        await asyncio.to_thread(bench.server.start)
        try:
            return await waiting
        except core.Unavailable:
            return await facility.outcome(job)

    outcome = bench.run(test)
    assert isinstance(outcome, core.Measured), outcome
    assert (bench.jobs(), bench.performed()) == (1, 1)


def test_operations_on_files_that_a_server_forgets_are_asked_for_again(bench: Bench) -> None:
    bench.server.control({"set": {"task_seconds": 10.0}})

    async def test(facility: IriFacility) -> core.Outcome:
        submitting = asyncio.ensure_future(facility.submit(bench.permit()))
        while not bench.server.requests("mkdir"):
            await asyncio.sleep(0.02)
        await asyncio.to_thread(bench.server.kill)
        await asyncio.to_thread(bench.server.start)
        bench.server.control({"set": {"task_seconds": 0.0}})
        try:
            job = await submitting
        except core.Unavailable:  # It was away for long on a slow machine, and whoever submits does so again.
            job = await facility.submit(bench.permit())
        return await facility.outcome(job)

    assert isinstance(bench.run(test), core.Measured)
    assert len(bench.server.requests("mkdir")) == 2
    assert bench.performed() == 1


def test_a_client_may_be_killed_at_any_moment(bench: Bench) -> None:
    count, tally = 4, bench.place / "tallies"
    tally.mkdir()
    arguments = [str(bench.root), bench.server.url, str(bench.server.token_file), str(bench.server.workdir)]
    command = [sys.executable, str(Path(__file__).with_name("client.py")), *arguments, str(tally), str(count)]
    log = bench.server.directory / "requests.log"

    def said() -> int:
        return len(log.read_text().splitlines()) if log.exists() else 0

    ended_by_itself, kills = False, 0
    for more in (3, 9, 17, 25, 33, 40, 50, 60):
        begun = said()
        client = subprocess.Popen(command, stdout=subprocess.PIPE)
        while said() < begun + more and client.poll() is None:
            time.sleep(0.005)
        ended_by_itself = client.poll() == 0
        kills += not ended_by_itself
        client.kill()
        client.communicate()
        if ended_by_itself:
            break
    assert kills >= 4
    last = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
    assert last.stdout == "all measured\n", last.stderr
    for number in range(count):
        assert (tally / str(number)).read_text() == "performed\n"
        assert len(run_directory(bench.root, f"c1.{number}.evaluate").submissions()) == 1
    assert bench.jobs() == count
