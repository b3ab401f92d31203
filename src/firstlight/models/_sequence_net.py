"""A small causal transformer over residues, in training and in use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

BEGIN, PAD = 0, 1


class Network(nn.Module):
    """From residues (n, length) to the logits of the next one; `hidden` are the states before the last layer."""

    def __init__(self, letters: int, width: int, layers: int, heads: int, longest: int) -> None:
        super().__init__()
        self.letters = nn.Embedding(letters + 2, width)
        self.places = nn.Embedding(longest + 1, width)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.out = nn.Linear(width, letters + 1)

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        later = torch.triu(torch.ones(len(places), len(places), dtype=torch.bool, device=tokens.device), 1)
        made: torch.Tensor = self.layers(self.letters(tokens) + self.places(places), mask=later)
        return made

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.out(self.hidden(tokens))
        return made


def tokens(sequences: Sequence[str], alphabet: str, longest: int) -> torch.Tensor:
    """Residues (n, length + 1) after a mark of the beginning, padded. Raises ValueError for an unknown letter."""
    place = {letter: i + 2 for i, letter in enumerate(alphabet)}
    made = torch.full((len(sequences), 1 + max(map(len, sequences), default=0)), PAD)
    made[:, 0] = BEGIN
    for i, sequence in enumerate(sequences):
        if strange := sorted(set(sequence) - place.keys()):
            raise ValueError(f"{sequence[:20]}...: {', '.join(strange)} is not in the alphabet {alphabet}")
        if not 0 < len(sequence) <= longest:
            raise ValueError(
                f"{sequence[:20]}...: it is {len(sequence)} residues long; from 1 to {longest} are possible"
            )
        made[i, 1 : len(sequence) + 1] = torch.tensor([place[letter] for letter in sequence])
    return made


def losses(network: Network, asked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Minus the log likelihood (nats) of every sequence, and its length, (n,) each."""
    logits, wanted = network(asked[:, :-1]).float(), asked[:, 1:]
    known = wanted != PAD
    each = nn.functional.cross_entropy(logits.flatten(0, 1), (wanted - 1).flatten(), reduction="none").view(
        wanted.shape
    )
    return torch.where(known, each, 0.0).sum(1), known.sum(1)


class SequenceLearner:
    """A model of sequences that is being trained."""

    frozen: frozenset[str] = frozenset()
    mixed = True

    def __init__(self, module: Network, config: dict[str, Any], train: Sequence[str], held: Sequence[str]) -> None:
        self.module, self._config, self._train, self._held = module, config, list(train), list(held)

    def __len__(self) -> int:
        return len(self._train)

    def loss(self, chosen: Sequence[int], seed: int) -> torch.Tensor:
        """Cross entropy a residue (nats); nothing is drawn."""
        total, count = losses(self.module, self._tokens([self._train[i] for i in chosen]))
        return total.sum() / count.sum()

    def work(self, chosen: Sequence[int]) -> int:
        """Residues."""
        return sum(len(self._train[i]) for i in chosen)

    def validate(self) -> float:
        """Cross entropy a residue (nats) on the validation."""
        with torch.no_grad():
            found = [losses(self.module, self._tokens(self._held[i : i + 32])) for i in range(0, len(self._held), 32)]
        return float(sum(t.sum() for t, _ in found) / sum(c.sum() for _, c in found))

    def config(self) -> dict[str, Any]:
        """What `Sequence.load` needs besides the weights."""
        return dict(self._config)

    def _tokens(self, sequences: Sequence[str]) -> torch.Tensor:
        device = next(self.module.parameters()).device
        return tokens(sequences, self._config["alphabet"], self._config["longest"]).to(device)


class SequenceModel:
    """A model in use. `version` is set by whoever loads it from the registry."""

    def __init__(self, network: Network, alphabet: str, longest: int) -> None:
        self.network, self.alphabet, self.longest, self.version = network.eval(), alphabet, longest, ""

    def score(self, sequences: Sequence[str]) -> npt.NDArray[np.float64]:
        """The log likelihood (nats) of each sequence, (n,). Raises ValueError for one that it cannot read."""
        made = [-losses(self.network, part)[0] for part in self._parts(sequences)]
        return np.concatenate([p.detach().double().numpy() for p in made]) if made else np.zeros(0)

    def embed(self, sequences: Sequence[str]) -> npt.NDArray[np.float64]:
        """The mean state (n, width) over the residues of each sequence. Raises ValueError as `score`."""
        made = []
        for part in self._parts(sequences):
            known = (part != PAD)[..., None]
            known[:, 0] = False
            with torch.no_grad():
                states = self.network.hidden(part).double()
            made.append((torch.where(known, states, 0.0).sum(1) / known.sum(1)).numpy())
        return np.concatenate(made) if made else np.zeros((0, self.network.out.in_features))

    def _parts(self, sequences: Sequence[str]) -> list[torch.Tensor]:
        return [tokens(sequences[i : i + 32], self.alphabet, self.longest) for i in range(0, len(sequences), 32)]
