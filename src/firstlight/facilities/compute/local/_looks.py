"""How the local facility is, as can be seen without asking its supervisor: nothing is started, nothing is changed."""

import os
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from ....core import Action, FacilityStatus, Finding, JobStatus, Unavailable
from .. import _processes
from .._rundir import existing, run_directory, safe_name, unusable
from .._wire import address
from ._store import Claim


def status(root: Path, action: Action | None) -> FacilityStatus:
    """This machine, and how many actions of this root run on it. Raises Unavailable."""
    if why := unusable(root):
        raise Unavailable(f"the local facility cannot use its directory {root}: {why}")
    return FacilityStatus(
        state="up", unfit="runs no containers" if action is not None and action.resources.container else "",
        nodes=1, cores=_cores(), gpus=sum(1 for _ in Path("/dev").glob("nvidia[0-9]*")), memory=_memory(),
        running=sum(1 for _ in _claims(root)), wait=None,
    )  # fmt: skip


def job(root: Path, action: str) -> JobStatus:
    """How far an action has come. Raises Unavailable."""
    run = run_directory(root, action)
    try:
        if run.result() is not None:
            return JobStatus(state="ended")
        claim = next((c for c in _claims(root, action) if _processes.started(c.pid) == c.started), None)
        if claim is not None:
            return JobStatus(
                state="active", native=f"process {claim.pid}", message=f"for {time.time() - claim.at:.0f} s"
            )
        if run.spec() is None:
            return JobStatus(state="unknown", message="nothing is known of it here")
    except OSError as error:
        raise Unavailable(f"the local facility cannot read its directory {root}: {error}") from error
    return JobStatus(state="queued", message="waits for a free slot")


def examine(root: Path, launcher: Sequence[str]) -> list[Finding]:
    """What an action needs here, the most basic first."""
    why = unusable(root)
    found = [
        Finding(
            what="its directory", right=not why, seen=why or str(root),
            advice="" if not why else "Free it, correct its permissions, or name another root in firstlight.toml.",
        )
    ]  # fmt: skip
    if not why:
        free = shutil.disk_usage(existing(root)).free
        found.append(
            Finding(
                what="room on its disk", right=free > 2**28, seen=f"{free / 2**30:.1f} GiB free",
                advice="" if free > 2**28 else "Free some, or name a root on another disk in firstlight.toml.",
            )
        )  # fmt: skip
        found.append(_socket(root))
    found.append(
        Finding(what="this machine", right=True, seen=f"{_cores()} cores, {_memory() / 2**30:.1f} GiB of memory")
    )
    program = launcher[0] if launcher else ""
    seen = shutil.which(program) or f"there is no {program!r}, which only actions of several processes need"
    found.append(Finding(what="what starts several processes together", right=True, seen=seen))
    return found


def _socket(root: Path) -> Finding:
    try:
        where = address(root, "supervisor")
    except OSError as error:
        return Finding(what="its supervisor", right=False, seen=str(error), advice="Remove that folder, or set TMPDIR.")
    with socket.socket(socket.AF_UNIX) as channel:
        try:
            channel.connect(where)
        except OSError:
            return Finding(what="its supervisor", right=True, seen="does not run; it is started when it is needed")
    return Finding(what="its supervisor", right=True, seen="runs")


def _claims(root: Path, action: str = "") -> Iterator[Claim]:
    folder = root / "running"
    names = [safe_name(action)] if action else (os.listdir(folder) if folder.is_dir() else [])
    for name in names:
        try:
            if not name.startswith("."):
                yield msgspec.json.decode((folder / name).read_bytes(), type=Claim)
        except FileNotFoundError:
            continue


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
