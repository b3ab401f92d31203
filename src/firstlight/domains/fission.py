"""Nuclear fission: which assemblies of a pressurised-water core to rod, for the flattest power.

The core is that of the two-dimensional IAEA benchmark: 177 fuel assemblies of 20 cm in a water reflector, with the
symmetry of the square, so that 29 positions of one octant say everything. The benchmark rods three of them (nine
assemblies of the core); the campaign asks which three. openndm solves the two-group diffusion equation by a
semi-analytic nodal method. The core is small enough for all 3,654 patterns to be computed, and the best to be known.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from msgspec import Struct

from firstlight.core import (
    Budget,
    CampaignSpec,
    Continuous,
    Failed,
    Fidelity,
    Goal,
    Limits,
    Objective,
    Observable,
    Ordered,
    OutcomeConstraint,
    Point,
    Pool,
    ProcedureSpec,
    Scalar,
    Source,
    StepSpec,
)

from ._domain import Domain, Reference
from ._later import later

np = later("numpy", "fission")
openndm = later("openndm", "fission")

Position = tuple[int, int]
"""Row and column of an assembly, counted from the middle of the core."""

OUTER, INNER, RODDED, REFLECTOR, OUTSIDE = 1, 2, 3, 4, 0
CORE = (
    (2, 2, 2, 2, 2, 2, 2, 1, 4),
    (2, 2, 2, 2, 2, 2, 2, 1, 4),
    (2, 2, 2, 2, 2, 2, 1, 1, 4),
    (2, 2, 2, 2, 2, 2, 1, 4, 4),
    (2, 2, 2, 2, 2, 1, 1, 4, 0),
    (2, 2, 2, 2, 1, 1, 4, 4, 0),
    (2, 2, 1, 1, 1, 4, 4, 0, 0),
    (1, 1, 1, 4, 4, 4, 0, 0, 0),
    (4, 4, 4, 4, 0, 0, 0, 0, 0),
)
"""A quarter of the core without rods: fuel 1, fuel 2 and reflector. The axes of symmetry halve row 0 and column 0."""

DATA = {
    OUTER: (1.5, 0.4, 0.020, 0.010, 0.080, 0.135),
    INNER: (1.5, 0.4, 0.020, 0.010, 0.085, 0.135),
    RODDED: (1.5, 0.4, 0.020, 0.010, 0.130, 0.135),
    REFLECTOR: (2.0, 0.3, 0.040, 0.000, 0.010, 0.000),
}
"""ANL-7416: diffusion coefficients of both groups (cm); slowing down, both absorptions and nu-fission (1/cm)."""
BUCKLING = 0.8e-4
"""Of the axial leakage, 1/cm2."""
WIDTH = 20.0
"""Of an assembly, cm."""
RETURNED = (0.5 - 0.4692) / (0.5 + 0.4692)
"""Of the partial current that leaves the reflector, what the benchmark's condition J = 0.4692 phi sends back."""

BENCHMARK: tuple[Position, ...] = ((0, 0), (4, 0), (4, 4))
"""What the benchmark rods."""
INVENTORY = 9
"""How many assemblies of the whole core that is."""
COSTS = {1: 1.0, 2: 3.0}
"""What a solution costs by its nodes along the side of an assembly, in solutions with one (by CPU time, rounded)."""

SETTINGS = {"kernel": "sanm", "verbosity": 0, "threads": 1, "two_node_sweeps": 10, "inner_tolerance": 1e-7,
            "max_inner": 400, "wielandt_shift": 0.02}  # fmt: skip
"""openndm's own tolerances leave 5e-4 in the peaking at two nodes, and two sweeps an error of 0.06 at one."""


def _positions() -> tuple[Position, ...]:
    fuel = [(i, j) for i in range(9) for j in range(i + 1) if CORE[i][j] in (OUTER, INNER)]
    return tuple(sorted(fuel, key=lambda p: (math.hypot(*p), p)))


POSITIONS = _positions()
"""The fuel positions of one octant, from the middle outwards."""
PATTERNS = tuple(itertools.combinations(POSITIONS, 3))
"""All choices of three: 3,654."""
PLACES = ("inner", "middle", "outer")
"""The names of a pattern's positions, by their distance from the middle of the core."""

_AXIS = 22.5
"""The angle said of the position in the middle, which has none."""


def polar(position: Position) -> tuple[float, float]:
    """Its distance from the middle of the core, cm, and its angle from the axis of symmetry, degrees: 0 to 45."""
    i, j = position
    return round(WIDTH * math.hypot(i, j), 3), round(math.degrees(math.atan2(j, i)), 3) if i else _AXIS


_AT = {polar(position): position for position in POSITIONS}
COLUMNS = tuple(f"{place}_{what}" for place in PLACES for what in ("distance", "angle"))


class Solution(Struct, frozen=True):
    """The eigenvalue, and the power of every assembly over the mean, (9, 9) with 0 where there is no fuel."""

    k_eff: float
    power: Any

    @property
    def peaking(self) -> float:
        """The power of the hottest assembly over the mean."""
        return float(self.power.max())


def evaluate(point: Point) -> dict[str, float]:
    """The peaking of one pattern, solved with two nodes along the side of an assembly; units as in `spec`.

    Raises Failed: "invalid-input" where the positions are not three of `POSITIONS` or openndm is not installed,
    "did-not-converge" where the iteration of the source does not end.
    """
    return _seen(pattern(point), 2)


def evaluate_at(point: Point) -> dict[str, float]:
    """The same with as many nodes as the point says. Raises Failed as `evaluate` does."""
    return _seen(pattern(point), int(point["nodes"]))


def _seen(rodded: Sequence[Position], nodes: int) -> dict[str, float]:
    found = solve(rodded, nodes)
    return {
        "peaking": found.peaking,
        "k_eff": found.k_eff,
        "rodded": float(count(rodded)),
        "lowest": float(found.power[found.power > 0].min()),
    }


def pattern(point: Point) -> tuple[Position, ...]:
    """The positions that a point names. Raises Failed."""
    places = [(round(float(point[f"{p}_distance"]), 3), round(float(point[f"{p}_angle"]), 3)) for p in PLACES]
    chosen = tuple(_AT[place] for place in places if place in _AT)
    if len(set(chosen)) < len(PLACES):
        raise Failed("invalid-input", f"{', '.join(map(str, places))} are not three fuel positions of the octant")
    return chosen


def named(rodded: Sequence[Position]) -> Point:
    """The point that names three positions, given from the middle outwards."""
    return dict(zip(COLUMNS, itertools.chain(*map(polar, rodded)), strict=True))


def count(rodded: Iterable[Position]) -> int:
    """How many assemblies of the whole core the symmetry makes of some positions: 1, 4 or 8 of each."""
    return sum(1 if p == (0, 0) else 4 if p[1] in (0, p[0]) else 8 for p in rodded)


def solve(rodded: Iterable[Position], nodes: int = 2) -> Solution:
    """The core with some positions rodded, and all that are symmetric to them. Raises Failed."""
    core = np.array(CORE)
    for i, j in rodded:
        core[i, j] = core[j, i] = RODDED
    # Half an assembly on the axes of symmetry, in half as many nodes, though at least one.
    half = max(1, nodes // 2)
    owner = np.repeat(np.arange(9), [half] + [nodes] * 8)
    widths = np.array([WIDTH / 2.0 / half] * half + [WIDTH / nodes] * 8 * nodes)
    geometry = openndm.Geometry.from_lattice(
        core[np.ix_(owner, owner)] - 1, pitch=WIDTH, dx=widths, dy=widths, dz=[WIDTH],
        boundaries={"x_min": "reflective", "y_min": "reflective", "x_max": "albedo", "y_max": "albedo",
                    "z_min": "reflective", "z_max": "reflective"},
        albedo={"x_max": [RETURNED] * 2, "y_max": [RETURNED] * 2}, outside="albedo", outside_albedo=[RETURNED] * 2,
    )  # fmt: skip
    try:
        found = openndm.Model(geometry, _library(), openndm.Settings(**SETTINGS)).solve()
    except openndm.ConvergenceError as error:
        raise Failed("did-not-converge", str(error)) from None
    if not found.converged:
        raise Failed("did-not-converge", f"after {found.outer_iterations} iterations of the source")
    # What openndm calls the power of a node is the whole node's, so that it has to be shared by the area.
    power, area = np.zeros((9, 9)), np.zeros((9, 9))
    np.add.at(power, np.ix_(owner, owner), np.nan_to_num(found.power_lattice()[0]))
    np.add.at(area, np.ix_(owner, owner), np.outer(widths, widths))
    fuel = np.isin(core, (OUTER, INNER, RODDED))
    return Solution(found.k_eff, np.where(fuel, power / area, 0.0) / (power[fuel].sum() / area[fuel].sum()))


@cache
def _library() -> Any:
    """The benchmark's cross-sections; axial leakage counts as absorption."""
    library = openndm.XSLibrary(n_groups=2, n_compositions=len(DATA))
    for number, (d1, d2, down, a1, a2, fission) in DATA.items():
        fuel = {"nu_fission": [0.0, fission], "kappa_fission": [0.0, fission], "chi": [1.0, 0.0]} if fission else {}
        library.set_composition(
            number - 1, D=[d1, d2], absorption=[a1 + d1 * BUCKLING, a2 + d2 * BUCKLING],
            scatter=[[0.0, down], [0.0, 0.0]], **fuel,
        )  # fmt: skip
    library.finalize()
    return library


def values() -> tuple[float, ...]:
    """The peaking of every row of the pool of `spec`, nan where it rods more than the inventory: about 2 s."""
    return tuple(solve(p).peaking if count(p) <= INVENTORY else math.nan for p in PATTERNS)


def spec() -> CampaignSpec:
    """100 trials, 2 at once, seed 0."""
    return CampaignSpec(
        id="fission",
        title="Rodded assemblies of a pressurised-water core",
        description="Which three octant positions to rod for the flattest power; two-group nodal diffusion by openndm.",
        parameters=_parameters(),
        pool=_pool(),
        goal=Goal(objectives=(PEAKING,), outcome_constraints=(RODS,), budget=Budget(trials=100)),
        observables=OBSERVABLES,
        procedure=_procedure("evaluate"),
        parallel=2,
    )


def spec_of_two_fidelities() -> CampaignSpec:
    """150 coarse solutions' worth of trials, 2 at once, seed 0."""
    nodes = Ordered(name="nodes", values=tuple(COSTS), description="nodes along the side of an assembly")
    sources = tuple(Source(value=value, cost=cost) for value, cost in COSTS.items())
    return CampaignSpec(
        id="fission-fidelities",
        title="Rodded assemblies of a pressurised-water core, coarse and fine",
        description="Coarse solutions teach for a third of the cost, and only fine ones count.",
        parameters=(*_parameters(), nodes),
        pool=_pool(tuple(COSTS)),
        goal=Goal(
            objectives=(PEAKING,),
            outcome_constraints=(RODS,),
            budget=Budget(cost=150.0, cost_unit="coarse solutions"),
        ),
        fidelity=Fidelity(parameter="nodes", target=2, sources=sources),
        observables=OBSERVABLES,
        procedure=_procedure("evaluate_at"),
        parallel=2,
    )


PEAKING = Objective(observable="peaking", direction="minimize")
RODS = OutcomeConstraint(observable="rodded", relation="<=", bound=float(INVENTORY))
OBSERVABLES = (
    Observable(name="k_eff", description="effective multiplication factor"),
    Observable(name="rodded", description="rodded assemblies of the whole core"),
    Observable(name="lowest", description="power of the coldest assembly over the mean"),
)


def _parameters() -> tuple[Continuous, ...]:
    found = []
    for place in PLACES:
        words = f"of the {place} of the three rodded positions"
        found.append(Continuous(name=f"{place}_distance", low=0.0, high=WIDTH * 7.5, unit="cm", description=words))
        found.append(Continuous(name=f"{place}_angle", low=0.0, high=45.0, unit="deg", description=words))
    return tuple(found)


def _pool(fidelities: tuple[int, ...] = ()) -> Pool:
    rows: list[tuple[Scalar, ...]] = [tuple(named(p).values()) for p in PATTERNS]
    if not fidelities:
        return Pool(columns=COLUMNS, rows=tuple(rows))
    return Pool(columns=(*COLUMNS, "nodes"), rows=tuple((*row, nodes) for nodes in fidelities for row in rows))


def _procedure(function: str) -> ProcedureSpec:
    step = StepSpec(operation=f"firstlight.domains.fission:{function}", limits=Limits(seconds=60.0))
    return ProcedureSpec(steps=(step,))


BEST = Reference(value=1.226534, source="all 3,654 patterns computed: rods at (0, 0), (4, 0) and (3, 3)", proven=True)

DOMAIN = Domain(
    name="fission",
    title="Rodded assemblies of a pressurised-water core",
    area="Nuclear fission",
    summary="IAEA benchmark core by openndm: the flattest power of 3,654 patterns, all known",
    spec=spec,
    modules=("openndm",),
    best=BEST,
    values=values,
)

TWO_FIDELITIES = Domain(
    name="fission-fidelities",
    title="Rodded assemblies of a pressurised-water core, coarse and fine",
    area="Nuclear fission",
    summary="The same core where a coarse solution costs a third of a fine one, and only fine ones count",
    spec=spec_of_two_fidelities,
    extra="fission",
    modules=("openndm",),
    best=BEST,
)
