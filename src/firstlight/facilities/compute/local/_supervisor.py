"""The supervisor: one detached process a root, which owns the workers and speaks for the dead.

It outlives the clients, enforces limits, commits a failure on behalf of a worker that cannot, and leaves when there
is nothing to do and nobody to do it for. Killed itself, it is no loss: its workers end what they have begun, and the
next supervisor of the root takes over from the run directories.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path

import msgspec
from msgspec.structs import replace

from ....core import Cause, Failure, Outcome, Permit
from .. import _processes
from .._death import Death
from .._rundir import tail
from .._start import becoming
from .._wire import Await, Cancel, Find, Reply, Shutdown, Submit, pack, receive
from ._crew import Crew, Worker
from ._store import Claim, Store
from ._words import Hello, Request, Work

ATTEMPTS = 3
"""How often an action is begun whose performer vanishes without a word, before it counts as crashed."""
LOOK_EVERY = 0.05
LINGER = 5.0

_request: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


class Job:
    """An action that has been asked for and has not ended."""

    def __init__(self, action: str) -> None:
        self.action = action
        self.ended: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
        self.pid = 0
        self.killed: Failure | None = None

    def kill(self, cause: Cause, message: str) -> None:
        """End it, running or still waiting; the first reason is the one that counts."""
        self.killed = self.killed or Failure(cause=cause, message=message)
        if self.pid:
            _processes.kill_family(self.pid)


class Supervisor:
    """All actions of one root."""

    def __init__(self, root: Path, store: Store) -> None:
        self._store, self._crew = store, Crew(root)
        self._boot, self._oom = _processes.boot(), _processes.oom_kills()
        self._jobs: dict[str, Job] = {}
        self._clients: dict[str, Hello] = {}
        self._busy = 0
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._left = asyncio.Event()
        self._quiet_since = time.monotonic()

    async def serve(self, listening: str, lock: Path) -> None:
        """Serve until there is nothing to do, nobody to do it for, or no root any more."""
        for claim in self._store.claims():
            self._adopt(claim)
        server = await asyncio.start_unix_server(self._welcome, listening)
        os.chmod(listening, 0o600)
        print("ready", flush=True)
        os.dup2(2, 1)
        while not self._left.is_set() and not self._idle(lock):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._left.wait(), 1.0)
        server.close()
        await self._crew.dismiss()

    def _idle(self, lock: Path) -> bool:
        if self._clients or self._jobs:
            self._quiet_since = time.monotonic()
        return not self._clients and (time.monotonic() - self._quiet_since > LINGER or not lock.exists())

    # ------------------------------------------------------------------ clients

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Cancelled it is when the supervisor leaves, which asyncio would report as an error.
        with contextlib.suppress(asyncio.CancelledError):
            await self._client(reader, writer)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await receive(reader, _request)
        if isinstance(hello, Hello):
            self._clients[hello.session] = hello
            waiting: set[asyncio.Task[None]] = set()
            while request := await receive(reader, _request):
                task = asyncio.create_task(self._answer(request, hello, writer))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
            for task in waiting:
                task.cancel()
            del self._clients[hello.session]
            await self._crew.dismiss(hello.session)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _answer(self, request: Request, hello: Hello, writer: asyncio.StreamWriter) -> None:
        assert not isinstance(request, Hello)
        reply = Reply(id=request.id)
        try:
            match request:
                case Submit(permit=permit):
                    reply = Reply(id=request.id, job=self.submit(permit, hello))
                case Find(action=action):
                    reply = Reply(id=request.id, job=self.find(action, hello))
                case Await(job=job):
                    reply = Reply(id=request.id, outcome=await self.outcome(job, hello))
                case Cancel(job=job):
                    await self.cancel(job)
                case Shutdown():
                    await self._shutdown()
        except OSError as error:
            reply = Reply(id=request.id, unavailable=str(error))
        if not writer.is_closing():
            writer.write(pack(reply))
        if isinstance(request, Shutdown):
            self._left.set()

    # ------------------------------------------------------------------ the port

    def submit(self, permit: Permit, hello: Hello) -> str:
        """Remember the permit and begin, unless the action is under way or has ended."""
        action = permit.action.id
        run = self._store.run(action)
        if action in self._jobs or run.result():
            return action
        if run.attempts() >= ATTEMPTS:
            self._commit(action, _vanished())
            return action
        run.write_spec(permit)
        self._begin(permit, hello)
        return action

    def find(self, action: str, hello: Hello) -> str | None:
        """The action, if it runs, has ended, or was accepted and is still to begin."""
        run = self._store.run(action)
        if action in self._jobs or run.result():
            return action
        permit, attempts = run.spec(), run.attempts()
        if permit is None or 0 < attempts < ATTEMPTS:
            return None
        return self.submit(permit, hello)

    async def outcome(self, action: str, hello: Hello) -> Outcome:
        """Wait for the end. Whoever vanished without a word is performed again where that may be."""
        run = self._store.run(action)
        while True:
            if job := self._jobs.get(action):
                await asyncio.shield(job.ended)
            if result := run.result():
                return result
            permit = run.spec()
            if permit is None:
                return Failure(cause="lost", message=f"nothing is known of {action} here")
            if run.attempts() and not permit.action.repeatable:
                return self._commit(action, replace(_vanished(), cause="lost"))
            self.submit(permit, hello)

    async def cancel(self, action: str) -> None:
        """End it, if it has not ended."""
        if job := self._jobs.get(action):
            job.kill("cancelled", "cancelled on request")
            async with self._changed:
                self._changed.notify_all()

    async def _shutdown(self) -> None:
        """End all workers now. What they were doing has no outcome, and may be performed again."""
        for task in self._tasks:
            task.cancel()
        for job in list(self._jobs.values()):
            if job.pid:
                _processes.kill_family(job.pid)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._crew.dismiss()

    # ------------------------------------------------------------------ performing

    def _begin(self, permit: Permit, hello: Hello) -> None:
        job = self._jobs[permit.action.id] = Job(permit.action.id)
        self._look_after(self._perform(job, permit, hello), job)

    def _look_after(self, work: Coroutine[None, None, None], job: Job) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._jobs.pop(job.action, None)
            error = OSError("the supervisor is leaving") if task.cancelled() else task.exception()
            if error is None:
                job.ended.set_result(None)
                return
            print(f"{job.action}: {error!r}", file=sys.stderr, flush=True)
            # Nobody need be waiting, so it is looked at here; whoever does wait may ask again later.
            job.ended.set_exception(OSError(str(error)))
            job.ended.exception()

        task.add_done_callback(ended)

    async def _perform(self, job: Job, permit: Permit, hello: Hello) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._busy < self._slots(hello) or job.killed)
            self._busy += 1
        try:
            await self._in_a_slot(job, permit, hello)
        finally:
            async with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    async def _in_a_slot(self, job: Job, permit: Permit, hello: Hello) -> None:
        limits = permit.action.limits
        if job.killed:
            await self._end(job, job.killed, None, hello.fsync)
            return
        worker = await self._crew.take((hello.session, _directory(permit)), hello, limits.memory)
        if worker is None:
            why = "a worker could not be started; supervisor.log in the facility's directory says why"
            await self._end(job, Failure(cause="crashed", message=why), None, hello.fsync)
            return
        try:
            attempt = self._store.run(job.action).begin()
            job.pid = worker.process.pid
            claim = Claim(
                action=job.action, attempt=str(attempt), pid=job.pid, started=worker.started, boot=self._boot,
                at=time.time(),
            )  # fmt: skip
            self._store.claim(claim)
            with self._limits(job, permit, claim.at):
                if job.killed:
                    _processes.kill_family(job.pid)
                outcome = await worker.perform(
                    Work(permit=permit, attempt=str(attempt), fsync=hello.fsync, launcher=hello.launcher)
                )
        except (asyncio.CancelledError, OSError):
            await worker.end()
            raise
        if outcome is None:
            outcome = self._epitaph(job, await worker.end())
            await self._end(job, replace(outcome, started=claim.at, ended=time.time()), attempt, hello.fsync)
        self._store.release(job.action)
        await self._keep(worker, hello)

    async def _keep(self, worker: Worker, hello: Hello) -> None:
        if hello.session in self._clients and worker.alive:
            await self._crew.give(worker, hello.slots)
        else:
            await worker.end()

    def _slots(self, hello: Hello) -> int:
        """As many at once as the most generous client says: they share one machine."""
        return max(hello.slots, *(client.slots for client in self._clients.values()), 1)

    @contextlib.contextmanager
    def _limits(self, job: Job, permit: Permit, begun: float) -> Iterator[None]:
        """Enforce the limits of an action while it runs."""
        loop, limits = asyncio.get_running_loop(), permit.action.limits
        timer = watch = None
        if limits.seconds is not None:
            left = max(0.0, begun + limits.seconds - time.time())
            timer = loop.call_later(left, job.kill, "timed-out", f"ran longer than {limits.seconds:g} s")
        if limits.memory is not None:
            watch = loop.create_task(_watch_memory(job, limits.memory))
        try:
            yield
        finally:
            if timer:
                timer.cancel()
            if watch:
                watch.cancel()

    def _epitaph(self, job: Job, code: int) -> Failure:
        """What to say of a worker that ended without an outcome."""
        before, self._oom = self._oom, _processes.oom_kills()
        if job.killed:
            return job.killed
        cause, how = _processes.cause_of_death(code, self._oom > before)
        return Failure(cause=cause, message=f"the process {how}")

    async def _end(self, job: Job, failure: Failure, attempt: Path | None, fsync: bool) -> None:
        failure = replace(failure, log=tail(attempt) if attempt else "")
        await asyncio.to_thread(self._store.run(job.action).commit_patiently, failure, fsync)

    def _commit(self, action: str, failure: Failure) -> Outcome:
        run = self._store.run(action)
        return run.commit_patiently(replace(failure, log=tail(run.last())))

    # ------------------------------------------------------------------ taking over

    def _adopt(self, claim: Claim) -> None:
        """Take over what an earlier supervisor has left running, or tidy up after it."""
        permit = self._store.run(claim.action).spec()
        alive = claim.boot == self._boot and _processes.started(claim.pid) == claim.started
        if permit is None or not alive or self._store.run(claim.action).result():
            self._store.release(claim.action)
            return
        job = self._jobs[claim.action] = Job(claim.action)
        job.pid = claim.pid
        self._busy += 1
        self._look_after(self._await_stranger(job, permit, claim), job)

    async def _await_stranger(self, job: Job, permit: Permit, claim: Claim) -> None:
        try:
            with self._limits(job, permit, claim.at):
                await Death(claim.pid).ended
            if job.killed:
                failure = replace(job.killed, started=claim.at, ended=time.time())
                await self._end(job, failure, Path(claim.attempt), True)
            self._store.release(job.action)
        finally:
            async with self._changed:
                self._busy -= 1
                self._changed.notify_all()


async def _watch_memory(job: Job, limit: int) -> None:
    watch = _processes.MemoryWatch(job.pid)
    while not job.killed:
        if (used := watch.resident()) > limit:
            job.kill("out-of-memory", f"used {used / 2**20:.0f} MiB of memory; its limit is {limit / 2**20:.0f} MiB")
        await asyncio.sleep(LOOK_EVERY)


def _directory(permit: Permit) -> str:
    return str(permit.action.settings.get("directory") or "")


def _vanished() -> Failure:
    return Failure(cause="crashed", message="whatever performed it vanished without a word, as in a power cut")


def main() -> None:
    """Become the supervisor of the root given, detached from whoever started it; say "ready", or why not."""
    root = Path(sys.argv[1])
    with becoming(root, "supervisor") as (listening, lock):
        store = Store(root)
        store.prepare()
        asyncio.run(_serve(root, store, listening, lock))
        # In the root it stays: whoever is removing that directory just now must not find it gone.
        if not Path(listening).is_relative_to(root):
            Path(listening).unlink(missing_ok=True)


async def _serve(root: Path, store: Store, listening: str, lock: Path) -> None:
    await Supervisor(root, store).serve(listening, lock)


if __name__ == "__main__":
    main()
