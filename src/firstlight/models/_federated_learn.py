"""What a site computes: sums of gradients over its own examples. The only module of federated training with torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ._family import Family, Item, Learnable
from ._federated_wire import Tensors, Terms, check_tensors
from ._loop import batch_of
from ._spec import Split
from ._split import split

_AT_ONCE = 1024
"""Examples that go through the module together."""


@dataclass(frozen=True)
class Computed:
    """Sums of gradients over so many examples of so many groups, and the mean loss over them."""

    sums: Tensors
    examples: int
    groups: int
    loss: float


class Learner:
    """A module, and a site's own examples. Raises ValueError where the two do not go together."""

    def __init__(
        self, family: Family, items: Sequence[Item], files: Sequence[Path], how: Split, start: Path, seed: int
    ) -> None:  # fmt: skip
        examples = family.read(items, files)
        parts = split(examples, how)
        train, held = examples.only(parts["train"]), examples.only(parts["validation"])
        self._learnable: Learnable = family.begin(train, held, start, seed)
        if len(self._learnable) != len(train):
            raise ValueError(
                f"this family makes {len(self._learnable)} examples of {len(train)}: their groups cannot be told"
            )
        self._groups = list(train.groups)
        self.held = len(held)
        module = self._learnable.module
        self._trained = {n: p for n, p in module.named_parameters() if n not in self._learnable.frozen}
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name in self._trained)

    @property
    def trained(self) -> Tensors:
        """Every parameter that is trained, as zeros of its shape."""
        return {n: np.zeros(tuple(p.shape), np.float32) for n, p in self._trained.items()}

    @property
    def groups(self) -> int:
        """How many groups are learned from."""
        return len(set(self._groups))

    @property
    def examples(self) -> int:
        """How many examples are learned from."""
        return len(self._groups)

    def gradient(self, weights: Tensors, terms: Terms, number: int) -> Computed:
        """The sum at these weights in round `number`, from 1: of the gradients of the examples' losses; with clip, of
        the gradients of each group's mean loss, none longer than that. Raises ValueError."""
        self._set(weights)
        seed = terms.seed * 1_000_003 + number - 1
        self._learnable.module.train()
        torch.manual_seed(seed)  # For modules that draw by themselves, as dropout does.
        if terms.clip:
            return self._clipped(terms.clip, seed)
        chosen: Sequence[int] = range(self.examples)
        if terms.batch:
            chosen = batch_of(self.examples, min(terms.batch, self.examples), number - 1, terms.seed)
        self._clear()
        total = 0.0
        for first in range(0, len(chosen), _AT_ONCE):
            part = chosen[first : first + _AT_ONCE]
            loss = self._learnable.loss(list(part), seed) * len(part)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        groups = len({self._groups[i] for i in chosen})
        return Computed(_finite(self._gradients()), len(chosen), groups, total / len(chosen))

    def validate(self, weights: Tensors) -> float:
        """How bad these weights are on the examples kept back for validation. Raises ValueError."""
        self._set(weights)
        self._learnable.module.eval()
        with torch.no_grad():
            return float(self._learnable.validate())

    def _clipped(self, clip: float, seed: int) -> Computed:
        of: dict[str, list[int]] = {}
        for i, group in enumerate(self._groups):
            of.setdefault(group, []).append(i)
        sums = {n: np.zeros(tuple(p.shape), np.float64) for n, p in self._trained.items()}
        total = 0.0
        for name in sorted(of):
            self._clear()
            loss = self._learnable.loss(of[name], seed)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach()) * len(of[name])
            own = _finite(self._gradients())
            length = np.sqrt(sum(float((g**2).sum()) for g in own.values()))
            for n, g in own.items():
                sums[n] += g * min(1.0, clip / max(length, 1e-300))
        return Computed(sums, self.examples, len(of), total / self.examples)

    def _set(self, weights: Tensors) -> None:
        check_tensors(weights, self.trained, "the weights")
        with torch.no_grad():
            for name, parameter in self._trained.items():
                parameter.copy_(torch.tensor(weights[name]))

    def _clear(self) -> None:
        for parameter in self._trained.values():
            parameter.grad = None

    def _gradients(self) -> Tensors:
        return {
            n: np.zeros(tuple(p.shape)) if p.grad is None else p.grad.cpu().numpy().astype(np.float64)
            for n, p in self._trained.items()
        }


def _finite(sums: Tensors) -> Tensors:
    if odd := [n for n, t in sums.items() if not np.isfinite(t).all()]:
        raise ValueError(f"the gradient of {odd[0]} is not finite: a lower learning_rate may help")
    return sums
