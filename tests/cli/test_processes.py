"""Several processes and one campaign: interrupted, resumed, watched, paused, approved."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from .conftest import CAMPAIGN, PATIENCE, Bench

STUBBORN = """
import asyncio
from firstlight.cli._drive import interruptible
from firstlight.cli._output import Here

async def stubborn():
    print("begun", flush=True)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("not yet", flush=True)

asyncio.run(interruptible(Here(False, None, False), stubborn()))
"""


def test_ctrl_c_lays_down_and_resume_loses_and_repeats_nothing(bench: Bench) -> None:
    run = bench.begin("run", "slow.yaml", "--no-report")
    bench.until(lambda: len(bench.performed()) >= 4)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=PATIENCE)
    assert run.returncode == 3, said
    assert "firstlight resume slow" in said
    assert "Traceback" not in said
    last = bench.facts()[-1]
    assert (last["kind"], last["reason"]) == ("RunEnded", "interrupted")
    standing = bench.read("show", "slow")
    assert standing["state"] == "interrupted"
    assert standing["trials"] < 10

    resumed = bench.do("resume", "slow", "--no-report")
    assert resumed.returncode == 0, resumed.stderr
    assert bench.read("show", "slow")["state"] == "closed"
    ended = [f["action"] for f in bench.facts() if f["kind"] == "ActionSucceeded"]
    assert len(ended) == len(set(ended)) == 10
    assert len(bench.performed()) == len(set(bench.performed())) == 10


def test_sigterm_is_ctrl_c(bench: Bench) -> None:
    run = bench.begin("run", "slow.yaml", "--json")
    bench.until(lambda: len(bench.performed()) >= 2)
    run.terminate()
    out, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 3
    assert json.loads(out.splitlines()[-1])["kind"] == "RunEnded"


def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "not yet\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 3


def test_pause_resume_and_stop_reach_the_process_that_runs_it(bench: Bench) -> None:
    run = bench.begin("run", "slow.yaml", "--trials", "400")
    bench.until(lambda: len(bench.performed()) >= 2)
    held = bench.here("resume", "slow")
    assert held.exit_code == 4
    assert "is being run by" in held.stderr
    assert bench.read("pause", "slow", "--reason", "lunch") == {"campaign": "slow", "state": "paused"}
    # What was designed ahead stays where it is, and what ran comes to its end.
    bench.until(lambda: {t["status"] for t in bench.read("show", "slow")["open"]} <= {"proposed", "permitted"})
    assert bench.read("show", "slow")["state"] == "paused"
    assert run.poll() is None
    assert "goes on" in bench.do("resume", "slow").stdout
    before = len(bench.performed())
    bench.until(lambda: len(bench.performed()) > before)
    assert bench.do("stop", "slow", "--reason", "seen enough").returncode == 0
    out, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, err
    assert "closed: seen enough" in out
    assert bench.here("stop", "slow").exit_code == 5


def test_cancel_ends_what_runs(bench: Bench) -> None:
    (bench.path / "mine.py").write_text("import time\ndef look(point):\n    time.sleep(60)\n")
    run = bench.begin("run", "slow.yaml", "--no-report")
    bench.until(lambda: any(f["kind"] == "ActionAccepted" for f in bench.facts()))
    assert bench.do("cancel", "slow").returncode == 0
    run.communicate(timeout=PATIENCE)
    assert run.returncode == 0
    assert set(bench.read("show", "slow")["failures"]) == {"cancelled"}


def test_an_approval_from_another_process_wakes_the_loop(bench: Bench) -> None:
    asked = "evaluate: {function: 'mine:look', approval: 'Is the hood closed?'}"
    two = CAMPAIGN.replace("trials: 10", "trials: 2").replace("evaluate: mine:look", asked)
    (bench.path / "slow.yaml").write_text(two)
    run = bench.begin("run", "slow.yaml", "--no-report")
    bench.until(lambda: "slow" in bench.here("list").stdout and len(bench.read("approvals")["waiting"]) == 2)
    assert bench.read("show", "slow")["state"] == "waiting"
    first = bench.read("approvals", "slow")["waiting"][0]
    assert (first["status"], first["question"]) == ("escalated", "Is the hood closed?")
    ambiguous = bench.here("approve", "slow", "evaluate")
    assert ambiguous.exit_code == 2
    assert "1.evaluate, 2.evaluate" in ambiguous.stderr
    assert bench.here("refuse", "slow", "7", "--reason", "x").exit_code == 2
    assert bench.read("approve", "slow", "1", "--note", "it is") == {
        "campaign": "slow", "action": "slow.1.evaluate", "decision": "approved",
    }  # fmt: skip
    assert bench.do("refuse", "slow", "2.evaluate", "--reason", "too hot").returncode == 0
    out, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0
    assert "failed: refused  too hot" in out
    assert len(bench.performed()) == 1
    assert bench.here("approve", "slow", "1").exit_code == 5


def test_watch_tells_every_fact_once(bench: Bench) -> None:
    run = bench.begin("run", "slow.yaml", "--json")
    bench.until(lambda: len(bench.performed()) >= 1)
    watch = bench.begin("watch", "slow", "--json")
    watched, _ = watch.communicate(timeout=PATIENCE)
    out, err = run.communicate(timeout=PATIENCE)
    assert (watch.returncode, run.returncode) == (0, 0), err
    seen = [json.loads(line) for line in watched.splitlines()]
    assert [f["seq"] for f in seen] == list(range(1, len(seen) + 1))
    assert any(f["kind"] == "CampaignClosed" for f in seen)
    *ran, summary = [json.loads(line) for line in out.splitlines()]
    assert ran == bench.facts()
    assert ran[: len(seen)] == seen
    assert summary["kind"] == "summary"
    assert summary["standing"]["state"] == "closed"
    assert summary["standing"]["trials"] == 10
    later = bench.here("watch", "slow", "--json", "--after", "5").stdout.splitlines()
    assert json.loads(later[0])["seq"] == 6
