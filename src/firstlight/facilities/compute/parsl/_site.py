"""What is said of a site, and what is wrong with it; Parsl itself is not needed for that."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import msgspec

from .._processes import ONE_THREAD

PROVIDERS = {
    "local": "LocalProvider", "slurm": "SlurmProvider", "pbs": "PBSProProvider", "torque": "TorqueProvider",
    "lsf": "LSFProvider", "grid-engine": "GridEngineProvider", "condor": "CondorProvider",
}  # fmt: skip
COMMANDS = {
    "local": (), "slurm": ("sbatch", "squeue", "scancel"), "pbs": ("qsub", "qstat", "qdel"),
    "torque": ("qsub", "qstat", "qdel"), "lsf": ("bsub", "bjobs", "bkill"),
    "grid-engine": ("qsub", "qstat", "qdel"), "condor": ("condor_submit", "condor_q", "condor_rm"),
}  # fmt: skip
LAUNCHERS = {
    "single": "SingleNodeLauncher", "srun": "SrunLauncher", "mpiexec": "MpiExecLauncher", "mpirun": "MpiRunLauncher",
    "aprun": "AprunLauncher", "jsrun": "JsrunLauncher",
}  # fmt: skip
ACCOUNTED = {"slurm", "pbs", "torque", "lsf", "condor"}
QUEUED = {"slurm", "pbs", "torque", "lsf", "grid-engine"}
WITH_GPUS = {"local", "slurm", "pbs"}


class Site(msgspec.Struct, frozen=True):
    """Where pilots run and how they are had: see `ParslFacility`, whose options these are."""

    provider: str = "local"
    workers: int = 0
    cores_per_worker: float = 1.0
    gpus: int = 0
    nodes: int = 1
    min_blocks: int = 0
    init_blocks: int = 0
    max_blocks: int = 1
    walltime: float = 3600.0
    account: str = ""
    queue: str = ""
    scheduler_options: str = ""
    setup: str = ""
    block_launcher: str = ""
    address: str = ""
    encrypted: bool = True
    idle: float = 120.0
    heartbeat: int = 15
    poll: float = 15.0
    config: str = ""
    executor: str = ""

    @property
    def capacity(self) -> int:
        """How many workers there are when all blocks are."""
        return max(1, self.max_blocks) * self.nodes * self.workers


def lines(text: str | Sequence[str]) -> str:
    """Lines given as one text or as a list."""
    return text if isinstance(text, str) else "\n".join(text)


def wrong(site: Site) -> str:
    """What is wrong with it, in words for whoever wrote it; "" where nothing is."""
    if find_spec("parsl") is None:
        return "Parsl is not installed: pip install 'firstlight[parsl]'"
    if site.config:
        return _wrong_file(site)
    if site.executor:
        return "executor names one of a file of Parsl's own, which the option config names"
    if site.provider not in PROVIDERS:
        return f"there is no provider {site.provider!r}: there are {', '.join(PROVIDERS)}; others need a file (config)"
    if site.block_launcher and site.block_launcher not in LAUNCHERS:
        return f"there is no block_launcher {site.block_launcher!r}: there are {', '.join(LAUNCHERS)}"
    if site.nodes > 1 and site.provider != "slurm" and not site.block_launcher:
        return "a block of several nodes needs a block_launcher, which starts a pilot on each"
    for option, known in (("account", ACCOUNTED), ("queue", QUEUED), ("gpus", WITH_GPUS)):
        if getattr(site, option) and site.provider not in known:
            return f"the provider {site.provider!r} has no option {option}: say it in scheduler_options"
    if site.scheduler_options and site.provider == "local":
        return "the provider 'local' has no scheduler_options"
    return _wrong_figures(site)


def _wrong_figures(site: Site) -> str:
    if min(site.workers, site.nodes, site.max_blocks) < 1:
        return "workers (a node), nodes (a block) and max_blocks must be at least 1"
    if not 0 <= site.min_blocks <= site.max_blocks or not 0 <= site.init_blocks <= site.max_blocks:
        return "min_blocks and init_blocks must be between 0 and max_blocks"
    if min(site.walltime, site.cores_per_worker, site.poll) <= 0:
        return "walltime, cores_per_worker and poll must be more than 0"
    if site.heartbeat < 1 or min(site.idle, site.gpus) < 0:
        return "heartbeat must be at least 1, and idle and gpus not less than 0"
    return ""


def _wrong_file(site: Site) -> str:
    file = Path(site.config)
    try:
        compile(file.read_bytes(), file, "exec")
    except OSError as error:
        return f"config: {file} cannot be read: {error.strerror}"
    except (SyntaxError, ValueError) as error:
        return f"config: {file} is not Python: {error}"
    return ""


def one_thread(cores: float) -> str:
    """Lines of shell after which a worker uses its own cores and no more, unless the environment says otherwise."""
    count = max(1, int(cores))
    return "\n".join(f"export {name}=${{{name}:-{count}}}" for name in ONE_THREAD)


def processors() -> int:
    """Of this machine, for this process."""
    return len(os.sched_getaffinity(0))
