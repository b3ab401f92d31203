"""From an action to the options of sbatch and the script of its job."""

import math
import re
import shlex
from pathlib import Path

import msgspec

from ....core import Action

MARGIN = 120
"""Seconds that a job has beyond its action's limit, which is enforced on the node."""
EARLY = 60
"""Seconds by which Slurm may send the warning sooner than it was asked to."""
BESIDE = 128
"""MiB that a job has beyond its action's limit of memory."""
OURS = frozenset({"array", "comment", "error", "job-name", "output", "open-mode", "parsable", "signal", "wrap"})
"""Options that are not an action's to give."""


class Site(msgspec.Struct, frozen=True):
    """What is the same for all jobs. `setup` are lines of shell before each, `container` words before the Python."""

    root: Path
    python: str
    setup: tuple[str, ...] = ()
    partition: str = ""
    account: str = ""
    qos: str = ""
    attributes: dict[str, str] = {}
    launcher: tuple[str, ...] = ()
    container: tuple[str, ...] = ()
    duration: float = 3600.0
    warning: float = 0.0


class BadAttribute(Exception):
    """An option of sbatch that an action cannot give; the message says which."""


def seconds(site: Site, action: Action) -> float:
    """How long the job may take: longer than the action, so that its own limit comes first."""
    limit = action.limits.seconds
    return site.duration if limit is None else limit + MARGIN + (site.warning + EARLY if site.warning else 0)


def options(site: Site, action: Action) -> list[str]:
    """Those of sbatch that say what a job needs. Raises BadAttribute."""
    needs = action.resources
    given: dict[str, str] = {
        "nodes": str(needs.nodes), "ntasks": str(needs.processes), "cpus-per-task": str(needs.cores),
        "time": str(math.ceil(seconds(site, action) / 60)),
    }  # fmt: skip
    if needs.gpus:
        given["gpus-per-task"] = str(needs.gpus)
    if action.limits.memory is not None:
        given["mem"] = f"{math.ceil(action.limits.memory / 2**20) + BESIDE}M"
    if needs.exclusive:
        given["exclusive"] = ""
    if needs.container and not site.container:
        given["container"] = needs.container
    named = {
        "account": needs.account or site.account, "partition": needs.queue or site.partition, "qos": site.qos,
        "reservation": needs.reservation,
    }  # fmt: skip
    given |= {name: value for name, value in named.items() if value}
    for name, value in {**site.attributes, **needs.attributes}.items():
        if name in OURS or not re.fullmatch(r"[a-z][a-z0-9-]+", name):
            why = "is set by the facility itself" if name in OURS else "is no long option of sbatch"
            raise BadAttribute(f"attribute {name!r} {why}: see docs/how-to/run-on-slurm.md")
        given[name] = value
    given.setdefault("requeue" if action.repeatable else "no-requeue", "")
    if site.warning:
        given["signal"] = f"B:USR1@{math.ceil(site.warning)}"
    return [f"--{name}={value}" if value else f"--{name}" for name, value in given.items()]


def body(site: Site, action: Action) -> str:
    """What a job does once it knows its run directory, `$run`, and how often it was submitted, `$number`."""
    needs = action.resources
    image = [word.replace("{container}", needs.container) for word in site.container] if needs.container else []
    take = shlex.join([*image, site.python, "-m", "firstlight.facilities.compute.take"])
    return "\n".join([
        'cd "$run" || exit 1',
        'export FIRSTLIGHT_BY="Slurm job $SLURM_JOB_ID $SLURM_JOB_NAME"',
        *site.setup, *needs.pre_launch,
        # It inherits that the warning is ignored, until it has made its own arrangements.
        "trap '' USR1",
        f'{take} "$run" {shlex.join(site.launcher)} &',
        "taking=$!",
        "trap 'kill -USR1 $taking' USR1",
        'wait "$taking"; code=$?',
        'while kill -0 "$taking" 2>/dev/null; do wait "$taking"; code=$?; done',
        'echo "$code" > "job-$number.exit.new" && mv "job-$number.exit.new" "job-$number.exit"',
        *needs.post_launch,
        'exit "$code"',
    ]) + "\n"  # fmt: skip


def script(site: Site, batch: Path, single: bool, body: str) -> str:
    """The script of an array of jobs: which of the batch's run directories is its own, then the rest."""
    task = "1" if single else "$((SLURM_ARRAY_TASK_ID + 1))"
    return "\n".join([
        "#!/bin/sh",
        f"line=$(sed -n \"{task}p\" {shlex.quote(str(batch / 'list'))})",
        "number=${line%% *}",
        f"run={shlex.quote(str(site.root / 'actions'))}/${{line#* }}",
        body,
    ])  # fmt: skip
