"""The port: a client of the keeper."""

import asyncio
import os
import secrets
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from ....core import Action, FacilityStatus, Failure, Finding, JobStatus, Outcome, Permit
from .._client import Client
from .._rundir import LEASE, run_directory
from .._staging import bring, keep
from .._start import Process
from .._wire import Await, Cancel, Find, Submit
from . import _looks
from ._site import Site, lines, processors, wrong
from ._words import Goodbye, Hello

KEEPER = Process("keeper", "parsl", f"{__package__}._keeper")


class ParslFacility:
    """Performs actions on pilots: jobs that stay and perform one action after the other (docs/how-to/run-on-pilots.md).

    `provider` says what the pilots are asked of: "slurm", "pbs", "torque", "lsf", "grid-engine", "condor", or "local"
    for this machine. A block is a job of `nodes` nodes, with `workers` a node, each with `cores_per_worker` processors,
    and the `gpus` of the node are shared among them. There are `init_blocks` at first, and between `min_blocks` and
    `max_blocks` as there is work; one that is idle for `idle` seconds is given back, as is all when nobody needs it.
    `walltime` (seconds), `account`, `queue`, `scheduler_options` (lines as in a job script) and `setup` (lines of
    shell) are the job's. `block_launcher` starts a pilot on each node of a block, `launcher` the processes of an action
    ("mpirun -n {processes}"). `config` names a file of Parsl's own instead of all that, and `executor` one of its
    executors. `python` runs on the nodes; `root` must be on a file system that they see.

    Seconds: `heartbeat` of pilots, four of which may be missed; `poll` between two looks at the jobs; `linger` for
    which the pilots of a client that died are kept for another; `lease` after which whoever performs an action and has
    not been heard of is dead. `tries` is how often an action is begun whose workers die of it.

    Everything of an action is kept below `root`, and exactly one result is ever committed. Actions go on when this
    process dies, and are found again by the next that opens the same root on the same machine.
    """

    computes = True

    def __init__(
        self, root: Path | str, slots: int = 0, *, provider: str = "local", workers: int = 0,
        cores_per_worker: float = 1.0, gpus: int = 0, nodes: int = 1, min_blocks: int = 0, init_blocks: int = 0,
        max_blocks: int = 1, walltime: float = 3600.0, account: str = "", queue: str = "",
        scheduler_options: str | Sequence[str] = "", setup: str | Sequence[str] = "", block_launcher: str = "",
        address: str = "", encrypted: bool = True, idle: float = 120.0, heartbeat: int = 15, poll: float = 15.0,
        config: Path | str = "", executor: str = "", launcher: str = "mpirun -n {processes}", python: str = "",
        linger: float = 120.0, tries: int = 3, lease: float = LEASE, fsync: bool = True,
        assets: Path | str | None = None,
    ) -> None:  # fmt: skip
        self._site = Site(
            provider=provider, workers=workers or (processors() if provider == "local" and not config else 0),
            cores_per_worker=cores_per_worker, gpus=gpus, nodes=nodes, min_blocks=min_blocks, init_blocks=init_blocks,
            max_blocks=max_blocks, walltime=walltime, account=account, queue=queue,
            scheduler_options=lines(scheduler_options), setup=lines(setup), block_launcher=block_launcher,
            address=address, encrypted=encrypted, idle=idle, heartbeat=heartbeat, poll=poll,
            config=str(Path(config).absolute()) if config else "", executor=executor,
        )  # fmt: skip
        if slots < 0 or tries < 1 or linger < 0 or lease <= 0:
            raise ValueError("slots and linger must not be less than 0, tries at least 1, and lease more than 0")
        if why := wrong(self._site):
            raise ValueError(why)
        self._root, self._assets, self._fsync = Path(root).absolute(), assets, fsync
        self._slots = slots or (processors() if config else self._site.capacity)
        self._launcher, self._python = tuple(shlex.split(launcher)), python or sys.executable
        self._linger, self._tries, self._lease = linger, tries, lease
        self._session = secrets.token_hex(8)
        self._client = Client(self._root, KEEPER, self._hello)

    @property
    def slots(self) -> int:
        return self._slots

    async def submit(self, permit: Permit) -> str:
        if permit.action.inputs:
            await asyncio.to_thread(bring, permit.action, self._root, self._assets)
        job = (await self._client.ask(lambda id: Submit(id=id, permit=permit))).job
        return job or permit.action.id

    async def find(self, action: str) -> str | None:
        return (await self._client.ask(lambda id: Find(id=id, action=action))).job

    async def outcome(self, job: str) -> Outcome:
        reply = await self._client.ask(lambda id: Await(id=id, job=job))
        outcome = reply.outcome
        if outcome is None:
            return Failure(cause="lost", message=f"the keeper knows nothing of {job}")
        if outcome.assets:
            await asyncio.to_thread(keep, outcome, self._root, self._assets)
        attempts = reply.attempts or run_directory(self._root, job).attempts()
        return replace(outcome, used={**outcome.used, "attempts": float(attempts)})

    async def cancel(self, job: str) -> None:
        await self._client.ask(lambda id: Cancel(id=id, job=job))

    async def status(self, action: Action | None = None) -> FacilityStatus:
        """Raises Unavailable."""
        return await asyncio.to_thread(_looks.status, self._root, self._site, action)

    async def job(self, job: str) -> JobStatus:
        """Raises Unavailable."""
        return await asyncio.to_thread(_looks.job, self._root, job)

    async def examine(self) -> list[Finding]:
        """Everything that has to be right, the most basic first. It changes nothing."""
        return await asyncio.to_thread(_looks.examine, self._root, self._site)

    async def close(self) -> None:
        await self._client.close(Goodbye())

    async def shutdown(self) -> None:
        """End all pilots of this root now, whoever's they are, and close. Actions under way get no outcome."""
        await self._client.shutdown()

    def _hello(self) -> Hello:
        return Hello(
            session=self._session, python=self._python, directory=os.getcwd(), environment=dict(os.environ),
            site=self._site, fsync=self._fsync, launcher=self._launcher, linger=self._linger, tries=self._tries,
            lease=self._lease,
        )  # fmt: skip
