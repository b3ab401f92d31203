"""The workers of a supervisor: started fresh, kept warm, and known to be dead as soon as they are."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import msgspec

from ....core import Outcome
from .. import _processes
from .._death import Death
from .._wire import pack, receive
from ._words import Done, Hello, Work

_done = msgspec.json.Decoder(Done)

Key = tuple[str, str]
"""Who a worker serves: the session of a client, and the directory its functions come from."""


class Worker:
    """A worker process and the channel to it."""

    def __init__(
        self, key: Key, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.key, self.process, self.used = key, process, False
        self.started = _processes.started(process.pid)
        self._reader, self._writer = reader, writer
        self._death = Death(process.pid)
        # A process that the function forked may hold the channel open after the worker's death.
        self._death.ended.add_done_callback(lambda _: writer.transport.abort())

    @property
    def alive(self) -> bool:
        return not self._death.ended.done()

    async def ready(self) -> bool:
        """Wait until it is ready; False if it died instead."""
        return await receive(self._reader, _done) is not None

    async def perform(self, work: Work) -> Outcome | None:
        """The outcome it committed, None if it died or can no longer be talked to."""
        self.used = True
        self._writer.write(pack(work))
        done = await receive(self._reader, _done)
        return done.outcome if done else None

    async def end(self) -> int:
        """Kill it and all it started, and return its exit code."""
        if self.alive:
            _processes.kill_family(self.process.pid)
        await self._death.ended
        code = self.process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, 9)  # What it had started and left behind.
        await self._close()
        return code

    async def death(self) -> int:
        """Wait for it to end by itself, and return its exit code."""
        await self._death.ended
        return await self.end()

    async def _close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


class Crew:
    """Idle workers, and how to come by one."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._idle: list[Worker] = []

    async def take(self, key: Key, hello: Hello, memory: int | None) -> Worker | None:
        """A worker that serves this key, warm if there is one. None if it died in starting."""
        for worker in [w for w in self._idle if w.key == key]:
            self._idle.remove(worker)
            # What an earlier action left in memory must not count against this one.
            fat = memory is not None and worker.used and _processes.own_memory(worker.process.pid) > memory / 2
            if worker.alive and not fat:
                return worker
            await worker.end()
        try:
            worker = await self._start(key, hello)
        except OSError as error:
            print(f"cannot start {hello.python}: {error}", file=sys.stderr, flush=True)
            return None
        if await worker.ready():
            return worker
        await worker.end()
        return None

    async def give(self, worker: Worker, most: int) -> None:
        """Keep an idle worker, and of those that serve the same session no more than `most`."""
        self._idle.append(worker)
        mine = [w for w in self._idle if w.key[0] == worker.key[0]]
        await self._end([w for w in mine if not w.alive] or mine[: max(0, len(mine) - most)])

    async def dismiss(self, session: str = "") -> None:
        """End the idle workers of a session, or all."""
        await self._end([w for w in self._idle if session in ("", w.key[0])])

    async def _end(self, workers: list[Worker]) -> None:
        self._idle = [w for w in self._idle if w not in workers]
        for worker in workers:
            await worker.end()

    async def _start(self, key: Key, hello: Hello) -> Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = _spawn(hello, theirs.fileno(), self._root)
            except OSError:
                ours.close()
                raise
        reader, writer = await asyncio.open_connection(sock=ours)
        return Worker(key, process, reader, writer)


def _spawn(hello: Hello, channel: int, root: Path) -> subprocess.Popen[bytes]:
    """A fresh interpreter: the supervisor's own state is no business of anybody's functions."""
    return subprocess.Popen(
        # The root is there for whoever reads a list of processes.
        [hello.python, "-P", "-m", f"{__package__}._worker", str(channel), str(root)],
        cwd=hello.directory if os.path.isdir(hello.directory) else root,
        env={**dict.fromkeys(_processes.ONE_THREAD, "1"), **hello.environment, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL, pass_fds=(channel,), start_new_session=True,
    )  # fmt: skip
