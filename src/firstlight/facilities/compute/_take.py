"""What happens on a node: take an action's run directory, perform it once, commit.

Whoever is told to perform an action (a batch job, a pilot's worker, a requeued job that is one too many) comes here.
Two at once are no harm: the second waits for the first, and one result is committed.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ...core import Action, Cause, Failure, Outcome
from . import _processes
from ._perform import perform
from ._rundir import LEASE, RunDirectory, tail
from ._spare import Spare

SOON = 0.05
"""Seconds after which one looks for the first time."""
LOOK_EVERY = 0.5
"""Seconds between two looks at the limits and at whether it shall end."""
GRACE = 5.0
"""Seconds that a function has for ending by itself after its children were killed."""


def take(
    directory: Path,
    by: str,
    launcher: Sequence[str] = (),
    *,
    fsync: bool = True,
    lease: float = LEASE,
    wait: bool = True,
    spare: Spare | None = None,
    die: Callable[[int], None] = os._exit,
) -> Outcome | None:
    """Perform the action of a run directory, unless it has ended; its outcome.

    `by` says who does it, for people to read. Where somebody else is at it, wait for what comes of that, unless not to
    `wait`. None: it is to be continued later (see `perform`), may not be begun again and was begun by somebody who
    never ended it, or is not waited for. Its limits (that on time over all the attempts that were continued) are
    enforced, and a request to end obeyed, by committing the failure and ending what was started; a function that cannot
    be ended otherwise takes this process with it (`die`). `spare` is what a process that performs many has for each.
    """
    run = RunDirectory(directory)
    while True:
        if outcome := run.result():
            return outcome
        permit = run.spec()
        if permit is None:
            raise FileNotFoundError(f"{directory} has no spec.json: nothing is known of such an action here")
        if run.asked_to_end:
            return run.commit_patiently(Failure(cause="cancelled", message="cancelled before it began"), fsync)
        attempts = run.attempts()
        if attempts and not permit.action.repeatable:
            return _await(run, lease) if wait else None
        if attempts and run.performer(lease) is not None:
            if not wait:
                return None
            time.sleep(min(LOOK_EVERY, lease / 4))
            continue
        with contextlib.suppress(FileExistsError):
            if spare is not None and not attempts:
                with spare.lent(run, by) as attempt:
                    return _perform(run, attempt, permit.action, launcher, fsync, lease, die)
            attempt = run.claim(by)
            return _perform(run, attempt, permit.action, launcher, fsync, lease, die)


def _await(run: RunDirectory, lease: float) -> Outcome | None:
    """What came of an action that may be begun once only, and was; None where nobody is at it any more."""
    while run.performer(lease) is not None:
        time.sleep(min(LOOK_EVERY, lease / 4))
    return run.result()


def _perform(
    run: RunDirectory, attempt: Path, action: Action, launcher: Sequence[str], fsync: bool, lease: float,
    die: Callable[[int], None],
) -> Outcome | None:  # fmt: skip
    me = os.getpid()
    with _Watch(run, attempt, action, fsync, lease, die) as watch:
        outcome = perform(action, attempt, launcher)
        if os.getpid() != me:  # The function forked, and this is the child.
            os._exit(0)
    if watch.failure:
        return run.commit_patiently(watch.failure, fsync)
    if outcome is None:
        run.leave(attempt, time.time() - watch.begun)
        return None
    return run.commit_patiently(outcome, fsync)


class _Soon:
    """Starts those watches that are still wanted in a moment: most actions of a pilot have ended by then."""

    def __init__(self) -> None:
        self._young: dict[_Watch, float] = {}
        self._lock, self._any = threading.Lock(), threading.Event()
        self._process = 0

    def add(self, watch: "_Watch") -> None:
        with self._lock:
            self._young[watch] = time.monotonic()
            if self._process != os.getpid():
                self._process = os.getpid()
                threading.Thread(target=self._tend, name="watches", daemon=True).start()
        if not self._any.is_set():
            self._any.set()

    def drop(self, watch: "_Watch") -> None:
        with self._lock:
            self._young.pop(watch, None)

    def _tend(self) -> None:
        while self._any.wait():
            time.sleep(SOON / 2)
            now = time.monotonic()
            with self._lock:
                for watch in [w for w, since in self._young.items() if now - since > SOON / 2]:
                    del self._young[watch]
                    watch.start()
                if not self._young:
                    self._any.clear()


class _Watch:
    """Looks after one attempt from a thread: keeps its lease fresh, and ends it where it must end."""

    def __init__(
        self, run: RunDirectory, attempt: Path, action: Action, fsync: bool, lease: float, die: Callable[[int], None]
    ) -> None:
        self.failure: Failure | None = None
        self._run, self._attempt, self._action, self._fsync, self._die = run, attempt, action, fsync, die
        self._lease, self.begun, self._spent = lease, time.time(), 0.0
        if attempt.name != "attempt-1":
            self._spent = run.spent()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "_Watch":
        _soon.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        _soon.drop(self)
        self._over.set()
        if self._thread:
            self._thread.join()

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._look, name=f"watch {self._action.id}", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        limits = self._action.limits
        memory = _processes.MemoryWatch(os.getpid()) if limits.memory is not None else None
        touched = time.monotonic()
        for wait in self._waits():
            if self._over.wait(wait):
                return
            if time.monotonic() - touched > self._lease / 4:
                touched = time.monotonic()
                with contextlib.suppress(OSError):  # A file system away for a moment: the next touch will do.
                    os.utime(self._attempt.with_suffix(".lease"))
            if self._run.asked_to_end:
                self._end("cancelled", "cancelled on request")
            elif limits.seconds is not None and self._seconds() >= limits.seconds:
                self._end("timed-out", f"ran longer than {limits.seconds:g} s")
            elif memory and limits.memory is not None and (used := memory.resident()) > limits.memory:
                limit = limits.memory / 2**20
                self._end("out-of-memory", f"used {used / 2**20:.0f} MiB of memory; its limit is {limit:.0f} MiB")
            else:
                continue
            return

    def _waits(self) -> Iterator[float]:
        """Soon at first, for short limits; then at leisure."""
        wait = SOON
        while True:
            left = (self._action.limits.seconds or 0.0) - self._seconds()
            yield min(wait, left) if left > 0 else wait
            wait = min(1.5 * wait, LOOK_EVERY, self._lease / 8)

    def _seconds(self) -> float:
        """For how long it has been performed, in all its pieces."""
        return self._spent + time.time() - self.begun

    def _end(self, cause: Cause, message: str) -> None:
        ended = time.time()
        self.failure = Failure(
            cause=cause, message=message, log=tail(self._attempt), started=self.begun, ended=ended
        )  # fmt: skip
        self._run.commit_patiently(self.failure, self._fsync)
        for child in sorted(_processes.children(os.getpid()), reverse=True):
            _processes.kill_family(child)
        # A command has ended with that. A function goes on in this process, which it may never give back.
        if not self._over.wait(GRACE if self._action.operation == "command" else 0.0):
            self._die(1)


_soon = _Soon()
