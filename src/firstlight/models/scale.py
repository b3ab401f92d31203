"""How large a model of sequences is, and what its training takes, from one number: its depth.

As in nanochat (Karpathy 2025) the depth is the dial, and all else follows from it: width and heads, how many tokens so
many parameters are worth (20 each, Hoffmann et al. 2022, arXiv 2203.15556), in which batches, and from these
the arithmetic of Kaplan et al. 2020 (arXiv 2001.08361): 6 FLOP a parameter and token.

    >>> gpu = plan(12)
    >>> f"{gpu.parameters / 1e6:.0f} M parameters, {gpu.tokens / 1e9:.1f} G tokens, {gpu.flops:.1e} FLOP"
    '85 M parameters, 1.7 G tokens, 9.7e+17 FLOP'
    >>> took = takes(gpu, MACHINES["one H100"])
    >>> f"{took.hours:.1f} h, {took.kilowatt_hours:.1f} kWh"
    '0.7 h, 0.9 kWh'
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from firstlight.core import Value

WIDTH = 64
"""Of the network for each layer, and of a head of its attention."""
TOKENS_A_PARAMETER = 20
LETTERS = 25
"""Of the alphabet of proteins, with what stands for a residue that nobody knows."""
SCALES = {"tiny": 1, "cpu": 2, "gpu": 12, "node": 20, "full": 32}
"""Depths by what they are for: a test, a CPU, one GPU, a node of eight, and the largest that fits on one device."""
TRAINED_BYTES = 24
"""On a device for each parameter, in float32: weights, gradients, two moments, an average, a message with gradients."""
KEPT_BYTES = 24
"""In a checkpoint for each parameter: weights, two moments, an average, the best so far; and the release's own weights.
"""


class Dial(Value, frozen=True):
    """What the depth says of the network."""

    layers: int
    width: int
    heads: int


class Plan(Value, frozen=True):
    """A training run: of how many `parameters`, on `tokens` in `steps` of `batch` sequences of `length` residues each.

    `flops` are those of all of it, forward and backward.
    """

    depth: int
    parameters: int
    length: int
    batch: int
    steps: int
    learning_rate: float

    @property
    def tokens(self) -> int:
        """Residues that it looks at."""
        return self.steps * self.batch * self.length

    @property
    def flops(self) -> float:
        """6 N D, and what attention adds: 12 for each layer, width, place and token."""
        return self.tokens * flops_a_token(self.parameters, self.depth, self.length)


class Machine(Value, frozen=True):
    """Devices that train one model together, `node` of them a node.

    Of one device: `peak` is FLOP/s in bf16 (dense), `memory` bytes, `watts` with its part of the machine, and `link`
    bytes a second to the others. `mfu` is the part of the peak that is assumed to be used while it computes, `life`
    the hours between failures of a node, and `source` says where all this is from.
    """

    devices: int
    peak: float
    memory: float
    watts: float
    source: str
    node: int = 8
    link: float = 0.0
    mfu: float = 0.4
    life: float = 6_300.0
    write: float = 1e9


class Takes(Value, frozen=True):
    """What a plan takes on a machine, of which it uses so many `devices`.

    `talking` is the part of the time in which gradients are summed, `checkpoint` is in bytes, `every` how often one is
    best written (seconds), `lost` the part of the time that goes into checkpoints and into what failures undo, and
    `jobs` in how many it is done.
    """

    devices: int
    hours: float
    device_hours: float
    kilowatt_hours: float
    talking: float
    checkpoint: float
    every: float
    lost: float
    jobs: int
    fits: bool


_H100 = "NVIDIA's data sheet: 989 TFLOP/s, 80 GB, 700 W (1,275 W with an eighth of a DGX); MFU and failures: Llama 3"
_FRONTIER = (
    "OLCF: 9,408 nodes of 8 GCDs, 4 x 25 GB/s; AMD: 383 TFLOP/s an MI250X; TOP500: 24.6 MW; MFU: arXiv 2312.12705"
)
_AURORA = (
    "ALCF: 10,624 nodes of 12 tiles, 8 x 25 GB/s, 273 TFLOP/s measured a tile; TOP500: 38.7 MW; MFU: nobody's, a guess"
)
MACHINES = {
    "one H100": Machine(devices=1, peak=989e12, memory=80e9, watts=1275.0, source=_H100),
    "one H200": Machine(devices=1, peak=989e12, memory=141e9, watts=1275.0, source=f"as an H100, with 141 GB; {_H100}"),
    "a node of 8 H100": Machine(devices=8, peak=989e12, memory=80e9, watts=1275.0, link=450e9, source=_H100),
    "64 nodes of Frontier": Machine(
        devices=512, peak=191.5e12, memory=64e9, watts=327.0, link=12.5e9, mfu=0.38, source=_FRONTIER
    ),
    "all of Frontier": Machine(
        devices=75_264, peak=191.5e12, memory=64e9, watts=327.0, link=12.5e9, mfu=0.38, source=_FRONTIER
    ),
    "64 nodes of Aurora": Machine(
        devices=768, node=12, peak=273e12, memory=64e9, watts=304.0, link=16.7e9, mfu=0.3, source=_AURORA
    ),
    "all of Aurora": Machine(
        devices=127_488, node=12, peak=273e12, memory=64e9, watts=304.0, link=16.7e9, mfu=0.3, source=_AURORA
    ),
}  # fmt: skip


def dial(depth: int) -> Dial:
    """The network of so many layers. Raises ValueError where that is none."""
    if depth < 1:
        raise ValueError(f"depth is a number of layers, at least 1, not {depth}")
    return Dial(layers=depth, width=WIDTH * depth, heads=depth)


def parameters(depth: int, length: int, letters: int = LETTERS) -> int:
    """How many the network has: 12 width^2 a layer and what is narrow beside them, letters and places."""
    width = dial(depth).width
    narrow = 13 * width  # Biases of six matrices (one of them four, one three times as wide) and two norms.
    ends = (letters + 2) * width + (length + 1) * width + 2 * width + (width + 1) * (letters + 1)
    return depth * (12 * width * width + narrow) + ends


def flops_a_token(parameters: int, depth: int, length: int) -> float:
    """Forward and backward, of one token (Chowdhery et al. 2022, arXiv 2204.02311, appendix B)."""
    return 6.0 * parameters + 12.0 * depth * dial(depth).width * length


def plan(depth: int, length: int = 512) -> Plan:
    """What goes with a depth.

    Batches are of about as many tokens as make ten thousand steps, a power of two from 4096 (less is slow) to 4 M;
    the learning rate falls with the width, as 0.003 at a width of 128.
    """
    count = parameters(depth, length)
    tokens = TOKENS_A_PARAMETER * count
    batch = max(1, 2 ** min(22, max(12, round(math.log2(tokens / 1e4)))) // length)
    rate = float(f"{3e-3 * math.sqrt(128 / dial(depth).width):.1g}")
    return Plan(
        depth=depth, parameters=count, length=length, batch=batch, steps=math.ceil(tokens / (batch * length)),
        learning_rate=rate,
    )  # fmt: skip


def takes(plan: Plan, machine: Machine, walltime: float = 2.0, warning: float = 0.1) -> Takes:
    """What it takes in jobs of `walltime` hours that are warned `warning` hours before their end.

    A batch has no more parts than sequences, so that other devices are left idle. Gradients go round in a ring after
    each step, twice, while nothing is computed (the loop does no better). Checkpoints are written by one process, as
    often as costs least where any node may fail (Young 1974): every sqrt(2 x writing x time between failures).
    """
    devices = min(machine.devices, plan.batch)
    computing = plan.flops / plan.steps / (devices * machine.peak * machine.mfu)
    talking = 2.0 * 4.0 * plan.parameters / machine.link if devices > 1 else 0.0
    kept = float(KEPT_BYTES * plan.parameters)
    saving = kept / machine.write
    between = machine.life * 3600.0 / math.ceil(devices / machine.node)
    every = math.sqrt(2.0 * saving * between)
    lost = saving / every + every / (2.0 * between)
    hours = plan.steps * (computing + talking) * (1.0 + lost) / 3600.0
    return Takes(
        devices=devices, hours=hours, device_hours=hours * devices,
        kilowatt_hours=hours * devices * machine.watts / 1e3,
        talking=talking / (computing + talking), checkpoint=kept, every=every, lost=lost,
        jobs=math.ceil(hours / (walltime - warning)), fits=TRAINED_BYTES * plan.parameters <= 0.7 * machine.memory,
    )  # fmt: skip


class Whole(Value, frozen=True):
    """What every device of a machine would take together, were nothing in their way: hours, gigawatt-hours, hours
    between two failures of any node, and bytes of state (of weights, gradients and moments) on each device."""

    hours: float
    gigawatt_hours: float
    between_failures: float
    bytes_each: float


def whole(parameters: float, tokens: float, machine: Machine) -> Whole:
    """6 N D on all of a machine, with its state in pieces: the bound, which the loop does not reach (it keeps all of a
    model on every device)."""
    hours = 6.0 * parameters * tokens / (machine.devices * machine.peak * machine.mfu) / 3600.0
    return Whole(
        hours=hours, gigawatt_hours=hours * machine.devices * machine.watts / 1e9,
        between_failures=machine.life * machine.node / machine.devices,
        bytes_each=TRAINED_BYTES * parameters / machine.devices,
    )  # fmt: skip


def table(depths: Sequence[int], machines: Mapping[str, Machine] = MACHINES) -> str:
    """What all of them take, as lines of Markdown."""
    lines = [
        "| depth | parameters | tokens | on | devices used | hours | device hours | kWh | summing gradients |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for made in map(plan, depths):
        for name, machine in machines.items():
            took = takes(made, machine)
            lines.append(
                f"| {made.depth} | {made.parameters / 1e6:,.0f} M | {made.tokens / 1e9:.1f} G | {name} | "
                f"{took.devices:,} | {_round(took.hours)} | {_round(took.device_hours)} | "
                f"{_round(took.kilowatt_hours)} | {took.talking:.0%} |"
            )
    return "\n".join(lines)


def _round(value: float) -> str:
    """Two digits that count."""
    return f"{float(f'{value:.2g}'):,.{max(0, 1 - math.floor(math.log10(value)))}f}"
