"""Critical materials: rare earths from an acidic leachate, in two precipitation stages.

Stage 1 raises the pH with NaOH; iron and aluminium hydroxides precipitate and are filtered off. Stage 2
doses NaHCO3 and raises the pH again; rare-earth carbonates precipitate, and with too much of either
calcium and manganese carbonates too. PHREEQC computes both equilibria, with the database llnl.dat.

The leachate is synthetic. docs/domains/critical-materials.md says which choices the model makes and why.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from msgspec import Struct

from firstlight.core import (
    Budget,
    CampaignSpec,
    Continuous,
    Failed,
    Goal,
    Objective,
    Observable,
    Point,
    ProcedureSpec,
    StepSpec,
)

from ._domain import Domain
from ._later import later

phreeqc = later("phreeqc", "critical-materials")

RARE_EARTHS = {"La": 0.15, "Ce": 0.35, "Nd": 0.20, "Sm": 0.05, "Gd": 0.05, "Dy": 0.04}
IMPURITIES = {"Al": 6.0, "Fe": 2.0, "Ca": 8.0, "Mg": 10.0, "Mn": 1.0}
"""The synthetic leachate, mmol per kg of water: pH 2.5, sulfate to charge balance (35)."""

TOLERANCE = 0.01
"""How far from its set-point, in pH units, a stage may end."""

_VALENCES = {"Fe": "Fe(3)", "Mn": "Mn(2)"}
_HYDROXIDES = {
    "Fe(OH)3": {"Fe": 1}, "Al(OH)3_amorphous": {"Al": 1}, "Gypsum": {"Ca": 1},
    **{f"{e}(OH)3(am)": {e: 1} for e in RARE_EARTHS},
}  # fmt: skip
_SOLIDS = {
    **_HYDROXIDES,
    "Calcite": {"Ca": 1}, "Rhodochrosite": {"Mn": 1}, "Brucite": {"Mg": 1},
    **{f"{e}2(CO3)3:8H2O": {e: 2} for e in ("La", "Ce")},
    **{f"{e}2(CO3)3": {e: 2} for e in ("Nd", "Sm", "Gd", "Dy")},
}  # fmt: skip
"""Solids that may form, and how many atoms of which metal each holds."""

_METALS = (*RARE_EARTHS, *IMPURITIES)
_NAOH = 10.0
"""Moles in the titrator's tank: more than any set-point takes."""

# Al13 in llnl.dat keeps aluminium dissolved above pH 5; it is switched off by an equilibrium constant
# that lets none form. Amorphous Al(OH)3 is that of phreeqc.dat, the solid that fresh precipitates are.
_SETUP = f"""
PHASES
Fix_H+
 H+ = H+
 log_k 0
Al(OH)3_amorphous
 Al(OH)3 + 3 H+ = Al+3 + 3 H2O
 log_k 10.8
 delta_h -26.5 kcal
SOLUTION_SPECIES
28 H2O + 13 Al+3 = Al13O4(OH)24+7 + 32 H+
 -llnl_gamma 6.0
 log_k -400
SELECTED_OUTPUT 1
 -reset false
 -pH true
USER_PUNCH 1
 -headings charge sodium {" ".join(f"aq_{e}" for e in _METALS)} {" ".join(_SOLIDS)}
 -start
 10 PUNCH PERCENT_ERROR, TOTMOL("Na")
 20 PUNCH {", ".join(f'TOTMOL("{e}")' for e in _METALS)}
 30 PUNCH {", ".join(f'EQUI("{solid}")' for solid in _SOLIDS)}
 -end
END
"""


class Stream(Struct, frozen=True):
    """What leaves a stage: moles of every metal in solution and in its solids, per kg of water fed."""

    pH: float
    sodium: float
    charge_error: float
    dissolved: Mapping[str, float]
    solid: Mapping[str, float]


class Separation(Struct, frozen=True):
    """The leachate, what the two stages make of it, and the pH that bicarbonate alone brings in stage 2."""

    feed: Stream
    stage1: Stream
    stage2: Stream
    undosed_pH: float


def evaluate(point: Point) -> dict[str, float]:
    """Recovery, purity and reagent at one point, with what explains them; units as in `spec`.

    Raises Failed: "invalid-input" where no amount of NaOH reaches the set-point of stage 2 (bicarbonate
    alone brings the liquor above it) or PHREEQC is not installed, "did-not-converge" where PHREEQC
    finds no equilibrium.
    """
    result = separate(*(float(point[name]) for name in ("pH1", "pH2", "bicarbonate", "temperature")))
    feed = sum(result.feed.dissolved[e] for e in RARE_EARTHS)
    recovered = sum(result.stage2.solid[e] for e in RARE_EARTHS)
    metals = sum(result.stage2.solid.values())
    return {
        "recovery": 100 * recovered / feed,
        "purity": 100 * recovered / metals if metals > 1e-9 else 0.0,
        "reagent": 1000 * (result.stage2.sodium - result.feed.sodium),
        "loss": 100 * sum(result.stage1.solid[e] for e in RARE_EARTHS) / feed,
        "aluminium_removed": 100 * result.stage1.solid["Al"] / result.feed.dissolved["Al"],
        "iron_removed": 100 * result.stage1.solid["Fe"] / result.feed.dissolved["Fe"],
    }


def separate(pH1: float, pH2: float, bicarbonate: float, temperature: float) -> Separation:
    """Both stages: set-points, NaHCO3 in mmol per kg of water, degrees Celsius. Raises Failed as `evaluate` does."""
    feed, stage1, undosed, stage2 = _solve(_input(pH1, pH2, bicarbonate, temperature))
    for name, asked, low, reached in (("pH1", pH1, feed.pH, stage1.pH), ("pH2", pH2, undosed.pH, stage2.pH)):
        if low > asked:
            raise Failed("invalid-input", f"{name} = {asked:.2f} is out of reach: base is all there is to dose, "
                                          f"and before any the pH is {low:.2f} already")  # fmt: skip
        if abs(reached - asked) > TOLERANCE:
            raise Failed("did-not-converge", f"{name} = {asked:.2f} was asked for, and pH {reached:.2f} came out")
    return Separation(feed=feed, stage1=stage1, stage2=stage2, undosed_pH=undosed.pH)


def _input(pH1: float, pH2: float, bicarbonate: float, temperature: float) -> str:
    """Four equilibria: the leachate, stage 1, stage 2 with bicarbonate only, and stage 2 brought to its set-point.

    Without force_equality, PHREEQC takes a pH beside the set-point for a solution about once in sixty.
    """
    leachate = "\n".join(f" {_VALENCES.get(e, e)} {amount}" for e, amount in {**RARE_EARTHS, **IMPURITIES}.items())
    first = "\n".join(f" {solid} 0 0" for solid in _HYDROXIDES)
    second = "\n".join(f" {solid} 0 0" for solid in _SOLIDS)
    return f"""
SOLUTION 1
 temp {temperature!r}
 pH 2.5
 pe 12
 units mmol/kgw
{leachate}
 S(6) 30 charge
EQUILIBRIUM_PHASES 1
 Fix_H+ {-pH1!r} NaOH {_NAOH}
  -force_equality true
{first}
SAVE solution 2
END
USE solution 2
REACTION 2
 NaHCO3 1
 {bicarbonate!r} mmol
EQUILIBRIUM_PHASES 2
{second}
END
USE solution 2
USE reaction 2
EQUILIBRIUM_PHASES 3
 Fix_H+ {-pH2!r} NaOH {_NAOH}
  -force_equality true
{second}
END
"""


def _solve(text: str) -> tuple[Stream, ...]:
    engine = _engine()
    with _turn:
        left_behind = Path("error.inp")
        there_before = left_behind.exists()
        if engine.RunString(text):
            # PHREEQC leaves the input it could not solve in the working directory, which is not its own.
            if not there_before:
                left_behind.unlink(missing_ok=True)
            lines = [" ".join(line.split()) for line in engine.GetErrorString().splitlines() if line.strip()]
            raise Failed("did-not-converge", lines[0] if lines else "PHREEQC gave no reason")
        columns = engine.GetSelectedOutput()
    return tuple(_stream({name: values[row] for name, values in columns.items()}) for row in range(4))


def _stream(row: Mapping[str, float]) -> Stream:
    return Stream(
        pH=row["pH"],
        sodium=row["sodium"],
        charge_error=row["charge"],
        dissolved={e: row[f"aq_{e}"] for e in _METALS},
        solid={e: sum(metals.get(e, 0) * row[solid] for solid, metals in _SOLIDS.items()) for e in _METALS},
    )


_turn = Lock()
"""One engine a process keeps one calculation at a time."""


@cache
def _engine() -> Any:
    """PHREEQC with its database, loaded once a process (about 30 ms)."""
    engine = phreeqc.Phreeqc()
    if engine.LoadBuiltInDatabase("llnl.dat") or engine.RunString(_SETUP):
        raise RuntimeError(f"PHREEQC refused its database: {engine.GetErrorString().strip()}")
    return engine


def spec() -> CampaignSpec:
    """60 trials, 4 at once, seed 0."""
    return CampaignSpec(
        id="critical-materials",
        title="Rare-earth recovery from a synthetic leachate",
        description="Iron and aluminium out with NaOH, rare earths out with NaHCO3 and NaOH; equilibria by PHREEQC.",
        parameters=(
            Continuous(name="pH1", low=3.5, high=8.0, description="set-point of stage 1 (NaOH)"),
            Continuous(name="pH2", low=5.5, high=9.5, description="set-point of stage 2 (NaHCO3, then NaOH)"),
            Continuous(name="bicarbonate", low=0.0, high=6.0, unit="mmol/kg",
                       description="NaHCO3 dosed in stage 2, per kg of water"),
            Continuous(name="temperature", low=10.0, high=60.0, unit="degC", description="of both stages"),
        ),
        goal=Goal(
            objectives=(
                Objective(observable="recovery", direction="maximize", unit="%", threshold=50.0),
                Objective(observable="purity", direction="maximize", unit="%", threshold=50.0),
                Objective(observable="reagent", direction="minimize", unit="mmol/kg", threshold=45.0),
            ),
            budget=Budget(trials=60),
        ),
        observables=(
            Observable(name="loss", unit="%", description="rare earths lost with the cake of stage 1"),
            Observable(name="aluminium_removed", unit="%", description="aluminium in the cake of stage 1"),
            Observable(name="iron_removed", unit="%", description="iron in the cake of stage 1"),
        ),
        procedure=ProcedureSpec(steps=(StepSpec(operation="firstlight.domains.critical_materials:evaluate"),)),
        parallel=4,
    )  # fmt: skip


DOMAIN = Domain(
    name="critical-materials",
    title="Rare earths from an acidic leachate",
    area="Critical materials",
    summary="Two-stage precipitation on PHREEQC: recovery, purity and reagent against two pH, bicarbonate, temperature",
    spec=spec,
    modules=("phreeqc",),
)
