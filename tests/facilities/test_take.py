"""Run directories: two at once perform an action once, limits hold, inputs and outputs are what their digests say."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from firstlight import core
from firstlight.facilities.assets import AssetStore, Corrupt
from firstlight.facilities.compute._rundir import RunDirectory, run_directory
from firstlight.facilities.compute._take import take

HERE = "firstlight.testing.facility"


def asked(root: Path, operation: str = f"{HERE}:value", x: float = 3.0, **more: Any) -> RunDirectory:
    settings = more.pop("settings", {"tally": str(root / "tally")} if operation.startswith(HERE) else {})
    action = core.Action(
        id="c1.1.evaluate", trial="c1.1", facility="here", name="evaluate", operation=operation, point={"x": x},
        settings=settings, **more,
    )  # fmt: skip
    run = run_directory(root, action.id)
    run.write_spec(core.Permit(action=action, policies=("owner@1",)))
    return run


def performed(root: Path) -> int:
    tally = root / "tally"
    return len(tally.read_text().splitlines()) if tally.exists() else 0


def elsewhere(run: RunDirectory, *launcher: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "firstlight.facilities.compute.take", str(run.path), *launcher])


def test_it_is_performed_once_whoever_is_told_and_how_often(tmp_path: Path) -> None:
    run = asked(tmp_path, f"{HERE}:slow", x=0.4)
    outcomes: list[core.Outcome | None] = []
    threads = [threading.Thread(target=lambda: outcomes.append(take(run.path, "me"))) for _ in range(2)]
    other = elsewhere(run)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.wait() == 0
    assert outcomes == [run.result(), run.result()]
    assert isinstance(outcomes[0], core.Measured)
    assert performed(tmp_path) == 1


def test_what_a_dead_process_had_begun_is_begun_again(tmp_path: Path) -> None:
    run = asked(tmp_path, f"{HERE}:slow", x=2.0)
    other = elsewhere(run)
    while not performed(tmp_path):
        time.sleep(0.01)
    assert (who := run.performer()) is not None
    assert who.pid == other.pid
    other.kill()
    other.wait()
    assert run.performer() is None
    assert isinstance(take(run.path, "me"), core.Measured)
    assert performed(tmp_path) == 2


def test_what_may_run_once_only_is_never_begun_again(tmp_path: Path) -> None:
    run = asked(tmp_path, f"{HERE}:slow", x=2.0, repeatable=False)
    other = elsewhere(run)
    while not performed(tmp_path):
        time.sleep(0.01)
    other.kill()
    other.wait()
    assert take(run.path, "me") is None
    assert elsewhere(run).wait() == 1
    assert performed(tmp_path) == 1
    assert run.result() is None


def test_a_lease_from_another_machine_is_believed_while_it_is_fresh(tmp_path: Path) -> None:
    run = asked(tmp_path)
    attempt = run.claim("somebody")
    claim = attempt.with_suffix(".lease")
    claim.write_text(claim.read_text().replace('"boot":"', '"boot":"another-'))
    assert run.performer() is not None
    old = time.time() - 60
    os.utime(claim, (old, old))
    assert run.performer() is None
    run.leave(attempt)
    assert isinstance(take(run.path, "me"), core.Measured)
    assert run.attempts() == 2


@pytest.mark.parametrize(
    ("limits", "operation", "cause"),
    [
        ({"seconds": 0.3}, {"operation": f"{HERE}:slow", "x": 60.0}, "timed-out"),
        ({"seconds": 0.3}, {"operation": "command", "settings": {"argv": ["sleep", "60"]}}, "timed-out"),
        ({"memory": 10_000_000}, {"operation": f"{HERE}:slow", "x": 60.0}, "out-of-memory"),
    ],
)
def test_limits_are_kept(tmp_path: Path, limits: Any, operation: Any, cause: str) -> None:
    run = asked(tmp_path, limits=core.Limits(**limits), **operation)
    begun = time.monotonic()
    elsewhere(run).wait()
    assert time.monotonic() - begun < 10
    outcome = run.result()
    assert isinstance(outcome, core.Failure)
    assert outcome.cause == cause


@pytest.mark.parametrize(
    "operation",
    [{"operation": f"{HERE}:slow", "x": 60.0}, {"operation": "command", "settings": {"argv": ["sleep", "60"]}}],
)
def test_whoever_performs_it_ends_when_asked(tmp_path: Path, operation: Any) -> None:
    run = asked(tmp_path, **operation)
    other = elsewhere(run)
    while not run.attempts():
        time.sleep(0.01)
    run.ask_to_end()
    other.wait(10)
    outcome = run.result()
    assert isinstance(outcome, core.Failure)
    assert outcome.cause == "cancelled"


def test_what_stops_to_be_continued_is_continued_from_where_it_was(tmp_path: Path) -> None:
    script = 'n=$(cat "$FIRSTLIGHT_CHECKPOINT/n" 2>/dev/null || echo 0); echo $((n+1)) > "$FIRSTLIGHT_CHECKPOINT/n"; '
    script += '[ $n -ge 2 ] && echo "{\\"y\\": $n}" || exit 75'
    run = asked(tmp_path, "command", settings={"argv": ["sh", "-c", script]})
    assert elsewhere(run).wait() == 75
    assert take(run.path, "me") is None
    outcome = take(run.path, "me")
    assert isinstance(outcome, core.Measured)
    assert outcome.observations[0].value == 2.0
    assert run.attempts() == 3


def test_inputs_are_there_under_their_names_and_outputs_are_kept(tmp_path: Path) -> None:
    home, there = AssetStore(tmp_path / "home"), AssetStore(tmp_path / "assets")
    mesh = tmp_path / "mesh.dat"
    mesh.write_text("1 2 3")
    asset = home.put(mesh)
    assert there.fetch([asset], home) == 5
    assert there.fetch([asset], home) == 0
    argv = ["sh", "-c", 'mkdir out; wc -w < {mesh} > out/words.txt; echo "{\\"y\\": $(cat out/words.txt)}"']
    run = asked(tmp_path, "command", settings={"argv": argv}, inputs={"mesh": asset}, outputs=("out/*.txt",))
    outcome = take(run.path, "me")
    assert isinstance(outcome, core.Measured), outcome
    assert outcome.observations[0].value == 3.0
    (left,) = outcome.assets
    assert (left.uri, left.media_type, left.size) == ("out/words.txt", "text/plain", 2)
    assert there.check(left).read_text() == "3\n"


def test_an_input_that_was_damaged_or_is_not_there_is_no_input(tmp_path: Path) -> None:
    mesh = tmp_path / "mesh.dat"
    mesh.write_text("1 2 3")
    store = AssetStore(tmp_path / "assets")
    asset = store.put(mesh)
    store.path(asset.digest).chmod(0o644)
    store.path(asset.digest).write_text("1 2 4")
    with pytest.raises(Corrupt):
        store.check(asset)
    outcome = take(asked(tmp_path, inputs={"mesh": asset}).path, "me")
    assert isinstance(outcome, core.Failure)
    assert outcome.cause == "invalid-input"
    assert "mesh" in outcome.message
    with pytest.raises(Corrupt):
        AssetStore(tmp_path / "other").fetch([asset], store)
    assert not AssetStore(tmp_path / "other").holds(asset.digest)
