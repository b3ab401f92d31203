"""Kill the orchestrator with SIGKILL at random moments, again and again, and see that nothing is lost or done twice.

    python benchmarks/crash_storm.py [--trials 200] [--kills 100] [--seed 1] [--json]

A campaign on the local facility (real worker processes, SQLite journal) is run by an orchestrator process that is
killed, and started again, until it has been killed often enough; then it may end. Then the journal, the run
directories and the workers' own log of what they executed are held against one another.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _account import MUST_BE_ZERO, account, begin, note_folds, spec

from firstlight import config
from firstlight.app import App


async def orchestrate(directory: Path) -> None:
    """What is killed: run the campaign, and note the live fold after every fact."""
    async with App.open(config.load_settings(directory / "home", {})) as app:
        await app.run("storm", by=f"orchestrator {os.getpid()}", listeners=[note_folds(directory, "storm")])


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
        campaign = spec(
            "storm", directory, given.trials, given.seed, seconds=(0.5, 4.0), parallel=4, facility="local"
        )  # fmt: skip
        asyncio.run(begin(directory, [campaign]))
        start = time.monotonic()
        killed, started = storm(directory, given.kills, given.seed, given.json)
        found = {"kills": killed, "orchestrators": started} | asyncio.run(account(directory, "storm", given.trials))
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
