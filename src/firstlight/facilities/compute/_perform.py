"""Perform one action in this process, or in programs that it starts, and say what came of it."""

import contextlib
import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from ...core import Action, Asset, Failure, Outcome
from ..assets import AssetStore, Corrupt
from ._call import NotLoaded, call, load
from ._command import CONTINUED, run_command
from ._rundir import RunDirectory, tail

_libc = ctypes.CDLL(None)
_outcome: msgspec.json.Decoder[Outcome] = msgspec.json.Decoder(Outcome)


def perform(action: Action, attempt: Path, launcher: Sequence[str] = ()) -> Outcome | None:
    """The outcome of one action, its times, the last lines of its log and the files it left included.

    `attempt` is what the names of its files begin with, in the action's run directory. `launcher` is what starts
    several processes together (`mpirun -n {processes}`). None says that it stopped in order to be continued later: a
    command or function says so by exit code 75, which is EX_TEMPFAIL of sysexits.h.
    """
    started = time.time()
    with _captured(attempt.with_suffix(".log")):
        os.environ["FIRSTLIGHT_ACTION"] = action.id
        os.environ["FIRSTLIGHT_CHECKPOINT"] = str(RunDirectory(attempt.parent).checkpoint)
        outcome = _staged(action, attempt, launcher)
    if outcome is None:
        return None
    if isinstance(outcome, Failure) and not outcome.log:
        outcome = replace(outcome, log=tail(attempt))
    return replace(outcome, started=outcome.started or started, ended=outcome.ended or time.time())


def _staged(action: Action, attempt: Path, launcher: Sequence[str]) -> Outcome | None:
    """With its inputs in its directory, and its outputs kept."""
    if not action.inputs and not action.outputs:
        return _perform(action, attempt, launcher)
    # The root of a facility has the assets beside the run directories.
    store = AssetStore(attempt.parent.parent.parent / "assets")
    attempt.mkdir(exist_ok=True)
    try:
        for name, asset in action.inputs.items():
            (attempt / name).symlink_to(store.check(asset))
    except (FileNotFoundError, Corrupt) as error:
        return Failure(cause="invalid-input", message=f"input {name}: {error}")
    here = os.getcwd()
    os.chdir(attempt)
    try:
        outcome = _perform(action, attempt, launcher)
    finally:
        os.chdir(here)
    if outcome is None:
        return None
    return replace(outcome, assets=(*outcome.assets, *_outputs(action, attempt, store)))


def _outputs(action: Action, attempt: Path, store: AssetStore) -> list[Asset]:
    """The files that match the patterns, each once, in the order of their names; inputs are none."""
    found = {file for pattern in action.outputs for file in attempt.glob(pattern) if file.is_file()}
    names = {file.relative_to(attempt).as_posix(): file for file in found}
    return [store.adopt(names[name], uri=name) for name in sorted(names) if name not in action.inputs]


def _perform(action: Action, attempt: Path, launcher: Sequence[str]) -> Outcome | None:
    together = launch(action, launcher) if action.resources.processes > 1 or action.resources.nodes > 1 else ()
    if action.operation == "command":
        try:
            return run_command(action, attempt, together)
        except subprocess.TimeoutExpired as error:
            return Failure(cause="timed-out", message=f"ran longer than {error.timeout:g} s")
    if together:
        return _ranks(action, attempt, together)
    try:
        function = load(action.operation, str(action.settings.get("directory") or ""))
    except NotLoaded as error:
        return Failure(cause="invalid-input", message=str(error))
    return call(function, action)


def launch(action: Action, launcher: Sequence[str]) -> list[str]:
    """What starts the processes of an action, with {nodes}, {processes}, {cores} and {gpus} filled in."""
    needs = action.resources
    known = {"nodes": needs.nodes, "processes": needs.processes, "cores": needs.cores, "gpus": needs.gpus}
    return [word.format_map(known) for word in launcher]


# Runs the rest with the warning ignored, until it makes its own arrangements: neither a launcher nor a process that it
# has just started is ended by one that comes early.
_UNWARNED = ("sh", "-c", 'trap "" USR1; exec "$@"', "sh")


def _ranks(action: Action, attempt: Path, launcher: Sequence[str]) -> Outcome | None:
    """Call a function in several processes at once; what the first of them gives back is the outcome."""
    code = subprocess.run(
        [*_UNWARNED, *launcher, *_UNWARNED, sys.executable, "-m", "firstlight.facilities.compute.rank", str(attempt)],
        stdin=subprocess.DEVNULL, check=False,
    ).returncode  # fmt: skip
    try:
        return _outcome.decode(attempt.with_suffix(".outcome").read_bytes())
    except FileNotFoundError:
        if code == CONTINUED:
            return None
        message = f"its processes ended with exit code {code}, and the first of them left no outcome"
        return Failure(cause="crashed", message=message)


def rank_of(environment: os._Environ[str]) -> int:
    """Which of several processes this is, as the launcher says; 0 where there is none."""
    for name in ("PMIX_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"):
        if (value := environment.get(name, "")).isdigit():
            return int(value)
    return 0


def perform_rank(attempt: Path) -> int:
    """This process's part of an action that several perform; the exit code."""
    permit = RunDirectory(attempt.parent).spec()
    if permit is None:
        print(f"{attempt.parent} has no spec.json", file=sys.stderr)
        return 2
    outcome = _perform(replace(permit.action, resources=type(permit.action.resources)()), attempt, ())
    if outcome is None:
        return CONTINUED
    if rank_of(os.environ) == 0:
        attempt.with_suffix(".outcome").write_bytes(msgspec.json.encode(outcome))
    return 0


@contextlib.contextmanager
def _captured(log: Path) -> Iterator[None]:
    """Everything written to the standard streams goes to this file, C code and dying words included."""
    kept = [os.dup(1), os.dup(2)]
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)
        yield
    finally:
        _flush()
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for descriptor in kept:
            os.close(descriptor)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # The function may have closed or replaced it.
            stream.flush()
    _libc.fflush(None)
