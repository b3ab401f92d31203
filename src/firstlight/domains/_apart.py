"""Simulators that do not go together with ours: each in a virtual environment of its own, run as a command.

Such an environment lies in $FIRSTLIGHT_SIMULATORS/<domain> (by default <this environment>/simulators/<domain>). It
holds the simulator, msgspec, and this package without its dependencies. docs/how-to/a-simulator-apart.md shows how
to make one.
"""

import json
import os
import sys
from pathlib import Path

from msgspec.structs import replace

from firstlight.core import CampaignSpec, StepSpec


def interpreter(domain: str) -> Path | None:
    """The Python of a domain's own environment, None where there is no such environment."""
    root = os.environ.get("FIRSTLIGHT_SIMULATORS") or Path(sys.prefix, "simulators")
    python = Path(root, domain, "bin", "python").absolute()
    return python if python.exists() else None


def by_command(spec: CampaignSpec, python: Path) -> CampaignSpec:
    """The same campaign, its functions called by another Python, through the facility's command runner."""
    steps = tuple(_command(step, python) for step in spec.procedure.steps)
    return replace(spec, procedure=replace(spec.procedure, steps=steps))


def _command(step: StepSpec, python: Path) -> StepSpec:
    argv = [str(python), "-m", "firstlight.domains", step.operation]
    if step.settings:
        argv.append(json.dumps(step.settings))
    return replace(step, operation="command", settings={"argv": argv})
