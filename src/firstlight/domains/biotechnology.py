"""Biotechnology: strains of Escherichia coli that cannot grow without making succinate.

Take away the other ways to get rid of electrons and a cell that grows as fast as it can must secrete succinate:
growth and product are coupled. A design says which enzymes are knocked out, what the cells feed on and how much
oxygen they get. COBRApy builds the linear programmes of flux balance analysis, GLPK solves them: the fastest growth
first, then the least succinate among all fluxes that grow that fast, which is what the design guarantees.

Two campaigns: one on the genome-scale model iJO1366, with several objectives; one on the E. coli core model, small
enough for every design to be tried. docs/domains/biotechnology.md says which choices the models make and why.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from itertools import combinations
from threading import Lock

from msgspec import Struct

from firstlight.core import (
    Budget,
    CampaignSpec,
    Categorical,
    Continuous,
    Failed,
    Goal,
    Integer,
    Limits,
    Linear,
    Objective,
    Observable,
    Point,
    Pool,
    ProcedureSpec,
    StepSpec,
)

from ._domain import Domain, Reference
from ._later import later

cobra_io = later("cobra.io", "biotechnology")
glpk = later("swiglpk", "biotechnology")

FLUX = "mmol/g/h"
"""The unit of every flux: per gram of dry cells and hour."""
FRACTION = 0.9999
"""The share of its fastest growth that a cell is granted when its succinate is asked for.

All of it would leave the second programme no room for the tolerance of the first (1e-7), and GLPK finds it infeasible
now and then.
"""
LEAST_GROWTH = 0.02
"""1/h. Cells that grow slower, doubling in more than 35 hours, count as dead."""
TOLERANCE = 1e-7
"""How far a flux may lie outside its bounds: COBRApy's own."""

ENZYMES: Mapping[str, tuple[str, str]] = {
    "ldhA": ("LDH_D", "lactate dehydrogenase"),
    "pflB": ("PFL OBTFL", "pyruvate formate-lyase"),
    "adhE": ("ALCD2x ACALD", "alcohol dehydrogenase"),
    "pta": ("PTAr", "phosphate acetyltransferase"),
    "poxB": ("POX", "pyruvate oxidase"),
    "mgsA": ("MGSA", "methylglyoxal synthase"),
    "aceE": ("PDH", "pyruvate dehydrogenase"),
    "pykF": ("PYK", "pyruvate kinase"),
    "pck": ("PPCK", "phosphoenolpyruvate carboxykinase"),
    "maeA": ("ME1", "malic enzyme (NAD)"),
    "maeB": ("ME2", "malic enzyme (NADP)"),
    "gltA": ("CS", "citrate synthase"),
    "sucA": ("AKGDH", "2-oxoglutarate dehydrogenase"),
    "sdhA": ("SUCDi", "succinate dehydrogenase"),
    "aceA": ("ICL", "isocitrate lyase"),
    "gdhA": ("GLUDy", "glutamate dehydrogenase"),
    "ptsG": ("GLCptspp", "glucose phosphotransferase system"),
    "pgi": ("PGI", "glucose-6-phosphate isomerase"),
    "zwf": ("G6PDH2r", "glucose-6-phosphate dehydrogenase"),
    "pntA": ("THD2pp", "transhydrogenase, membrane-bound"),
    "sthA": ("NADTRHD", "transhydrogenase, soluble"),
    "nuoA": ("NADH16pp NADH17pp NADH18pp", "NADH dehydrogenase I"),
}
"""What may be knocked out of iJO1366: the gene by which the enzyme is known, its reactions, its name."""
MOST_KNOCKOUTS = 5

SUBSTRATES: Mapping[str, tuple[str, int, float]] = {
    "glucose": ("EX_glc__D_e", 6, 4.0),
    "xylose": ("EX_xyl__D_e", 5, 4.0),
    "gluconate": ("EX_glcn_e", 6, 11 / 3),
    "sorbitol": ("EX_sbt__D_e", 6, 13 / 3),
    "glycerol": ("EX_glyc_e", 3, 14 / 3),
}
"""What cells feed on: its exchange reaction, carbon atoms, and electrons a carbon atom has to give (CO2 is 0)."""
CARBON = 60.0
"""Most carbon that cells take up, mmol/g/h: that of 10 mmol/g/h glucose."""

CORE_REACTIONS = (
    "PFL", "LDH_D", "ALCD2x", "ACALD", "PTAr", "ACKr", "PDH", "PPC", "ME1", "ME2", "PYK", "FUM", "MDH", "GLUDy", "PGI",
    "G6PDH2r", "TKT1", "TALA", "SUCDi", "FRD7", "THD2", "NADTRHD", "ICL", "MALS", "CS", "AKGDH", "PPCK", "FORt2",
    "ACt2r", "ETOHt2r",
)  # fmt: skip
"""The 30 reactions of the core model that may be knocked out: fermentation, anaplerosis, the citric acid cycle and
glyoxylate shunt, the pentose phosphate pathway, transhydrogenases, glutamate, and three transporters."""
CORE_KNOCKOUTS = 3
CORE_GLUCOSE = 10.0


class Strain(Struct, frozen=True):
    """Growth (1/h), and the least and the most succinate (mmol/g/h) among all fluxes that grow that fast."""

    growth: float
    least: float
    most: float


class _Cell:
    """A model held in memory, and changed for one strain at a time.

    Loading COBRApy and iJO1366 takes about nine seconds, once a process.
    """

    def __init__(self, model: str, biomass: str) -> None:
        self._model = cobra_io.load_model(model)
        self._biomass = self._model.reactions.get_by_id(biomass)
        self._model.solver.update()
        self._problem = self._model.solver.problem
        self._optimum(glpk.GLP_PRIMAL)
        self._start = self._basis()

    def strain(self, knocked_out: Collection[str], uptake: Mapping[str, float]) -> Strain:
        """Knock reactions out and let exchange reactions take up so much. Raises Failed where no cell lives so."""
        with self._model as model:  # which undoes all changes in the end
            for name in knocked_out:
                model.reactions.get_by_id(name).knock_out()
            for name, most in uptake.items():
                model.reactions.get_by_id(name).lower_bound = -most
            self._go_to_start()
            growth = self._optimum(glpk.GLP_DUALP)
            if math.isnan(growth):
                raise Failed("invalid-input", "lethal: no flux gives the energy that staying alive takes")
            if growth < LEAST_GROWTH:
                raise Failed("invalid-input", f"lethal: growth of {abs(growth):.3f} 1/h, less than {LEAST_GROWTH}")
            self._biomass.lower_bound = FRACTION * growth
            model.objective = "EX_succ_e"
            model.objective_direction = "min"
            least = self._optimum(glpk.GLP_PRIMAL)
            model.objective_direction = "max"
            most = self._optimum(glpk.GLP_PRIMAL)
        if math.isnan(least) or math.isnan(most):
            raise Failed("did-not-converge", "GLPK finds no flux that grows as fast as the one it found before")
        return Strain(growth=growth, least=max(0.0, least), most=max(0.0, most))

    def _optimum(self, method: int) -> float:
        """Solve the programme as it stands; nan where it has no solution."""
        self._model.solver.update()
        options = glpk.glp_smcp()
        glpk.glp_init_smcp(options)
        options.msg_lev = glpk.GLP_MSG_OFF
        options.meth = method
        options.tol_bnd = options.tol_dj = TOLERANCE
        error = glpk.glp_simplex(self._problem, options)
        status = glpk.glp_get_status(self._problem)
        if status == glpk.GLP_OPT and not error:
            return float(glpk.glp_get_obj_val(self._problem))
        if status == glpk.GLP_NOFEAS and not error:
            return math.nan
        raise Failed("did-not-converge", f"GLPK gave up (error {error}, status {status})")

    def _basis(self) -> tuple[list[int], list[int]]:
        rows, columns = glpk.glp_get_num_rows(self._problem), glpk.glp_get_num_cols(self._problem)
        return (
            [glpk.glp_get_row_stat(self._problem, i) for i in range(1, rows + 1)],
            [glpk.glp_get_col_stat(self._problem, i) for i in range(1, columns + 1)],
        )

    def _go_to_start(self) -> None:
        """Back to the optimum of the wild type, so that the strains tried before leave no trace in the last digits."""
        rows, columns = self._start
        glpk.glp_std_basis(self._problem)  # which also forgets the factors of the last basis
        for i, status in enumerate(rows, 1):
            glpk.glp_set_row_stat(self._problem, i, status)
        for i, status in enumerate(columns, 1):
            glpk.glp_set_col_stat(self._problem, i, status)


_turn = Lock()
"""A model is changed for a strain and back again: one strain at a time in a process."""


@cache
def _genome() -> _Cell:
    return _Cell("iJO1366", "BIOMASS_Ec_iJO1366_core_53p95M")


@cache
def _core() -> _Cell:
    return _Cell("textbook", "Biomass_Ecoli_core")


def grow(genes: Collection[str], substrate: str = "glucose", oxygen: float = 0.0) -> Strain:
    """A strain of iJO1366 without some of ENZYMES, on 60 mmol/g/h of carbon and so much oxygen (mmol/g/h).

    Raises Failed as `evaluate` does.
    """
    exchange, carbons, _ = SUBSTRATES[substrate]
    reactions = [name for gene in genes for name in ENZYMES[gene][0].split()]
    with _turn:
        return _genome().strain(reactions, {"EX_glc__D_e": 0.0, exchange: CARBON / carbons, "EX_o2_e": oxygen})


def grow_core(reactions: Collection[str], oxygen: float = 0.0) -> Strain:
    """A strain of the core model without some reactions, on 10 mmol/g/h glucose. Raises Failed as `evaluate` does."""
    with _turn:
        return _core().strain(reactions, {"EX_glc__D_e": CORE_GLUCOSE, "EX_o2_e": oxygen})


def evaluate(point: Point) -> dict[str, float]:
    """Growth and succinate of a strain of iJO1366; units as in `spec`.

    Raises Failed: "invalid-input" where the strain does not live, because no flux feeds its maintenance or it grows
    slower than 0.02 1/h, or where COBRApy is not installed; "did-not-converge" where GLPK finds no optimum.
    """
    substrate = str(point["substrate"])
    strain = grow([gene for gene in ENZYMES if point[gene]], substrate, float(point["oxygen"]))
    in_product = 4 * strain.least / CARBON
    return {
        "succinate": strain.least,
        "growth": strain.growth,
        "succinate_most": strain.most,
        "carbon_yield": 100 * in_product,
        "coupled_yield": strain.growth * in_product,
    }


def evaluate_core(point: Point) -> dict[str, float]:
    """Succinate and growth of a strain of the core model; units as in `core_spec`. Raises Failed as `evaluate` does."""
    strain = grow_core([name for name in CORE_REACTIONS if point[name]])
    return {
        "succinate": strain.least,
        "growth": strain.growth,
        "succinate_most": strain.most,
        "coupled_yield": strain.growth * strain.least / CORE_GLUCOSE,
    }


def core_values() -> Sequence[float]:
    """The guaranteed succinate of every design of the core problem, in the order of its pool; nan where it is lethal.

    Takes a few seconds.
    """
    return tuple(_guaranteed(design) for design in core_designs())


def core_designs() -> list[tuple[str, ...]]:
    """Every choice of one to three of CORE_REACTIONS, in the order of the pool."""
    return [design for n in range(1, CORE_KNOCKOUTS + 1) for design in combinations(CORE_REACTIONS, n)]


def _guaranteed(design: Collection[str]) -> float:
    try:
        return grow_core(design).least
    except Failed:
        return math.nan


def spec() -> CampaignSpec:
    """150 trials, 2 at once, seed 0."""
    descriptors = {name: {"carbons": float(c), "electrons": e} for name, (_, c, e) in SUBSTRATES.items()}
    return CampaignSpec(
        id="biotechnology",
        title="Growth-coupled succinate in Escherichia coli",
        description="Knock-outs, substrate and oxygen for a strain that makes succinate as it grows, on iJO1366.",
        parameters=(
            *(Integer(name=gene, low=0, high=1, description=f"1: no {what}") for gene, (_, what) in ENZYMES.items()),
            Categorical(name="substrate", values=tuple(SUBSTRATES), descriptors=descriptors,
                        description="60 mmol/g/h of carbon in it"),
            Continuous(name="oxygen", low=0.0, high=20.0, unit=FLUX, description="most that is taken up"),
        ),
        constraints=(Linear(terms=dict.fromkeys(ENZYMES, 1.0), relation="<=", bound=MOST_KNOCKOUTS),),
        goal=Goal(
            objectives=(
                Objective(observable="succinate", direction="maximize", unit=FLUX, threshold=2.0),
                Objective(observable="growth", direction="maximize", unit="1/h", threshold=0.1),
            ),
            budget=Budget(trials=150),
        ),
        observables=(
            Observable(name="succinate_most", unit=FLUX, description="most succinate at that growth"),
            Observable(name="carbon_yield", unit="%", description="carbon in the guaranteed succinate, of that fed"),
            Observable(name="coupled_yield", unit="1/h", description="growth times carbon yield"),
        ),
        procedure=_procedure("evaluate"),
        parallel=2,
    )  # fmt: skip


def core_spec() -> CampaignSpec:
    """200 trials, 1 at once, seed 0."""
    designs = core_designs()
    return CampaignSpec(
        id="biotechnology-core",
        title="Growth-coupled succinate in the Escherichia coli core model",
        description="At most three knock-outs, no oxygen, 10 mmol/g/h glucose: every one of 4,525 designs is known.",
        parameters=tuple(Integer(name=name, low=0, high=1, description="1: knocked out") for name in CORE_REACTIONS),
        pool=Pool(columns=CORE_REACTIONS, rows=tuple(tuple(int(r in d) for r in CORE_REACTIONS) for d in designs)),
        goal=Goal(
            objectives=(Objective(observable="succinate", direction="maximize", unit=FLUX),),
            budget=Budget(trials=200),
        ),
        observables=(
            Observable(name="growth", unit="1/h"),
            Observable(name="succinate_most", unit=FLUX, description="most succinate at that growth"),
            Observable(name="coupled_yield", unit="1/h", description="growth times succinate over glucose"),
        ),
        procedure=_procedure("evaluate_core"),
    )


def _procedure(function: str) -> ProcedureSpec:
    limits = Limits(seconds=300.0, memory=2 << 30)
    return ProcedureSpec(steps=(StepSpec(operation=f"firstlight.domains.biotechnology:{function}", limits=limits),))


DOMAIN = Domain(
    name="biotechnology",
    title="Growth-coupled succinate in E. coli",
    area="Biotechnology",
    summary="Strain design on iJO1366: guaranteed succinate and growth against knock-outs, substrate and oxygen",
    spec=spec,
    modules=("cobra",),
)

CORE = Domain(
    name="biotechnology-core",
    title="Growth-coupled succinate in the E. coli core model",
    area="Biotechnology",
    summary="Strain design with a known answer: the best of 4,525 designs with up to three knock-outs",
    spec=core_spec,
    extra="biotechnology",
    modules=("cobra",),
    best=Reference(9.910, "enumeration of all 4,525 designs", proven=True),
    values=core_values,
)
