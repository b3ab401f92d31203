"""What the jobs of these tests do."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def total(point: dict[str, Any]) -> dict[str, float]:
    """The sum of x over all ranks, and how many machines' daemons have started them."""
    from mpi4py import MPI  # noqa: PLC0415 (importing it begins MPI)

    world = MPI.COMM_WORLD
    nodes = set(world.allgather(os.environ["SLURMD_NODENAME"]))
    return {"y": world.allreduce(point["x"]), "ranks": float(world.Get_size()), "nodes": float(len(nodes))}


def warned(point: dict[str, Any]) -> float:
    """Works until it is warned, and has done so for the second time."""
    done = Path(os.environ["FIRSTLIGHT_CHECKPOINT"], "warned")
    signal.signal(signal.SIGUSR1, lambda *_: (done.open("a").write("x"), sys.exit(75)))
    done.with_name(f"listening-{os.getpid()}").touch()
    if done.exists():
        return float(len(done.read_text()))
    time.sleep(200)
    return 0.0


def who(point: dict[str, Any]) -> dict[str, float]:
    """Whether what was set up is there."""
    names = ("BEFORE", "SET_UP", "IMAGE")
    return {"y": float(sum(name in os.environ for name in names)), "by": float("fl-" in os.environ["FIRSTLIGHT_BY"])}
