"""A synthesis optimised by robots: luminescent dots, made, annealed and measured in the twin laboratory.

Every batch is one plate: eight recipes, each in two wells, that share the temperatures and the time. A liquid handler
fills the wells, a plate mover carries the plate from a block that heats it through a furnace to a spectrometer, and
the plate goes home. `firstlight lab up` starts the laboratory (docs/domains/autonomous-lab.md says what it obeys);
the same specification runs on any that has instruments of these names.
"""

from firstlight.core import (
    Budget,
    CampaignSpec,
    Continuous,
    Goal,
    Limits,
    Objective,
    Observable,
    ProcedureSpec,
    StepSpec,
)

from ._domain import Domain

LABORATORY = "cell"
"""The facility that performs it."""
VOLUME = 720.0
"""uL that every well is filled up to."""


def step(name: str, operation: str, seconds: float = 0.0, **settings: object) -> StepSpec:
    """One step on an instrument of the laboratory; `seconds` of wall time at most, 0 for what is usual."""
    limits = Limits(seconds=seconds) if seconds else Limits()
    return StepSpec(
        name=name, operation=operation, facility=LABORATORY, settings=settings, limits=limits, repeatable=False
    )


def carry(to: str) -> StepSpec:
    """The plate of the sample is carried to a place."""
    return step(f"to-{to}", "mover.Transfer", Plate="{sample}", To=to)


STEPS = (
    carry("deck"),
    *(
        step(f"add-{reagent}", "handler.Dispense", Reagent=reagent, Well="{sample}", Volume=f"{{{reagent}}}")
        for reagent in ("precursor", "ligand", "catalyst")
    ),
    step(
        "fill-up", "handler.Dispense", Reagent="solvent", Well="{sample}",
        Volume=f"{{{VOLUME:g} - precursor - ligand - catalyst}} uL",
    ),
    carry("heater"),
    step("heat", "heater.Heat", sample="{sample}", Temperature="{temperature}", Duration="{time}"),
    carry("furnace"),
    step("anneal", "furnace.Anneal", sample="{sample}", Temperature="{anneal}", Duration="600 s"),
    carry("reader"),
    step("standard", "spectrometer.MeasureStandard", sample="{sample}"),
    step("measure", "spectrometer.Measure", Well="{sample}"),
    carry("home"),
)  # fmt: skip


def spec() -> CampaignSpec:
    """Six plates of eight recipes in two wells each; what is made to shine brightest is looked for."""
    return CampaignSpec(
        id="autonomous-lab",
        title="Luminescent dots, by robots",
        description=(
            "Find the recipe whose product shines brightest under 405 nm, relative to a standard: volumes of "
            "precursor, ligand and catalyst, and how hot and long a plate is heated and how hot it is annealed."
        ),
        parameters=(
            Continuous(name="precursor", low=50.0, high=300.0, unit="uL", description="1 mmol/L"),
            Continuous(name="ligand", low=50.0, high=300.0, unit="uL", description="1 mmol/L"),
            Continuous(name="catalyst", low=5.0, high=100.0, unit="uL", description="0.2 mmol/L"),
            Continuous(name="temperature", low=40.0, high=140.0, unit="degC", description="of the block"),
            Continuous(name="time", low=120.0, high=3600.0, unit="s", scale="log", description="on the block"),
            Continuous(name="anneal", low=40.0, high=200.0, unit="degC", description="of the furnace, ten minutes"),
        ),
        observables=(
            Observable(name="PeakAbsorbance", description="how much of it there is"),
            Observable(name="PeakWavelength", unit="nm", description="where it shines"),
        ),
        goal=Goal(objectives=(Objective(observable="Intensity", direction="maximize"),), budget=Budget(trials=48)),
        procedure=ProcedureSpec(steps=STEPS, name="recipe", options={"replicates": 2}),
        batch=8,
        parallel=16,
        shared=("temperature", "time", "anneal"),
        ahead=0,
        seed=1,
    )


DOMAIN = Domain(
    name="autonomous-lab", title="Luminescent dots, by robots", area="Robotic laboratories",
    summary="Recipe and heat of a nanoparticle synthesis, through five robots over SiLA 2, OPC UA, EPICS and SECoP",
    spec=spec, extra="lab", modules=("sila2", "asyncua", "p4p"), laboratory=LABORATORY,
)  # fmt: skip
