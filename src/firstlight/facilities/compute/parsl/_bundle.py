"""A bundle in a worker: actions that are performed one after the other, each from its run directory."""

import os
import platform
import time
from pathlib import Path

import msgspec

from .._call import forget
from .._spare import Spare
from .._take import take
from ._words import Bundle, Done

GENERATION = "generation"
"""The file below `pilots/` that says whose pilots may still begin anything."""

_bundle = msgspec.json.Decoder(Bundle)
_session = ""
_spares: dict[str, Spare] = {}


def perform_bundle(encoded: bytes) -> bytes:
    """What comes of each; Parsl's worker calls this with what the keeper has sent."""
    bundle = _bundle.decode(encoded)
    root = Path(bundle.root)
    if (root / "pilots" / GENERATION).read_text() != bundle.generation:
        raise RuntimeError(f"{bundle.generation} is over: others perform what is asked below {root}")
    _renew(bundle.session)
    environment = os.environ
    place = f"block {environment.get('PARSL_WORKER_BLOCK_ID')} worker {environment.get('PARSL_WORKER_RANK')}"
    by = f"{place} on {platform.node()}"
    spare = _spares.setdefault(bundle.root, Spare(root))
    outcomes: list[msgspec.Raw] = []
    seconds = []
    for name in bundle.names:
        begun = time.perf_counter()
        outcome = take(
            root / "actions" / name, by, bundle.launcher, fsync=bundle.fsync, lease=bundle.lease, wait=False,
            spare=spare,
        )  # fmt: skip
        outcomes.append(msgspec.Raw(msgspec.json.encode(outcome)))
        seconds.append(time.perf_counter() - begun)
    return msgspec.json.encode(Done(outcomes=outcomes, seconds=seconds))


def _renew(session: str) -> None:
    """Whoever edits a module and runs again must not be answered by the old one."""
    global _session
    if session != _session:
        if _session:
            forget()
        _session = session
