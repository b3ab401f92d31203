"""The journal's figures: durable appends, kill -9, replay and verify. Exit code 1 where a goal is missed.

python benchmarks/journal.py [--json] [--quick] [--directory DIR]
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from firstlight import core
from firstlight.journal import MemoryJournal, SqliteJournal, verify

_POINT: core.Point = {f"p{number}": 0.1 * number for number in range(6)}


class Figure(NamedTuple):
    name: str
    value: float
    unit: str
    goal: str = ""
    passed: bool = True


# ------------------------------------------------------------------ a realistic history


def history(campaign: str, trials: int, parallel: int = 16) -> Iterator[core.Entry]:
    """The entries of a campaign of so many trials, each of one action, `parallel` of them at a time."""
    seq = 0

    def record(fact: core.Fact) -> core.Entry:
        nonlocal seq
        seq += 1
        return core.Entry(seq=seq, at=1.7e9 + seq, by="engine", fact=fact)

    yield record(core.CampaignOpened(spec=_spec(campaign, trials, parallel)))
    yield record(core.RunStarted(runner="bench"))
    for first in range(1, trials + 1, parallel):
        group = range(first, min(first + parallel, trials + 1))
        for make in (_proposed, _permitted, _dispatched, _accepted, _succeeded, _ingested):
            for number in group:
                yield record(make(f"{campaign}.{number}"))


def _spec(campaign: str, trials: int, parallel: int) -> core.CampaignSpec:
    return core.CampaignSpec(
        id=campaign,
        parameters=tuple(core.Continuous(name=name, low=0.0, high=1.0) for name in _POINT),
        goal=core.Goal(
            objectives=(core.Objective(observable="yield", direction="maximize", unit="percent"),),
            budget=core.Budget(trials=trials),
        ),
        procedure=core.ProcedureSpec(steps=(core.StepSpec(operation="bench:measure"),)),
        parallel=parallel,
    )


def _proposed(trial: str) -> core.Fact:
    action = core.Action(
        id=f"{trial}.evaluate", trial=trial, facility="local", name="evaluate", operation="bench:measure", point=_POINT
    )
    predicted = core.Observation(observable="yield", value=50.0, unit="percent", sigma=5.0)
    return core.TrialProposed(
        trial=trial, point=_POINT, actions=(action,), source="bayes", predicted=(predicted,), reason="high variance"
    )


def _permitted(trial: str) -> core.Fact:
    return core.ActionPermitted(action=f"{trial}.evaluate", policies=("owner",))


def _dispatched(trial: str) -> core.Fact:
    return core.ActionDispatched(action=f"{trial}.evaluate")


def _accepted(trial: str) -> core.Fact:
    return core.ActionAccepted(action=f"{trial}.evaluate", job=f"job-{trial}")


def _succeeded(trial: str) -> core.Fact:
    value = 1.0 * (hash(trial) % 1000)
    seen = core.Observation(observable="yield", value=value, unit="percent", sigma=0.5)
    measured = core.Measured(observations=(seen,), cost=1.0, started=1.7e9, ended=1.7e9 + 1)
    return core.ActionSucceeded(action=f"{trial}.evaluate", measured=measured)


def _ingested(trial: str) -> core.Fact:
    return core.TrialIngested(trial=trial, digest="sha256:" + "ab" * 32)


# ------------------------------------------------------------------ appends


async def appends(journal: core.Journal, appenders: int, seconds: float) -> float:
    """Durable appends a second, each appender with a campaign of its own and one append under way."""
    leases = [await journal.lease(f"a{appenders}.{number}", "bench") for number in range(appenders)]
    fact = core.CampaignPaused(reason="x" * 400)
    done, until = 0, time.perf_counter() + seconds

    async def write(lease: core.Lease) -> int:
        seq = 0
        while time.perf_counter() < until:
            seq += 1
            await journal.append(lease, core.Entry(seq=seq, at=0.0, by="bench", fact=fact))
        return seq

    began = time.perf_counter()
    done = sum(await asyncio.gather(*(write(lease) for lease in leases)))
    rate = done / (time.perf_counter() - began)
    for lease in leases:
        await lease.release()
    return rate


async def append_figures(directory: Path, seconds: float) -> list[Figure]:
    sync = _syncs(directory, seconds / 4)
    figures = [Figure("plain write + fdatasync on this disk", sync, "/s")]
    kinds: list[tuple[str, Callable[[], core.Journal]]] = [
        ("sqlite", lambda: SqliteJournal(directory / "appends.db")),
        ("memory", MemoryJournal),
    ]
    for kind, make in kinds:
        journal = make()
        for appenders in (1, 16, 128):
            rate = await appends(journal, appenders, seconds if kind == "sqlite" else seconds / 10)
            goal, passed = ("", True) if (kind, appenders) != ("sqlite", 16) else (">= 2000", rate >= 2000)
            figures.append(Figure(f"{kind}: appends, {appenders} at once", rate, "/s", goal, passed))
        await journal.close()
    return figures


def _syncs(directory: Path, seconds: float) -> float:
    """How many times a second this disk can be made to keep 500 bytes: the measure of the figures below it."""
    with (directory / "sync").open("wb", buffering=0) as file:
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            file.write(b"x" * 500)
            os.fdatasync(file.fileno())
            count += 1
        return count / (time.perf_counter() - began)


# ------------------------------------------------------------------ kill -9


def kill_figures(directory: Path, rounds: int) -> list[Figure]:
    """Kill a process that appends at a random moment, again and again; count acknowledged entries that are gone."""
    path, dice = directory / "killed.db", random.Random(7)
    lost, kept, findings = 0, 0, 0
    for _ in range(rounds):
        command = [sys.executable, __file__, "--directory", str(directory), "--append", str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            time.sleep(dice.uniform(0.02, 0.4))
            process.send_signal(signal.SIGKILL)
            said = dict(line.split() for line in process.stdout.read().splitlines(keepends=True) if line[-1:] == b"\n")
        stored = asyncio.run(_lengths(path))
        lost += sum(max(0, int(seq) - stored.get(campaign.decode(), 0)) for campaign, seq in said.items())
        kept = sum(stored.values())
        findings += len(verify(path))
    return [
        Figure(f"sqlite: entries kept in {rounds} rounds of kill -9", kept, "", "> 0", kept > 0),
        Figure("sqlite: acknowledged entries lost", lost, "", "0", lost == 0),
        Figure("sqlite: findings of verify after kill -9", findings, "", "0", findings == 0),
    ]


async def _lengths(path: Path) -> dict[str, int]:
    journal = SqliteJournal(path)
    stored = {campaign: await _length(journal, campaign) for campaign in await journal.campaigns()}
    await journal.close()
    return stored


async def _length(journal: core.Journal, campaign: str) -> int:
    length = 0
    async for entry in journal.read(campaign):
        length = entry.seq
    return length


async def append_for_ever(path: Path) -> None:
    """What the killed process does: say on standard output what is durable."""
    journal = SqliteJournal(path)

    async def write(campaign: str) -> None:
        lease = await journal.lease(campaign, f"bench pid {os.getpid()}")
        seq = await _length(journal, campaign)
        fact = core.CampaignPaused(reason="x" * 400)
        while True:
            seq += 1
            await journal.append(lease, core.Entry(seq=seq, at=0.0, by="bench", fact=fact))
            os.write(1, f"{campaign} {seq}\n".encode())

    await asyncio.gather(*(write(f"c{number}") for number in range(16)))


# ------------------------------------------------------------------ replay and verify


async def replay_figures(directory: Path, entries: int) -> list[Figure]:
    trials = entries // 6
    figures = []
    path = directory / "replay.db"
    for kind, journal in (("memory", MemoryJournal()), ("sqlite", SqliteJournal(path))):
        lease = await journal.lease("c", "bench")
        began, batch = time.perf_counter(), []
        for entry in history("c", trials):
            batch.append(journal.append(lease, entry))
            if len(batch) == 2000:
                await asyncio.gather(*batch)
                batch = []
        await asyncio.gather(*batch)
        wrote = time.perf_counter() - began
        await lease.release()
        began, read = time.perf_counter(), []
        async for entry in journal.read("c"):
            read.append(entry)
        reading = time.perf_counter() - began
        campaign = core.replay(read)
        whole = time.perf_counter() - began
        assert campaign.succeeded == trials
        assert campaign.seq == len(read)
        count = f"{len(read)} entries ({trials} trials)"
        figures += [
            Figure(f"{kind}: write {count}, pipelined", wrote, "s"),
            Figure(f"{kind}: read {count}", reading, "s"),
            Figure(f"{kind}: read and core.replay {count}", whole, "s", "< 10", whole < 10.0),
        ]
        await journal.close()
    began = time.perf_counter()
    found = verify(path)
    took = time.perf_counter() - began
    figures.append(Figure("sqlite: verify the same", took, "s", "no finding", not found))
    figures.append(Figure("sqlite: bytes on disk an entry", path.stat().st_size / (trials * 6 + 2), "B"))
    return figures


# ------------------------------------------------------------------ the table


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", action="store_true", help="print the figures as JSON")
    options.add_argument("--quick", action="store_true", help="a tenth of everything")
    options.add_argument("--directory", type=Path, help="where to write (default: a temporary directory)")
    options.add_argument("--append", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.append:
        asyncio.run(append_for_ever(chosen.append))
    if chosen.directory:
        chosen.directory.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="journal-", dir=chosen.directory))
    share = 0.1 if chosen.quick else 1.0
    try:
        figures = [
            *asyncio.run(append_figures(directory, max(0.5, 4.0 * share))),
            *kill_figures(directory, int(40 * share)),
            *asyncio.run(replay_figures(directory, int(200_000 * share))),
        ]
    finally:
        shutil.rmtree(directory)
    if chosen.json:
        print(json.dumps([figure._asdict() for figure in figures], indent=2))
    else:
        for name, value, unit, goal, passed in figures:
            verdict = f"{'PASS' if passed else 'FAIL'}  (goal {goal})" if goal else ""
            print(f"{name:<62} {value:>12,.{0 if abs(value) >= 100 or unit == '' else 2}f} {unit:<4} {verdict}")
    return 0 if all(figure.passed for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
