"""The transformer as a module to train: on the archive's campaigns, and on synthetic ones in the same spaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ._embedding import Array
from ._experiment_train import Campaign, Draw, Weighted
from ._incontext_draws import drawn
from ._incontext_net import chained, log_density, order
from ._weights import Weights

TOLD = 0.25
"""Of what part of the campaigns the readings come with noise of a known size besides their own."""


class InContextNet(Weighted):
    """The transformer; the arithmetic is that of `_incontext_net`."""

    def forward(self, tokens: Any, y: torch.Tensor, extra: torch.Tensor, use: torch.Tensor) -> torch.Tensor:
        """Minus the log density of each campaign a reading, (b,), of values (b, n) of which `use` (b, n) count.

        Those that do not count come last, so that no other one has looked at them.
        """
        hidden = torch.from_numpy(order(y.shape[-1])).to(y.device)
        chances = chained(dict(self.named_parameters()), tokens, y, extra**0.5, hidden, torch)
        found: torch.Tensor = -(log_density(chances, y, torch) * use).sum(-1) / use.sum(-1)
        return found


def drawing(synthetic: float, teacher: Weights | None) -> Draw:
    """Campaigns as they are and, in this part of the loss, synthetic ones in the same spaces, of a teacher's if any."""

    def draw(campaign: Campaign, rng: np.random.Generator) -> Sequence[tuple[Campaign, float]]:
        found = [(_noisier(campaign, rng), 1.0 - synthetic)]
        if synthetic:
            tokens, y = drawn(campaign[0], teacher, rng)
            found.append((_noisier((tokens, y, np.zeros(len(y))), rng), synthetic))
        return found

    return draw


def _noisier(campaign: Campaign, rng: np.random.Generator) -> Campaign:
    """Now and then with noise of a known size besides, so that it learns what known deviations mean."""
    if rng.random() >= TOLD:
        return campaign
    tokens, y, extra = campaign
    sigma: Array = rng.uniform(0.0, 0.5) * rng.random(len(y))
    return tokens, y + sigma * rng.standard_normal(len(y)), extra + sigma**2
