"""Work that may bring its process down, in a process of its own."""

import subprocess
import sys
from pathlib import Path

from ._contents import Unreadable

_SECONDS, _BYTES_A_SECOND = 300, 2**20
"""How long reading may take: a while, and longer for a large file."""


def apart(module: str, path: Path) -> bytes:
    """What a module of ours prints about a file. Raises Unreadable where its process dies or takes for ever.

    Libraries in C were written for sound files: one damaged byte can make them read where there is no memory.
    """
    allowed = _SECONDS + path.stat().st_size / _BYTES_A_SECOND
    # With -P, so that nothing is imported from where somebody happens to work.
    command = [sys.executable, "-P", "-m", module, str(path)]
    try:
        ended = subprocess.run(command, capture_output=True, timeout=allowed, stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired as error:
        raise Unreadable(path, f"reading it took more than {allowed:.0f} s", "check that it is not damaged") from error
    if ended.returncode:
        why = f"signal {-ended.returncode}" if ended.returncode < 0 else f"status {ended.returncode}"
        last = ended.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
        raise Unreadable(
            path, f"its library came to grief over it ({why}{f', {last}' if last else ''}): it is damaged",
            "copy it again, and close files properly where they are written",
        )  # fmt: skip
    return ended.stdout
