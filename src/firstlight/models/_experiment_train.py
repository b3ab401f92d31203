"""The pre-trained Gaussian process as a module to train: by the likelihood of whole campaigns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import torch

from ._embedding import Array
from ._experiment_net import Tokens, described, kernel
from ._experiment_place import ExperimentConfig, placed
from ._experiment_read import Told
from ._experiment_use import JITTER
from ._weights import Weights

Campaign = tuple[Tokens, Array, Array]
"""Tokens, values (n,) and known noise variances (n,), in spreads."""
JUDGED = 96
"""At most so many readings of a campaign are looked at to judge by."""


class Weighted(torch.nn.Module):
    """Weights by name, whose arithmetic is elsewhere."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        for name, array in weights.items():
            self.register_parameter(name, torch.nn.Parameter(torch.tensor(array, dtype=torch.float32)))


class Net(Weighted):
    """The Gaussian process; the arithmetic is that of `_experiment_net`."""

    def forward(self, tokens: Tokens, y: torch.Tensor, extra: torch.Tensor, use: torch.Tensor) -> torch.Tensor:
        """Minus the log density of each campaign a reading, (b,), of values (b, n) of which `use` (b, n) count."""
        at = described(dict(self.named_parameters()), tokens, torch)
        noise = at.noise[..., None] ** 2 + extra + JITTER
        covariance = (kernel(at, at, torch) * use[..., :, None] * use[..., None, :]).double()
        covariance = covariance + torch.diag_embed(torch.where(use > 0, noise, 1.0).double())
        residual = ((y - at.mean) * use).double()
        # A little more of the diagonal where float32 has made it worse than it is.
        factor = torch.linalg.cholesky(covariance + 1e-5 * torch.eye(y.shape[-1], dtype=torch.float64, device=y.device))
        white = torch.linalg.solve_triangular(factor, residual[..., None], upper=False)[..., 0]
        count = use.sum(-1)
        total = 0.5 * (white**2).sum(-1) + factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        found: torch.Tensor = (total / count + 0.5 * math.log(2 * math.pi)).float()
        return found


Draw = Callable[[Campaign, np.random.Generator], Sequence[tuple[Campaign, float]]]
"""What is learned from a campaign in one step, and how much each of it counts; together one."""


def itself(campaign: Campaign, rng: np.random.Generator) -> Sequence[tuple[Campaign, float]]:
    """A campaign as it is."""
    return [(campaign, 1.0)]


class ExperimentLearner:
    """Learns from whole campaigns, of which each step looks at some readings."""

    mixed = False
    """Distances, as differences of squares, do not bear bf16."""

    def __init__(
        self, module: torch.nn.Module, config: ExperimentConfig, rows: int, train: Sequence[Told],
        validation: Sequence[Told], draw: Draw = itself,
    ) -> None:  # fmt: skip
        self._config, self._rows, self._draw = config, rows, draw
        self.module = module
        self._train: list[Campaign] = [placed(config, told) for told in train]
        self._validation: list[Campaign] = [_some(placed(config, told), i) for i, told in enumerate(validation)]
        # Where no value is a word, nothing can be learned of words; nor of numbers where none is a number.
        idle = {
            "words": not any(np.any(tokens.words) for tokens, _, _ in self._train),
            "slope": not any(np.any(tokens.number) for tokens, _, _ in self._train),
        }
        self.frozen: frozenset[str] = frozenset(name for name, unused in idle.items() if unused)

    def __len__(self) -> int:
        return len(self._train)

    def loss(self, chosen: Sequence[int], seed: int) -> torch.Tensor:
        """The mean loss of these campaigns; which readings are looked at in which order, and whatever else is drawn,
        follows from `seed` and their numbers."""
        some = list[tuple[Campaign, float]]()
        for i in chosen:
            rng = np.random.default_rng([seed, i])
            some += self._draw(cut(self._train[i], rng.permutation(len(self._train[i][1]))[: self._rows]), rng)
        losses = self.module(*self._batch([campaign for campaign, _ in some]))
        weights = torch.tensor([part for _, part in some], dtype=losses.dtype).to(losses.device)
        found: torch.Tensor = (losses * weights).sum() / len(chosen)
        return found

    def work(self, chosen: Sequence[int]) -> int:
        """How many readings these campaigns have, of those that a step looks at."""
        return sum(min(len(self._train[i][1]), self._rows) for i in chosen)

    def validate(self) -> float:
        """The mean loss of the campaigns for validation, some of their readings in an order that stays."""
        some = self._validation
        with torch.no_grad():
            parts = [self.module(*self._batch(some[at : at + 32])) for at in range(0, len(some), 32)]
            return float(torch.cat(parts).mean())

    def config(self) -> dict[str, Any]:
        """What `load` needs besides the weights."""
        told: dict[str, Any] = msgspec.to_builtins(self._config)
        return told

    def _batch(self, some: Sequence[Campaign]) -> tuple[Tokens, torch.Tensor, torch.Tensor, torch.Tensor]:
        return stacked(some, next(self.module.parameters()).device)


def stacked(some: Sequence[Campaign], device: torch.device) -> tuple[Tokens, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Campaigns one above the other, filled up to the longest: tokens, values, noise variances, and which count."""
    n, d = max(len(y) for _, y, _ in some), max(len(t.there) for t, _, _ in some)

    def filled(arrays: Sequence[Array], shape: tuple[int, ...]) -> torch.Tensor:
        made = np.zeros((len(arrays), *shape), dtype=np.float32)
        for k, a in enumerate(arrays):
            made[k][tuple(slice(size) for size in a.shape)] = a
        return torch.from_numpy(made).to(device)

    tokens = [t for t, _, _ in some]
    static, words = tokens[0].static.shape[1], tokens[0].words.shape[2]
    together = Tokens(
        filled([t.static for t in tokens], (d, static)), filled([t.there for t in tokens], (d,)),
        filled([t.observable for t in tokens], (len(tokens[0].observable),)),
        filled([t.number for t in tokens], (n, d)), filled([t.words for t in tokens], (n, d, words)),
    )  # fmt: skip
    use = filled([np.ones(len(y)) for _, y, _ in some], (n,))
    return together, filled([y for _, y, _ in some], (n,)), filled([e for _, _, e in some], (n,)), use


def _some(campaign: Campaign, i: int) -> Campaign:
    # An optimiser's own order would say where it is going.
    return cut(campaign, np.random.default_rng(i).permutation(len(campaign[1]))[:JUDGED])


def cut(campaign: Campaign, take: Any) -> Campaign:
    """Some readings of a campaign, in that order."""
    tokens, y, extra = campaign
    return (
        Tokens(tokens.static, tokens.there, tokens.observable, tokens.number[take], tokens.words[take]),
        y[take], extra[take],
    )  # fmt: skip
