"""Critical materials: olivine cathodes Li(Fe,Mn,Co,Ni)PO4 with as little cobalt as possible.

Four metal sites in the cell of LiFePO4 are shared out among iron, manganese, cobalt and nickel. CHGNet, a pretrained
neural-network potential (Deng and others, Nature Machine Intelligence 5, 1031, 2023), relaxes the discharged material,
the charged one, and the one with its last lithium. Their energies give the average voltage, and the voltage that the
electrolyte must endure at the end of charge.

docs/domains/cathodes.md says which choices the model makes, and how far its voltages are from measured ones.
"""

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from typing import Any

from msgspec import Struct

from firstlight.core import (
    Budget,
    CampaignSpec,
    Failed,
    Goal,
    Integer,
    Limits,
    Mixture,
    Objective,
    Observable,
    OutcomeConstraint,
    Point,
    ProcedureSpec,
    StepSpec,
    StrategySpec,
)

from ._domain import Domain, Reference
from ._later import later

ase = later("ase", "cathodes")
chgnet = later("chgnet.model.model", "cathodes")
filters = later("ase.filters", "cathodes")
np = later("numpy")
optimize = later("ase.optimize", "cathodes")
pymatgen = later("pymatgen.core", "cathodes")
torch = later("torch", "cathodes")

Vector = tuple[float, float, float]

METALS = ("Fe", "Mn", "Co", "Ni")
SITES = 4
"""Metal sites in the cell, as many as lithium sites."""

FORCE = 0.05
"""The largest force, in eV per angstrom, that a relaxed structure may have."""
STEPS = 150
"""A relaxation that takes more has not converged. Those of this domain take 50 at the most."""

FARADAY = 96485.33212 / 3.6
"""The charge of a mole of electrons, mAh."""
MASSES = {"Li": 6.94, "O": 15.999, "P": 30.974, "Fe": 55.845, "Mn": 54.938, "Co": 58.933, "Ni": 58.693}
"""g/mol."""

# Where relaxations start: edges of the cell in angstrom by metal, and the fractional coordinates of one atom of each
# kind (the metal, phosphorus, three kinds of oxygen); both near what CHGNet finds, so that few steps are left.
_FULL = {"Fe": (10.44, 6.08, 4.76), "Mn": (10.60, 6.17, 4.79), "Co": (10.33, 6.01, 4.72), "Ni": (10.20, 5.94, 4.69)}
_EMPTY = {"Fe": (9.98, 5.87, 4.88), "Mn": (9.92, 6.02, 4.90), "Co": (9.76, 5.90, 4.79), "Ni": (9.90, 5.82, 4.83)}
_FULL_ATOMS = ((0.280, 0.25, 0.975), (0.093, 0.25, 0.417), (0.097, 0.25, 0.740), (0.455, 0.25, 0.204),
               (0.163, 0.047, 0.282))  # fmt: skip
_EMPTY_ATOMS = ((0.273, 0.25, 0.959), (0.094, 0.25, 0.406), (0.121, 0.25, 0.714), (0.444, 0.25, 0.154),
                (0.168, 0.045, 0.258))  # fmt: skip

_ROTATIONS = (((1, 1, 1), (0.0, 0.0, 0.0)), ((-1, -1, 1), (0.5, 0.0, 0.5)),
              ((-1, 1, -1), (0.0, 0.5, 0.0)), ((1, -1, -1), (0.5, 0.5, 0.5)))  # fmt: skip
"""Half of the space group Pnma, signs and shifts; the other half is these and an inversion.

The k-th takes metal site i to site i ^ k and does the same to lithium sites. Inversion takes metal site i to i ^ 2 and
leaves lithium where it is; the mirror, which is inversion after k = 2, does the opposite.
"""


class Relaxed(Struct, frozen=True):
    """A structure (an ase.Atoms) at rest, its energy in eV, and how many steps that took."""

    energy: float
    atoms: Any
    steps: int


class Cell(Struct, frozen=True):
    """A cathode: discharged in every arrangement of its metals, then charged, and with its last lithium.

    `discharged` begins with the arrangement of the lowest energy, from which the other two were made; `last` holds
    one structure for every kind of lithium site, the lowest energy first.
    """

    discharged: tuple[Relaxed, ...]
    charged: Relaxed
    last: tuple[Relaxed, ...]

    @property
    def voltage(self) -> float:
        """Against lithium, on average over the whole charge."""
        return (self.charged.energy - self.discharged[0].energy) / SITES + lithium()

    @property
    def end_of_charge(self) -> float:
        """Against lithium, where the charge ends: the steepest line from the charged material to one with lithium."""
        return max(self.voltage, self.charged.energy - self.last[0].energy + lithium())


def evaluate(point: Point) -> dict[str, float]:
    """Energy density, cobalt and contraction of one composition, with what explains them; units as in `spec`.

    Raises Failed: "did-not-converge" where a structure is not at rest after STEPS steps, "invalid-input" where the
    amounts are not whole sites that sum to four, or CHGNet is not installed.
    """
    amounts = {metal: float(point[metal]) for metal in METALS}
    if sum(amounts.values()) != SITES or not all(n >= 0 and n.is_integer() for n in amounts.values()):
        raise Failed("invalid-input", f"{amounts} are not whole sites that sum to {SITES}")
    cell = relaxed({metal: int(n) for metal, n in amounts.items()})
    capacity = theoretical_capacity(amounts)
    energy = cell.voltage * capacity
    discharged = cell.discharged[0]
    return {
        "energy": energy,
        "cobalt": 1e6 * amounts["Co"] * MASSES["Co"] / mass(amounts) / energy,
        "contraction": 100 * (1 - float(cell.charged.atoms.get_volume() / discharged.atoms.get_volume())),
        "end_of_charge": cell.end_of_charge,
        "voltage": cell.voltage,
        "capacity": capacity,
        "spread": 1e3 * (max(r.energy for r in cell.discharged) - discharged.energy) / SITES,
        "steps": float(sum(r.steps for r in (*cell.discharged, cell.charged, *cell.last))),
    }


def mass(amounts: Mapping[str, float]) -> float:
    """Of one cell of the discharged material, g/mol."""
    return sum(n * MASSES[metal] for metal, n in amounts.items()) + SITES * (
        MASSES["Li"] + MASSES["P"] + 4 * MASSES["O"]
    )


def theoretical_capacity(amounts: Mapping[str, float]) -> float:
    """One lithium a metal, mAh per gram of the discharged material."""
    return SITES * FARADAY / mass(amounts)


def relaxed(amounts: Mapping[str, int]) -> Cell:
    """All structures of one composition, at rest. Raises Failed."""
    discharged = sorted((relax(olivine(m)) for m in arrangements(amounts)), key=_energy)
    metals = tuple(discharged[0].atoms.get_chemical_symbols()[SITES : 2 * SITES])
    charged = relax(olivine(metals, lithium=()))
    last = sorted((relax(_with_lithium(charged.atoms, site)) for site in lithium_sites(metals)), key=_energy)
    return Cell(discharged=tuple(discharged), charged=charged, last=tuple(last))


def _energy(structure: Relaxed) -> float:
    return structure.energy


def arrangements(amounts: Mapping[str, int]) -> Iterator[tuple[str, ...]]:
    """The ways to put the metals on the four sites that no symmetry makes alike: one to six."""
    metals = [metal for metal, n in amounts.items() for _ in range(n)]
    for order in sorted(set(itertools.permutations(metals))):
        if order == min(_exchanged(order, k) for k in range(SITES)):
            yield order


def lithium_sites(metals: tuple[str, ...]) -> tuple[int, ...]:
    """One lithium site of every kind that an arrangement of the metals leaves: one or two.

    The mirror makes sites 0 and 2 alike, and 1 and 3, whatever the metals; a rotation may make all alike.
    """
    return (0,) if metals in (_exchanged(metals, 1), _exchanged(metals, 3)) else (0, 1)


def _exchanged(metals: tuple[str, ...], k: int) -> tuple[str, ...]:
    return tuple(metals[i ^ k] for i in range(SITES))


def olivine(metals: tuple[str, ...], lithium: Sequence[int] = range(SITES)) -> Any:
    """An ase.Atoms to start from: lithium on the sites given, then four metals in order, 4 phosphorus, 16 oxygen."""
    cells, atoms = (_FULL, _FULL_ATOMS) if lithium else (_EMPTY, _EMPTY_ATOMS)
    sites = list(equivalent((0.0, 0.0, 0.0)))
    places = [sites[i] for i in lithium] + [place for atom in atoms for place in equivalent(atom)]
    edges = [sum(cells[metal][k] for metal in metals) / SITES for k in range(3)]
    symbols = ["Li"] * len(lithium) + [*metals] + ["P"] * 4 + ["O"] * 16
    return ase.Atoms(symbols, scaled_positions=places, cell=edges, pbc=True)


def equivalent(place: Vector) -> Iterator[Vector]:
    """Every place that the symmetries of Pnma make of one, four or eight: fractional coordinates."""
    # Inversion makes no others of places on a mirror (the metals', for one) or on a centre of inversion (lithium's).
    for turn in (1,) if place[1] in (0.0, 0.25) else (1, -1):
        for (a, b, c), (x, y, z) in _ROTATIONS:
            yield turn * (a * place[0] + x), turn * (b * place[1] + y), turn * (c * place[2] + z)


def _with_lithium(charged: Any, site: int) -> Any:
    place = list(equivalent((0.0, 0.0, 0.0)))[site]
    return ase.Atoms("Li", scaled_positions=[place], cell=charged.cell, pbc=True) + charged


@cache
def lithium() -> float:
    """The energy of an atom in lithium metal, eV; computed once a process."""
    metal = ase.Atoms("Li2", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5)], cell=[3.41] * 3, pbc=True)
    return relax(metal, force=0.005).energy / 2


def relax(atoms: Any, force: float = FORCE) -> Relaxed:
    """Atoms and cell brought to rest (changes `atoms`). Raises Failed."""
    atoms.calc = Potential()
    search = optimize.BFGS(filters.FrechetCellFilter(atoms), logfile=None)
    if not search.run(fmax=force, steps=STEPS):
        raise Failed("did-not-converge", f"{atoms.get_chemical_formula()} is not at rest after {STEPS} steps")
    return Relaxed(energy=atoms.get_potential_energy(), atoms=atoms, steps=search.nsteps)


class Potential:
    """CHGNet as what ASE asks of a calculator.

    The one that comes with CHGNet goes backward through the network twice, for forces and for the stress, and keeps
    what a third time would need. One pass gives both at half the price: the derivatives by fractional coordinates and
    by the lattice.
    """

    def __init__(self) -> None:
        self._of: Any = None

    def get_potential_energy(self, atoms: Any, force_consistent: bool = False) -> float:
        """In eV."""
        return float(self._at(atoms)[0])

    def get_forces(self, atoms: Any) -> Any:
        """In eV/angstrom, (n, 3)."""
        return self._at(atoms)[1]

    def get_stress(self, atoms: Any) -> Any:
        """In eV/angstrom**3: xx, yy, zz, yz, xz, xy."""
        return self._at(atoms)[2].reshape(9)[[0, 4, 8, 5, 2, 1]]

    def _at(self, atoms: Any) -> tuple[float, Any, Any]:
        if self._of != atoms:
            self._seen, self._of = _solve(_structure(atoms)), atoms.copy()
        return self._seen


def _solve(structure: Any) -> tuple[float, Any, Any]:
    model = _model()
    graph = model.graph_converter(structure)
    places, lattice = graph.atom_frac_coord.requires_grad_(), graph.lattice.requires_grad_()
    with warnings.catch_warnings():
        # CHGNet takes the volume, which it does not differentiate, out of a tensor that could be.
        warnings.filterwarnings("ignore", "Converting a tensor with requires_grad=True to a scalar", UserWarning)
        energy = len(structure) * model([graph], task="e")["e"].sum()
    by_places, by_lattice = (d.double().numpy() for d in torch.autograd.grad(energy, (places, lattice)))
    edges = lattice.detach().double().numpy()
    forces = -by_places @ np.linalg.inv(edges).T
    return float(energy.detach()), forces, edges.T @ by_lattice / abs(np.linalg.det(edges))


def _structure(atoms: Any) -> Any:
    return pymatgen.Structure(atoms.cell.array, atoms.get_chemical_symbols(), atoms.get_scaled_positions(wrap=False))


@cache
def _model() -> Any:
    """CHGNet 0.3.0, the weights of its wheel, loaded once a process."""
    # Sums in several threads differ in their last digits from machine to machine, and trials run side by side.
    torch.set_num_threads(1)
    with redirect_stdout(StringIO()):
        model = chgnet.CHGNet.load(model_name="0.3.0", use_device="cpu", verbose=False)
    return model.requires_grad_(False).eval()


def spec() -> CampaignSpec:
    """20 trials, 2 at once, seed 0."""
    names = {"Fe": "iron", "Mn": "manganese", "Co": "cobalt", "Ni": "nickel"}
    return CampaignSpec(
        id="cathodes",
        title="Olivine cathodes with little cobalt",
        description="Li(Fe,Mn,Co,Ni)PO4 on four metal sites; energies by the pretrained potential CHGNet.",
        parameters=tuple(
            Integer(name=metal, low=0, high=SITES, description=f"{name}, of the four metal sites of the cell")
            for metal, name in names.items()
        ),
        constraints=(Mixture(parameters=METALS, total=float(SITES)),),
        goal=Goal(
            objectives=(
                Objective(observable="energy", direction="maximize", unit="W*h/kg", threshold=560.0),
                Objective(observable="cobalt", direction="minimize", unit="g/kWh", threshold=550.0),
                Objective(observable="contraction", direction="minimize", unit="%", threshold=9.0),
            ),
            outcome_constraints=(OutcomeConstraint(observable="end_of_charge", relation="<=", bound=4.6, unit="V"),),
            budget=Budget(trials=20),
        ),
        observables=(
            Observable(name="end_of_charge", unit="V", description="the highest voltage of a charge, against lithium"),
            Observable(name="voltage", unit="V", description="average over the whole charge, against lithium"),
            Observable(name="capacity", unit="mA*h/g", description="theoretical, one lithium a metal"),
            Observable(name="spread", unit="meV", description="a metal site, between arrangements of the metals"),
            Observable(name="steps", description="of all relaxations together"),
        ),
        procedure=ProcedureSpec(
            steps=(StepSpec(operation="firstlight.domains.cathodes:evaluate", limits=Limits(seconds=900.0)),)
        ),
        strategy=StrategySpec(name="bayes", options={"initial": 6}),
        parallel=2,
    )


DOMAIN = Domain(
    name="cathodes",
    title="Olivine cathodes with little cobalt",
    area="Critical materials",
    summary="Li(Fe,Mn,Co,Ni)PO4 by CHGNet: energy density against cobalt, within what the electrolyte endures",
    spec=spec,
    modules=("chgnet",),
    apart=True,
    best=Reference(value=702.44, source="all 35 compositions computed here: LiCoPO4, within 4.6 V", proven=True),
)
