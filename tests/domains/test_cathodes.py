"""Olivine cathodes: their crystallography here, and CHGNet where it is installed, beside us or in its own environment.

The voltages of all four pure compounds take a minute or two: they are computed where FIRSTLIGHT_HEAVY=1.
"""

import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from firstlight import app, core
from firstlight.domains import cathodes
from firstlight.domains._apart import interpreter

MEASURED = {"Fe": 3.45, "Mn": 4.1, "Co": 4.8, "Ni": 5.2}
"""Volts against lithium: docs/domains/cathodes.md says who measured them."""

FIRST = """
import json, sys
import ase
from firstlight.core import Failed
from firstlight.domains import cathodes

def seen(atoms):
    potential = cathodes.Potential()
    return [potential.get_potential_energy(atoms), potential.get_forces(atoms).tolist(),
            potential.get_stress(atoms).tolist()]

# LiMnO2, mp-18767 of the Materials Project: the structure that CHGNet's own tests take.
places = [(0.5, 0.5, 0.3797505), (0, 0, 0.6202495), (0.5, 0.5, 0.8632525), (0, 0, 0.1367475),
          (0.5, 0, 0.3608245), (0, 0.5, 0.0985135), (0.5, 0, 0.9014865), (0, 0.5, 0.6391755)]
oxide = ase.Atoms("Li2Mn2O4", scaled_positions=places, cell=[2.868779, 4.634475, 5.832507], pbc=True)
iron = ("Fe",) * 4
found = {"oxide": seen(oxide), "evaluated": cathodes.evaluate({"Fe": 4, "Mn": 0, "Co": 0, "Ni": 0})}
again = [cathodes.relax(cathodes.olivine(iron)) for _ in range(2)]
found["energies"] = [r.energy for r in again]
found["edges"] = again[0].atoms.cell.lengths().tolist()
start = cathodes.olivine(("Fe", "Mn", "Co", "Ni"))
found["symbols"] = start.get_chemical_symbols()
found["nearest"] = min(d for row in start.get_all_distances(mic=True).tolist() for d in row if d > 0)
cathodes.STEPS = 2
try:
    cathodes.relax(cathodes.olivine(("Mn",) * 4, lithium=()))
except Failed as failed:
    found["failed"] = [failed.cause, failed.message]
json.dump(found, sys.stdout)
"""

SYMMETRIES = """
import json, sys, warnings
warnings.simplefilter("ignore")
from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from firstlight.domains import cathodes

found = []
for metals in json.loads(sys.argv[1]):
    atoms = cathodes.olivine(tuple(metals))
    structure = Structure(atoms.cell.array, atoms.get_chemical_symbols(), atoms.get_scaled_positions())
    analyzer = SpacegroupAnalyzer(structure)
    alike = [s for s in analyzer.get_symmetrized_structure().equivalent_indices if s[0] < 4]
    found.append([analyzer.get_space_group_symbol(), [sorted(int(i) for i in s) for s in alike]])
json.dump(found, sys.stdout)
"""

PURE = """
import json, sys
from firstlight.domains import cathodes

points = [{m: 4 * (m == metal) for m in cathodes.METALS} for metal in cathodes.METALS]
json.dump([cathodes.evaluate(p) for p in [*points, {"Fe": 3, "Mn": 0, "Co": 0, "Ni": 1}]], sys.stdout)
"""


def python_with_chgnet() -> Path:
    if find_spec("chgnet") is not None:
        return Path(sys.executable)
    python = interpreter("cathodes")
    if python is None:
        pytest.skip("neither chgnet nor its own environment is here")
    return python


def run(script: str, *arguments: str) -> Any:
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [python_with_chgnet(), "-W", "error", "-c", script, *arguments],
        env={**os.environ, **one_thread}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def first() -> Any:
    """What CHGNet says in one process: the import of torch is most of it."""
    return run(FIRST)


def compositions() -> list[dict[str, int]]:
    every = itertools.product(range(cathodes.SITES + 1), repeat=len(cathodes.METALS))
    return [dict(zip(cathodes.METALS, n, strict=True)) for n in every if sum(n) == cathodes.SITES]


# ------------------------------------------------------------------ without CHGNet


def test_the_space_is_the_35_compositions() -> None:
    spec = cathodes.spec()
    app.check_spec(spec)
    every = itertools.product(range(cathodes.SITES + 1), repeat=len(cathodes.METALS))
    allowed = [n for n in every if not core.violations(spec, dict(zip(cathodes.METALS, n, strict=True)))]
    assert len(allowed) == 35
    assert all(sum(n) == 4 for n in allowed)


def test_theoretical_capacities() -> None:
    published = {"Fe": 170, "Mn": 171, "Co": 167, "Ni": 167}
    for metal, capacity in published.items():
        assert cathodes.theoretical_capacity({metal: 4}) == pytest.approx(capacity, abs=0.5)
    assert cathodes.theoretical_capacity({"Fe": 4}) == pytest.approx(169.9, abs=0.05)


def test_arrangements_are_all_there_and_no_two_alike() -> None:
    counts = Counter(len(list(cathodes.arrangements(amounts))) for amounts in compositions())
    # One metal, or three and one; two and two, or two, one and one; all four.
    assert counts == {1: 4 + 12, 3: 6 + 12, 6: 1}
    pairs = list(cathodes.arrangements({"Fe": 2, "Mn": 2, "Co": 0, "Ni": 0}))
    assert pairs == [("Fe", "Fe", "Mn", "Mn"), ("Fe", "Mn", "Fe", "Mn"), ("Fe", "Mn", "Mn", "Fe")]


def test_equivalent_places() -> None:
    for place, expected in (((0.0, 0.0, 0.0), 4), ((0.28, 0.25, 0.975), 4), ((0.163, 0.047, 0.282), 8)):
        found = {tuple(round(x % 1, 6) for x in p) for p in cathodes.equivalent(place)}
        assert len(list(cathodes.equivalent(place))) == len(found) == expected
        # What is equivalent to one is equivalent to all.
        for other in cathodes.equivalent((place[0], place[1], place[2])):
            x, y, z = (c % 1 for c in other)
            assert tuple(round((1 - c) % 1, 6) for c in (x, y, z)) in found


@pytest.mark.parametrize("amounts", [(3, 0, 0, 0), (5, -1, 0, 0), (2.5, 1.5, 0, 0)])
def test_amounts_that_are_no_cell_are_invalid(amounts: tuple[float, ...]) -> None:
    with pytest.raises(core.Failed, match="whole sites that sum to 4") as failed:
        cathodes.evaluate(dict(zip(cathodes.METALS, amounts, strict=True)))
    assert failed.value.cause == "invalid-input"


def test_it_becomes_a_command_where_chgnet_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "cathodes" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    domain = replace(cathodes.DOMAIN, modules=("surely_not_installed",))
    monkeypatch.setenv("FIRSTLIGHT_SIMULATORS", str(tmp_path))
    assert domain.missing() == ""
    (step,) = domain.campaign().procedure.steps
    assert step.operation == "command"
    assert step.settings["argv"] == [str(python), "-m", "firstlight.domains", "firstlight.domains.cathodes:evaluate"]
    assert step.limits.seconds == 900
    app.check_spec(domain.campaign())
    monkeypatch.setenv("FIRSTLIGHT_SIMULATORS", "/nowhere")
    assert "pip install 'firstlight[cathodes]'" in domain.missing()


@pytest.mark.skipif(find_spec("chgnet") is not None, reason="chgnet is here")
def test_a_worker_without_chgnet_says_what_to_install() -> None:
    with pytest.raises(core.Failed, match=r"pip install 'firstlight\[cathodes\]'") as failed:
        cathodes.evaluate({"Fe": 4, "Mn": 0, "Co": 0, "Ni": 0})
    assert failed.value.cause == "invalid-input"


# ------------------------------------------------------------------ with CHGNet


def test_the_potential_gives_what_its_authors_published(first: Any) -> None:
    energy, forces, stress = first["oxide"]
    assert energy / 8 == pytest.approx(-7.36769, abs=1e-5)
    along_z = [0.02381, -0.02381, 0.09259, -0.09259, -0.00243, -0.01307, 0.01307, 0.00243]
    for force, z in zip(forces, along_z, strict=True):
        assert force == pytest.approx([0, 0, z], abs=2e-5)
    assert [160.21766 * s for s in stress] == pytest.approx([-0.3037, 0.2231, -0.1074, 0, 0, 0], abs=1e-3)


def test_a_cell_of_lithium_iron_phosphate(first: Any) -> None:
    # Measured edges of LiFePO4: 10.33, 6.01 and 4.69 angstrom.
    assert first["edges"] == pytest.approx([10.33, 6.01, 4.69], rel=0.02)
    seen = first["evaluated"]
    assert seen["voltage"] == pytest.approx(MEASURED["Fe"], abs=0.05)
    assert seen["energy"] == pytest.approx(seen["voltage"] * 169.893, rel=1e-4)
    assert seen["end_of_charge"] >= seen["voltage"]
    assert 4 < seen["contraction"] < 7
    assert (seen["cobalt"], seen["spread"]) == (0, 0)


def test_stoichiometry_and_distances(first: Any) -> None:
    assert first["symbols"] == ["Li"] * 4 + ["Fe", "Mn", "Co", "Ni"] + ["P"] * 4 + ["O"] * 16
    # The shortest bond is that of phosphorus with oxygen.
    assert 1.45 < first["nearest"] < 1.6


def test_the_same_structure_gives_the_same_energy(first: Any) -> None:
    assert first["energies"][0] == first["energies"][1]


def test_what_does_not_come_to_rest_fails(first: Any) -> None:
    assert first["failed"] == ["did-not-converge", "Mn4O16P4 is not at rest after 2 steps"]


def test_symmetries_are_those_that_spglib_finds() -> None:
    orders = [order for amounts in compositions() for order in cathodes.arrangements(amounts)]
    orders = [o for o in orders if set(o) <= {"Fe", "Mn"}] + [("Fe", "Fe", "Mn", "Co"), ("Fe", "Mn", "Co", "Ni")]
    for order, (group, alike) in zip(orders, run(SYMMETRIES, json.dumps(orders)), strict=True):
        assert (group == "Pnma") == (len(set(order)) == 1), order
        # Site 2 is always like 0, and 3 like 1.
        assert alike == ([[0, 1, 2, 3]] if cathodes.lithium_sites(order) == (0,) else [[0, 2], [1, 3]]), order


@pytest.mark.skipif(os.environ.get("FIRSTLIGHT_HEAVY") != "1", reason="a minute or two; FIRSTLIGHT_HEAVY=1 runs it")
def test_voltages_come_in_the_measured_order() -> None:
    *pure, nickel_in_iron = run(PURE)
    computed = dict(zip(cathodes.METALS, (seen["voltage"] for seen in pure), strict=True))
    assert sorted(computed, key=computed.__getitem__) == sorted(MEASURED, key=MEASURED.__getitem__)
    for metal, voltage in MEASURED.items():
        assert -0.65 < computed[metal] - voltage < 0.05, metal
    assert computed["Ni"] - computed["Fe"] == pytest.approx(MEASURED["Ni"] - MEASURED["Fe"], abs=0.4)
    # A charge ends where nickel gives its electron, little as the average tells of it.
    assert nickel_in_iron["voltage"] < 3.85
    assert nickel_in_iron["end_of_charge"] > 4.5
