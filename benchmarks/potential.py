"""Errors of a potential against how many structures were labelled, and which.

    OMP_NUM_THREADS=1 python benchmarks/potential.py --keep DIR [--quick] [--out FILE]

Labels are those of ASE's effective medium theory (EMT), so nothing has to be downloaded. First part: CHGNet fine-tuned
against the same network from scratch, CHGNet as it comes, and, at one number of structures, fine-tuned with and
without replay, each with the probe of what it forgot. Second part: structures of a wide pool chosen by `choose` against
structures drawn at random, over several seeds. What --keep has already is not computed again.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from firstlight.models._family import Examples
from firstlight.models._potential_choice import choose
from firstlight.models._potential_data import formula, key, labelled_of
from firstlight.models.potential import Potential, from_wheel

METALS = {"Cu": 3.61, "Ag": 4.09, "Au": 4.08, "Pd": 3.89, "Pt": 3.92, "Ni": 3.52}
"""With the edges of their cubic cells, angstrom."""
VALIDATION = 8
Scores = dict[str, float]


def alloy(rng: np.random.Generator, rattle: float, strain: float, metals: Sequence[str] = tuple(METALS)) -> Any:
    """Eight atoms of a random alloy on a face-centred cubic lattice, displaced and strained, with labels of EMT."""
    from ase.build import bulk

    symbols = rng.choice(metals, 8)
    edge = float(np.mean([METALS[s] for s in symbols]))
    atoms = bulk("Cu", a=edge, cubic=True) * (2, 1, 1)
    atoms.symbols[:] = symbols
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain * rng.standard_normal((3, 3))), scale_atoms=True)
    atoms.positions += rattle * rng.standard_normal((len(atoms), 3))
    return atoms


def labelled(atoms: Any) -> Any:
    atoms.calc = import_module("ase.calculators.emt").EMT()
    atoms.get_forces()
    return atoms


def plain(count: int, seed: int) -> list[Any]:
    """Alloys as they are in a hot crystal."""
    rng = np.random.default_rng(seed)
    return [labelled(alloy(rng, 0.15, 0.03)) for _ in range(count)]


def wide(count: int, seed: int) -> list[Any]:
    """A pool as a campaign meets it: mostly near rest and of two metals, and a tenth each of what is hard: strong
    displacements, large strains, all six metals at once, vacancies, and surfaces."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        kind = int(rng.integers(10))
        metals = tuple(METALS) if kind == 2 else tuple(rng.choice(("Cu", "Ag", "Au"), 2, replace=False))
        rattle, strain = (0.30 if kind == 0 else 0.05), (0.08 if kind == 1 else 0.01)
        atoms = alloy(rng, rattle, strain, metals)
        if kind == 3:
            del atoms[int(rng.integers(8))]
        if kind == 4:
            atoms.set_cell(atoms.cell.array * np.array([[1.0], [1.0], [2.0]]))
        found.append(labelled(atoms))
    return found


def examples(images: Sequence[Any]) -> Examples:
    of = [labelled_of(atoms) for atoms in images]
    return Examples(of, [formula(atoms) for atoms in images], [key(s) for s in of])


def fit(family: Potential, train: Sequence[Any], validation: Sequence[Any], folder: Path, args: argparse.Namespace,
        seed: int = 0) -> Path:  # fmt: skip
    """Train as the platform's loop does (AdamW, cosine, clipping), for a fixed number of steps; its release folder."""
    import torch
    from safetensors.torch import save_file

    rate = 2e-3 if family.options.start == "scratch" else args.rate
    learnable = family.begin(examples(train), examples(validation), None, seed)
    trained = [p for n, p in learnable.module.named_parameters() if n not in learnable.frozen]
    optimiser = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, args.steps)
    rng = np.random.default_rng(seed)
    for step in range(args.steps):
        optimiser.zero_grad()
        learnable.loss(rng.choice(len(train), min(args.batch, len(train)), replace=False).tolist(), step).backward()  # type: ignore[no-untyped-call]
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


class Kept:
    """Scores by name in a folder: what is there is not computed again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, make: Callable[[Path], Scores]) -> Scores:
        path = self.folder / name / "scores.json"
        if not path.exists():
            began = time.perf_counter()
            scores = make(self.folder / name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(scores | {"seconds": time.perf_counter() - began}))
        scores = json.loads(path.read_text())
        print(f"  {name:<28}" + "  ".join(f"{k} {v:.4g}" for k, v in scores.items()), flush=True)
        return dict(scores)


def curve(args: argparse.Namespace, kept: Kept, sizes: Sequence[int]) -> list[str]:
    pool, validation, test = plain(max(sizes), 1), plain(VALIDATION, 2), examples(plain(args.test, 3))
    wheel = kept.folder / "wheel"
    from_wheel("chgnet-0.3.0", wheel)

    def one(start: str, size: int, replay: float) -> Callable[[Path], Scores]:
        def make(folder: Path) -> Scores:
            family = Potential(start=start, replay=replay)
            fit(family, pool[:size], validation, folder, args)
            lost = {} if start == "scratch" else family.forgetting(folder, wheel)
            return family.evaluate(folder, test) | lost

        return make

    at = sizes[min(2, len(sizes) - 1)]
    base = Potential().baselines(examples(pool[:at]), test)
    rows = [(name, 0, scores) for name, scores in base.items()]
    rows += [("fine-tuned", n, kept(f"fine-{n}", one("chgnet-0.3.0", n, 0.0))) for n in sizes]
    rows += [("fine-tuned, replay 0.3", at, kept(f"replay-{at}", one("chgnet-0.3.0", at, 0.3)))]
    rows += [("from scratch", n, kept(f"scratch-{n}", one("scratch", n, 0.0))) for n in sizes]
    lines = ["", f"| random alloys, {args.steps} steps | structures | energy, meV/atom | force, meV/A | probe, meV/A |",
             "|---|---|---|---|---|"]  # fmt: skip
    for name, size, s in rows:
        lost = f"{s['probe_force']:.0f}" if "probe_force" in s else "-"
        lines.append(f"| {name} | {size or '-'} | {s['energy_mae']:.1f} | {s['force_mae']:.0f} | {lost} |")
    return lines


def active(args: argparse.Namespace, kept: Kept, sizes: Sequence[int]) -> list[str]:
    validation, test = wide(VALIDATION, 902), examples(wide(args.test, 903))
    found: dict[str, list[list[Scores]]] = {"random": [], "active": []}
    for seed in range(args.seeds):
        pool = wide(args.pool, seed)
        order = np.random.default_rng(seed).permutation(len(pool)).tolist()
        for way in found:
            chosen, scores, before = order[: sizes[0]], [], Path()
            for size in sizes:
                folder = kept.folder / f"{way}-{size}-seed{seed}"
                if size > sizes[0]:
                    chosen = more(way, order, chosen, pool, before, size)
                if size == sizes[0]:
                    folder = kept.folder / f"begin-{size}-seed{seed}"
                scores.append(kept(folder.name, trained(args, [pool[i] for i in chosen], validation, test)))
                before = folder
            found[way].append(scores)
    return _told(args, sizes, found)


def more(way: str, order: list[int], chosen: list[int], pool: list[Any], before: Path, size: int) -> list[int]:
    if way == "random":
        return order[:size]
    rest = [i for i in range(len(pool)) if i not in chosen]
    best = choose(Potential().load(before), [pool[i] for i in rest], size - len(chosen), [pool[i] for i in chosen])
    return chosen + [rest[i] for i in best]


def trained(
    args: argparse.Namespace, train: list[Any], validation: list[Any], test: Examples
) -> Callable[[Path], Scores]:
    def make(folder: Path) -> Scores:
        family = Potential()
        return family.evaluate(fit(family, train, validation, folder, args), test)

    return make


def fewer(sizes: Sequence[int], random: Sequence[float], active: Sequence[float]) -> float:
    """How many times as many labels chance needs for the error that the choice reaches with its last but one number.

    Between numbers of labels errors are interpolated, both in logarithms; beyond the first and the last number it is at
    most, and at least, that.
    """
    target = active[-2]
    best = np.minimum.accumulate(random)
    if best[-1] > target:
        return sizes[-1] / sizes[-2]
    needed = np.interp(-math.log(target), -np.log(best), np.log(sizes))
    return float(np.exp(needed)) / sizes[-2]


def _told(args: argparse.Namespace, sizes: Sequence[int], found: dict[str, list[list[Scores]]]) -> list[str]:
    head = f"wide pool of {args.pool}, {args.seeds} seeds, {args.steps} steps"
    lines = ["", f"| {head} | labels | force, meV/A | worst tenth | energy, meV/atom |", "|---|---|---|---|---|"]
    means: dict[tuple[str, str], list[float]] = {}
    for way, runs in found.items():
        for at, size in enumerate(sizes):
            cells = []
            for name in ("force_mae", "force_mae_worst", "energy_mae"):
                each = [run[at][name] for run in runs]
                means.setdefault((way, name), []).append(float(np.mean(each)))
                cells.append(f"{np.mean(each):.1f} +- {np.std(each):.1f}")
            lines.append(f"| {way} | {size} | {' | '.join(cells)} |")
    for name, said in (("force_mae", "the force error"), ("force_mae_worst", "the force error of the worst tenth")):
        times = fewer(sizes, means["random", name], means["active", name])
        beyond = min(means["random", name]) > means["active", name][-2]
        lines.append(
            f"\nFor {said} of {sizes[-2]} chosen labels, chance needs {'more than ' * beyond}{times:.2f}x as many."
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two minutes: fewer steps, sizes and seeds")
    parser.add_argument("--part", choices=("both", "curve", "active"), default="both")
    parser.add_argument("--keep", type=Path, help="where models and scores are kept, to go on with")
    parser.add_argument("--out", type=Path, help="write the tables there, as Markdown")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pool", type=int, default=400)
    parser.add_argument("--test", type=int, default=100)
    args = parser.parse_args()
    sizes, rounds = [4, 8, 16, 32, 64], [8, 16, 32, 64]
    if args.quick:
        args.steps, args.seeds, args.pool, args.test, sizes, rounds = 10, 1, 40, 20, [4, 8], [4, 8, 16]
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        kept = Kept(args.keep or Path(folder))
        lines = curve(args, kept, sizes) if args.part != "active" else []
        lines += active(args, kept, rounds) if args.part != "curve" else []
    print("\n".join(lines))
    if args.out:
        args.out.write_text("\n".join(lines).strip() + "\n")


if __name__ == "__main__":
    main()
