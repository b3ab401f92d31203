"""Nuclear fission, in detail: mixed oxide in the zones of a boiling-water bundle, by Monte Carlo.

Water thermalises neutrons, and pins of plutonium beside water burn hot: at the corners of a bundle, along its edges and
around the water channel in its middle. So less plutonium goes there, and more elsewhere. OpenMC follows neutrons
through a bundle of 9 x 9 pins in an infinite lattice of its like, with the seven-group cross-sections of the C5G7
benchmark, and counts the fissions in every pin.
"""

import hashlib
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from msgspec import Struct

from firstlight.core import (
    Budget,
    CampaignSpec,
    Continuous,
    Failed,
    Goal,
    Limits,
    Linear,
    Objective,
    Observable,
    Ordered,
    OutcomeConstraint,
    Point,
    ProcedureSpec,
    StepSpec,
)

from ._domain import Domain
from ._later import later
from ._lattice_c5g7 import CHI, MATERIALS, Material

np = later("numpy", "lattice")
openmc = later("openmc", "lattice")

Pins = Sequence[Sequence[str]]
"""What stands where on a square grid, row by row, by the names in `MATERIALS`."""

SIDE = 9
"""Pins along the side of a bundle; a square of 3 in the middle is a channel of water."""
WIDTH = 15.24
"""From the middle of one bundle to the middle of the next, cm. What the pins leave of it is a gap full of water."""
ZONES = {"corner": 4, "edge": 28, "middle": 24, "inner": 16}
"""The zones from outside inwards, and how many pins each has: the corners, the rest of the outer ring, two rings."""
FUELS = {0.0: "uo2", 4.3: "mox43", 7.0: "mox70", 8.7: "mox87"}
"""The fuels by their plutonium, %."""
LEAST_PLUTONIUM, LEAST_K = 6.0, 1.2
"""The mean of the bundle, %; and the eigenvalue that a campaign asks for."""

HISTORIES = 40_000
"""Neutrons followed in the generations that count, unless the step's settings say otherwise."""
COUNTED, SETTLING = 40, 20
"""Generations that count, and those before them that let the source settle."""
GROUP_EDGES = (1e-5, 0.0635, 10.0, 1.0e2, 1.0e3, 0.5e6, 1.0e6, 20.0e6)
"""eV. OpenMC wants some; the tables are by number of group, so nothing depends on them."""


Corner = tuple[float, float]


class Solution(Struct, frozen=True):
    """An eigenvalue, and the fission rates of pins on a grid, in any one unit.

    `halves` (2, rows, columns) are the rates in the first and in the second half of the generations that count,
    `variances` (rows, columns) those of the mean of both.
    """

    k: float
    k_sigma: float
    halves: Any
    variances: Any


def evaluate(point: Point, histories: int = HISTORIES) -> dict[str, float | Mapping[str, float]]:
    """The peaking and the eigenvalue of one checkerboard, each with its sigma; units as in `spec`.

    The random numbers follow from the point, so the same point gives the same values. Raises Failed:
    "invalid-input" where pins do not fit their cells or OpenMC is not installed, "did-not-converge" where no
    neutron makes another, "crashed" where OpenMC ends otherwise.
    """
    pitch, radius = float(point["pitch"]), float(point["radius"])
    gap = (WIDTH - SIDE * pitch) / 2.0
    pins = bundle(*(FUELS[float(point[zone])] for zone in ZONES))
    found = transport(pins, pitch, radius, ["reflective"] * 4, gap, histories, seed(point))
    peaking, sigma = hottest(*folded(found))
    fuel = sum(ZONES.values())
    return {
        "peaking": {"value": peaking, "sigma": sigma},
        "k_inf": {"value": found.k, "sigma": found.k_sigma},
        "plutonium": sum(float(point[zone]) * number for zone, number in ZONES.items()) / fuel,
        "water_to_fuel": WIDTH**2 / (fuel * math.pi * radius**2) - 1.0,
    }


def hottest(halves: Any, variances: Any) -> tuple[float, float]:
    """The power of the hottest of many pins, and its sigma.

    The highest of many uncertain powers is mostly luck: so either half of the generations says which pin is the
    hottest, and the other half says how hot it is.
    """
    first, second = (np.unravel_index(np.argmax(half), half.shape) for half in halves)
    power = (halves[1][first] + halves[0][second]) / 2.0
    return float(power), math.sqrt((variances[first] + variances[second]) / 2.0)


def bundle(corner: str, edge: str, middle: str, inner: str) -> Pins:
    """The bundle with these fuels in its zones."""
    return [[_pin(abs(i - SIDE // 2), abs(j - SIDE // 2), corner, edge, middle, inner) for j in range(SIDE)]
            for i in range(SIDE)]  # fmt: skip


def _pin(down: int, across: int, corner: str, edge: str, middle: str, inner: str) -> str:
    by_ring = ("water", "water", inner, middle, corner if down == across else edge)
    return by_ring[max(down, across)]


def transport(
    pins: Pins, pitch: float, radius: float, boundaries: Sequence[str], gap: float, histories: int, seed: int
) -> Solution:
    """The eigenvalue of pins in water and their fission rates, infinitely tall; lengths in cm.

    `boundaries` are OpenMC's, on the left, on the right, below and above, behind a gap of water; `histories` neutrons
    are followed in the generations that count. Raises Failed as `evaluate` does.
    """
    if not (0.0 < 2.0 * radius < pitch and gap >= 0.0):
        said = f"pins of radius {radius:g} cm do not fit a pitch of {pitch:g} cm with a gap of {gap:g} cm around them"
        raise Failed("invalid-input", said)
    with TemporaryDirectory(prefix="firstlight-openmc-") as directory:
        model = openmc.Model()
        model.materials, materials = _materials(pins, directory)
        model.geometry, corners = _geometry(pins, pitch, radius, boundaries, gap, materials)
        model.settings = _settings(histories, seed, corners)
        mesh = openmc.RegularMesh()
        (mesh.lower_left, mesh.upper_right), mesh.dimension = corners, (len(pins[0]), len(pins))
        tally = openmc.Tally()
        tally.filters, tally.scores = [openmc.MeshFilter(mesh)], ["fission"]
        model.tallies = openmc.Tallies([tally])
        model.export_to_model_xml(f"{directory}/model.xml")
        _run(directory)
        return _read(directory, (len(pins), len(pins[0])))


def _settings(histories: int, seed: int, corners: tuple[Corner, Corner]) -> Any:
    settings = openmc.Settings()
    settings.energy_mode, settings.seed, settings.verbosity = "multi-group", seed, 4
    settings.batches, settings.inactive = SETTLING + COUNTED, SETTLING
    settings.particles = max(1, round(histories / COUNTED))
    settings.statepoint = {"batches": [SETTLING + COUNTED // 2, SETTLING + COUNTED]}
    settings.output = {"tallies": False, "summary": False}
    low, high = corners
    box = openmc.stats.Box((*low, -1.0), (*high, 1.0))
    settings.source = openmc.IndependentSource(space=box, constraints={"fissionable": True})
    return settings


def _materials(pins: Pins, directory: str) -> tuple[Any, Mapping[str, Any]]:
    """What the pins are made of, for a model and by name; the cross-sections are written to the directory."""
    groups = openmc.mgxs.EnergyGroups(GROUP_EDGES)
    library = openmc.MGXSLibrary(groups)
    named = {name: openmc.Material(name=name) for name in sorted({name for row in pins for name in row} | {"water"})}
    for name, material in named.items():
        library.add_xsdata(_table(name, MATERIALS[name], groups))
        material.set_density("macro", 1.0)
        material.add_macroscopic(name)
    library.export_to_hdf5(f"{directory}/mgxs.h5")
    materials = openmc.Materials(named.values())
    materials.cross_sections = f"{directory}/mgxs.h5"
    return materials, named


def _table(name: str, material: Material, groups: Any) -> Any:
    table = openmc.XSdata(name, groups)
    table.order = 0
    table.set_total(material.total)
    table.set_absorption(material.absorption)
    table.set_scatter_matrix(np.array(material.scatter)[:, :, None])
    if material.fission:
        table.set_fission(material.fission)
        table.set_nu_fission(np.multiply(material.nu, material.fission))
        table.set_chi(CHI)
    return table


def _geometry(
    pins: Pins, pitch: float, radius: float, boundaries: Sequence[str], gap: float, materials: Mapping[str, Any]
) -> tuple[Any, tuple[Corner, Corner]]:
    """The pins in a lattice about the origin, and its lower left and upper right corners."""
    cylinder, water = openmc.ZCylinder(r=radius), openmc.Universe(cells=[openmc.Cell(fill=materials["water"])])
    around = openmc.Cell(fill=materials["water"], region=+cylinder)
    universes = {
        name: openmc.Universe(cells=[openmc.Cell(fill=material, region=-cylinder), around.clone(False, False)])
        for name, material in materials.items()
    }
    universes["water"] = water
    high = (pitch * len(pins[0]) / 2.0, pitch * len(pins) / 2.0)
    low = (-high[0], -high[1])
    lattice = openmc.RectLattice()
    lattice.lower_left, lattice.pitch, lattice.outer = low, (pitch, pitch), water
    lattice.universes = [[universes[name] for name in row] for row in pins]
    at = (low[0] - gap, high[0] + gap, low[1] - gap, high[1] + gap)
    kinds = (openmc.XPlane, openmc.XPlane, openmc.YPlane, openmc.YPlane)
    left, right, below, above = (k(x, boundary_type=b) for k, x, b in zip(kinds, at, boundaries, strict=True))
    inside = openmc.Cell(fill=lattice, region=+left & -right & +below & -above)
    return openmc.Geometry([inside]), (low, high)


def _run(directory: str) -> None:
    """OpenMC on the model in a directory, on one core."""
    # The executable of the same environment, which need not be on the path.
    beside = Path(sys.executable).with_name("openmc")
    try:
        openmc.run(cwd=directory, path_input="model.xml", threads=1, output=False,
                   openmc_exec=str(beside) if beside.exists() else "openmc")  # fmt: skip
    except RuntimeError as error:
        said = " ".join(str(error).split())
        hopeless = re.search("No fission sites|source rejection|lost particles", said)
        raise Failed("did-not-converge" if hopeless else "crashed", said[-300:]) from None


def _read(directory: str, shape: tuple[int, int]) -> Solution:
    with openmc.StatePoint(f"{directory}/statepoint.{SETTLING + COUNTED // 2}.h5", autolink=False) as half:
        (tally,) = half.tallies.values()
        first = tally.sum.reshape(shape)
    with openmc.StatePoint(f"{directory}/statepoint.{SETTLING + COUNTED}.h5", autolink=False) as whole:
        (tally,) = whole.tallies.values()
        halves = np.array([first, tally.sum.reshape(shape) - first]) / (COUNTED // 2)
        variances = tally.std_dev.reshape(shape) ** 2
        # OpenMC's meshes go upwards, lattices and our rows downwards.
        return Solution(whole.keff.nominal_value, whole.keff.std_dev, halves[:, ::-1], variances[::-1])


def folded(found: Solution) -> tuple[Any, Any]:
    """The power of a bundle's pins over their mean (2 halves, SIDE, SIDE), and its variance over both; 0 at water.

    A bundle has the symmetry of the square: the pins that are alike are averaged.
    """
    places = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    images = [turned for k in range(4) for turned in (np.rot90(places, k), np.rot90(places, k).T)]
    alike = np.apply_along_axis(lambda images: len(set(images)), 0, np.array(images))
    halves = np.array([np.mean([half.ravel()[image] for image in images], axis=0) for half in found.halves])
    mean = halves.sum((1, 2)) / sum(ZONES.values())
    variances = np.mean([found.variances.ravel()[image] for image in images], axis=0) / alike
    return halves / mean[:, None, None], variances / mean.mean() ** 2


def seed(point: Point) -> int:
    """A seed for OpenMC that follows from the point."""
    words = ", ".join(f"{name}={float(point[name])!r}" for name in sorted(point))
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:4]) // 4 + 1


def spec() -> CampaignSpec:
    """60 trials, 2 at once, seed 0."""
    parts = {"corner": "the four corner pins", "edge": "the rest of the outer ring", "middle": "the ring inside it",
             "inner": "the ring around the water channel"}  # fmt: skip
    fuel = sum(ZONES.values())
    return CampaignSpec(
        id="lattice",
        title="Mixed oxide in the zones of a boiling-water bundle",
        description="Plutonium by zone, pitch and radius of the pins for the flattest power; Monte Carlo by OpenMC.",
        parameters=(
            *(Ordered(name=zone, values=tuple(FUELS), unit="%", description=f"plutonium in {part} (0: uranium oxide)")
              for zone, part in parts.items()),
            Continuous(name="pitch", low=1.25, high=1.55, unit="cm", description="from pin to pin"),
            Continuous(name="radius", low=0.45, high=0.60, unit="cm", description="of a pin, cladding included"),
        ),
        constraints=(
            Linear(terms={"pitch": 1.0, "radius": -2.0}, relation=">=", bound=0.3),
            Linear(terms={zone: float(n) for zone, n in ZONES.items()}, relation=">=", bound=fuel * LEAST_PLUTONIUM),
        ),
        goal=Goal(
            objectives=(Objective(observable="peaking", direction="minimize"),),
            outcome_constraints=(OutcomeConstraint(observable="k_inf", relation=">=", bound=LEAST_K),),
            budget=Budget(trials=60),
        ),
        observables=(
            Observable(name="k_inf", description="multiplication factor of the infinite lattice"),
            Observable(name="plutonium", unit="%", description="in the fuel of the whole bundle"),
            Observable(name="water_to_fuel", description="volume of water over that of pins"),
        ),
        procedure=ProcedureSpec(
            steps=(
                StepSpec(operation="firstlight.domains.lattice:evaluate", settings={"histories": HISTORIES},
                         limits=Limits(seconds=300.0)),
            )
        ),
        parallel=2,
    )  # fmt: skip


DOMAIN = Domain(
    name="lattice",
    title="Mixed oxide in the zones of a boiling-water bundle",
    area="Nuclear fission",
    summary="OpenMC with the C5G7 cross-sections: pin power peaking, noisy, at an eigenvalue that must be kept",
    spec=spec,
    modules=("openmc",),
    apart=True,
)
