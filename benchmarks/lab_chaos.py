"""Kill everything in a laboratory, again and again, and see that no sample is dosed twice, and none is lost.

    python benchmarks/lab_chaos.py [--trials 32] [--kills 12] [--seed 1] [--json]

The campaign `autonomous-lab` runs in the twin laboratory: five servers of four protocols, each a process of its own.
The orchestrator is killed (SIGKILL) in the middle of actions and started again; servers are killed and frozen, their
replies swallowed and their connections cut; needles clog, moves fail, the block overheats; and what waits is submitted
a second time from another process. A scripted person looks into the twin's own ledger and answers what is in doubt,
resumes what an interlock has paused, washes needles, finds plates, and refills. Then the ledger of what was physically
done, the laboratory's store and the journal are held against one another. Needs the extra `lab`.
"""

import argparse
import asyncio
import contextlib
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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from _account import _folds, note_folds
from msgspec.structs import replace

from firstlight import config, core, engine
from firstlight.app import App
from firstlight.domains.autonomous_lab import spec
from firstlight.facilities.lab.twin.up import LabUp, up

ID = "autonomous-lab"
SHORT = {"precursor": "4 mL", "ligand": "4 mL"}
"""What the laboratory believes to be in some bottles, which hold more: a person has to refill."""
ENOUGH = 1.5
"""mL that every trial can be begun with."""
FAULTS: Mapping[str, tuple[int, str, str, dict[str, Any]]] = {
    "handler killed": (3, "handler", "crash", {}),
    "heater killed": (1, "heater", "crash", {"after": 0.3}),
    "furnace killed": (1, "furnace", "crash", {"after": 0.3}),
    "spectrometer killed": (1, "spectrometer", "crash", {}),
    "mover killed": (2, "mover", "crash", {}),
    "handler's replies lost": (2, "handler", "drop", {"seconds": 1.5}),
    "mover's replies lost": (1, "mover", "drop", {"seconds": 1.5}),
    "handler cut off": (2, "handler", "cut", {}),
    "furnace cut off": (1, "furnace", "cut", {}),
    "mover cut off": (2, "mover", "cut", {}),
    "handler frozen": (1, "handler", "freeze", {"seconds": 3.0}),
    "spectrometer frozen": (1, "spectrometer", "freeze", {"seconds": 3.0}),
    "needle clogged": (1, "handler", "clog", {}),
    "move failed": (1, "mover", "fail", {}),
    "block overheated": (1, "heater", "overheat", {}),
}
"""What befalls whom in the middle of an operation, and how often it is to."""
CONSUMING = ("Dispense", "Heat", "Anneal")
MUST_BE_ZERO = (
    "wells dosed twice with a reagent", "plates heated twice", "consumed without a report", "samples unaccounted for",
    "failed samples without a cause", "reservations left", "runs left open", "bottles that disagree with the store",
    "plates elsewhere than the store says", "live folds unlike the replayed", "trials open at the end",
)  # fmt: skip


async def orchestrate(directory: Path) -> None:
    """What is killed: run the campaign, and note the live folds after every fact."""
    async with App.open(config.load_settings(directory / "home", {})) as app:
        await app.run(ID, by=f"orchestrator {os.getpid()}", listeners=[note_folds(directory, ID)])


async def duplicate(directory: Path) -> None:
    """Submit what is queued or under way a second time, from this process too."""
    async with App.open(config.load_settings(directory / "home", {})) as app:
        lab = app.laboratory("cell")
        jobs = lab.store.jobs("queued", "running")[:6]
        for job in jobs:
            await lab.submit(job.permit)
        await asyncio.sleep(2.0)
        print(len(jobs))


class Person:
    """Looks at the physical laboratory whenever somebody asks, and says what was seen."""

    def __init__(self, directory: Path, twin: LabUp, seed: int, told: Callable[[str], None]) -> None:
        self.said: Counter[str] = Counter()
        self.discarded: set[str] = set()
        self._rng, self._twin, self._told = random.Random(seed), twin, told
        self._words: dict[str, str] = {}
        self._directory = directory

    async def attend(self, app: App) -> None:
        """One round of the laboratory. Said again where it was too early, or a conflict."""
        campaign, _ = await app.state(ID)
        store = app.laboratory("cell").store
        for lost in list(campaign.actions("lost")):
            job = store.job(lost.action.id)
            if job is None:
                word = "again"  # It never came to the laboratory.
            else:
                run = store.run(job.run) if job.run else None
                word = self._word(run, lost.action.id) if run else "again"
            if word:
                await self._say(app, lost.action.id, word)
        if campaign.paused and not campaign.closed:
            self._twin.clear("heater", "overheat")
            self._told("the person resumes")
            self.said["resumed"] += 1
            await app.request(ID, core.CampaignResumed(), "grace")
        self._walk(store)

    def _walk(self, store: Any) -> None:
        """Wash the needle, find plates, refill."""
        state = self._twin.state()
        if state["crashed"]:
            self._twin.clear("mover")
        armed = {f["fault"] for f in state["faults"]}
        if "clog" not in armed:
            # Whether it is clogged shows in the next failure; washing a clean needle does no harm.
            self._twin.clear("handler", "clog")
        doubted = {job.run for job in store.jobs("doubt")}
        asked = [*store.runs("starting", "running"), *(r for r in store.runs("doubt") if r.id in doubted)]
        moving = {str(a) for r in asked for a in r.arguments.values()}
        for plate in store.plates():
            if not plate.place and plate.id not in moving and "mover" not in state["busy"]:
                where = next(p for p, there in state["places"].items() if there == plate.id)
                store.found(plate.id, where)
                self.said["plate found"] += 1
        for job in store.jobs("queued"):
            material = job.message.partition(" runs out")[0]
            # What is said of a job may be older than the last refill.
            if material in SHORT and "refill" in job.message and store.materials()[material].free < ENOUGH:
                store.refill(material, 4.0)
                self.said[f"refilled {material}"] += 1
                self._told(f"the person refills {material}")
                return

    def _word(self, run: Any, action: str) -> str:
        """What is to be said of a run in doubt: done, again or discard; "" while it is under way."""
        if run.id in self._words:
            return self._words[run.id]
        word = self._looked(run)
        # A single sample may be given up; a plate of them is worth another try.
        if word == "again" and len(run.members) == 1 and self._rng.random() < 0.2:
            word = "discard"
        if word:
            self._words[run.id] = word
        return word

    def _looked(self, run: Any) -> str:
        state = self._twin.state()
        if run.instrument in state["busy"]:
            return ""
        if run.operation == "Transfer":
            return "done" if state["places"][run.arguments["To"]] == run.arguments["Plate"] else "again"
        ledger = read_ledger(self._twin.executions())
        if run.operation == "Dispense":
            key = (run.arguments["Reagent"], run.arguments["Well"])
            return "done" if ledger.doses[key] else "again"
        plates = {s.location.partition("/")[0] for s in self._samples(run)}
        if run.operation in ("Heat", "Anneal"):
            return "done" if any(ledger.heated[run.operation, plate] for plate in plates) else "again"
        return "again"  # A measurement can be made again.

    def _samples(self, run: Any) -> list[Any]:
        from firstlight.facilities.lab._store import Store

        store = Store(self._directory / "home/facilities/cell/lab.db")
        found = [s for m in run.members for s, _, _ in store.samples(trial=m.rpartition(".")[0])]
        store.close()
        return found

    async def _say(self, app: App, action: str, word: str) -> None:
        fact: core.Fact
        match word:
            case "done":
                fact = core.ActionAttested(action=action, note="looked")
            case "again":
                fact = core.ActionApproved(action=action, note="looked")
            case _:
                fact = core.ActionRefused(action=action, reasons=("given up by a person",))
                self.discarded.add(action.rpartition(".")[0])
        with contextlib.suppress(core.InconsistentError):
            await app.request(ID, fact, "grace")
            self.said[word] += 1
            self._told(f"the person says {word} of {action}")


class Ledger:
    """What was physically done, by the twin's own record."""

    def __init__(self) -> None:
        self.doses: Counter[tuple[str, str]] = Counter()
        self.heated: Counter[tuple[str, str]] = Counter()
        self.outcomes: Counter[str] = Counter()


def read_ledger(executions: list[dict[str, Any]]) -> Ledger:
    """Doses by reagent and well, and heatings by plate: which plate was there follows from the moves before."""
    found, where = Ledger(), {f"plate-{n}": f"hotel-{n}" for n in range(1, 9)}
    for one in executions:
        what, given, outcome = one["operation"], one["arguments"], one["outcome"]
        found.outcomes[f"{what} {outcome}"] += 1
        physically = outcome in ("done", "running") or "delivered" in one
        if what == "Transfer" and outcome == "done":
            where[given["Plate"]] = given["To"]
        elif what == "Dispense" and physically:
            found.doses[given["Reagent"], given["Well"]] += 1
        elif what in ("Heat", "Anneal") and physically:
            found.heated.update((what, plate) for plate, place in where.items() if place == one["device"])
    return found


class Chaos:
    """What befalls the laboratory, and its person, from a thread of their own."""

    def __init__(self, directory: Path, twin: LabUp, seed: int, told: Callable[[str], None]) -> None:
        self.happened: Counter[str] = Counter()
        self.over = threading.Event()
        self.errors: list[str] = []
        self.person = Person(directory, twin, seed, told)
        self._directory, self._twin, self._rng, self._told = directory, twin, random.Random(seed), told
        work = (self._attend, self._strike)
        self._threads = [threading.Thread(target=self._go, args=(f,), daemon=True) for f in work]

    def __enter__(self) -> "Chaos":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join(30.0)

    @property
    def missing(self) -> dict[str, int]:
        """What has not befallen often enough."""
        return {what: n - self.happened[what] for what, (n, *_) in FAULTS.items() if self.happened[what] < n}

    def _go(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.errors.append(repr(error))
            raise

    def _attend(self) -> None:
        async def rounds() -> None:
            async with App.open(config.load_settings(self._directory / "home", {})) as app:
                while not self.over.is_set():
                    await self.person.attend(app)
                    await asyncio.sleep(0.5)

        asyncio.run(rounds())

    def _strike(self) -> None:
        """On each device one after the other, in the midst of what it does next."""
        armed, rests = dict[str, str](), dict[str, float]()
        while not self.over.wait(0.1):
            waiting = {(f["device"], f["fault"]) for f in self._twin.state()["faults"]}
            for device in sorted({device for _, device, *_ in FAULTS.values()}):
                what = armed.get(device, "")
                if what and (device, FAULTS[what][2]) not in waiting:
                    del armed[device]
                    rests[device] = time.monotonic() + self._rng.uniform(0.5, 3.0)
                    self.happened[what] += 1
                    self._told(what)
                missing = sorted(w for w in self.missing if FAULTS[w][1] == device)
                if device not in armed and missing and time.monotonic() > rests.get(device, 0.0):
                    armed[device] = self._rng.choice(missing)
                    _, _, fault, how = FAULTS[armed[device]]
                    self._twin.fault(device, fault, **how)


def storm(directory: Path, twin: LabUp, kills: int, seed: int, limit: float, told: Callable[[str], None]) -> Chaos:
    """Let all of it happen until the campaign has ended."""
    rng, until = random.Random(seed + 1), time.monotonic() + limit
    command = [sys.executable, __file__, "--orchestrate", str(directory)]
    twice = [sys.executable, __file__, "--duplicate", str(directory)]
    with Chaos(directory, twin, seed, told) as chaos, open(directory / "orchestrator.log", "ab") as log:
        while True:
            chaos.happened["orchestrator started"] += 1
            child = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                calm = chaos.happened["orchestrator killed"] >= kills
                if chaos.happened["orchestrator started"] % 4 == 2:
                    time.sleep(2.0)
                    other = subprocess.run(twice, stdout=subprocess.PIPE, stderr=log, check=False, timeout=60.0)
                    chaos.happened["starts duplicated"] += int(other.stdout or 0)
                if not calm:
                    _at_work(child, directory, until)
                child.wait(timeout=max(until - time.monotonic(), 1.0) if calm else rng.uniform(0.5, 4.0))
            except subprocess.TimeoutExpired:
                # In mid-action, wherever that can be had.
                soon = time.monotonic() + 2.0
                while not twin.state()["busy"] and time.monotonic() < soon:
                    time.sleep(0.02)
                chaos.happened["of them in mid-action"] += bool(twin.state()["busy"])
                child.send_signal(signal.SIGKILL)
                child.wait()
                chaos.happened["orchestrator killed"] += 1
                told("orchestrator killed")
                if time.monotonic() > until:
                    chaos.errors.append(f"it had not ended after {limit:.0f} s")
                    return chaos
                continue
            if child.returncode:
                print((directory / "orchestrator.log").read_text()[-3000:], file=sys.stderr)
                raise SystemExit(f"the orchestrator failed with {child.returncode}")
            return chaos


def _at_work(child: "subprocess.Popen[bytes]", directory: Path, until: float) -> None:
    """Until this orchestrator has written its first fact, and so is past its start."""
    folds = directory / f"folds-{ID}.log"
    before = folds.stat().st_size if folds.exists() else 0
    soon = min(until, time.monotonic() + 20.0)
    while child.poll() is None and time.monotonic() < soon and (not folds.exists() or folds.stat().st_size == before):
        time.sleep(0.05)


async def account(directory: Path, twin: LabUp, person: Person, trials: int) -> dict[str, Any]:
    """Hold ledger, store and journal against one another."""
    async with App.open(config.load_settings(directory / "home", {})) as app:
        entries = [entry async for entry in app.journal.read(ID)]
        campaign, ledger = await engine.recover(ID, app.journal)
        store = app.laboratory("cell").store
        samples, plates, stock = [s for s, _, _ in store.samples()], store.plates(), store.materials()
        held, left, jobs = store.held(), store.runs("starting", "running", "doubt"), store.jobs("ended")
        planned = sum(len(store.samples(trial=f"{ID}.{n}")) or 2 for n in range(1, trials + 1))
    rows = ledger.view().rows
    state, done = twin.state(), read_ledger(twin.executions())
    failures = [e.fact for e in entries if isinstance(e.fact, core.ActionFailed)]
    states = Counter(s.state or "no state" for s in samples)
    drawn = {(u.material, s.location) for s in samples for u in s.uses if u.amount}
    bad: dict[str, float] = {}
    perhaps = dict.fromkeys(stock, 0.0)
    for use in (u for s in samples for u in s.uses if u.material.endswith(" (perhaps)")):
        perhaps[use.material.removesuffix(" (perhaps)")] += use.amount
    doses = sum(n for (_, _), n in done.doses.items())
    for name, material in stock.items():
        known = {"mL": 1000.0, "uL": 1.0}[material.unit]
        hidden = (_full(name) - _mL(SHORT[name])) - 4.0 * person.said[f"refilled {name}"] if name in SHORT else 0.0
        # The needle gives 1 uL to the waste at each dose, and errs by some per cent.
        mine = sum(n for (r, _), n in done.doses.items() if r == name)
        apart = state["bottles"][name] - (material.amount * known + hidden * 1000.0)
        error = mine * 1.0 + 0.03 * (_full(name) * 1000.0 - state["bottles"][name]) + 20.0
        # What is booked as perhaps drawn may still be there.
        if not -error <= apart <= error + perhaps[name] * known:
            bad[name] = round(apart, 1)
    compared, unlike = _folds(directory / f"folds-{ID}.log", entries)
    return {
        "actions performed": sum(e.fact.__class__ in (core.ActionSucceeded, core.ActionAttested) for e in entries),
        "physical executions": sum(done.outcomes.values()), "doses": doses,
        "samples planned": planned, "samples": dict(states), "trials": len(rows), "facts": len(entries),
        "causes": dict(Counter(f.failure.cause for f in failures)),
        "wells dosed twice with a reagent": sum(n > 1 for n in done.doses.values()),
        "plates heated twice": sum(n > 1 for n in done.heated.values()),
        "consumed without a report": sum((r, w) not in drawn for r, w in done.doses),
        "samples unaccounted for": abs(2 * trials - sum(states[s] for s in ("measured", "failed", "discarded"))),
        "failed samples without a cause": sum(
            not isinstance(j.outcome, core.Measured) and not getattr(j.outcome, "cause", "") for j in jobs
        ),
        "reservations left": len(held), "runs left open": len(left),
        "bottles that disagree with the store": len(bad), "apart (uL)": bad,
        "plates elsewhere than the store says": sum(state["places"].get(p.place) != p.id for p in plates),
        "live folds compared": compared, "live folds unlike the replayed": unlike,
        "trials open at the end": len(campaign.open) + (not campaign.closed),
    }  # fmt: skip


def _mL(text: str) -> float:
    return float(text.partition(" ")[0])


def _full(name: str) -> float:
    from firstlight.facilities.lab.twin._laboratory import BOTTLES

    return BOTTLES[name][0] / 1000.0


async def begin(directory: Path, twin: LabUp, trials: int, seed: int) -> None:
    """The data directory, its laboratory's file, and the campaign."""
    said = twin.description
    for name, amount in SHORT.items():
        said["materials"][name]["amount"] = amount
    (directory / "home").mkdir(parents=True)
    (directory / "lab.yaml").write_text(yaml.safe_dump(said, sort_keys=False))
    table = f'[facilities.cell]\nkind = "lab"\nfile = "{directory / "lab.yaml"}"\n'
    (directory / "home/firstlight.toml").write_text(table)
    asked = spec()
    asked = replace(
        asked, seed=seed, strategy=core.StrategySpec(name="random"),
        goal=replace(asked.goal, budget=core.Budget(trials=trials)),
    )  # fmt: skip
    async with App.open(config.load_settings(directory / "home", {})) as app:
        await app.create(app.check_spec(asked), "storm")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--speed", type=float, default=300.0, help="of the laboratory's time")
    parser.add_argument("--limit", type=float, default=330.0, help="seconds after which it has failed")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path, help="keep everything in this directory")
    parser.add_argument("--orchestrate", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--duplicate", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.orchestrate or given.duplicate:
        asyncio.run(orchestrate(given.orchestrate) if given.orchestrate else duplicate(given.duplicate))
        return 0
    begun = time.monotonic()

    def told(what: str) -> None:
        if not given.json:
            print(f"{time.monotonic() - begun:6.1f} s  {what}", flush=True)

    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as scratch:
        directory = (given.keep or Path(scratch)).absolute()
        with up(directory / "twin", speed=given.speed, seed=given.seed) as twin:
            told("the laboratory is up")
            asyncio.run(begin(directory, twin, given.trials, given.seed))
            chaos = storm(directory, twin, given.kills, given.seed, given.limit, told)
            found = asyncio.run(account(directory, twin, chaos.person, given.trials))
            if given.keep:
                (directory / "executions.json").write_text(json.dumps(twin.executions(), indent=1))
    return report(given, chaos, found, time.monotonic() - begun)


def report(given: argparse.Namespace, chaos: Chaos, found: dict[str, Any], took: float) -> int:
    """Print what happened and what came of it; the exit code."""
    bad = [name for name in MUST_BE_ZERO if found[name]] + chaos.errors
    bad += [f"{what} only {chaos.happened[what]} times: give it more trials" for what in chaos.missing]
    if chaos.happened["orchestrator killed"] < given.kills:
        bad.append(f"it ended after {chaos.happened['orchestrator killed']} kills: give it more trials")
    if given.json:
        told = {"happened": chaos.happened, "said": chaos.person.said, "account": found, "seconds": took, "failed": bad}
        print(json.dumps(told))
        return 1 if bad else 0
    print(f"{took:.0f} s")
    for title, counts in (("what befell it", chaos.happened), ("what the person did", chaos.person.said)):
        print(title)
        for what, count in sorted(counts.items()):
            print(f"{count:8}  {what}")
    print("what came of it")
    for name, value in found.items():
        print(f"{value!s:>8}  {name}")
    print("FAIL  " + "; ".join(bad) if bad else "PASS  nothing done twice, nothing lost, every sample accounted for")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
