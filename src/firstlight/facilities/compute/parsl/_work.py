"""What there is to do: from the request for an action to its result, whatever becomes of those who perform it."""

import asyncio
import time
from collections import deque
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import msgspec

from ....core import Failure, JobStatus, Outcome, Permit
from .. import _processes
from .._channel import Channel
from .._rundir import RunDirectory, run_directory, tail
from .._wire import Await
from ._jobs import Durations, Flight, Job, bundle
from ._pilots import Pilots
from ._words import NONE, Answer, Bundle, Done, Hello

WATCH = 1.0
"""Seconds between two looks at somebody who may still be at an action."""

_done = msgspec.json.Decoder(Done)
_encoder = msgspec.json.Encoder()


class Work:
    """All actions of one root that have not ended. They are handed to the pilots while there are any."""

    def __init__(self, root: Path) -> None:
        self.jobs: dict[str, Job] = {}
        self.trouble = ""
        """Why there can be no pilots."""
        self._root = root
        self._waiting: deque[Job] = deque()
        self._flights: dict[int, Flight] = {}
        self._durations, self._number, self._pumping = Durations(), 0, False
        self._watched: set[Job] = set()
        self._pilots: Pilots | None = None
        self.hello: Hello | None = None
        """The latest: how whatever is handed out is to be performed."""
        self._oom = _processes.oom_kills()

    @property
    def waits(self) -> bool:
        """Whether something is to be handed out."""
        return bool(self._waiting)

    @property
    def running(self) -> int:
        """How many actions are with the pilots."""
        return sum(len(flight.open) for flight in self._flights.values())

    # ------------------------------------------------------------------ who performs it

    def hand_to(self, pilots: Pilots) -> None:
        """They are ready from now on."""
        self._pilots = pilots
        self.pump()

    def take_back(self) -> list[Flight]:
        """There are none any more; what they had, for `lost`."""
        flights, self._flights, self._pilots = list(self._flights.values()), {}, None
        return flights

    def complain(self, why: str) -> None:
        """Whoever waits is told why there are no pilots, and may ask again."""
        self.trouble = why
        for job in self.jobs.values():
            for channel, id in job.waiters:
                channel.send(_encoder.encode(Answer(id=id, unavailable=why)))
            job.waiters = []

    def recover(self) -> None:
        """There may be pilots again."""
        self.trouble = ""

    def leave(self, channel: Channel) -> None:
        """Nobody waits there any more."""
        for job in self.jobs.values():
            job.waiters = [w for w in job.waiters if w[0] is not channel]

    # ------------------------------------------------------------------ what is asked

    def submit(self, permit: Permit, hello: Hello) -> str:
        """Remember the permit and see to it, unless the action is under way or has ended."""
        action = permit.action.id
        if action in self.jobs:
            return action
        job = Job(self._root, permit, hello.fsync)
        if job.run.path.exists():
            if _result(job.run) is not None:
                return action
            job.begun = job.run.attempts()
        job.run.write_spec(permit)
        self.jobs[action] = job
        if job.begun:
            self._again(job)
        else:
            self._queue(job)
        return action

    def find(self, action: str, hello: Hello) -> str | None:
        """The action, if it is under way or has ended, or was accepted and may be gone on with."""
        run = run_directory(self._root, action)
        if action in self.jobs or _result(run) is not None:
            return action
        permit = run.spec()
        if permit is None or (run.attempts() and not permit.action.repeatable and run.performer(hello.lease) is None):
            return None
        return self.submit(permit, hello)

    def wait(self, channel: Channel, request: Await, hello: Hello) -> None:
        """Reply once it has ended. Raises OSError where that cannot be waited for just now."""
        action = request.job
        if action not in self.jobs:
            run = run_directory(self._root, action)
            if (outcome := _result(run)) is not None:
                channel.send(_encoder.encode(Answer(id=request.id, outcome=msgspec.Raw(outcome))))
                return
            permit = run.spec()
            if permit is None:
                outcome = _encoder.encode(Failure(cause="lost", message=f"nothing is known of {action} here"))
                channel.send(_encoder.encode(Answer(id=request.id, outcome=msgspec.Raw(outcome))))
                return
            self.submit(permit, hello)
        if self.trouble:
            raise OSError(self.trouble)
        self.jobs[action].waiters.append((channel, request.id))

    def cancel(self, action: str) -> None:
        """End it, if it has not ended. Raises OSError."""
        job = self.jobs.get(action)
        if job is None:
            return
        job.run.ask_to_end()
        if not job.run.attempts():
            self._end(job, Failure(cause="cancelled", message="cancelled before it began"))
        else:
            self._watched.add(job)

    def status(self, action: str, blocks: dict[str, str]) -> JobStatus:
        """How far it has come."""
        run = run_directory(self._root, action)
        if _result(run) is not None:
            return JobStatus(state="ended")
        if who := run.performer():
            return JobStatus(state="active", native=who.by)
        if action not in self.jobs:
            return JobStatus(state="unknown", message="nothing is known of it here")
        return JobStatus(
            state="held" if self.trouble else "queued",
            message=self.trouble or f"waits for a worker; blocks: {', '.join(blocks.values()) or 'none yet'}",
        )

    # ------------------------------------------------------------------ handing out

    def _queue(self, job: Job) -> None:
        job.delayed = False
        if job.action in self.jobs:
            self._waiting.append(job)
            if not self._pumping:
                self._pumping = True
                asyncio.get_running_loop().call_soon(self.pump)

    def pump(self) -> None:
        """Give the workers what they can take."""
        self._pumping = False
        pilots, hello = self._pilots, self.hello
        if pilots is None or hello is None:
            return
        while True:
            jobs, expected = bundle(self._waiting, self._durations, pilots.workers, len(self._flights))
            if not jobs:
                return
            # What ended while it waited is no work.
            jobs = [job for job in jobs if job.action in self.jobs]
            if jobs:
                self._send(pilots, hello, jobs, expected)

    def _send(self, pilots: Pilots, hello: Hello, jobs: list[Job], expected: float) -> None:
        self._number += 1
        flight = self._flights[self._number] = Flight(self._number, jobs, expected)
        for job in jobs:
            job.flights += 1
            job.sendings += 1
            job.sent = flight.sent
            if job.limit is not None:
                self._watched.add(job)
        message = Bundle(
            root=str(self._root), generation=pilots.label, session=hello.session, names=[job.name for job in jobs],
            launcher=hello.launcher, fsync=jobs[0].fsync, lease=hello.lease,
        )  # fmt: skip
        loop, returned = asyncio.get_running_loop(), partial(self._returned, flight)
        try:
            future = pilots.perform(_encoder.encode(message))
        except Exception as error:  # noqa: BLE001 (an executor that takes nothing any more says why, in its own types)
            print(f"nothing can be handed out: {error}", flush=True)
            del self._flights[flight.number]
            for job in jobs:
                self._landed(flight, job)
                self._later(job)
            return
        future.add_done_callback(lambda future: loop.call_soon_threadsafe(returned, future))

    def _returned(self, flight: Flight, future: "Future[bytes]") -> None:
        if self._flights.pop(flight.number, None) is None:
            return  # Its pilots have been given up.
        try:
            done = _done.decode(future.result())
        except Exception as error:  # noqa: BLE001 (whatever Parsl says went wrong, only a result decides)
            self.lost(flight, f"{type(error).__name__}: {error}")
            return
        for n, job in enumerate(flight.jobs):
            self._landed(flight, job)
            outcome = bytes(done.outcomes[n])
            if outcome != NONE:
                self._settle(job, outcome, job.attempts)
                self._durations.add(job.kind, done.seconds[n])
            elif job.flights == 0 and job.action in self.jobs:
                self._again(job)
        self.pump()

    def _settle(self, job: Job, outcome: bytes, attempts: int = 0) -> None:
        """It has ended, after so many attempts where that is known: tell everybody who waits."""
        if self.jobs.pop(job.action, None) is None:
            return
        self._watched.discard(job)
        for channel, id in job.waiters:
            channel.send(_encoder.encode(Answer(id=id, outcome=msgspec.Raw(outcome), attempts=attempts)))

    def _end(self, job: Job, failure: Failure) -> None:
        """Raises OSError."""
        outcome: Outcome = job.run.commit(failure, job.fsync)
        self._settle(job, _encoder.encode(outcome))

    # ------------------------------------------------------------------ what was lost

    def lost(self, flight: Flight, why: str) -> None:
        """A worker, a block or the interchange is gone, and a bundle with it."""
        print(f"bundle {flight.number} of {len(flight.jobs)} was lost: {why}", flush=True)
        for job in flight.jobs:
            self._landed(flight, job)
            if job.flights == 0 and job.action in self.jobs:
                self._again(job)
        self.pump()

    def _landed(self, flight: Flight, job: Job) -> None:
        if job in flight.open:
            flight.open.remove(job)
            job.flights -= 1

    def _again(self, job: Job) -> None:
        """Nobody is known to be at it: find out, and have it performed where it may be."""
        job.delayed = False
        if job.action not in self.jobs or job.flights:
            return
        try:
            self._once_more(job)
        except OSError as error:
            print(f"{job.action}: {error}", flush=True)
            self._later(job)

    def _once_more(self, job: Job) -> None:
        hello = self.hello
        assert hello is not None
        if (outcome := _result(job.run)) is not None:
            self._settle(job, outcome)
            return
        who, attempts = job.run.performer(hello.lease), job.run.attempts()
        if who is not None:
            self._later(job)
            return
        if attempts and not job.repeatable:
            message = "whoever performed it is gone, and it may not be performed again"
            self._end(job, Failure(cause="lost", message=message, log=tail(job.run.last())))
            return
        if attempts > job.begun and not _continued(job.run):
            job.deaths += 1
        job.begun = attempts
        if job.deaths >= hello.tries:
            self._end(job, self._epitaph(job))
        else:
            self._queue(job)

    def _epitaph(self, job: Job) -> Failure:
        before, self._oom = self._oom, _processes.oom_kills()
        times = f"{job.deaths} times its worker, or the block of that, was gone before it ended"
        log = tail(job.run.last())
        if self._oom > before:
            return Failure(cause="out-of-memory", message=f"{times}, and the kernel was out of memory", log=log)
        return Failure(cause="crashed", message=times, log=log)

    def _later(self, job: Job) -> None:
        if not job.delayed:
            job.delayed = True
            asyncio.get_running_loop().call_later(WATCH, self._again, job)

    # ------------------------------------------------------------------ looking after everything

    def look(self) -> None:
        """Once in a while, at what may have ended without a word."""
        now = time.monotonic()
        for job in list(self._watched):
            if job.limit is None or now > job.sent + job.limit or job.run.asked_to_end:
                self._settle_early(job)
        for flight in list(self._flights.values()):
            if flight.due():
                self._see_to(flight)

    def _settle_early(self, job: Job) -> None:
        """A worker that ends what would not end by itself dies of it, and says nothing."""
        if (outcome := _result(job.run)) is not None:
            self._settle(job, outcome)

    def _see_to(self, flight: Flight) -> None:
        """What has become of a bundle that is long in coming back; Parsl loses some when workers die."""
        hello, again = self.hello, not flight.handed and not self._waiting
        assert hello is not None
        for job in list(flight.open):
            self._settle_early(job)
            begun = job.run.attempts() > job.begun
            if job.action not in self.jobs:
                self._landed(flight, job)
            elif begun and job.run.performer(hello.lease) is None:
                self._landed(flight, job)
                self._again(job)
            elif not begun and again:
                flight.handed = True
                self._queue(job)
        if not flight.open:
            del self._flights[flight.number]
            self.pump()


def _result(run: RunDirectory) -> bytes | None:
    """The committed outcome as it was written."""
    try:
        return (run.path / "result.json").read_bytes()
    except FileNotFoundError:
        return None


def _continued(run: RunDirectory) -> bool:
    """Whether the last attempt was let go of, to be continued by the next."""
    return run.last().with_suffix(".left").exists()
