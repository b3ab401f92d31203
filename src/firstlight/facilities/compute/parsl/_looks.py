"""How the pilots are, without starting any: the keeper is asked where there is one, and nothing is changed."""

import shutil
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import msgspec

from ....core import Action, FacilityStatus, Finding, JobStatus, Unavailable
from .._rundir import run_directory, unusable
from .._wire import address, pack, receive_blocking
from ._site import COMMANDS, Site
from ._words import Look, View

PATIENCE = 10.0
_view = msgspec.json.Decoder(View)


def status(root: Path, site: Site, action: Action | None) -> FacilityStatus:
    """The pilots that there are, and the largest action that one takes. Raises Unavailable."""
    if why := unusable(root):
        raise Unavailable(f"the parsl facility cannot use its directory {root}: {why}")
    view = _ask(root, Look(id=0)) or View(id=0, running=0, queued=0, workers=0, blocks={})
    pilots = f"{view.workers} workers in {len(view.blocks)} blocks" if view.blocks else "no pilots now"
    known = not site.config
    return FacilityStatus(
        state="down" if view.trouble else "up", message=view.trouble or pilots, unfit=_unfit(action), nodes=1,
        cores=max(1, int(site.cores_per_worker)) if known else None,
        gpus=site.gpus if known else None, seconds=site.walltime if known and site.provider != "local" else None,
        running=view.running, queued=view.queued,
    )  # fmt: skip


def job(root: Path, action: str) -> JobStatus:
    """How far an action has come. Raises Unavailable."""
    run = run_directory(root, action)
    try:
        if run.result() is not None:
            return JobStatus(state="ended")
        view = _ask(root, Look(id=0, job=action))
        if view and view.job:
            return view.job
        if run.spec() is None:
            return JobStatus(state="unknown", message="nothing is known of it here")
    except OSError as error:
        raise Unavailable(f"the parsl facility cannot read its directory {root}: {error}") from error
    return JobStatus(state="queued", message="its keeper does not run; whoever waits for it starts it again")


def examine(root: Path, site: Site) -> list[Finding]:
    """What an action needs here, the most basic first."""
    why = unusable(root)
    found = [
        Finding(what="Parsl", right=True, seen=version("parsl")),
        Finding(
            what="its directory", right=not why, seen=why or str(root),
            advice="" if not why else "Correct its permissions, or name another root, which the nodes see too.",
        ),
    ]  # fmt: skip
    if site.config:
        found.append(_file(site))
    else:
        commands = COMMANDS[site.provider]
        missing = [name for name in commands if shutil.which(name) is None]
        seen = f"not on the PATH: {', '.join(missing)}" if missing else ", ".join(commands) or "this machine"
        advice = "Run where they are, a login node, or load the module that has them." if missing else ""
        found.append(Finding(what=f"the provider {site.provider}", right=not missing, seen=seen, advice=advice))
    view = None if why else _ask(root, Look(id=0))
    if view and view.trouble:
        found.append(Finding(what="its pilots", right=False, seen=view.trouble, advice="See its directory's pilots/."))
    else:
        seen = f"{view.workers} workers in {len(view.blocks)} blocks" if view else "none; they come when needed"
        found.append(Finding(what="its pilots", right=True, seen=seen))
    return found


def check() -> int:
    """Load the file of a site, whose description comes on stdin, and say which executor it is."""
    from ._build import build  # noqa: PLC0415 (Parsl is loaded by whoever needs it only)

    site = msgspec.json.decode(sys.stdin.buffer.read(), type=Site)
    try:
        built = build(site, sys.executable, "")
    except ValueError as error:
        print(error)
        return 1
    print(f"{site.config}, executor {built.executor.label}")
    return 0


def _file(site: Site) -> Finding:
    """It is somebody's own code, so another process runs it."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; from {__name__} import check; sys.exit(check())"],
        input=msgspec.json.encode(site), capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    words = (done.stdout or done.stderr).decode(errors="replace").strip().splitlines()
    seen = words[-1] if words else f"exit code {done.returncode}"
    advice = "Correct the file: it must define `config`, a parsl.Config with a HighThroughputExecutor."
    right = done.returncode == 0
    return Finding(what="its file of Parsl's own", right=right, seen=seen, advice="" if right else advice)


def _unfit(action: Action | None) -> str:
    if action is None:
        return ""
    if action.resources.container:
        return "runs no containers"
    if action.resources.nodes > 1:
        return "gives an action one worker of one node: use a batch facility such as slurm for several nodes"
    return ""


def _ask(root: Path, look: Look) -> View | None:
    """What the keeper says, None where there is none."""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(PATIENCE)
        try:
            channel.connect(address(root, "keeper"))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            raise Unavailable(f"the keeper of {root} cannot be reached: {error}") from error
        try:
            channel.sendall(pack(look))
            return receive_blocking(channel, _view)
        except TimeoutError as error:
            raise Unavailable(f"the keeper of {root} does not answer") from error
        except ConnectionError:
            return None
