"""A worker: a fresh interpreter that performs one action after the other, and commits each by itself."""

import contextlib
import ctypes
import faulthandler
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec.structs import replace

from ....core import Action, Failure, Outcome
from .._call import NotLoaded, call, load
from ._command import run_command
from ._store import commit_patiently, tail
from ._wire import Done, Work, pack, receive_blocking

GRACE = 5.0
"""Seconds after which a worker ends itself if its supervisor, dead perhaps, has not enforced the limit."""

_libc = ctypes.CDLL(None)


def main() -> None:
    """Serve the supervisor at the other end of the descriptor given, until it closes it."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    faulthandler.enable()
    # Where memory runs out, the kernel should take the computation and not what looks after it.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    decoder = msgspec.json.Decoder(Work)
    me = os.getpid()
    with channel, contextlib.suppress(ConnectionError):
        channel.sendall(pack(Done()))
        while work := receive_blocking(channel, decoder):
            attempt = Path(work.attempt)
            outcome = perform(work.permit.action, attempt)
            if os.getpid() != me:  # The function forked, and this is the child.
                os._exit(0)
            channel.sendall(pack(Done(outcome=commit_patiently(attempt.parent, outcome, work.fsync))))


def perform(action: Action, attempt: Path) -> Outcome:
    """The outcome of one action, its times and the last lines of its log included."""
    started = time.time()
    with _captured(attempt.with_suffix(".log")), _alarm(action.limits.seconds):
        os.environ["FIRSTLIGHT_ACTION"] = action.id
        outcome = _perform(action, attempt)
    if isinstance(outcome, Failure) and not outcome.log:
        outcome = replace(outcome, log=tail(attempt))
    return replace(outcome, started=outcome.started or started, ended=outcome.ended or time.time())


def _perform(action: Action, attempt: Path) -> Outcome:
    if action.operation == "command":
        try:
            return run_command(action, attempt)
        except subprocess.TimeoutExpired as error:
            return Failure(cause="timed-out", message=f"ran longer than {error.timeout:g} s")
    try:
        function = load(action.operation, str(action.settings.get("directory") or ""))
    except NotLoaded as error:
        return Failure(cause="invalid-input", message=str(error))
    return call(function, action)


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


@contextlib.contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    """Have the kernel end this process some time after the limit."""
    if seconds is None:
        yield
        return
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds + 2 * GRACE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # The function may have closed or replaced it.
            stream.flush()
    _libc.fflush(None)


if __name__ == "__main__":
    main()
