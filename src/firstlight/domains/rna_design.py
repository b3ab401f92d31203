"""RNA design: a sequence that folds into a given secondary structure, and into hardly anything else.

Inverse folding over a space of sequences: every base pair of the target may be one of six, every unpaired position one
of four bases, so that any point can pair as it should. ViennaRNA sums over all structures a sequence can take; the
objective is how far in free energy the target lies above the whole of them.

docs/domains/rna-design.md says what the numbers mean, and how this compares with ViennaRNA's own inverse folding.
"""

from collections.abc import Iterator

from firstlight.core import (
    Budget,
    CampaignSpec,
    Categorical,
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

RNA = later("RNA", "rna-design")

TRIPOD5 = "..((((((((.....))))((((.....)))))))).."
"""Puzzle 40 of Eterna100 (the same in V1 and V2), Tripod5: three stems at a junction without an unpaired base."""

GC = (40.0, 60.0)
"""The least and most GC content, %: sequences outside are hard to synthesise or to transcribe."""

PAIRS = {
    "GC": {"bonds": 3.0, "purine": 1.0},
    "CG": {"bonds": 3.0, "purine": 0.0},
    "AU": {"bonds": 2.0, "purine": 1.0},
    "UA": {"bonds": 2.0, "purine": 0.0},
    "GU": {"bonds": 1.0, "purine": 1.0},
    "UG": {"bonds": 1.0, "purine": 0.0},
}
"""Base pairs, 5' base first: rank of their strength, and whether the purine is at the 5' side."""
BASES = {
    "A": {"strong": 0.0, "purine": 1.0},
    "C": {"strong": 1.0, "purine": 0.0},
    "G": {"strong": 1.0, "purine": 1.0},
    "U": {"strong": 0.0, "purine": 0.0},
}
"""Unpaired bases: whether they would pair by three hydrogen bonds, and whether they are purines."""

_HAIRPIN = 3
"""The fewest unpaired bases that a pair can enclose."""
_LONGEST = 400
"""Longer targets (nt) would make a space of more parameters than a surrogate can learn in any budget."""


def evaluate(point: Point, target: str = TRIPOD5) -> dict[str, float]:
    """How well the sequence of a point folds into the target; units as in `spec`.

    Raises Failed: "invalid-input" where the point is not one of the target's campaign, or ViennaRNA is not installed.
    """
    bases = sequence(point, target)
    # Explicit, because ViennaRNA's defaults can be changed for the whole process.
    compound = RNA.fold_compound(bases, RNA.md(temperature=37.0, dangles=2))
    structure, energy = compound.mfe()
    compound.exp_params_rescale(energy)
    _, ensemble = compound.pf()
    return {
        "gap": max(0.0, compound.eval_structure(target) - ensemble),
        "probability": 100 * compound.pr_structure(target),
        "defect": 100 * compound.ensemble_defect(target),
        "distance": float(RNA.bp_distance(structure, target)),
        "gc": 100 * (bases.count("G") + bases.count("C")) / len(bases),
        "energy": energy,
    }


def sequence(point: Point, target: str = TRIPOD5) -> str:
    """The sequence that a point stands for. Raises Failed where the point lacks a position of the target."""
    bases = [""] * len(target)
    for name, positions in _positions(target):
        letters = str(point.get(name, ""))
        if letters not in (PAIRS if len(positions) == 2 else BASES):
            raise Failed("invalid-input", f"{name} is {letters or 'missing'}: not a point of the target {target}")
        for position, letter in zip(positions, letters, strict=True):
            bases[position] = letter
    return "".join(bases)


def _positions(target: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The parameters' names and the positions (from 0) that each fills, in the order of the sequence."""
    partner = pairs_of(target)
    for i, symbol in enumerate(target):
        if symbol == "(":
            yield f"pair_{i + 1}_{partner[i] + 1}", (i, partner[i])
        elif symbol == ".":
            yield f"base_{i + 1}", (i,)


def pairs_of(target: str) -> dict[int, int]:
    """Where each opening bracket (from 0) is closed. Raises ValueError where the string is no secondary structure."""
    if unknown := set(target) - set("(.)"):
        raise ValueError(f"a target is made of ( . and ), without {' '.join(sorted(unknown))}")
    if "(" not in target or len(target) > _LONGEST:
        raise ValueError(f"a target has a base pair, and at most {_LONGEST} positions")
    opened: list[int] = []
    found: dict[int, int] = {}
    for i, symbol in enumerate(target):
        if symbol == "(":
            opened.append(i)
        elif symbol == ")":
            if not opened:
                raise ValueError(f"the bracket at position {i + 1} closes nothing")
            start = opened.pop()
            found[start] = i
            if i - start <= _HAIRPIN:
                raise ValueError(f"the pair closed at position {i + 1} encloses fewer than {_HAIRPIN} bases")
    if opened:
        raise ValueError(f"the bracket at position {opened[-1] + 1} is never closed")
    return found


def spec() -> CampaignSpec:
    """150 trials for Tripod5, one at a time, seed 0."""
    return spec_for(TRIPOD5)


def spec_for(target: str) -> CampaignSpec:
    """The same campaign for another target, in dot-bracket notation. Raises ValueError."""
    parameters = (
        Categorical(name=name, values=tuple(PAIRS), descriptors=PAIRS, description="base pair, 5' base first")
        if len(positions) == 2
        else Categorical(name=name, values=tuple(BASES), descriptors=BASES, description="unpaired base")
        for name, positions in _positions(target)
    )
    return CampaignSpec(
        id="rna-design",
        title="An RNA that folds into a given structure",
        description=f"Inverse folding of {target} with ViennaRNA, Turner 2004 energies at 37 degC.",
        parameters=tuple(parameters),
        goal=Goal(
            objectives=(Objective(observable="gap", direction="minimize", unit="kcal/mol"),),
            outcome_constraints=(
                OutcomeConstraint(observable="gc", relation=">=", bound=GC[0], unit="%"),
                OutcomeConstraint(observable="gc", relation="<=", bound=GC[1], unit="%"),
            ),
            budget=Budget(trials=150),
        ),
        observables=(
            Observable(name="probability", unit="%", description="of the target among all structures"),
            Observable(name="defect", unit="%", description="bases that are not paired as in the target, on average"),
            Observable(name="distance", unit="1", description="pairs by which the likeliest structure differs from it"),
            Observable(name="gc", unit="%", description="G and C in the sequence"),
            Observable(name="energy", unit="kcal/mol", description="free energy of the likeliest structure"),
        ),
        procedure=ProcedureSpec(
            steps=(
                StepSpec(
                    operation="firstlight.domains.rna_design:evaluate",
                    settings={"target": target},
                    limits=Limits(seconds=60),
                ),
            )
        ),
    )  # fmt: skip


DOMAIN = Domain(
    name="rna-design",
    title="An RNA that folds into a given structure",
    area="Biotechnology",
    summary="Inverse folding of an Eterna target on ViennaRNA: free energy above the ensemble, 26 categories",
    spec=spec,
    modules=("RNA",),
)
