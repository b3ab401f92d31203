"""Every domain, several seeds, against random points: trials, failures, the best found and the best known.

    python benchmarks/domains.py [NAME ...] [--seeds 3] [--keep DIR] [--images DIR] [--json]

All campaigns go through the whole loop: worker processes, the durable journal, the gate. With --keep they stay in a
data directory, and what has been run there is not run again; --images writes the main figure of each domain's first
campaign. A random campaign gets five times the trials, or fewer where those would take longer than --patience
seconds; on a pool whose values are all known, random search is computed instead. The acceleration factor is the
median over all pairs of campaigns, with its quartiles; ">=" where a random campaign never did as well.
"""

import argparse
import asyncio
import json
import math
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from firstlight import config, core, plugins, reports
from firstlight.app import App
from firstlight.domains import Domain

LONGER = 5


async def campaign(app: App, spec: core.CampaignSpec, progress: Progress) -> reports.Subject:
    """Run it, go on with it, or read what it was; with a bar of its trials."""
    if spec.id not in await app.journal.campaigns():
        await app.create(app.check_spec(spec), "benchmark")
    state, _ = await app.state(spec.id)
    if not state.closed:
        bar = progress.add_task(spec.id, total=spec.goal.budget.trials, completed=state.succeeded + state.failed)

        def ended(entry: core.Entry, campaign: core.Campaign) -> None:
            if isinstance(entry.fact, core.TrialIngested):
                progress.advance(bar)

        await app.run(spec.id, "benchmark", listeners=[ended])
        progress.remove_task(bar)
    return reports.gather([entry async for entry in app.journal.read(spec.id)])


def with_seed(spec: core.CampaignSpec, seed: int) -> core.CampaignSpec:
    return replace(spec, id=f"{spec.id}-{seed}", seed=seed)


def at_random(spec: core.CampaignSpec, seed: int, subject: reports.Subject, patience: float) -> core.CampaignSpec:
    """The same problem with random points, LONGER times the trials made, as far as patience goes."""
    made = len(subject.own)
    affordable = patience * spec.parallel / max(seconds([subject]), 1e-3)
    trials = max(made, min(LONGER * made, int(affordable)))
    goal = replace(spec.goal, budget=core.Budget(trials=trials), no_improvement=None)
    goal = replace(goal, objectives=tuple(replace(o, target=None) if o.direction != "match" else o
                                          for o in goal.objectives))  # fmt: skip
    return replace(spec, id=f"{spec.id}-random-{seed}", seed=seed, strategy=core.StrategySpec(name="random"), goal=goal)


def seconds(subjects: Sequence[reports.Subject]) -> float:
    """The median time of one trial at the facility."""
    taken = [sum(s.ended - s.started for s in row.spans) for subject in subjects for row in subject.own if row.spans]
    return statistics.median(taken) if taken else math.nan


def wall(subject: reports.Subject) -> float:
    return sum(run.ended - run.started for run in subject.runs)


def judge(
    domain: Domain, mine: Sequence[reports.Subject], random: Sequence[reports.Subject], known: Sequence[float]
) -> dict[str, Any]:
    """One line of the table; `known` are the values of the whole pool, where there is one and they are."""
    goal = mine[0].spec.goal
    losses = [reports.trial_losses(s.spec, s.own) for s in mine]
    others = [reports.trial_losses(s.spec, s.own) for s in random]
    line: dict[str, Any] = {
        "domain": domain.name, "strategy": mine[0].spec.strategy.name,
        "trials": [len(s.own) for s in mine], "failed": [sum(r.failure is not None for r in s.own) for s in mine],
        "known": None if domain.best is None else domain.best.value, "seconds": seconds(mine),
        "wall": statistics.median(map(wall, mine)),
    }  # fmt: skip
    first = goal.objectives[0]
    if len(goal.objectives) > 1:
        ideal, reference, _ = reports.reference_box(goal, [*losses, *others])
        curves = [reports.hypervolume_curve(x, ideal, reference) for x in losses]
        theirs = [reports.hypervolume_curve(x, ideal, reference) for x in others]
        line |= {"what": "hypervolume", "unit": ""}
        line |= {"best": [float(c[-1]) for c in curves], "random": [float(c[-1]) for c in theirs], "known": None}
    else:
        curves, theirs = [reports.best_curve(x) for x in losses], [reports.best_curve(x) for x in others]
        sign = 1.0 if first.direction == "maximize" else -1.0
        line |= {"what": first.observable, "unit": first.unit}
        line |= {"best": [sign * float(c[-1]) for c in curves], "random": [sign * float(c[-1]) for c in theirs]}
    if known:
        pool = np.array([math.nan if math.isnan(v) else core.loss(first, v) for v in known])
        exact = [f for c in curves if (f := reports.pool_acceleration(pool, c))]
        line["factor"] = [statistics.median(getattr(f, q).value for f in exact) for q in ("median", "low", "high")]
        line |= {"at_least": [False] * 3, "random_trials": "exact"} if exact else {"factor": None}
        return line
    factor = reports.acceleration(curves, theirs)
    bounds = [factor.median, factor.low, factor.high] if factor else []
    line["factor"] = [b.value for b in bounds] or None
    line |= {"at_least": [b.at_least for b in bounds], "random_trials": [len(s.own) for s in random]}
    return line


def show(lines: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("domain", "trials", "failed", "best of each seed", "", "best known", "distance",
                 "acceleration", "s a trial", "wall s"):  # fmt: skip
        table.add_column(name)
    for line in lines:
        known, best = line["known"], statistics.median(line["best"])
        factor = ""
        if line["factor"]:
            median, low, high = (
                f"{'>= ' if at_least else ''}{value:.2g}"
                for value, at_least in zip(line["factor"], line["at_least"], strict=True)
            )
            factor = f"{median} [{low} to {high}]"
        table.add_row(
            line["domain"], ranged(line["trials"]), ranged(line["failed"]), " ".join(f"{b:.5g}" for b in line["best"]),
            f"{line['what']} {line['unit']}".strip(), "" if known is None else f"{known:g}",
            "" if known is None or not math.isfinite(best) else f"{best - known:+.3g}",
            factor, f"{line['seconds']:.2g}", f"{line['wall']:.0f}",
        )  # fmt: skip
    return table


def ranged(values: Sequence[int]) -> str:
    return str(values[0]) if min(values) == max(values) else f"{min(values)}-{max(values)}"


async def one(home: Path, domain: Domain, given: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """All campaigns of one domain, in a facility of their own that has as many slots as they want."""
    async with App.open(config.load_settings(home, {})) as app:
        return await compare(app, domain, given, progress)


async def compare(app: App, domain: Domain, given: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    spec = domain.campaign()
    seeds = range(1, given.seeds + 1)
    mine = [await campaign(app, with_seed(spec, seed), progress) for seed in seeds]
    known, random = [] if domain.values is None else list(domain.values()), []
    if not known:
        for seed in seeds:
            random.append(await campaign(app, at_random(spec, seed, mine[0], given.patience), progress))
    if given.images:
        written = await asyncio.to_thread(
            reports.write_report, replace(mine[0], pool_values=known), [s.results for s in random],
            app.settings.data_dir / "reports" / spec.id,
        )  # fmt: skip
        given.images.mkdir(parents=True, exist_ok=True)
        shutil.copy(written.png, given.images / f"{domain.name}.png")
    return judge(domain, mine, random, known)


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--patience", type=float, default=120.0)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    console, lines, began = Console(stderr=True), [], time.perf_counter()
    with ExitStack() as stack:
        home = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".domains-")))
        progress = stack.enter_context(Progress(console=console, transient=True))
        for name in given.names or plugins.names("domains"):
            domain: Domain = plugins.load("domains", name)
            if missing := domain.missing():
                console.print(f"left out: {missing}")
                continue
            lines.append(await one(home, domain, given, progress))
            console.print(f"{name}: {time.perf_counter() - began:.0f} s so far")
    if given.json:
        print(json.dumps(lines))
    else:
        Console(width=max(160, Console().width)).print(show(lines))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
