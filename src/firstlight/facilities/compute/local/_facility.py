"""The port: a client of the supervisor."""

import asyncio
import os
import secrets
import shlex
import sys
from pathlib import Path

from ....core import Action, FacilityStatus, Failure, Finding, JobStatus, Outcome, Permit
from .._client import Client
from .._staging import bring, keep
from .._start import Process
from .._wire import Await, Cancel, Find, Submit
from . import _looks
from ._words import Hello

SUPERVISOR = Process("supervisor", "local", f"{__package__}._supervisor")


class LocalFacility:
    """Performs actions in worker processes of this machine (Linux).

    An action's `operation` is "package.module:function", "pickle:<path>" (cloudpickle), or "command":

    - A function is called as `function(point, **settings)`, `settings["directory"]` excepted, which is put first
      on the Python path. What it may give back is described at `interpret`.
    - A command is `settings["argv"]`, in which {parameter} and {directory} are filled in, with `settings["env"]`
      added to the environment; it runs in a directory of its own, beside `point.json` (whose path is in
      FIRSTLIGHT_POINT). Its result is `outputs.json` there, or the last line it prints that is JSON.

    Everything of an action is kept below `root`, and exactly one result is ever committed. Actions go on when
    this process dies, and are found again by the next that opens the same root (on the same machine). Limits
    on time and resident memory are enforced from outside the worker, that of the interpreter and its imports
    included. The environment and the working directory of the workers are those of this process; BLAS uses one
    thread unless the environment says otherwise. `fsync=False` trusts the machine not to lose its power. `launcher`
    is what starts the processes of an action that wants several ("mpirun -n {processes}"); `assets` is where inputs
    come from and outputs are kept.
    """

    computes = True

    def __init__(
        self,
        root: Path | str,
        slots: int = 0,
        *,
        fsync: bool = True,
        launcher: str = "mpirun -n {processes}",
        assets: Path | str | None = None,
    ) -> None:
        if slots < 0:
            raise ValueError(f"slots must be at least 1, or 0 for one a processor, not {slots}")
        self._root, self._slots, self._fsync = Path(root).absolute(), slots or os.cpu_count() or 1, fsync
        self._launcher, self._assets = launcher, assets
        self._session = secrets.token_hex(8)
        self._client = Client(self._root, SUPERVISOR, self._hello)

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
        outcome = (await self._client.ask(lambda id: Await(id=id, job=job))).outcome
        if outcome and outcome.assets:
            await asyncio.to_thread(keep, outcome, self._root, self._assets)
        return outcome or Failure(cause="lost", message=f"the supervisor knows nothing of {job}")

    async def cancel(self, job: str) -> None:
        await self._client.ask(lambda id: Cancel(id=id, job=job))

    async def status(self, action: Action | None = None) -> FacilityStatus:
        return await asyncio.to_thread(_looks.status, self._root, action)

    async def job(self, job: str) -> JobStatus:
        return await asyncio.to_thread(_looks.job, self._root, job)

    async def examine(self) -> list[Finding]:
        return await asyncio.to_thread(_looks.examine, self._root, shlex.split(self._launcher))

    async def close(self) -> None:
        await self._client.close()

    async def shutdown(self) -> None:
        """End all workers of this root now, whoever's they are, and close. Actions under way get no outcome."""
        await self._client.shutdown()

    def _hello(self) -> Hello:
        return Hello(
            session=self._session, python=sys.executable, directory=os.getcwd(), environment=dict(os.environ),
            slots=self._slots, fsync=self._fsync, launcher=tuple(shlex.split(self._launcher)),
        )  # fmt: skip
