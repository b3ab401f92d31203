"""The local facility: functions, and every way in which they end."""

import asyncio
import time
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped, unused-ignore]
import pytest

from firstlight import core
from firstlight.facilities.compute import LocalFacility


def value(outcome: core.Outcome, name: str = "") -> float:
    assert isinstance(outcome, core.Measured), outcome
    return {o.observable: o.value for o in outcome.observations}[name]


def test_settings_are_arguments(bench: Any) -> None:
    assert value(bench.outcome(bench.permit("add", settings={"offset": 4.0})), "y") == 7.0


def test_a_coroutine_is_awaited(bench: Any) -> None:
    assert value(bench.outcome(bench.permit("later"))) == 7.0


def test_any_function_can_be_pickled(bench: Any, tmp_path: Path) -> None:
    factor = 5.0
    path = tmp_path / "function.pkl"
    path.write_bytes(cloudpickle.dumps(lambda point: factor * point["x"]))
    assert value(bench.outcome(bench.permit(f"pickle:{path}"))) == 15.0


def test_a_pickled_function_that_changes_is_read_again(bench: Any, tmp_path: Path) -> None:
    path = tmp_path / "function.pkl"

    async def test(facility: LocalFacility) -> list[float]:
        found = []
        for n in (1.0, 2.0):
            path.write_bytes(cloudpickle.dumps(lambda point, n=n: n))
            permit = bench.permit(f"pickle:{path}", id=f"c1.{n:g}.evaluate")
            found.append(value(await facility.outcome(await facility.submit(permit))))
        return found

    assert bench.run(test, slots=1) == [1.0, 2.0]


def test_functions_of_one_name_from_two_directories_are_two(bench: Any, tmp_path: Path) -> None:
    permits = []
    for n in (1, 2):
        (tmp_path / str(n)).mkdir()
        (tmp_path / str(n) / "mine.py").write_text(f"def f(point):\n    return {n}\n")
        permits.append(bench.permit("mine:f", id=f"c1.{n}.evaluate", settings={"directory": str(tmp_path / str(n))}))
    assert value(bench.outcome(*permits)) == 2.0


def test_a_worker_is_kept_apart_from_the_terminal_and_used_again(bench: Any) -> None:
    async def test(facility: LocalFacility) -> list[core.Outcome]:
        jobs = [await facility.submit(bench.permit("where", id=f"c1.{n}.evaluate")) for n in range(3)]
        return [await facility.outcome(job) for job in jobs]

    found = bench.run(test, slots=1)
    assert len({value(o, "pid") for o in found}) == 1
    assert value(found[0], "session") == value(found[0], "pid")
    assert value(found[0], "threads") == 1.0


def test_a_new_client_gets_new_workers(bench: Any, tmp_path: Path) -> None:
    """Whoever edits a module and runs again must not be answered by the old one."""
    module = tmp_path / "edited.py"
    settings = {"directory": str(tmp_path)}
    found = []

    async def test(facility: LocalFacility) -> None:
        for n in (10, 20):
            module.write_text(f"def f(point):\n    return {n}\n")
            other = LocalFacility(bench.root, 1)
            permit = bench.permit("edited:f", id=f"c1.{n}.evaluate", settings=settings)
            found.append(value(await other.outcome(await other.submit(permit))))
            await other.close()

    bench.run(test)
    assert found == [10.0, 20.0]


@pytest.mark.parametrize(
    ("function", "cause", "message", "log"),
    [
        ("not_converging", "did-not-converge", "the residual grew", ""),
        ("raising", "crashed", "ValueError: no such luck", "before the end"),
        ("raising", "crashed", "ValueError: no such luck", 'raise ValueError("no such luck")'),
        ("no_memory", "out-of-memory", "MemoryError", "MemoryError"),
        ("leaving", "crashed", "SystemExit: 3", ""),
        ("nothing", "invalid-output", "None", ""),
        ("segfault", "crashed", "SIGSEGV", "about to read address 0"),
        ("segfault", "crashed", "SIGSEGV", "in segfault"),
        ("abort", "crashed", "SIGABRT", "Fatal Python error: Aborted"),
        ("exit_at_once", "crashed", "exit code 7", ""),
        ("killed", "crashed", "SIGKILL", ""),
        ("close_everything", "crashed", "SIGKILL", ""),
        ("missing", "invalid-input", "has no 'missing'", ""),
        ("NOT_A_FUNCTION", "invalid-input", "is a int, not a function", ""),
        ("nowhere_to_be:found", "invalid-input", "no module 'nowhere_to_be' in ", ""),
        ("pickle:/nowhere.pkl", "invalid-input", "no pickled function /nowhere.pkl", ""),
    ],
)
def test_a_failure_says_why(bench: Any, function: str, cause: str, message: str, log: str) -> None:
    failure = bench.failure(function)
    assert failure.cause == cause
    assert message in failure.message
    assert log in failure.log


def test_a_module_that_needs_another_names_it(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "needy.py").write_text("import surely_not_installed\n")
    failure = bench.failure("needy:f", settings={"directory": str(tmp_path)})
    assert (failure.cause, failure.message) == (
        "invalid-input", "module 'needy' needs 'surely_not_installed', which is not installed",
    )  # fmt: skip


def test_the_log_is_the_last_lines(bench: Any) -> None:
    log = bench.failure("chatter").log.splitlines()
    assert len(log) <= 20
    assert "line 9999" in log
    assert "from a child" in log
    assert "line 0" not in log


@pytest.mark.parametrize("function", ["endless", "endless_in_c"])
def test_the_time_limit_ends_anything(bench: Any, function: str) -> None:
    failure = bench.failure(function, limits=core.Limits(seconds=0.5))
    assert failure.cause == "timed-out"
    assert "0.5 s" in failure.message
    assert 0.4 < failure.ended - failure.started < 5


@pytest.mark.parametrize("function", ["hog", "hog_in_a_child"])
def test_the_memory_limit_counts_children(bench: Any, function: str) -> None:
    failure = bench.failure(function, limits=core.Limits(memory=250_000_000))
    assert failure.cause == "out-of-memory"
    assert "MiB" in failure.message


@pytest.mark.parametrize("far", [0, 1])
def test_a_killed_worker_leaves_no_children(bench: Any, tmp_path: Path, far: int) -> None:
    kept = tmp_path / "child"
    bench.failure("leave_a_child", point={"x": far, "file": str(kept)}, limits=core.Limits(seconds=0.5))
    state = Path(f"/proc/{kept.read_text()}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_cancelled_while_waiting_it_never_begins(bench: Any, tmp_path: Path) -> None:
    async def test(facility: LocalFacility) -> core.Outcome:
        settings = {"tally": str(tmp_path / "first"), "seconds": 1.0}
        first = await facility.submit(bench.permit("tally_and_wait", settings=settings))
        settings = {"tally": str(tmp_path / "second"), "seconds": 1.0}
        second = await facility.submit(bench.permit("tally_and_wait", id="c1.2.evaluate", settings=settings))
        await facility.cancel(second)
        outcome = await asyncio.wait_for(facility.outcome(second), 0.5)
        await facility.outcome(first)
        return outcome

    outcome = bench.run(test, slots=1)
    assert isinstance(outcome, core.Failure)
    assert outcome.cause == "cancelled"
    assert not (tmp_path / "second").exists()


def test_many_small_actions_are_quick(bench: Any) -> None:
    async def test(facility: LocalFacility) -> float:
        async def one(n: int) -> None:
            assert value(await facility.outcome(await facility.submit(bench.permit("square", id=f"c1.{n}.e")))) == 9.0

        await one(-1)
        begun = time.monotonic()
        await asyncio.gather(*(one(n) for n in range(200)))
        return time.monotonic() - begun

    assert bench.run(test) < 10


def test_ids_of_any_shape_have_a_place_of_their_own(bench: Any) -> None:
    ids = ["a/b", "a_b", "../up", "x" * 300, "x" * 299 + "y", "é", ".hidden", "a b"]

    async def test(facility: LocalFacility) -> list[float]:
        jobs = [await facility.submit(bench.permit("square", id=id, point={"x": n})) for n, id in enumerate(ids)]
        return [value(await facility.outcome(job)) for job in jobs]

    assert bench.run(test) == [float(n**2) for n in range(len(ids))]


def test_a_root_of_any_length_will_do(bench: Any) -> None:
    bench.root = bench.root / ("long" * 20) / ("longer" * 15)
    assert value(bench.outcome(bench.permit("square"))) == 9.0


def test_slots_must_be_sensible(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="slots"):
        LocalFacility(tmp_path, -1)
