"""The family `sequence`: a small language model of proteins, DNA or RNA."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence as Several
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from msgspec.structs import replace

from firstlight.core import Value

from ._family import Examples, Item, Scores
from ._options import read_options
from ._release import CONFIG, WEIGHTS
from ._sequence_read import SUFFIXES, read_sequences
from ._weights import read_weights
from .scale import dial

if TYPE_CHECKING:
    from ._sequence_net import SequenceLearner, SequenceModel


class SequenceOptions(Value, frozen=True):
    """How large it is (about 12 x layers x width^2 weights), and how long a sequence may be (residues).

    `depth` is one number for all of it instead: so many layers, 64 times as wide, with a head for each 64.
    """

    width: int = 128
    layers: int = 5
    heads: int = 4
    longest: int = 512
    depth: int | None = None

    def __post_init__(self) -> None:
        if min(self.width, self.layers, self.heads, self.longest) < 1 or self.width % self.heads:
            raise ValueError("width, layers, heads and longest must be at least 1, and width a multiple of heads")


class Sequence:
    """A transformer that says which residue comes next, learned from FASTA files; its alphabet is that of the data.

    Clusters of similar sequences are never torn apart. The metric is the cross entropy a residue, in nats. Options are
    those of `SequenceOptions`.
    """

    metric = "cross_entropy"
    suffixes = SUFFIXES

    def __init__(self, **options: object) -> None:
        told = read_options(SequenceOptions, options, "sequence")
        if told.depth is not None:
            if both := {"width", "layers", "heads"} & options.keys():
                raise ValueError(
                    f"sequence: depth says what {', '.join(sorted(both))} would say: tell one or the other"
                )
            told = replace(told, **msgspec.to_builtins(dial(told.depth)))
        self.options = told

    def read(self, items: Several[Item], files: Several[Path]) -> Examples:
        """The sequences in the FASTA files. Raises ValueError saying which file is none, or has one too long."""
        made = read_sequences(items, files)
        if long := next((s for s in made.items if len(s) > self.options.longest), None):
            raise ValueError(
                f"{long[:20]}... has {len(long)} residues: at most {self.options.longest} (option longest)"
            )
        return made

    def begin(self, train: Examples, validation: Examples, parent: Path | None, seed: int) -> SequenceLearner:
        """A network to train. Raises ValueError where the parent has another size or lacks a letter."""
        import torch  # noqa: PLC0415

        from ._sequence_net import Network, SequenceLearner  # noqa: PLC0415

        letters = "".join(sorted(set().union(*train.items, *validation.items)))
        told = self.options
        config = {"alphabet": letters, "width": told.width, "layers": told.layers, "heads": told.heads,
                  "longest": told.longest}  # fmt: skip
        if parent is not None:
            before = json.loads((parent / CONFIG).read_bytes())["config"]
            if set(letters) - set(before["alphabet"]) or {**config, "alphabet": 0} != {**before, "alphabet": 0}:
                raise ValueError(f"the parent is another network ({before}) than is asked for ({config})")
            return SequenceLearner(self.load(parent).network.train(), before, train.items, validation.items)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = Network(len(letters), told.width, told.layers, told.heads, told.longest)
        return SequenceLearner(module, config, train.items, validation.items)

    def evaluate(self, folder: Path, test: Examples) -> Scores:
        """Cross entropy (nats) and perplexity a residue."""
        from ._device import device  # noqa: PLC0415

        model = self.load(folder)
        model.network.to(device())
        nats = -float(model.score(test.items).sum()) / sum(map(len, test.items))
        return _scores(nats)

    def baselines(self, train: Examples, test: Examples) -> dict[str, Scores]:
        """Guessing, how often each residue is, and a Markov chain over three residues, smoothed."""
        letters = sorted(set().union(*train.items, *test.items))
        return {
            "uniform": _scores(float(np.log(len(letters)))),
            "unigram": _scores(_markov(train.items, test.items, len(letters), 0)),
            "trigram": _scores(_markov(train.items, test.items, len(letters), 2)),
        }

    def forgetting(self, folder: Path, parent: Path) -> Scores:
        """Nothing: a release holds none of the sequences that its parent learned from."""
        return {}

    def load(self, folder: Path) -> SequenceModel:
        """A released model for use, with `score` and `embed`; it needs torch."""
        import torch  # noqa: PLC0415

        from ._sequence_net import Network, SequenceModel  # noqa: PLC0415

        told = json.loads((folder / CONFIG).read_bytes())["config"]
        network = Network(len(told["alphabet"]), told["width"], told["layers"], told["heads"], told["longest"])
        weights = {n: torch.tensor(a) for n, a in read_weights(folder / WEIGHTS).items()}
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"{folder}: weights and config.json do not go together: {error}") from error
        return SequenceModel(network, told["alphabet"], told["longest"])


def _scores(nats: float) -> Scores:
    return {"cross_entropy": nats, "perplexity": float(np.exp(nats))}


def _markov(train: Several[str], test: Several[str], letters: int, order: int) -> float:
    """Cross entropy (nats) a residue of a chain of this order, every count one half too many."""
    seen: Counter[str] = Counter()
    contexts: Counter[str] = Counter()
    for text in (" " * order + s for s in train):
        for i in range(order, len(text)):
            seen[text[i - order : i + 1]] += 1
            contexts[text[i - order : i]] += 1
    total, count = 0.0, 0
    for text in (" " * order + s for s in test):
        for i in range(order, len(text)):
            chance = (seen[text[i - order : i + 1]] + 0.5) / (contexts[text[i - order : i]] + 0.5 * letters)
            total -= float(np.log(chance))
            count += 1
    return total / count
