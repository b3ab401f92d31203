"""One generation of pilots: Parsl's executor with its interchange and blocks, without the rest of Parsl.

The executor is used by itself. A DataFlowKernel would remember, retry and wait for what is better known here, and
costs a millisecond a task.
"""

import asyncio
import contextlib
import math
import os
import secrets
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import zmq
from parsl.jobs.states import JobState, JobStatus
from parsl.providers import LocalProvider

from .._rundir import replace_file
from ._build import build, interchange
from ._bundle import GENERATION
from ._leftovers import Generation, kill_local, process, remember
from ._words import Hello

REPLIES = 20.0
"""Seconds within which an interchange that is alive answers."""
DIED = "its interchange died"
FAILURES = 3
"""Blocks in a row that fail before it is said that there can be none."""
WORK = {"task_executor": {"f": "firstlight.facilities.compute.parsl._bundle.perform_bundle"}}
FAILED = (JobState.FAILED, JobState.MISSING)
LIVE = (JobState.PENDING, JobState.RUNNING, JobState.HELD, JobState.UNKNOWN)

T = TypeVar("T")


class Pilots:
    """Started, they perform bundles; they grow with the work that `wanted` says there is, and shrink without."""

    def __init__(self, root: Path, hello: Hello, wanted: Callable[[], int]) -> None:
        self.label = f"firstlight-{secrets.token_hex(6)}"
        self.workers, self.connected = 0, set[str]()
        self.blocks: dict[str, str] = {}
        self.trouble = ""
        self.over = False
        """Whether they have been given up."""
        self._root, self._folder, self._hello, self._wanted = root, root / "pilots", hello, wanted
        # What Parsl does with its blocks takes seconds at times, and must not be done by two threads at once.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parsl")
        self._htex: Any = None
        self._least = self._most = self._first = 0
        self._idle, self._wanted_at, self._asked = hello.site.idle, time.monotonic(), 0.0
        self._served: set[str] = set()
        self._told: tuple[str, ...] = ()

    # ------------------------------------------------------------------ in the keeper's thread

    async def start(self) -> None:
        """Raises ValueError where the site is not described rightly, OSError, or whatever Parsl raises."""
        await self._apart(self._start)

    @property
    def interchange(self) -> int:
        """The process id of its interchange, or rather of whoever guards it."""
        return int(self._htex.interchange_proc.pid)

    def perform(self, bundle: bytes) -> "Future[bytes]":
        """What a worker makes of it."""
        future: Future[bytes] = self._htex.submit_payload(WORK, bundle)
        return future

    @property
    def words(self) -> str:
        """Why its interchange died, as far as is known."""
        error = self._htex.executor_exception
        return f"{type(error).__name__}: {error}" if error else DIED

    async def look(self) -> None:
        """See who is there, and ask for more or give back. Raises whatever Parsl raises."""
        await self._apart(self._look)

    async def end(self) -> None:
        """Cancel the blocks and end the interchange, whether that is alive or not."""
        await self._apart(self._end)
        self._thread.shutdown(wait=False)

    async def _apart(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    # ------------------------------------------------------------------ in a thread of its own

    def _start(self) -> None:
        hello = self._hello
        built = build(hello.site, hello.python, hello.environment.get("PYTHONPATH", ""))
        self._htex, self._idle = built.executor, built.idle
        self._least, self._first, self._most = built.least, built.first, built.most
        self._htex.label = self.label
        self._htex.run_id, self._htex.run_dir = self.label, str(self._folder / self.label)
        self._htex.provider.script_dir = str(self._folder / self.label / "submit_scripts")
        os.makedirs(self._htex.provider.script_dir)
        self._remember()
        marker = self._folder / f"{self.label}.json"
        self._htex.interchange_launch_cmd = [
            sys.executable, "-P", "-m", f"{__package__}._guardian", str(marker), str(os.getpid()),
            *interchange(self._htex),
        ]  # fmt: skip
        self._htex.start()
        self._htex.command_client.run = self._command
        self._remember()
        replace_file(self._folder / GENERATION, self.label.encode())
        if self._first:
            self._htex.scale_out_facade(self._first)

    def _command(self, message: Any) -> Any:
        """The interchange's reply. Parsl's own function waits for one that has died without end."""
        client, deadline = self._htex.command_client, time.monotonic() + REPLIES
        with client._lock:
            for ready, act in (
                (zmq.POLLOUT, lambda: client.zmq_socket.send_pyobj(message)),
                (zmq.POLLIN, client.zmq_socket.recv_pyobj),
            ):
                while not client.zmq_socket.poll(100, ready):
                    if self._htex.interchange_proc.poll() is not None:
                        raise ConnectionError(DIED)
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"its interchange does not answer for {REPLIES:g} s")
                said = act()
        return said

    def _look(self) -> None:
        if self._htex.bad_state_is_set:
            raise self._htex.executor_exception
        managers = self._htex.connected_managers()
        here = {m["manager"] for m in managers}
        self._served |= {m["block_id"] for m in managers}
        self.workers = sum(m["worker_count"] for m in managers if m["active"] and not m["draining"])
        now = time.monotonic()
        lost, self.connected = self.connected - here, here
        if now - self._asked > self._hello.site.poll or lost:
            self._htex._last_poll_time = 0.0  # Providers' own intervals are up to a minute.
            self._asked = now
            self._htex.poll_facade()
            self._judge()
        if not self.trouble:
            self._scale(managers)
        self._describe()
        self._remember()

    def _scale(self, managers: list[dict[str, Any]]) -> None:
        """As many blocks as there is work for. (Parsl's own strategy ends blocks that have not connected yet.)"""
        wanted, live = self._wanted(), [b for b, s in self._htex.status_facade.items() if s.state in LIVE]
        each = self._htex.workers_per_node * self._htex.provider.nodes_per_block
        right = max(self._least, min(self._most, math.ceil(wanted / each)))
        if wanted:
            self._wanted_at = time.monotonic()
        if len(live) < right:
            self._htex.scale_out_facade(right - len(live))
            return
        idle = {b: min((m["idle_duration"] for m in managers if m["block_id"] == b), default=0.0) for b in live}
        unwanted = time.monotonic() - self._wanted_at
        # Where a worker dies just after a task, its manager counts that task for ever.
        busy = {m["block_id"] for m in managers if m["tasks"] and unwanted < self._idle}
        connected = {m["block_id"] for m in managers}
        # A block that waits in a queue is of no use either, once nothing has been wanted for so long.
        able = [b for b in live if b not in busy and (idle[b] if b in connected else unwanted) > self._idle]
        for block in sorted(able, key=lambda b: -idle[b])[: len(live) - right]:
            self._give_back(block)

    def _give_back(self, block: str) -> None:
        self._htex._hold_block(block)  # It is given nothing from now on; what it was given before shows below.
        if self._wanted() and any(m["tasks"] for m in self._htex.connected_managers() if m["block_id"] == block):
            return
        if self._local:
            kill_local(self.label, block)
        else:
            self._htex.provider.cancel([self._htex.blocks_to_job_id[block]])
        status = JobStatus(JobState.SCALED_IN)
        self._htex._status[block] = self._htex._simulated_status[block] = status

    @property
    def _local(self) -> bool:
        """Whether its blocks are processes of this machine, whose provider would leave some of them."""
        return isinstance(self._htex.provider, LocalProvider)

    def _judge(self) -> None:
        """Whether blocks come to nothing: several in a row fail that never had a pilot, and none lives."""
        latest_first = sorted(self._htex.status_facade.items(), key=lambda item: -int(item[0]))
        fruitless = [
            status for _, status in takewhile(lambda b: b[1].state in FAILED and b[0] not in self._served, latest_first)
        ]
        if len(fruitless) >= FAILURES and not self.workers:
            self.trouble = f"its last {len(fruitless)} blocks failed: {_said(fruitless[0])}"

    def _describe(self) -> None:
        jobs = self._htex.blocks_to_job_id
        self.blocks = {
            block: f"{s.state.name.lower()} {jobs.get(block, '')}".strip()
            for block, s in self._htex.status_facade.items() if s.state in LIVE
        }  # fmt: skip

    def _remember(self) -> None:
        live, proc = tuple(self._jobs()), self._htex.interchange_proc
        if (told := (str(proc and proc.pid), *live)) == self._told:
            return
        state = Generation(
            label=self.label, provider=type(self._htex.provider).__name__, keeper=process(os.getpid()),
            interchange=process(proc.pid) if proc else None, jobs=live,
        )  # fmt: skip
        remember(self._folder, state)
        self._told = told

    def _jobs(self) -> list[str]:
        states = self._htex.status_facade
        return [job for block, job in self._htex.blocks_to_job_id.items() if states[block].state in LIVE]

    def _end(self) -> None:
        if self._htex is None:
            return
        if self._local:
            kill_local(self.label)
        elif jobs := self._jobs():
            self._htex.provider.cancel(jobs)
        htex = self._htex
        htex._result_queue_thread_exit.set()
        if (proc := htex.interchange_proc) is not None:
            proc.terminate()
            proc.wait()
            # Its own shutdown waits for messages to a process that is no more.
            htex.outgoing_q.zmq_socket.close(linger=0)
            htex._result_queue_thread.join(5.0)
        (self._folder / f"{self.label}.json").unlink(missing_ok=True)


def _said(status: Any) -> str:
    """The last words of a block."""
    words = [status.message or ""]
    for part in (status.stderr_summary, status.stdout_summary):
        with contextlib.suppress(OSError):
            words += (part or "").strip().splitlines()[-1:]
    return "; ".join(" ".join(w.split())[:400] for w in words if w.strip()) or f"exit code {status.exit_code}"
