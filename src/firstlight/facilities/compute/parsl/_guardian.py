"""Stands between a keeper and its interchange, and ends what the keeper leaves behind when it is killed.

python -m firstlight.facilities.compute.parsl._guardian MARKER KEEPER INTERCHANGE...

Without a keeper the interchange would live for ever, and so would the blocks that are connected to it.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from ._leftovers import clear

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def main() -> int:
    """The exit code of the interchange, or 1 where the keeper has died."""
    marker, keeper, command = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    os.setsid()
    watched = os.pidfd_open(keeper)
    interchange = subprocess.Popen(command, preexec_fn=_die_with_me)
    ended = os.pidfd_open(interchange.pid)
    signal.signal(signal.SIGTERM, lambda *_: interchange.terminate())
    if os.getppid() == keeper:
        # Its configuration comes on stdin, which is the interchange's alone; whoever is silent hears of both ends here.
        ready, _, _ = select.select([watched, ended], [], [])
        if ended in ready and watched not in ready:
            return interchange.wait()
    interchange.kill()
    interchange.wait()
    clear(marker)
    return 1


def _die_with_me() -> None:
    """Where the guardian is killed, nobody would be left to look after the interchange."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
