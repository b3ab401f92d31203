"""A released model of tables as a model of BoTorch, so that its acquisition functions can be asked about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from botorch.models.model import Model
from botorch.posteriors.gpytorch import GPyTorchPosterior
from gpytorch.distributions import MultitaskMultivariateNormal, MultivariateNormal

from .._table_use import TableModel, load_table


class ReleasedModel(Model):
    """The model in a folder: a Gaussian posterior whose points are independent of each other.

    X has a column an input, in the model's order and in their own units; all of them must be numbers. No gradients
    go through it: optimise over a discrete set (`optimize_acqf_discrete`). Raises ValueError for inputs that are words.
    """

    def __init__(self, release: str | Path) -> None:
        super().__init__()
        self._released: TableModel = load_table(Path(release))
        if words := [i.name for i in self._released.config.inputs if i.words]:
            raise ValueError(f"{', '.join(words)}: BoTorch's points are numbers, and these are words")

    @property
    def num_outputs(self) -> int:
        """How many targets it predicts."""
        return len(self._released.config.targets)

    @property
    def batch_shape(self) -> torch.Size:
        """It is one model, not a batch of them."""
        return torch.Size()

    def posterior(
        self, X: torch.Tensor, output_indices: list[int] | None = None, observation_noise: bool | torch.Tensor = False,
        posterior_transform: Any = None,
    ) -> Any:  # fmt: skip
        """The posterior at X (..., q, inputs). Its deviation is always that of a reading."""
        flat = X.detach().reshape(-1, X.shape[-1]).cpu().numpy()
        names = [i.name for i in self._released.config.inputs]
        if flat.shape[1] != len(names):
            raise ValueError(f"X must have the columns {', '.join(names)}, and has {flat.shape[1]}")
        mean, sigma, _ = self._released.predict_table({name: flat[:, j].tolist() for j, name in enumerate(names)})
        means, variances = (
            torch.as_tensor(a.reshape(len(flat), -1)).to(X).reshape(*X.shape[:-1], self.num_outputs)
            for a in (mean, sigma**2)
        )
        chosen = range(self.num_outputs) if output_indices is None else output_indices
        each = [MultivariateNormal(means[..., j], torch.diag_embed(variances[..., j])) for j in chosen]
        joint = each[0] if len(each) == 1 else MultitaskMultivariateNormal.from_independent_mvns(each)
        posterior = GPyTorchPosterior(joint)
        return posterior if posterior_transform is None else posterior_transform(posterior)
