"""The network of a model of tables, in training: an ensemble whose members learn side by side.

Deep ensembles (Lakshminarayanan et al. 2017): every member says a mean and a variance, and where they disagree the
variance is greater. The loss is the Gaussian one weighted by the square root of the variance, so that what is noisy
does not stay badly fitted (Seitzer et al. 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from ._device import Data
from ._table_encode import Array
from ._table_scores import conformal, crps
from ._table_use import LEAST, TableConfig, forward


class Stage(nn.Module):
    """Members side by side: each a network from (n, inputs) to the mean and variance of every target."""

    def __init__(self, members: int, sizes: Sequence[int], maker: torch.Generator) -> None:
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for k, (before, after) in enumerate(pairwise(sizes)):
            scale = before**-0.5 * (0.1 if k == len(sizes) - 2 else 1.0)
            self.weights.append(torch.randn(members, before, after, generator=maker) * scale)
            self.biases.append(torch.zeros(members, 1, after))
        self.skip = nn.Parameter(torch.zeros(members, sizes[0], sizes[-1]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, last = x[None], len(self.weights) - 1
        for k in range(last):
            h = nn.functional.silu(torch.baddbmm(self.biases[k], h.expand(len(self.skip), -1, -1), self.weights[k]))
        out = h.expand(len(self.skip), -1, -1) @ self.weights[last] + self.biases[last]
        made: torch.Tensor = out + x[None] @ self.skip
        return made


class Ensemble(nn.Module):
    """Stages, each of which corrects what the one before says; with what they are calibrated and compared by."""

    def __init__(self, stages: Sequence[Stage], references: torch.Tensor, targets: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.register_buffer("references", references)
        self.calibration: torch.Tensor
        self.register_buffer("calibration", torch.ones(targets))
        self.targets = targets

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance of every member, (members, n, t) each."""
        before: Any = torch.zeros(len(x), self.targets, device=x.device)
        mean = variance = before
        for k, stage in enumerate(self.stages):
            out = stage(torch.cat([x, before], 1) if k else x).float()
            mean = out[..., : self.targets] + before
            variance = nn.functional.softplus(out[..., self.targets :]) + LEAST**2
            before = mean.mean(0)
        return mean, variance


class TableLearner:
    """A model of tables that is being trained on features (n, D) and targets (n, t) in their deviations."""

    mixed = False

    def __init__(
        self, module: Ensemble, frozen: frozenset[str], config: TableConfig, train: tuple[Array, Array],
        validation: tuple[Array, Array],
    ) -> None:  # fmt: skip
        self.module, self.frozen, self._config = module, frozen, config
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name not in frozen)
        self._train = Data(*(torch.tensor(array, dtype=torch.float32) for array in train))
        self._known = max(float(np.isfinite(train[1]).sum(1).mean()), 1e-9)  # Targets of a row, on average.
        self._validation = validation

    def __len__(self) -> int:
        return len(self._train)

    def loss(self, chosen: Sequence[int], seed: int) -> torch.Tensor:
        """The weighted Gaussian loss, a target that is known; nothing is drawn."""
        x, y = self._train.take(chosen, self.module)
        mean, variance = self.module(x)
        known = ~torch.isnan(y)
        off = torch.where(known, y, 0.0) - mean
        loss = 0.5 * (variance.log() + off**2 / variance) * variance.detach().sqrt()
        return torch.where(known, loss, 0.0).sum() / (self._known * len(chosen) * len(mean))

    def work(self, chosen: Sequence[int]) -> int:
        """Rows."""
        return len(chosen)

    def validate(self) -> float:
        """The CRPS on the validation, in deviations of the targets; the calibration is fitted to it on the way.

        It is kept among the weights, since those that are released are the ones that were judged best.
        """
        weights = {name: t.detach().cpu().numpy() for name, t in self.module.state_dict().items()}
        x, y = self._validation
        mean, deviation = forward(weights, self._config.stages, x)
        factor = conformal(y, mean, deviation)
        self.module.calibration.copy_(torch.tensor(factor))
        return float(np.nanmean(crps(y, mean, deviation * factor)))

    def config(self) -> dict[str, Any]:
        """What `Table.load` needs besides the weights."""
        made: dict[str, Any] = msgspec.to_builtins(self._config)
        return made


def begin_stage(members: int, inputs: int, width: int, depth: int, targets: int, seed: int) -> Stage:
    """A stage that has learned nothing."""
    maker = torch.Generator().manual_seed(seed)
    return Stage(members, [inputs, *[width] * depth, 2 * targets], maker)


def stage_from(weights: dict[str, Any], stage: int) -> Stage:
    """A stage as it was released."""
    names = [n for n in weights if n.startswith(f"stages.{stage}.weights.")]
    arrays = [weights[f"stages.{stage}.weights.{k}"] for k in range(len(names))]
    made = Stage(arrays[0].shape[0], [arrays[0].shape[1], *[a.shape[2] for a in arrays]], torch.Generator())
    prefix = f"stages.{stage}."
    made.load_state_dict({n[len(prefix) :]: torch.tensor(a) for n, a in weights.items() if n.startswith(prefix)})
    return made
