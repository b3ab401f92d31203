"""What a family of models is: one class, which reads data, learns from them, and judges what came of it.

Nothing here needs torch: a family imports it where it trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from firstlight.core import Value

if TYPE_CHECKING:
    import torch

Part = Literal["train", "validation", "test"]


class Column(Value, frozen=True):
    """A column of a table, or another variable of a dataset, as the catalog knows it."""

    name: str
    role: str = "other"
    unit: str = ""


class Item(Value, frozen=True):
    """One file of a frozen manifest: whose it is, its place in that dataset, and its bytes' digest.

    `group` is the campaign or the dataset that it is from. `licence` and `training` (may models be trained on it?) are
    what the data card says, "" where nobody has said.
    """

    dataset: str
    path: str
    digest: str
    size: int
    media_type: str = ""
    group: str = ""
    licence: str = ""
    training: str = ""
    synthetic: bool = False
    columns: tuple[Column, ...] = ()


class Inherited(Value, frozen=True):
    """Weights of others that a model began with: what they are called, the package that has them and its version, their
    licence, and the digest of their file."""

    name: str
    version: str
    licence: str
    digest: str

    @property
    def id(self) -> str:
        """As people write it."""
        return f"{self.name} ({self.version})"


@dataclass(frozen=True)
class Examples:
    """What a family learns from, an entry an example.

    `groups`: examples of one group (a campaign, a composition, a cluster of sequences) are never in two parts, or a
    model is judged by what it has seen. `keys`: two examples with the same key are the same one. `parts` are those
    that the data themselves say, None where they say nothing.
    """

    items: Sequence[Any]
    groups: Sequence[str]
    keys: Sequence[str]
    parts: Sequence[Part | None] | None = None

    def __len__(self) -> int:
        return len(self.items)

    def only(self, chosen: Sequence[int]) -> Examples:
        """Some of them, in that order."""
        return Examples(
            [self.items[i] for i in chosen], [self.groups[i] for i in chosen], [self.keys[i] for i in chosen],
            None if self.parts is None else [self.parts[i] for i in chosen],
        )  # fmt: skip


class Learnable(Protocol):
    """A module that is being trained, as the loop sees it. The loop owns the optimiser, the schedule and the order."""

    @property
    def module(self) -> torch.nn.Module: ...

    @property
    def frozen(self) -> frozenset[str]:
        """The names of parameters that must come out as they went in; every other one must have changed."""
        ...

    @property
    def mixed(self) -> bool:
        """Whether the forward pass bears bf16 where that is quicker."""
        ...

    def __len__(self) -> int:
        """How many examples there are to learn from."""
        ...

    def loss(self, chosen: Sequence[int], seed: int) -> torch.Tensor:
        """The mean loss of these examples: a scalar that can be differentiated, and a mean in the strict sense, so that
        a batch may be looked at in pieces, by one process or many.

        Whatever is drawn is drawn from `seed` and the numbers of the examples alone, so that a run that goes on after
        a crash, or in another number of processes, is the same run.
        """
        ...

    def work(self, chosen: Sequence[int]) -> int:
        """How many tokens (rows, atoms, residues) these examples are, to count work by."""
        ...

    def validate(self) -> float:
        """How bad it is on the examples for validation, as it is now; smaller is better. It draws nothing."""
        ...

    def config(self) -> dict[str, Any]:
        """What `Family.load` needs besides the weights: plain values that JSON has."""
        ...


Scores = dict[str, float]
"""Figures by name. Those that say how bad a model is are smaller where it is better."""


class Family(Protocol):
    """One kind of model. Made with the options of a specification, of which it refuses those that it does not know."""

    @property
    def metric(self) -> str:
        """The score by which versions are compared; smaller is better."""
        ...

    @property
    def suffixes(self) -> tuple[str, ...]:
        """How the names of the files end that it reads; the others of a dataset are left out of its manifest."""
        ...

    def read(self, items: Sequence[Item], files: Sequence[Path]) -> Examples:
        """The examples in these files, in an order of their own that does not depend on that of the files.

        Raises ValueError saying which file has what it cannot read.
        """
        ...

    def begin(self, train: Examples, validation: Examples, parent: Path | None, seed: int) -> Learnable:
        """A module to train, from scratch or from the released model in `parent`.

        Raises ValueError where the parent is of another shape or knows other things.
        """
        ...

    def evaluate(self, folder: Path, test: Examples) -> Scores:
        """How a released model does on examples it has not seen; `metric` is among the scores."""
        ...

    def baselines(self, train: Examples, test: Examples) -> dict[str, Scores]:
        """The same scores for what anybody would do without such a model, each learned from `train` alone."""
        ...

    def forgetting(self, folder: Path, parent: Path) -> Scores:
        """How much worse (or other) a fine-tuned model has become at what its parent could do; {} where that cannot be
        asked."""
        ...

    def load(self, folder: Path) -> Any:
        """A released model for use: config.json and model.safetensors in that folder. What it offers is the family's
        own; it never runs code that came with the weights."""
        ...


@runtime_checkable
class Inherits(Protocol):
    """A family whose models begin with weights of others, where they have no parent."""

    def inherited(self) -> tuple[Inherited, ...]:
        """Those; () where these options begin from scratch. Raises ValueError where they are not here."""
        ...


def inherited_by(family: Family) -> tuple[Inherited, ...]:
    """The weights of others that models of a family begin with. Raises ValueError where they are not here."""
    return family.inherited() if isinstance(family, Inherits) else ()
