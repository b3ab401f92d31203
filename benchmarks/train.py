"""How quickly models are trained, and how much of the machine that uses.

    OMP_NUM_THREADS=1 python benchmarks/train.py [--scale tiny|cpu|gpu|node|full | --depth N] [--world 1 2] [--out FILE]

One dial, the depth, says how large the model of sequences is; the other families come in the size that they have by
default. Each is trained by the platform's loop (judged and saved every 50 steps, with an average of its weights), and
by the shortest loop in plain torch that does the same steps, in turns; the better of the turns counts. FLOPs are those
of one step forward and backward, counted by torch operation by operation (attention in full; what is no product of
matrices counts nothing). MFU is their share of what a product of large matrices reaches on the same device in the same
precision a moment before, and, for GPUs that are known, of the vendor's peak. On a CPU the time is the processor's, so
that other work on the machine does not count, and wall time stands beside it.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from firstlight.models import _loop
from firstlight.models._device import device, quick_in_bf16
from firstlight.models._family import Examples, Item, Learnable
from firstlight.models._spec import Training
from firstlight.models._workers import Workers, workers
from firstlight.models.scale import SCALES, plan

PEAKS = {
    "H100": (989e12, "NVIDIA H100 data sheet (SXM, dense)"), "H200": (989e12, "NVIDIA H200 data sheet (dense)"),
    "A100": (312e12, "NVIDIA A100 data sheet (dense)"), "MI250X": (191.5e12, "AMD MI250X data sheet (one GCD of two)"),
    "MI300X": (1307e12, "AMD MI300X data sheet (dense)"),
}  # fmt: skip
"""FLOP/s in bf16 by what the device's name has in it, and where from."""
UNITS = {"sequence": "residues", "experiment": "readings", "table": "rows", "potential": "atoms"}
PROTEINS = "ACDEFGHIKLMNPQRSTVWY"
TURNS = 3


@dataclass(frozen=True)
class Speed:
    """Steps a second, by the clock that counts and by that on the wall."""

    steps: float
    wall: float


# ------------------------------------------------------------------ what is trained


def sequence(depth: int, length: int) -> tuple[Learnable, int]:
    from firstlight.models.sequence import Sequence

    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice(list(PROTEINS), length)) for _ in range(256)]
    examples = Examples(texts, texts, texts)
    made = Sequence(depth=depth, longest=length).begin(examples, examples.only(range(8)), None, 0)
    return made, min(plan(depth, length).batch, 32 if device().type == "cpu" else 256)


def table(_: int, __: int) -> tuple[Learnable, int]:
    from arro3.core import Array, DataType
    from arro3.core import Table as Arrow
    from arro3.io import write_parquet

    from firstlight.models.table import Table

    family, draw = Table(target="y"), np.random.default_rng(0)
    x = draw.random((2000, 6))
    columns = {f"x{k}": x[:, k] for k in range(6)} | {"y": np.sin(5 * x[:, 0]) + x[:, 1] ** 2}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.parquet")
        arrays = [Array(c.tolist(), type=DataType.float64()) for c in columns.values()]
        write_parquet(Arrow.from_arrays(arrays, names=list(columns)), path)
        examples = family.read([Item(dataset="d", path="t.parquet", digest="", size=0, group="d")], [path])
    return family.begin(examples.only(range(1800)), examples.only(range(1800, 2000)), None, 0), 64


def experiment(_: int, __: int) -> tuple[Learnable, int]:
    from firstlight.catalog._export import export
    from firstlight.models.experiment import Experiment
    from firstlight.testing import reactions

    family = Experiment()
    with tempfile.TemporaryDirectory() as folder:
        items, files = list[Item](), list[Path]()
        for e in reactions.earlier(0, 32, 40):
            files.append(Path(folder, f"{e.campaign}.parquet"))
            export(e.spec, e.rows, "parquet", files[-1])
            items.append(Item(dataset=e.campaign, path="trials.parquet", digest="", size=0, group=e.campaign))
        examples = family.read(items, files)
    return family.begin(examples.only(range(28)), examples.only(range(28, 32)), None, 0), 24


def potential(_: int, __: int) -> tuple[Learnable, int]:
    from _clusters import crystals
    from potential import examples

    from firstlight.models.potential import Potential

    made = examples(crystals(20, 0))
    return Potential().begin(made.only(range(16)), made.only(range(16, 20)), None, 0), 4


FAMILIES: dict[str, Callable[[int, int], tuple[Learnable, int]]] = {
    "sequence": sequence, "experiment": experiment, "table": table, "potential": potential,
}  # fmt: skip


# ------------------------------------------------------------------ what is measured


def clock(on: torch.device) -> float:
    """Seconds: of this process's processor a thread on a CPU, on the wall (once all is done) on others."""
    if on.type == "cpu":
        return time.process_time() / torch.get_num_threads()
    getattr(torch, on.type).synchronize(on)
    return time.perf_counter()


def peak(on: torch.device, kind: torch.dtype) -> float:
    """FLOP/s of a product of two large matrices, the best of some."""
    size = 1024 if on.type == "cpu" else 8192
    a, b = (torch.randn(size, size, device=on, dtype=torch.float32).to(kind) for _ in range(2))
    best, spent = 0.0, time.perf_counter()
    while time.perf_counter() - spent < 2.0:
        began = clock(on)
        for _ in range(1 if on.type == "cpu" else 20):
            a @ b
        best = max(best, (1 if on.type == "cpu" else 20) * 2.0 * size**3 / max(clock(on) - began, 1e-9))
    return best


def flops(learnable: Learnable, batch: int) -> float:
    """Of one step, forward and backward."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        learnable.loss(range(batch), 0).backward()  # type: ignore[no-untyped-call]
    learnable.module.zero_grad()
    return float(counter.get_total_flops())


def ours(learnable: Learnable, how: Training, crew: Workers) -> Speed:
    """As the platform trains: judged, saved, averaged."""
    with tempfile.TemporaryDirectory() as folder:
        began, wall = clock(crew.device), time.perf_counter()
        _loop.train(learnable, how, crew, Path(folder))
        return Speed(how.steps / (clock(crew.device) - began), how.steps / (time.perf_counter() - wall))


def plainly(learnable: Learnable, how: Training, on: torch.device, mixed: bool) -> Speed:
    """The same steps and nothing else."""
    module = learnable.module.to(on)
    module.train()
    trained = [p for n, p in module.named_parameters() if n not in learnable.frozen]
    optimiser = torch.optim.AdamW(trained, lr=how.learning_rate)
    began, wall = clock(on), time.perf_counter()
    for step in range(how.steps):
        optimiser.zero_grad()
        with torch.autocast(on.type, dtype=torch.bfloat16, enabled=mixed):
            loss = learnable.loss(_loop.batch_of(len(learnable), how.batch, step, 0), step)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, how.clip)
        optimiser.step()
    return Speed(how.steps / (clock(on) - began), how.steps / (time.perf_counter() - wall))


def best(speeds: list[Speed]) -> Speed:
    return Speed(max(s.steps for s in speeds), max(s.wall for s in speeds))


def measure(name: str, args: argparse.Namespace, crew: Workers, peaks: dict[bool, float]) -> str:
    """A family's line of the table; nothing where another process writes it."""
    learnable, batch = FAMILIES[name](args.depth, args.length)
    mixed = learnable.mixed and quick_in_bf16(crew.device)
    how = Training(steps=args.steps, batch=min(batch, len(learnable)), learning_rate=1e-4, average=0.99, validate=50)
    work = learnable.work(range(how.batch))
    learnable.module.to(crew.device)
    each = flops(learnable, how.batch)
    turns: tuple[list[Speed], list[Speed]] = [], []
    for _ in range(args.turns):
        turns[0].append(ours(learnable, how, crew))
        if crew.world == 1:
            turns[1].append(plainly(learnable, how, crew.device, mixed))
    mine, theirs = best(turns[0]), best(turns[1]) if turns[1] else None
    used = each * mine.steps / crew.world / peaks[mixed]
    count = sum(p.numel() for p in learnable.module.parameters())
    vendor = next((p for word, (p, _) in PEAKS.items() if word in _named(crew.device)), None)
    return (
        f"| {name} | {count / 1e6:.3g} M | {'bf16' if mixed else 'float32'} | {how.batch} | {crew.world} | "
        f"{work * mine.steps:,.0f} {UNITS[name]} | {work * mine.wall:,.0f} | "
        f"{f'{work * theirs.steps:,.0f}' if theirs else '-'} | "
        f"{f'{theirs.steps / mine.steps - 1.0:+.1%}' if theirs else '-'} | {each / work:.3g} | {used:.1%}"
        f"{f' ({each * mine.steps / crew.world / vendor:.1%})' if vendor else ''} |"
    )


def _named(on: torch.device) -> str:
    if on.type == "cpu":
        return platform.processor() or platform.machine()
    return str(getattr(torch, on.type).get_device_name(on))


HEAD = (
    "| family | parameters | precision | batch | processes | a second | by the wall | plain torch | the loop costs | "
    "FLOP each | MFU (of vendor's peak) |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Print the table, or be one of its processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="cpu", help="the depth by what it is for")
    parser.add_argument("--depth", type=int, help="the dial itself")
    parser.add_argument("--length", type=int, default=128, help="residues of a sequence")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--world", nargs="+", type=int, default=[1, 2], help="numbers of processes")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--out", type=Path, help="write the table here, too")
    args = parser.parse_args()
    args.depth = args.depth or SCALES[args.scale]
    if "WORLD_SIZE" in os.environ:
        _among(args)
        return
    on, lines = device(), [HEAD]
    peaks = {True: peak(on, torch.bfloat16), False: peak(on, torch.float32)}
    print(
        f"{_named(on)}, {torch.get_num_threads()} threads, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}; a "
        f"product of matrices: bf16 {peaks[True] / 1e9:,.0f} and float32 {peaks[False] / 1e9:,.0f} GFLOP/s, so that "
        f"`precision: auto` is {'bf16' if quick_in_bf16(on) else 'float32'} here\n\n{HEAD}", flush=True
    )  # fmt: skip
    for name in args.families:
        for world in args.world:
            lines.append(measure(name, args, Workers(0, 1, on), peaks) if world == 1 else _several(name, world, peaks))
            print(lines[-1], flush=True)
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")


def _several(name: str, world: int, peaks: dict[bool, float]) -> str:
    """The line of so many processes on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        started = [
            subprocess.Popen(
                [sys.executable, *sys.argv, "--families", name], stdout=subprocess.PIPE, text=True,
                env=os.environ | {
                    "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "TRAIN_MEETING": folder,
                    "TRAIN_PEAKS": f"{peaks[True]} {peaks[False]}",
                },
            )
            for rank in range(world)
        ]  # fmt: skip
        said = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"{name} with {world} processes did not come to an end")
    return said[0].strip()


def _among(args: argparse.Namespace) -> None:
    quick, slow = map(float, os.environ["TRAIN_PEAKS"].split())
    with workers(Path(os.environ["TRAIN_MEETING"], "meeting")) as crew:
        line = measure(args.families[0], args, crew, {True: quick, False: slow})
        if crew.rank == 0:
            print(line)


if __name__ == "__main__":
    main()
