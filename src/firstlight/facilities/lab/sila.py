"""Instruments that speak SiLA 2: any server, from the features that it tells of itself.

A command that SiLA calls observable is known to the server by a UUID, which is in our handle: a run of it is found
again after our own crash. An unobservable one is a call that has to be waited for: with the process that made it dies
every way to learn what came of it, so it is then in doubt.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import grpc

from ...core import (
    ENDED,
    Action,
    InDoubt,
    InstrumentDescription,
    NotStarted,
    Operation,
    Permit,
    Reading,
    Run,
    Signal,
    Unavailable,
)
from ._remembered import remember
from ._sila_discovery import Discovered, discover
from ._sila_link import Answer, Link, Replaced, Silent, is_loopback, offers
from ._sila_runs import (
    REFUSALS,
    canceller,
    done,
    failed,
    full,
    gone,
    is_observable,
    performed,
    read_once,
    refusal,
    stages,
    values,
)
from ._sila_types import argument, bare, signal
from ._stops import Stops

__all__ = ["Discovered", "SilaInstrument", "discover"]

_READ = "Get_"
"""How the operation that reads a property begins; no identifier of SiLA has an underscore."""
_STOP = 10.0
"""Seconds that an instrument may take to come to its safe stop."""
_ASKED = 0.1
"""Seconds in which an unobservable command that is refused is refused."""


class SilaInstrument:
    """One SiLA 2 server as an instrument.

    `address` is host:port. The connection is encrypted, and the server known by `root_certificate`, a PEM file with its
    own or its authority's certificate ("" for the authorities of the system); `certificate_name` is the name in it
    where that is not the host's. `insecure` leaves encryption out, which is for loopback only unless `force_insecure`.
    `features` names those to offer (by identifier; all but SiLA's own where empty). `stop_command` names a command
    without arguments that brings the instrument to a safe stop. `metadata` is sent along where the server wants it, by
    fully qualified identifier. `patience` is how many seconds an answer may take, `heartbeat` after how many of silence
    a stream is looked after, `poll` how often a property that cannot be subscribed is read, and `lost_after` after how
    many seconds without any sign of life an unobservable command is given up as unknown.
    """

    def __init__(
        self,
        name: str,
        address: str = "127.0.0.1:50051",
        *,
        insecure: bool = False,
        force_insecure: bool = False,
        root_certificate: str = "",
        certificate_name: str = "",
        features: Sequence[str] = (),
        stop_command: str = "",
        metadata: Mapping[str, Any] | None = None,
        slots: int = 1,
        patience: float = 5.0,
        heartbeat: float = 5.0,
        poll: float = 1.0,
        lost_after: float = 60.0,
    ) -> None:
        if insecure and root_certificate:
            raise ValueError("a certificate is for an encrypted connection: leave out insecure")
        if insecure and not force_insecure and not is_loopback(address.rpartition(":")[0]):
            raise ValueError(
                f"{address} is not this machine: give root_certificate, or force_insecure on a safe network"
            )
        self.name, self._address, self._insecure = name, address, insecure
        self._certificate, self._certificate_name = root_certificate, certificate_name
        self._features, self._stop_command, self._metadata = tuple(features), stop_command, dict(metadata or {})
        self._slots, self._patience, self._heartbeat = slots, patience, heartbeat
        self._poll, self._lost_after = poll, lost_after
        self._link: Link | None = None
        self._opening = asyncio.Lock()
        self._calls: dict[str, asyncio.Task[Run]] = {}
        self._began: dict[str, float] = {}
        self._cancelled: dict[str, bool] = {}
        self._stops = Stops(name)

    async def _connected(self) -> Link:
        async with self._opening:
            if self._link is None:
                credentials = None
                if not self._insecure:
                    read = Path(self._certificate).read_bytes
                    trusted = await asyncio.to_thread(read) if self._certificate else None
                    credentials = grpc.ssl_channel_credentials(trusted)
                link = Link(self._address, credentials, self._certificate_name, self._patience, self._metadata)
                try:
                    await link.open()
                except BaseException:
                    await link.close()
                    raise
                self._link = link
            return self._link

    async def _ready(self) -> Link:
        """A link whose server has just answered: what fails from now on was sent."""
        link = await self._connected()
        try:
            await link.alive()
        except Replaced:
            await self._forget()
            return await self._connected()
        return link

    async def _replaced(self, error: Exception) -> None:
        """Where another server answers by now, what it implements is read anew before anything else is asked."""
        if isinstance(error, Replaced):
            await self._forget()

    async def _forget(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def describe(self) -> InstrumentDescription:
        """What its features say. SiLA does not tell effects, so every command consumes; reading a property reads."""
        link = await self._ready()
        operations, signals = list[Operation](), list[Signal]()
        for name, node in self._nodes(link).items():
            if hasattr(node, "parameters"):
                taken, given = map(argument, node.parameters), map(argument, node.responses)
                words = " ".join(node._description.split())
                operations.append(Operation(name=name, arguments=tuple(taken), results=tuple(given), description=words))
                continue
            if found := signal(name, node):
                signals.append(found)
            before, _, last = name.rpartition(".")
            reading = f"{before}.{_READ}{last}" if before else f"{_READ}{last}"
            operations.append(Operation(name=reading, effect="read", results=(argument(node),)))
        about, left = link.about, [f"{name} is left out: {why}" for name, why in link.left_out.items()]
        return InstrumentDescription(
            name=self.name, protocol="sila", operations=tuple(operations), signals=tuple(signals),
            vendor=about["ServerVendorURL"], model=about["ServerType"], serial=about["ServerUUID"],
            version=about["ServerVersion"], slots=self._slots,
            description="\n".join([about["ServerDescription"], *left]),
        )  # fmt: skip

    def _nodes(self, link: Link) -> dict[str, Any]:
        """Commands and properties by the names that they have here: Feature.Command, or Command of an only feature."""
        own = [f for f in link.features.values() if offers(f, self._features)]
        found = dict[str, Any]()
        for feature in own:
            kinds = (
                feature._unobservable_commands, feature._observable_commands,
                feature._unobservable_properties, feature._observable_properties,
            )  # fmt: skip
            for node in (node for kind in kinds for node in kind.values()):
                found[node._identifier if len(own) == 1 else f"{feature._identifier}.{node._identifier}"] = node
        return found

    def _node(self, link: Link, name: str) -> Any:
        """A command or property by its name here, by Feature.Name, or by its own where only one has it; else None."""
        nodes = self._nodes(link)
        if name in nodes:
            return nodes[name]
        alike = [n for n in nodes.values() if name in (n._identifier, full(n))]
        return alike[0] if len(alike) == 1 else None

    async def start(self, permit: Permit) -> str:
        stops = self._stops.count
        link = await self._ready()
        action = permit.action
        node = self._node(link, action.operation.replace(_READ, "", 1))
        if node is None or hasattr(node, "parameters") == (_READ in action.operation):
            raise NotStarted(f"{self.name} has no operation {action.operation!r}", "invalid-input")
        if not hasattr(node, "parameters"):
            self._stops.none_since(stops)
            return self._keep(node, action.id, read_once(link, node))
        try:
            message = await link.message(node, action.settings)
        except ValueError as error:
            raise NotStarted(f"{action.operation}: {error}", "invalid-input") from error
        self._stops.none_since(stops)
        with self._stops.sending():
            if not is_observable(node):
                return await self._called(link, node, message, action.id)
            handle = await self._begun(link, node, message, action)
            if self._stops.count != stops:
                # The server may have handled the stop first. Where this fails, the stop is repeated, and says so.
                with suppress(NotStarted, Unavailable):
                    await self.cancel(handle)
            return handle

    async def _begun(self, link: Link, node: Any, message: Any, action: Action) -> str:
        """The handle of an observable command, which is sent once."""
        try:
            reply = await link.call(node, node._identifier, message, self._patience)
        except Silent as error:
            raise InDoubt(f"{self.name} was sent {action.operation} and did not answer: {error}") from error
        except Answer as error:
            if error.kind in ("defined", "undefined"):
                # An execution error, which says that the execution failed. What it had begun by then, it does not say:
                # a failure, not a refusal.
                return self._keep(node, action.id, done(failed(error)))
            if error.kind not in REFUSALS:
                raise InDoubt(f"{self.name} was sent {action.operation}, and answered: {error}") from error
            raise refusal(error) from error
        handle = f"{full(node)}/{reply.commandExecutionUUID.value}"
        remember(self._began, handle, time.time())
        return handle

    async def _called(self, link: Link, node: Any, message: Any, action: str) -> str:
        refused = list[Answer]()
        try:
            call = link.began(node, node._identifier, message)
        except Silent as error:  # the connection was closed, so it was not sent
            raise Unavailable(f"{self.name}: {error}") from error
        handle = self._keep(node, action, performed(link, node, call, self._heartbeat, self._lost_after, refused))
        await asyncio.wait({self._calls[handle]}, timeout=_ASKED)
        if refused:
            raise refusal(refused[0])
        return handle

    def _keep(self, node: Any, action: str, work: Any) -> str:
        for old in [h for h, call in self._calls.items() if call.done()][:-1000]:
            del self._calls[old]
        handle = f"{full(node)}/call/{action}"
        self._calls[handle] = asyncio.create_task(work)
        return handle

    async def reattach(self, action: str, handle: str) -> str | None:
        if not handle:
            raise InDoubt(f"{self.name} may have been sent {action}: SiLA does not tell what else runs on a server")
        if handle in self._calls:
            return handle
        _, node = await self._parsed(handle)
        if node is None:
            raise InDoubt(f"{handle} was a call of a process that is gone: what came of it cannot be asked")
        return handle

    async def _parsed(self, handle: str) -> tuple[Link, Any]:
        """The command of a run that a server tells of; None for a call of our own, or a command it has not."""
        link = await self._connected()
        name, _, uuid = handle.partition("/")
        feature, _, command = name.partition(".")
        found = None if uuid.startswith("call/") else link.features.get(feature)
        return link, found._observable_commands.get(command) if found else None

    def _stages(self, link: Link, handle: str, node: Any) -> AsyncGenerator[Run, None]:
        began, uuid = self._began.get(handle, 0.0), handle.partition("/")[2]
        return stages(link, node, uuid, self._heartbeat, began, handle in self._cancelled)

    async def status(self, handle: str) -> Run:
        if handle in self._calls:
            call = self._calls[handle]
            return Run(state="running") if not call.done() else gone(handle) if call.cancelled() else call.result()
        link, node = await self._parsed(handle)
        if node is None:
            return gone(handle)
        try:
            async with aclosing(self._stages(link, handle, node)) as stages:
                async for run in stages:
                    return run
        except (Silent, Answer) as error:
            raise Unavailable(f"{self.name}: {error}") from error
        raise Unavailable(f"{self.name} did not say how far {handle} has come")

    async def follow(self, handle: str) -> AsyncGenerator[Run, None]:
        if handle in self._calls:
            call = self._calls[handle]
            if not call.done():
                yield Run(state="running")
                await asyncio.wait({call})
            yield gone(handle) if call.cancelled() else call.result()
            return
        last, pause, told = Run(state="running"), 0.1, False
        while True:
            try:
                link, node = await self._parsed(handle)
                if node is None:
                    yield gone(handle)
                    return
                async with aclosing(self._stages(link, handle, node)) as stages:
                    async for run in stages:
                        pause = 0.1
                        if run != last or not told:
                            last, told = run, True
                            yield run
                        if run.state in ENDED:
                            return
            except (Unavailable, Silent, Answer) as error:
                await self._replaced(error)
                if not last.message:
                    told, message = True, f"not known just now: {error}"
                    last = Run(state=last.state, progress=last.progress, message=message, started=last.started)
                    yield last
            # Taken up anew it begins with how things stand, so nothing is missed in between.
            await asyncio.sleep(pause)
            pause = min(2 * pause, 2.0)

    async def watch(self, signals: Sequence[str]) -> AsyncGenerator[Reading, None]:
        queue = asyncio.Queue[Reading | BaseException]()

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()):
                queue.put_nowait(error)

        tasks = [asyncio.create_task(self._listen(name, queue)) for name in signals]
        for task in tasks:
            task.add_done_callback(ended)
        try:
            while True:
                item = await queue.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, name: str, queue: "asyncio.Queue[Reading | BaseException]") -> None:
        last, pause = Reading(signal=name, value=None, at=-1.0), 0.1
        while True:
            began = time.monotonic()
            try:
                link = await self._connected()
                node = self._node(link, name)
                if node is None or hasattr(node, "parameters"):
                    raise ValueError(f"{self.name} has no signal {name!r}")
                async with aclosing(values(link, node, self._heartbeat, self._poll)) as found:
                    async for value in found:
                        if value != last.value or last.at < 0:
                            last = Reading(signal=name, value=value, at=time.time())
                            queue.put_nowait(last)
            except (Unavailable, Silent, Answer) as error:
                if last.value is not None or last.at < 0:
                    last = Reading(signal=name, value=None, at=time.time())
                    queue.put_nowait(last)
                await self._replaced(error)
            # A signal that fails again and again is asked for ever more rarely.
            pause = 0.1 if time.monotonic() - began > 5 else min(2 * pause, 2.0)
            await asyncio.sleep(pause)

    async def cancel(self, handle: str) -> None:
        """By the server's CancelController. Raises NotStarted where it cannot, and the run goes on."""
        link = await self._ready()
        command = canceller(link, "CancelCommand")
        uuid = handle.partition("/")[2]
        if command is None or uuid.startswith("call/"):
            raise NotStarted(f"{self.name} cannot cancel {handle}: the server has no way to")
        asked = bare(next(iter(command.parameters)).data_type, uuid)
        message = command.parameters.message_type(CommandExecutionUUID=asked)
        remember(self._cancelled, handle, True)
        try:
            await link.call(command, command._identifier, message, self._patience)
        except Silent as error:  # asking twice harms nothing
            raise Unavailable(f"{self.name} did not answer: {error}") from error
        except Answer as error:
            if "InvalidCommandExecutionUUID" in error.identifier:
                return  # it has ended by itself; `follow` tells how
            self._cancelled.pop(handle, None)
            raise NotStarted(f"{self.name} cannot cancel {handle}: {error}") from error

    async def safe_stop(self) -> None:
        """By the server's CancelController and `stop_command`, whichever there are; both are tried.

        Raises NotStarted where there is neither or one was refused, and InDoubt where one got no answer.
        """
        await self._stops.stop(self._stop_all)

    async def _stop_all(self) -> None:
        link = await self._connected()
        every, own = canceller(link, "CancelAll"), self._node(link, self._stop_command) if self._stop_command else None
        if every is None and own is None:
            raise NotStarted(f"{self.name} has no way to stop: no CancelController, and no stop_command is given")
        wrong, silent = list[str](), False
        commands = [c for c in (every, own) if c is not None]
        # Neither waits for the other, nor keeps it from being sent.
        said = await asyncio.gather(*(self._stopped(link, c) for c in commands), return_exceptions=True)
        for command, error in zip(commands, said, strict=True):
            if isinstance(error, Silent | Answer):
                wrong.append(f"{full(command)}: {error}")
                silent = silent or isinstance(error, Silent)
            elif error is not None:
                raise error
        if wrong:
            message = f"{self.name} did not stop as it should: {'; '.join(wrong)}"
            raise InDoubt(message) if silent else NotStarted(message, "instrument-fault")

    async def _stopped(self, link: Link, command: Any) -> None:
        seconds = max(_STOP, self._patience)
        reply = await link.call(command, command._identifier, command.parameters.message_type(), seconds)
        if not is_observable(command):
            return
        handle = f"{full(command)}/{reply.commandExecutionUUID.value}"
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), aclosing(self.follow(handle)) as runs:
                async for run in runs:
                    if run.state == "succeeded":
                        return
                    if run.state in ENDED:
                        raise Answer("undefined", run.message)
        raise Silent(f"not done after {seconds:g} s")

    async def close(self) -> None:
        for call in self._calls.values():
            call.cancel()
        await asyncio.gather(*self._calls.values(), return_exceptions=True)
        self._calls.clear()
        await self._forget()
