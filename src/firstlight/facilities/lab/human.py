"""A person as an instrument: tasks with instructions and a form, so that any step can be done by hand."""

import asyncio
import contextlib
import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
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
    Unavailable,
    Value,
)

LOOK = 0.2
"""Seconds between two looks at a task's file: people answer in minutes, and a file is the same on every system."""
_FIELD = re.compile(r"\{(\w+)\}")


class Form(Value, frozen=True, forbid_unknown_fields=True):
    """One kind of task: what is to be done, with {arguments} in its words, and what is to be written down."""

    instructions: str
    arguments: tuple[Argument, ...] = ()
    results: tuple[Argument, ...] = ()
    effect: Effect = "consuming"
    seconds: float | None = None


class Task(Value, frozen=True):
    """One task, open or answered. `id` is that of the action; `results` is the form that was filled in."""

    id: str
    instrument: str
    operation: str
    instructions: str
    arguments: dict[str, Any] = {}
    form: tuple[Argument, ...] = ()
    state: Literal["open", "done", "declined", "withdrawn"] = "open"
    results: dict[str, Any] = {}
    reason: str = ""
    by: str = ""
    asked: float = 0.0
    answered: float = 0.0


class HumanInstrument:
    """People who perform the tasks that `tasks` describes, by the name of the operation.

    A task is a file of `directory`, written before anybody sees it: it is never asked twice, and found again after any
    crash. `firstlight attend` lists and answers tasks. `slots` is how many people can be asked to do at once.
    """

    def __init__(
        self, name: str, address: str = "", *, tasks: Mapping[str, Mapping[str, Any]], directory: Path | str = "",
        slots: int = 4,
    ) -> None:  # fmt: skip
        self._name, self._slots = name, slots
        self.directory = Path(address or directory)
        if not str(address or directory):
            raise ValueError("it needs a directory for its tasks: give one as its address")
        try:
            self._forms = msgspec.convert(tasks, dict[str, Form])
        except msgspec.ValidationError as error:
            raise ValueError(f"tasks: {error}") from error
        for task, form in self._forms.items():
            if unknown := set(_FIELD.findall(form.instructions)) - {a.name for a in form.arguments}:
                raise ValueError(f"the instructions of {task} name {sorted(unknown)[0]!r}, which is no argument of it")

    async def describe(self) -> InstrumentDescription:
        with _files():
            # From now on a directory that is gone is no directory in which nothing was asked.
            self.directory.mkdir(parents=True, exist_ok=True)
        operations = tuple(
            Operation(
                name=name, effect=form.effect, arguments=form.arguments, results=form.results, seconds=form.seconds,
                description=form.instructions,
            )
            for name, form in self._forms.items()
        )  # fmt: skip
        return InstrumentDescription(
            name=self._name, protocol="human", operations=operations, slots=self._slots, description="people"
        )

    async def start(self, permit: Permit) -> str:
        action = permit.action
        form = self._forms.get(action.operation)
        if form is None:
            raise NotStarted(f"nobody knows how to {action.operation}", "invalid-input")
        words = _FIELD.sub(lambda m: str(action.settings.get(m[1], m[0])), form.instructions)
        task = Task(
            id=action.id, instrument=self._name, operation=action.operation, instructions=words,
            arguments=dict(action.settings), form=form.results, asked=time.time(),
        )  # fmt: skip
        with _files():
            self.directory.mkdir(parents=True, exist_ok=True)
            try:
                with _locked(self.directory):
                    if read_task(self.directory, action.id) is None:
                        self._ask(task)
            except ValueError as error:
                raise InDoubt(f"the task {action.id} was asked, and its file cannot be read: {error}") from error
        return action.id

    def _ask(self, task: Task) -> None:
        try:
            write_task(self.directory, task)
        except OSError:
            # Where it is there all the same, somebody may have seen it: it was asked.
            if read_task(self.directory, task.id) is None:
                raise

    async def reattach(self, action: str, handle: str) -> str | None:
        with _files():
            try:
                if read_task(self.directory, action) is not None:
                    return action
            except ValueError as error:
                raise InDoubt(f"the task {action} was asked, and its file cannot be read: {error}") from error
            if handle or not self.directory.is_dir():
                raise InDoubt(f"the task {action} is not in {self.directory}, and may have been asked")
        return None

    async def status(self, handle: str) -> Run:
        try:
            with _files():
                task = read_task(self.directory, handle)
        except ValueError as error:
            return Run(state="unknown", cause="lost", message=f"the task {handle} cannot be read: {error}")
        if task is None:
            return Run(state="unknown", cause="lost", message=f"the task {handle} is gone from {self.directory}")
        run = Run(state="running", started=task.asked, ended=task.answered)
        match task.state:
            case "open":
                return replace(run, message=f"a person is asked to: {task.instructions}")
            case "done":
                return replace(run, state="succeeded", progress=1.0, results=task.results, message=f"by {task.by}")
            case "withdrawn":
                return replace(run, state="cancelled", message=task.reason)
            case _:
                return replace(run, state="failed", message=f"{task.by}: {task.reason}")

    async def follow(self, handle: str) -> AsyncIterator[Run]:
        seen: Run | None = None
        while True:
            run = await self.status(handle)
            if run != seen:
                seen = run
                yield run
            if run.state in ENDED:
                return
            await asyncio.sleep(LOOK)

    async def watch(self, signals: Sequence[str]) -> AsyncIterator[Reading]:
        for signal in signals:
            yield Reading(signal=signal, value=None, at=time.time())
        await asyncio.Event().wait()

    async def cancel(self, handle: str) -> None:
        with _files(), _locked(self.directory):
            task = read_task(self.directory, handle)
            if task is not None and task.state == "open":
                withdrawn = replace(task, state="withdrawn", reason="nobody wants it any more", answered=time.time())
                write_task(self.directory, withdrawn)

    async def safe_stop(self) -> None:
        """People stop by themselves; their open tasks are withdrawn."""
        wrong = list[str]()
        with _files():
            mine = [task for task in open_tasks(self.directory) if task.instrument == self._name]
        for task in mine:
            try:
                await self.cancel(task.id)
            except (Unavailable, ValueError) as error:
                wrong.append(f"{task.id}: {error}")
        if wrong:
            raise InDoubt(f"tasks that were not withdrawn: {'; '.join(wrong)}")

    async def close(self) -> None:
        """Tasks stay where they are."""


# ------------------------------------------------------------------ tasks as files


def open_tasks(directory: Path) -> list[Task]:
    """The tasks that wait for somebody, the oldest first. Raises OSError."""
    found = list[Task]()
    for file in directory.glob("*.json"):
        # One that cannot be read is in doubt where somebody waits for it.
        with contextlib.suppress(ValueError):
            task = read_task(directory, file.name.removesuffix(".json"))
            found += [task] if task is not None and task.state == "open" else []
    return sorted(found, key=lambda t: (t.asked, t.id))


def read_task(directory: Path, id: str) -> Task | None:
    """One task, None where there is none. Raises ValueError where it is damaged, and OSError."""
    try:
        return msgspec.json.decode(_file(directory, id).read_bytes(), type=Task)
    except FileNotFoundError:
        return None


def write_task(directory: Path, task: Task) -> None:
    """Durably, and all of it or nothing. Raises OSError."""
    private = directory / f".{secrets.token_hex(6)}"
    with open(private, "xb") as out:
        out.write(json.dumps(msgspec.to_builtins(task), indent=1, default=str).encode())
        out.flush()
        os.fsync(out.fileno())
    private.replace(_file(directory, task.id))
    there = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(there)  # Its name is there after a power failure, too: nobody is asked twice.
    finally:
        os.close(there)


def close_task(directory: Path, task: Task, state: Literal["done", "declined"], by: str, **said: Any) -> Task:
    """Answer a task. Raises LookupError where it is no longer open, ValueError where it is damaged, and OSError."""
    with _locked(directory):
        now = read_task(directory, task.id)
        if now is None or now.state != "open":
            raise LookupError(f"task {task.id} is {now.state if now else 'gone'}: nothing can be answered any more")
        closed = replace(now, state=state, by=by, answered=time.time(), **said)
        write_task(directory, closed)
    return closed


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """While nobody else changes a task: who withdraws one and who answers it may be two processes."""
    with open(directory / ".lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _files() -> Iterator[None]:
    """Raises Unavailable where the files cannot be used."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"the tasks cannot be read or written: {error}") from error


def _file(directory: Path, id: str) -> Path:
    # Ids are ours, but a file must not leave its directory whatever they are.
    return directory / f"{re.sub(r'[^A-Za-z0-9._#~-]', '_', id)}.json"
