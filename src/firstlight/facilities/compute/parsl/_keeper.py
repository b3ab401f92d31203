"""The keeper: one detached process a root, which has the pilots and gives them what there is to do.

It outlives its clients. What Parsl says of a bundle is a hint: whatever was lost is looked for in its run directory,
and handed out again where there is no result. It leaves, and leaves nothing allocated, when there is nothing to do and
nobody to do it for.
"""

import asyncio
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec

from .._channel import Channel
from .._death import Death
from .._start import becoming
from .._wire import Await, Cancel, Find, Shutdown, Submit
from . import _leftovers
from ._pilots import DIED, Pilots
from ._words import Answer, Goodbye, Hello, Look, Request, View
from ._work import Work

TICK = 0.1
LOOK_EVERY = 1.0
"""Seconds between two looks at the pilots, unless they are waited for."""
REST = (5.0, 30.0, 120.0, 600.0)
"""Seconds before pilots are tried again after they came to nothing."""
LASTED = 120.0
"""Seconds after which the trouble of pilots is not that of those before."""

_request: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_encoder = msgspec.json.Encoder()


class Client:
    """Whoever is connected, and what it has said of its site."""

    def __init__(self, keeper: "Keeper") -> None:
        self.hello: Hello | None = None
        self.channel = Channel(lambda body: keeper.heard(self, body), lambda: keeper.lost(self))


class Keeper:
    """All actions of one root, and its pilots."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._work = Work(root)
        self._clients: set[Client] = set()
        self._hello: Hello | None = None
        self._pilots: Pilots | None = None
        self._up = self._looking = False
        self._troubles, self._rests_until, self._since = 0, 0.0, 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving = asyncio.Event()
        self._alone_since, self._clean = time.monotonic(), False

    async def serve(self, listening: str, lock: Path) -> None:
        """Serve until there is nothing to do, nobody to do it for, or no root any more."""
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: Client(self).channel, listening)
        os.chmod(listening, 0o600)
        print("ready", flush=True)
        os.dup2(2, 1)
        for file in _leftovers.left(self._root / "pilots"):
            self._do(asyncio.to_thread(_leftovers.clear, file), f"clear {file.name}")
        while not self._leaving.is_set() and not self._idle(lock):
            await self._tick()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), TICK if self._work.jobs else 5 * TICK)
        server.close()
        pilots, self._pilots = self._pilots, None
        if pilots:
            await pilots.end()
        shutil.rmtree(self._root / "spare", ignore_errors=True)  # Nobody is there to use it again.
        for client in list(self._clients):
            await client.channel.close()

    def _idle(self, lock: Path) -> bool:
        if self._clients:
            self._alone_since = time.monotonic()
        # What there can be no workers for is asked for again by whoever comes next.
        if self._clients or (self._work.jobs and not self._work.trouble):
            return False
        linger = 0.0 if self._clean else self._hello.linger if self._hello else 5.0
        return time.monotonic() - self._alone_since > linger or not lock.exists()

    def _do(self, work: Coroutine[Any, Any, None], what: str) -> None:
        task = asyncio.get_running_loop().create_task(_said(work, what))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------------ clients

    def lost(self, client: Client) -> None:
        """A client has gone, with a word or without."""
        self._clients.discard(client)
        self._work.leave(client.channel)

    def heard(self, client: Client, body: bytes) -> None:
        """Do what a client asks; a reply comes when there is one."""
        request = _request.decode(body)
        match request:
            case Hello():
                client.hello = self._hello = self._work.hello = request
                self._clients.add(client)
                self._alone_since, self._clean = time.monotonic(), False
            case Goodbye():
                self._clients.discard(client)
                self._clean = not self._clients
            case Look(id=id, job=job):
                client.channel.send(_encoder.encode(self._view(id, job)))
            case _ if client.hello is not None:
                try:
                    self._answer(client, client.hello, request)
                except OSError as error:
                    client.channel.send(_encoder.encode(Answer(id=request.id, unavailable=str(error))))

    def _answer(self, client: Client, hello: Hello, request: Submit | Find | Await | Cancel | Shutdown) -> None:
        job: str | None = None
        match request:
            case Submit(permit=permit):
                if self._work.trouble and permit.action.id not in self._work.jobs:
                    raise OSError(self._work.trouble)
                job = self._work.submit(permit, hello)
            case Find(action=action):
                job = self._work.find(action, hello)
            case Await():
                self._work.wait(client.channel, request, hello)
                return
            case Cancel(job=action):
                self._work.cancel(action)
            case Shutdown():
                self._do(self._shut_down(client, request.id), "shut down")
                return
        client.channel.send(_encoder.encode(Answer(id=request.id, job=job)))

    async def _shut_down(self, client: Client, id: int) -> None:
        """End the pilots now. What they were doing has no outcome, and may be performed again."""
        pilots, self._pilots = self._pilots, None
        if pilots:
            await pilots.end()
        client.channel.send(_encoder.encode(Answer(id=id)))
        self._leaving.set()

    def _view(self, id: int, action: str) -> View:
        work, blocks = self._work, self._pilots.blocks if self._pilots else {}
        return View(
            id=id, running=work.running, queued=max(0, len(work.jobs) - work.running), trouble=work.trouble,
            workers=self._pilots.workers if self._pilots else 0, blocks=blocks,
            job=work.status(action, blocks) if action else None,
        )  # fmt: skip

    # ------------------------------------------------------------------ looking after everything

    async def _tick(self) -> None:
        self._work.look()
        if self._pilots is None:
            if self._work.jobs and self._hello and time.monotonic() >= self._rests_until:
                self._do(self._start(self._hello), "start pilots")
        elif self._up and not self._looking:
            self._looking = True
            self._do(self._look(self._pilots), "look")

    async def _start(self, hello: Hello) -> None:
        self._pilots = pilots = Pilots(self._root, hello, lambda: len(self._work.jobs))
        with contextlib.suppress(OSError):
            os.chdir(hello.directory)
        os.environ.clear()
        os.environ.update(hello.environment)
        try:
            await pilots.start()
        except Exception as error:  # noqa: BLE001 (a site's own file, and Parsl, raise anything; it is shown)
            await self._give_up(pilots, f"pilots cannot be started: {error}")
            return
        self._up, self._since = True, time.monotonic()
        self._work.hand_to(pilots)
        death = Death(pilots.interchange)
        death.ended.add_done_callback(lambda _: self._orphaned(pilots))

    def _orphaned(self, pilots: Pilots) -> None:
        if pilots is self._pilots and not self._leaving.is_set():
            self._do(self._give_up(pilots, pilots.words), "give up")

    async def _look(self, pilots: Pilots) -> None:
        try:
            await pilots.look()
        except ConnectionError as error:
            print(error, flush=True)  # Whoever waits for its death hears of it too.
        except Exception as error:  # noqa: BLE001 (Parsl may raise anything)
            pilots.trouble = f"{type(error).__name__}: {error}"
        try:
            if pilots.trouble:
                await self._give_up(pilots, pilots.trouble)
            self._work.pump()
            await asyncio.sleep(0.0 if self._work.waits and not pilots.workers else LOOK_EVERY)
        finally:
            self._looking = False

    async def _give_up(self, pilots: Pilots, why: str) -> None:
        """These pilots are no use any more: what they were given is given to the next."""
        if pilots is not self._pilots or pilots.over:
            return
        pilots.over = True
        print(why, flush=True)
        self._up = False
        now = time.monotonic()
        self._troubles = 0 if now - self._since > LASTED and self._since else self._troubles
        flights = self._work.take_back()
        await pilots.end()
        if why != DIED or self._troubles:
            self._rests_until = now + REST[min(self._troubles, len(REST) - 1)]
            self._work.complain(why)
            asyncio.get_running_loop().call_later(self._rests_until - now, self._work.recover)
        self._troubles += 1
        self._pilots = None
        for flight in flights:
            self._work.lost(flight, why)


async def _said(work: Coroutine[Any, Any, None], what: str) -> None:
    try:
        await work
    except Exception as error:  # noqa: BLE001 (nobody else would hear of it)
        print(f"{what}: {type(error).__name__}: {error}", flush=True)


def main() -> None:
    """Become the keeper of the root given, detached from whoever started it; say "ready", or why not."""
    root = Path(sys.argv[1])
    with becoming(root, "keeper") as (listening, lock):
        (root / "actions").mkdir(exist_ok=True)
        (root / "pilots").mkdir(exist_ok=True)
        asyncio.run(_serve(root, listening, lock))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # Sockets of an executor that was given up would be waited for.


async def _serve(root: Path, listening: str, lock: Path) -> None:
    await Keeper(root).serve(listening, lock)


if __name__ == "__main__":
    main()
