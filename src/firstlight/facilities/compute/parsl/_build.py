"""Parsl's own objects from what is said of a site. Only the keeper comes here, and whoever examines a file."""

import math
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

from parsl import launchers, providers
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.executors.high_throughput.executor import DEFAULT_INTERCHANGE_LAUNCH_CMD, DEFAULT_LAUNCH_CMD

from ._site import LAUNCHERS, PROVIDERS, Site, one_thread

POOL = "parsl.executors.high_throughput.process_worker_pool"
INTERCHANGE = "parsl.executors.high_throughput.interchange"
PARSL_HEARTBEATS = 4
"""Heartbeats after which whoever has not been heard of is lost."""


class Built(NamedTuple):
    """An executor that has not been started, and how its blocks come and go."""

    executor: Any
    least: int
    first: int
    most: int
    idle: float


def build(site: Site, python: str, path: str) -> Built:
    """The executor of a site. `python` runs on its nodes, and `path` is its PYTHONPATH.

    Raises ValueError, in words for whoever wrote the options or the file.
    """
    if site.config:
        return _from_file(site, python)
    provider = _provider(site, path)
    executor = HighThroughputExecutor(
        provider=provider, max_workers_per_node=site.workers, cores_per_worker=site.cores_per_worker,
        available_accelerators=site.gpus, address=site.address or ("127.0.0.1" if site.provider == "local" else None),
        encrypted=site.encrypted, heartbeat_period=site.heartbeat,
        heartbeat_threshold=PARSL_HEARTBEATS * site.heartbeat, launch_cmd=_pool(DEFAULT_LAUNCH_CMD, python),
        block_error_handler=False, drain_period=None if site.provider == "local" else _drain(site.walltime),
    )  # fmt: skip
    return Built(executor, site.min_blocks, site.init_blocks, site.max_blocks, site.idle)


def _drain(walltime: float) -> int:
    """Seconds after which a pilot begins nothing any more, so that short actions end before it does."""
    return math.ceil(walltime - min(120.0, walltime / 10))


def interchange(executor: Any) -> list[str]:
    """The command of its interchange, which need not be on the PATH."""
    command = list(executor.interchange_launch_cmd)
    return [sys.executable, "-P", "-m", INTERCHANGE] if command == DEFAULT_INTERCHANGE_LAUNCH_CMD else command


def _provider(site: Site, path: str) -> Any:
    setup = [one_thread(site.cores_per_worker), "export PYTHONUNBUFFERED=1", *site.setup.splitlines()]
    if path:
        setup.insert(0, f"export PYTHONPATH={shlex.quote(path)}")
    launcher = site.block_launcher or ("srun" if site.nodes > 1 else "single")
    cores = math.ceil(site.workers * site.cores_per_worker)
    options: dict[str, Any] = {
        "nodes_per_block": site.nodes, "init_blocks": site.init_blocks, "min_blocks": site.min_blocks,
        "max_blocks": site.max_blocks, "parallelism": 1, "worker_init": "\n".join(setup),
        "launcher": getattr(launchers, LAUNCHERS[launcher])(),
    }  # fmt: skip
    minutes, seconds = divmod(math.ceil(site.walltime), 60)
    if site.provider != "local":
        options["walltime"] = f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"
        options["scheduler_options"] = site.scheduler_options
    match site.provider:
        case "slurm":
            options |= {"partition": site.queue or None, "account": site.account or None, "exclusive": False}
            options |= {"cores_per_node": cores, "gpus_per_node": site.gpus or None}
            # One that was requeued waits for two minutes and counts as a block all the while: a fresh one is quicker.
            options["scheduler_options"] = f"#SBATCH --no-requeue\n{site.scheduler_options}"
        case "pbs":
            gpus = f"ngpus={site.gpus}" if site.gpus else ""
            options |= {"queue": site.queue or None, "account": site.account or None, "cpus_per_node": cores}
            options |= {"select_options": gpus}
        case "torque":
            options |= {"queue": site.queue or None, "account": site.account or None}
        case "lsf":
            options |= {"queue": site.queue or None, "project": site.account or None, "cores_per_node": cores}
        case "grid-engine":
            options |= {"queue": site.queue or None}
        case "condor":
            options |= {"project": site.account, "cores_per_slot": cores}
    return getattr(providers, PROVIDERS[site.provider])(**options)


def _from_file(site: Site, python: str) -> Built:
    file = Path(site.config)
    try:
        config = runpy.run_path(str(file)).get("config")
    except BaseException as error:
        raise ValueError(f"config: {file} fails: {type(error).__name__}: {error}") from error
    if not isinstance(config, Config):
        raise ValueError(f"config: {file} must define `config`, a parsl.Config; it is {config!r}")
    able = {e.label: e for e in config.executors if isinstance(e, HighThroughputExecutor)}
    if not able:
        raise ValueError(f"config: {file} has no HighThroughputExecutor")
    if site.executor and site.executor not in able:
        raise ValueError(f"config: {file} has no HighThroughputExecutor {site.executor!r}: there are {', '.join(able)}")
    executor = able[site.executor] if site.executor else next(iter(able.values()))
    executor.launch_cmd = _pool(executor.launch_cmd, python)
    blocks: Any = executor.provider
    if config.strategy in (None, "none"):
        return Built(executor, blocks.init_blocks, blocks.init_blocks, blocks.init_blocks, math.inf)
    return Built(executor, blocks.min_blocks, blocks.init_blocks, blocks.max_blocks, config.max_idletime)


def _pool(command: str, python: str) -> str:
    """With an interpreter of ours in front of Parsl's module, which need not be on the PATH."""
    return command.replace("process_worker_pool.py ", f"{shlex.quote(python)} -P -m {POOL} ", 1)
