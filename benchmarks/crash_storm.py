"""Kill the orchestrator with SIGKILL at random moments, again and again, and see that nothing is lost or done twice.

    python benchmarks/crash_storm.py [--trials 200] [--kills 100] [--seed 1] [--json]

A campaign on the local facility (real worker processes, SQLite journal) is run by an orchestrator process that is
killed, and started again, until it has been killed often enough; then it may end. Then the journal, the run
directories and the workers' own log of what they executed are held against one another.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec

from firstlight import config, core, engine
from firstlight.app import App

WORK = '''
import os, time

def work(point):
    """Say when it is executed, take its time, give a number back."""
    def say(what):
        with open(os.path.join(os.path.dirname(__file__), "executions.log"), "ab", buffering=0) as file:
            file.write(f"{what} {point['x']!r} {time.time()!r} {os.getpid()}\\n".encode())
    say("START")
    time.sleep(point["t"])
    say("END")
    return point["x"]
'''


def spec(directory: Path, trials: int, seed: int) -> core.CampaignSpec:
    """Trials of 0.5 to 4 s each, four at once."""
    step = core.StepSpec(operation="storm_work:work", settings={"directory": str(directory)})
    return core.CampaignSpec(
        id="storm",
        parameters=(
            core.Continuous(name="x", low=0.0, high=1.0),
            core.Continuous(name="t", low=0.5, high=4.0, scale="log", unit="s"),
        ),
        goal=core.Goal(
            objectives=(core.Objective(observable="y", direction="maximize"),), budget=core.Budget(trials=trials)
        ),
        procedure=core.ProcedureSpec(steps=(step,)),
        strategy=core.StrategySpec(name="random"),
        parallel=4,
        seed=seed,
    )


def fold_digest(campaign: core.Campaign) -> str:
    """A campaign as a few letters."""
    return hashlib.sha256(msgspec.json.encode(campaign, order="sorted")).hexdigest()[:16]


async def orchestrate(directory: Path) -> None:
    """What is killed: run the campaign, and note the live fold after every fact."""
    with open(directory / "folds.log", "ab", buffering=0) as folds:

        def note(entry: core.Entry, campaign: core.Campaign) -> None:
            folds.write(f"{entry.seq} {fold_digest(campaign)}\n".encode())

        async with App.open(config.load_settings(directory / "home", {})) as app:
            await app.run("storm", by=f"orchestrator {os.getpid()}", listeners=[note])


async def begin(directory: Path, trials: int, seed: int) -> None:
    async with App.open(config.load_settings(directory / "home", {})) as app:
        await app.create(app.check_spec(spec(directory, trials, seed)), "storm")


def storm(directory: Path, kills: int, seed: int, quiet: bool) -> tuple[int, int]:
    """Kill it at random moments; give back how often it was killed and how often it was started."""
    rng, killed, started = random.Random(seed), 0, 0
    command = [sys.executable, __file__, "--orchestrate", str(directory)]
    while True:
        started += 1
        with open(directory / "orchestrator.log", "ab") as log:
            child = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                child.wait(timeout=None if killed >= kills else rng.uniform(0.0, 2.0))
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
                child.wait()
                killed += 1
                if not quiet:
                    print(f"\rkilled {killed:3} of {kills}", end="", flush=True)
                continue
        if child.returncode != 0:
            print((directory / "orchestrator.log").read_text()[-2000:], file=sys.stderr)
            raise SystemExit(f"the orchestrator failed with {child.returncode}")
        return killed, started


async def account(directory: Path, trials: int) -> dict[str, int]:
    """Hold the journal, the run directories and the executions against one another."""
    home = directory / "home"
    async with App.open(config.load_settings(home, {})) as app:
        entries = [entry async for entry in app.journal.read("storm")]
        campaign, ledger = await engine.recover("storm", app.journal)
    outcomes: Counter[str] = Counter()
    values: dict[str, float] = {}
    points: dict[str, str] = {}
    for entry in entries:
        match entry.fact:
            case core.ActionSucceeded(action=action, measured=measured):
                outcomes[action] += 1
                values[action] = measured.observations[0].value
            case core.ActionFailed(action=action):
                outcomes[action] += 1
            case core.TrialProposed(actions=actions, point=point):
                points |= {a.id: repr(point["x"]) for a in actions}
    committed: dict[str, tuple[float, float]] = {}
    for path in (home / "facilities").rglob("result.json"):
        written = json.loads((path.parent / "spec.json").read_text())
        action = written.get("action", written)["id"]
        outcome = json.loads(path.read_text())
        outcome = outcome.get("outcome", outcome)
        committed[action] = (path.stat().st_ctime, outcome["observations"][0]["value"])
    starts: dict[str, list[float]] = {}
    for line in (directory / "executions.log").read_text().splitlines():
        what, x, at, _ = line.split()
        if what == "START":
            starts.setdefault(x, []).append(float(at))
    campaign_of = core.open_campaign(entries[0])
    folded = {1: fold_digest(campaign_of)}
    for entry in entries[1:]:
        campaign_of = core.reduce(campaign_of, entry)
        folded[entry.seq] = fold_digest(campaign_of)
    live = [line.split() for line in (directory / "folds.log").read_text().splitlines() if len(line.split()) == 2]
    return {
        "trials": campaign.succeeded + campaign.failed,
        "trials without exactly one outcome": sum(outcomes[a] != 1 for a in points) + (trials - len(points)),
        "committed results lost": sum(values.get(a) != value for a, (_, value) in committed.items()),
        "outcomes without a committed result": sum(a not in committed for a in values),
        "executions": sum(map(len, starts.values())),
        "executed again after the result was committed": sum(
            any(at > committed[a][0] for at in starts.get(x, [])) for a, x in points.items() if a in committed
        ),
        "live folds compared": len(live),
        "live folds unlike the replayed": sum(folded.get(int(seq)) != digest for seq, digest in live),
        "open or pending at the end": len(campaign.open) + len(ledger.view().pending),
        "facts": len(entries),
    }


MUST_BE_ZERO = (
    "trials without exactly one outcome",
    "committed results lost",
    "outcomes without a committed result",
    "executed again after the result was committed",
    "live folds unlike the replayed",
    "open or pending at the end",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--orchestrate", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.orchestrate:
        asyncio.run(orchestrate(given.orchestrate))
        return 0
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".storm-", ignore_cleanup_errors=True) as scratch:
        directory = Path(scratch)
        (directory / "storm_work.py").write_text(WORK)
        asyncio.run(begin(directory, given.trials, given.seed))
        start = time.monotonic()
        killed, started = storm(directory, given.kills, given.seed, given.json)
        found = {"kills": killed, "orchestrators": started} | asyncio.run(account(directory, given.trials))
        took = time.monotonic() - start
    bad = [name for name in MUST_BE_ZERO if found[name]]
    if killed < given.kills:
        bad.append(f"it ended after {killed} kills: give it more trials")
    if given.json:
        print(json.dumps(found | {"seconds": took, "failed": bad}))
    else:
        print(f"\r{took:.0f} s" + " " * 20)
        for name, figure in found.items():
            print(f"{figure:8}  {name}")
        print("FAIL  " + "; ".join(bad) if bad else "PASS  nothing lost, nothing done twice")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
