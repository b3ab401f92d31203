"""Instruments with an HTTP API that an OpenAPI 3 document describes (`OpenApiInstrument`)."""

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from ...core import (
    ENDED,
    Action,
    Cause,
    Effect,
    InDoubt,
    InstrumentDescription,
    NotStarted,
    Permit,
    Reading,
    Run,
    RunState,
    Scalar,
    Signal,
    Unavailable,
)  # fmt: skip
from ._openapi_document import Request, Route, Wishes, request, routes, signals
from ._remembered import remember

_Trace = Callable[[str, Mapping[str, Any]], Awaitable[None]]
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_SILENT = 0.5
"""Seconds without an answer after which a stop is followed by the next."""
LARGEST = 4000
"""Characters of results that a handle carries, so that they outlive our own crash."""


class Following(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a run is followed that goes on after the answer to its request.

    `path` is asked, with {id} and {action} in it put in; `id` is the member of the answer that has it. `field` of what
    it gives ("" all of it, "a.b" within a) says the state, which `states` turn into ours. `progress`, `results` and
    `message` are members too. Without {id} or {action} the API tells only whether it is done: a lost connection then
    leaves the run unknown, and an API that still says so of what was before makes a run end too soon.
    """

    path: str
    states: dict[str, RunState]
    field: str = "status"
    id: str = "id"
    progress: str = ""
    results: str = ""
    message: str = ""

    @property
    def identified(self) -> bool:
        return "{id}" in self.path or "{action}" in self.path


class OpenApiInstrument:
    """An API at `address`, described by the `document` there; only of paths that begin with one of `only`, if any.

    An operation is called by its operationId, or "PUT /path", unless `names` gives it another. GETs read, the others
    are consuming unless `effects` say otherwise. Optional arguments without a default are left out unless `needed`
    names them. `quantities` has the units of arguments that are sent as text with a unit ("50.0 degC"), and `units`
    those of signals and results. Signals are GETs that give one number or truth, asked every `poll` seconds.
    The answer ends a run, unless `status` says how to follow it: one `Following` as a table, or one an operation. What
    is only accepted (202) needs it, and is refused without.
    `cancel` ("DELETE /runs/{id}") ends a run, and the operations `stop` bring the instrument to a safe stop.
    Seconds: `patience` to connect and to read, `longest` for the answer to anything else. `token` is the name of an
    environment variable with a bearer token, never the token.
    """

    def __init__(
        self, name: str, address: str = "http://127.0.0.1:8000", document: str = "/openapi.json", *,
        only: Sequence[str] = (), names: Mapping[str, str] | None = None, effects: Mapping[str, Effect] | None = None,
        quantities: Mapping[str, str] | None = None, units: Mapping[str, str] | None = None,
        needed: Sequence[str] = (), status: Mapping[str, Any] | None = None, cancel: str = "",
        stop: Sequence[str] = (), poll: float = 1.0, patience: float = 5.0, longest: float = 60.0, token: str = "",
        slots: int = 1,
    ) -> None:  # fmt: skip
        if min(poll, patience, longest) <= 0 or slots < 1:
            raise ValueError("poll, patience and longest must be more than 0 seconds, and slots at least 1")
        if token and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,39}", token):
            # Whatever it is may be the token itself: it is not repeated.
            raise ValueError("token must be the name of an environment variable, never the token")
        self._name, self._address, self._document = name, address.rstrip("/"), document
        self._wishes = Wishes(
            only=tuple(only), names=names or {}, effects=effects or {}, quantities=quantities or {}, units=units or {},
            needed=tuple(needed),
        )  # fmt: skip
        given = {"": status} if status and "path" in status else dict(status or {})
        self._following = {key: msgspec.convert(value, Following) for key, value in given.items()}
        self._cancel, self._stop, self._token, self._slots = cancel, tuple(stop), token, slots
        self._poll, self._patience, self._longest = poll, patience, longest
        self._clients = dict[bool, httpx.AsyncClient]()
        self._routes, self._signals = dict[str, Route](), dict[str, tuple[Signal, Route]]()
        self._began, self._ended = dict[str, str](), dict[str, Run]()
        self._stops, self._sending = 0, set[asyncio.Future[None]]()

    async def describe(self) -> InstrumentDescription:
        answer = await self._read(Request(path=self._document), "get")
        if answer.status_code != 200:
            raise Unavailable(f"{self._address}{self._document}: {_problem(answer)}")
        try:
            said = answer.json()
            self._routes = routes(said, self._wishes)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unavailable(f"{self._address}{self._document} cannot be understood: {error}") from None
        self._signals = signals(self._routes)
        about = said.get("info", {})
        return InstrumentDescription(
            name=self._name, protocol="openapi", operations=tuple(r.operation for r in self._routes.values()),
            signals=tuple(signal for signal, _ in self._signals.values()), model=str(about.get("title", "")),
            version=str(about.get("version", "")), slots=self._slots, description=str(about.get("description", "")),
        )  # fmt: skip

    async def start(self, permit: Permit) -> str:
        action = permit.action
        if action.id in self._began:
            return self._began[action.id]
        stops = self._stops
        if not self._routes:
            await self.describe()
        route = self._routes.get(action.operation)
        if route is None:
            raise NotStarted(f"{self._name} has no operation {action.operation}", "invalid-input")
        following = None if route.reads else self._following.get(action.operation, self._following.get(""))
        if following is None and route.goes_on and not route.reads:
            why = f"{action.operation} goes on after its answer: say in the option status how it is followed"
            raise NotStarted(why, "invalid-input")
        sending = asyncio.get_running_loop().create_future()
        try:
            return await self._begin(action, route, following, stops, sending)
        finally:
            self._sending.discard(sending)
            sending.set_result(None)

    async def _begin(
        self, action: Action, route: Route, following: Following | None, stops: int, sending: asyncio.Future[None]
    ) -> str:  # fmt: skip
        async def unless_stopped(event: str, info: Mapping[str, Any]) -> None:
            # The connection is there by now, which may have taken a while, and nothing is written to it yet.
            if event.endswith(".send_request_headers.started"):
                if self._stops != stops:
                    # Nothing begins after a stop because it was on its way.
                    raise NotStarted(f"{self._name}: stopped, before it began", "cancelled")
                if not route.reads:
                    self._sending.add(sending)

        began = time.time()
        answer = await self._send(route, action.settings, action.id, unless_stopped)
        given = _given(answer)
        if following is not None:
            id = _member(given, following.id) if "{id}" in following.path else action.id
            if id is not None:
                handle = remember(self._began, action.id, json.dumps([action.id, action.operation, id]))
                if self._stops != stops:
                    await self._end(action.operation, handle)
                return handle
        if answer.status_code == 202:
            if route.reads:
                raise NotStarted(f"{action.operation} was accepted, and what it reads is not there yet")
            how = f"the answer has no {following.id}" if following else "the option status does not tell"
            raise InDoubt(f"{action.operation} was accepted, and there is nothing to follow it by: {how}")
        results = given if isinstance(given, dict) else {} if given is None else {"result": given}
        run = Run(state="succeeded", results=results, started=began, ended=time.time())
        told = json.dumps(results)
        handle = json.dumps([action.id, action.operation, None, results if len(told) <= LARGEST else None])
        remember(self._ended, handle, run)
        return remember(self._began, action.id, handle)

    async def _end(self, operation: str, handle: str) -> None:
        """End a run that was asked for before a stop and answered after it: the stop may have come first."""
        try:
            await self.cancel(handle)
        except (InDoubt, Unavailable):
            try:
                await self._stop_all()
            except (InDoubt, Unavailable) as error:
                raise InDoubt(f"{operation} was overtaken by a stop, and goes on: {error}") from error

    async def reattach(self, action: str, handle: str) -> str | None:
        if not handle:
            raise InDoubt(f"{self._name} cannot say whether it began {action}")
        run = await self.status(handle)
        if run.state == "unknown":
            raise InDoubt(f"{self._name}: {run.message}")
        return handle

    async def status(self, handle: str) -> Run:
        if handle in self._ended:
            return self._ended[handle]
        try:
            action, operation, id, *results = json.loads(handle)
        except (ValueError, TypeError):
            return Run(state="unknown", cause="lost", message=f"{handle!r} is no run of {self._name}")
        if results and results[0] is not None:
            return Run(state="succeeded", results=results[0])
        following = self._following.get(operation, self._following.get(""))
        if following is None or results:
            return Run(state="unknown", cause="lost", message=f"it was answered, and the results of {action} were lost")
        if handle not in self._began.values() and not following.identified:
            return Run(state="unknown", cause="lost", message=f"{self._name} does not tell its runs apart")
        path = _put_in(following.path, id, action)
        answer = await self._read(Request(path=path), "get")
        if answer.status_code in (404, 410):
            run = Run(state="unknown", cause="lost", message=f"{self._name} does not know it: {_problem(answer)}")
        elif answer.status_code >= 300:
            raise Unavailable(f"{path}: {_problem(answer)}")
        else:
            run = _state(following, _given(answer))
        if run.state in ENDED:
            remember(self._ended, handle, run)
        return run

    async def follow(self, handle: str) -> AsyncIterator[Run]:
        last: Run | None = None
        wait = min(0.02, self._poll)
        while True:
            try:
                run = await self.status(handle)
            except Unavailable as error:
                run = Run(state="running", message=str(error))
                following = self._following.get(json.loads(handle)[1], self._following.get(""))
                if following is not None and not following.identified:
                    words = f"the connection was lost, and {self._name} does not tell its runs apart: {error}"
                    run = Run(state="unknown", cause="lost", message=words)
                    remember(self._ended, handle, run)
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
            for name, value in zip(signals, await asyncio.gather(*map(self._reading, signals)), strict=True):
                if name not in last or last[name] != value:
                    last[name] = value
                    yield Reading(signal=name, value=value, at=time.time())
            await asyncio.sleep(self._poll)

    async def cancel(self, handle: str) -> None:
        if handle in self._ended:
            return
        action, operation, id, *_ = json.loads(handle)
        method, _, path = self._cancel.partition(" ")
        if not path:
            raise InDoubt(f"{operation} of {self._name} cannot be cancelled: the option cancel does not say how")
        path = _put_in(path, id, action)
        answer = await self._read(Request(path=path), method.lower())
        if answer.status_code >= 300 and answer.status_code not in (404, 409, 410):
            raise InDoubt(f"{self._name} would not cancel {operation}: {_problem(answer)}")

    async def safe_stop(self) -> None:
        self._stops += 1
        sending = [*self._sending]
        try:
            await self._stop_all()
        finally:
            if not all(sent.done() for sent in sending):
                # What was sent before may be handled after all that. `start` ends what is answered later still.
                await self._stop_all()
                await asyncio.wait(sending, timeout=self._patience)

    async def _stop_all(self) -> None:
        if not self._stop:
            raise InDoubt(f"{self._name} cannot be stopped: the option stop names no operation")
        if not self._routes:
            await self.describe()
        asked = list[asyncio.Task[None]]()
        for name in self._stop:
            asked.append(asyncio.create_task(self._ask_to_stop(name)))
            # Their order may be meant, but one that is silent does not keep the next from being sent.
            await asyncio.wait(asked[-1:], timeout=_SILENT)
        said = await asyncio.gather(*asked, return_exceptions=True)
        wrong = [f"{name}: {error}" for name, error in zip(self._stop, said, strict=True) if error is not None]
        if all(isinstance(error, Unavailable) for error in said):
            raise Unavailable(f"{self._name} did not stop: {'; '.join(wrong)}")
        if wrong:
            raise InDoubt(f"{self._name} did not stop: {'; '.join(wrong)}")

    async def _ask_to_stop(self, name: str) -> None:
        route = self._routes.get(name)
        if route is None:
            raise LookupError("there is no operation of this name")
        defaults = {a.name: a.default for a in route.operation.arguments if a.default is not None}
        answer = await self._read(request(route, defaults), route.method)
        if answer.status_code >= 300:
            raise InDoubt(_problem(answer))

    async def close(self) -> None:
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    async def _send(
        self, route: Route, settings: Mapping[str, object], action: str, unless_stopped: _Trace
    ) -> httpx.Response:  # fmt: skip
        """The answer to a request that is sent once. Raises NotStarted, Unavailable and InDoubt, and as
        `unless_stopped` does before anything is sent."""
        words = f"{route.operation.name} of {self._name}"
        try:
            made = request(route, settings)
        except (KeyError, TypeError, ValueError) as error:
            raise NotStarted(f"{words} cannot be given {settings}: {error!r}", "invalid-input") from None
        try:
            headers = {**made.headers, "Idempotency-Key": action}
            longest = self._patience if route.reads else self._longest
            answer = await self._ask(made, route.method, longest, headers, route.reads, {"trace": unless_stopped})
        except _UNSENT as error:
            raise Unavailable(f"{self._address} cannot be reached: {str(error) or type(error).__name__}") from None
        except httpx.HTTPError as error:
            why = f"{words} was sent, and no answer came: {str(error) or type(error).__name__}"
            raise Unavailable(why) if route.reads else InDoubt(why) from None
        status = answer.status_code
        if status >= 300:
            why = f"{words}: {_problem(answer)}"
            if not route.reads and (status < 400 or status == 408 or status >= 500):
                # Who is sent on elsewhere is often sent to what has been done; and what took too long had begun.
                raise InDoubt(why)
            raise NotStarted(why, "instrument-fault" if status >= 500 else _refusal(status))
        return answer

    async def _read(self, made: Request, method: str) -> httpx.Response:
        """The answer to a request that may be sent again. Raises Unavailable."""
        try:
            return await self._ask(made, method, self._patience, made.headers, True)
        except httpx.HTTPError as error:
            why = f"{self._address} cannot be reached: {str(error) or type(error).__name__}"
            raise Unavailable(why) from None

    async def _ask(
        self, made: Request, method: str, longest: float, headers: Mapping[str, str], keep: bool,
        extensions: Mapping[str, Any] | None = None,
    ) -> httpx.Response:  # fmt: skip
        client = self._client(keep)
        allowed = {"Authorization": f"Bearer {self._bearer()}"} if self._token else {}
        timeout = httpx.Timeout(longest, connect=self._patience)
        body = {} if made.body is None else {"json": made.body}
        return await client.request(
            method.upper(), made.path, params=made.query, headers={**headers, **allowed}, timeout=timeout,
            extensions=dict(extensions or {}), **body,
        )  # fmt: skip

    def _client(self, keep: bool) -> httpx.AsyncClient:
        """One that keeps connections, for what may be sent again; or one that makes a new one for each request: on a
        kept one that the server has just closed, nobody could tell whether what acts was received."""
        if keep not in self._clients:
            limits = httpx.Limits(max_keepalive_connections=20 if keep else 0)
            self._clients[keep] = httpx.AsyncClient(base_url=self._address, trust_env=False, limits=limits)
        return self._clients[keep]

    def _bearer(self) -> str:
        token = os.environ.get(self._token, "").strip()
        if not token:
            raise Unavailable(f"there is no token in ${self._token}: put one there")
        if not token.isascii() or not token.isprintable() or " " in token:
            raise Unavailable(f"what is in ${self._token} is no token: it must be one word")
        return token

    async def _reading(self, name: str) -> Scalar | None:
        try:
            if not self._routes:
                await self.describe()
            if name not in self._signals:
                return None
            route = self._signals[name][1]
            answer = await self._read(request(route, {}), route.method)
        except Unavailable:
            return None
        value = _given(answer) if answer.status_code < 300 else None
        return value if isinstance(value, int | float | str) else None


def _put_in(path: str, id: object, action: str) -> str:
    return path.replace("{id}", quote(str(id), safe="")).replace("{action}", quote(action, safe=""))


def _refusal(status: int) -> Cause:
    return "invalid-input" if status in (400, 404, 405, 413, 415, 422) else "refused"


def _state(following: Following, given: Any) -> Run:
    told = _member(given, following.field)
    word = str(told).lower() if isinstance(told, bool) else str(told)
    state = following.states.get(word)
    if state is None:
        # A word that nobody has explained is no end.
        return Run(state="running", message=f"its state is {word!r}, of which the option states says nothing")
    progress = _member(given, following.progress) if following.progress else None
    results = _member(given, following.results) if following.results else None
    return Run(
        state=state, progress=float(progress) if isinstance(progress, int | float) else None,
        results=results if isinstance(results, dict) else {} if results is None else {"result": results},
        message=str(_member(given, following.message) or "") if following.message else "",
        ended=time.time() if state in ENDED else 0.0,
    )  # fmt: skip


def _member(given: Any, path: str) -> Any:
    """What is at "a.b" within what was given; "" is all of it, None where there is nothing."""
    for part in path.split(".") if path else ():
        given = given.get(part) if isinstance(given, dict) else None
    return given


def _given(answer: httpx.Response) -> Any:
    """The body as JSON, as text where it is none."""
    if not answer.content:
        return None
    try:
        return answer.json()
    except ValueError:
        return answer.text


def _problem(answer: httpx.Response) -> str:
    """What an error answer says, in one line: problem details (RFC 9457), FastAPI's, or its text."""
    given = _given(answer)
    said = given
    if isinstance(given, dict):
        said = given.get("detail") or given.get("title") or given.get("message") or given.get("error") or given
    if isinstance(said, list):
        said = "; ".join(
            f"{'.'.join(map(str, s.get('loc', ())))}: {s.get('msg', s)}" if isinstance(s, dict) else str(s)
            for s in said
        )
    return f"HTTP {answer.status_code} {str(said or answer.reason_phrase)[:500]}"
