"""A campaign in the twin laboratory, as people run it: everything by the command line, with faults, and a person."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

for module in ("sila2", "asyncua", "p4p"):
    pytest.importorskip(module)

from firstlight.cli import cli  # noqa: E402
from firstlight.facilities.lab.twin import control  # noqa: E402

ID = "autonomous-lab"


def command(home: Path, *words: str) -> list[str]:
    return [str(Path(sys.executable).with_name("firstlight")), *words, "--data-dir", str(home)]


def firstlight(home: Path, *words: str) -> str:
    done = subprocess.run(command(home, *words), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def read(home: Path, *words: str) -> Any:
    """The same with --json, in this process: whoever looks again and again need not wait for another one to begin."""
    done = CliRunner().invoke(cli, [*words, "--json", "--data-dir", str(home)])
    assert done.exit_code == 0, (words, done.output)
    return json.loads(done.stdout)


def left(home: Path) -> list[str]:
    """Processes that were started for a data directory, or by those that were."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            said = Path(f"/proc/{entry}/cmdline").read_bytes().decode().replace("\0", " ")
            made = Path(f"/proc/{entry}/environ").read_bytes().decode()
        except OSError:
            continue
        if f"JOURNEY={home}" in made and int(entry) != os.getpid():
            found.append(said)
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("JOURNEY", str(tmp_path / "home"))
    firstlight(tmp_path / "home", "lab", "up", "--speed", "600", "--faults", "all")
    try:
        yield tmp_path / "home"
    finally:
        subprocess.run(command(tmp_path / "home", "lab", "down"), capture_output=True, timeout=60, check=False)


def look(home: Path, twin: Path, action: str) -> str:
    """What a person sees who goes to the laboratory: done, again, or "" while it is still at work."""
    name = action.rpartition(".")[2]
    state = control.state(twin)
    if state["busy"]:
        return ""
    where = {s["id"]: s["location"] for s in read(home, "lab", "stock")["samples"]}
    trial, number = action.rpartition(".")[0], re.search(r"-(\d+)$", name)
    well = where[f"{trial}-{number[1]}" if number else trial]
    plate = well.partition("/")[0]
    if name.startswith("to-"):
        to = re.sub(r"-\d+$", "", name).removeprefix("to-")
        to = plate.replace("plate", "hotel") if to == "home" else to
        return "done" if state["places"][to] == plate else "again"
    done = [e for e in control.executions(twin) if e["outcome"] == "done"]
    reagent = "solvent" if name.startswith("fill-up") else re.sub(r"-\d+$", "", name).removeprefix("add-")
    if name.startswith(("add-", "fill-up")):
        return "done" if any((e["arguments"].get("Reagent"), e["arguments"].get("Well")) == (reagent, well)
                             for e in done) else "again"  # fmt: skip
    kind = "Heat" if name.startswith("heat") else "Anneal" if name.startswith("anneal") else ""
    return "done" if kind and any(e["operation"] == kind for e in done) else "again"


def attend(home: Path, twin: Path) -> list[str]:
    """One round of the person."""
    said: list[str] = []
    for one in read(home, "attend")["waiting"]:
        if one["status"] == "lost" and (word := look(home, twin, one["action"])):
            done = subprocess.run(command(home, "attend", ID, one["action"], word), capture_output=True, check=False)
            said += [word] * (done.returncode == 0)
    # The needle is washed when somebody passes by.
    control.clear(twin, "handler", "clog")
    return said


def test_a_campaign_through_faults_ends_and_accounts_for_every_sample(home: Path) -> None:
    twin = home / "laboratories" / "cell"
    # A server that dies in the middle of a dose: nobody but a person can tell whether it was given.
    control.fault(twin, "handler", "crash")
    with (home / "run.log").open("wb") as log:
        running = subprocess.Popen(command(home, "run", ID, "--trials", "8"), stdout=log, stderr=log)
    said: list[str] = []
    until = time.monotonic() + 150.0
    try:
        while running.poll() is None and time.monotonic() < until:
            said += attend(home, twin)
            time.sleep(0.5)
    finally:
        if running.poll() is None:
            running.kill()
            running.wait()
    assert running.returncode == 0, (home / "run.log").read_text()[-3000:]
    assert said, "nothing was in doubt"
    assert read(home, "show", ID)["state"] == "closed"
    report = next((home / "reports").glob(f"{ID}*/report.html")).read_text()
    found = re.search(r"([\d,]+) planned = (\d+) measured \+ (\d+) failed.*? \+ (\d+) discarded\.", report)
    assert found, "the report does not account for the samples"
    planned, measured, failed, discarded = map(int, found.groups())
    assert planned == 16 == measured + failed + discarded
    doses = [(e["arguments"]["Reagent"], e["arguments"]["Well"]) for e in control.executions(twin)
             if e["operation"] == "Dispense" and e["outcome"] == "done"]  # fmt: skip
    assert len(doses) == len(set(doses))
    firstlight(home, "lab", "down")
    until = time.monotonic() + 10.0
    while left(home) and time.monotonic() < until:
        time.sleep(0.1)
    assert left(home) == []
