"""A small causal transformer over residues, in training and in use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ._device import Data, device_of

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
        # It says twice that nobody looks ahead: as a mask, and so that kernels may be chosen that need none.
        made: torch.Tensor = self.layers(self.letters(tokens) + self.places(places), mask=later, is_causal=True)
        return made

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.out(self.hidden(tokens))
        return made


def tokens(sequences: Sequence[str], alphabet: str, longest: int) -> torch.Tensor:
    """Residues (n, length + 1) after a mark of the beginning, padded, in bytes where they fit into them.

    Raises ValueError for an unknown letter.
    """
    kind = np.uint8 if len(alphabet) + 2 <= 256 else np.int64
    made = np.full((len(sequences), 1 + max(map(len, sequences), default=0)), PAD, kind)
    made[:, 0] = BEGIN
    place = np.zeros(128, kind)
    place[[ord(letter) for letter in alphabet]] = np.arange(2, len(alphabet) + 2)
    for i, sequence in enumerate(sequences):
        if strange := sorted(set(sequence) - set(alphabet)):
            raise ValueError(f"{sequence[:20]}...: {', '.join(strange)} is not in the alphabet {alphabet}")
        if not 0 < len(sequence) <= longest:
            raise ValueError(
                f"{sequence[:20]}...: it is {len(sequence)} residues long; from 1 to {longest} are possible"
            )
        made[i, 1 : len(sequence) + 1] = place[np.frombuffer(sequence.encode("ascii"), np.uint8)]
    return torch.from_numpy(made)


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
        self.module, self._config = module, config
        self._lengths, self._held_lengths = [len(s) for s in train], [len(s) for s in held]
        self._mean = sum(self._lengths) / len(self._lengths)
        self._train, self._held = (Data(tokens(s, config["alphabet"], config["longest"])) for s in (train, held))

    def __len__(self) -> int:
        return len(self._train)

    def loss(self, chosen: Sequence[int], seed: int) -> torch.Tensor:
        """Cross entropy (nats) of a sequence, over the mean length of all: as much a residue. Nothing is drawn."""
        total, _ = self._losses(self._train, self._lengths, chosen)
        return total.mean() / self._mean

    def work(self, chosen: Sequence[int]) -> int:
        """Residues."""
        return sum(self._lengths[i] for i in chosen)

    def validate(self) -> float:
        """Cross entropy a residue (nats) on the validation."""
        pieces = [range(i, min(i + 32, len(self._held))) for i in range(0, len(self._held), 32)]
        with torch.no_grad():
            found = [self._losses(self._held, self._held_lengths, piece) for piece in pieces]
        return float(sum(t.sum() for t, _ in found) / sum(c.sum() for _, c in found))

    def config(self) -> dict[str, Any]:
        """What `Sequence.load` needs besides the weights."""
        return dict(self._config)

    def _losses(
        self, data: Data, lengths: Sequence[int], chosen: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        (asked,) = data.take(chosen, self.module)
        return losses(self.module, asked[:, : 1 + max(lengths[i] for i in chosen)].long())


class SequenceModel:
    """A model in use. `version` is set by whoever loads it from the registry."""

    def __init__(self, network: Network, alphabet: str, longest: int) -> None:
        self.network, self.alphabet, self.longest, self.version = network.eval(), alphabet, longest, ""

    def score(self, sequences: Sequence[str]) -> npt.NDArray[np.float64]:
        """The log likelihood (nats) of each sequence, (n,). Raises ValueError for one that it cannot read."""
        with torch.no_grad():
            made = [-losses(self.network, part)[0] for part in self._parts(sequences)]
        return np.concatenate([p.double().cpu().numpy() for p in made]) if made else np.zeros(0)

    def embed(self, sequences: Sequence[str]) -> npt.NDArray[np.float64]:
        """The mean state (n, width) over the residues of each sequence. Raises ValueError as `score`."""
        made = []
        for part in self._parts(sequences):
            known = (part != PAD)[..., None]
            known[:, 0] = False
            with torch.no_grad():
                states = self.network.hidden(part).double()
            made.append((torch.where(known, states, 0.0).sum(1) / known.sum(1)).cpu().numpy())
        return np.concatenate(made) if made else np.zeros((0, self.network.out.in_features))

    def _parts(self, sequences: Sequence[str]) -> list[torch.Tensor]:
        there, at = device_of(self.network), range(0, len(sequences), 32)
        return [tokens(sequences[i : i + 32], self.alphabet, self.longest).to(there).long() for i in at]
