"""What an earlier keeper has left behind, and how to be rid of it: its interchange, and blocks that nobody feeds.

pilots/<label>.json    what one generation of pilots consists of; it is there as long as any of it may be
"""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import msgspec

from .. import _processes
from .._rundir import replace_file

CANCEL = {
    "PBSProProvider": "qdel", "TorqueProvider": "qdel", "GridEngineProvider": "qdel", "LSFProvider": "bkill",
    "CondorProvider": "condor_rm",
}  # fmt: skip
"""How a job that is known by its number is cancelled."""
SETTLE = 2.0
"""Seconds in which a job that was just being submitted turns up."""
PATIENCE = 60.0


class Process(msgspec.Struct, frozen=True):
    """A process of this machine: known by its id, when it started, and the boot."""

    pid: int
    started: int
    boot: str

    @property
    def alive(self) -> bool:
        return self.boot == _processes.boot() and _processes.started(self.pid) == self.started


class Generation(msgspec.Struct, frozen=True):
    """What one generation of pilots consists of. Its label is in the names of its jobs, and nobody else's."""

    label: str
    provider: str
    keeper: Process
    interchange: Process | None = None
    """Whoever guards it, whose death is its own."""
    jobs: tuple[str, ...] = ()
    """By the provider's own numbers."""


def process(pid: int) -> Process:
    """A process as it is now."""
    return Process(pid=pid, started=_processes.started(pid), boot=_processes.boot())


def remember(folder: Path, generation: Generation) -> None:
    """Raises OSError."""
    replace_file(folder / f"{generation.label}.json", msgspec.json.encode(generation))


def recall(file: Path) -> Generation | None:
    """None where it has been cleared."""
    with contextlib.suppress(FileNotFoundError):
        return msgspec.json.decode(file.read_bytes(), type=Generation)
    return None


def left(folder: Path) -> list[Path]:
    """The files of generations that were not cleared."""
    return sorted(f for f in folder.glob("*.json") if not f.name.startswith("."))


def clear(file: Path) -> None:
    """End what there is of a generation whose keeper is gone, and forget it. Blocks for some seconds."""
    generation = recall(file)
    if generation is None or generation.keeper.alive:
        return
    guard = generation.interchange
    if guard and guard.alive and guard.pid != os.getpid():
        with contextlib.suppress(ProcessLookupError):
            os.kill(guard.pid, signal.SIGKILL)
    if generation.provider == "LocalProvider":
        kill_local(generation.label)
    elif generation.provider == "SlurmProvider":
        _clear_slurm(generation.label)
    elif generation.jobs and generation.provider in CANCEL:
        _run(CANCEL[generation.provider], *generation.jobs)
    file.unlink(missing_ok=True)


def kill_local(label: str, block: str = "") -> None:
    """Kill all blocks that are processes of this machine, or one, and whatever they started or left behind."""
    mark = f"JOBNAME=parsl.{label}.block-{block}{'.' if block else ''}"
    while found := [pid for pid in _processes.marked(mark) if pid != os.getpid()]:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _clear_slurm(label: str) -> None:
    """Cancel by name: numbers are given to others. A submission may be on its way while its client is dead."""
    deadline, quiet = time.monotonic() + PATIENCE, 0.0
    while time.monotonic() < deadline:
        said = _run("squeue", "--me", "--noheader", "--format=%i %j")
        mine = [] if said is None else [j.split()[0] for j in said.splitlines() if f".{label}." in j]
        if mine:
            _run("scancel", *mine)
        if mine or said is None:
            quiet = 0.0
        elif quiet and time.monotonic() - quiet > SETTLE:
            return
        else:
            quiet = quiet or time.monotonic()
        time.sleep(0.5)
    raise TimeoutError(f"the blocks of {label} could not be cancelled: see squeue --me")


def _run(*command: str) -> str | None:
    """What it says, None where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{command[0]}: {error}", flush=True)
        return None
    if done.returncode:
        print(f"{' '.join(command)}: {done.stderr.strip()}", flush=True)
        return None
    return done.stdout
