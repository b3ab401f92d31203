"""Which actions go together: short ones, and never so that a worker is idle for it."""

from collections import deque
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("parsl", reason="pilots need Parsl")

from firstlight import core
from firstlight.facilities.compute.parsl import ParslFacility
from firstlight.facilities.compute.parsl._jobs import AHEAD, Durations, Job, bundle

from .bench import Bench, value


def queue(root: Path, count: int, function: str = "square") -> deque[Job]:
    bench = Bench(root)
    return deque(Job(root, bench.permit(function, f"c1.{n}.e"), True) for n in range(count))


def known(seconds: float, *waiting: Job) -> Durations:
    durations = Durations()
    for job in waiting:
        durations.add(job.kind, seconds)
    return durations


@pytest.mark.parametrize(
    ("count", "seconds", "workers", "out", "size"),
    [
        (100, None, 2, 0, 1),  # Never seen: by itself.
        (100, 10.0, 2, 0, 1),  # Long: by itself.
        (100, 10.0, 2, 2, 0),  # Every worker has one.
        (100, 0.001, 2, 0, 25),  # Everybody gets an equal share, and as much again meanwhile.
        (100, 0.001, 2, AHEAD * 2, 0),
        (3, 0.001, 8, 0, 1),  # Fewer than workers.
        (1000, 0.05, 2, 0, 4),  # No longer than it should be.
        (0, 0.001, 2, 0, 0),
    ],
)
def test_a_bundle_is_as_large_as_it_should_be(
    tmp_path: Path, count: int, seconds: float | None, workers: int, out: int, size: int
) -> None:
    waiting = queue(tmp_path, count)
    durations = Durations() if seconds is None else known(seconds, *list(waiting)[:1])
    jobs, _ = bundle(waiting, durations, workers, out)
    assert (len(jobs), len(waiting)) == (size, count - size)


def test_what_is_not_known_to_be_short_joins_no_bundle(tmp_path: Path) -> None:
    short, long = queue(tmp_path, 4), queue(tmp_path, 1, "tally_and_wait")
    jobs, _ = bundle(deque([*short, *long]), known(0.001, *short), 1, 1)
    assert jobs == list(short)


def run(pilots: Bench, *permits: core.Permit, **more: Any) -> list[core.Outcome]:
    async def test(facility: ParslFacility) -> list[core.Outcome]:
        return [await facility.outcome(job) for job in [await facility.submit(permit) for permit in permits]]

    return pilots.run(test, **more)


def test_many_short_actions_go_together_and_each_has_its_own_result(pilots: Bench) -> None:
    async def test(facility: ParslFacility) -> list[float]:
        found = []
        for count in (3, 200):
            permits = [pilots.permit(id=f"c{count}.{n}.e", x=float(n)) for n in range(count)]
            jobs = [await facility.submit(permit) for permit in permits]
            found = [value(await facility.outcome(job)) for job in jobs]
        return found

    assert pilots.run(test, slots=200) == [float(n) ** 2 for n in range(200)]
    sent = (pilots.root / "keeper.log").read_text()
    assert "lost" not in sent


def test_what_one_of_a_bundle_leaves_is_not_the_next_ones(pilots: Bench) -> None:
    """Logs and checkpoints are each action's own, though the files of silent ones are used again."""
    script = 'ls "$FIRSTLIGHT_CHECKPOINT" >&2; echo mine > "$FIRSTLIGHT_CHECKPOINT/left"; echo 1'
    permits = [pilots.permit("square", "c1.0.e")]
    permits += [pilots.permit("command", f"c2.{n}.e", settings={"argv": ["sh", "-c", script]}) for n in range(3)]
    permits += [pilots.permit(name, f"c3.{n}.e") for n, name in enumerate(("raising", "square", "raising"))]
    outcomes = run(pilots, *permits, workers=1)
    actions = pilots.root / "actions"
    assert [(actions / f"c2.{n}.e" / "checkpoint" / "left").read_text() for n in range(3)] == ["mine\n"] * 3
    logs = [(actions / permit.action.id / "attempt-1.log").read_text() for permit in permits]
    assert [log for n, log in enumerate(logs) if n not in (4, 6)] == [""] * 5
    assert [log.count("before the end") for log in (logs[4], logs[6])] == [1, 1]
    assert not (actions / "c1.0.e" / "checkpoint").exists()
    assert [isinstance(o, core.Failure) for o in outcomes] == [False] * 4 + [True, False, True]


def test_a_new_client_is_not_answered_by_an_old_module(pilots: Bench, tmp_path: Path) -> None:
    module = tmp_path / "edited.py"
    found = []

    async def test(facility: ParslFacility) -> None:
        for n in (10, 20):
            module.write_text(f"def f(point):\n    return {n}\n")
            other = pilots.facility(workers=1)
            permit = pilots.permit("edited:f", id=f"c1.{n}.e", settings={"directory": str(tmp_path)})
            found.append(value(await other.outcome(await other.submit(permit))))
            await other.close()

    async def held(facility: ParslFacility) -> None:
        await facility.find("c1.0.e")  # So that the keeper has somebody all the while.
        await test(facility)

    pilots.run(held, workers=1)
    assert found == [10.0, 20.0]


def test_functions_of_one_name_from_two_directories_are_two(pilots: Bench, tmp_path: Path) -> None:
    permits = []
    for n in (1, 2):
        (tmp_path / str(n)).mkdir()
        (tmp_path / str(n) / "mine.py").write_text(f"def f(point):\n    return {n}\n")
        permits.append(pilots.permit("mine:f", id=f"c1.{n}.e", settings={"directory": str(tmp_path / str(n))}))
    assert [value(o) for o in run(pilots, *permits, permits[0], workers=1)] == [1.0, 2.0, 1.0]


def test_what_stops_to_be_continued_is_continued(pilots: Bench) -> None:
    script = 'n=$(cat "$FIRSTLIGHT_CHECKPOINT/n" 2>/dev/null || echo 0); echo $((n+1)) > "$FIRSTLIGHT_CHECKPOINT/n"; '
    script += "[ $n -ge 4 ] && echo $n || exit 75"
    (outcome,) = run(pilots, pilots.permit("command", settings={"argv": ["sh", "-c", script]}))
    assert (value(outcome), outcome.used["attempts"]) == (4.0, 5)
