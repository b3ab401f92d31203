"""Kill everything that computes, again and again, on a real Slurm, and see that nothing is lost or committed twice.

    python benchmarks/compute_chaos.py [--trials 200] [--kills 50] [--seed 1] [--json]

Half of the trials are batch jobs of their own (facility `slurm`), half are performed by Parsl's pilots on the same
Slurm (facility `parsl`), in two campaigns that one orchestrator process runs side by side. The orchestrator is killed
(SIGKILL) and started again; meanwhile slurmctld is killed and started, nodes are lost with all that runs on them and
come back, jobs are cancelled behind everybody's back, and pilots, Parsl's interchange and the keeper of the pilots are
killed. Then the journal, the run directories and the work's own log of its executions are held against one another.
Needs slurm-wlm, munge and the extra `parsl`.
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
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from _account import MUST_BE_ZERO, account, begin, note_folds, spec

from firstlight import config
from firstlight.app import App
from firstlight.testing.slurm import SlurmBox, available

CAMPAIGNS = {"batch": "jobs", "pilots": "tasks"}
"""By facility, the campaign that is performed there."""
SECONDS = (2.0, 8.0)
WANTED = {"slurmctld killed": 8, "node lost": 4, "job cancelled": 10, "pilot killed": 5}
"""How often each befalls, besides the kills of the orchestrator."""
EXTRA = {"interchange killed": 2, "keeper killed": 2}

SETTINGS = """
[facilities.batch]
kind = "slurm"
python = "{python}"
poll = 0.5
grace = 20
slots = 4
tries = 20
duration = 600

[facilities.pilots]
kind = "parsl"
provider = "slurm"
workers = 2
max_blocks = 2
walltime = 1800
idle = 10
heartbeat = 2
poll = 2
tries = 20
"""


async def orchestrate(directory: Path) -> None:
    """What is killed: run both campaigns, and note the live folds after every fact."""
    async with App.open(config.load_settings(directory / "home", {})) as app:
        await asyncio.gather(
            *(
                app.run(id, by=f"orchestrator {os.getpid()}", listeners=[note_folds(directory, id)])
                for id in CAMPAIGNS.values()
            )
        )


class Chaos:
    """What befalls the machine, one thing after the other, from a thread of its own.

    It also does what an operator does: nodes that a controller drains, having come back older than their jobs, serve
    again.
    """

    def __init__(self, box: SlurmBox, seed: int, told: Callable[[str], None]) -> None:
        self.happened: Counter[str] = Counter()
        self.over = threading.Event()
        self.error: BaseException | None = None
        self._box, self._rng, self._told = box, random.Random(seed), told
        self._thread = threading.Thread(target=self._go, name="chaos", daemon=True)

    def __enter__(self) -> "Chaos":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._thread.join()

    @property
    def missing(self) -> dict[str, int]:
        """What has not befallen often enough."""
        return {what: n - self.happened[what] for what, n in (WANTED | EXTRA).items() if self.happened[what] < n}

    def _go(self) -> None:
        try:
            while not self.over.wait(self._rng.uniform(1.0, 4.0)):
                self._box.resume()
                if (missing := self.missing) and self._befalls(what := self._rng.choice(_each(missing))):
                    self.happened[what] += 1
                    self._told(what)
        except BaseException as error:
            self.error = error
            raise

    def _befalls(self, what: str) -> bool:
        """Whether there was somebody whom it could befall."""
        match what:
            case "slurmctld killed":
                self._box.kill_controller()
                self.over.wait(self._rng.uniform(0.2, 3.0))
                self._box.start_controller()
                return True
            case "node lost":
                node = self._rng.choice(self._box.nodes)
                # Half of them the controller finds out by itself.
                self._box.lose(node, tell=self._rng.random() < 0.5)
                self.over.wait(self._rng.uniform(2.0, 15.0))
                self._box.restore(node)
                return True
            case "job cancelled":
                jobs = [id for id, _, state in self._box.jobs() if state in ("RUNNING", "PENDING")]
                if jobs:
                    self._box.run("scancel", self._rng.choice(jobs), check=False)
                return bool(jobs)
            case "pilot killed":
                return self._kill("process_worker_pool")
            case "interchange killed":
                return self._kill("parsl.executors.high_throughput.interchange", "interchange.py")
            case _:
                return self._kill("firstlight.facilities.compute.parsl._keeper")

    def _kill(self, *words: str) -> bool:
        """Kill one of the processes of this box with any of these words in their command line."""
        mine = f"SLURM_CONF={self._box.environment['SLURM_CONF']}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    said, known = (entry / "cmdline").read_bytes().decode(), (entry / "environ").read_bytes()
                except OSError:
                    continue
                if mine in known and any(word in said for word in words) and "bash" not in said:
                    found.append(int(entry.name))
        if found:
            os.kill(self._rng.choice(sorted(found)), signal.SIGKILL)
        return bool(found)


def _each(missing: dict[str, int]) -> list[str]:
    """What is still to happen, as often as it is to."""
    return [name for name, n in sorted(missing.items()) for _ in range(n)]


def storm(directory: Path, box: SlurmBox, kills: int, seed: int, told: Callable[[str], None]) -> Chaos:
    """Let all of it happen until the campaigns have ended."""
    rng = random.Random(seed + 1)
    command = [sys.executable, __file__, "--orchestrate", str(directory)]
    with Chaos(box, seed, told) as chaos:
        while True:
            chaos.happened["orchestrator started"] += 1
            calm = chaos.happened["orchestrator killed"] >= kills and not chaos.missing
            with open(directory / "orchestrator.log", "ab") as log:
                child = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | box.environment)
                try:
                    child.wait(timeout=None if calm else rng.uniform(1.0, 6.0))
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
                    chaos.happened["orchestrator killed"] += 1
                    told("orchestrator killed")
                    continue
            if child.returncode:
                print((directory / "orchestrator.log").read_text()[-3000:], file=sys.stderr)
                raise SystemExit(f"the orchestrator failed with {child.returncode}")
            return chaos


def left(box: SlurmBox, seconds: float = 60.0) -> int:
    """How many jobs are still allocated, after as many seconds as pilots may take to go."""
    until = time.monotonic() + seconds
    while jobs := [job for job in box.jobs() if job[2] in ("RUNNING", "PENDING")]:
        if time.monotonic() > until:
            break
        time.sleep(0.5)
    return len(jobs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path, help="keep everything in this directory")
    parser.add_argument("--orchestrate", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.orchestrate:
        asyncio.run(orchestrate(given.orchestrate))
        return 0
    if missing := available():
        raise SystemExit(f"not installed: {missing} (Debian: apt install slurm-wlm munge)")
    begun = time.monotonic()

    def told(what: str) -> None:
        if not given.json:
            print(f"{time.monotonic() - begun:6.1f} s  {what}", flush=True)

    with (
        tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".chaos-", ignore_cleanup_errors=True) as scratch,
        SlurmBox() as box,
    ):
        directory = (given.keep or Path(scratch)).absolute()
        (directory / "home").mkdir(parents=True)
        (directory / "home/firstlight.toml").write_text(SETTINGS.format(python=sys.executable))
        each = given.trials // len(CAMPAIGNS)
        asyncio.run(
            begin(
                directory,
                [
                    spec(id, directory, each, given.seed + n, seconds=SECONDS, parallel=4, facility=facility)
                    for n, (facility, id) in enumerate(CAMPAIGNS.items())
                ],
            )
        )
        chaos = storm(directory, box, given.kills, given.seed, told)
        accounts = {id: asyncio.run(account(directory, id, each)) for id in CAMPAIGNS.values()}
        remaining = left(box)
        took = time.monotonic() - begun
    return report(given, chaos, accounts, remaining, took)


def report(
    given: argparse.Namespace, chaos: Chaos, accounts: dict[str, dict[str, int]], remaining: int, took: float
) -> int:
    """Print what happened and what came of it; the exit code."""
    bad = [f"{id}: {name}" for id, found in accounts.items() for name in MUST_BE_ZERO if found[name]]
    bad += [f"{what} only {chaos.happened[what]} times: give it more trials" for what in chaos.missing]
    if chaos.happened["orchestrator killed"] < given.kills:
        bad.append(f"it ended after {chaos.happened['orchestrator killed']} kills: give it more trials")
    if chaos.error:
        bad.append(f"chaos itself failed: {chaos.error!r}")
    if remaining:
        bad.append(f"{remaining} jobs were left behind")
    if given.json:
        print(
            json.dumps(
                {"happened": chaos.happened, "accounts": accounts, "left": remaining, "seconds": took, "failed": bad}
            )
        )
        return 1 if bad else 0
    print(f"{took:.0f} s")
    for what, count in sorted(chaos.happened.items()):
        print(f"{count:8}           {what}")
    print(f"{'jobs':>8} {'tasks':>8}   (batch jobs of their own, and by pilots)")
    for name in accounts["jobs"]:
        print(f"{accounts['jobs'][name]:8} {accounts['tasks'][name]:8}   {name}")
    print(f"{remaining:8}           jobs left behind")
    print("FAIL  " + "; ".join(bad) if bad else "PASS  nothing lost, nothing committed twice, nothing left behind")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
