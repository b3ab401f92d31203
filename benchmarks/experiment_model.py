"""How many experiments a model pre-trained on earlier campaigns saves, and what a wrong one costs.

    make setup-peers && .venv/peers/bin/python benchmarks/experiment_model.py --data ../shared/data

Reactions of a synthetic family: an archive (half random, half climbed by an optimiser), and campaigns that are not in
it. Sibling reactions from real experiments: two are learned from, the third is tried. What counts is experiments to
95 % of the way from the median of the pool to its best. Runs are kept in --keep, so that the same command goes on where
it was stopped; after a change of a strategy, name another folder. What is not installed is left out and said to be.
"""

import argparse
import importlib.util
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from firstlight import app, backtest, core
from firstlight.catalog._export import export
from firstlight.models._family import Examples, Item
from firstlight.models._spec import Training
from firstlight.models._weights import write_weights
from firstlight.models.experiment import Experiment
from firstlight.testing import reactions

BUDGET, POOL, TRIALS = 26, 512, 40
METHODS = (
    "random", "bayes", "botorch", "transfer", "pretrained", "pretrained, wrong archive", "pretrained transformer",
    "pretrained transformer, wrong archive",
)  # fmt: skip
"""`pretrained` is with a Gaussian process, the first kind of model, where it does not say otherwise."""
AMONG_SIBLINGS = ("random", "bayes", "transfer", "pretrained")
HOW: Mapping[str, Training] = {
    "gp": Training(steps=400, batch=24, learning_rate=1e-2, weight_decay=0.3, average=0.98, validate=20),
    "transformer": Training(
        steps=1500, batch=8, learning_rate=3e-3, warmup=50, weight_decay=0.1, average=0.99, validate=75
    ),
}
OPTIONS: Mapping[str, Mapping[str, object]] = {"gp": {}, "transformer": {"width": 64, "depth": 3, "synthetic": 0.5}}
SIBLINGS = ("buchwald_a", "buchwald_b", "buchwald_c")
EARLIER = 8
"""So many campaigns of the archive `transfer` is given: it fits a surrogate to each."""
GOALS = (3.0, 1.1)
Task = tuple[str, int, int, str]
"""Section, seed, number of the campaign, method."""


# ------------------------------------------------------------------ models


def trained(folder: Path, archive: Sequence[core.Earlier], kind: str, seed: int, steps: int = 0) -> Path:
    """A release that has learned from an archive; the one there, where there is one.

    A transformer learns from what a Gaussian process of the same archive expects, besides.
    """
    if (folder / "config.json").exists():
        return folder
    from firstlight.models import _loop
    from firstlight.models._workers import workers

    parent = None
    if kind == "transformer":
        parent = trained(folder.with_name(folder.name.replace(kind, "gp")), archive, "gp", seed, steps)
    folder.mkdir(parents=True, exist_ok=True)
    family, items, files = Experiment(kind=kind, **OPTIONS[kind]), list[Item](), list[Path]()
    for e in archive:
        files.append(folder / f"{e.campaign}.parquet")
        export(e.spec, e.rows, "parquet", files[-1])
        items.append(Item(dataset=e.campaign, path="trials.parquet", digest="", size=0, group=e.campaign))
    examples = family.read(items, files)
    held, learned = _halved(examples, seed)
    learner, began = family.begin(learned, held, parent, seed), time.process_time()
    how = replace(HOW[kind], seed=seed, steps=steps or HOW[kind].steps)
    with workers(folder / ".meeting") as crew:
        found = _loop.train(learner, how, crew, report=_progress)
    write_weights(folder / "model.safetensors", {n: t.numpy() for n, t in found.weights.items()})
    (folder / "config.json").write_text(json.dumps({"family": "experiment", "config": learner.config()}))
    best = f"nll {found.best.validation:.3f} on {len(held)} others (step {found.best.step} of {how.steps})"
    print(f"\r  learned from {len(learned)} campaigns in {time.process_time() - began:.0f} s CPU: {best}", flush=True)
    return folder


def _progress(told: Mapping[str, Any]) -> None:
    if sys.stdout.isatty():
        print(f"\r  step {told['step']} of {told['steps']}, nll {told['validation']:.3f} ", end="", flush=True)


def model_of(method: str, section: str, seed: int) -> tuple[str, str, bool]:
    """The folder of the model that a method uses, its kind, and whether its archive is a wrong one."""
    kind, wrong = "transformer" if "transformer" in method else "gp", "wrong" in method
    return f"{section}-{seed}-{kind}-{'wrong' if wrong else 'right'}", kind, wrong


def _halved(examples: Examples, seed: int) -> tuple[Examples, Examples]:
    order = np.random.default_rng(seed).permutation(len(examples))
    cut = max(2, len(examples) // 7)
    return examples.only(order[:cut].tolist()), examples.only(order[cut:].tolist())


@lru_cache(maxsize=8)
def loaded(folder: Path) -> Any:
    return core.LoadedModel(version=folder.name, of=Experiment().load(folder))


# ------------------------------------------------------------------ campaigns


@lru_cache(maxsize=256)
def campaign(seed: int, number: int) -> tuple[core.CampaignSpec, np.ndarray, np.ndarray]:
    """A reaction that is worth something (a best profit of at least 0.25): its pool, profits and noise."""
    pool = np.random.default_rng([seed, 7]).random((POOL, len(reactions.PARAMETERS)))
    kept, at = -1, 0
    while True:
        rng = np.random.default_rng([seed, 99, at])
        profits = reactions.profit(reactions.reaction(rng), pool)
        kept, at = kept + bool(profits.max() >= 0.25), at + 1
        if kept == number:
            break
    spec = reactions.specification(f"new{seed}-{number}", pool)
    return spec, profits, reactions.NOISE * rng.standard_normal(POOL)


def needed(
    strategy: core.Strategy, spec: core.CampaignSpec, value: np.ndarray, noise: np.ndarray, seed: int, budget: int,
    **known: Any,
) -> int:  # fmt: skip
    """Experiments to 95 % of (optimum - median), one more than the budget where it is not reached."""
    assert spec.pool is not None
    (o,), places = spec.goal.objectives, {row: i for i, row in enumerate(spec.pool.rows)}
    bar, rows = np.median(value) + 0.95 * (value.max() - np.median(value)), list[core.Row]()
    while len(rows) < budget:
        (p,) = strategy.propose(spec, core.Results(rows=tuple(rows), **known), 1, 10_000 * seed + len(rows))
        i = places[tuple(p.point[c] for c in spec.pool.columns)]
        if value[i] >= bar:
            return len(rows) + 1
        seen = core.Observation(observable=o.observable, value=float(value[i] + noise[i]), unit=o.unit)
        rows.append(core.Row(trial=str(len(rows)), point=p.point, observations=(seen,)))
    return budget + 1


def perform(job: tuple[Task, Mapping[str, Any]]) -> tuple[Task, int, float]:
    """One task: how many experiments, and CPU seconds each."""
    (section, seed, number, method), told = job
    began = time.process_time()
    name, known = method.split(",")[0].split()[0], dict[str, Any]()
    if section == "reactions":
        spec, value, noise = campaign(seed, number)
    else:
        spec, value = sibling(told["data"], section)
        noise = np.zeros(len(value))
    if name == "pretrained":
        strategy = app.make_strategy("pretrained", {"model": "m"})
        known["models"] = {"m": loaded(Path(told["models"]) / model_of(method, section, seed)[0])}
    else:
        strategy = app.make_strategy(name, {})
    if name == "transfer":
        known["earlier"] = tuple(_earlier(told["data"], section, seed))
    taken = needed(strategy, spec, value, noise, 1000 * seed + number, told["budget"][section], **known)
    return (section, seed, number, method), taken, (time.process_time() - began) / min(taken, told["budget"][section])


# ------------------------------------------------------------------ siblings


@lru_cache(maxsize=4)
def pools(data: str) -> Mapping[str, backtest.Pool]:
    describe = Path(__file__).parent / "pools"
    found = app.find_pools(Path(data) / "experiments", [describe], objectives="first", names=list(SIBLINGS))
    return {p.name: p for p in found.pools}


def sibling(data: str, name: str) -> tuple[core.CampaignSpec, np.ndarray]:
    """A real reaction as a campaign, and what was measured at each row of its pool (greater is better)."""
    pool = pools(data)[name]
    return pool.spec, -pool.losses[:, 0]


def siblings(data: str, name: str, seed: int, campaigns: int) -> list[core.Earlier]:
    """Campaigns of 40 random trials each on the other reactions."""
    found = []
    for other in SIBLINGS:
        if other == name:
            continue
        spec, value = sibling(data, other)
        assert spec.pool is not None
        points = spec.pool.points()
        (o,) = spec.goal.objectives
        for k in range(campaigns):
            rng = np.random.default_rng([seed, SIBLINGS.index(other), k])
            chosen = rng.choice(len(points), TRIALS, replace=False)
            rows = tuple(
                core.Row(trial=str(i), point=points[i], observations=(
                    core.Observation(observable=o.observable, value=float(value[i]), unit=o.unit),))
                for i in chosen
            )  # fmt: skip
            found.append(core.Earlier(campaign=f"{other}-{k}", spec=spec, rows=rows))
    return found


def _earlier(data: str, section: str, seed: int) -> list[core.Earlier]:
    if section == "reactions":
        return reactions.earlier(seed, EARLIER, TRIALS)
    return siblings(data, section, seed, EARLIER // 2)


# ------------------------------------------------------------------ tables


def done(keep: Path) -> dict[Task, tuple[int, float]]:
    file = keep / "runs.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return {tuple(task): (taken, cpu) for task, taken, cpu in map(json.loads, lines)}


def ratio(a: Mapping[tuple[int, int], int], b: Mapping[tuple[int, int], int]) -> tuple[float, float, float]:
    """Mean of a over that of b on the campaigns that both tried, with a bootstrap 95 % interval over campaigns."""
    both = sorted(a.keys() & b.keys())
    x, y = np.array([a[k] for k in both]), np.array([b[k] for k in both])
    rng = np.random.default_rng(0)
    drawn = [x[i].mean() / y[i].mean() for i in (rng.integers(len(x), size=len(x)) for _ in range(2000))]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(x.mean() / y.mean()), float(low), float(high)


def table(title: str, runs: Mapping[Task, tuple[int, float]], section: str, budget: int) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| strategy | experiments, mean [95 %] | median | reached | to bayes [95 %] | runs | CPU ms a suggestion |"
    yield "|---|---|---|---|---|---|---|"
    by = {m: {(s, n): r[0] for (sec, s, n, who), r in runs.items() if sec == section and who == m} for m in METHODS}
    rng = np.random.default_rng(0)
    for method, taken in by.items():
        if not taken:
            continue
        x = np.array(list(taken.values()))
        low, high = np.quantile([rng.choice(x, len(x)).mean() for _ in range(2000)], [0.025, 0.975])
        to = "{:.2f} [{:.2f}, {:.2f}]".format(*ratio(taken, by["bayes"])) if by["bayes"].keys() & taken.keys() else ""
        cpu = np.mean([r[1] for (sec, _, _, who), r in runs.items() if sec == section and who == method])
        yield (f"| {method} | {x.mean():.1f} [{low:.1f}, {high:.1f}] | {np.median(x):g} | {np.mean(x <= budget):.0%} "
               f"| {to} | {len(x)} | {1e3 * cpu:.0f} |")  # fmt: skip
    yield f"\nNot reached within {budget} counts as {budget + 1}.\n"
    for name in ("pretrained", "pretrained transformer") if section == "reactions" and by["bayes"] else ():
        if by[name]:
            fewer, low, high = ratio(by["bayes"], by[name])
            yield (f"{name}: {fewer:.1f} times fewer than bayes [{low:.1f}, {high:.1f}] (goal: {GOALS[0]:g}): "
                   f"{'met' if fewer >= GOALS[0] else 'NOT met'}.")  # fmt: skip
        if by[f"{name}, wrong archive"]:
            more, low, high = ratio(by[f"{name}, wrong archive"], by["bayes"])
            yield (f"{name}, wrong archive: {more:.2f} times as many as bayes [{low:.2f}, {high:.2f}] (goal: at most "
                   f"{GOALS[1]:g}): {'met' if more <= GOALS[1] else 'NOT met'}.")  # fmt: skip
    yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="where experiments/ is; without it only the synthetic family")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--campaigns", type=int, default=30, help="new campaigns a seed")
    parser.add_argument("--archive", type=int, default=150, help="earlier campaigns")
    parser.add_argument("--kinds", default="gp,transformer", help="of models: one of them, or both")
    parser.add_argument("--steps", type=int, default=0, help="of training; 0: as many as is usual for a kind")
    parser.add_argument("--repeats", type=int, default=10, help="runs a sibling reaction and seed")
    parser.add_argument("--methods", default=";".join(METHODS), help="some of them, with ; between")
    parser.add_argument("--only", default="reactions,siblings")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=Path("experiment-model-runs"))
    parser.add_argument("--out", type=Path, help="a Markdown file")
    parser.add_argument("--quick", action="store_true", help="one seed, six campaigns, a smaller archive")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.campaigns, args.archive, args.steps, args.repeats = 1, 6, 60, 200, 2
    methods = args.methods.split(";")
    if unknown := set(methods) - set(METHODS):
        parser.error(f"there is no {', '.join(unknown)}: use some of {'; '.join(METHODS)}")
    methods = [m for m in methods if "pretrained" not in m or model_of(m, "", 0)[1] in args.kinds.split(",")]
    if importlib.util.find_spec("botorch") is None and "botorch" in methods:
        print("botorch is not installed, and left out")
        methods.remove("botorch")
    wanted = [("reactions",)] if "reactions" in args.only else []
    if args.data and "siblings" in args.only:
        wanted += [(name,) for name in SIBLINGS]
    args.keep.mkdir(parents=True, exist_ok=True)
    tasks: list[Task] = []
    for seed in range(args.seeds):
        for (section,) in wanted:
            for method in methods:
                if "pretrained" not in method or (section != "reactions" and method not in AMONG_SIBLINGS):
                    continue
                folder, kind, wrong = model_of(method, section, seed)
                if (args.keep / folder / "config.json").exists():
                    continue
                print(f"{section}, seed {seed}, {'wrong' if wrong else 'right'} archive, {kind}", flush=True)
                archive = (reactions.earlier(seed, args.archive, TRIALS, wrong) if section == "reactions"
                           else siblings(str(args.data), section, seed, 12))  # fmt: skip
                trained(args.keep / folder, archive, kind, seed, args.steps)
    for (section,) in wanted:
        # Campaign by campaign, so that what is there when it is stopped compares.
        for number in range(args.campaigns if section == "reactions" else args.repeats):
            for seed in range(args.seeds):
                tasks += [(section, seed, number, m) for m in methods
                          if section == "reactions" or m in AMONG_SIBLINGS]  # fmt: skip
    runs = done(args.keep)
    budgets = {"reactions": BUDGET} | dict.fromkeys(SIBLINGS, 60)
    told = {"models": str(args.keep), "data": str(args.data), "budget": budgets}
    left = [(t, told) for t in tasks if t not in runs]
    with multiprocessing.get_context("spawn").Pool(args.jobs) as crew, (args.keep / "runs.jsonl").open("a") as file:
        for n, (task, taken, cpu) in enumerate(crew.imap_unordered(perform, left), 1):
            runs[task] = (taken, cpu)
            file.write(json.dumps([task, taken, cpu]) + "\n")
            file.flush()
            if n % 20 == 0 or n == len(left):
                print(f"  {n} of {len(left)} runs", flush=True)
    asked = {t: runs[t] for t in tasks if t in runs}
    lines = []
    for (section,) in wanted:
        title = f"{args.archive} earlier campaigns" if section == "reactions" else "learned from its two siblings"
        lines += list(table(f"{section}: {title}", asked, section, budgets[section]))
    print("\n" + "\n".join(lines))
    if args.out:
        args.out.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
