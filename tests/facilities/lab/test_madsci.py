"""MADSci against a real node in a process, and an environment, of its own."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from firstlight.core import Action, InDoubt, Instrument, NotStarted, Permit, Unavailable
from firstlight.facilities.lab.madsci import MadsciInstrument
from firstlight.facilities.lab.twin._proxy import Proxy

from .contract import Served
from .servers import free_port, python_of, running

NODE = str(Path(__file__).with_name("madsci_hob.py"))


def permit(operation: str, id: str = "a1", **settings: object) -> Permit:
    made = Action(id=id, trial="t1", facility="lab", name="step", operation=operation, point={}, settings=settings)
    return Permit(action=made, policies=())


class TestMadsci(Served):
    """The contract, as far as MADSci has words for it: no units, no limits, no progress."""

    results = ("data", "data")

    @classmethod
    def command(cls, port: int) -> list[str]:
        return [python_of("madsci"), NODE, str(port), str(cls.folder)]

    @classmethod
    def at(cls, port: int) -> Instrument:
        return MadsciInstrument("hob", f"http://127.0.0.1:{port}", reset=True, poll=0.1)

    def test_it_says_what_it_can_do(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            said = await instrument.describe()
            heat, add = said.operation("Heat"), said.operation("Add")
            assert heat is not None
            assert add is not None
            assert [(a.name, a.type, a.default) for a in heat.arguments] == [
                ("Target", "number", None),
                ("Seconds", "number", 0.2),
            ]
            assert [(a.name, a.type) for a in add.arguments] == [
                ("Volume", "number"),
                ("To", "string"),
                ("Speed", "string"),
            ]
            assert [(r.name, r.type) for r in heat.results] == [("data", "number")]
            assert heat.effect == "consuming"
            assert {"Temperature", "Door", "errored"} <= {s.name for s in said.signals}

        self._run(tmp_path, test)

    def test_an_error_is_kept_until_it_is_reset(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            plain = MadsciInstrument("hob", f"http://127.0.0.1:{self.port}", poll=0.1)
            try:
                (*_, last) = await self._end(plain, await plain.start(permit("Break", "b1")))
                assert last.state == "failed"
                with pytest.raises(NotStarted, match="option reset") as refused:
                    await plain.start(permit("Add", "b2", Volume=1.0, To="A1"))
                assert refused.value.cause == "instrument-fault"
                assert self.performed(root, "Add") == 0
                await plain._command("reset")
            finally:
                await plain.close()

        self._run(tmp_path, test)

    def test_a_safe_stop_ends_what_runs_and_is_answered_soon(self, tmp_path: Path) -> None:
        try:
            super().test_a_safe_stop_ends_what_runs_and_is_answered_soon(tmp_path)
        finally:
            self._reset(tmp_path)

    def test_what_was_stopped_is_reset_by_a_person(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            assert isinstance(instrument, MadsciInstrument)
            handle = await instrument.start(permit("Heat", "y1", Target=30.0, Seconds=30.0))
            await instrument.safe_stop()
            assert (await self._end(instrument, handle))[-1].state == "failed"
            with pytest.raises(NotStarted, match="not ready"):
                await instrument.start(permit("Add", "y2", Volume=1.0, To="A1"))
            await instrument._command("reset")
            await instrument._ready_again()
            for id in ("y3", "y4"):
                assert (await self._end(instrument, await instrument.start(permit("Break", id))))[-1].state == "failed"

        try:
            self._run(tmp_path, test)
        finally:
            self._reset(tmp_path)

    def _reset(self, root: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            assert isinstance(instrument, MadsciInstrument)
            await instrument._command("reset")
            await instrument._ready_again()

        self._run(root, test)

    def test_one_that_is_busy_begins_nothing(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            handle = await instrument.start(permit("Heat", "h1", Target=30.0, Seconds=1.5))
            with pytest.raises(NotStarted, match="not ready"):
                await instrument.start(permit("Add", "h2", Volume=1.0, To="A1"))
            assert self.performed(root, "Add") == 0
            assert (await self._end(instrument, handle))[-1].state == "succeeded"
            with pytest.raises(NotStarted, match="404"):
                await instrument.start(permit("Nope", "h3"))

        self._run(tmp_path, test)

    def _between(self, test: Callable[[MadsciInstrument, Proxy], Awaitable[None]]) -> None:
        async def run() -> None:
            proxy = Proxy(free_port(), self.port)
            await proxy.start()
            it = MadsciInstrument("hob", f"http://127.0.0.1:{proxy.port}", poll=0.1, patience=1.0)
            try:
                async with asyncio.timeout(20):
                    await test(it, proxy)
            finally:
                await it.close()
                proxy.close()

        asyncio.run(run())

    @pytest.mark.parametrize("lost", ["create", "start"])
    def test_a_lost_reply_performs_it_once(self, lost: str) -> None:
        async def test(it: MadsciInstrument, proxy: Proxy) -> None:
            send, dropped = it._send, list[str]()

            async def losing(path: str, body: Any = None) -> Any:
                if path.endswith("/start") == (lost == "start") and not dropped:
                    dropped.append(path)
                    proxy.drop(0.8)
                return await send(path, body)

            it._send = losing  # type: ignore[method-assign]
            handle = await it.start(permit("Add", f"l-{lost}", Volume=2.0, To="A1"))
            assert (await self._end(it, handle))[-1].results == {"data": 2.0}
            assert self.performed(self.folder, "Add") == 1
            assert dropped

        self._between(test)

    def test_replies_that_stay_lost_are_in_doubt_or_nothing(self) -> None:
        async def test(it: MadsciInstrument, proxy: Proxy) -> None:
            id = await it._create("Add", {"Volume": 2.0, "To": "A1"})
            proxy.drop(8.0)
            with pytest.raises(InDoubt):
                await it._begin(f"Add/{id}", 0)
            with pytest.raises(NotStarted):
                await it.start(permit("Add", "s2", Volume=2.0, To="A1"))
            assert self.performed(self.folder, "Add") == 1

        self._between(test)

    @pytest.mark.parametrize("restarted", [False, True])
    def test_a_lost_start_is_sent_again_to_a_node_that_still_has_the_action(
        self, tmp_path: Path, restarted: bool
    ) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            assert isinstance(instrument, MadsciInstrument)
            send, lost = instrument._send, list[str]()

            async def losing(path: str, body: Any = None) -> Any:
                if path.endswith("/start") and not lost:
                    lost.append(path)
                    if restarted:
                        self.kill(root)
                    raise InDoubt("it never arrived")
                return await send(path, body)

            instrument._send = losing  # type: ignore[method-assign]
            if restarted:
                with pytest.raises(InDoubt, match="does not know it"):
                    await instrument.start(permit("Add", "n1", Volume=2.0, To="A1"))
            else:
                handle = await instrument.start(permit("Add", "n2", Volume=2.0, To="A1"))
                assert (await self._end(instrument, handle))[-1].state == "succeeded"
            assert self.performed(root, "Add") == (0 if restarted else 1)

        self._run(tmp_path, test)

    def test_a_stop_while_it_is_created_is_not_followed_by_its_start(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            assert isinstance(instrument, MadsciInstrument)
            send, sent = instrument._send, list[str]()

            async def stopping(path: str, body: Any = None) -> Any:
                sent.append(path)
                answer = await send(path, body)
                if path == "/action/Add":
                    await instrument.safe_stop()
                return answer

            instrument._send = stopping  # type: ignore[method-assign]
            with pytest.raises(NotStarted, match="stopped, before it began") as refused:
                await instrument.start(permit("Add", "z1", Volume=2.0, To="A1"))
            assert refused.value.cause == "cancelled"
            assert sent == ["/action/Add"]
            assert self.performed(root, "Add") == 0

        self._run(tmp_path, test)

    @pytest.mark.parametrize("arrives", [True, False])
    def test_a_stop_while_a_start_is_on_its_way_comes_after_it(self, tmp_path: Path, arrives: bool) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            assert isinstance(instrument, MadsciInstrument)
            send, plain = instrument._send, instrument._command
            sent, stops = list[str](), list[asyncio.Task[None]]()

            async def commanding(command: str) -> None:
                sent.append(command)
                await plain(command)

            async def late(path: str, body: Any = None) -> Any:
                if path.endswith("/start"):
                    if not stops:
                        stops.append(asyncio.create_task(instrument.safe_stop()))
                        await asyncio.sleep(0.3)
                    sent.append("start")
                    if not arrives:
                        raise InDoubt("it never arrived")
                return await send(path, body)

            instrument._send, instrument._command = late, commanding  # type: ignore[method-assign]
            start = instrument.start(permit("Add", f"z{arrives}", Volume=2.0, To="A1"))
            if arrives:
                assert (await self._end(instrument, await start))[-1].state == "succeeded"
            else:
                with pytest.raises(InDoubt, match="stopped since"):
                    await start
            await stops[0]
            assert sent == ["safety_stop", "start", "safety_stop"]
            assert self.performed(root, "Add") == int(arrives)

        self._run(tmp_path, test)

    def test_a_failure_that_cannot_be_reset_is_one_all_the_same(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            assert isinstance(instrument, MadsciInstrument)
            plain = instrument._command

            async def refusing(command: str) -> None:
                raise InDoubt(f"it would not {command}")

            instrument._command = refusing  # type: ignore[method-assign]
            (*_, last) = await self._end(instrument, await instrument.start(permit("Break", "r1")))
            assert last.state == "failed"
            assert "would not reset" in last.message
            await plain("reset")

        self._run(tmp_path, test)

    def test_a_failure_is_told_once_the_node_is_ready_again(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            assert isinstance(instrument, MadsciInstrument)
            get, seen = instrument._get, list[str]()

            async def getting(path: str) -> dict[str, Any]:
                said = await get(path)
                seen.append(path)
                return said | {"initializing": len(seen) < 3}

            handle = await instrument.start(permit("Break", "i1"))
            instrument._get = getting  # type: ignore[method-assign]
            assert (await self._end(instrument, handle))[-1].state == "failed"
            assert len(seen) >= 3
            again = await instrument.start(permit("Add", "i2", Volume=1.0, To="A1"))
            assert (await self._end(instrument, again))[-1].state == "succeeded"

        self._run(tmp_path, test)

    def test_to_start_one_again_begins_nothing_twice(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            assert isinstance(instrument, MadsciInstrument)
            id = await instrument._create("Add", {"Volume": 2.0, "To": "A1"})
            await instrument._begin(f"Add/{id}", 0)
            with pytest.raises(NotStarted, match="forgotten"):
                await instrument._begin(f"Add/{id}", 0)
            assert self.performed(root, "Add") == 1

        self._run(tmp_path, test)


def test_a_stop_waits_for_no_poll() -> None:
    async def test() -> None:
        async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if (await reader.readuntil(b"\r\n\r\n")).startswith(b"POST /admin/safety_stop"):
                writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{"success": true}')
            else:
                # What only reads gets no answer.
                await reader.read()
            writer.close()

        port = free_port()
        it = MadsciInstrument("hob", f"http://127.0.0.1:{port}")
        async with await asyncio.start_server(met, "127.0.0.1", port):
            polls = [asyncio.create_task(it.status(f"Add/{number}")) for number in range(8)]
            await asyncio.sleep(0.3)
            async with asyncio.timeout(2):
                await it.safe_stop()
            for poll in polls:
                poll.cancel()
            await asyncio.gather(*polls, return_exceptions=True)
            await it.close()

    asyncio.run(test())


def test_one_that_falls_silent_is_noticed_and_heard_again(tmp_path: Path) -> None:
    async def test(pid: int, port: int) -> None:
        it = MadsciInstrument("hob", f"http://127.0.0.1:{port}", poll=0.1, patience=0.7)
        try:
            handle = await it.start(permit("Heat", Target=50.0, Seconds=1.0))
            os.kill(pid, signal.SIGSTOP)
            async with asyncio.timeout(20):
                with pytest.raises(Unavailable):
                    await it.status(handle)
                async for reading in it.watch(["Temperature"]):
                    assert reading.value is None
                    break
                seen = []
                async for run in it.follow(handle):
                    seen.append(run)
                    os.kill(pid, signal.SIGCONT)
            assert seen[0].state == "running"
            assert seen[-1].state == "succeeded"
        finally:
            os.kill(pid, signal.SIGCONT)
            await it.close()

    port = free_port()
    with running([python_of("madsci"), NODE, str(port), str(tmp_path)], tmp_path / "log", port) as server:
        asyncio.run(test(server.pid, port))
