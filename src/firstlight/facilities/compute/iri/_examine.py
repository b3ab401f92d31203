"""What has to be right before an action can be performed there, the most basic first."""

import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

from ....core import Finding, Unavailable
from ._http import Api, Refused, TaskFailed
from ._jobspec import Site
from ._standing import Look, Standing

Ask = Callable[[], Awaitable[str]]
FilesystemId = Callable[[], Awaitable[str]]


async def examine(api: Api, look: Look, site: Site, filesystem: FilesystemId | None, root: Path) -> list[Finding]:
    """One finding after the other, up to the first without which the rest cannot be looked at."""
    found: list[Finding] = []

    async def right(what: str, ask: Ask, advice: str) -> bool:
        try:
            found.append(Finding(what=what, right=True, seen=await ask()))
        except (Unavailable, Refused, TaskFailed, OSError) as error:
            found.append(Finding(what=what, right=False, seen=api.secret.scrub(str(error)), advice=advice))
        return found[-1].right

    async def token() -> str:
        api.secret.read()
        return f"in {api.secret.name}"

    async def reachable() -> str:
        facility = await api.get("facility")
        return f"{facility.get('name') or facility['id']} at {api.url}"

    async def accepted() -> str:
        return f"it may use the projects {', '.join(p['id'] for p in await api.get('account/projects')) or 'none'}"

    async def resource() -> str:
        return await look.id(site.name, "compute")

    named = "put it into that variable or file (mode 0600); the option token has only its name"
    if not await right("there is a token", token, named):
        return found
    if not await right(
        "the API can be reached", reachable, "see the option url, the network, and for TLS the option ca"
    ):
        return found
    if not await right("the token is accepted", accepted, f"renew the token in {api.secret.name}"):
        return found
    if not await right("the resource is known", resource, "name one of them in the option resource"):
        return found
    try:
        found += _standing(await look.standing(), site)
    except (Unavailable, Refused) as error:
        advice = "name a project of yours in the option project"
        found.append(Finding(what="project and allocation", right=False, seen=str(error), advice=advice))
    if filesystem is None:
        found.append(_shared(root))
    else:
        await _remote(api, site, filesystem, right)
    return found


def _standing(standing: Standing, site: Site) -> list[Finding]:
    incidents = "; ".join(standing.incidents)
    state = Finding(
        what="the resource is up", right=not standing.against,
        seen=standing.against or f"{standing.state}{f' ({incidents})' if incidents else ''}",
        advice="wait: nothing is submitted meanwhile" if standing.against else "",
    )  # fmt: skip
    if not standing.project:
        advice = "name it in the option project, unless every action has resources.account"
        return [state, Finding(what="a project is charged", right=False, seen="none is named", advice=advice)]
    least = site.duration / 3600
    left = [f"{share.whose} has {share.left:.4g} of {share.granted:.4g} node-hours left" for share in standing.shares]
    enough = all(share.left >= least for share in standing.shares)
    charged = Finding(
        what="a project is charged", right=enough,
        seen="; ".join(left) or f"project {standing.project}, no allocation in node-hours is shown",
        advice="" if enough else f"a job on one node may take {least:.4g}: ask for more, or lower the option duration",
    )  # fmt: skip
    return [state, charged]


def _shared(root: Path) -> Finding:
    what = "the shared directory is there"
    if root.is_dir():
        return Finding(what=what, right=True, seen=str(root))
    return Finding(what=what, right=False, seen=f"{root} is no directory", advice="mount it, or make it: option root")


async def _remote(
    api: Api, site: Site, filesystem: FilesystemId, right: Callable[[str, Ask, str], Awaitable[bool]]
) -> None:
    async def known() -> str:
        return await filesystem()

    async def workdir() -> str:
        said = await api.task("stat", await filesystem(), {"path": site.workdir, "dereference": True})
        mode = int(said.get("mode", 0))
        if not stat.S_ISDIR(mode) or not mode & 0o222:
            raise TaskFailed(f"{site.workdir} is {stat.filemode(mode)}")
        return f"{site.workdir} {stat.filemode(mode)}"

    async def python() -> str:
        if not site.python.startswith("/"):
            return f"{site.python}, found by the job on its PATH after setup: only a job can tell"
        await api.task("stat", await filesystem(), {"path": site.python, "dereference": True})
        return site.python

    if not await right("the file system is known", known, "name one of them in the option filesystem"):
        return
    await right("the working directory is there", workdir, f"make it: mkdir -p {site.workdir}")
    await right("Python is there", python, "install firstlight there, and name its interpreter in the option python")
