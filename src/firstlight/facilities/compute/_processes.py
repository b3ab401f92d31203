"""What the kernel knows of processes (Linux: /proc)."""

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

from ...core import Cause

ONE_THREAD = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip
"""Trials run side by side; were each to use all cores, all would be slower. Whoever sets these is heeded."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


class _Stat(NamedTuple):
    state: str
    parent: int
    session: int
    started: int
    pages: int


def boot() -> str:
    """This boot of this machine: process ids mean nothing across it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def started(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 if there is no such process or it has ended."""
    stat = _stat(pid)
    return stat.started if stat and stat.state not in "ZX" else 0


def own_memory(pid: int) -> int:
    """Resident bytes of one process, 0 if it has ended."""
    stat = _stat(pid)
    return stat.pages * _PAGE if stat else 0


def family(pid: int) -> dict[int, int]:
    """The process, its session and all its descendants, with their resident bytes.

    Pages that forked processes share are counted in each of them.
    """
    everyone = _everyone()
    members = {p for p, stat in everyone.items() if p == pid or stat.session == pid}
    grown = True
    while grown:
        children = {p for p, stat in everyone.items() if stat.parent in members and p not in members}
        members |= children
        grown = bool(children)
    return {p: everyone[p].pages * _PAGE for p in members}


def children(pid: int) -> list[int]:
    """The processes that this one started, and that have not ended."""
    return [p for p, stat in _everyone().items() if stat.parent == pid and stat.state not in "ZX"]


def marked(mark: str) -> list[int]:
    """The processes of this user in whose environment there is something that begins so, "NAME=value"."""
    found, sought = [], mark.encode()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment = Path("/proc", name, "environ").read_bytes()
        except OSError:  # It has ended, or is somebody else's.
            continue
        if environment.startswith(sought) or b"\0" + sought in environment:
            found.append(int(name))
    return found


def kill_family(pid: int) -> None:
    """Kill the process and whatever it started, its own process last so that nothing is orphaned before."""
    for member in sorted(family(pid), key=lambda p: p == pid):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(member, signal.SIGKILL)


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since boot."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def cause_of_death(code: int, oom: bool) -> tuple[Cause, str]:
    """Why a process ended by itself, from its exit code; `oom` says that the kernel has been killing for memory."""
    number = -code if code < 0 else code - 128 if 128 < code < 128 + signal.NSIG else 0
    try:
        name = signal.Signals(number).name
    except ValueError:
        return "crashed", f"ended with exit code {code}"
    if number == signal.SIGKILL and oom:
        return "out-of-memory", "was killed by the kernel, which was out of memory"
    if code > 0:
        return "crashed", f"ended with exit code {code} (128 + {name})"
    return "crashed", f"was killed by signal {number} ({name})"


class MemoryWatch:
    """Looks at the resident memory of one worker and all it started, without becoming a load itself."""

    def __init__(self, pid: int) -> None:
        self._pid, self._rest, self._due = pid, 0, 0.0

    def resident(self) -> int:
        """Bytes. Its own are read every time; those of its children as often as a scan of /proc is cheap."""
        begun = time.monotonic()
        if begun >= self._due:
            self._rest = sum(size for pid, size in family(self._pid).items() if pid != self._pid)
            self._due = time.monotonic() + 20 * (time.monotonic() - begun)
        return own_memory(self._pid) + self._rest


def _everyone() -> dict[int, _Stat]:
    return {int(name): stat for name in os.listdir("/proc") if name.isdigit() and (stat := _stat(int(name)))}


def _stat(pid: int) -> _Stat | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            line = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = line[line.rindex(b")") + 2 :].split()  # The name before it may hold spaces and brackets.
    return _Stat(fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19]), int(fields[21]))
