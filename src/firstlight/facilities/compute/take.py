"""Perform one action on a node: python -m firstlight.facilities.compute.take RUN-DIRECTORY [LAUNCHER ...].

The exit code says no more than whether there is a result: 0 where there is one, 75 where it is to be continued, and 1
where it may not be begun again.

SIGUSR1, by which a batch system says that the time of its job is nearly over, is passed on to the command or to what
starts the processes of an action. A function that is called in this very process may handle it itself.
"""

import contextlib
import os
import platform
import signal
import sys
from pathlib import Path

from . import _processes
from ._command import CONTINUED, WARNING
from ._rundir import RunDirectory
from ._take import take


def main() -> int:
    """Perform it, and return the exit code."""
    directory, launcher = Path(sys.argv[1]), sys.argv[2:]
    by = f"{os.environ.get('FIRSTLIGHT_BY', 'process')} {os.getpid()} on {platform.node()}"
    signal.signal(WARNING, lambda *_: _pass_on(directory))
    if take(directory, by, launcher) is not None:
        return 0
    permit = RunDirectory(directory).spec()
    return CONTINUED if permit and permit.action.repeatable else 1


def _pass_on(directory: Path) -> None:
    permit = RunDirectory(directory).spec()
    if permit is None:
        return
    needs = permit.action.resources
    if permit.action.operation == "command" or needs.processes > 1 or needs.nodes > 1:
        for child in _processes.children(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, WARNING)


if __name__ == "__main__":
    sys.exit(main())
