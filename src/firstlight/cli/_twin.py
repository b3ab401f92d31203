"""Verbs for the laboratory that is simulated: start it, end it."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from . import _parts as parts
from ._output import Exit, Here, Problem, columns
from ._verb import settings

TwinName = Annotated[str, typer.Option("--lab", metavar="NAME", help="What campaigns call it.")]
Speed = Annotated[float, typer.Option(min=0.1, max=10_000, help="How many times as fast as ours its time runs.")]
TwinSeed = Annotated[int, typer.Option("--seed", help="Of its noise and faults.")]
Faults = Annotated[str, typer.Option(help='What goes wrong: none, all, or such as "handler.clog=0.1,mover.hang=0.01".')]
STARTING = 60.0
"""Seconds for a laboratory to start or end."""


def up(here: Here, lab: TwinName = "cell", speed: Speed = 60.0, seed: TwinSeed = 1, faults: Faults = "none") -> None:
    """Start a simulated laboratory in the background, and add it to the data directory's facilities.

    Its robots are processes that speak the protocols of real ones. Each time it is a fresh one.
    """
    told = settings(here)
    directory = told.data_dir / "laboratories" / lab
    # Nothing is begun that could not be used afterwards.
    parts.config.check_facility_name(lab)
    try:
        parts.twin.read_faults(faults)
    except ValueError as error:
        raise Problem(Exit.BAD_INPUT, f"--faults: {error}") from error
    if twin := _running(directory):
        raise Problem(
            Exit.REFUSED,
            f"laboratory {lab} is up already (process {twin})",
            hint=f"`firstlight lab down{_of(lab)}` ends it.",
        )
    if lab == "local" or (lab in told.facilities and told.facilities[lab].get("kind") != "lab"):
        raise Problem(Exit.BAD_INPUT, f"{lab} is another facility of this data directory: give --lab another name")
    known = told.data_dir / "facilities" / lab
    if known.exists():
        known.rename(known.with_name(f"{lab}-until-{time.strftime('%Y%m%dT%H%M%S')}"))
    with here.out.status("the robots are starting") if here.live else nullcontext():
        said = _start(directory, speed, seed, faults)
    if lab not in told.facilities:
        parts.config.add_facility(told, lab, {"kind": "lab", "measures": False, "file": said["file"]})
    table = columns("instrument", "address")
    for name, address in said["instruments"].items():
        table.add_row(name, address)
    here.tell({"facility": lab, **said}, table)
    where = "" if lab == "cell" else f" --facility {lab}"
    here.say(
        f"laboratory {lab} is up; `firstlight run autonomous-lab{where}` uses it, "
        f"and `firstlight lab down{_of(lab)}` ends it"
    )


def _of(lab: str) -> str:
    return "" if lab == "cell" else f" --lab {lab}"


def _start(directory: Path, speed: float, seed: int, faults: str) -> dict[str, Any]:
    directory.mkdir(parents=True, exist_ok=True)
    answer, log = directory / "up.json", directory / "up.log"
    command = [
        sys.executable, "-m", "firstlight.facilities.lab.twin.up", "--directory", str(directory), "--speed",
        repr(speed), "--seed", str(seed), "--faults", faults, "--json",
    ]  # fmt: skip
    with answer.open("wb") as out, log.open("ab") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
    until = time.monotonic() + STARTING
    while not (text := answer.read_text()).endswith("\n"):
        if process.poll() is not None or time.monotonic() > until:
            process.terminate()
            raise Problem(Exit.UNAVAILABLE, f"the laboratory did not start; {log} says: {log.read_text()[-1500:]}")
        time.sleep(0.05)
    found: dict[str, Any] = json.loads(text)
    return found


def _running(directory: Path) -> int | None:
    """The process that keeps the laboratory of a directory up, None where there is none."""
    try:
        starter = int(json.loads((directory / "twin.json").read_text())["starter"])
        os.kill(starter, 0)
    except (OSError, ValueError, KeyError):
        return None
    return starter


def down(here: Here, lab: TwinName = "cell") -> None:
    """End a simulated laboratory. Runs under way end with it."""
    directory = settings(here).data_dir / "laboratories" / lab
    twin = _running(directory)
    if twin is None:
        raise Problem(Exit.REFUSED, f"no simulated laboratory {lab} is up", hint="`firstlight lab up` starts one.")
    os.kill(twin, signal.SIGTERM)
    until = time.monotonic() + STARTING
    while _running(directory) is not None and time.monotonic() < until:
        time.sleep(0.05)
    (directory / "twin.json").unlink(missing_ok=True)
    here.tell({"facility": lab, "ended": True}, f"laboratory {lab} is down")
