"""The port: a client of the supervisor."""

import asyncio
import contextlib
import itertools
import os
import secrets
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from ....core import Action, FacilityStatus, Failure, Finding, JobStatus, Outcome, Permit, Unavailable
from .._staging import bring, keep
from . import _looks
from ._start import gone, reach
from ._wire import Await, Cancel, Find, Hello, Reply, Request, Shutdown, Submit, pack, receive

TRIES = 3
"""How often a request is sent anew when the supervisor dies or is just leaving."""

_reply = msgspec.json.Decoder(Reply)


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
        self._link: _Link | None = None
        self._connecting = asyncio.Lock()
        self._closed = False

    @property
    def slots(self) -> int:
        return self._slots

    async def submit(self, permit: Permit) -> str:
        if permit.action.inputs:
            await asyncio.to_thread(bring, permit.action, self._root, self._assets)
        job = (await self._ask(lambda id: Submit(id=id, permit=permit))).job
        return job or permit.action.id

    async def find(self, action: str) -> str | None:
        return (await self._ask(lambda id: Find(id=id, action=action))).job

    async def outcome(self, job: str) -> Outcome:
        outcome = (await self._ask(lambda id: Await(id=id, job=job))).outcome
        if outcome and outcome.assets:
            await asyncio.to_thread(keep, outcome, self._root, self._assets)
        return outcome or Failure(cause="lost", message=f"the supervisor knows nothing of {job}")

    async def cancel(self, job: str) -> None:
        await self._ask(lambda id: Cancel(id=id, job=job))

    async def status(self, action: Action | None = None) -> FacilityStatus:
        return await asyncio.to_thread(_looks.status, self._root, action)

    async def job(self, job: str) -> JobStatus:
        return await asyncio.to_thread(_looks.job, self._root, job)

    async def examine(self) -> list[Finding]:
        return await asyncio.to_thread(_looks.examine, self._root, shlex.split(self._launcher))

    async def close(self) -> None:
        self._closed = True
        if self._link:
            await self._link.close()
            self._link = None

    async def shutdown(self) -> None:
        """End all workers of this root now, whoever's they are, and close. Actions under way get no outcome."""
        with contextlib.suppress(Unavailable):
            await self._ask(lambda id: Shutdown(id=id))
        await self.close()
        await asyncio.to_thread(gone, self._root)

    async def _ask(self, request: Callable[[int], Request]) -> Reply:
        for _ in range(TRIES):
            link = await self._connected()
            with contextlib.suppress(ConnectionError):
                reply = await link.ask(request)
                if reply.unavailable:
                    raise Unavailable(f"the local facility in {self._root} cannot do it: {reply.unavailable}")
                return reply
        raise Unavailable(f"the supervisor of {self._root} keeps dying; see {self._root / 'supervisor.log'}")

    async def _connected(self) -> "_Link":
        async with self._connecting:
            if self._closed:
                raise Unavailable("this facility has been closed")
            if self._link and not self._link.broken:
                return self._link
            if self._link:
                await self._link.close()
                self._link = None
            channel = await asyncio.to_thread(reach, self._root)
            reader, writer = await asyncio.open_unix_connection(sock=channel)
            hello = Hello(
                session=self._session, python=sys.executable, directory=os.getcwd(), environment=dict(os.environ),
                slots=self._slots, fsync=self._fsync, launcher=tuple(shlex.split(self._launcher)),
            )  # fmt: skip
            writer.write(pack(hello))
            self._link = _Link(reader, writer)
            return self._link


class _Link:
    """One connection: requests go out as they come, replies come back in any order."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._listening = asyncio.create_task(self._listen())
        self.broken = False

    async def ask(self, request: Callable[[int], Request]) -> Reply:
        """Send it and wait for the reply. Raises ConnectionError where the other end is gone."""
        if self.broken:
            raise ConnectionError
        id = next(self._numbers)
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[id] = reply
        try:
            self._writer.write(pack(request(id)))
            return await reply
        finally:
            self._waiting.pop(id, None)

    async def close(self) -> None:
        self._listening.cancel()
        await asyncio.wait({self._listening})
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _listen(self) -> None:
        try:
            while reply := await receive(self._reader, _reply):
                if (waiting := self._waiting.get(reply.id)) and not waiting.done():
                    waiting.set_result(reply)
        finally:
            self.broken = True
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionError())
