"""Training a potential: what the loop asks of it, and how it answers many structures at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch

from . import _potential_familiar as familiar
from ._potential_data import Array, Labelled, Structure, shifted
from ._potential_net import CUTOFF, Answer, Network, graph_on

HUBER = 0.1
"""Errors beyond this (eV an atom, eV/angstrom, eV/angstrom**3) count by their size and no more by its square."""
SHARP = 0.01
"""The same for what is rehearsed, whose labels are exact and small errors of which are what is to be avoided."""
KNOWN = 128
"""Structures, at most, from which it is worked out what is familiar: more cost time at every judgement."""
BATCH = 8


@dataclass(frozen=True)
class Weights:
    """Of the parts of the loss."""

    energy: float = 1.0
    force: float = 1.0
    stress: float = 0.0


@dataclass(frozen=True)
class Told:
    """What a network says of structures, as numpy arrays: energies (b,) in eV an atom without any shift, and for each
    structure its forces, stress (where asked) and features of atoms."""

    energy: Array
    forces: list[Array]
    stress: list[Array]
    features: list[Array]


def ask(network: Network, graphs: Sequence[Any], stress: bool = False) -> Told:
    """What the network says of them, in batches; nothing is kept that could be differentiated."""
    energy, forces, stresses, features = [], list[Array](), list[Array](), list[Array]()
    training = network.training
    network.eval()
    for first in range(0, len(graphs), BATCH):
        some = graphs[first : first + BATCH]
        answer = network.answer(some, stress=stress)
        ends = np.cumsum([len(g.atomic_number) for g in some])[:-1]
        energy.append(_numpy(answer.energy))
        forces += np.split(_numpy(answer.forces), ends)
        features += np.split(_numpy(answer.features), ends)
        if answer.stress is not None:
            stresses += list(_numpy(answer.stress))
    network.train(training)
    return Told(np.concatenate(energy), forces, stresses, features)


def _numpy(tensor: torch.Tensor) -> Array:
    return tensor.detach().cpu().double().numpy()


@dataclass(frozen=True)
class _Targets:
    """Structures as graphs, with labels on the network's own scale of energies."""

    graphs: list[Any]
    energy: list[float]
    forces: list[torch.Tensor]
    stress: list[torch.Tensor | None]

    def go(self, device: torch.device) -> None:
        """Go there, where they stay."""
        if not self.forces or self.forces[0].device == device:
            return
        self.graphs[:] = [graph_on(graph, device) for graph in self.graphs]
        self.forces[:] = [forces.to(device) for forces in self.forces]
        self.stress[:] = [None if stress is None else stress.to(device) for stress in self.stress]


def _targets(network: Network, labelled: Sequence[Labelled], shift: Array) -> _Targets:
    energy = [s.energy / len(s) for s in labelled] - shifted(labelled, shift) if labelled else np.zeros(0)
    return _Targets(
        [network.graph(s) for s in labelled], energy.tolist(),
        [torch.tensor(s.forces, dtype=torch.float32) for s in labelled],
        [None if s.stress is None else torch.tensor(s.stress, dtype=torch.float32) for s in labelled],
    )  # fmt: skip


def _from_network(network: Network, structures: Sequence[Structure], stress: bool) -> _Targets:
    """Labels that a network gives itself."""
    if not structures:
        return _Targets([], [], [], [])
    graphs = [network.graph(s) for s in structures]
    told = ask(network, graphs, stress)
    return _Targets(
        graphs, told.energy.tolist(), [torch.tensor(f, dtype=torch.float32) for f in told.forces],
        [torch.tensor(s, dtype=torch.float32) for s in told.stress] if stress else [None] * len(graphs),
    )  # fmt: skip


class Learning:
    """A potential that is being trained (firstlight.models._family.Learnable).

    `shift` (ELEMENTS,) is added to the energies of the network. `rehearsed` are structures that the network, as it is
    now, labels itself; of all structures of a batch about the part `replay` is of these.
    """

    mixed = False

    def __init__(
        self, network: Network, train: Sequence[Labelled], validation: Sequence[Labelled], shift: Array,
        weights: Weights, freeze: Sequence[str], rehearsed: Sequence[Structure], replay: float, config: dict[str, Any],
    ) -> None:  # fmt: skip
        if not train or not validation:
            raise ValueError("a potential needs structures to learn from and others to be validated by")
        self.module: torch.nn.Module = network
        self._network = network
        self._weights, self._replay, self._config = weights, replay, config
        self._atoms = [len(s) for s in train]
        self._train = _targets(network, train, shift)
        self._validation = _targets(network, validation, shift)
        self._rehearsed = _from_network(network, rehearsed, weights.stress > 0)
        self._known = _spread(len(train), KNOWN)
        self.frozen = _asked_frozen(network, freeze) | self._idle()

    def __len__(self) -> int:
        return len(self._atoms)

    def loss(self, chosen: Sequence[int], seed: int) -> torch.Tensor:
        """The mean loss of these structures, and with it that of what is rehearsed beside each of them."""
        self._go()
        total, added = self._of(self._train, chosen).sum(), self._drawn(chosen, seed)
        if added:
            total = total + self._of(self._rehearsed, added, sharp=SHARP).sum()
        return total / len(chosen)

    def work(self, chosen: Sequence[int]) -> int:
        """Atoms."""
        return sum(self._atoms[i] for i in chosen)

    def validate(self) -> float:
        """The mean loss on the validation. What is familiar, and how wrong, is worked out anew for these weights."""
        self._go()
        known = ask(self._network, [self._train.graphs[i] for i in self._known])
        held = ask(self._network, self._validation.graphs)
        mean, whiten = familiar.whitening(np.concatenate(known.features))
        apart = [familiar.distances(f, mean, whiten) for f in [*held.features, *known.features]]
        errors = np.concatenate([f - _numpy(t) for f, t in zip(held.forces, self._validation.forces, strict=True)])
        of_held = np.concatenate(apart[: len(held.features)])
        for name, value in (
            ("mean", mean), ("whiten", whiten), ("limit", familiar.limit_of(apart)),
            ("scale", familiar.scale_of(of_held, errors)),
        ):  # fmt: skip
            buffer = getattr(self.module, name)
            buffer.copy_(torch.as_tensor(value, dtype=buffer.dtype))
        with torch.no_grad():
            chosen = range(len(self._validation.graphs))
            pieces = [chosen[at : at + BATCH] for at in range(0, len(chosen), BATCH)]
            return float(np.mean(np.concatenate([self._of(self._validation, p, False).cpu().numpy() for p in pieces])))

    def config(self) -> dict[str, Any]:
        """What the potential needs besides its weights."""
        return self._config

    def _go(self) -> None:
        for targets in (self._train, self._validation, self._rehearsed):
            targets.go(self._network.device)

    def _drawn(self, chosen: Sequence[int], seed: int) -> list[int]:
        """What is rehearsed beside these: drawn for each by itself, so that any share of a batch draws its own."""
        if not self._replay or not self._rehearsed.graphs:
            return []
        found, wanted = list[int](), self._replay / (1.0 - self._replay)
        for i in chosen:
            rng = np.random.default_rng([seed, i])
            count = int(wanted) + int(rng.random() < wanted % 1.0)
            found += rng.integers(len(self._rehearsed.graphs), size=count).tolist()
        return found

    def _of(self, targets: _Targets, chosen: Sequence[int], learn: bool = True, sharp: float = HUBER) -> torch.Tensor:
        """The loss of each, (b,): of its energy an atom, of the components of its forces, and of its stress.

        Errors beyond `sharp` all count alike, whatever it is."""
        stressed = self._weights.stress > 0 and any(targets.stress[i] is not None for i in chosen)
        answer = self._network.answer([targets.graphs[i] for i in chosen], stressed, learn)
        device = answer.energy.device
        energy = torch.tensor([targets.energy[i] for i in chosen], device=device)
        loss = self._weights.energy * _huber(answer.energy - energy, sharp)
        counts = [len(targets.forces[i]) for i in chosen]
        wrong = _huber(answer.forces - torch.cat([targets.forces[i] for i in chosen]), sharp)
        loss = loss + self._weights.force * torch.stack([w.mean() for w in torch.split(wrong, counts)])
        if stressed:
            loss = loss + self._weights.stress * self._stress(answer, [targets.stress[i] for i in chosen], sharp)
        return loss

    def _stress(self, answer: Answer, labels: Sequence[torch.Tensor | None], sharp: float) -> torch.Tensor:
        assert answer.stress is not None
        parts = [
            answer.energy.new_zeros(()) if label is None else _huber(told - label, sharp).mean()
            for told, label in zip(answer.stress, labels, strict=True)
        ]
        return torch.stack(parts)

    def _idle(self) -> frozenset[str]:
        """Parameters on which nothing of the loss depends: those of magnetic moments and of the last angles, and all
        that concerns angles where no two bonds are short enough to have one. They cannot be trained."""
        angles = [len(graph.bond_graph) for graph in self._train.graphs]
        loss = self._of(self._train, sorted({0, int(np.argmax(angles))})).sum()
        named = [(n, p) for n, p in self.module.named_parameters() if p.requires_grad]
        slopes = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
        moved = {n for (n, _), slope in zip(named, slopes, strict=True) if slope is not None and bool(slope.any())}
        return frozenset(n for n, _ in self.module.named_parameters() if n not in moved)


def _huber(wrong: torch.Tensor, sharp: float) -> torch.Tensor:
    loss = torch.nn.functional.huber_loss(wrong, torch.zeros_like(wrong), reduction="none", delta=sharp)
    return loss * (HUBER / sharp)


def _spread(size: int, most: int) -> list[int]:
    """As many numbers below `size`, evenly spread."""
    return list(range(size)) if size <= most else np.linspace(0, size - 1, most).astype(int).tolist()


def _asked_frozen(network: Network, freeze: Sequence[str]) -> frozenset[str]:
    """Parameters of the layers that somebody wants frozen. Raises ValueError where there is no such layer."""
    names = [name.removeprefix("net.") for name, _ in network.named_parameters()]
    layers = sorted({".".join(n.split(".")[:depth]) for n in names for depth in range(1, n.count(".") + 2)})
    for layer in freeze:
        if layer not in layers:
            near = get_close_matches(layer, layers, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(_tops(layers))}"
            raise ValueError(f"freeze: the network has no layer {layer!r}; {hint}")
    return frozenset(f"net.{n}" for n in names if any(n == layer or n.startswith(f"{layer}.") for layer in freeze))


def _tops(layers: Sequence[str]) -> list[str]:
    return sorted({layer.split(".")[0] for layer in layers})


def atoms_per_gigabyte(network: Network, graph: Any) -> int:
    """About how many atoms like these fit into a gigabyte when forces are asked for.

    What a forward pass keeps for the way back is counted, and doubled for the way back itself.
    """
    seen = dict[int, int]()

    def count(tensor: torch.Tensor) -> torch.Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        network.answer([graph])
    per_atom = 2.0 * sum(seen.values()) / len(graph.atomic_number)
    return int(float(f"{1e9 / per_atom:.2g}"))


def limits_of(config: dict[str, Any]) -> list[str]:
    """What a model card must say of a potential."""
    return [
        f"Elements it was trained on: {', '.join(config['elements'])}. The zero of others' energies is a guess.",
        f"An atom sees {CUTOFF:g} angstrom a layer; long-range electrostatics and dispersion are not in it.",
        f"About {config['atoms_per_gigabyte']:,} atoms a gigabyte of memory, with forces.",
    ]
