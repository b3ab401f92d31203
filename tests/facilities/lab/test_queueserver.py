"""Queue servers against a real one, with its worker and its store, in processes and an environment of its own."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import zmq

from firstlight.core import ENDED, Action, InDoubt, Instrument, NotStarted, Permit, Reading, Run, Unavailable
from firstlight.facilities.lab._queueserver_link import Link
from firstlight.facilities.lab._queueserver_plans import Offer, offered
from firstlight.facilities.lab.queueserver import ATTEMPT, MARK, QueueServerInstrument

from .contract import ROOT, Served
from .servers import free_port, python_of, running

HOB = Path(__file__).with_name("queueserver_hob.py")
RULES = {
    "allowed_plans": [":.*"], "forbidden_plans": [None], "allowed_devices": [":?.*:depth=5"],
    "forbidden_devices": [None], "allowed_functions": [None], "forbidden_functions": [None],
}  # fmt: skip


def permit(operation: str, id: str = "a1", **settings: object) -> Permit:
    made = Action(id=id, trial="t1", facility="lab", name="step", operation=operation, point={}, settings=settings)
    return Permit(action=made, policies=())


def store(folder: Path, port: int) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """A redis of our own that keeps nothing."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no redis-server: apt-get install redis-server")
    words = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    return running([*words, "--dir", str(folder)], folder / "redis", port)


def manager(
    folder: Path, port: int, info: int, redis: int, **env: str
) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """A queue server, with the plans of the hob; its environment is closed at first."""
    (folder / "groups.yaml").write_text(json.dumps({"user_groups": {"root": RULES, "primary": RULES}}))
    program = "from bluesky_queueserver.manager.start_manager import start_manager; start_manager()"
    words = {
        "startup-script": HOB, "existing-plans-devices": folder / "plans.yaml",
        "user-group-permissions": folder / "groups.yaml", "zmq-control-addr": f"tcp://127.0.0.1:{port}",
        "zmq-info-addr": f"tcp://127.0.0.1:{info}", "zmq-publish-console": "ON",
        "redis-addr": f"127.0.0.1:{redis}",
    }  # fmt: skip
    options = [str(word) for name, value in words.items() for word in (f"--{name}", value)]
    return running([python_of("queueserver"), "-c", program, *options], folder / "log", port, env)


def children(pid: int) -> list[int]:
    """What the first thread of a process has started: of a queue server its manager, but not its worker."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Deaf:
    """Between a client and a server: once a request with a word has passed, no reply passes any more."""

    def __init__(self, port: int, to: int, word: bytes) -> None:
        self.port, self._to, self._word, self.heard = port, to, word, 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._met, "127.0.0.1", self.port)
        try:
            yield
        finally:
            server.close()

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        deaf = False

        async def replies() -> None:
            while said := await there.read(1 << 16):
                if not deaf:
                    writer.write(said)

        passing = asyncio.create_task(replies())
        while said := await reader.read(1 << 16):
            if self._word in said:
                deaf = True
                self.heard += 1
            back.write(said)
        back.close()
        await passing
        writer.close()


def at_answer(it: QueueServerInstrument, word: str, do: Callable[[], Awaitable[None]]) -> list[str]:
    """Have something done once the first request of a kind is answered; what is asked by then, and afterwards."""
    ask, asked = it._link.ask, list[str]()

    async def noting(method: str, **params: Any) -> Any:
        asked.append(method)
        answer = await ask(method, **params)
        if method == word and asked.count(word) == 1:
            await do()
        return answer

    it._link.ask = noting  # type: ignore[method-assign]
    return asked


class TestQueueServer(Served):
    """The contract, as far as a queue server has words for it: no units, no progress, nothing that plans return."""

    redis: ClassVar[int]
    info: ClassVar[int]
    server: ClassVar[subprocess.Popen[bytes]]
    life: ClassVar[contextlib.ExitStack]

    @classmethod
    def begin(cls) -> None:
        cls.redis, cls.info, cls.life = free_port(), free_port(), contextlib.ExitStack()
        python_of("queueserver")
        cls.servers.enter_context(store(cls.folder, cls.redis))
        cls.servers.enter_context(cls.life)
        cls.wake()

    @classmethod
    def wake(cls) -> None:
        made = manager(cls.folder, cls.port, cls.info, cls.redis, HOB_LOG=str(cls.folder / "done"))
        cls.server = cls.life.enter_context(made)

    def kill(self, root: Path) -> bool:
        self.life.close()
        self.wake()
        return True

    @classmethod
    def at(cls, port: int, **more: Any) -> QueueServerInstrument:
        given: dict[str, Any] = {
            "info": f"tcp://127.0.0.1:{cls.info}",
            "open": True,
            "patience": 2.0,
            "poll": 0.05,
        } | more
        return QueueServerInstrument("hob", f"tcp://127.0.0.1:{port}", **given)

    async def ask(self, method: str, **params: Any) -> Any:
        """What somebody else asks of the server."""
        link = Link(f"tcp://127.0.0.1:{self.port}", "", "", 0.1, 5.0)
        try:
            return await link.ask(method, **params)
        finally:
            link.close()

    async def enqueue(self, name: str, meta: dict[str, str] | None = None, **kwargs: object) -> str:
        """An item of somebody else's."""
        item = {"item_type": "plan", "name": name, "kwargs": kwargs, "meta": meta or {}}
        answer = await self.ask("queue_item_add", item=item, user="Ann", user_group="primary")
        assert answer["success"], answer
        return str(answer["item"]["item_uid"])

    async def until(self, **wanted: object) -> None:
        async with asyncio.timeout(self.patience):
            while True:
                said = await self.ask("status")
                if all(said[name] == value for name, value in wanted.items()):
                    return
                await asyncio.sleep(0.02)

    async def queued(self) -> list[str]:
        return [item["item_uid"] for item in (await self.ask("queue_get"))["items"]]

    async def history(self, id: str) -> list[Any]:
        items = (await self.ask("history_get"))["items"]
        return [item for item in items if (item.get("meta") or {}).get(MARK) == id]

    def with_it(self, test: Callable[[QueueServerInstrument], Awaitable[None]], port: int = 0, **more: Any) -> None:
        """One whose server is open and does nothing, with nothing in its queue; and it is left so."""

        async def run() -> None:
            opening = self.at(self.port)
            it = self.at(port or self.port, **more)
            try:
                async with asyncio.timeout(60):
                    await opening._open_environment()
                    await test(it)
            finally:
                await opening.safe_stop()
                await self.until(manager_state="idle")
                await self.ask("queue_clear")
                await opening.close()
                await it.close()

        asyncio.run(run())

    # ------------------------------------------------------------------ the contract, in its own words

    def test_it_says_what_it_can_do(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            said = await instrument.describe()
            assert said == await instrument.describe()
            assert said.version == "0.0.25"
            heat, add = said.operation("Heat"), said.operation("Add")
            assert heat is not None
            assert add is not None
            target, seconds = heat.arguments
            assert (target.type, target.low, target.high, target.schema) == ("number", 20.0, 200.0, {"step": 0.5})
            assert (seconds.type, seconds.default) == ("number", 0.2)
            assert [(a.name, a.type, a.choices) for a in add.arguments] == [
                ("Volume", "number", ()),
                ("To", "string", ()),
                ("Speed", "string", ("slow", "fast")),
            ]
            assert heat.effect == "consuming"
            assert [r.name for r in heat.results] == ["exit_status", "run_uids", "scan_ids"]
            scan = said.operation("scan")
            assert scan is not None
            detectors, places = scan.arguments
            items: Any = detectors.schema["items"]
            assert detectors.type == places.type == "array"
            assert {"det", "motor", "motor.velocity"} <= set(items["enum"])
            assert "manager_state" in {s.name for s in said.signals}

        self._run(tmp_path, test)

    def test_a_run_goes_on_to_its_end_and_brings_results(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            handle = await instrument.start(self.permit(1, "Heat", Target=70.0, Seconds=0.5))
            seen = await self._end(instrument, handle)
            assert [run.state for run in seen][-2:] == ["running", "succeeded"]
            assert seen[-1].results["exit_status"] == "completed"
            assert len(seen[-1].results["run_uids"]) == len(seen[-1].results["scan_ids"]) == 1  # type: ignore[arg-type]
            assert 0.5 <= seen[-1].ended - seen[-1].started < 5.0
            assert await instrument.status(handle) == seen[-1]
            other = self.make(root)
            assert await other.status(handle) == seen[-1]
            await other.close()

        self._run(tmp_path, test)

    def test_text_and_numbers_arrive_as_they_are(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            handle = await instrument.start(self.permit(1, "Add", Volume=12.5, To="plate-1/B2", Speed="fast"))
            assert (await self._end(instrument, handle))[-1].state == "succeeded"
            assert "12.5 plate-1/B2 fast" in (self.folder / "done").read_text()

        self._run(tmp_path, test)

    def test_signals_are_told_at_once_and_when_they_change(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            readings: list[Reading] = []

            async def watch() -> None:
                async for reading in instrument.watch(["manager_state", "nothing"]):
                    readings.append(reading)

            watching = asyncio.create_task(watch())
            async with asyncio.timeout(self.patience):
                while not readings:
                    await asyncio.sleep(0.01)
                await self._end(instrument, await instrument.start(self.permit(1, "Heat", Seconds=1.0)))
                while not {"executing_queue", "idle"} <= {r.value for r in readings}:
                    await asyncio.sleep(0.01)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            assert [r.value for r in readings if r.signal == "nothing"] == [None]

        self._run(tmp_path, test)

    # ------------------------------------------------------------------ what is refused

    @pytest.mark.parametrize(
        ("operation", "settings", "why"),
        [
            ("Fly", {}, "offers no plan Fly"),
            ("scan", {"detectors": ["det"], "args": ["motor", 0, 1]}, "num is missing"),
            ("count", {"detectors": ["nodet"], "num": 1}, "'nodet' is none of"),
            ("count", {"detectors": "det", "num": 1}, "not of the type array"),
            ("count", {"detectors": ["det"], "num": 1.5}, "not of the type integer"),
            ("scan", {"detectors": ["det"], "args": ["nomotor", 0, 1], "num": 3}, "'nomotor' is none of"),
            ("scan", {"detectors": ["det"], "args": ["det", 0, 1], "num": 3}, "'det' is none of"),
            ("Heat", {"Target": 250.0}, "above the highest, 200"),
            ("Heat", {"Target": float("nan")}, "not a number"),
            ("Heat", {"Target": "30"}, "not of the type number"),
            ("Heat", {"Target": True}, "not of the type number"),
            ("Heat", {"Target": 30.0, "Colour": "red"}, "no argument 'Colour' to be given"),
            ("Add", {"Volume": 1.0, "To": "A1", "Speed": "warp"}, "'warp' is none of slow, fast"),
            ("Visit", {"positions": [1.0, 11.0]}, "[1] 11 is above the highest, 10"),
        ],
    )
    def test_what_is_wrong_never_reaches_the_queue(self, operation: str, settings: dict[str, Any], why: str) -> None:
        async def test(it: QueueServerInstrument) -> None:
            await it.describe()
            before, asked, ask = await self.ask("status"), list[str](), it._link.ask

            async def noting(method: str, **params: Any) -> Any:
                asked.append(method)
                return await ask(method, **params)

            it._link.ask = noting  # type: ignore[method-assign]
            with pytest.raises(NotStarted) as refused:
                await it.start(permit(operation, **settings))
            assert why in str(refused.value)
            assert refused.value.cause == "invalid-input"
            assert asked == ["status"]
            after = await self.ask("status")
            assert all(before[what] == after[what] for what in ("plan_queue_uid", "plan_history_uid"))

        self.with_it(test, plans={n: {"needed": ["num"]} if n in ("count", "scan") else {} for n in PLANS})

    def test_plans_of_bluesky_take_devices_and_places(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            said = await it.describe()
            assert {o.name for o in said.operations} == {"count", "scan", "Visit"}
            scan = said.operation("scan")
            assert scan is not None
            assert [a.name for a in scan.arguments] == ["args", "num"]
            assert scan.effect == "reversible"
            wanted: list[tuple[str, dict[str, Any]]] = [
                ("scan", {"args": ["motor", -1, 1.5], "num": 3}),
                ("count", {"detectors": ["det", "motor.velocity"], "num": 2, "delay": 0.01}),
                ("Visit", {"positions": [1, -2.5]}),
            ]
            for number, (plan, settings) in enumerate(wanted):
                handle = await it.start(permit(plan, f"b{number}", **settings))
                assert (await self._end(it, handle))[-1].state == "succeeded"
            (done,) = await self.history("b0")
            assert (done["args"], done["kwargs"]) == ([["det"], "motor", -1, 1.5], {"num": 3})

        offers = {"scan": {"effect": "reversible", "fixed": {"detectors": ["det"]}, "needed": ["num"]}}
        self.with_it(test, plans={**offers, "count": {}, "Visit": {}, "gone": {}})

    def test_a_queue_that_somebody_has_stopped_is_not_started(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            theirs = await self.enqueue("Add", Volume=1.0, To="A1")
            with pytest.raises(NotStarted, match="stopped with 1 items in it"):
                await it.start(permit("Add", "o1", Volume=2.0, To="A1"))
            await asyncio.sleep(0.5)
            assert await self.queued() == [theirs]
            assert self.performed(self.folder, "Add") == 0

        self.with_it(test)

    def test_an_item_that_comes_between_is_not_started(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            ask, theirs = it._link.ask, list[str]()

            async def beaten(method: str, **params: Any) -> Any:
                answer = await ask(method, **params)
                if method == "queue_item_add":
                    theirs.append(await self.enqueue("Add", Volume=1.0, To="A1"))
                return answer

            it._link.ask = beaten  # type: ignore[method-assign]
            with pytest.raises(NotStarted, match="somebody has to start it"):
                await it.start(permit("Add", "o2", Volume=2.0, To="A1"))
            await asyncio.sleep(0.5)
            assert await self.queued() == theirs
            assert self.performed(self.folder, "Add") == 0

        self.with_it(test)

    def test_a_locked_queue_says_who_has_the_key(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            await self.ask("lock", queue=True, environment=True, lock_key="k", user="Ann", note="aligning")
            try:
                with pytest.raises(NotStarted, match=r"locked by Ann \(aligning\)"):
                    await it.start(permit("Break", "l1"))
            finally:
                await self.ask("unlock", lock_key="k")
            assert await self.queued() == []

        self.with_it(test)

    def test_a_queue_that_repeats_what_is_in_it_is_given_nothing(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            await self.ask("queue_mode_set", mode={"loop": True})
            try:
                with pytest.raises(NotStarted, match="loop"):
                    await it.start(permit("Add", "m1", Volume=1.0, To="A1"))
            finally:
                await self.ask("queue_mode_set", mode="default")
            assert self.performed(self.folder, "Add") == 0

        self.with_it(test)

    def test_a_closed_environment_is_opened_where_that_is_wanted(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            await self.ask("environment_close")
            await self.until(manager_state="idle", worker_environment_exists=False)
            with pytest.raises(NotStarted, match="option open"):
                await it.start(permit("Break", "e1"))
            assert await self.queued() == []
            opening = self.at(self.port)
            handle = await opening.start(permit("Add", "e2", Volume=1.0, To="A1"))
            assert (await self._end(opening, handle))[-1].state == "succeeded"
            await opening.close()

        self.with_it(test, open=False)

    # ------------------------------------------------------------------ others in the queue

    def test_it_waits_its_turn_and_can_be_taken_out_before(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            await self.enqueue("Heat", Target=30.0, Seconds=1.5)
            await self.ask("queue_start")
            await self.until(manager_state="executing_queue")
            handle = await it.start(permit("Add", "w1", Volume=1.0, To="A1"))
            other = await it.start(permit("Add", "w2", Volume=1.0, To="A1"))
            assert (await it.status(handle)).state == "queued"
            await it.cancel(other)
            assert (await it.status(other)).state == "cancelled"
            seen = await self._end(it, handle)
            assert (seen[0].state, seen[-1].state) == ("queued", "succeeded")
            assert self.performed(self.folder, "Add") == 1

        self.with_it(test)

    def test_without_a_publisher_it_asks(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            handle = await it.start(permit("Heat", "p1", Target=30.0))
            assert (await self._end(it, handle))[-1].state == "succeeded"

        self.with_it(test, info="")

    def test_a_paused_plan_is_paused_and_can_be_ended(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            handle = await it.start(permit("Heat", "p2", Target=30.0, Seconds=30.0))
            following = asyncio.create_task(self._end(it, handle))
            await self.until(re_state="running")
            await self.ask("re_pause", option="immediate")
            await self.until(manager_state="paused")
            assert (await it.status(handle)).state == "paused"
            await it.cancel(handle)
            seen = [run.state for run in await following]
            assert "paused" in seen
            assert seen[-1] == "cancelled"
            assert await self.queued() == []

        self.with_it(test)

    def test_a_safe_stop_leaves_nothing_that_starts_by_itself(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            await self.ask("queue_autostart", enable=True)
            handle = await it.start(permit("Heat", "s1", Target=30.0, Seconds=30.0))
            theirs = await self.enqueue("Add", Volume=1.0, To="A1")
            await self.until(re_state="running")
            await it.safe_stop()
            (*_, last) = await self._end(it, handle)
            assert last.state == "cancelled"
            assert "runs: " in last.message
            await asyncio.sleep(0.5)
            said = await self.ask("status")
            assert (said["manager_state"], said["queue_autostart_enabled"]) == ("idle", False)
            assert await self.queued() == [theirs]
            assert self.performed(self.folder, "Add") == 0
            await self.ask("queue_clear")
            await self.ask("queue_autostart", enable=True)
            await it.safe_stop()
            assert not (await self.ask("status"))["queue_autostart_enabled"]

        self.with_it(test)

    @pytest.mark.parametrize("when", ["queue_item_add", "status"])
    def test_a_stop_while_it_is_added_is_not_followed_by_its_start(self, when: str) -> None:
        async def test(it: QueueServerInstrument) -> None:
            await it.describe()
            asked = at_answer(it, when, it.safe_stop)
            with pytest.raises(NotStarted, match="stopped, before it began") as refused:
                await it.start(permit("Add", f"z{when}", Volume=1.0, To="A1"))
            assert refused.value.cause == "cancelled"
            assert "queue_start" not in asked
            assert ("queue_item_add" in asked) == (when == "queue_item_add")
            assert await self.queued() == []
            assert self.performed(self.folder, "Add") == 0

        self.with_it(test)

    def test_a_stop_while_it_is_added_to_what_goes_on_takes_it_out(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            await self.enqueue("Heat", Target=30.0, Seconds=30.0)
            await self.ask("queue_start")
            await self.until(re_state="running")
            asked = at_answer(it, "queue_item_add", it.safe_stop)
            with pytest.raises(NotStarted, match="stopped, before it began"):
                await it.start(permit("Add", "z3", Volume=1.0, To="A1"))
            assert "queue_start" not in asked
            assert "Add" not in [item["name"] for item in (await self.ask("queue_get"))["items"]]
            assert self.performed(self.folder, "Add") == 0

        self.with_it(test)

    def test_a_stop_while_the_queue_is_being_started_ends_what_began(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            await it.describe()
            ask, stops = it._link.ask, list[asyncio.Task[None]]()

            async def late(method: str, **params: Any) -> Any:
                if method == "queue_start":
                    # It is on its way while the server answers everything that the stop asks.
                    stops.append(asyncio.create_task(it.safe_stop()))
                    await asyncio.sleep(0.5)
                return await ask(method, **params)

            it._link.ask = late  # type: ignore[method-assign]
            handle = await it.start(permit("Heat", "z4", Target=30.0, Seconds=30.0))
            await stops[0]
            assert (await self.ask("status"))["manager_state"] == "idle"
            assert (await self._end(it, handle))[-1].state == "cancelled"
            assert await self.queued() == []

        self.with_it(test)

    def test_a_stop_ends_what_has_started_by_itself_meanwhile(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            await self.ask("queue_autostart", enable=True)
            ask = it._link.ask

            async def late(method: str, **params: Any) -> Any:
                if method == "queue_autostart":
                    await self.enqueue("Heat", Target=30.0, Seconds=30.0)
                    await self.until(re_state="running")
                return await ask(method, **params)

            it._link.ask = late  # type: ignore[method-assign]
            await it.safe_stop()
            said = await self.ask("status")
            assert (said["manager_state"], said["queue_autostart_enabled"]) == ("idle", False)

        self.with_it(test)

    def test_what_a_cancel_has_paused_of_somebody_else_goes_on(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            handle = await it.start(permit("Heat", "z5", Target=30.0, Seconds=1.0))
            theirs = await self.enqueue("Heat", Target=30.0, Seconds=2.0)
            await self.until(re_state="running")
            ask = it._link.ask

            async def late(method: str, **params: Any) -> Any:
                if method == "re_pause":
                    await self.until(running_item_uid=theirs, re_state="running")
                return await ask(method, **params)

            it._link.ask = late  # type: ignore[method-assign]
            await it.cancel(handle)
            assert (await it.status(handle)).state == "succeeded"
            await self.until(manager_state="idle")
            last = (await self.ask("history_get"))["items"][-1]
            assert (last["item_uid"], last["result"]["exit_status"]) == (theirs, "completed")

        self.with_it(test)

    # ------------------------------------------------------------------ what is lost on the way

    def test_what_nobody_could_receive_was_not_sent(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            await it.describe()
            it._link._address = f"tcp://127.0.0.1:{free_port()}"
            with pytest.raises(Unavailable, match="cannot be reached"):
                await it._link.ask("queue_item_add", item={}, user="", user_group="")

        self.with_it(test, patience=0.5)

    def test_a_lost_answer_adds_nothing_twice(self) -> None:
        deaf = Deaf(free_port(), self.port, b"queue_item_add")

        async def test(it: QueueServerInstrument) -> None:
            async with deaf.listening():
                handle = await it.start(permit("Add", "d1", Volume=2.0, To="A1"))
                assert (await self._end(it, handle))[-1].state == "succeeded"
                assert await it.start(permit("Add", "d1", Volume=2.0, To="A1")) == handle
                await it.close()
            assert deaf.heard == 1
            assert len(await self.history("d1")) == 1
            assert self.performed(self.folder, "Add") == 1

        self.with_it(test, port=deaf.port, patience=1.0)

    def test_an_item_that_was_lost_and_is_not_there_is_in_doubt(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            ask = it._link.ask

            async def losing(method: str, **params: Any) -> Any:
                if method == "queue_item_add":
                    raise InDoubt("it never arrived")
                return await ask(method, **params)

            it._link.ask = losing  # type: ignore[method-assign]
            with pytest.raises(InDoubt, match="never arrived; and it is neither"):
                await it.start(permit("Add", "d2", Volume=2.0, To="A1"))
            with pytest.raises(InDoubt, match="may be cleared"):
                await it.reattach("d2", "")

        self.with_it(test)

    def test_another_process_finds_what_ours_began(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            program = (
                "import asyncio, os, sys\n"
                "from tests.facilities.lab.test_queueserver import QueueServerInstrument, permit\n"
                "it = QueueServerInstrument('hob', sys.argv[1])\n"
                "asyncio.run(it.start(permit('Heat', 'r1', Target=30.0, Seconds=1.0)))\n"
                "os._exit(9)\n"
            )
            words = [sys.executable, "-c", program, f"tcp://127.0.0.1:{self.port}"]
            env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
            died = await asyncio.create_subprocess_exec(*words, env=env)
            assert await died.wait() == 9
            handle = await it.reattach("r1", "")
            assert handle is not None
            assert await it.reattach("r1", handle) == handle
            assert (await self._end(it, handle))[-1].state == "succeeded"
            assert self.performed(self.folder, "Heat") == 1

        self.with_it(test)

    def test_what_was_added_and_not_begun_is_taken_out_and_known_not_to_have_begun(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            await self.enqueue("Add", {MARK: "h1", ATTEMPT: "1"}, Volume=1.0, To="A1")
            assert await it.reattach("h1", "") is None
            assert await self.queued() == []
            handle = await self.enqueue("Add", {MARK: "h2", ATTEMPT: "1"}, Volume=1.0, To="A1")
            assert await it.reattach("h2", handle) == handle
            assert "the queue is stopped" in (await it.status(handle)).message
            await it.cancel(handle)

        self.with_it(test)

    # ------------------------------------------------------------------ what dies

    @pytest.mark.parametrize("looking", [True, False])
    def test_a_worker_that_is_killed_leaves_a_doubt_and_no_copy(self, looking: bool) -> None:
        async def test(it: QueueServerInstrument) -> None:
            handle = await it.start(permit("Heat", f"k{looking}", Target=30.0, Seconds=30.0))
            following = asyncio.create_task(self._end(it, handle)) if looking else None
            await self.until(re_state="running")
            await self.ask("environment_destroy")
            await self.until(manager_state="idle")
            last = (await following)[-1] if following else await it.status(handle)
            assert (last.state, last.cause) == ("unknown", "lost")
            assert "environment was destroyed" in last.message
            assert "the copy of it in the queue was taken out" in last.message
            assert await self.queued() == []
            with pytest.raises(InDoubt, match="destroyed"):
                await it.reattach(f"k{looking}", "")
            assert self.performed(self.folder, "Heat") == 1

        self.with_it(test)

    def test_a_copy_that_somebody_has_started_makes_it_unknown(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            handle = await it.start(permit("Break", "c1"))
            await self.until(manager_state="idle", items_in_queue=1)
            (copy,) = await self.queued()
            await self.ask("queue_start")
            await self.until(manager_state="idle", items_in_queue=1)
            run = await it.status(handle)
            assert run.state == "unknown"
            assert f"started it again as {copy}" in run.message
            assert self.performed(self.folder, "Break") == 2

        self.with_it(test)

    def test_a_copy_that_cannot_be_taken_out_is_spoken_of_and_tried_again(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            handle = await it.start(permit("Break", "c2"))
            await self.until(manager_state="idle", items_in_queue=1)
            await self.ask("lock", queue=True, lock_key="k", user="Ann")
            run = await it.status(handle)
            await self.ask("unlock", lock_key="k")
            assert (run.state, run.cause) == ("unknown", "lost")
            assert "a copy of it stays in the queue, and whoever starts that performs it again" in run.message
            again = await it.status(handle)
            assert again.state == "failed"
            assert "was taken out" in again.message
            assert await self.queued() == []

        self.with_it(test)

    @pytest.mark.parametrize("begun", [False, True])
    def test_a_copy_that_is_gone_before_it_is_taken_out_is_looked_for(self, begun: bool) -> None:
        async def test(it: QueueServerInstrument) -> None:
            handle = await it.start(permit("Break", f"c4{begun}"))
            await self.until(manager_state="idle", items_in_queue=1)
            ask, lost = it._link.ask, list[str]()

            async def losing(method: str, **params: Any) -> Any:
                if method != "queue_item_remove" or lost:
                    return await ask(method, **params)
                lost.append(method)
                if begun:
                    await self.ask("queue_start")
                    await self.until(manager_state="idle", items_in_history=2 + before)
                else:
                    await ask(method, **params)
                raise InDoubt("the answer is lost")

            before = (await self.ask("status"))["items_in_history"] - 1
            it._link.ask = losing  # type: ignore[method-assign]
            run = await it.status(handle)
            assert lost
            assert run.state == ("unknown" if begun else "failed")
            assert ("somebody has started it again" in run.message) == begun
            assert self.performed(self.folder, "Break") == (2 if begun else 1)

        self.with_it(test)

    def test_a_copy_that_runs_and_ends_between_two_looks_is_seen(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            handle = await it.start(permit("Break", "c5"))
            await self.until(manager_state="idle", items_in_queue=1)

            async def begin() -> None:
                await self.ask("queue_start")
                await self.until(manager_state="idle", items_in_queue=1)

            at_answer(it, "history_get", begin)
            run = await it.status(handle)
            assert run.state == "unknown"
            assert "somebody has started it again" in run.message

        self.with_it(test)

    def test_a_copy_of_which_the_history_is_cleared_has_begun_all_the_same(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            await it.start(permit("Break", "c6"))
            await self.until(manager_state="idle", items_in_queue=1)
            await self.ask("history_clear")
            other = self.at(self.port)
            with pytest.raises(InDoubt, match="a copy"):
                await other.reattach("c6", "")
            await other.close()
            assert self.performed(self.folder, "Break") == 1

        self.with_it(test)

    def test_another_attempt_is_not_taken_for_a_copy(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            first = await it.start(permit("Break", "c3"))
            assert (await self._end(it, first))[-1].state == "failed"
            other = self.at(self.port)
            second = await other.start(permit("Break", "c3"))
            assert (await self._end(other, second))[-1].state == "failed"
            await other.close()
            third = self.at(self.port)
            assert await third.reattach("c3", "") == second
            await third.close()

        self.with_it(test)

    def test_a_plan_outlives_its_manager(self) -> None:
        async def test(it: QueueServerInstrument) -> None:
            handle = await it.start(permit("Heat", "g1", Target=30.0, Seconds=3.0))
            seen = list[Run]()

            async def follow() -> None:
                async for run in it.follow(handle):
                    seen.append(run)

            following = asyncio.create_task(follow())
            await self.until(re_state="running")
            (before,) = children(self.server.pid)
            os.kill(before, signal.SIGKILL)
            await following
            assert children(self.server.pid) != [before]
            assert seen[-1].state == "succeeded"
            assert not {run.state for run in seen[:-1]} & set(ENDED)
            assert self.performed(self.folder, "Heat") == 1

        self.with_it(test)


PLANS = ("count", "scan", "Heat", "Add", "Break", "Visit")


def test_a_key_is_the_name_of_a_variable_and_never_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    public, secret = zmq.curve_keypair()
    with pytest.raises(ValueError, match="never the key") as refused:
        QueueServerInstrument("hob", key=public.decode())
    assert public.decode() not in str(refused.value)

    async def test(port: int) -> None:
        it = QueueServerInstrument("hob", f"tcp://127.0.0.1:{port}", key="HOB_KEY", open=True, patience=1.0)
        try:
            with pytest.raises(Unavailable, match=r"\$HOB_KEY"):
                await it.describe()
            monkeypatch.setenv("HOB_KEY", public.decode())
            assert (await it.describe()).operation("Heat") is not None
            monkeypatch.setenv("HOB_KEY", zmq.curve_keypair()[0].decode())
            with pytest.raises(Unavailable, match="cannot be reached"):
                await it.describe()
        finally:
            await it.close()

    port, info, redis = free_port(), free_port(), free_port()
    python_of("queueserver")
    secrets = {"QSERVER_ZMQ_PRIVATE_KEY_FOR_SERVER": secret.decode()}
    with store(tmp_path, redis), manager(tmp_path, port, info, redis, **secrets):
        asyncio.run(test(port))


def test_options_that_make_no_sense_are_refused() -> None:
    nonsense: list[dict[str, Any]] = [{"poll": 0.0}, {"patience": -1.0}, {"plans": {"count": {"effekt": "read"}}}]
    for wrong in nonsense:
        with pytest.raises(ValueError):
            QueueServerInstrument("hob", **wrong)


def parameter(name: str, type: str = "", default: str = "", kind: str = "POSITIONAL_OR_KEYWORD", **more: Any) -> Any:
    """As `plans_allowed` describes one."""
    said = {"name": name, "kind": {"name": kind}, **({"default": default} if default else {})}
    return {**said, **({"annotation": {"type": type, **more}} if type else {})}


@pytest.mark.parametrize(
    ("type", "right", "wrong"),
    [
        ("typing.Optional[int]", [1, None], [1.5, "1", True]),
        ("typing.Union[typing.List[float], float]", [[1, 2.5], 3.0], ["x", ["x"], None]),
        ("typing.Literal['a', 'b']", ["a"], ["c", 1]),
        ("typing.Literal[1, 2]", [2], [3, "1"]),
        ("tuple[float, ...]", [[1.0, 2]], [["a"], 1.0]),
        ("dict[str, typing.Any]", [{"a": 1}], [[], "a"]),
        ("bool", [True], [1, "True"]),
        ("__MOVABLE__", ["motor"], ["det", "motors", 1]),
        ("__PLAN_OR_DEVICE__", ["motor", "det", "it"], ["that"]),
        ("collections.abc.Sequence[__MOVABLE__ | typing.Any]", [["motor", 1, None]], [["det"], 1]),
        ("typing.Any", [1, "x", None], []),
        ("some.Thing", [1, "x", None], []),
    ],
)
def test_annotations_are_kept_to(type: str, right: list[Any], wrong: list[Any]) -> None:
    devices = {"motor": {"is_movable": True}, "det": {"is_readable": True}}
    plan = offered({"it": {"name": "it", "parameters": [parameter("x", type, "0")]}}, devices, None)["it"]
    assert all(not plan.wrong({"x": value}) for value in right)
    assert all(plan.wrong({"x": value}) for value in wrong)


def test_what_is_sent_by_its_place_keeps_it() -> None:
    args = parameter("args", "float", kind="VAR_POSITIONAL")
    said = [parameter("a", "float"), parameter("b", "int | None", "None"), args, parameter("c", default="True")]
    described = {"it": {"name": "it", "parameters": said}, "blind": {"name": "blind", "parameters": [parameter("x")]}}
    plans = offered(described, {}, None)
    assert set(plans) == {"it"}, "nobody says what the other must be given"
    plan = plans["it"]
    assert [(a.name, a.type, a.default) for a in plan.operation.arguments] == [
        ("a", "number", None),
        ("args", "array", None),
        ("c", "boolean", True),
    ]
    item = plan.item({"a": 1.0, "args": [2.0, 3.0], "c": False})
    assert (item["args"], item["kwargs"]) == ([1.0, None, 2.0, 3.0], {"c": False})
    (fixed,) = offered(described, {}, {"blind": Offer(fixed={"x": 5})}).values()
    assert fixed.item({})["kwargs"] == {"x": 5}
    assert fixed.wrong({"x": 6}) == ["blind has no argument 'x' to be given"]
