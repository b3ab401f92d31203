"""Runs of a SiLA 2 server's commands: those that it tells of by their UUID, and those that a call has to wait for."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from typing import Any, get_args

import grpc
from sila2.framework.pb2 import SiLAFramework_pb2

from ...core import ENDED, Cause, NotStarted, Run, RunState, Unavailable
from ._sila_link import Answer, Link, Silent, told_apart
from ._sila_types import scalar

log = logging.getLogger(__name__)

_STATES: tuple[RunState, ...] = ("queued", "running", "succeeded", "failed")
"""SiLA's command status, by its number."""
REFUSALS = ("validation", "unimplemented", "COMMAND_EXECUTION_NOT_ACCEPTED", "INVALID_METADATA", "NO_METADATA_ALLOWED")
"""Answers after which it is certain that a command was not begun."""
_UNKNOWN = "INVALID_COMMAND_EXECUTION_UUID"
_CANCELLED = re.compile(r"\bcancel(l?ed|l?ation)\b", re.IGNORECASE)


async def read_once(link: Link, node: Any) -> Run:
    """The run of reading a property."""
    try:
        return Run(state="succeeded", results={node._identifier: await link.read(node)}, ended=time.time())
    except Answer as error:
        return failed(error)
    except Silent as error:
        return Run(state="unknown", message=str(error), cause="lost", ended=time.time())
    except Exception as error:  # noqa: BLE001 - whatever sila2's conversions and downloads raise
        wrong = f"its value cannot be read: {error}"
        return Run(state="failed", message=wrong, cause="invalid-output", ended=time.time())


async def performed(
    link: Link, node: Any, call: Any, heartbeat: float, lost_after: float, refused: list[Answer]
) -> Run:
    """The run of an unobservable command, from its call to the reply; `refused` takes the answer where it was certainly
    not begun.

    There is no saying how long it takes, so no deadline, but the server has to show that it lives.
    """
    began, heard = time.time(), time.monotonic()
    waiting = asyncio.ensure_future(_reply(call))
    try:
        while not (await asyncio.wait({waiting}, timeout=heartbeat))[0]:
            try:
                await link.alive()
                heard = time.monotonic()
            except Unavailable as error:
                if time.monotonic() - heard > lost_after:
                    lost = f"no sign of life for {lost_after:g} s: {error}"
                    return Run(state="unknown", message=lost, cause="lost", started=began, ended=time.time())
        if waiting.cancelled():
            return Run(
                state="unknown", message="the connection was closed", cause="lost", started=began, ended=time.time()
            )
        results, wrong = await _results(link, node, waiting.result())
        return Run(state="succeeded", results=results, message=wrong, started=began, ended=time.time())
    except grpc.RpcError as failure:
        said = told_apart(failure)
        if isinstance(said, Answer):
            refused += [said] if said.kind in REFUSALS else []
            return failed(said, began)
        lost = f"sent, and no answer came: {said}"
        return Run(state="unknown", message=lost, cause="lost", started=began, ended=time.time())
    finally:
        call.cancel()


async def stages(
    link: Link, node: Any, uuid: str, heartbeat: float, began: float, cancelled: bool
) -> AsyncGenerator[Run, None]:
    """What the server says of a run, until its end or a silence. Raises Unavailable, Silent or Answer.

    `began` is when it was begun, 0 where unknown, and `cancelled` whether we asked for its end.
    """
    asked = SiLAFramework_pb2.CommandExecutionUUID(value=uuid)
    heard = False
    try:
        async with aclosing(link.stream(node, f"{node._identifier}_Info", asked, heartbeat)) as infos:
            async for info in infos:
                if info is None and heard:
                    return
                if info is None:
                    await link.alive()
                    continue
                heard, state = True, _STATES[info.commandStatus]
                if state in ENDED:
                    yield await _ended(link, node, asked, began, cancelled)
                    return
                progress = min(max(info.progressInfo.value, 0.0), 1.0) if info.HasField("progressInfo") else None
                yield Run(state=state, progress=progress, started=began)
    except Answer as error:
        if error.kind in (_UNKNOWN, "unimplemented"):
            # A server that has the command no more will not say it later either.
            yield gone(uuid)
        elif error.kind != "COMMAND_EXECUTION_NOT_FINISHED":
            raise


async def _ended(link: Link, node: Any, asked: Any, began: float, cancelled: bool) -> Run:
    now = time.time()
    try:
        reply = await link.call(node, f"{node._identifier}_Result", asked, link.patience)
    except Answer as error:
        if error.kind in (_UNKNOWN, "unimplemented", "COMMAND_EXECUTION_NOT_FINISHED"):
            raise
        if cancelled or _CANCELLED.search(str(error)):
            return Run(state="cancelled", message=str(error), cause="cancelled", started=began, ended=now)
        return failed(error, began)
    results, wrong = await _results(link, node, reply)
    return Run(state="succeeded", progress=1.0, results=results, message=wrong, started=began, ended=now)


async def values(link: Link, node: Any, heartbeat: float, poll: float) -> AsyncGenerator[Any, None]:
    """A property as it is and at every change; read every `poll` seconds where it cannot be subscribed."""
    if node._identifier not in node.parent_feature._observable_properties:
        while True:
            yield await _scalar(link.read(node))
            await asyncio.sleep(poll)
    message = node.get_parameters_message()
    async with aclosing(link.stream(node, f"Subscribe_{node._identifier}", message, heartbeat)) as items:
        async for item in items:
            if item is None:
                await link.alive()
            else:
                yield await _scalar(_member(link.values([node], item), node._identifier))


async def _member(values: Awaitable[Mapping[str, Any]], name: str) -> Any:
    return (await values)[name]


async def _scalar(value: Awaitable[Any]) -> Any:
    """What is read, None where it is nothing that can be understood."""
    try:
        return scalar(await value)
    except (Answer, Silent):
        raise
    except Exception as error:  # noqa: BLE001 - whatever sila2's conversions and downloads raise
        log.warning("a value cannot be read: %s", error)
        return None


async def _reply(call: Any) -> Any:
    return await call


async def done(run: Run) -> Run:
    return run


async def _results(link: Link, node: Any, reply: Any) -> tuple[dict[str, object], str]:
    """Results, and what is wrong with them: a run that succeeded did so, also where its results cannot be read."""
    try:
        return await link.values(node.responses, reply), ""
    except Exception as error:  # noqa: BLE001 - whatever sila2's conversions and downloads raise
        return {}, f"its results cannot be read: {error}"


def full(node: Any) -> str:
    return f"{node.parent_feature._identifier}.{node._identifier}"


def is_observable(node: Any) -> bool:
    return node._identifier in node.parent_feature._observable_commands


def canceller(link: Link, name: str) -> Any:
    feature = link.features.get("CancelController")
    return feature._unobservable_commands.get(name) if feature else None


def refusal(error: Answer) -> NotStarted:
    return NotStarted(str(error), "invalid-input" if error.kind == "validation" else "refused")


def failed(error: Answer, began: float = 0.0) -> Run:
    """A run that the server says has failed; an error named like one of our causes has that cause."""
    words = re.sub(r"(?<!^)(?=[A-Z])", "-", error.identifier).lower()
    cause: Cause = next((c for c in get_args(Cause) if c == words), "instrument-fault")
    return Run(state="failed", message=str(error), cause=cause, started=began, ended=time.time())


def gone(handle: str) -> Run:
    return Run(state="unknown", message=f"the server does not know {handle}", cause="lost", ended=time.time())
