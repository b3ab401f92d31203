"""Runs side by side in processes of their own, each with one thread of BLAS."""

import os
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import NamedTuple

from msgspec.structs import replace

from firstlight import core

from ._pool import Pool
from ._run import Contender, Make, Misbehaved, Run, Settings, key, run, siblings_of

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class Task(core.Value, frozen=True):
    """One run to be made: its pool and siblings by their place in the list of pools."""

    key: str
    pool: int
    contender: Contender
    seed: int
    settings: Settings
    siblings: tuple[int, ...] = ()


def relabelled(ended: Run, task: Task, pools: Sequence[Pool]) -> Run:
    """A run under the names that its task has now: it may have been kept under others."""
    return replace(ended, pool=pools[task.pool].name, contender=task.contender.label)


class Broken(core.Value, frozen=True):
    """A run that came to no end, and why."""

    task: Task
    message: str


def tasks(
    pools: Sequence[Pool], contenders: Sequence[Contender], seeds: Sequence[int], settings: Settings,
    others: Sequence[Pool] = (),
) -> list[Task]:  # fmt: skip
    """Every pool with every contender and seed; first all with the first seed, to have something to see soon.

    Siblings are looked for among the `others`, too: their places are those in [*pools, *others].
    """
    every = [*pools, *others]
    place = {pool.name: i for i, pool in enumerate(every)}
    families = [tuple(place[s.name] for s in siblings_of(p, every)) if settings.earlier else () for p in pools]
    return [
        Task(
            key=key(pool, contender, seed, settings, [every[i] for i in families[p]]),
            pool=p, contender=contender, seed=seed, settings=settings, siblings=families[p],
        )
        for seed in seeds for p, pool in enumerate(pools) for contender in contenders
    ]  # fmt: skip


class _Worker(NamedTuple):
    process: SpawnProcess
    line: Connection


def perform(todo: Sequence[Task], pools: Sequence[Pool], make: Make, jobs: int) -> Generator[Run | Broken]:
    """Make the runs, `jobs` at once, and give each as it ends. Whoever stops listening ends them all.

    `pools` are those that the tasks name by their place, others included. `make` is called in other processes, and must
    be a function that can be found there by its name.
    """
    waiting = list(reversed(todo))
    at_work: dict[Connection, tuple[_Worker, Task]] = {}
    idle: list[_Worker] = []
    try:
        while waiting or at_work:
            while waiting and len(at_work) < jobs:
                worker = idle.pop() if idle else _hired(pools, make)
                task = waiting.pop()
                worker.line.send(task)
                at_work[worker.line] = worker, task
            for line in wait(list(at_work)):
                assert isinstance(line, Connection)
                worker, task = at_work.pop(line)
                try:
                    found = line.recv()
                except (EOFError, ConnectionError):
                    worker.process.join()
                    yield Broken(task=task, message=f"its process died (exit code {worker.process.exitcode})")
                    continue
                idle.append(worker)
                yield Broken(task=task, message=found) if isinstance(found, str) else found
    finally:
        for worker in (*idle, *(w for w, _ in at_work.values())):
            worker.process.kill()
            worker.process.join()
            worker.line.close()


def _hired(pools: Sequence[Pool], make: Make) -> _Worker:
    context = get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, tuple(pools), make), daemon=True)
    with _one_thread():
        process.start()
    theirs.close()
    return _Worker(process, mine)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Libraries that are loaded by a process begun meanwhile use one thread."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(line: Connection, pools: tuple[Pool, ...], make: Make) -> None:
    """Until nobody is at the other end. Ctrl-C is for the one who gave the work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            task: Task = line.recv()
        except EOFError:
            return
        try:
            strategy = make(task.contender.strategy, task.contender.options)
            found: Run | str = run(
                pools[task.pool], strategy, task.seed, task.settings,
                siblings=[pools[i] for i in task.siblings], contender=task.contender,
            )  # fmt: skip
        except Misbehaved as error:
            found = str(error)
        except Exception as error:  # noqa: BLE001 - a strategy may raise anything: it is told, and the others go on
            found = f"{type(error).__name__}: {error}"
        try:
            line.send(found)
        except BrokenPipeError:
            return
