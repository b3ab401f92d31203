"""How the local facility says it is, what an action has come to, and what may be wrong with it."""

import asyncio
import os
from pathlib import Path

import pytest

from firstlight import core
from firstlight.facilities.compute import LocalFacility

from .conftest import Bench


def test_it_says_what_this_machine_is_and_starts_nothing(tmp_path: Path) -> None:
    root = tmp_path / "facility"
    facility = LocalFacility(root, 2)
    assert isinstance(facility, core.ReportsStatus)
    assert isinstance(facility, core.Examinable)
    found = asyncio.run(facility.status())
    assert (found.state, found.nodes, found.cores) == ("up", 1, len(os.sched_getaffinity(0)))
    assert found.memory is not None
    assert found.memory > 2**28
    assert (found.unfit, found.running) == ("", 0)
    assert asyncio.run(facility.job("c1.1.evaluate")).state == "unknown"
    assert not root.exists()


def test_it_runs_no_containers(tmp_path: Path) -> None:
    resources = core.Resources(container="registry/image:1")
    action = core.Action(id="i", trial="t", facility="", name="n", operation="o", point={}, resources=resources)
    assert asyncio.run(LocalFacility(tmp_path, 2).status(action)).unfit == "runs no containers"


def test_an_action_waits_runs_and_ends(bench: Bench) -> None:
    async def test(facility: LocalFacility) -> list[str]:
        wait = {"tally": str(bench.root.parent / "tally"), "seconds": 0.6}
        sleep = [bench.permit("tally_and_wait", id=f"c1.{n}.evaluate", settings=wait) for n in (1, 2)]
        jobs = [await facility.submit(permit) for permit in sleep]
        while (first := await facility.job(jobs[0])).state == "queued":
            await asyncio.sleep(0.02)
        second, status = await facility.job(jobs[1]), await facility.status()
        assert status.running == 1
        assert first.native.startswith("process ")
        assert first.message.startswith("for ")
        for job in jobs:
            await facility.outcome(job)
        return [first.state, second.state, (await facility.job(jobs[0])).state]

    assert bench.run(test, slots=1) == ["active", "queued", "ended"]


def test_out_of_reach_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    facility = LocalFacility(tmp_path / "file" / "facility", 2)
    with pytest.raises(core.Unavailable, match="file is in the way, and is no directory"):
        asyncio.run(facility.status())


def findings(root: Path, **options: str) -> dict[str, core.Finding]:
    return {f.what: f for f in asyncio.run(LocalFacility(root, 2, **options).examine())}  # type: ignore[arg-type]


def test_a_sound_one_has_nothing_wrong(tmp_path: Path) -> None:
    found = findings(tmp_path / "facility")
    assert all(f.right and f.seen for f in found.values())
    assert found["its supervisor"].seen == "does not run; it is started when it is needed"
    assert not (tmp_path / "facility").exists()


def test_a_running_supervisor_is_seen(bench: Bench) -> None:
    async def test(facility: LocalFacility) -> str:
        await facility.outcome(await facility.submit(bench.permit("square")))
        return next(f.seen for f in await facility.examine() if f.what == "its supervisor")

    assert bench.run(test) == "runs"


def test_what_is_wrong_comes_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found = findings(tmp_path / "file" / "facility")["its directory"]
    assert not found.right
    assert "is in the way" in found.seen
    assert "firstlight.toml" in found.advice
    seen = findings(tmp_path / "facility", launcher="no-such-launcher -n {processes}")
    assert "there is no 'no-such-launcher'" in seen["what starts several processes together"].seen
