"""How the loop scales: trials of a no-op through the whole loop, on the memory and the SQLite journal, and replay.

    python benchmarks/scale.py [--trials 20000] [--parallel 4] [--json]

Goals: 20,000 trials on the memory journal in under 60 s; a trial at the end costs at most 1.5 times what it does at
1,000; 200,000 facts replay in under 10 s.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from firstlight import core, engine
from firstlight.facilities.compute import ThreadFacility
from firstlight.governance.owner import OwnerPolicy
from firstlight.journal.memory import MemoryJournal
from firstlight.journal.sqlite import SqliteJournal
from firstlight.procedures.chain import Chain
from firstlight.strategies.designs import Random
from firstlight.testing.world import SameUnits, Shelf


def spec(trials: int, parallel: int) -> core.CampaignSpec:
    """One parameter, one objective, and nothing to do."""
    return core.CampaignSpec(
        id="no-op",
        parameters=(core.Continuous(name="x", low=0.0, high=1.0),),
        goal=core.Goal(
            objectives=(core.Objective(observable="y", direction="maximize"),), budget=core.Budget(trials=trials)
        ),
        procedure=core.ProcedureSpec(steps=(core.StepSpec(operation="no-op", facility="threads"),)),
        strategy=core.StrategySpec(name="random"),
        parallel=parallel,
    )


async def loop(journal: core.Journal, trials: int, parallel: int) -> dict[str, float]:
    """Run it, and see what a trial costs around the 1,000th and around the last."""
    ports = core.Ports(
        journal=journal, strategy=Random(), procedure=Chain(), policy=OwnerPolicy(),
        facilities={"threads": ThreadFacility(lambda point: point["x"], slots=parallel)},
        catalog=Shelf(), units=SameUnits(), clock=time.time,
    )  # fmt: skip
    ended: list[float] = []

    def listen(entry: core.Entry, campaign: core.Campaign) -> None:
        if isinstance(entry.fact, core.ActionSucceeded):
            ended.append(time.perf_counter())

    await engine.create(spec(trials, parallel), journal, time.time, "bench")
    start = time.perf_counter()
    await engine.run("no-op", ports, by="bench", listeners=[listen])
    took = time.perf_counter() - start
    window = min(1000, trials // 4)
    first = (ended[window + window // 2] - ended[window // 2]) / window
    last = (ended[-1] - ended[-1 - window]) / window
    start = time.perf_counter()
    campaign, _ = await engine.recover("no-op", journal)
    replay = time.perf_counter() - start
    return {
        "trials": trials, "seconds": took, "trials_per_second": trials / took, "ms_at_1000": first * 1e3,
        "ms_at_end": last * 1e3, "growth": last / first, "facts": campaign.seq, "replay_seconds": replay,
        "replay_200000_seconds": replay / campaign.seq * 200_000,
    }  # fmt: skip


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    memory = MemoryJournal()
    found["memory"] = await loop(memory, given.trials, given.parallel)
    await memory.close()
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".scale-") as scratch:
        sqlite = SqliteJournal(Path(scratch) / "journal.db")
        found["sqlite"] = await loop(sqlite, given.trials, given.parallel)
        await sqlite.close()
    goals = {
        "20,000 trials on memory under 60 s": found["memory"]["seconds"] * 20_000 / given.trials < 60,
        "growth on memory at most 1.5": found["memory"]["growth"] <= 1.5,
        "growth on sqlite at most 1.5": found["sqlite"]["growth"] <= 1.5,
        "200,000 facts replay under 10 s": max(f["replay_200000_seconds"] for f in found.values()) < 10,
    }
    if given.json:
        print(json.dumps({"journals": found, "goals": goals}))
    else:
        for name, figures in found.items():
            print(f"{name:8}" + "  ".join(f"{key} {value:,.3g}" for key, value in figures.items()))
        for goal, met in goals.items():
            print(f"{'PASS' if met else 'FAIL'}  {goal}")
    return 0 if all(goals.values()) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
