"""CHGNet (Deng and others, Nature Machine Intelligence 5, 1031, 2023) as a network to train and to ask.

Nothing else knows what it is made of: another network would be a module with these names. This one wants torch.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ._potential_data import Array, Structure
from ._potential_familiar import distances
from ._release import CONFIG, WEIGHTS

STARTS = {"chgnet-0.3.0": ("0.3.0", "MPtrj"), "chgnet-r2scan": ("r2scan", "MP-r2SCAN")}
"""The weights in CHGNet's wheel by our names: their folder there, and the energies of atoms that they go with."""
FEATURES = 64
CUTOFF = 6.0
"""How far an atom sees in one layer, angstrom."""
LAYERS = 4


@dataclass(frozen=True)
class Answer:
    """Of a batch: energies (b,) in eV an atom, forces (n, 3) of all atoms in eV/angstrom, stresses (b, 3, 3) in
    eV/angstrom**3 (None where not asked), and features of all atoms (n, FEATURES)."""

    energy: torch.Tensor
    forces: torch.Tensor
    stress: torch.Tensor | None
    features: torch.Tensor


class Network(torch.nn.Module):
    """CHGNet, and what it needs to say how far it may be believed (see _potential_familiar).

    `mean` and `whiten` make features of atoms that it learned from uncorrelated and of unit variance; an atom further
    from all of them than `limit` is unfamiliar; `scale` (eV/angstrom) makes an error of forces of that distance.
    """

    mean: torch.Tensor
    whiten: torch.Tensor
    limit: torch.Tensor
    scale: torch.Tensor

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__()
        from chgnet.model.model import CHGNet  # noqa: PLC0415

        self.arguments = arguments
        with redirect_stdout(StringIO()):  # It says how many parameters it has.
            self.net = CHGNet(**arguments)
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("whiten", torch.eye(FEATURES))
        self.register_buffer("limit", torch.tensor(float("inf")))
        self.register_buffer("scale", torch.tensor(0.0))

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def answer(self, graphs: Sequence[Any], stress: bool = False, learn: bool = False) -> Answer:
        """Energies and their derivatives; with `learn` these can themselves be differentiated by the weights.

        One pass backward gives forces and stress: the derivatives by fractional coordinates and by the lattice.
        """
        graphs = [graph_on(graph, self.device) for graph in graphs]
        counts = torch.tensor([len(g.atomic_number) for g in graphs], device=self.device)
        # Forces are differences of large numbers: in half precision little is left of them.
        with torch.enable_grad(), warnings.catch_warnings(), exact(self.device):
            # CHGNet takes the volume, which it does not differentiate, out of a tensor that could be.
            warnings.filterwarnings("ignore", "Converting a tensor with requires_grad=True to a scalar", UserWarning)
            made = self.net(graphs, task="e", return_atom_feas=True)
            places = [g.atom_frac_coord for g in graphs]
            wanted = [*places, *(g.lattice for g in graphs)] if stress else places
            slopes = torch.autograd.grad((made["e"] * counts).sum(), wanted, create_graph=learn)
        edges = [g.lattice.detach() for g in graphs]
        forces = [-by @ torch.linalg.inv(lattice).T for by, lattice in zip(slopes, edges, strict=False)]
        stresses = None
        if stress:
            pairs = zip(slopes[len(graphs) :], edges, strict=True)
            stresses = torch.stack([lattice.T @ by / torch.linalg.det(lattice).abs() for by, lattice in pairs])
        answer = Answer(made["e"], torch.cat(forces), stresses, torch.cat(list(made["atom_fea"])))
        if learn:
            return answer
        stresses = None if stresses is None else stresses.detach()
        return Answer(answer.energy.detach(), answer.forces.detach(), stresses, answer.features.detach())

    def apart(self, features: Array) -> Array:
        """How far atoms are from those that it learned from, (n,), by their features (n, FEATURES)."""
        return distances(features, self.mean.double().cpu().numpy(), self.whiten.double().cpu().numpy())

    def graph(self, structure: Structure) -> Any:
        """What the network sees of a structure. Raises ValueError where an atom has no other within CUTOFF."""
        cell, positions = boxed(structure)
        crystal = import_module("pymatgen.core").Structure(
            cell, structure.numbers.tolist(), positions, coords_are_cartesian=True, to_unit_cell=False
        )
        try:
            graph = self.net.graph_converter(crystal)
        except ValueError as error:
            raise ValueError(f"an atom of {crystal.formula} has no other within {CUTOFF:g} angstrom") from error
        graph.atom_frac_coord.requires_grad_()
        graph.lattice.requires_grad_()
        return graph


def boxed(structure: Structure) -> tuple[Array, Array]:
    """Cell and positions with empty space along axes that are not periodic, so that nothing meets its own image."""
    if all(structure.periodic):
        return structure.cell, structure.positions
    atoms = import_module("ase").Atoms(
        structure.numbers, structure.positions, cell=structure.cell, pbc=structure.periodic
    )
    apart = tuple(axis for axis in range(3) if not structure.periodic[axis])
    atoms.center(vacuum=CUTOFF, axis=apart)
    return np.asarray(atoms.cell.array), np.asarray(atoms.positions)


def exact(device: torch.device) -> AbstractContextManager[Any]:
    """No half precision in here, where the device has it."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


def graph_on(graph: Any, device: torch.device) -> Any:
    """The graph on that device; itself where it is there."""
    if graph.lattice.device == device:
        return graph
    there = graph.to(device)
    for name in ("atom_frac_coord", "lattice"):
        setattr(there, name, getattr(there, name).detach().requires_grad_())
    return there


# ------------------------------------------------------------------ where networks come from


def from_wheel(start: str) -> Network:
    """CHGNet with the weights of its wheel, one of STARTS. They are read as numbers, never as code.

    Raises ValueError where CHGNet is not installed.
    """
    folder, _ = STARTS[start]
    found = find_spec("chgnet")
    if found is None or found.origin is None:
        raise ValueError(f"start: {start!r} is in the package chgnet, which is not installed: pip install chgnet")
    (path,) = sorted((Path(found.origin).parent / "pretrained" / folder).glob("*.pth.tar"))
    told = torch.load(path, map_location="cpu", weights_only=True)["model"]
    network = Network(told["model_args"])
    network.net.load_state_dict(told["state_dict"])
    return network


def from_scratch(seed: int) -> Network:
    """A network of the same shape that has learned nothing but the energies of atoms."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network({
            "composition_model": STARTS["chgnet-0.3.0"][1], "num_radial": 31, "num_angular": 31, "n_conv": LAYERS,
            "mlp_hidden_dims": [64, 64, 64], "atom_graph_cutoff": CUTOFF, "bond_graph_cutoff": 3.0, "cutoff_coeff": 8,
            "learnable_rbf": True,
        })  # fmt: skip


def from_folder(folder: Path) -> tuple[Network, dict[str, Any]]:
    """A released network with the `config` it was released with.

    Raises ValueError where it is none of these, FileNotFoundError where there is nothing.
    """
    from safetensors.torch import load_file  # noqa: PLC0415

    told = json.loads((folder / CONFIG).read_bytes())["config"]
    if told.get("architecture") != "chgnet":
        raise ValueError(f"{folder} holds a {told.get('architecture', 'model of another family')}, not a chgnet")
    network = Network(told["arguments"])
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except RuntimeError as error:
        raise ValueError(f"the weights in {folder} are of another shape than its config.json says: {error}") from error
    return network, told
