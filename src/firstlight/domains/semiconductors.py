"""Semiconductors: an n-channel MOSFET that drives when it is on and does not leak when it is off.

Drift and diffusion of electrons and holes in a planar transistor, in two dimensions, by DEVSIM. A short gate drives
more current and loses hold of the channel; a thin oxide keeps hold and lets electrons tunnel through; a shallow
junction keeps hold and resists. docs/domains/semiconductors.md says which choices the model makes and why.

1. N. D. Arora, J. R. Hauser and D. J. Roulston, IEEE Trans. Electron Devices 29, 292 (1982).
2. D. M. Caughey and R. E. Thomas, Proc. IEEE 55, 2192 (1967), with the constants of C. Canali and others, IEEE Trans.
   Electron Devices 22, 1045 (1975).
3. J. G. Simmons, J. Appl. Phys. 34, 1793 (1963).
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from ctypes.util import find_library
from importlib.util import find_spec
from io import StringIO
from itertools import count, pairwise
from threading import Lock

from msgspec import Struct

from firstlight.core import (
    Budget,
    CampaignSpec,
    Continuous,
    Failed,
    Goal,
    Limits,
    Objective,
    Observable,
    OutcomeConstraint,
    Point,
    ProcedureSpec,
    StepSpec,
)

from ._domain import Domain
from ._later import later

devsim = later("devsim", "semiconductors")
models = later("devsim.python_packages.model_create", "semiconductors")
physics = later("devsim.python_packages.simple_physics", "semiconductors")

CHARGE = 1.602176634e-19  # C
THERMAL = 1.380649e-23 * 300 / CHARGE  # V
SILICON, OXIDE = 11.7 * 8.8541878128e-14, 3.9 * 8.8541878128e-14  # F/cm
INTRINSIC = 1e10  # 1/cm^3
MIDGAP = 4.05 + 1.12 / 2  # eV below vacuum
SUPPLY = 1.0  # V

RESOLUTION = 1e-9
"""The least current that counts, A/cm (1e-4 nA/um): rounding leaves some 1e-11."""

_NM = 1e-7  # cm
_SOURCE = 1e20  # donors of source and drain at the surface, 1/cm^3
_LENGTH, _CONTACT, _DEPTH = 40.0, 20.0, 200.0  # of source and drain, of their contacts, of the silicon; nm
_STRAGGLE = 0.5  # how far donors spread sideways under the gate, over how far they spread down
_CONTACTS = ("source", "drain", "body")
_CARRIERS = ("Electrons", "Holes")

# Electrons in silicon at 300 K: their mobility against doping [1], and its saturation with the field [2].
_MOBILITY = "88 + 1252 / (1 + pow((Donors + Acceptors) / 1.26e17, 0.88))"  # cm^2/Vs
_SATURATION, _BEND = 1e7, 1.11  # cm/s
_HOLES = 200.0  # cm^2/Vs; holes carry next to nothing here


class Transistor(Struct, frozen=True):
    """What is built: lengths in nm, acceptors per cm^3, the gate's work function in eV.

    `junction` is how deep the donors of source and drain outnumber the acceptors; `mesh` scales the mesh's spacing.
    """

    gate_length: float
    oxide: float
    doping: float
    junction: float
    workfunction: float
    mesh: float = 1.0

    @property
    def spread(self) -> float:
        """The depth at which source and drain have exp(-1) of the donors they have at the surface, nm."""
        return self.junction / math.sqrt(math.log(_SOURCE / self.doping))

    @property
    def grounded(self) -> float:
        """The potential of the grounded gate, V: potentials count from that of intrinsic silicon."""
        return MIDGAP - self.workfunction


def evaluate(point: Point, mesh: float = 1.0) -> dict[str, float]:
    """What the transistor drives and leaks, and what explains it; units as in `spec`. Without noise.

    `mesh` scales the spacing of the mesh: 2 takes a third of the time.

    Raises Failed: "did-not-converge" where Newton's method finds no solution, "invalid-output" where the gate does not
    close the channel, or does not open it, "invalid-input" where DEVSIM or a BLAS that it can use is not installed.
    """
    transistor = Transistor(mesh=mesh, **{p.name: float(point[p.name]) for p in spec().parameters})
    with built(transistor) as device:
        device.bias("drain", 0.05)
        ajar, linear = _first_current(device)
        device.bias("drain", SUPPLY)
        saturated = device.current("drain")
        device.bias("gate", ajar + 0.05)
        wider = device.current("drain")
        device.bias("gate", 0.0)
        closed, tunnelled = max(device.current("drain"), RESOLUTION), device.tunnelling()
        device.bias("gate", SUPPLY)
        opened = device.current("drain")
    if opened < 10 * closed:
        raise Failed("invalid-output", f"punched through: {_per_um(opened):.3g} nA/um when on and "
                                       f"{_per_um(closed):.3g} when off")  # fmt: skip
    swing = 50 / math.log10(wider / saturated)
    return {
        "on_current": _per_um(opened) / 1000,
        "off_current_log10": math.log10(_per_um(closed + tunnelled)),
        "swing": swing,
        "off_current": _per_um(closed + tunnelled),
        "tunnelling": _per_um(tunnelled),
        "barrier_lowering": swing * math.log10(saturated / linear) / (SUPPLY - 0.05),
    }


def _first_current(device: "Device") -> tuple[float, float]:
    """The first of 0, 0.1 ... V at the gate where a current is told from rounding, and that current."""
    for tenths in range(round(10 * SUPPLY)):
        device.bias("gate", tenths / 10)
        current = device.current("drain")
        if current > 10 * RESOLUTION:
            return tenths / 10, current
    raise Failed("invalid-output", f"the gate does not open the channel at {SUPPLY:g} V")


def _per_um(current: float) -> float:
    """nA/um from A/cm."""
    return 1e5 * current


class Device:
    """A transistor in DEVSIM, in equilibrium at first; its contacts are gate, source, drain and body."""

    def __init__(self, name: str, transistor: Transistor) -> None:
        self.name, self.transistor = name, transistor
        self._bias = dict.fromkeys((*_CONTACTS, "gate"), 0.0)
        _regions(name, transistor)
        _doping(name, transistor)
        _potential(name)
        self._set("gate", 0.0)
        # From nothing, the first solution may take several times the iterations of any later one.
        self._solve(300)
        _carriers(name)
        self._solve(40)

    def bias(self, contact: str, volts: float, iterations: int = 40) -> None:
        """Bring a contact to a voltage, in smaller steps where a large one takes more iterations of Newton's method.

        Raises Failed: "did-not-converge" where the steps become too small.
        """
        step = volts - self._bias[contact]
        while self._bias[contact] != volts:
            left = volts - self._bias[contact]
            target = volts if abs(step) >= abs(left) else self._bias[contact] + step
            try:
                self._set(contact, target)
                self._solve(iterations)
            except Failed:
                if abs(step) < 0.05:
                    raise
                step /= 2
            else:
                self._bias[contact] = target

    def current(self, contact: str) -> float:
        """What flows into the transistor at a contact in the silicon, A per cm of width."""
        equations = ("ElectronContinuityEquation", "HoleContinuityEquation")
        return float(sum(devsim.get_contact_current(device=self.name, contact=contact, equation=e) for e in equations))

    def values(self, name: str) -> Sequence[float]:
        """A model's values at all nodes in the silicon: "x" and "y" (cm), "Potential" (V), "Donors" (1/cm^3) ..."""
        values: Sequence[float] = devsim.get_node_model_values(device=self.name, region="bulk", name=name)
        return values

    def tunnelling(self) -> float:
        """What tunnels between gate and drain where they overlap, A per cm of width; the drain at the higher voltage.

        Simmons's formula along the surface, from where donors prevail on the drain's side to the gate's edge.
        """
        t = self.transistor
        middle, edge = (_LENGTH + t.gate_length / 2) * _NM, (_LENGTH + t.gate_length) * _NM * (1 + 1e-9)
        names = ("x", "y", "Donors", "Acceptors", "Potential")
        rows = sorted(row for row in zip(*(self.values(name) for name in names), strict=True) if row[1] == 0)
        gate, apart = t.grounded + self._bias["gate"], self._bias["drain"] - self._bias["gate"]
        surface = [
            (x, math.log(max(donors, 1.0) / acceptors),
             simmons(t.oxide, t.workfunction - 0.95 - (potential - gate) / 2, apart))
            for x, _, donors, acceptors, potential in rows if middle <= x <= edge
        ]  # fmt: skip
        total = 0.0
        for (x0, excess0, density0), (x1, excess1, density1) in pairwise(surface):
            if excess1 > 0:
                inside = 1.0 if excess0 >= 0 else excess1 / (excess1 - excess0)
                begin = density1 + inside * (density0 - density1)
                total += inside * (x1 - x0) * (begin + density1) / 2
        return total

    def _set(self, contact: str, volts: float) -> None:
        value = volts + (self.transistor.grounded if contact == "gate" else 0.0)
        devsim.set_parameter(device=self.name, name=f"{contact}_bias", value=value)

    def _solve(self, iterations: int) -> None:
        try:
            with redirect_stdout(StringIO()):
                # The absolute error is of carriers per cm^3 too: at a small one the densest regions never converge.
                devsim.solve(type="dc", absolute_error=1e30, relative_error=1e-6, maximum_iterations=iterations)
        except devsim.error as error:
            if "Convergence failure" not in str(error):
                raise
            raise Failed("did-not-converge", f"no solution in {iterations} iterations at {self._bias}") from None


_turn, _numbers = Lock(), count()
"""DEVSIM keeps its devices by name, and works on one at a time."""


@contextmanager
def built(transistor: Transistor) -> Iterator[Device]:
    """A transistor in equilibrium, gone afterwards whatever happens."""
    with _turn:
        with redirect_stdout(StringIO()):
            _find_blas()
        name = f"transistor{next(_numbers)}"
        try:
            with redirect_stdout(StringIO()):
                device = Device(name, transistor)
            yield device
        finally:
            if name in devsim.get_device_list():
                devsim.delete_device(device=name)
            if name in devsim.get_mesh_list():
                devsim.delete_mesh(mesh=name)


def simmons(thickness: float, barrier: float, volts: float) -> float:
    """The current that tunnels through an oxide of so many nm under a mean barrier (eV), A/cm^2.

    Simmons's formula for voltages below the barrier [3], with electrons of 0.42 times their mass in the oxide.
    """
    angstrom = 10 * thickness
    steepness = 1.025 * math.sqrt(0.42) * angstrom

    def one_way(barrier: float) -> float:
        return barrier * math.exp(-steepness * math.sqrt(max(barrier, 0.0)))

    return 6.2e10 / angstrom**2 * (one_way(barrier) - one_way(barrier + volts))


def _find_blas() -> None:
    """DEVSIM looks for a BLAS once, when first imported, by names that only development packages install."""
    # Its matrices are small: threads only wait for one another.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if "DEVSIM_MATH_LIBS" not in os.environ:
        if find_spec("devsim_openblas"):
            later("devsim_openblas").configure()
        elif found := [library for name in ("openblas", "lapack", "blas") if (library := find_library(name))]:
            os.environ["DEVSIM_MATH_LIBS"] = ":".join(found)
    try:
        devsim.get_device_list()
    except RuntimeError as error:
        message = "DEVSIM found no BLAS: install devsim-openblas or libopenblas, or name one in DEVSIM_MATH_LIBS"
        raise Failed("invalid-input", f"{message} ({error})") from None


def _regions(name: str, t: Transistor) -> None:
    """Mesh, regions, contacts. What is not silicon or oxide is air, where nothing is solved."""
    left, right = _LENGTH, _LENGTH + t.gate_length
    end, f = right + _LENGTH, t.mesh
    xs = ((0, 10), (_CONTACT, 6 * f), (left, 2 * f), ((left + right) / 2, t.gate_length / 16 * f),
          (right, 2 * f), (end - _CONTACT, 6 * f), (end, 10))  # fmt: skip
    ys = ((-t.oxide - 1, 1), (-t.oxide, t.oxide / 2 * f), (0, 0.3 * f), (3, 0.8 * f), (3 + t.junction, 5 * f),
          (_DEPTH, 50 * f), (_DEPTH + 1, 50 * f))  # fmt: skip
    devsim.create_2d_mesh(mesh=name)
    for axis, marks in (("x", xs), ("y", ys)):
        for at in lines(marks):
            # With a spacing wider than the mesh DEVSIM adds no lines of its own, some of which fall beside a boundary.
            devsim.add_2d_mesh_line(mesh=name, dir=axis, pos=at * _NM, ps=1.0)
    silicon = {"xl": 0, "xh": end * _NM, "yl": 0, "yh": _DEPTH * _NM}
    devsim.add_2d_region(mesh=name, material="Air", region="air")
    devsim.add_2d_region(mesh=name, material="Si", region="bulk", **silicon)
    devsim.add_2d_region(
        mesh=name, material="Oxide", region="oxide", xl=left * _NM, xh=right * _NM, yl=-t.oxide * _NM, yh=0
    )
    for contact, region, xl, xh, y in (
        ("gate", "oxide", left, right, -t.oxide), ("source", "bulk", 0, _CONTACT, 0),
        ("drain", "bulk", end - _CONTACT, end, 0), ("body", "bulk", 0, end, _DEPTH),
    ):  # fmt: skip
        where = {"xl": xl * _NM, "xh": xh * _NM, "yl": y * _NM, "yh": y * _NM}
        devsim.add_2d_contact(mesh=name, name=contact, region=region, material="metal", **where)
    devsim.add_2d_interface(mesh=name, name="surface", region0="bulk", region1="oxide")
    devsim.finalize_mesh(mesh=name)
    devsim.create_device(mesh=name, device=name)


def lines(marks: Sequence[tuple[float, float]]) -> list[float]:
    """Positions that pass through all marks, with about the spacing wanted at each and even ratios between."""
    found = [marks[0][0]]
    for (start, narrow), (end, wide) in pairwise(marks):
        length, ratio = end - start, wide / narrow
        cells = math.ceil(length / narrow if ratio == 1 else length * math.log(ratio) / (wide - narrow))
        for i in range(1, cells):
            share = i / cells
            found.append(start + length * (share if ratio == 1 else (ratio**share - 1) / (ratio - 1)))
        found.append(end)
    return found


def _doping(name: str, t: Transistor) -> None:
    """Donors as implanted beside the gate's edges, in evenly doped silicon."""
    sideways = math.sqrt(2) * _STRAGGLE * t.spread * _NM
    left, right = _LENGTH * _NM, (_LENGTH + t.gate_length) * _NM
    beside = f"(erfc((x - {left}) / {sideways}) + erfc(({right} - x) / {sideways})) / 2"
    # "-(y/d)^2" would be the square of -y/d.
    down = f"exp(-1.0 * y * y / {(t.spread * _NM) ** 2})"
    models.CreateNodeModel(name, "bulk", "Acceptors", f"{t.doping}")
    models.CreateNodeModel(name, "bulk", "Donors", f"{_SOURCE} * {beside} * {down}")
    models.CreateNodeModel(name, "bulk", "NetDoping", "Donors - Acceptors")


def _potential(name: str) -> None:
    """Poisson's equation with carriers in equilibrium, and what materials and contacts are."""
    for region in ("bulk", "oxide"):
        models.CreateSolution(name, region, "Potential")
    physics.SetSiliconParameters(name, "bulk", 300)
    physics.SetOxideParameters(name, "oxide", 300)
    silicon = {"Permittivity": SILICON, "ElectronCharge": CHARGE, "V_t": THERMAL, "kT": THERMAL * CHARGE,
               "n_i": INTRINSIC, "n1": INTRINSIC, "p1": INTRINSIC, "mu_p": _HOLES}  # fmt: skip
    for region, values in (("bulk", silicon), ("oxide", {"Permittivity": OXIDE, "ElectronCharge": CHARGE})):
        for key, value in values.items():
            devsim.set_parameter(device=name, region=region, name=key, value=value)
    physics.CreateSiliconPotentialOnly(name, "bulk")
    physics.CreateOxidePotentialOnly(name, "oxide", "log_damp")
    for contact in _CONTACTS:
        devsim.set_parameter(device=name, name=f"{contact}_bias", value=0.0)
        physics.CreateSiliconPotentialOnlyContact(name, "bulk", contact)
    physics.CreateOxideContact(name, "oxide", "gate")
    physics.CreateSiliconOxideInterface(name, "surface")


def _carriers(name: str) -> None:
    """Electrons and holes that move, generate and recombine, from equilibrium."""
    for carrier in _CARRIERS:
        models.CreateSolution(name, "bulk", carrier)
        devsim.set_node_values(device=name, region="bulk", name=carrier, init_from=f"Intrinsic{carrier}")
    models.CreateNodeModel(name, "bulk", "mu_slow", _MOBILITY)
    devsim.edge_average_model(device=name, region="bulk", edge_model="mu_edge", node_model="mu_slow")
    ratio, v, bend = f"(mu_edge * ElectricField / {_SATURATION})", _SATURATION, _BEND
    # A field of zero has a slope too.
    size = f"pow({ratio} * {ratio} + 1e-12, 0.5)"
    models.CreateEdgeModel(name, "bulk", "bent", f"1 + pow({size}, {bend})")
    models.CreateEdgeModel(name, "bulk", "mu_n_edge", f"mu_edge * pow(bent, {-1 / bend})")
    for end in ("@n0", "@n1"):
        slope = f"pow({size}, {bend - 2}) * {ratio} * mu_edge / {v} * ElectricField:Potential{end}"
        models.CreateEdgeModel(name, "bulk", f"mu_n_edge:Potential{end}", f"-mu_n_edge / bent * {slope}")
        for carrier in _CARRIERS:
            models.CreateEdgeModel(name, "bulk", f"mu_n_edge:{carrier}{end}", "0")
    physics.CreateSiliconDriftDiffusion(name, "bulk", mu_n="mu_n_edge")
    for contact in _CONTACTS:
        physics.CreateSiliconDriftDiffusionAtContact(name, "bulk", contact)


def spec() -> CampaignSpec:
    """60 trials, 2 at once, seed 0."""
    return CampaignSpec(
        id="semiconductors",
        title="An n-MOSFET that drives and does not leak",
        description="Planar n-channel transistor at 1 V: drift and diffusion in two dimensions by DEVSIM, "
                    "tunnelling through the gate's oxide by Simmons's formula.",
        parameters=(
            Continuous(name="gate_length", low=20.0, high=100.0, unit="nm", scale="log", description="of the gate"),
            Continuous(name="oxide", low=1.0, high=3.0, unit="nm", description="thickness of the gate's SiO2"),
            Continuous(name="doping", low=5e17, high=8e18, unit="1/cm^3", scale="log",
                       description="acceptors in the channel"),
            Continuous(name="junction", low=6.0, high=30.0, unit="nm", description="depth of source and drain"),
            Continuous(name="workfunction", low=4.1, high=4.9, unit="eV", description="of the gate"),
        ),
        goal=Goal(
            objectives=(
                Objective(observable="on_current", direction="maximize", unit="uA/um", threshold=100.0),
                Objective(observable="off_current_log10", direction="minimize", threshold=3.0),
            ),
            outcome_constraints=(OutcomeConstraint(observable="swing", relation="<=", bound=90.0, unit="mV"),),
            budget=Budget(trials=60),
        ),
        observables=(
            Observable(name="swing", unit="mV", description="of the gate, for ten times the current, from off"),
            Observable(name="off_current", unit="nA/um", description="from source and gate to drain, gate at 0 V"),
            Observable(name="tunnelling", unit="nA/um", description="the gate's part of it"),
            Observable(name="barrier_lowering", unit="mV/V", description="threshold lost per volt at the drain (DIBL)"),
        ),
        procedure=ProcedureSpec(
            steps=(StepSpec(operation="firstlight.domains.semiconductors:evaluate", limits=Limits(seconds=120.0)),)
        ),
        parallel=2,
    )  # fmt: skip


DOMAIN = Domain(
    name="semiconductors",
    title="An n-MOSFET that drives and does not leak",
    area="Semiconductors and microelectronics",
    summary="Planar transistor on DEVSIM: drive and leakage against gate, oxide, doping, junction and work function",
    spec=spec,
    modules=("devsim",),
)
