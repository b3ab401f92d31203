"""The verb, as it is typed: the table, the files, what goes wrong, and what survives."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from firstlight import app
from firstlight.backtest import Broken, Contender, Keep, Run, Settings, Unkept, perform, run, tasks

from .made import Scripted, a_pool, parabola

PROGRAM = [sys.executable, "-c", "from firstlight.cli import main; main()"]


def do(*words: object, before: str = "") -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", f"{before}\nfrom firstlight.cli import main; main()"] if before else PROGRAM
    return subprocess.run([*program, *map(str, words)], capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    parabola(directory, "hill", side=7)
    parabola(directory, "slope", peak=9.0, side=6)
    (directory / "lonely.csv").write_text("a,y\n1,2\n")
    return directory


def backtest(data: Path, *more: object) -> Any:
    done = do("backtest", "--data", data, "--json", *more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def without_time(document: Any) -> Any:
    """What does not depend on how fast this machine is."""
    return [{k: v for k, v in cell.items() if k != "cpu"} for cell in document["comparison"]["cells"]]


def test_without_strategies_it_lists_the_pools_and_what_was_assumed(data: Path) -> None:
    document = backtest(data)
    assert [(p["name"], p["rows"]) for p in document["pools"]] == [("hill", 49), ("slope", 36)]
    assert document["pools"][0]["assumed"] == [f"{x} is taken as ordered with 7 values" for x in "ab"]
    assert document["left_out"][0].startswith("lonely.csv: nothing describes it")
    shown = do("backtest", "--data", data)
    assert "taken as ordered" in " ".join(shown.stdout.split())
    assert "left out: lonely.csv" in shown.stderr


def test_a_table_figures_and_a_last_word(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = do(
        "backtest", "--data", data, "--strategies", "bayes,random,quick=sobol{}", "--seeds", "5", "--budget", "15",
        "--jobs", "2", "--out", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert next(line for line in lines if line.startswith("hill")).split()[1] == "random"
    assert any("bayes" in line and "quick" in line for line in lines)
    names = ("table.md", "table.csv", "comparison.json", "curves.png", "acceleration.png", "cpu.png", "runs.jsonl")
    assert sorted(p.name for p in out.iterdir()) == sorted(names)
    assert all((out / name).stat().st_size > 300 for name in names)
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    comparison = json.loads((out / "comparison.json").read_text())
    assert comparison["words"].split()[0] in ("Choose", "No")
    assert " ".join(comparison["words"].split()) in " ".join(done.stdout.split())
    assert {cell["contender"] for cell in comparison["cells"]} == {"bayes", "quick"}
    assert "assumed" in (out / "table.md").read_text()
    assert len((out / "table.csv").read_text().splitlines()) == 1 + 2 * 2 * 3


def test_what_is_kept_is_not_run_again_and_what_is_new_is(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    plain = ("--pools", "hill", "--budget", "10", "--keep", file, "--jobs", "1", "--strategies")
    first = backtest(data, *plain, "sobol", "--seeds", "3")
    kept = file.read_bytes()
    assert len(kept.splitlines()) == 3
    again = backtest(data, *plain, "sobol", "--seeds", "3")
    assert file.read_bytes() == kept
    assert again == first
    backtest(data, *plain, "renamed=sobol,bayes{initial: 3}", "--seeds", "3")
    assert len(file.read_bytes().splitlines()) == 6
    backtest(data, *plain, "sobol", "--seeds", "1", "--hide", "0.3")
    assert len(file.read_bytes().splitlines()) == 7


def test_killed_in_the_middle_and_begun_again_gives_the_same_table(data: Path, tmp_path: Path) -> None:
    words = ["--strategies", "bayes", "--seeds", "8", "--budget", "20", "--jobs", "2"]
    whole = backtest(data, *words, "--keep", tmp_path / "whole.jsonl")
    file = tmp_path / "cut.jsonl"
    begun = subprocess.Popen(
        [*PROGRAM, "backtest", "--data", str(data), *words, "--keep", str(file)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_bytes().count(b"\n") >= 3):
        assert time.monotonic() < deadline
        assert begun.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    begun.kill()
    begun.wait()
    left = file.read_bytes().count(b"\n")
    assert 3 <= left < 16
    resumed = backtest(data, *words, "--keep", file)
    assert file.read_bytes().count(b"\n") == 16
    assert without_time(resumed) == without_time(whole)
    assert resumed["comparison"]["words"] == whole["comparison"]["words"]


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    begun = subprocess.Popen(
        [*PROGRAM, "backtest", "--data", str(data), "--strategies", "bayes", "--seeds", "200", "--budget", "30",
         "--jobs", "1", "--keep", str(file)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # A suite that runs in the background has the signal ignored, and would hand that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_bytes().count(b"\n") >= 2):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # A terminal sends it to all processes at once.
    os.killpg(begun.pid, signal.SIGINT)
    _, said = begun.communicate(timeout=30)
    assert begun.returncode == 3
    assert f"of 400 runs are kept in {file}; the same command goes on" in said
    assert "Traceback" not in said
    assert file.read_bytes().endswith(b"\n")


def test_earlier_campaigns_come_from_pools_that_were_not_asked_for(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    plain = ("--pools", "hill", "--strategies", "sobol", "--seeds", "1", "--budget", "5", "--keep", file)
    backtest(data, *plain)
    backtest(data, *plain, "--earlier", "10")
    backtest(data, *plain, "--earlier", "10", "--earlier-as", "inverted")
    keys = [json.loads(line)["key"] for line in file.read_text().splitlines()]
    assert len(set(keys)) == 3


# ------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--strategies", "bayse"), "did you mean 'bayes'?"),
        (("--strategies", "bayes{initail: 3}"), "has no option 'initail'"),
        (("--strategies", "bayes{initial: 3"), "is not a strategy: write it as in"),
        (("--strategies", "bayes,bayes"), "there are two strategies called bayes"),
        (("--strategies", "random"), "names none to run"),
        (("--strategies", "sobol", "--pools", "nowhere"), "there is no pool of these names"),
        (("--strategies", "sobol", "--keep", "{data}/hill.csv"), "hill.csv:1: it is no run of a back-test"),
        (("--describe", "{data}/nowhere"), "there is no such directory of descriptions"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(words: tuple[str, ...], told: str, data: Path) -> None:
    done = do("backtest", "--data", data, *(w.replace("{data}", str(data)) for w in words))
    assert told in done.stderr
    assert done.returncode == (0 if words[0] == "--describe" else 2)
    assert "Traceback" not in done.stderr


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = do("backtest", "--data", tmp_path / "nowhere")
    assert (done.returncode, "there is no directory" in done.stderr) == (2, True)


def test_without_the_library_that_draws_nothing_is_run(data: Path, tmp_path: Path) -> None:
    words = ("backtest", "--data", data, "--strategies", "sobol", "--seeds", "1", "--budget", "3")
    hidden = "import sys; sys.modules['matplotlib'] = None"
    done = do(*words, "--out", tmp_path / "out", before=hidden)
    assert done.returncode == 2
    assert "pip install 'firstlight[report]'" in done.stderr
    assert not (tmp_path / "out").exists()
    assert do(*words, before=hidden).returncode == 0


FRAGILE = """
import os
from firstlight import core

class Fragile:
    def __init__(self, how):
        self.how = how

    def propose(self, spec, results, count, seed):
        if self.how == "dies":
            os._exit(7)
        if self.how == "raises":
            raise ZeroDivisionError("of a strategy")
        return [core.Proposal(point={"x": 0.5 if self.how == "strays" else float(len(results.rows))})]

def make(name, options):
    return Fragile(name)
"""


def test_a_strategy_that_breaks_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Processes find it by its name, as they find a plug-in.
    (tmp_path / "fragile_strategies.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(tmp_path)
    pool, make = a_pool([1, 2, 3]), import_module("fragile_strategies").make
    contenders = [Contender(label=how, strategy=how) for how in ("dies", "raises", "strays", "works")]
    todo = tasks([pool], contenders, [1, 2], Settings())
    ended = list(perform(todo, [pool], make, 2))
    told = {(e.task.contender.label, e.message) for e in ended if isinstance(e, Broken)}
    assert told == {
        ("dies", "its process died (exit code 7)"),
        ("raises", "ZeroDivisionError: of a strategy"),
        ("strays", "it proposed {'x': 0.5}, which is not in the pool"),
    }
    assert [e.rows for e in ended if isinstance(e, Run)] == [(0, 1, 2), (0, 1, 2)]


def test_a_run_is_the_same_in_another_process_and_uses_one_thread_of_blas(data: Path) -> None:
    (pool, _) = app.find_pools(data).pools
    (task,) = tasks([pool], [Contender(label="bayes", strategy="bayes")], [3], Settings(budget=12))
    (there,) = perform([task], [pool], app.make_strategy, 1)
    here = run(pool, app.make_strategy("bayes", {}), 3, Settings(budget=12))
    assert isinstance(there, Run)
    assert there.rows == here.rows


# ------------------------------------------------------------------ what is kept


def test_half_a_line_is_taken_off(tmp_path: Path) -> None:
    pool, file = a_pool([1, 2, 3]), tmp_path / "runs.jsonl"
    runs = [run(pool, Scripted(pool, [2]), seed) for seed in (1, 2)]
    with Keep(file) as keep:
        keep.add(runs[0])
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"key": "half')
    with Keep(file) as keep:
        assert list(keep.runs.values()) == runs[:1]
        keep.add(runs[1])
    with Keep(file) as keep:
        assert list(keep.runs.values()) == runs
    assert file.read_bytes().startswith(whole)


def test_two_back_tests_do_not_share_a_file(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    with Keep(file), pytest.raises(Unkept, match="another back-test writes"):
        Keep(file)
    with Keep(file):
        pass
