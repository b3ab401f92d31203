"""A connection to a SECoP node that comes back by itself: requests, their answers, and the updates in between."""

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ...core import Unavailable

_REPLIES = {
    "reply": "read", "changed": "change", "done": "do", "pong": "ping", "describing": "describe", "active": "activate",
}  # fmt: skip
_NAMED = ("read", "change", "do", "ping")
LONGEST = 2**24
"""Bytes that a line may have: structure reports are long."""


class Refusal(Exception):
    """The node answered with an error report of class `kind`."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}" if text else kind)
        self.kind = kind


class Lost(Exception):
    """It was sent, and no answer came."""


class Silent(Exception):
    """The node is there, and says nothing."""


class Link:
    """One connection, made when it is first needed and again whenever it was lost.

    `patience` and `heartbeat` are seconds: for an answer, and without a word before the node is pinged; as long again
    without one, and it counts as gone. `hear(what, value)` is called for every value that the node tells, in order;
    None is a value that cannot be read. `meet(structure)` is called once it has described itself, before its values.
    """

    def __init__(
        self, address: str, patience: float, heartbeat: float,
        hear: Callable[[str, Any], None], meet: Callable[[dict[str, Any]], None],
    ) -> None:  # fmt: skip
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError(f"the address of a SECoP node is host:port, not {address!r}")
        self.address, self._host, self._port = address, host.strip("[]"), int(port)
        self._patience, self._heartbeat, self._hear, self._meet = patience, heartbeat, hear, meet
        self._pending = dict[tuple[str, str], deque[asyncio.Future[Any]]]()
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake, self._changed = asyncio.Event(), asyncio.Event()
        self._attempt: asyncio.Future[str] | None = None
        self._heard, self.online, self.epoch, self.closed = 0.0, False, 0, False

    def changed(self) -> asyncio.Event:
        """An event that is set at the next change of anything."""
        return self._changed

    async def ready(self) -> None:
        """Return once there is a connection. Raises Unavailable where one more attempt fails."""
        # It may be gone again before whoever waited for it goes on: from here to what is sent next nothing waits.
        while not self.online:
            if self.closed:
                raise Unavailable(f"{self.address} was let go of")
            if self._task is None:
                self._task = asyncio.create_task(self._supervise(), name=f"SECoP {self.address}")
            if self._attempt is None or self._attempt.done():
                self._attempt = asyncio.get_running_loop().create_future()
            self._wake.set()
            if why := await asyncio.shield(self._attempt):
                raise Unavailable(f"{self.address}: {why}")

    async def ask(self, verb: str, what: str, *data: Any) -> Any:
        """The data of the answer. Raises Unavailable (nothing was sent), Refusal, and Lost."""
        await self.ready()
        return await self._ask(verb, what, *data)

    async def close(self) -> None:
        """Hang up, for good."""
        self.closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            # The transport lets go of its socket in the next turn of the loop.
            await asyncio.sleep(0)
        self._notify()

    async def _ask(self, verb: str, what: str, *data: Any) -> Any:
        if self._writer is None:
            raise Unavailable(f"{self.address}: there is no connection")
        line = " ".join([verb, *([what] if what else []), *(json.dumps(d) for d in data)])
        answer = asyncio.get_running_loop().create_future()
        key = (verb, what if verb in _NAMED else "")
        self._pending.setdefault(key, deque()).append(answer)
        self._writer.write(line.encode() + b"\n")
        try:
            async with asyncio.timeout(self._patience):
                return await answer
        except TimeoutError:
            # Answers of one name come in order: after one that never came, no later one could be told from it.
            self._hang_up()
            raise Lost(f"{self.address} did not answer {verb} {what} within {self._patience:g} s") from None

    def _hang_up(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()

    async def _supervise(self) -> None:
        wait = 0.05
        while True:
            why, since = "", time.monotonic()
            self._wake.clear()
            try:
                await self._session()
            except (OSError, TimeoutError, ValueError, Lost, Silent, Refusal, Unavailable) as error:
                why = str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
            finally:
                self._down(why or "it hung up")
            wait = 0.05 if time.monotonic() - since > 5 else min(2 * wait, 2.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    async def _session(self) -> None:
        async with asyncio.timeout(self._patience):
            reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=LONGEST)
        self._heard = time.monotonic()
        listening = asyncio.create_task(self._listen(reader))
        beating = asyncio.create_task(self._beat())
        hello = asyncio.create_task(self._greet())
        try:
            await asyncio.wait((listening, hello), return_when=asyncio.FIRST_COMPLETED)
            if hello.done():
                hello.result()
                self.online, self.epoch = True, self.epoch + 1
                self._tell("")
            await asyncio.wait((listening, beating), return_when=asyncio.FIRST_COMPLETED)
            for task in (beating, listening):
                if task.done():
                    task.result()
        finally:
            for task in (listening, beating, hello):
                task.cancel()
            await asyncio.gather(listening, beating, hello, return_exceptions=True)

    async def _greet(self) -> None:
        said = str(await self._ask("*IDN?", ""))
        if ",SECoP," not in said:
            raise ValueError(f"it is no SECoP node: it says {said[:80]!r}")
        try:
            self._meet(await self._ask("describe", ""))
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"its structure report cannot be understood: {error!r}") from None
        await self._ask("activate", "")

    async def _beat(self) -> None:
        """Ping a node that says nothing. Raises Silent where it goes on so."""
        number = 0
        while True:
            quiet = time.monotonic() - self._heard
            if quiet < self._heartbeat:
                await asyncio.sleep(self._heartbeat - quiet)
                continue
            number, before = number + 1, self._heard
            if self._writer is not None:
                self._writer.write(f"ping {number}\n".encode())
            await asyncio.sleep(self._heartbeat)
            if self._heard == before:
                raise Silent(f"it has said nothing for {2 * self._heartbeat:g} s")

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            self._heard = time.monotonic()
            try:
                self._line(line.decode(errors="replace").strip())
            except (LookupError, TypeError) as error:
                raise ValueError(f"it says {line[:80]!r}: {error!r}") from None
        raise OSError("it hung up")

    def _line(self, line: str) -> None:
        if ",SECoP," in line.split(" ")[0]:
            self._answer(("*IDN?", ""), line)
            return
        verb, _, rest = line.partition(" ")
        what, _, text = rest.partition(" ")
        data: Any = json.loads(text) if text else None
        error = verb.startswith("error_")
        verb = verb.removeprefix("error_")
        if verb == "update":
            self._hear(what, None if error else data[0])
            self._notify()
            return
        request = verb if error else _REPLIES.get(verb, verb)
        if not error and request in ("read", "change"):
            self._hear(what, data[0])
            self._notify()
        refusal = Refusal(str(data[0]), str(data[1])) if error and data else Refusal("an error of no class", line)
        self._answer((request, what if request in _NAMED else ""), refusal if error else data)

    def _answer(self, key: tuple[str, str], said: Any) -> None:
        waiting = self._pending.get(key)
        if not waiting:
            return
        future = waiting.popleft()
        if future.done():
            return
        if isinstance(said, Exception):
            future.set_exception(said)
        else:
            future.set_result(said)

    def _down(self, why: str) -> None:
        self._hang_up()
        self.online, self._writer = False, None
        pending, self._pending = self._pending, {}
        for future in (f for waiting in pending.values() for f in waiting if not f.done()):
            future.set_exception(Lost(f"{self.address} went away before it answered: {why}"))
            future.exception()
        self._tell(why)

    def _tell(self, why: str) -> None:
        if self._attempt is not None and not self._attempt.done():
            self._attempt.set_result(why)
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
