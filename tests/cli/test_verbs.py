"""Verbs one by one: what they answer, and how they end."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from firstlight import core, plugins
from firstlight.cli import Exit
from firstlight.cli._output import Here, Problem, explain
from firstlight.cli._spec import LONGER
from firstlight.cli._verb import _perform

from .conftest import Bench

BAD = sorted((Path(__file__).parents[1] / "bad").glob("*.yaml"))


def do(bench: Bench, *words: str) -> Any:
    return bench.here(*words)


@pytest.fixture
def finished(bench: Bench) -> Bench:
    (bench.path / "mine.py").write_text("def look(point):\n    return {'y': 1 - abs(point['x'] - 0.6)}\n")
    done = do(bench, "run", str(bench.path / "slow.yaml"), "--trials", "5", "--seed", "3", "--no-report")
    assert done.exit_code == 0, done.output
    return bench


def test_a_campaign_from_its_file_to_its_end(finished: Bench) -> None:
    listed = json.loads(do(finished, "list", "--json").stdout)["campaigns"]
    assert [(c["id"], c["state"], c["trials"], c["seed"]) for c in listed] == [("slow", "closed", 5, 3)]
    assert "closed" in do(finished, "list").stdout
    shown = json.loads(do(finished, "--json", "show", "slow").stdout)
    assert shown == listed[0] | {"spent": shown["spent"]}
    assert shown["best"][0]["observed"]["y"]["value"] > 0
    assert "slow closed" in do(finished, "show", "slow").stdout
    assert "5 trials" in do(finished, "watch", "slow").stdout
    assert "closed: trials spent" in do(finished, "log", "slow").stdout
    assert "nothing waits" in do(finished, "approvals").stdout
    assert do(finished, "resume", "slow").exit_code == Exit.REFUSED
    assert do(finished, "approve", "slow", "1").exit_code == Exit.REFUSED


def test_options_change_the_specification(bench: Bench) -> None:
    options = (
        "--trials",
        "3",
        "--parallel",
        "3",
        "--seed",
        "8",
        "--strategy",
        "sobol",
        "--name",
        "other",
        "--no-report",
    )
    assert do(bench, "run", str(bench.path / "slow.yaml"), *options).exit_code == 0
    shown = json.loads(do(bench, "show", "other", "--json").stdout)
    assert (shown["spent"]["trials_limit"], shown["parallel"], shown["seed"], shown["strategy"]) == (3, 3, 8, "sobol")


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_export_writes_every_trial(finished: Bench, form: str) -> None:
    path = finished.path / f"out.{form}"
    done = do(finished, "export", "slow", "--as", form, "-o", str(path), "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"campaign": "slow", "file": str(path), "rows": 5}
    if form == "csv":
        assert len(path.read_text().strip().splitlines()) == 6
    assert path.stat().st_size > 0


def test_baselines_are_of_the_same_problem_and_make_the_report(bench: Bench) -> None:
    (bench.path / "mine.py").write_text("def look(point):\n    return {'y': 1 - abs(point['x'] - 0.6)}\n")
    done = do(bench, "run", str(bench.path / "slow.yaml"), "--trials", "6", "--strategy", "sobol", "--baseline", "2")
    assert done.exit_code == 0, done.output
    listed = json.loads(do(bench, "list", "--json").stdout)["campaigns"]
    # Random points need longer to find as much.
    longer = LONGER * 6
    assert [(c["id"], c["strategy"], c["trials"]) for c in listed] == [
        ("slow", "sobol", 6), ("slow-random-1", "random", longer), ("slow-random-2", "random", longer),
    ]  # fmt: skip
    report = Path(done.stdout.splitlines()[-1].removeprefix("report "))
    assert report.is_file()
    again = json.loads(do(bench, "report", "slow", "--json").stdout)
    assert Path(again["report"]) == report


def test_without_the_report_extra_a_run_succeeds_and_says_what_to_install(bench: Bench) -> None:
    script = "import sys; sys.modules['plotly'] = None; from firstlight.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "run", "slow.yaml", "--trials", "2"], cwd=bench.path, env=bench.environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "pip install 'firstlight[report]'" in done.stderr


@pytest.mark.parametrize(
    "verb", ["show", "explain", "watch", "resume", "pause", "stop", "cancel", "report", "export", "log"]
)
def test_an_unknown_campaign_is_bad_input_with_a_suggestion(finished: Bench, verb: str) -> None:
    done = do(finished, verb, "slwo")
    assert done.exit_code == Exit.BAD_INPUT
    assert done.stderr.strip() == "there is no campaign 'slwo'; did you mean 'slow'?"
    problem = json.loads(do(finished, verb, "slwo", "--json").stderr)["error"]
    assert (problem["code"], problem["kind"]) == (2, "bad-input")


@pytest.mark.parametrize("verb", ["run", "validate"])
@pytest.mark.parametrize("source", [*BAD, Path("no-such.yaml"), Path("critical-material")], ids=lambda p: p.name)
def test_bad_input_is_told_line_by_line_and_leaves_nothing_behind(bench: Bench, verb: str, source: Path) -> None:
    done = do(bench, verb, str(source))
    assert done.exit_code == Exit.BAD_INPUT, done.output
    assert "Traceback" not in done.output
    assert done.stderr.strip()
    assert not (bench.path / "home").exists()


def test_there_are_bad_campaigns_to_try() -> None:
    assert BAD


def test_validate_answers_in_json(bench: Bench) -> None:
    good = json.loads(do(bench, "validate", str(bench.path / "slow.yaml"), "--json").stdout)
    assert good == {"valid": True, "campaign": "slow", "problems": []}
    (bench.path / "bad.yaml").write_text((bench.path / "slow.yaml").read_text() + "colour: red\n")
    done = do(bench, "validate", str(bench.path / "bad.yaml"), "--json")
    assert done.exit_code == Exit.BAD_INPUT
    answer = json.loads(done.stdout)
    assert not answer["valid"]
    assert any("colour" in problem for problem in answer["problems"])


def test_what_init_writes_runs(bench: Bench) -> None:
    made = json.loads(do(bench, "init", str(bench.path / "new"), "--json").stdout)
    assert do(bench, "validate", made["campaign"]).exit_code == 0
    done = do(bench, "run", made["campaign"], "--trials", "3", "--no-report", "--strategy", "sobol")
    assert done.exit_code == 0, done.output
    assert do(bench, "init", str(bench.path / "new")).exit_code in (Exit.BAD_INPUT, Exit.UNAVAILABLE)


def test_a_domain_is_a_campaign(bench: Bench) -> None:
    assert "critical-materials" in do(bench, "domains").stdout
    names = {d["name"] for d in json.loads(do(bench, "strategies", "--json").stdout)["strategies"]}
    assert {"bayes", "random", "sobol"} <= names
    assert do(bench, "validate", "critical-materials").exit_code == 0


def test_a_place_that_cannot_hold_a_journal_is_unavailable(bench: Bench) -> None:
    (bench.path / "file").write_text("")
    done = do(bench, "run", str(bench.path / "slow.yaml"), "--data-dir", str(bench.path / "file" / "home"))
    assert done.exit_code == Exit.UNAVAILABLE, done.output
    assert len(done.stderr.strip().splitlines()) == 1


def test_audit_finds_what_was_altered(finished: Bench) -> None:
    assert json.loads(do(finished, "audit", "verify", "--json").stdout) == {"sound": True, "findings": []}
    connection = sqlite3.connect(finished.path / "home" / "journal.sqlite")
    connection.execute(
        "UPDATE entries SET line = CAST(replace(CAST(line AS TEXT), 'slow', 'fast') AS BLOB) WHERE seq = 3"
    )
    connection.commit()
    connection.close()
    done = do(finished, "audit", "verify")
    assert done.exit_code == Exit.DAMAGED
    assert done.stdout.startswith("slow 3")


def test_a_bug_is_one_line_unless_debugging(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(here: Here) -> None:
        raise KeyError("x")

    for debug in (False, True):
        with pytest.raises(SystemExit) as end:
            _perform(Here(False, None, debug), broken)
        assert end.value.code == Exit.BUG
        said = capsys.readouterr().err
        assert "internal error: KeyError" in said
        assert ("Traceback" in said) is debug


def test_every_refusal_of_a_part_has_its_exit_code() -> None:
    assert explain(core.Held("c1", "ada")).exit is Exit.HELD
    assert explain(core.Unavailable("no disk")).exit is Exit.UNAVAILABLE
    assert explain(OSError(28, "No space left on device")).exit is Exit.UNAVAILABLE
    assert explain(plugins.UnknownPart("no such")).exit is Exit.BAD_INPUT
    assert explain(core.InconsistentError("entry 3 cannot follow")).exit is Exit.DAMAGED
    assert explain(Problem(Exit.REFUSED, "no")).exit is Exit.REFUSED
    assert explain(ZeroDivisionError()).exit is Exit.BUG


def test_help_is_quick_and_loads_no_numbers() -> None:
    clock = "import sys, time; start = time.process_time()\n"
    print_it = (
        "print(time.process_time() - start, *(m for m in ('numpy', 'scipy', 'pint', 'yaml') if m in sys.modules))"
    )
    libraries = "import asyncio, importlib.metadata, msgspec, rich.live, rich.markdown, typer.rich_utils\n"
    help_ = "from firstlight.cli import cli\ntry: cli(['--help'], prog_name='firstlight')\nexcept SystemExit: pass\n"

    def took(script: str) -> float:
        done = subprocess.run(
            [sys.executable, "-c", clock + script + print_it], capture_output=True, text=True, check=True
        )
        seconds, *heavy = done.stdout.splitlines()[-1].split()
        assert heavy == []
        return float(seconds)

    # A machine at work is slow with both: the libraries that help is written with are half of it.
    assert min(took(help_) / took(libraries) for _ in range(3)) < 3
