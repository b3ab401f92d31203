"""A small action that says where it ran: what `firstlight facility check` has performed."""

import getpass
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..core import Point

NOTE = "from here to there and back"
REPORT = "probe.json"


def probe(point: Point, note: str) -> dict[str, float]:
    """Read the input `note` and leave a report beside it: machine, person, Python, Firstlight, cores."""
    try:
        ours = version("firstlight")
    except PackageNotFoundError:
        ours = "not installed, only on the path"
    seen = {
        "host": platform.node(), "person": getpass.getuser(), "python": platform.python_version(), "firstlight": ours,
        "cores": len(os.sched_getaffinity(0)), "note": Path(note).read_text(), "directory": os.getcwd(),
    }  # fmt: skip
    Path(REPORT).write_text(json.dumps(seen))
    return {"cores": float(len(os.sched_getaffinity(0)))}
