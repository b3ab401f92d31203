"""A beamline's own queue of Bluesky plans, over the 0MQ interface of its queue server (`QueueServerInstrument`)."""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from msgspec.structs import replace

from ...core import (
    ENDED,
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
)
from ._queueserver_link import AGAIN, Link, Said, problem
from ._queueserver_plans import RESULTS, Offer, Plan, offered
from ._remembered import remember

_ENDS: dict[str, RunState] = {
    "completed": "succeeded", "failed": "failed", "stopped": "cancelled", "aborted": "cancelled",
    "halted": "cancelled",
}  # fmt: skip
_SIGNALS: dict[str, Any] = {
    "manager_state": "string", "re_state": "string", "worker_environment_exists": "boolean",
    "items_in_queue": "integer", "queue_stop_pending": "boolean",
}  # fmt: skip
MARK, ATTEMPT = "firstlight", "firstlight_attempt"
"""Members of an item's `meta`: the id of the action, and one for each time it is added. The start documents of its
runs have them too."""
_STOPPED = "stopped, before it began"
OPENING = 120.0
"""Seconds that an environment may take to open."""


class QueueServerInstrument:
    """The queue server at `address`. Its operations are the plans that `user_group` may run, or those in `plans`.

    `plans` says by name how each is offered (`effect`, "consuming" by default; `fixed`, `needed`). Devices and plans
    that are named, types and ranges are checked before anything is sent: the server takes any text for a device, and
    finds out while it runs. What a plan returns is not kept by the server: results are `exit_status`, `run_uids` and
    `scan_ids`.

    An item carries the id of its action, so that one whose answer was lost is found, and never added twice. The queue
    is started where nobody else's items stand in it; where they do and it stands still, somebody has stopped it, and
    the plan is refused. The server puts a copy of what has not completed back into the queue: it is taken out again, so
    that nothing is repeated. With `open` a closed environment is opened. A worker that dies by itself is not noticed by
    the server: its plan counts as running until somebody destroys the environment.

    `info` is the address at which the server publishes (start-re-manager --zmq-publish-console ON): it tells of every
    change. Where it does not (""), its status is asked for every `poll` seconds, which takes less than 1 ms.
    `patience` is seconds for an answer. `key` is the name of an environment variable with the server's public key
    (CURVE), never the key.
    """

    def __init__(
        self, name: str, address: str = "tcp://127.0.0.1:60615", *, info: str = "", key: str = "",
        user: str = "Firstlight", user_group: str = "primary", plans: Mapping[str, Any] | None = None,
        open: bool = False, poll: float = 0.2, patience: float = 5.0,
    ) -> None:  # fmt: skip
        if min(poll, patience) <= 0:
            raise ValueError("poll and patience must be more than 0 seconds")
        if key and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,38}", key):
            # Whatever it is may be the key itself: it is not repeated.
            raise ValueError("key must be the name of an environment variable, never the key")
        self._name, self._user, self._group = name, user, user_group
        self._link = Link(address, info, key, poll, patience)
        self._offers = None if plans is None else msgspec.convert(dict(plans), dict[str, Offer])
        self._open, self._patience = open, patience
        self._plans, self._listed = dict[str, Plan](), ("", "")
        self._began, self._ended = dict[str, str](), dict[str, Run]()
        self._starting, self._stops = asyncio.Lock(), 0

    async def describe(self) -> InstrumentDescription:
        said = await self._link.look("status")
        await self._list(said)
        return InstrumentDescription(
            name=self._name, protocol="queueserver", operations=tuple(p.operation for p in self._plans.values()),
            signals=tuple(Signal(name=name, type=kind) for name, kind in _SIGNALS.items()), model="bluesky-queueserver",
            version=str(said.get("msg", "")).rpartition(" v")[2],
        )  # fmt: skip

    async def start(self, permit: Permit) -> str:
        action, stops = permit.action, self._stops
        if action.id in self._began:
            return self._began[action.id]
        said = await self._link.look("status")
        await self._list(said)
        plan = self._plans.get(action.operation)
        if plan is None:
            raise NotStarted(f"{self._name} offers no plan {action.operation}", "invalid-input")
        if wrong := plan.wrong(action.settings):
            raise NotStarted(f"{action.operation}: {'; '.join(wrong)}", "invalid-input")
        await self._may_add(said)
        if self._stops != stops:
            raise NotStarted(f"{self._name}: {_STOPPED}", "cancelled")
        attempt = uuid.uuid4().hex
        item = {**plan.item(action.settings), "meta": {MARK: action.id, ATTEMPT: attempt}}
        try:
            answer = await self._link.ask("queue_item_add", item=item, user=self._user, user_group=self._group)
        except InDoubt as doubt:
            handle = await self._settle((action.id, attempt), str(doubt))
        else:
            if not answer.get("success"):
                raise NotStarted(f"{action.operation} of {self._name}: {problem(answer)}", "refused")
            handle = answer["item"]["item_uid"]
        await self._set_going(handle, stops)
        return remember(self._began, action.id, handle)

    async def reattach(self, action: str, handle: str) -> str | None:
        item = None if handle else await self._find(action)
        found = handle if item is None else item["item_uid"]
        if not found:
            raise InDoubt(f"{self._name} has {action} neither in its queue nor in its history, which may be cleared")
        said = await self._link.look("status")
        run = await self._run(found, said)
        if run.state == "unknown":
            raise InDoubt(f"{self._name}: {run.message}")
        if item and item.get("result") and run.state not in ENDED:
            raise InDoubt(f"{self._name} has only a copy of {action}, which was performed: its history was cleared")
        # We died before the queue was started: once the item is out of it, it has surely not begun.
        halfway = not handle and run.state == "queued" and _stands(said)
        if halfway and (await self._link.act("queue_item_remove", uid=found)).get("success"):
            return None
        return remember(self._began, action, found)

    async def status(self, handle: str) -> Run:
        return await self._run(handle, await self._link.look("status"))

    async def follow(self, handle: str) -> AsyncIterator[Run]:
        last: Run | None = None
        async with aclosing(self._link.states()) as changes:
            async for said in changes:
                try:
                    if said is None:
                        raise Unavailable(f"{self._name} does not answer")
                    run = await self._run(handle, said)
                except Unavailable as error:
                    run = Run(state=last.state if last else "running", message=str(error))
                if run != last:
                    yield run
                    last = run
                if run.state in ENDED:
                    return

    async def watch(self, signals: Sequence[str]) -> AsyncIterator[Reading]:
        last = dict[str, Scalar | None]()
        async with aclosing(self._link.states()) as changes:
            async for said in changes:
                for name in signals:
                    value = (said or {}).get(name) if name in _SIGNALS else None
                    if name not in last or last[name] != value:
                        last[name] = value
                        yield Reading(signal=name, value=value, at=time.time())

    async def cancel(self, handle: str) -> None:
        run = await self.status(handle)
        if run.state == "queued":
            answer = await self._link.act("queue_item_remove", uid=handle)
            if answer.get("success"):
                words = "it was taken out of the queue"
                remember(self._ended, handle, Run(state="cancelled", message=words, cause="cancelled"))
                return
            run = await self.status(handle)
            if run.state == "queued":
                raise InDoubt(f"{handle} stays in the queue of {self._name}: {problem(answer)}")
        if run.state not in ENDED:
            await self._abort(lambda said: said.get("running_item_uid") == handle)

    async def safe_stop(self) -> None:
        self._stops += 1
        on_its_way = self._starting.locked()
        try:
            await self._stop()
        finally:
            if on_its_way:
                # A start that was sent before may arrive after all that.
                async with self._starting:
                    await self._stop()

    async def _stop(self) -> None:
        said = await self._link.look("status")
        if said.get("queue_autostart_enabled"):
            await self._link.act("queue_autostart", enable=False)
            if not _goes(said):
                # Something may have started by itself until then, and shows it a little later.
                await asyncio.sleep(AGAIN)
                said = await self._link.look("status")
        if _goes(said):
            # Nothing comes after what runs now; whether the server says so is of no matter, for that is aborted too.
            await self._link.act("queue_stop")
            await self._abort(_goes)

    async def close(self) -> None:
        self._link.close()

    # ------------------------------------------------------------------ plans

    async def _list(self, said: Said) -> None:
        """Have the plans as they are allowed now. Raises Unavailable."""
        if not self._plans and self._open and not said.get("worker_environment_exists"):
            await self._open_environment()
        listed = str(said.get("plans_allowed_uid")), str(said.get("devices_allowed_uid"))
        if self._plans and listed == self._listed:
            return
        allowed = await self._link.look("plans_allowed", user_group=self._group)
        devices = await self._link.look("devices_allowed", user_group=self._group)
        for answer in (allowed, devices):
            if not answer.get("success"):
                raise Unavailable(f"{self._name}: {problem(answer)}")
        if not allowed["plans_allowed"]:
            raise Unavailable(
                f"{self._name} allows {self._group} no plans: they are there once its environment is open"
            )
        try:
            self._plans = offered(allowed["plans_allowed"], devices["devices_allowed"], self._offers)
        except (KeyError, TypeError, ValueError, SyntaxError) as error:
            raise Unavailable(f"the plans of {self._name} cannot be understood: {error!r}") from None
        self._listed = listed

    async def _may_add(self, said: Said) -> None:
        """Raises NotStarted where an item that is added now would stand still, or be performed more than once."""
        lock = said.get("lock") or {}
        if lock.get("queue") or lock.get("environment"):
            told = (await self._link.look("lock_info")).get("lock_info") or {}
            raise NotStarted(
                f"{self._name} is locked by {told.get('user')} ({told.get('note')}) since {told.get('time_str')}"
            )
        if (said.get("plan_queue_mode") or {}).get("loop"):
            raise NotStarted(f"the queue of {self._name} is in the mode loop, which repeats what is in it")
        if not said.get("worker_environment_exists"):
            if not self._open:
                raise NotStarted(f"the environment of {self._name} is closed: open it (or let the option open do so)")
            await self._open_environment()
        elif said.get("manager_state") != "idle" and not _goes(said):
            raise NotStarted(f"{self._name} is busy: {said.get('manager_state')}")
        if (_goes(said) and said.get("queue_stop_pending")) or (_stands(said) and said.get("items_in_queue")):
            raise NotStarted(self._stopped(said))

    def _stopped(self, said: Said) -> str:
        there = said.get("items_in_queue")
        return f"the queue of {self._name} is stopped with {there} items in it: somebody has to start it"

    async def _set_going(self, handle: str, stops: int) -> None:
        """Start a queue that stands still with our item alone. Raises NotStarted where it may not, or was stopped
        meanwhile: the item is taken out again."""
        try:
            said = await self._link.look_on("status")
            items = (await self._link.look("queue_get")).get("items", ())
        except Unavailable:
            # It is there, and following it says that nothing goes on.
            return
        if self._stops == stops and (not _stands(said) or said.get("running_item_uid")):
            return
        async with self._starting:
            # Nothing begins after a stop because it was on its way.
            stopped = self._stops != stops
            if stopped:
                why = _STOPPED
            elif [item["item_uid"] for item in items] == [handle]:
                answer = await self._link.act("queue_start")
                why = problem(answer)
                if answer.get("success"):
                    return
            else:
                why = self._stopped(said)
        # Where it is in the queue no longer, it has begun after all.
        if (await self._link.act("queue_item_remove", uid=handle)).get("success"):
            raise NotStarted(f"{self._name}: {why}", "cancelled" if stopped else "refused")

    async def _open_environment(self) -> None:
        """Raises Unavailable."""
        answer = await self._link.look("environment_open")
        until = time.monotonic() + OPENING
        while time.monotonic() < until:
            said = await self._link.look("status")
            if said.get("manager_state") != "creating_environment":
                if said.get("worker_environment_exists"):
                    return
                break
            await asyncio.sleep(AGAIN)
        raise Unavailable(f"the environment of {self._name} does not open: {problem(answer) or 'its log says why'}")

    # ------------------------------------------------------------------ runs

    async def _settle(self, mark: tuple[str, str], why: str) -> str:
        """The item of an attempt, the answer to which was lost. Raises InDoubt where it is not there."""
        try:
            # The server takes requests in turn: once it has answered this one, it has dealt with what came before.
            await self._link.look_on("status")
            found = next((item["item_uid"] for item in await self._items() if _mark(item) == mark), None)
        except Unavailable as error:
            raise InDoubt(f"{why}; asked again: {error}") from None
        if found is None:
            raise InDoubt(f"{why}; and it is neither in the queue nor in the history")
        return str(found)

    async def _find(self, action: str) -> Said | None:
        """The item of the last attempt at an action. What came after it are copies, with the result of the original."""
        items = await self._items()
        marks = [_mark(item) for item in items]
        last = next((mark for mark in reversed(marks) if mark[0] == action), None)
        return items[marks.index(last)] if last else None

    async def _items(self) -> list[Said]:
        """All that the server knows of, what began first first. An item may be there twice, as it goes on its way."""
        queue = await self._link.look("queue_get")
        history = await self._link.look("history_get")
        running = queue.get("running_item")
        return [*history.get("items", ()), *([running] if running else []), *queue.get("items", ())]

    async def _run(self, handle: str, said: Said) -> Run:
        """How far an item has come. It goes from the queue to the worker and then into the history: where it is not
        found in the one, it is looked for in the next."""
        if handle in self._ended:
            return self._ended[handle]
        if said.get("running_item_uid") == handle:
            return Run(state="paused" if said.get("manager_state") == "paused" else "running")
        queue = await self._link.look("queue_get")
        if (queue.get("running_item") or {}).get("item_uid") == handle:
            return Run(state="running")
        for number, item in enumerate(queue.get("items", ())):
            if item.get("item_uid") == handle:
                words = "; the queue is stopped" if _stands(said) else ""
                return Run(state="queued", message=f"{number} before it{words}")
        history = (await self._link.look("history_get")).get("items", ())
        item = next((item for item in reversed(history) if item.get("item_uid") == handle), None)
        if item is None:
            words = f"{self._name} has {handle} neither in its queue nor in its history"
            return Run(state="unknown", cause="lost", message=words)
        return await self._after(item)

    async def _after(self, item: Said) -> Run:
        """How an item ended. A copy that the server has put back into the queue is taken out; one that it has begun,
        or that stays in the queue, makes what is done unknown."""
        handle, run = item["item_uid"], _ended(item)
        mark = _mark(item)
        if run.state == "succeeded" or not mark[0]:
            return remember(self._ended, handle, run)
        queue = await self._link.look("queue_get")
        # A copy goes the same way as an item: into the history last.
        history = (await self._link.look("history_get")).get("items", ())
        begun = [*history, queue.get("running_item") or {}]
        if again := [i["item_uid"] for i in begun if _mark(i) == mark and i["item_uid"] != handle]:
            words = f"{run.message}; and somebody has started it again as {', '.join(again)}"
            return remember(self._ended, handle, replace(run, state="unknown", cause="lost", message=words))
        for copy in [i["item_uid"] for i in queue.get("items", ()) if _mark(i) == mark]:
            answer = await self._link.act("queue_item_remove", uid=copy)
            if not answer.get("success"):
                left = (await self._link.look("queue_get")).get("items", ())
                if copy not in [i["item_uid"] for i in left]:
                    # It was taken out and the answer lost, or somebody has begun it.
                    return await self._after(item)
                words = "a copy of it stays in the queue, and whoever starts that performs it again"
                why = f"{run.message}; {words}: {problem(answer)}"
                return replace(run, state="unknown", cause="lost", message=why)
            run = replace(run, message=f"{run.message}; the copy of it in the queue was taken out")
        return remember(self._ended, handle, run)

    async def _abort(self, goes: Callable[[Said], bool]) -> None:
        """Have what runs paused at once, and then aborted, while it goes on. Raises InDoubt where it does not end."""
        stops = self._stops
        why, told, until = "it does not say why", set[tuple[str, object]](), time.monotonic() + self._patience
        while goes(said := await self._link.look("status")):
            running = said.get("running_item_uid")
            if time.monotonic() > until:
                raise InDoubt(f"{self._name} does not stop {running}: {why}")
            method = "re_abort" if said.get("manager_state") == "paused" else "re_pause"
            if (method, running) not in told:
                answer = await self._link.act(method, **({"option": "immediate"} if method == "re_pause" else {}))
                if answer.get("success"):
                    told.add((method, running))
                why = problem(answer) or why
            await asyncio.sleep(AGAIN)
        if {method for method, _ in told} == {"re_pause"}:
            await self._go_on(said, stops)

    async def _go_on(self, said: Said, stops: int) -> None:
        """Where what was to pause had just ended, it is somebody else's plan that has paused: it goes on, but for a
        stop meanwhile."""
        until = time.monotonic() + self._patience
        while said.get("pause_pending") or (said.get("re_state") == "paused" and said.get("manager_state") != "paused"):
            if time.monotonic() > until:
                return
            await asyncio.sleep(AGAIN)
            said = await self._link.look("status")
        async with self._starting:
            if said.get("manager_state") == "paused" and self._stops == stops:
                await self._link.act("re_resume")


def _goes(said: Said) -> bool:
    """Whether the queue is being worked on."""
    return said.get("manager_state") in ("starting_queue", "executing_queue", "paused")


def _stands(said: Said) -> bool:
    """Whether the queue waits for somebody to start it."""
    return said.get("manager_state") == "idle" and not said.get("queue_autostart_enabled")


def _mark(item: Said) -> tuple[str, str]:
    """The action that an item of ours performs, and which attempt at it; the same for a copy of it."""
    meta = item.get("meta")
    return (str(meta[MARK]), str(meta.get(ATTEMPT))) if isinstance(meta, dict) and MARK in meta else ("", "")


def _ended(item: Said) -> Run:
    """An item of the history as a run. What failed without a traceback is not known to have failed by itself: the
    worker was lost, or what it reported."""
    said = item.get("result") or {}
    status = str(said.get("exit_status"))
    state = _ENDS.get(status, "unknown")
    if state == "failed" and not said.get("traceback"):
        state = "unknown"
    results = {r.name: said.get(r.name) for r in RESULTS}
    words = str(said.get("msg") or "") or ("" if state == "succeeded" else status)
    if state != "succeeded" and said.get("run_uids"):
        words += f" (runs: {', '.join(said['run_uids'])})"
    return Run(
        state=state, message=words, results=results if state == "succeeded" else {},
        cause="lost" if state == "unknown" else "cancelled" if state == "cancelled" else "instrument-fault",
        started=float(said.get("time_start") or 0.0), ended=float(said.get("time_stop") or 0.0),
    )  # fmt: skip
