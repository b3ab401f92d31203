"""Interatomic potentials: energies, forces and stresses of structures, learned from few labels on top of CHGNet.

    family = Potential(start="chgnet-0.3.0", replay=0.25)

Examples are the structures of extended XYZ files (energy in eV, forces in eV/angstrom, stress in eV/angstrom**3, as
ASE writes them). What comes out is an ASE calculator that says, besides, whether it has seen anything alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from firstlight.core import Value

from ._family import Examples, Inherited, Item, Learnable, Scores
from ._options import read_options
from ._potential_data import (
    ELEMENTS,
    SUFFIXES,
    Array,
    Group,
    Labelled,
    fit_shift,
    formula,
    key,
    read_file,
    shifted,
)  # fmt: skip
from ._release import CONFIG, WEIGHTS
from ._wheel import in_wheel

if TYPE_CHECKING:
    from ._potential_net import Network
    from .adapters.ase import PotentialCalculator

Start = Literal["chgnet-0.3.0", "chgnet-r2scan", "scratch"]
STARTS: tuple[Literal["chgnet-0.3.0", "chgnet-r2scan"], ...] = ("chgnet-0.3.0", "chgnet-r2scan")
"""Those that come in a wheel."""
GPA = 160.21766208
"""GPa in an eV/angstrom**3."""


class PotentialOptions(Value, frozen=True):
    """What a potential is trained from, and how.

    `start` is where training begins when no released version is its parent. Layers named in `freeze` (and what is
    below them: "atom_embedding", "atom_conv_layers.0") stay as they are. `energy_weight`, `force_weight` and
    `stress_weight` are those of the parts of the loss; stress counts where structures are labelled with it.
    About the part `replay` of what is trained on are crystals as the parent sees them, lest it forget them. Structures
    of one `group` are never both trained on and tested with. Unlabelled structures are refused, or left out.
    """

    start: Start = "chgnet-0.3.0"
    freeze: tuple[str, ...] = ()
    energy_weight: float = 1.0
    force_weight: float = 1.0
    stress_weight: float = 0.0
    replay: float = 0.0
    group: Group = "composition"
    unlabelled: Literal["refuse", "skip"] = "refuse"

    def __post_init__(self) -> None:
        weights = (self.energy_weight, self.force_weight, self.stress_weight)
        if not all(0.0 <= weight < float("inf") for weight in weights) or not 0.0 <= self.replay < 1.0:
            raise ValueError("energy_weight, force_weight and stress_weight must be at least 0, and replay below 1")
        if not self.energy_weight + self.force_weight > 0:
            raise ValueError("energy_weight or force_weight must be more than 0")


class Potential:
    """A family of potentials (firstlight.models._family.Family), made with PotentialOptions."""

    metric = "force_mae"
    suffixes = SUFFIXES

    def __init__(self, **options: object) -> None:
        self.options = read_options(PotentialOptions, options, "potential")

    # ------------------------------------------------------------------ reading

    def read(self, items: Sequence[Item], files: Sequence[Path]) -> Examples:
        """The labelled structures of all extended XYZ files among these. Raises ValueError."""
        found = []
        for item, path in zip(items, files, strict=True):
            if not item.path.lower().endswith(SUFFIXES):
                continue
            for number, (labelled, atoms) in enumerate(read_file(path, item.path, self.options.unlabelled)):
                same = key(labelled)
                group = {"composition": formula(atoms), "file": item.digest, "structure": same}[self.options.group]
                # Where two are the same it depends on the bytes, and on nothing else, which comes first.
                found.append((same, item.digest, number, group, labelled))
        if not found:
            there = ", ".join(sorted(item.path for item in items)) or "none"
            raise ValueError(f"no labelled structures are in these files ({there}): add some as {SUFFIXES[0]}")
        found.sort(key=lambda one: one[:3])
        return Examples([one[4] for one in found], [one[3] for one in found], [one[0] for one in found])

    # ------------------------------------------------------------------ learning

    def inherited(self) -> tuple[Inherited, ...]:
        """The weights of CHGNet that training begins with, unless it does from scratch. Raises ValueError."""
        if self.options.start == "scratch":
            return ()
        # The licence is BSD with three clauses and LBNL's word on enhancements.
        folder = self.options.start.removeprefix("chgnet-")
        return (in_wheel(self.options.start, "chgnet", f"pretrained/{folder}/*.pth.tar", "BSD-3-Clause-LBNL"),)

    def begin(self, train: Examples, validation: Examples, parent: Path | None, seed: int) -> Learnable:
        """A potential to train, with the zero of its energies already where these labels have theirs."""
        from ase.data import chemical_symbols  # noqa: PLC0415

        from . import _potential_net as net  # noqa: PLC0415
        from . import _potential_train as training  # noqa: PLC0415
        from ._potential_replay import rehearsal  # noqa: PLC0415

        told: dict[str, Any] = {}
        if parent is not None:
            network, told = net.from_folder(parent)
        else:
            network = _network(self.options.start, seed)
        if self.options.stress_weight and all(s.stress is None for s in train.items):
            weight = self.options.stress_weight
            raise ValueError(f"stress_weight is {weight:g}, but no structure is labelled with a stress")
        if self.options.replay and parent is None and self.options.start == "scratch":
            raise ValueError("replay needs a parent to be rehearsed: a network from scratch has nothing to forget")
        graphs = [network.graph(s) for s in train.items]
        shift = _refitted(network, train.items, graphs)
        others = labels_of(train.items).mean() - training.ask(network, graphs).energy.mean()
        known = {chemical_symbols.index(e): v for e, v in told.get("shift", {}).items()}
        here = {int(z) for s in train.items for z in s.numbers}
        shift[[z - 1 for z in known if z not in here]] = [v for z, v in known.items() if z not in here]
        config: dict[str, Any] = {
            "architecture": "chgnet", "arguments": network.arguments, "origin": told.get("origin", self.options.start),
            "elements": sorted({chemical_symbols[z] for z in here} | set(told.get("elements", ()))),
            "shift": {chemical_symbols[z]: float(shift[z - 1]) for z in sorted(here | known.keys())},
            "shift_others": float(others),
            "cutoff": net.CUTOFF,
            "atoms_per_gigabyte": training.atoms_per_gigabyte(network, max(graphs, key=lambda g: len(g.atomic_number))),
        }  # fmt: skip
        config["limits"] = training.limits_of(config)
        weights = training.Weights(self.options.energy_weight, self.options.force_weight, self.options.stress_weight)
        return training.Learning(
            network, train.items, validation.items, shift, weights, self.options.freeze,
            rehearsal(seed) if self.options.replay else (), self.options.replay, config,
        )  # fmt: skip

    # ------------------------------------------------------------------ judging

    def evaluate(self, folder: Path, test: Examples) -> Scores:
        """Mean absolute errors: `energy_mae` in meV an atom, `force_mae` in meV/angstrom over all components,
        `force_mae_worst` of the tenth of structures with the worst forces, and `stress_mae` in GPa where there are
        stresses. `force_rank` (-1 to 1) is how well the stated uncertainty ranks structures by the error of their
        forces, and `familiar` the share of structures that it thinks it knows: neither says how bad a model is."""
        from . import _potential_net as net  # noqa: PLC0415

        network, config = net.from_folder(folder)
        return _scores(network, test.items, shift_of(config), True)

    def baselines(self, train: Examples, test: Examples) -> dict[str, Scores]:
        """The parent as it comes in its wheel, with its energies shifted; and nothing but a sum over elements."""
        start = "chgnet-0.3.0" if self.options.start == "scratch" else self.options.start
        network = _network(start, 0)
        graphs = [network.graph(s) for s in train.items]
        labels = np.array([s.energy / len(s) for s in train.items])
        alone = fit_shift(train.items, labels)
        missed = labels_of(test.items) - shifted(test.items, alone)
        return {
            f"{start} as it comes": _scores(network, test.items, _refitted(network, train.items, graphs), False),
            "energies of elements": _errors(test.items, missed, [-s.forces for s in test.items],
                                            [None if s.stress is None else -s.stress for s in test.items]),
        }  # fmt: skip

    def forgetting(self, folder: Path, parent: Path) -> Scores:
        """How far it has moved from its parent on crystals that neither was trained on here: `probe_force` in
        meV/angstrom and `probe_energy` in meV an atom, mean absolute differences, without shifts of energy."""
        from . import _potential_net as net  # noqa: PLC0415

        return drift(net.from_folder(folder)[0], net.from_folder(parent)[0])

    # ------------------------------------------------------------------ using

    def load(self, folder: Path) -> PotentialCalculator:
        """An ASE calculator."""
        from . import _potential_net as net  # noqa: PLC0415
        from .adapters.ase import PotentialCalculator  # noqa: PLC0415

        network, config = net.from_folder(folder)
        return PotentialCalculator(network, config)


# ------------------------------------------------------------------ what others use, too


def from_wheel(start: Literal["chgnet-0.3.0", "chgnet-r2scan"], folder: Path) -> None:
    """Write the weights of CHGNet's wheel as a release, so that versions can have it as their parent.

    What it was trained on is not at hand, so nothing is familiar to it and its uncertainty is nothing."""
    import json  # noqa: PLC0415

    from safetensors.torch import save_file  # noqa: PLC0415

    from ._potential_net import CUTOFF  # noqa: PLC0415

    network = _network(start, 0)
    config = {
        "architecture": "chgnet", "arguments": network.arguments, "origin": start, "elements": [], "shift": {},
        "shift_others": 0.0, "cutoff": CUTOFF,
    }  # fmt: skip
    told = {
        "format": 1, "name": start, "family": "potential", "options": {"start": start},
        "metric": Potential.metric, "config": config, "parts": {},
        "inherited": msgspec.to_builtins(Potential(start=start).inherited()),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: t.contiguous().clone() for k, t in network.state_dict().items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(told, indent=1, allow_nan=False))


def shift_of(config: dict[str, Any]) -> Array:
    """The shifts of a released potential by atomic number less one, eV."""
    from ase.data import chemical_symbols  # noqa: PLC0415

    shift = np.full(ELEMENTS, float(config["shift_others"]))
    for element, value in config["shift"].items():
        shift[chemical_symbols.index(element) - 1] = value
    return shift


def drift(network: Network, before: Network) -> Scores:
    """How far a network is from another on the crystals of the probe; see `Potential.forgetting`."""
    from ._potential_replay import probe  # noqa: PLC0415
    from ._potential_train import ask  # noqa: PLC0415

    graphs = [network.graph(s) for s in probe()]
    now, then = ask(network, graphs), ask(before, graphs)
    forces = np.concatenate(now.forces) - np.concatenate(then.forces)
    return {
        "probe_force": 1e3 * float(np.abs(forces).mean()),
        "probe_energy": 1e3 * float(np.abs(now.energy - then.energy).mean()),
    }


def labels_of(structures: Sequence[Labelled]) -> Array:
    """Their energies, eV an atom (n,)."""
    return np.array([s.energy / len(s) for s in structures])


# ------------------------------------------------------------------ private


def _network(start: str, seed: int) -> Network:
    from . import _potential_net as net  # noqa: PLC0415

    return net.from_scratch(seed) if start == "scratch" else net.from_wheel(start)


def _refitted(network: Network, structures: Sequence[Labelled], graphs: Sequence[Any]) -> Array:
    from ._potential_train import ask  # noqa: PLC0415

    return fit_shift(structures, labels_of(structures) - ask(network, graphs).energy)


def _scores(network: Network, structures: Sequence[Labelled], shift: Array, trained: bool) -> Scores:
    from . import _potential_familiar as familiar  # noqa: PLC0415
    from ._potential_train import ask  # noqa: PLC0415

    stressed = any(s.stress is not None for s in structures)
    told = ask(network, [network.graph(s) for s in structures], stressed)
    missed = labels_of(structures) - told.energy - shifted(structures, shift)
    stresses: list[Array | None] = [None] * len(structures)
    if stressed:
        stresses = [None if s.stress is None else t - s.stress for s, t in zip(structures, told.stress, strict=True)]
    wrong = [f - s.forces for s, f in zip(structures, told.forces, strict=True)]
    scores = _errors(structures, missed, wrong, stresses)
    if trained:
        from scipy.stats import spearmanr  # noqa: PLC0415

        apart = [network.apart(f) for f in told.features]
        scores["familiar"] = float(np.mean([a.max() <= float(network.limit) for a in apart]))
        if len(structures) > 2:
            by = [familiar.doubt(a) for a in apart]
            scores["force_rank"] = float(spearmanr(by, [np.abs(w).mean() for w in wrong]).statistic)
    return scores


def _errors(
    structures: Sequence[Labelled], energy: Array, forces: Sequence[Array], stresses: Sequence[Array | None]
) -> Scores:
    """Scores of errors."""
    each = np.sort([float(np.abs(f).mean()) for f in forces])
    scores = {
        "energy_mae": 1e3 * float(np.abs(energy).mean()),
        "force_mae": 1e3 * float(np.abs(np.concatenate(forces)).mean()),
        "force_mae_worst": 1e3 * float(each[-max(1, round(0.1 * len(structures))) :].mean()),
    }
    if known := [s for s in stresses if s is not None]:
        scores["stress_mae"] = GPA * float(np.abs(np.stack(known)).mean())
    return scores
