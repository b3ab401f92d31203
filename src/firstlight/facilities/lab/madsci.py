"""Nodes of a MADSci laboratory, over the REST interface that each has (`MadsciInstrument`)."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx
from msgspec.structs import replace

from ...core import (
    ENDED,
    Argument,
    Effect,
    InDoubt,
    InstrumentDescription,
    NotStarted,
    Operation,
    Permit,
    Reading,
    Run,
    RunState,
    Scalar,
    Signal,
    Unavailable,
)  # fmt: skip
from ._remembered import remember

_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_TURNED_AWAY = (429, 503)
"""What limits of rate and of connections answer, before the node itself sees the request."""
_STATES: dict[str, RunState] = {
    "not_started": "queued", "running": "running", "paused": "paused", "succeeded": "succeeded", "failed": "failed",
    "cancelled": "cancelled", "not_ready": "failed",
}  # fmt: skip
_TYPES: dict[str, Any] = {
    "float": "number", "int": "integer", "str": "string", "bool": "boolean", "list": "array", "tuple": "array",
    "dict": "object", "number": "number", "integer": "integer", "string": "string", "boolean": "boolean",
    "array": "array", "object": "object",
}  # fmt: skip
_FLAGS = ("ready", "busy", "errored", "locked", "paused", "stopped")


class MadsciInstrument:
    """A node at `address`. Its operations are its actions; those that must be given files are left out.

    MADSci knows no units, limits or effects: an action consumes unless `effects` say otherwise, and the laboratory's
    file says the rest. Optional arguments whose default is None are left to the node. A result that is no object is
    called "data". Signals are what /state gives, and flags of /status ("ready", "errored", ...). A node cannot push:
    all is polled, soon at first and then every `poll` seconds (by default it allows 100 requests a minute).
    A node keeps its error after a failed run until it is reset: with `reset` it is, once such a run of ours has ended,
    but for one that a safe stop came upon: a reset makes the node ready again, which is for a person to do.
    `patience` is seconds to connect and for each answer.
    """

    def __init__(
        self, name: str, address: str = "http://127.0.0.1:2000", *, effects: Mapping[str, Effect] | None = None,
        reset: bool = False, poll: float = 2.0, patience: float = 5.0,
    ) -> None:  # fmt: skip
        if min(poll, patience) <= 0:
            raise ValueError("poll and patience must be more than 0 seconds")
        self._name, self._address, self._effects = name, address.rstrip("/"), dict(effects or {})
        self._reset, self._poll, self._patience = reset, poll, patience
        self._made = dict[str, httpx.AsyncClient]()
        self._began, self._ended = dict[str, str](), dict[str, Run]()
        self._starting, self._stops, self._stops_before = asyncio.Lock(), 0, 0

    async def describe(self) -> InstrumentDescription:
        info, state = await asyncio.gather(self._get("/info"), self._get("/state"))
        try:
            operations = tuple(
                _operation(action, self._effects.get(name, "consuming"))
                for name, action in info["actions"].items()
                if not any(f.get("required", True) for f in (action.get("files") or {}).values())
            )
            return InstrumentDescription(
                name=self._name, protocol="madsci", operations=operations, signals=_signals(state),
                model=str(info.get("module_name") or ""), version=str(info.get("module_version") or ""),
                description=str(info.get("node_description") or ""),
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError) as error:
            raise Unavailable(f"{self._address}/info cannot be understood: {error!r}") from None

    async def start(self, permit: Permit) -> str:
        action, stops = permit.action, self._stops
        if action.id in self._began:
            return self._began[action.id]
        id = await self._create(action.operation, action.settings)
        handle = f"{action.operation}/{id}"
        said = await self._begin(handle, stops)
        if said is not None and said.get("status") == "not_ready":
            raise await self._busy(said)
        self._stops_before = stops
        return remember(self._began, action.id, handle)

    async def reattach(self, action: str, handle: str) -> str | None:
        if not handle:
            # The node makes the ids, and keeps none of ours: what it did under them cannot be told apart.
            raise InDoubt(f"{self._name} cannot say whether it began {action}")
        run = await self.status(handle)
        if run.state == "unknown":
            raise InDoubt(f"{self._name}: {run.message}")
        return handle

    async def status(self, handle: str) -> Run:
        if handle in self._ended:
            return self._ended[handle]
        operation, _, id = handle.rpartition("/")
        if not operation:
            return Run(state="unknown", cause="lost", message=f"{handle!r} is no run of {self._name}")
        answer = await self._read(f"{_path(handle)}/result")
        if answer.status_code == 404:
            words = f"{self._name} has no {operation}"
            return remember(self._ended, handle, Run(state="unknown", cause="lost", message=words))
        if answer.status_code != 200:
            raise Unavailable(f"{self._address}: {_problem(answer)}")
        said = _object(answer)
        state = _STATES.get(str(said.get("status")), "unknown")
        if state == "unknown":
            words = f"{self._name} does not know the run {id}: it forgets all when it restarts"
            return remember(self._ended, handle, Run(state="unknown", cause="lost", message=words))
        if state not in ENDED:
            return Run(state=state)
        run = Run(
            state=state, results=_results(said) if state == "succeeded" else {}, message=_errors(said),
            ended=time.time(), cause="cancelled" if state == "cancelled" else "instrument-fault",
        )  # fmt: skip
        if state == "failed" and self._reset and self._stops == self._stops_before:
            try:
                await self._command("reset")
                await self._ready_again()
            except (Unavailable, InDoubt) as error:
                # The run has failed in any case; the next one is refused, and says why.
                run = replace(run, message=f"{run.message}; afterwards: {error}")
        return remember(self._ended, handle, run)

    async def follow(self, handle: str) -> AsyncIterator[Run]:
        last: Run | None = None
        wait = min(0.02, self._poll)
        while True:
            try:
                run = await self.status(handle)
            except Unavailable as error:
                run = Run(state="running", message=str(error))
            if run != last:
                yield run
                last = run
            if run.state in ENDED:
                return
            await asyncio.sleep(wait)
            wait = min(1.5 * wait, self._poll)

    async def watch(self, signals: Sequence[str]) -> AsyncIterator[Reading]:
        last = dict[str, Scalar | None]()
        while True:
            values = await self._values()
            for name in signals:
                value = values.get(name)
                if name not in last or last[name] != value:
                    last[name] = value
                    yield Reading(signal=name, value=value, at=time.time())
            await asyncio.sleep(self._poll)

    async def cancel(self, handle: str) -> None:
        # The command ends whatever the node does: it is not sent for a run that has already ended.
        if (await self.status(handle)).state not in ENDED:
            await self._command("cancel")

    async def safe_stop(self) -> None:
        self._stops += 1
        on_its_way = self._starting.locked()
        try:
            await self._command("safety_stop")
        finally:
            if on_its_way:
                # A start that was sent before may arrive after that.
                async with self._starting:
                    await self._command("safety_stop")

    async def close(self) -> None:
        made, self._made = self._made, {}
        for client in made.values():
            await client.aclose()

    async def _create(self, operation: str, settings: Mapping[str, object]) -> str:
        """The id of an action that waits to be started. One whose id is lost never starts: another may be made."""
        path, body = f"/action/{quote(operation, safe='')}", {"args": dict(settings)}
        try:
            answer = await self._send(path, body)
        except InDoubt:
            try:
                answer = await self._send(path, body)
            except InDoubt as error:
                raise NotStarted(f"{operation} was not begun, for its id did not come: {error}", "lost") from None
        if answer.status_code >= 500:
            raise NotStarted(f"{operation} of {self._name}: {_problem(answer)}", "instrument-fault")
        if answer.status_code >= 300:
            raise NotStarted(f"{operation} of {self._name}: {_problem(answer)}", "invalid-input")
        id = _object(answer).get("action_id")
        if not isinstance(id, str) or not id:
            raise NotStarted(f"{operation} of {self._name}: the answer has no action_id", "instrument-fault")
        return id

    async def _begin(self, handle: str, stops: int) -> dict[str, Any] | None:
        """What the node says to the start of a created action; None where that is lost and it has begun all the same.

        A node forgets a created action as it starts it: to start it again begins nothing twice.
        """
        why = ""
        for attempt in range(2):
            try:
                async with self._starting:
                    if self._stops != stops:
                        # Nothing begins after a stop because it was on its way.
                        if not attempt:
                            raise NotStarted(f"{handle}: stopped, before it began", "cancelled")
                        raise InDoubt(f"{why}; and it was stopped since")
                    answer = await self._send(f"{_path(handle)}/start")
            except InDoubt as error:
                why = str(error)
            except Unavailable as error:
                if attempt:
                    raise InDoubt(f"{handle} was started once, and no answer came: {error}") from None
                raise
            else:
                why = _problem(answer)
                if answer.status_code < 300:
                    said = _object(answer)
                    if not _not_found(said):
                        return said
                    if not attempt:
                        raise NotStarted(f"{self._name} has forgotten {handle} before it began", "lost")
                    why = _errors(said)
                elif answer.status_code < 500 and not attempt:
                    raise NotStarted(f"{handle}: {why}")
            said = await self._settle(handle, why)
            if said.get("status") in _STATES:
                return said
        raise InDoubt(f"{handle} was started, and {self._name} does not know it: {why}")

    async def _settle(self, handle: str, why: str) -> dict[str, Any]:
        """What the node knows of an action, the answer to whose start was lost. Raises InDoubt."""
        until = time.monotonic() + self._patience
        while True:
            try:
                return _object(await self._read(f"{_path(handle)}/result"))
            except Unavailable as error:
                if time.monotonic() > until:
                    raise InDoubt(f"{why}; asked again: {error}") from None
            await asyncio.sleep(min(0.2, self._poll))

    async def _busy(self, said: Mapping[str, Any]) -> NotStarted:
        words = f"{self._name} is not ready: {_errors(said)}"
        try:
            errored = bool((await self._get("/status")).get("errored"))
        except Unavailable:
            errored = False
        if errored:
            return NotStarted(f"{words}; it keeps an error until it is reset (option reset)", "instrument-fault")
        return NotStarted(words, "refused")

    async def _command(self, command: str) -> None:
        answer = await self._post("commands", f"/admin/{command}")
        said = _object(answer) if answer.status_code < 300 else {}
        if said.get("success") is not True:
            raise InDoubt(f"{self._name} would not {command}: {_errors(said) or _problem(answer)}")

    async def _ready_again(self) -> None:
        """Until it has started anew after a reset: before, it refuses what comes next. Raises Unavailable."""
        until = time.monotonic() + self._patience
        while time.monotonic() < until:
            flags = await self._get("/status")
            if not (flags.get("initializing") or flags.get("errored")):
                return
            await asyncio.sleep(min(0.2, self._poll))

    async def _values(self) -> dict[str, Scalar]:
        try:
            state, flags = await asyncio.gather(self._get("/state"), self._get("/status"))
        except Unavailable:
            return {}
        told = {flag: bool(flags[flag]) for flag in _FLAGS if flag in flags} | state
        return {name: value for name, value in told.items() if isinstance(value, int | float | str)}

    async def _get(self, path: str) -> dict[str, Any]:
        answer = await self._read(path)
        if answer.status_code != 200:
            raise Unavailable(f"{self._address}{path}: {_problem(answer)}")
        return _object(answer)

    async def _read(self, path: str) -> httpx.Response:
        """The answer to what only reads. Raises Unavailable."""
        try:
            answer = await self._client("requests").get(path)
        except httpx.HTTPError as error:
            raise Unavailable(f"{self._address} cannot be reached: {str(error) or type(error).__name__}") from None
        if answer.status_code >= 500 or answer.status_code in _TURNED_AWAY:
            raise Unavailable(f"{self._address}{path}: {_problem(answer)}")
        return answer

    async def _send(self, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        """The answer to what acts. Raises Unavailable where the node never saw it, InDoubt where no answer came."""
        return await self._post("requests", path, body)

    async def _post(self, purpose: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        try:
            answer = await self._client(purpose).post(path, json=body)
        except _UNSENT as error:
            raise Unavailable(f"{self._address} cannot be reached: {str(error) or type(error).__name__}") from None
        except httpx.HTTPError as error:
            raise InDoubt(f"{path} was sent, and no answer came: {str(error) or type(error).__name__}") from None
        if answer.status_code in _TURNED_AWAY:
            raise Unavailable(f"{self._address}{path}: {_problem(answer)}")
        return answer

    def _client(self, purpose: str) -> httpx.AsyncClient:
        """One that keeps no connections: a node allows ten in all, and an idle one counts. Each purpose has its own, so
        that a stop waits for no poll."""
        if purpose not in self._made:
            self._made[purpose] = httpx.AsyncClient(
                base_url=self._address, trust_env=False, timeout=self._patience,
                limits=httpx.Limits(max_connections=4, max_keepalive_connections=0),
            )  # fmt: skip
        return self._made[purpose]


def _path(handle: str) -> str:
    operation, _, id = handle.rpartition("/")
    return f"/action/{quote(operation, safe='')}/{quote(id, safe='')}"


def _operation(action: Mapping[str, Any], effect: Effect) -> Operation:
    arguments = [_argument(a) for a in action["args"].values() if a.get("required") or a.get("default") is not None]
    arguments += [Argument(name=name, type="string") for name in action.get("locations") or {}]
    results = list[Argument]()
    for result in (action.get("results") or {}).values():
        members = (result.get("json_schema") or {}).get("properties") or {}
        results += [Argument(name=n, type=_TYPES.get(m.get("type", ""), "object")) for n, m in members.items()]
    return Operation(
        name=action["name"], effect=effect, arguments=tuple(arguments), results=tuple(results),
        description=str(action.get("description") or ""),
    )  # fmt: skip


def _argument(told: Mapping[str, Any]) -> Argument:
    word = str(told.get("argument_type", "")).partition("[")[0].lower()
    default = told.get("default")
    return Argument(
        name=told["name"], type=_TYPES.get(word, "object"), description=str(told.get("description") or ""),
        default=default if isinstance(default, int | float | str) else None,
    )  # fmt: skip


def _signals(state: Mapping[str, Any]) -> tuple[Signal, ...]:
    flags = {flag: True for flag in _FLAGS}
    kinds: dict[type, Any] = {bool: "boolean", int: "number", float: "number", str: "string"}
    told = {**flags, **state}
    return tuple(Signal(name=n, type=kinds[type(v)]) for n, v in told.items() if type(v) in kinds)


def _object(answer: httpx.Response) -> dict[str, Any]:
    """The body as an object, empty where it is none."""
    try:
        given = answer.json()
    except ValueError:
        return {}
    return given if isinstance(given, dict) else {}


def _results(said: Mapping[str, Any]) -> dict[str, object]:
    result = said.get("json_result")
    return result if isinstance(result, dict) else {} if result is None else {"data": result}


def _errors(said: Mapping[str, Any]) -> str:
    errors = said.get("errors") or []
    return "; ".join(str(e.get("message") or e) if isinstance(e, dict) else str(e) for e in errors)


def _not_found(said: Mapping[str, Any]) -> bool:
    """Whether the node says that no created action waits under this id (an action itself may fail of NotFound too)."""
    words, errors = f"Action {said.get('action_id')} not found", said.get("errors") or []
    told = [e for e in errors if isinstance(e, dict) and e.get("error_type") == "NotFound"]
    return said.get("status") == "failed" and any(e.get("message") == words for e in told)


def _problem(answer: httpx.Response) -> str:
    return f"HTTP {answer.status_code} {str(_object(answer).get('detail') or answer.reason_phrase)[:500]}"
