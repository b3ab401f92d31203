"""How Slurm is, what of an action it could never take, and what has to be right before it takes any."""

import asyncio
import math
import os
import re
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

from ....core import Action, FacilityStatus, Finding, Unavailable
from ._commands import Refused, ask, duration, look, test_only
from ._script import Site, seconds

PROGRAMS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
_USABLE = ("idle", "mixed", "allocated", "completing", "reserved", "planned")


async def standing(partition: str) -> FacilityStatus:
    """A partition ("": the default one) as sinfo tells of it. Raises Unavailable."""
    only = [f"--partition={partition}"] if partition else []
    lines = (await look("sinfo", "--noheader", *only, "--format=%P|%a|%D|%c|%m|%G|%l|%T")).splitlines()
    rows = [row for row in (line.split("|") for line in lines) if partition or row[0].endswith("*")]
    if not rows:
        there = ", ".join(dict.fromkeys(row.split("|")[0].rstrip("*") for row in lines)) or "those of others only"
        what = f"there is no partition {partition}" if partition else f"no partition is the default: there are {there}"
        return FacilityStatus(state="down", message=what)
    name, nodes = rows[0][0].rstrip("*"), sum(int(row[2]) for row in rows)
    # A star says that a node does not answer.
    up = sum(int(row[2]) for row in rows if row[7].rstrip("$~#%@^-+") in _USABLE)
    avail = rows[0][1]
    state: Literal["up", "degraded", "down"] = "up" if up == nodes else "degraded" if up else "down"
    message = "" if up == nodes else f"{up} of {nodes} nodes of partition {name} are usable"
    if avail != "up":
        state, message = "down", f"partition {name} is {avail}"
    return FacilityStatus(
        state=state, message=message, nodes=nodes, cores=max(_number(row[3]) for row in rows),
        memory=max(_number(row[4]) for row in rows) * 2**20, gpus=max(_gpus(row[5]) for row in rows),
        seconds=duration(rows[0][6]),
    )  # fmt: skip


def unfit(site: Site, status: FacilityStatus, action: Action) -> str:
    """Why the partition can never perform an action, "" where it could."""
    needs = action.resources
    each = math.ceil(needs.processes / needs.nodes)
    wanted = [
        ("nodes", needs.nodes, status.nodes), ("cores a node", each * needs.cores, status.cores),
        ("GPUs a node", each * needs.gpus, status.gpus), ("bytes a node", action.limits.memory or 0, status.memory),
    ]  # fmt: skip
    if "time" not in {**site.attributes, **needs.attributes}:
        limit = status.seconds
        wanted.append(("seconds", math.ceil(seconds(site, action)), None if limit is None else int(limit)))
    return "; ".join(
        f"it wants {want:,} {what}, and there are {had:,}"
        for what, want, had in wanted
        if had is not None and want > had
    )


async def examine(site: Site) -> list[Finding]:
    """One finding after the other, up to the first without which the rest cannot be looked at."""
    found: list[Finding] = []

    async def right(what: str, see: Callable[[], Awaitable[str]], advice: str) -> bool:
        try:
            found.append(Finding(what=what, right=True, seen=await see()))
        except (Unavailable, Refused, OSError) as error:
            found.append(Finding(what=what, right=False, seen=str(error), advice=advice))
        return found[-1].right

    async def partition() -> str:
        status = await standing(site.partition)
        if status.state == "down":
            raise Refused(status.message)
        return status.message or f"{status.nodes} nodes of {status.cores} cores"

    async def accepted() -> str:
        return f"a job of one process might begin in {await test_only(_least(site)):.0f} s"

    programs = "run Firstlight where jobs are submitted (a login node), or install Slurm's commands there"
    munge = "have munge started: systemctl start munge (a person with root), and the same key on every machine"
    controller = "see scontrol ping, and whether SLURM_CONF names the right slurm.conf; jobs that run go on meanwhile"
    named = "name another in the option partition: sinfo lists them"
    rights = "see the options partition, account, qos and attributes: sacctmgr show associations user=$USER"
    if not await right("Slurm's commands are there", _programs, programs):
        return found
    await right("jobs can be signed", _munge, munge)
    if not await right("the controller answers", _controller, controller):
        return found
    if await right("the partition is up", partition, named):
        await right("a job would be accepted", accepted, rights)
    await right(
        "the directory can be used", lambda: _directory(site.root), "make it, or name another in the option root"
    )
    await right("the launcher is there", lambda: _launcher(site), "see the option launcher")
    return found


def _least(site: Site) -> list[str]:
    """The options of the least job that there is."""
    given = {"partition": site.partition, "account": site.account, "qos": site.qos, **site.attributes}
    return [f"--{name}={value}" if value else f"--{name}" for name, value in given.items() if value or name not in (
        "partition", "account", "qos")]  # fmt: skip


async def _programs() -> str:
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        raise Refused(f"{', '.join(missing)} not found on the PATH")
    return (await look("sbatch", "--version")).strip()


async def _munge() -> str:
    """Slurm says nothing better than that it was not authenticated."""
    config = (await look("scontrol", "show", "config")) if await _answers() else ""
    kind = re.search(r"^AuthType\s*=\s*(\S+)", config, re.MULTILINE)
    if kind is None or kind[1] != "auth/munge":
        return f"by {kind[1]}" if kind else "not known while the controller does not answer"
    if shutil.which("munge") is None:
        return "by munge, whose program is not here to try it"
    socket = re.search(r"^AuthInfo\s*=.*socket=([^,\s]+)", config, re.MULTILINE)
    await ask("munge", "--no-input", *([f"--socket={socket[1]}"] if socket else []))
    return "by munge"


async def _answers() -> bool:
    try:
        return " is UP" in await ask("scontrol", "ping")
    except Refused:
        return False


async def _controller() -> str:
    said = (await ask("scontrol", "ping")).strip()
    if " is UP" not in said:
        raise Refused(said)
    return said.splitlines()[0]


async def _directory(root: Path) -> str:
    def look_at() -> str:
        there = next(path for path in (root, *root.parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise Refused(f"{there} cannot be written")
        return f"{root}; whether the nodes see it, only a job can tell: firstlight facility check"

    return await asyncio.to_thread(look_at)


async def _launcher(site: Site) -> str:
    if not site.launcher:
        return "none: every action has one process"
    if shutil.which(site.launcher[0]) is None:
        raise Refused(f"{site.launcher[0]} is not found on the PATH")
    return " ".join(site.launcher)


def _number(said: str) -> int:
    """Slurm writes "16+" where nodes differ, the least of them."""
    return int(re.sub(r"\D.*", "", said) or 0)


def _gpus(said: str) -> int:
    return sum(int(count) for count in re.findall(r"gpu(?::[A-Za-z][\w.-]*)?:(\d+)", said))
