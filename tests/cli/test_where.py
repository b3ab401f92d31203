"""Where actions are: what `show` asks the facilities, and what it says of those that do not answer."""

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace
from rich.console import Console, Group

from firstlight import core
from firstlight.app import App
from firstlight.cli import _live, _where
from firstlight.cli._documents import JobDocument, campaign_document
from firstlight.cli._drive import Lines
from firstlight.config import Settings
from firstlight.testing.facility import FakeFacility
from firstlight.testing.world import a_spec, peak

from .conftest import Bench
from .stories import Diary


class Queue(FakeFacility):
    """A batch system with a queue."""

    async def job(self, job: str) -> core.JobStatus:
        await asyncio.sleep(0)
        return core.JobStatus(
            state="queued", message="Priority", native="4711", expected_start=1_750_000_000.0, node_hours=1.5
        )


class Stuck(FakeFacility):
    """One that never answers."""

    async def job(self, job: str) -> core.JobStatus:
        await asyncio.sleep(60)
        raise AssertionError("nobody waits that long")


class Mute:
    """One that says nothing of itself."""

    slots = 1

    async def close(self) -> None:
        """Nothing is open."""


def sent(diary: Diary, number: int, facility: str, accepted: bool = True) -> str:
    """A trial whose action the coordinator placed, and that was sent there."""
    id = f"c1.{number}.look"
    action = core.Action(
        id=id, trial=f"c1.{number}", facility="", name="look", operation="look", point={"x": 0.5}
    )  # fmt: skip
    diary.write(core.TrialProposed(trial=f"c1.{number}", point={"x": 0.5}, actions=(action,)))
    if facility:
        diary.write(
            core.ActionPlaced(action=id, facility=facility, reason=f"free now at {facility}"),
            core.ActionPermitted(action=id, policies=("gate",)),
            core.ActionDispatched(action=id),
        )
    if facility and accepted:
        diary.write(core.ActionAccepted(action=id, job=id))
    return id


def asked(path: Path, diary: Diary, **facilities: object) -> tuple[JobDocument, ...]:
    async def ask() -> tuple[JobDocument, ...]:
        settings = Settings(data_dir=path, journal="memory", facilities={name: {} for name in facilities})
        async with App.open(settings) as app:
            for name, facility in facilities.items():
                await app.replace_facility(name, facility)  # type: ignore[arg-type]
            return await _where.ask(app, diary.board, "ada")

    return asyncio.run(ask())


def drawn(parts: Iterable[object]) -> str:
    console = Console(width=160, force_terminal=False)
    with console.capture() as capture:
        console.print(Group(*parts))  # type: ignore[arg-type]
    return capture.get()


def test_each_action_as_its_facility_sees_it(tmp_path: Path) -> None:
    diary = Diary()
    sent(diary, 1, "polaris")
    sent(diary, 2, "mute")
    sent(diary, 3, "polaris", accepted=False)
    jobs = asked(tmp_path, diary, polaris=Queue(peak), mute=Mute())
    first = {job.action: job for job in jobs}["c1.1.look"]
    assert first == JobDocument(
        action="c1.1.look", facility="polaris", state="queued", message="Priority", reason="free now at polaris",
        native="4711", expected_start=1_750_000_000.0, node_hours=1.5,
    )  # fmt: skip
    said = {job.action: job.message for job in jobs}
    assert (said["c1.2.look"], said["c1.3.look"]) == ("its facility does not say", "it is being sent")
    shown = drawn(_where.shown(diary.board, jobs))
    for expected in ("polaris", "queued · 4711 · Priority", "2025-06-15", "1.5", "free now at polaris"):
        assert expected in shown, expected


def test_one_that_does_not_answer_is_named_and_holds_up_nobody(tmp_path: Path) -> None:
    diary = Diary()
    sent(diary, 1, "stuck")
    sent(diary, 2, "stuck")
    sent(diary, 3, "gone")
    sent(diary, 4, "unknown")
    sent(diary, 5, "polaris")
    gone = FakeFacility(peak)
    gone.reachable = False
    began = time.monotonic()
    jobs = asked(tmp_path, diary, stuck=Stuck(peak), gone=gone, polaris=Queue(peak))
    took = time.monotonic() - began
    assert _where.ANSWER <= took < _where.ANSWER + 2
    said = {job.action: (job.state, job.message) for job in jobs}
    assert said["c1.1.look"] == said["c1.2.look"] == ("unknown", "stuck has not answered for 3 s")
    assert said["c1.3.look"][1].startswith("gone cannot be reached: the fake facility is out of reach")
    assert said["c1.4.look"][1].startswith(
        "unknown cannot be reached: it cannot be set up: there is no 'unknown' among the facilities"
    )
    assert said["c1.5.look"][0] == "queued"


def test_what_nobody_can_take_says_why(tmp_path: Path) -> None:
    diary = Diary()
    sent(diary, 1, "")
    full = FakeFacility(peak)
    full.says = core.FacilityStatus(state="down", message="maintenance")
    local = FakeFacility(peak)
    local.says = core.FacilityStatus(state="up", cores=0)
    (job,) = asked(tmp_path, diary, polaris=full, local=local)
    assert job.facility == ""
    assert job.message == (
        "nobody can take it now: polaris is down (maintenance); local has no cores a node, and it needs 1"
    )
    assert "nowhere yet" in drawn(_where.shown(diary.board, (job,)))


def test_the_live_view_says_that_nobody_takes_it() -> None:
    diary = Diary()
    sent(diary, 1, "")
    said, last = "no facility can take 1 action now: firstlight show c1 says why", diary.entries[-1].at
    assert said in drawn([_live.view(diary.board, last + 10, "ada", 100)])
    assert said not in drawn([_live.view(diary.board, last + 1, "ada", 100)])
    assert said not in drawn([_live.view(diary.board, last + 10, "", 100)]), "nobody runs it"


def test_many_are_counted_and_not_all_asked(tmp_path: Path) -> None:
    spec = a_spec()
    diary = Diary(replace(spec, goal=replace(spec.goal, budget=core.Budget(trials=100)), parallel=80))
    for number in range(1, _where.MOST_ASKED + 4):
        sent(diary, number, "polaris")
    jobs = asked(tmp_path, diary, polaris=Queue(peak))
    assert [job.state for job in jobs].count("queued") == _where.MOST_ASKED
    assert jobs[-1].message == "not asked"
    assert f"and {len(jobs) - _where.MOST_SHOWN} more" in drawn(_where.shown(diary.board, jobs))


def test_what_was_used_is_summed(tmp_path: Path) -> None:
    diary = Diary()
    for number, used in ((1, {"node-hours": 1.25, "attempts": 2.0}), (2, {"node-hours": 0.5})):
        action = diary.send(number)
        diary.write(core.ActionSucceeded(action=action, measured=core.Measured(used=used)))
    failed = diary.send(3)
    diary.write(core.ActionFailed(action=failed, failure=core.Failure(cause="crashed", used={"node-hours": 4.0})))
    assert campaign_document(diary.board, "", 2000.0).used == {"node-hours": 5.75, "attempts": 2.0}
    assert "used      5.75 node-hours · 2 attempts" in drawn(_where.shown(diary.board, ()))


def test_the_live_view_counts_what_is_under_way_where_there_is_more_than_one_facility() -> None:
    diary = Diary()
    sent(diary, 1, "polaris")
    sent(diary, 2, "polaris")
    assert "polaris 2" not in drawn([_live.view(diary.board, 2000.0, "ada", 100)])
    sent(diary, 3, "local")
    assert "in flight  polaris 2 · local 1" in drawn([_live.view(diary.board, 2000.0, "ada", 100)])


def test_a_running_campaign_is_shown_with_its_jobs(bench: Bench) -> None:
    bench.begin("run", "slow.yaml", "--trials", "1000", "--no-report")  # not over before a slow machine has looked
    bench.until(lambda: len(bench.performed()) >= 2)
    document = {}

    def active() -> bool:
        document.update(bench.read("show", "slow"))
        return any(job["state"] == "active" for job in document["jobs"])

    bench.until(active)
    job = next(job for job in document["jobs"] if job["state"] == "active")
    assert job["facility"] == "local"
    assert job["native"].startswith("process ")
    shown = bench.here("show", "slow").stdout
    assert "node-hours" in shown
    bench.do("stop", "slow")
    bench.until(lambda: bench.read("show", "slow")["state"] == "closed")
    assert bench.read("show", "slow")["jobs"] == []


def test_any_facility_is_chosen_by_the_coordinator(bench: Bench) -> None:
    done = bench.do("run", "slow.yaml", "--facility", "any", "--trials", "2", "--no-report")
    assert done.returncode == 0, done.stderr
    assert "1.evaluate goes to local: free now" in bench.here("log", "slow").stdout


def test_lines_say_what_had_to_move() -> None:
    diary, said = Diary(), list[str]()

    class Listening:
        def say(self, line: str) -> None:
            said.append(line)

    lines = Lines(Listening())  # type: ignore[arg-type]
    id = sent(diary, 1, "polaris")
    lines.fact(diary.board, diary.entries[2], [])
    diary.write(core.ActionPlaced(action=id, facility="local", reason="polaris has gone away (maintenance); free now"))
    lines.fact(diary.board, diary.entries[-1], [])
    assert said[-1] == "1.look goes to local: polaris has gone away (maintenance); free now"
