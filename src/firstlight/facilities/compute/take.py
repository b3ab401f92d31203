"""Perform one action on a node: python -m firstlight.facilities.compute.take RUN-DIRECTORY [LAUNCHER ...].

The exit code says no more than whether there is a result: 0 where there is one, 75 where it is to be continued, and 1
where it may not be begun again.
"""

import os
import platform
import sys
from pathlib import Path

from ._command import CONTINUED
from ._rundir import RunDirectory
from ._take import take


def main() -> int:
    """Perform it, and return the exit code."""
    directory, launcher = Path(sys.argv[1]), sys.argv[2:]
    by = f"{os.environ.get('FIRSTLIGHT_BY', 'process')} {os.getpid()} on {platform.node()}"
    if take(directory, by, launcher) is not None:
        return 0
    permit = RunDirectory(directory).spec()
    return CONTINUED if permit and permit.action.repeatable else 1


if __name__ == "__main__":
    sys.exit(main())
