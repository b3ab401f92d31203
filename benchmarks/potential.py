"""Errors of a potential against how many structures were labelled, and which.

    OMP_NUM_THREADS=1 python benchmarks/potential.py --keep DIR [--out FILE] [--part fine|choice|long|even] [--quick]

Clusters of alloys, labelled by effective medium theory (see _clusters.py, which says what is in the pool and the test).

fine    CHGNet fine-tuned, from scratch and as it comes; fine-tuned with what keeps it from forgetting, too, each with
        the probe of what it forgot.
choice  Labels chosen by `next_labels` against labels drawn at random, and against a person's rule, as many of each run:
        of what a laboratory has on its disks, judged by what it wants. The first labels are drawn at random every time;
        then the potential that was trained on those that there are asks for as many again, and so on.
long    The same of a laboratory whose runs at 300 K were four times as long, so that more of what it has is alike.
even    The same of a pool that is drawn exactly as the test is, so that nothing in it is rare.

Every network is trained from CHGNet's own weights. What --keep has already is not computed again; each line tells how
much is left.
"""

from __future__ import annotations

import argparse
import json
import pickle
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _clusters import WORKED_ON, archive, wanted

from firstlight.models._family import Examples
from firstlight.models._potential_data import formula, key, labelled_of
from firstlight.models.labels import next_labels
from firstlight.models.potential import Potential, from_wheel

ERRORS = {"force_mae": "force error", "energy_mae": "energy error", "force_mae_worst": "force error of the worst tenth"}
SAME = 0.02
WAYS_TO_CHOOSE = ("random", "chosen", "by run")
Scores = dict[str, float]
Fit = Callable[[Path], Scores]


def examples(images: Sequence[Any]) -> Examples:
    of = [labelled_of(atoms) for atoms in images]
    return Examples(of, [formula(atoms) for atoms in images], [key(s) for s in of])


def fit(
    family: Potential, train: Sequence[Any], validation: Sequence[Any], folder: Path, steps: int, rate: float,
    seed: int = 0,
) -> Path:  # fmt: skip
    """Train as the platform's loop does (AdamW, cosine, clipping), for a fixed number of steps; its release folder."""
    import torch
    from safetensors.torch import save_file

    learnable = family.begin(examples(train), examples(validation), None, seed)
    trained = [p for n, p in learnable.module.named_parameters() if n not in learnable.frozen]
    optimiser = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    rng = np.random.default_rng(seed)
    for step in range(steps):
        optimiser.zero_grad()
        learnable.loss(rng.choice(len(train), min(4, len(train)), replace=False).tolist(), step).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
    learnable.validate()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {k: t.contiguous().clone() for k, t in learnable.module.state_dict().items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps({"options": {}, "config": learnable.config()}))
    return folder


class Bench:
    """What is kept in a folder: structures and scores by name. What is there is not computed again."""

    def __init__(self, folder: Path, args: argparse.Namespace, fits: int) -> None:
        self.folder, self.args, self.fits, self.done = folder, args, fits, 0
        self.seconds = list[float]()

    def images(self, name: str, make: Callable[[], Any]) -> Any:
        """Structures, which nobody but this program writes there."""
        path = self.folder / f"{name}.pickle"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pickle.dumps(make()))
        return pickle.loads(path.read_bytes())

    def scores(self, name: str, make: Fit) -> Scores:
        path = self.folder / name / "scores.json"
        if not path.exists():
            began = time.perf_counter()
            scores = make(self.folder / name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(scores))
            self.seconds.append(time.perf_counter() - began)
        self.done += 1
        scores = dict(json.loads(path.read_text()))
        left = (self.fits - self.done) * float(np.mean(self.seconds or [0.0])) / 60
        said = "  ".join(f"{k} {scores[k]:.1f}" for k in ("force_mae", "energy_mae", "probe_force") if k in scores)
        print(f"{self.done}/{self.fits}  {name:<24}{said}  (about {left:.0f} min left)", flush=True)
        return scores

    def trained(self, train: Sequence[Any], test: Examples, start: str = "chgnet-0.3.0", steps: int = 0,
                **options: Any) -> Fit:  # fmt: skip
        def make(folder: Path) -> Scores:
            family, wheel = Potential(start=start, **options), self.folder / "wheel"
            held = self.images("validation", lambda: wanted(902, 1, WORKED_ON)[:: len(WORKED_ON) // 2])
            rate = 2e-3 if start == "scratch" else self.args.rate
            fit(family, train, held, folder, steps or self.args.steps, rate)
            if not (wheel / "config.json").exists():
                from_wheel("chgnet-0.3.0", wheel)
            lost = family.forgetting(folder, wheel) if steps and start != "scratch" else {}
            return family.evaluate(folder, test) | lost

        return make


# ------------------------------------------------------------------ fine-tuned, from scratch, as it comes


def fine(bench: Bench, sizes: Sequence[int]) -> list[str]:
    steps = bench.args.fine_steps
    pool = bench.images("fine", lambda: shuffled(wanted(1, 2), 1))
    test = examples(bench.images("test", lambda: wanted(900, bench.args.each)))
    base = Potential().baselines(examples(pool[: sizes[-1]]), test)
    rows: list[tuple[str, int, Scores]] = [(name, 0, scores) for name, scores in base.items()]
    for name, start, options in WAYS:
        for size in sizes if not options else sizes[-1:]:
            how = bench.trained(pool[:size], test, start, steps, **options)
            rows.append((name, size, bench.scores(f"{name} {size}", how)))
    lines = [
        "", f"| clusters, {steps} steps | structures | force, meV/A | energy, meV/atom | forgot: force, energy |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    for name, size, s in rows:
        lost = f"{s['probe_force']:.0f}, {s['probe_energy']:.0f}" if "probe_force" in s else "-"
        lines.append(f"| {name} | {size or '-'} | {s['force_mae']:.0f} | {s['energy_mae']:.0f} | {lost} |")
    return lines


WAYS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("fine-tuned", "chgnet-0.3.0", {}),
    ("fine-tuned, replay 0.5", "chgnet-0.3.0", {"replay": 0.5}),
    ("from scratch", "scratch", {}),
)


def shuffled(images: Sequence[Any], seed: int) -> list[Any]:
    return [images[i] for i in np.random.default_rng(seed).permutation(len(images))]


# ------------------------------------------------------------------ chosen, drawn at random, by a person's rule


def compared(bench: Bench, part: str, ways: Sequence[str], sizes: Sequence[int], seeds: int) -> list[str]:
    test = examples(bench.images("test", lambda: wanted(900, bench.args.each)))
    found: dict[str, list[list[Scores]]] = {way: [] for way in ways}
    size_of_pool = 0
    for way in ways:
        for seed in range(seeds):
            pool = pool_of(bench, part, seed)
            order = np.random.default_rng([seed, 2]).permutation(len(pool[0])).tolist()
            size_of_pool, scores, have, before = len(order), list[Scores](), list[int](), Path()
            # Of chance alone it must be known how well it does with more.
            for size in sizes if way == "random" else sizes[:-1]:
                # All ways have the beginning in common.
                name = f"{part} {way} {size} seed {seed}" if have else f"{part} {size} seed {seed}"
                how = way if have else "random"
                new = partial(more, how, size - len(have), have, order, pool, before)
                have = [*have, *bench.images(f"{name} new", new)]
                scores.append(bench.scores(name, bench.trained([pool[0][i] for i in have], test)))
                before = bench.folder / name
            found[way].append(scores)
    return told(bench.args, part, sizes, found, size_of_pool)


def pool_of(bench: Bench, part: str, seed: int) -> tuple[list[Any], list[str]]:
    """Structures, and of which run each is."""
    if part == "even":
        images, runs = bench.images(f"even {seed}", lambda: (wanted(seed, 7), [""] * 252))
    else:
        frames = {"choice": 50, "long": 200}[part]
        images, runs = bench.images(f"archive {frames} {seed}", lambda: archive(seed, frames))
    return images[:: bench.args.thin], runs[:: bench.args.thin]


def more(
    way: str, count: int, have: Sequence[int], order: Sequence[int], pool: tuple[list[Any], list[str]], release: Path
) -> list[int]:  # fmt: skip
    """The numbers of structures to label next. The release is what was trained on those that are labelled."""
    (images, runs), rest = pool, [i for i in order if i not in set(have)]
    if way == "random":
        return rest[:count]
    if way == "chosen":
        best = next_labels(release, [images[i] for i in rest], count, [images[i] for i in have])
        return [rest[i] for i in best]
    found = list[int]()
    while len(found) < count:  # Each from a run of which there are fewest so far.
        known = Counter(runs[i] for i in (*have, *found))
        found.append(min((i for i in rest if i not in found), key=lambda i: known[runs[i]]))
    return found


def needed(sizes: Sequence[int], errors: Sequence[float], target: float) -> float:
    """With how many labels an error is reached: between numbers of labels, by both in logarithms; inf where never.

    Errors that differ by less than SAME are the same: they differ by more from one seed to another."""
    best, target = np.minimum.accumulate(errors), target * (1.0 + SAME)
    if best[-1] > target:
        return float("inf")
    return float(np.exp(np.interp(-np.log(target), -np.log(best), np.log(sizes))))


def told(
    args: argparse.Namespace, part: str, sizes: Sequence[int], found: dict[str, list[list[Scores]]], pool: int
) -> list[str]:
    seeds = len(found["random"])
    lines = [
        "", f"| {part}: of {pool}, {seeds} seeds, {args.steps} steps | labels | force, meV/A | energy, meV/atom "
        "| force of the worst tenth |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for way, runs in found.items():
        for at, size in enumerate(sizes[: len(runs[0])]):
            if at or way == "random":
                cells = [[run[at][name] for run in runs] for name in ERRORS]
                said = " | ".join(f"{np.mean(each):.0f} +- {np.std(each):.0f}" for each in cells)
                lines.append(f"| {way if at else 'the beginning'} | {size} | {said} |")
    for name, what in ERRORS.items():
        chance = [[scores[name] for scores in run] for run in found["random"]]
        mean = np.mean(chance, axis=0)
        for way in [w for w in found if w != "random"]:
            ratios = list[str]()
            for at, size in enumerate(sizes[1:-1], 1):
                # Chance is what it is on average; what it is held against is each seed's own error.
                each = [needed(sizes, mean, run[at][name]) / size for run in found[way]]
                whole = needed(sizes, mean, float(np.mean([run[at][name] for run in found[way]]))) / size
                ratios.append(f"{size}: {times(whole, sizes, size)} ({times(min(each), sizes, size)} to "
                            f"{times(max(each), sizes, size)})")  # fmt: skip
            lines.append(f"\nTimes the labels that chance needs for the same {what}, {way}, at {'; '.join(ratios)}")
    return lines


def times(ratio: float, sizes: Sequence[int], size: int) -> str:
    return f"over {sizes[-1] / size:.1f}" if ratio == float("inf") else f"{ratio:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two minutes: fewer steps, sizes and seeds")
    parser.add_argument(
        "--part", choices=("fine", "choice", "long", "even"), action="append", help="all, if none is named"
    )
    parser.add_argument("--keep", type=Path, help="where models and scores are kept, to go on with")
    parser.add_argument("--out", type=Path, help="write the tables there, as Markdown")
    parser.add_argument("--steps", type=int, default=2000, help="of all parts but fine")
    parser.add_argument("--fine-steps", type=int, default=300)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--ways", nargs="+", choices=WAYS_TO_CHOOSE, default=WAYS_TO_CHOOSE)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--each", type=int, default=3, help="of every kind of every alloy in the test")
    args = parser.parse_args()
    sizes, fine_sizes = [8, 16, 32, 64, 128], [8, 32]
    if "random" not in args.ways:
        parser.error("--ways: random must be among them, for the others are held against it")
    args.thin = 8 if args.quick else 1
    if args.quick:
        args.steps, args.fine_steps, args.seeds, args.each, sizes, fine_sizes = 5, 5, 1, 1, [4, 6, 8], [4]
    import torch

    torch.set_num_threads(1)
    parts = args.part or ["choice", "long", "even", "fine"]
    few, others = [way for way in args.ways if way != "by run"], len(sizes) - 1
    fits = {
        "choice": args.seeds * (len(sizes) + (len(args.ways) - 1) * others),
        **dict.fromkeys(("long", "even"), args.seeds * (len(sizes) + (len(few) - 1) * others)),
        "fine": sum(1 if options else len(fine_sizes) for _, _, options in WAYS),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args.keep or Path(folder), args, sum(fits[part] for part in parts))
        lines = list[str]()
        for part in parts:
            if part == "fine":
                lines += fine(bench, fine_sizes)
            else:
                lines += compared(bench, part, args.ways if part == "choice" else few, sizes, args.seeds)
            if args.out:
                args.out.write_text("\n".join(lines).strip() + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
