"""A worker: a fresh interpreter that performs one action after the other, and commits each by itself."""

import contextlib
import faulthandler
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ....core import Failure
from .._perform import perform
from .._rundir import RunDirectory
from .._wire import pack, receive_blocking
from ._words import Done, Work

GRACE = 5.0
"""Seconds after which a worker ends itself if its supervisor, dead perhaps, has not enforced the limit."""


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
            with _alarm(work.permit.action.limits.seconds):
                outcome = perform(work.permit.action, attempt, work.launcher)
            if os.getpid() != me:  # The function forked, and this is the child.
                os._exit(0)
            # Nobody queues it again here.
            outcome = outcome or Failure(cause="crashed", message="ended with exit code 75, to be continued elsewhere")
            channel.sendall(pack(Done(outcome=RunDirectory(attempt.parent).commit_patiently(outcome, work.fsync))))


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


if __name__ == "__main__":
    main()
