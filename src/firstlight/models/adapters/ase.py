"""A potential as an ASE calculator: energy, forces and stress, and whether it has seen anything alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase.calculators.calculator import Calculator, all_changes
from ase.data import atomic_numbers

from .._potential_data import structure_of


class PotentialCalculator(Calculator):
    """Made by `firstlight.models.potential.Potential.load`, or of a network and the config of its release.

    Besides what ASE knows, `results` has, after each calculation, `uncertainty` (n,): the deviation to be expected of a
    component of the force on each atom, eV/angstrom; and `familiar`, which is False where an atom is unlike all that
    the potential learned from, or of an element it never saw: then no figure holds, the uncertainty least of all.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, network: Any, config: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self.network = network.eval().requires_grad_(False)
        self.shift = {atomic_numbers[element]: value for element, value in config["shift"].items()}
        self.others = float(config["shift_others"])
        self.elements = {atomic_numbers[element] for element in config["elements"]}

    def calculate(
        self, atoms: Any = None, properties: Sequence[str] = ("energy",), system_changes: Sequence[str] = all_changes
    ) -> None:
        """All of it at once. Raises ValueError for what the network cannot see, an atom all alone above all."""
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        structure = structure_of(self.atoms)
        answer = self.network.answer([self.network.graph(structure)], stress=True)
        apart = self.network.apart(answer.features.double().cpu().numpy())
        energy = len(structure) * float(answer.energy[0])
        energy += sum(self.shift.get(int(z), self.others) for z in structure.numbers)
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": answer.forces.double().cpu().numpy(),
            "uncertainty": float(self.network.scale) * apart,
            "familiar": bool(apart.max() <= float(self.network.limit))
            and {int(z) for z in structure.numbers} <= self.elements,
        }
        if all(structure.periodic):
            stress = answer.stress[0].double().cpu().numpy()
            self.results["stress"] = 0.5 * (stress + stress.T).reshape(9)[[0, 4, 8, 5, 2, 1]]
