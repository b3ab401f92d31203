"""The transformer as a module to train: on the archive's campaigns, and on synthetic ones in the same spaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import torch

from ._embedding import Array
from ._experiment_place import ExperimentConfig, placed
from ._experiment_read import Told
from ._experiment_train import Campaign, cut, stacked
from ._incontext_draws import drawn
from ._incontext_net import chained, log_density, order
from ._weights import Weights

TOLD = 0.25
"""Of what part of the campaigns the readings come with noise of a known size besides their own."""
JUDGED = 96
"""At most so many readings of a campaign are looked at to judge by."""


class Net(torch.nn.Module):
    """The weights; the arithmetic is that of `_incontext_net`."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        for name, array in weights.items():
            self.register_parameter(name, torch.nn.Parameter(torch.tensor(array, dtype=torch.float32)))

    def forward(self, tokens: Any, y: torch.Tensor, extra: torch.Tensor, use: torch.Tensor) -> torch.Tensor:
        """Minus the log density of each campaign a reading, (b,), of values (b, n) of which `use` (b, n) count.

        Those that do not count come last, so that no other one has looked at them.
        """
        hidden = torch.from_numpy(order(y.shape[-1])).to(y.device)
        chances = chained(dict(self.named_parameters()), tokens, y, extra**0.5, hidden, torch)
        found: torch.Tensor = -(log_density(chances, y, torch) * use).sum(-1) / use.sum(-1)
        return found


class InContextLearner:
    """Learns to tell each reading of a campaign from those before it, in whatever order they come."""

    mixed = True

    def __init__(
        self, weights: Weights, config: ExperimentConfig, rows: int, synthetic: float, train: Sequence[Told],
        validation: Sequence[Told], teacher: Weights | None = None,
    ) -> None:  # fmt: skip
        self._config, self._rows, self._synthetic, self._teacher = config, rows, synthetic, teacher
        self.module: torch.nn.Module = Net(weights)
        self._train: list[Campaign] = [placed(config, told) for told in train]
        self._validation: list[Campaign] = [_shuffled(placed(config, t), i) for i, t in enumerate(validation)]
        idle = {
            "words": not any(np.any(tokens.words) for tokens, _, _ in self._train),
            "slope": not any(np.any(tokens.number) for tokens, _, _ in self._train),
        }
        self.frozen: frozenset[str] = frozenset(name for name, unused in idle.items() if unused)

    def __len__(self) -> int:
        return len(self._train)

    def loss(self, chosen: Sequence[int], seed: int) -> torch.Tensor:
        """The mean loss of these campaigns and, in the part that was asked for, of synthetic ones drawn for each.

        Which readings in which order, and what is drawn, follows from `seed` and their numbers.
        """
        some, share = list[Campaign](), list[float]()
        for i in chosen:
            rng = np.random.default_rng([seed, i])
            own = cut(self._train[i], rng.permutation(len(self._train[i][1]))[: self._rows])
            if self._synthetic:
                tokens, y = drawn(own[0], self._teacher, rng)
                some.append(_noisier((tokens, y, np.zeros(len(y))), rng))
                share.append(self._synthetic)
            some.append(_noisier(own, rng))
            share.append(1.0 - self._synthetic)
        losses = self.module(*self._batch(some))
        found: torch.Tensor = (losses * losses.new_tensor(share)).sum() / len(chosen)
        return found

    def work(self, chosen: Sequence[int]) -> int:
        """How many readings these campaigns have, of those that a step looks at."""
        return sum(min(len(self._train[i][1]), self._rows) for i in chosen)

    def validate(self) -> float:
        """The mean loss of the campaigns for validation, some of their readings in an order that stays."""
        with torch.no_grad():
            parts = [self.module(*self._batch(self._validation[at : at + 32]))
                     for at in range(0, len(self._validation), 32)]  # fmt: skip
            return float(torch.cat(parts).mean())

    def config(self) -> dict[str, Any]:
        """What `load` needs besides the weights."""
        told: dict[str, Any] = msgspec.to_builtins(self._config)
        return told

    def _batch(self, some: Sequence[Campaign]) -> tuple[Any, torch.Tensor, torch.Tensor, torch.Tensor]:
        return stacked(some, next(self.module.parameters()).device)


def _shuffled(campaign: Campaign, i: int) -> Campaign:
    # An optimiser's own order says where it is going.
    return cut(campaign, np.random.default_rng(i).permutation(len(campaign[1]))[:JUDGED])


def _noisier(campaign: Campaign, rng: np.random.Generator) -> Campaign:
    """Now and then with noise of a known size besides, so that it learns what known deviations mean."""
    if rng.random() >= TOLD:
        return campaign
    tokens, y, extra = campaign
    sigma: Array = rng.uniform(0.0, 0.5) * rng.random(len(y))
    return tokens, y + sigma * rng.standard_normal(len(y)), extra + sigma**2
