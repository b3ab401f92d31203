"""How few experiments the strategies need, side by side with other people's, on real experiments.

    make setup-peers && .venv/peers/bin/python benchmarks/decisions.py --data ../shared/data

Every section prints its table as it ends, and --out keeps it as Markdown. Runs on pools are kept in --keep, so that
the same command goes on where it was stopped; after a change of a strategy, name another file. Strategies that are not
installed are left out and said to be. Hyper-parameters were chosen on the pools of CHOSEN_ON alone; the figures that
count are those of REPORTED_ON.
"""

import argparse
import contextlib
import importlib.util
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from firstlight import app, backtest, core

CHOSEN_ON = (
    "alkox", "buchwald_a", "buchwald_b", "buchwald_c", "fullerenes", "liquid_dce", "liquid_water", "oer_plate_3496",
    "oer_plate_3851", "perovskite-stability", "suzuki", "cake",
)  # fmt: skip
REPORTED_ON = (
    "benzylation", "colors_bob", "colors_n9", "crossed-barrel-replicates", "lnp3", "p3ht-blend", "photo_pce10",
    "photo_wf3", "photodegradation", "snar", "suzuki_i", "suzuki_ii",
)  # fmt: skip
SUBSET = ("colors_n9", "snar", "suzuki_i")
"""The pools on which Ax is tried as well: it takes about a second a suggestion."""
SECTIONS = ("pools", "transfer", "failures", "batches", "objectives", "fidelities", "cost", "replay")
PEERS = {"optuna": "optuna", "baybe": "baybe", "ax": "ax", "botorch": "botorch"}
BUDGET = 60
Floats = np.ndarray


class Bench:
    """What all sections share: pools by name, kept runs, and where tables go."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.seeds, self.jobs, self.keep, self.out = args.seeds, args.jobs, args.keep, args.out
        describe = Path(__file__).parent / "pools"
        wanted = [*CHOSEN_ON, *REPORTED_ON]
        found = app.find_pools(args.data / "experiments", [describe], objectives="first", names=wanted)
        self.pools = {p.name: p for p in found.pools}
        several = app.find_pools(
            args.data / "experiments", [describe], names=["suzuki_i", "suzuki_ii", "reizman-suzuki-2"]
        )
        self.several = list(several.pools)
        self.peers = [name for name, module in PEERS.items() if importlib.util.find_spec(module)]
        self.tables: list[str] = []

    def runs(
        self,
        pools: Sequence[backtest.Pool],
        contenders: Sequence[str | backtest.Contender],
        settings: backtest.Settings,
        seeds: int = 0,
    ) -> dict[tuple[str, str], list[backtest.Run]]:
        """Every contender on every pool, by (pool, contender); what is kept is not run again."""
        who = [backtest.Contender(label=c, strategy=c) if isinstance(c, str) else c for c in contenders]
        todo = backtest.tasks(pools, who, range(1, (seeds or self.seeds) + 1), settings)
        found: dict[tuple[str, str], list[backtest.Run]] = {}
        with backtest.Keep(self.keep) as store:
            left = [t for t in todo if t.key not in store.runs]
            if left:
                with contextlib.closing(backtest.perform(left, pools, app.make_strategy, self.jobs)) as performing:
                    for n, ended in enumerate(performing, 1):
                        if isinstance(ended, backtest.Broken):
                            print(f"broken: {ended.task.contender.label}: {ended.message}")
                        else:
                            store.add(ended)
                        if n % 20 == 0 or n == len(left):
                            print(f"  {n} of {len(left)} runs", end="\r", flush=True)
                print(" " * 40, end="\r")
            for t in todo:
                if t.key in store.runs:
                    found.setdefault((pools[t.pool].name, t.contender.label), []).append(store.runs[t.key])
        return found

    def table(self, title: str, head: Sequence[str], lines: Iterable[Sequence[object]], *notes: str) -> None:
        """Print a table, and keep it."""
        rows = [[str(x) for x in line] for line in lines]
        wide = [max(len(r[i]) for r in [list(head), *rows]) for i in range(len(head))]
        print(f"\n{title}\n" + "  ".join(h.ljust(w) for h, w in zip(head, wide, strict=True)))
        for r in rows:
            print("  ".join(x.ljust(w) for x, w in zip(r, wide, strict=True)))
        print("\n".join(notes), flush=True)
        bar = "|" + "---|" * len(head)
        text = "\n".join("| " + " | ".join(r) + " |" for r in rows)
        self.tables.append(f"## {title}\n\n| {' | '.join(head)} |\n{bar}\n{text}\n\n" + "\n\n".join(notes) + "\n")
        if self.out:
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / "decisions.md").write_text("\n".join(self.tables))


def needed(pool: backtest.Pool, run: backtest.Run, share: float, fails: Floats | None = None) -> int:
    """Trials until a row of the best share (0: the best row) of the pool, one more than the budget where none was."""
    loss = pool.losses[:, 0].copy()
    if fails is not None:
        loss[fails] = np.nan
    ranked = np.sort(loss[np.isfinite(loss)])
    bar = ranked[max(1, int(np.ceil(share * len(ranked)))) - 1]
    return next((t for t, i in enumerate(run.rows, 1) if loss[i] <= bar), BUDGET + 1)


def quality(pool: backtest.Pool, run: backtest.Run) -> float:
    """Rank AUC: what share of the pool the best row so far beats, on average over the budget."""
    loss = pool.losses[:, 0]
    best = np.minimum.accumulate([loss[i] if np.isfinite(loss[i]) else np.inf for i in run.rows])
    curve = np.r_[best, np.full(BUDGET - len(best), best[-1])]
    return float(np.mean((loss[None] > curve[:, None]).sum(1) / (len(loss) - 1)))


def geometric(values: Sequence[int]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def interval(a: Sequence[int], b: Sequence[int], draws: int = 2000) -> tuple[float, float, float]:
    """Ratio of the geometric means of a to b, with its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    x, y = np.log(a), np.log(b)
    resampled = [rng.choice(x, len(x)).mean() - rng.choice(y, len(y)).mean() for _ in range(draws)]
    low, high = np.exp(np.quantile(resampled, [0.025, 0.975]))
    return float(np.exp(x.mean() - y.mean())), float(low), float(high)


def said(ratio: tuple[float, float, float]) -> str:
    return f"{ratio[0]:.2f} [{ratio[1]:.2f}, {ratio[2]:.2f}]"


def verdict(ratio: tuple[float, float, float]) -> str:
    return "fewer" if ratio[2] < 1 else "more" if ratio[1] > 1 else "tie"


# ------------------------------------------------------------------ sections


def pools(bench: Bench) -> None:
    """bayes, exact random search and the peers on every pool."""
    peers = [p for p in bench.peers if p in ("optuna", "baybe")]
    for title, names in (("reported on", REPORTED_ON), ("hyper-parameters chosen on", CHOSEN_ON)):
        chosen = [bench.pools[n] for n in names if n in bench.pools]
        # The peers were not tuned on anything: on the half that ours were chosen on there is nothing to compare.
        who = ["bayes", *(peers if names is REPORTED_ON else [])]
        found = bench.runs(chosen, who, backtest.Settings(budget=BUDGET))
        for share, aim in ((0.01, "the best 1 %"), (0.0, "the best row")):
            lines, ratios, sooner = [], [], []
            each: dict[str, list[float]] = {w: [] for w in who[1:]}
            for pool in chosen:
                taken = {w: [needed(pool, r, share) for r in found[pool.name, w]] for w in who}
                good = max(1, int(np.ceil(share * len(pool))))
                random = backtest.quantile_draws(len(pool), good, 0.5)
                line: list[object] = [pool.name, len(pool), f"{random:g}"]
                for w in who:
                    part = np.mean([t <= BUDGET for t in taken[w]])
                    line.append(f"{_median(taken[w])} ({geometric(taken[w]):.1f}; {part:.0%})")
                sooner.append(np.log(random / float(np.median(taken["bayes"]))))
                for w in who[1:]:
                    each[w].append(np.log(geometric(taken["bayes"]) / geometric(taken[w])))
                if len(who) > 1:
                    best = min(who[1:], key=lambda w: geometric(taken[w]))
                    ratio = interval(taken["bayes"], taken[best])
                    ratios.append(np.log(ratio[0]))
                    line += [said(ratio), best, verdict(ratio)]
                lines.append(line)
            extra = ["bayes / best peer [95 %]", "best peer", "needs"] if len(who) > 1 else []
            notes = [
                f"Median trials to {aim} within {BUDGET} (geometric mean, {BUDGET + 1} where not; share that did)."
            ]
            if ratios:
                notes.append(f"Geometric mean over the pools of the ratio to the best peer of each: {_over(ratios)}.")
            notes += [f"Of the ratio to {w}: {_over(logs)}." for w, logs in each.items()]
            notes.append(f"Median of exact random search over the median of bayes, geometric mean: {_over(sooner)}.")
            bench.table(f"Trials to {aim}, pools {title}", ["pool", "rows", "random", *who, *extra], lines, *notes)
        auc = [
            [w, f"{np.mean([quality(p, r) for p in chosen for r in found[p.name, w]]):.4f}",
             f"{1e3 * np.mean([np.mean(r.cpu) for p in chosen for r in found[p.name, w]]):.1f}"]
            for w in who
        ]  # fmt: skip
        bench.table(f"Rank AUC and CPU, pools {title}", ["strategy", "rank AUC", "CPU ms a suggestion"], auc)
    if "ax" in bench.peers:
        _with_ax(bench)


def _with_ax(bench: Bench) -> None:
    seeds = min(bench.seeds, 5)
    chosen = [bench.pools[n] for n in SUBSET if n in bench.pools]
    ours = bench.runs(chosen, ["bayes"], backtest.Settings(budget=BUDGET), seeds)
    theirs = bench.runs(chosen, ["ax"], backtest.Settings(budget=40), seeds)
    lines = []
    for pool in chosen:
        a = [min(needed(pool, r, 0.01), 41) for r in ours[pool.name, "bayes"]]
        b = [min(needed(pool, r, 0.01), 41) for r in theirs[pool.name, "ax"]]
        lines.append([pool.name, _median(a, 40), _median(b, 40), said(interval(a, b)), verdict(interval(a, b))])
    note = f"{seeds} seeds, at most 40 trials."
    bench.table("Trials to the best 1 %, with Ax", ["pool", "bayes", "ax", "bayes / ax", "needs"], lines, note)


def transfer(bench: Bench) -> None:
    """Sibling reactions, as they were and made useless or misleading."""
    chosen = [bench.pools[n] for n in ("buchwald_a", "buchwald_b", "buchwald_c")]
    cold = bench.runs(chosen, ["bayes"], backtest.Settings(budget=BUDGET))
    lines = []
    for share, aim in ((0.05, "best 5 %"), (0.01, "best 1 %")):
        base = [needed(p, r, share) for p in chosen for r in cold[p.name, "bayes"]]
        lines.append([aim, "cold bayes", f"{geometric(base):.1f}", "1", "", ""])
        for kind in ("true", "shuffled", "inverted"):
            settings = backtest.Settings(budget=BUDGET, earlier=100, earlier_as=kind)
            found = bench.runs(chosen, ["transfer"], settings)
            taken = [needed(p, r, share) for p in chosen for r in found[p.name, "transfer"]]
            each = "  ".join(
                f"{geometric([needed(p, r, share) for r in found[p.name, 'transfer']]):.1f}" for p in chosen
            )
            lines.append(
                [aim, f"transfer, siblings {kind}", f"{geometric(taken):.1f}", said(interval(taken, base)), each]
            )
            lines[-1].append(verdict(interval(taken, base)))
    head = ["aim", "strategy", "trials (geometric mean)", "ratio to cold [95 %]", "Buchwald a  b  c", "needs"]
    bench.table("Transfer from sibling reactions, 100 trials of each", head, lines)


def failures(bench: Bench) -> None:
    """A hidden region of 30 % of a pool always fails."""
    chosen = [bench.pools[n] for n in REPORTED_ON if n in bench.pools]
    peers = [p for p in bench.peers if p == "optuna"]
    found = bench.runs(chosen, ["bayes", *peers], backtest.Settings(budget=BUDGET, hide=0.3, full=True))
    lines = []
    for w in ("bayes", *peers):
        wasted, reached = [], []
        for pool in chosen:
            for r in found[pool.name, w]:
                fails = backtest.hidden(pool, 0.3, r.seed)
                wasted.append(sum(v is None for v in r.values))
                reached.append(needed(pool, r, 0.01, fails) <= BUDGET)
        lines.append([w, f"{np.mean(wasted):.1f}", f"{np.mean(reached):.1%}", len(wasted)])
    head = ["strategy", f"wasted of {BUDGET}", "found the best 1 % of the rest", "runs"]
    bench.table("30 % of every pool hidden as failing", head, lines)


def batches(bench: Bench) -> None:
    """Eight at a time against one at a time."""
    chosen = [bench.pools[n] for n in REPORTED_ON if n in bench.pools]
    lines = []
    for start in ("each strategy's own start", "both with eight space-filling points"):
        made = {}
        for q in (1, 8):
            options: dict[str, object] = {} if start.startswith("each") else {"initial": 8}
            who = backtest.Contender(label="bayes", strategy="bayes", options=options)
            found = bench.runs(chosen, [who], backtest.Settings(budget=BUDGET, count=q))
            made[q] = {p.name: geometric([needed(p, r, 0.01) for r in found[p.name, "bayes"]]) for p in chosen}
        lines.append([start, _over([np.log(made[8][p.name] / made[1][p.name]) for p in chosen])])
    bench.table("Trials to the best 1 % eight at a time, to one at a time", ["start", "ratio [95 %]"], lines)


def objectives(bench: Bench) -> None:
    """Hypervolume share after 40 trials, beside BoTorch's qLogNEHVI."""
    who = ["bayes", *(p for p in bench.peers if p == "botorch"), "random"]
    seeds = min(bench.seeds, 5)
    settings = backtest.Settings(budget=40, full=True)
    found = bench.runs(bench.several, who, settings, seeds)
    contenders = [backtest.Contender(label=w, strategy=w) for w in who]
    every = [r for runs in found.values() for r in runs]
    compared = backtest.compare(bench.several, contenders, every, settings)
    lines = [[c.pool, c.contender, backtest.said(c.quality), f"{1e3 * c.cpu:.0f}"] for c in compared.cells]
    head = ["pool", "strategy", "mean share of the hypervolume over 40 trials [95 %]", "CPU ms a suggestion"]
    bench.table("Several objectives", head, lines, f"{seeds} seeds; 1 is the hypervolume of the whole pool's front.")


def fidelities(bench: Bench) -> None:
    """Cost to the target with a source that costs a tenth, one that informs and one that does not."""
    lines = []
    for name, (d, target, cheap, bar) in PROBLEMS.items():
        taken = {
            several: [_cost(d, target, cheap, bar, several, s) for s in range(bench.seeds)] for several in (False, True)
        }
        ratio = _ratio(taken[True], taken[False])
        lines.append([name, f"{np.median(taken[False]):.1f}", f"{np.median(taken[True]):.1f}", said(ratio)])
    head = ["problem", "the target alone", "two sources", "ratio [95 %]"]
    bench.table("Cost to the target value (a trial by the target costs 1, by the other source 0.1)", head, lines)


def cost(bench: Bench) -> None:
    """CPU milliseconds a suggestion."""
    who = ["bayes", *(p for p in bench.peers if p != "botorch")]
    lines = []
    for d in (5, 20):
        for n in (10, 100, 1000, 5000):
            line: list[object] = [d, n]
            for w in who:
                slow = (w == "ax" and n > 100) or (w == "baybe" and n > 1000)
                line.append("not tried" if slow else f"{_milliseconds(w, d, n):.1f}")
            lines.append(line)
    bench.table("CPU milliseconds a suggestion, numbers in a box", ["dimensions", "observations", *who], lines)


def replay(bench: Bench) -> None:
    """The same seeds choose the same rows again."""
    chosen = [bench.pools[n] for n in ("snar", "suzuki_i", "colors_n9", "buchwald_a")]
    same = total = 0
    for pool in chosen:
        for seed in (1, 2):
            settings = backtest.Settings(budget=25)
            rows = [backtest.run(pool, app.make_strategy("bayes", {}), seed, settings).rows for _ in range(2)]
            same, total = same + (rows[0] == rows[1]), total + 1
    bench.table("Replay", ["runs", "the same rows again"], [[total, same]])


# ------------------------------------------------------------------ arithmetic


def _median(taken: Sequence[int], budget: int = BUDGET) -> str:
    middle = float(np.median(taken))
    return f">{budget}" if middle > budget else f"{middle:g}"


def _over(logs: Sequence[float]) -> str:
    rng = np.random.default_rng(0)
    x = np.array(logs)
    low, high = np.exp(np.quantile([rng.choice(x, len(x)).mean() for _ in range(4000)], [0.025, 0.975]))
    return f"{np.exp(x.mean()):.2f} [{low:.2f}, {high:.2f}]"


def _ratio(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    rng = np.random.default_rng(0)
    x, y = np.log(a), np.log(b)
    found = np.exp(np.quantile([(rng.choice(x - y, len(x))).mean() for _ in range(2000)], [0.025, 0.975]))
    return float(np.exp((x - y).mean())), float(found[0]), float(found[1])


def _branin(u: Floats) -> float:
    x, y = 15 * u[0] - 5, 15 * u[1]
    bowl = (y - 5.1 / (4 * np.pi**2) * x * x + 5 / np.pi * x - 6) ** 2
    return float(bowl + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10)


def _hartmann(u: Floats, shift: float = 0.0) -> float:
    a = np.array(
        [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
    )
    c = np.array([[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
                  [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]]) / 1e4  # fmt: skip
    weights = np.array([1.0, 1.2, 3.0, 3.2]) - shift * np.array([0.1, -0.1, -1.0, 1.0])
    return -float(weights @ np.exp(-(a * (u - c) ** 2).sum(1)))


Function = Callable[[Floats], float]
PROBLEMS: dict[str, tuple[int, Function, Function, float]] = {
    "Branin, the cheap one tilted": (2, _branin, lambda u: _branin(u) + 5 * u[0], 0.398 + 0.2),
    "Hartmann-6, the cheap one with other weights": (6, _hartmann, lambda u: _hartmann(u, 1.0), -3.322 + 0.3),
    "Branin, the cheap one unrelated": (
        2, _branin, lambda u: float(40 * np.sin(21.7 * u.sum()) + 40 * np.cos(11 * u[0])), 0.398 + 0.2,
    ),
}  # fmt: skip


def _cost(d: int, target: Function, cheap: Function, bar: float, several: bool, seed: int, most: float = 60.0) -> float:
    numbers: tuple[core.Parameter, ...] = tuple(core.Continuous(name=f"x{i}", low=0, high=1) for i in range(d))
    fidelity = core.Fidelity(
        parameter="by", target="lab", sources=(core.Source(value="model", cost=0.1), core.Source(value="lab", cost=1.0))
    )
    spec = core.CampaignSpec(
        id="c", procedure=core.ProcedureSpec(steps=()),
        goal=core.Goal(objectives=(core.Objective(observable="y", direction="minimize"),)),
        parameters=(*numbers, core.Categorical(name="by", values=("model", "lab"))) if several else numbers,
        fidelity=fidelity if several else None,
    )  # fmt: skip
    strategy, rows, spent = app.make_strategy("bayes", {}), list[core.Row](), 0.0
    while spent < most:
        (p,) = strategy.propose(spec, core.Results(rows=tuple(rows)), 1, 1000 * seed + len(rows))
        u = np.array([float(p.point[q.name]) for q in numbers])
        lab = p.point.get("by", "lab") == "lab"
        value = target(u) if lab else cheap(u)
        spent += 1.0 if lab else 0.1
        seen = (core.Observation(observable="y", value=value),)
        rows.append(core.Row(trial=str(len(rows)), point=p.point, observations=seen))
        if lab and value <= bar:
            return spent
    return most + 1.0


def _milliseconds(name: str, d: int, n: int) -> float:
    names = [f"x{i}" for i in range(d)]
    spec = core.CampaignSpec(
        id="c", parameters=tuple(core.Continuous(name=x, low=0.0, high=1.0) for x in names),
        goal=core.Goal(objectives=(core.Objective(observable="y", direction="maximize"),)),
        procedure=core.ProcedureSpec(steps=()),
    )  # fmt: skip
    x = np.random.default_rng(0).random((n + 4, d))
    y = np.sin(3.0 * x).sum(1)
    rows = [
        core.Row(trial=str(i), point=dict(zip(names, map(float, u), strict=True)),
                 observations=(core.Observation(observable="y", value=float(v)),))
        for i, (u, v) in enumerate(zip(x, y, strict=True))
    ]  # fmt: skip
    strategy, spent = app.make_strategy(name, {}), []
    for more in range(4 if name == "bayes" or n <= 100 else 2):
        began = time.process_time()
        strategy.propose(spec, core.Results(rows=rows[: n + more]), 1, more)
        spent.append(1e3 * (time.process_time() - began))
    return float(np.median(spent[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="where experiments/ is")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"some of {','.join(SECTIONS)}")
    parser.add_argument("--keep", type=Path, default=Path("decisions-runs.jsonl"))
    parser.add_argument("--out", type=Path, help="where decisions.md is written")
    args = parser.parse_args()
    wanted = args.only.split(",")
    if unknown := [s for s in wanted if s not in SECTIONS]:
        parser.error(f"there is no section {', '.join(unknown)}: use some of {', '.join(SECTIONS)}")
    if not (args.data / "experiments").is_dir():
        parser.error(f"there is no directory {args.data / 'experiments'}")
    bench = Bench(args)
    if absent := [p for p in PEERS if p not in bench.peers]:
        print(f"not installed, and left out: {', '.join(absent)}")
    for section in wanted:
        globals()[section](bench)


if __name__ == "__main__":
    main()
