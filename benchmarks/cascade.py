"""What a campaign costs in which a model screens, a simulator computes and a robot measures, and one without the model.

    python benchmarks/cascade.py --keep cascade

A family of catalysed couplings (`firstlight.testing.couplings`): three names, three numbers. Twelve earlier campaigns
on other substrates, of 80 trials at random, half computed and half measured, are in a catalog; a model of the family
`table` is trained from them by the factory, promoted, and screens 100,000 candidates for a campaign on a new substrate.
The simulator's barriers are off, and it knows of no catalyst that dies; the laboratory is a process of its own behind
an OpenAPI document, which only the laboratory facility speaks to. Both campaigns have the same costs, the
same sources, and `bayes` to choose points; one of them within what the model keeps. Each ends when the laboratory reads
the target: what one point in 10,000 at random reaches on this substrate. What the earlier campaigns cost is not
counted, for they were run for their own sake; training and screening are, at the price of a core-hour.

Runs are kept in --keep, so that the same command goes on where it was stopped.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from firstlight import config, core, plugins
from firstlight.app import App
from firstlight.models import TrainSpec, read_spec
from firstlight.testing import couplings

COSTS = {"simulation": 1.0, "robot": 20.0}
CORE_HOUR = 0.05
"""What an hour of one core costs, in the same unit (USD)."""
CANDIDATES, ONE_IN = 100_000, 10_000
FIRST_SIBLING = 100
MOST = 2_000.0
"""What a campaign may cost; one that has spent it counts with it, which flatters it."""
GOAL = 1 / 3
SCREENED = {"model": "couplings", "candidates": CANDIDATES}
MODEL = {
    "name": "couplings", "family": "table", "options": {"target": "worth"},
    "split": {"validation": 0.15, "test": 0.15},
    "training": {"steps": 1500, "batch": 64, "learning_rate": 0.003, "average": 0.99, "validate": 50, "patience": 8},
    "licence": "CC0-1.0",
}  # fmt: skip
LABORATORY = """
name: bench
instruments:
  robot:
    protocol: openapi
    address: {address}
    options: {{poll: 0.05}}
    operations:
      Couple: {{sigma: {{worth: {noise}}}}}
"""


@contextmanager
def laboratory(folder: Path) -> Iterator[Path]:
    """The twin in a process of its own, and the file that says where it is."""
    words = [sys.executable, "-m", "firstlight.testing.couplings", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            file = folder / "lab.yaml"
            file.write_text(LABORATORY.format(address=process.stdout.readline().strip(), noise=couplings.NOISE))
            yield file
        finally:
            process.terminate()


def settings(folder: Path, lab: Path) -> config.Settings:
    return config.Settings(data_dir=folder, facilities={"bench": {"kind": "lab", "file": str(lab)}})


def specification(
    id: str, substrate: int, strategy: core.StrategySpec, budget: core.Budget, target: float | None = None,
    seed: int = 0, parallel: int = 1,
) -> core.CampaignSpec:  # fmt: skip
    """A campaign on one substrate."""
    arguments = {p.name: f"{{{p.name}}}" for p in couplings.PARAMETERS}
    steps = (
        core.StepSpec(
            name="simulation", operation="firstlight.testing.couplings:simulate", settings={"substrate": substrate}
        ),
        core.StepSpec(
            name="robot", facility="bench", operation="robot.Couple", settings={"substrate": substrate, **arguments},
            repeatable=False,
        ),
    )  # fmt: skip
    return core.CampaignSpec(
        id=id, parameters=(*couplings.PARAMETERS, core.Categorical(name="by", values=tuple(COSTS))),
        goal=core.Goal(
            objectives=(core.Objective(observable="worth", direction="maximize", target=target),), budget=budget
        ),
        fidelity=core.Fidelity(
            parameter="by", target="robot", sources=tuple(core.Source(value=v, cost=c) for v, c in COSTS.items())
        ),
        procedure=core.ProcedureSpec(name="source", steps=steps), strategy=strategy, seed=seed, parallel=parallel,
    )  # fmt: skip


async def siblings(app: App, campaigns: int, trials: int) -> list[str]:
    """Earlier campaigns on other substrates, run as far as they are not; the names of their datasets."""
    names = list[str]()
    for substrate in range(FIRST_SIBLING, FIRST_SIBLING + campaigns):
        spec = specification(
            f"sibling-{substrate}", substrate, core.StrategySpec(name="random"), core.Budget(trials=trials),
            seed=substrate, parallel=4,
        )  # fmt: skip
        if spec.id not in await app.journal.campaigns():
            await app.create(app.check_spec(spec), "bench")
        await app.run(spec.id, "bench")
        names.append(spec.id)
    return names


async def trained(app: App, asked: TrainSpec) -> float:
    """The model, trained by the factory and promoted; the core-hours that it took."""
    id = await app.training(asked, "bench")
    await app.run(id, "bench")
    version = await app.register(id, "bench")
    with app.models() as (_, registry):
        registry.promote(version, "bench", answered="bench")
    _, ledger = await app.state(id)
    return next(row.seen["device-hours"].value for row in ledger.view().rows)


async def performed(app: App, method: str, substrate: int, most: float, options: Mapping[str, Any]) -> dict[str, Any]:
    """One campaign to its end: what it cost, how many computations and measurements, and whether it got there."""
    spec = specification(
        f"{method}-{substrate}", substrate, core.StrategySpec(name=method, options=dict(options)),
        core.Budget(cost=most), couplings.reached(substrate, ONE_IN), seed=substrate,
    )  # fmt: skip
    spec = await app.create(app.check_spec(spec), "bench")
    campaign = await app.run(spec.id, "bench")
    _, ledger = await app.state(spec.id)
    rows = ledger.view().rows
    by = {source: sum(row.point["by"] == source for row in rows) for source in COSTS}
    told = {
        "method": method,
        "substrate": substrate,
        "target": couplings.reached(substrate, ONE_IN),
        "cost": campaign.cost,
        **by,
    }
    return {**told, "met": campaign.closed == "goal met", "closed": campaign.closed}


async def screening(app: App) -> float:
    """CPU seconds in which the candidates of a campaign are screened."""
    strategy: core.Strategy = plugins.make("strategies", "screened", SCREENED)
    version = await app.usable.choose("couplings")
    known = core.Results(models={"couplings": await app.usable.load(version)})
    spec = specification("timed", 0, core.StrategySpec(), core.Budget(trials=1))
    began = time.process_time()
    strategy.propose(spec, known, 1, 0)
    return time.process_time() - began


async def bench(keep: Path, substrates: Sequence[int], campaigns: int, trials: int) -> None:
    file = keep / "runs.jsonl"
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    with laboratory(keep) as lab:
        async with App.open(settings(keep / "home", lab)) as app:
            # By name: a query would find the campaigns that it is tried on, too.
            data = await siblings(app, campaigns, trials)
            hours = await trained(app, read_spec(MODEL | {"data": data}))
            seconds = await screening(app)
            for substrate in substrates:
                for method, options in (("screened", SCREENED), ("bayes", {})):
                    if any((d["method"], d["substrate"]) == (method, substrate) for d in done):
                        continue
                    began = time.monotonic()
                    done.append(await performed(app, method, substrate, MOST, options))
                    with file.open("a") as kept:
                        kept.write(json.dumps(done[-1]) + "\n")
                    print(f"  {done[-1]} in {time.monotonic() - began:.0f} s", flush=True)
    report([d for d in done if d["substrate"] in substrates], hours, seconds)


def report(done: Sequence[Mapping[str, Any]], hours: float, seconds: float) -> None:
    """Both side by side, with their spread; what did not get there counts with what it spent, and is said to."""
    extra = CORE_HOUR * (hours + seconds / 3600.0)
    print(f"training {3600 * hours:.0f} core-seconds, screening {seconds:.1f}: {extra:.4f} USD a campaign, counted")
    print(f"{'substrate':>9} {'target':>7} | {'model: cost':>12} {'computed':>9} {'measured':>9} | "
          f"{'without: cost':>13} {'computed':>9} {'measured':>9} | {'part':>5}")  # fmt: skip
    parts = []
    both = [s for s in sorted({d["substrate"] for d in done}) if sum(d["substrate"] == s for d in done) == 2]
    done = [d for d in sorted(done, key=lambda d: d["substrate"]) if d["substrate"] in both]
    for substrate in both:
        ours, theirs = (next(d for d in done if (d["method"], d["substrate"]) == (m, substrate))
                        for m in ("screened", "bayes"))  # fmt: skip
        cost = ours["cost"] + extra
        parts.append(cost / theirs["cost"])
        cells = [f"{substrate:>9} {ours['target']:>7.1f}"]
        for d, spent, width in ((ours, cost, 12), (theirs, theirs["cost"], 13)):
            said = f"{'' if d['met'] else '>'}{spent:.0f}"
            cells.append(f"{said:>{width}} {d['simulation']:>9} {d['robot']:>9}")
        print(" | ".join([*cells, f"{parts[-1]:>5.2f}"]))
    if not parts:
        return
    sums = {m: [d["cost"] + extra * (m == "screened") for d in done if d["method"] == m] for m in ("screened", "bayes")}
    for method, costs in sums.items():
        met = sum(d["met"] for d in done if d["method"] == method)
        low, middle, high = np.quantile(costs, (0.25, 0.5, 0.75))
        print(f"{method}: mean cost {np.mean(costs):.0f}, median {middle:.0f} (quartiles {low:.0f} to {high:.0f}), "
              f"target reached in {met} of {len(costs)}")  # fmt: skip
    rng = np.random.default_rng(0)
    drawn = [rng.integers(len(parts), size=len(parts)) for _ in range(2000)]
    a, b = (np.array(sums[m]) for m in ("screened", "bayes"))
    low, high = np.quantile([a[i].sum() / b[i].sum() for i in drawn], (0.025, 0.975))
    part = a.sum() / b.sum()
    said = f"bootstrap 95 %: {low:.2f} to {high:.2f}; median of the parts {np.median(parts):.2f}"
    print(f"with the model {part:.2f} of the cost without ({said})")
    print(f"goal: at most {GOAL:.2f}: {'reached' if part <= GOAL else 'missed'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, default=Path("cascade"), help="a folder for the data directory and runs")
    parser.add_argument("--substrates", type=int, default=8, help="on how many new substrates")
    parser.add_argument("--first", type=int, default=0, help="the number of the first of them")
    parser.add_argument("--siblings", type=int, default=12, help="earlier campaigns")
    parser.add_argument("--trials", type=int, default=80, help="trials in each of them")
    told = parser.parse_args()
    told.keep.mkdir(parents=True, exist_ok=True)
    chosen = range(told.first, told.first + told.substrates)
    asyncio.run(bench(told.keep.absolute(), chosen, told.siblings, told.trials))
