"""The hob of the instrument contract as plans of a queue server, whose worker loads this file.

What it performs is appended to the file in HOB_LOG.
"""

# mypy: disable-error-code="import-not-found,import-untyped,misc,untyped-decorator,no-untyped-call"

import os
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
from bluesky import RunEngine
from bluesky.plans import count, scan  # noqa: F401
from bluesky_queueserver import parameter_annotation_decorator as annotated
from ophyd.sim import det, motor  # noqa: F401

RE = RunEngine({})


def performed(operation: str) -> None:
    if path := os.environ.get("HOB_LOG"):
        with Path(path).open("a") as log:
            log.write(f"{operation}\n")


@annotated({"parameters": {"Target": {"description": "in degC", "min": 20.0, "max": 200.0, "step": 0.5}}})
def Heat(Target: float, Seconds: float = 0.2) -> Iterator[Any]:
    """Heat and hold."""
    performed("Heat")
    yield from bps.open_run()
    for _ in range(10):
        yield from bps.checkpoint()
        yield from bps.sleep(Seconds / 10)
    yield from bps.close_run()


@annotated({"parameters": {"Speed": {"annotation": "Speeds", "enums": {"Speeds": ["slow", "fast"]}}}})
def Add(Volume: float, To: str, Speed: str = "slow") -> Iterator[Any]:
    """Add a liquid to a vessel."""
    performed("Add")
    performed(f"{Volume} {To} {Speed}")
    yield from bps.null()


def Break() -> Iterator[Any]:
    """Always faults."""
    performed("Break")
    yield from bps.null()
    raise RuntimeError("element is broken")


@annotated({"parameters": {"positions": {"min": -10, "max": 10}}})
def Visit(positions: typing.List[float], times: typing.Optional[int] = None) -> Iterator[Any]:  # noqa: UP006, UP045
    """Move the motor to one position after another."""
    for position in positions * (times or 1):
        yield from bps.mv(motor, position)
