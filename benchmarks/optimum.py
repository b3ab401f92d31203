"""How many trials each strategy needs to find an optimum that is known.

    python benchmarks/optimum.py [DOMAIN ...] [--strategies bayes,portfolio,random] [--seeds 5] [--trials 400] [--json]

By default the domains whose optimum is proven by enumeration, which is done first. One trial after the other, in this
process: what is counted is trials, and what is timed is thinking. Random search on a pool is exact, not run. For
`space`, whose best is only known, it says how far each strategy comes in --trials trials.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from firstlight import core, plugins, reports
from firstlight.domains import Domain
from firstlight.facilities.compute import interpret

CLOSE = 1e-6
"""Relative distance within which a value is the optimum: published ones have so many digits."""


def function(spec: core.CampaignSpec) -> Callable[[core.Point], Any]:
    module, _, name = spec.procedure.steps[0].operation.partition(":")
    return getattr(import_module(module), name)  # type: ignore[no-any-return]


def perform(evaluate: Callable[[core.Point], Any], trial: str, point: core.Point) -> core.Row:
    try:
        outcome = interpret(evaluate(dict(point)))
    except core.Failed as failed:
        outcome = interpret(failed)
    if isinstance(outcome, core.Failure):
        return core.Row(trial=trial, point=point, failure=outcome)
    return core.Row(trial=trial, point=point, observations=outcome.observations, as_run=outcome.as_run)


def search(
    spec: core.CampaignSpec, strategy: str, seed: int, trials: int, goal: float, tick: Callable[[], None]
) -> dict[str, Any]:
    """Until the loss of the optimum is reached, or so many trials are made."""
    evaluate, chooser = function(spec), plugins.make("strategies", strategy, {})
    ledger: list[core.Row] = []
    best, thinking = math.inf, 0.0
    for n in range(trials):
        began = time.perf_counter()
        proposals = chooser.propose(spec, core.Results(rows=core.Prefix(ledger, n)), 1, seed * 1_000_003 + n)
        thinking += time.perf_counter() - began
        if not proposals:
            break
        ledger.append(perform(evaluate, str(n), proposals[0].point))
        (loss,) = reports.trial_losses(spec, ledger[-1:])
        best = min(best, loss[0] if loss else math.inf)
        tick()
        if best <= goal:
            break
    return {"trials": len(ledger), "best": best, "found": best <= goal, "ms": 1e3 * thinking / max(len(ledger), 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="DOMAIN")
    parser.add_argument("--strategies", default="bayes,portfolio,sobol,random")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = []
    for name in given.names or [n for n in plugins.names("domains") if plugins.load("domains", n).values]:
        domain: Domain = plugins.load("domains", name)
        if domain.missing() or domain.best is None:
            print(f"left out: {domain.missing() or name + ' has no best known value'}", file=sys.stderr)
            continue
        found += compare(domain, given)
    if given.json:
        print(json.dumps(found))
        return 0
    columns = ("domain", "strategy", "found", "trials until then", "best: median (least, most)", "ms a suggestion")
    table = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for line in found:
        table.add_row(*(str(line[key]) for key in ("domain", "strategy", "found", "until", "best", "ms")))
    Console(width=max(140, Console().width)).print(table)
    return 0


def compare(domain: Domain, given: argparse.Namespace) -> list[dict[str, Any]]:
    assert domain.best is not None
    spec, lines = domain.spec(), []
    first = spec.goal.objectives[0]
    goal = core.loss(first, domain.best.value)
    goal += CLOSE * abs(goal)
    if domain.values is not None:
        losses = np.array([math.nan if math.isnan(v) else core.loss(first, v) for v in domain.values()])
        goal = float(np.nanmin(losses)) * (1 + math.copysign(CLOSE, np.nanmin(losses)))
        good = int((losses <= goal).sum())
        expected = reports.expected_draws(len(losses), good)
        lines.append({
            "domain": domain.name, "strategy": "random (exact)", "found": "", "until": f"{expected:.0f} expected",
            "best": f"{abs(float(np.nanmin(losses))):.5g}: {good} of {len(losses)} points", "ms": "",
        })  # fmt: skip
    for strategy in given.strategies.split(","):
        if strategy == "random" and domain.values is not None:
            continue
        with Progress(console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task(f"{domain.name} {strategy}", total=given.seeds * given.trials)
            runs = [
                search(spec, strategy, seed, given.trials, goal, lambda bar=bar: progress.advance(bar))  # type: ignore[misc]
                for seed in range(1, given.seeds + 1)
            ]
        reached = sorted(r["trials"] for r in runs if r["found"])
        best = sorted((abs(r["best"]) for r in runs), reverse=first.direction == "maximize")
        lines.append({
            "domain": domain.name, "strategy": strategy, "found": f"{len(reached)} of {len(runs)} in {given.trials}",
            "until": f"{statistics.median(reached):.0f} ({reached[0]} to {reached[-1]})" if reached else "",
            "best": f"{statistics.median(best):.5g} ({best[0]:.5g}, {best[-1]:.5g})",
            "ms": f"{statistics.median(r['ms'] for r in runs):.1f}",
        })  # fmt: skip
    return lines


if __name__ == "__main__":
    sys.exit(main())
