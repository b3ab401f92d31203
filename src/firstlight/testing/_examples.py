"""One example of every fact, for contracts and golden files."""

from firstlight import core

_POINT: core.Point = {"temperature": 351.5, "solvent": "DMF", "cycles": 3}
_ASSET = core.Asset(uri="file:///data/scan.h5", digest="sha256:ab12", media_type="application/x-hdf5", size=4096)
_SEEN = core.Observation(observable="yield", value=0.1 + 0.2, unit="percent", sigma=0.01)
_SAMPLE = core.Sample(
    id="c.1.vial", kind="vial", location="rack/A1", state="measured",
    uses=(core.Use(material="acid", amount=2.5, unit="mL", action="c.1.mix", at=1005.0),),
)  # fmt: skip
_MEASURED = core.Measured(
    observations=(_SEEN,),
    assets=(_ASSET,),
    as_run={"temperature": 352.0},
    cost=1.5,
    started=1000.25,
    ended=1010.5,
    used={"node-hours": 0.25},
    samples=(_SAMPLE,),
)
_FAILURE = core.Failure(
    cause="instrument-fault", message="needle is clogged", log='line 1\nline "2" \u2028 \x00 µ', assets=(_ASSET,),
    as_run={"cycles": 2}, cost=0.5, started=1000.25, ended=1002.0,
    used={"attempts": 2.0}, samples=(_SAMPLE,),
)  # fmt: skip
_RESOURCES = core.Resources(
    nodes=2, processes=8, cores=4, gpus=1, exclusive=True, account="m123", queue="debug", reservation="beamtime",
    container="docker://film:1", pre_launch=("module load film",), post_launch=("sync",),
    attributes={"constraint": "gpu"},
)  # fmt: skip
_ACTION = core.Action(
    id="c.1.mix", trial="c.1", facility="lab", name="mix", operation="mixing", point=_POINT,
    settings={"speed": 300, "deep": [1, 2.5, None, {"é": True}]}, after=("c.1.weigh",),
    limits=core.Limits(seconds=60.0, memory=2**53 + 1), cost=2.0, repeatable=False, approval="Is the hood closed?",
    facilities=("lab", "annex"), resources=_RESOURCES, inputs={"scan": _ASSET}, outputs=("*.h5",),
)  # fmt: skip
_DECISION = core.Decision(
    criterion="log expected improvement", score=-1.25, trials=12,
    runners_up=(core.Alternative(point=_POINT, score=-1.5, predicted=(_SEEN,)),),
    informed_by=(core.Influence(campaign="last-year", share=0.25, trials=40),),
    learned={"yield": {"length-scale temperature": 0.4, "noise": 0.01}}, model="m7",
    outlook=core.Outlook(gain=0.5, chance=0.125),
)  # fmt: skip
_REGION = core.Forbid(ranges={"temperature": (380.0, 400.0)}, values={"solvent": ("DMF",)})
_STANDING = core.Standing(front=((0.25,),), met_by="c.2")
_SPEC = core.CampaignSpec(
    id="c",
    title="Perovskite yield",
    description="Find the best film",
    parameters=(
        core.Continuous(name="temperature", low=300.0, high=400.0, unit="K", scale="log", description="of the plate"),
        core.Integer(name="cycles", low=1, high=9, unit="1", scale="log", description="of spinning"),
        core.Ordered(name="grade", values=(1.0, 2, "fine"), unit="1", description="of the powder"),
        core.Categorical(
            name="solvent", values=("DMF", "DMSO"), descriptors={"DMF": {"polarity": 6.4}}, description="of the ink"
        ),
    ),
    goal=core.Goal(
        objectives=(
            core.Objective(
                observable="yield", direction="match", unit="percent", target=90.0, tolerance=0.5, threshold=10.0
            ),
        ),
        outcome_constraints=(core.OutcomeConstraint(observable="haze", relation="<=", bound=3.0, unit="percent"),),
        budget=core.Budget(trials=20, cost=100.0, cost_unit="USD", seconds=3600.0),
        no_improvement=core.NoImprovement(trials=5, gain=0.1, price=2.0),
        regret=core.Regret(gain=0.5, chance=0.1),
    ),
    procedure=core.ProcedureSpec(
        steps=(
            core.StepSpec(
                operation="mixing", name="mix", facility="lab", settings={"speed": 300},
                limits=core.Limits(seconds=60.0, memory=1024), cost=2.0, repeatable=False, approval="Hood closed?",
                facilities=("lab", "annex"), resources=_RESOURCES, inputs={"scan": _ASSET}, outputs=("*.h5",),
                after=("weigh",),
            ),
        ),
        name="cascade",
        options={"fidelity": ["coarse", "fine"]},
    ),
    observables=(core.Observable(name="haze", unit="percent", description="of the film"),),
    constraints=(
        core.Linear(terms={"temperature": 1.0, "cycles": 5.0}, relation="<=", bound=420.0),
        core.Mixture(parameters=("a", "b"), total=2.0, min_parts=2, max_parts=3),
        core.Exclude(combination={"solvent": ("DMF",), "cycles": (1, 2)}),
        _REGION,
    ),
    pool=core.Pool(columns=("temperature", "solvent"), rows=((350.0, "DMF"), (360.0, "DMSO"))),
    strategy=core.StrategySpec(name="sobol", options={"scramble": False}),
    parallel=2,
    batch=3,
    shared=("temperature",),
    fidelity=core.Fidelity(
        parameter="grade", target="fine", sources=(core.Source(value=2, cost=1.0), core.Source(value="fine", cost=9.0))
    ),
    ahead=1,
    seed=7,
    model="film",
    agreement="crada-17",
    retrain_after=12,
)  # fmt: skip

EXAMPLES: tuple[core.Fact, ...] = (
    core.CampaignOpened(spec=_SPEC),
    core.RunStarted(runner="anna@host pid 123", versions={"firstlight": "1.0"}, parallel=4),
    core.RunEnded(reason="interrupted"),
    core.TrialProposed(
        trial="c.1",
        point=_POINT,
        actions=(_ACTION,),
        source="bayes",
        predicted=(_SEEN,),
        reason="high variance",
        decision=_DECISION,
        asked=core.Asked(known=3, count=2, seed=7, place=1),
    ),
    core.TrialWithdrawn(trial="c.2", reason="goal met"),
    core.TrialAdded(trial="c.3", point=_POINT, outcome=_MEASURED, source="notebook of 2019"),
    core.DesignExhausted(reason="the pool is empty"),
    core.ActionPermitted(action="c.1.mix", policies=("owner", "hazard"), agreement="crada-17"),
    core.ActionRefused(action="c.1.mix", reasons=("not trained", "no budget")),
    core.ActionEscalated(action="c.1.mix", to="safety officer", question="Is the hood closed?"),
    core.ActionApproved(action="c.1.mix", note="seen by me"),
    core.ActionDispatched(action="c.1.mix"),
    core.ActionAccepted(action="c.1.mix", job="job-42"),
    core.ActionLost(action="c.1.mix", reason="the reply was lost", samples=(_SAMPLE,)),
    core.ActionSucceeded(action="c.1.mix", measured=_MEASURED),
    core.ActionFailed(action="c.1.mix", failure=_FAILURE),
    core.CancelRequested(action="c.1.mix", facility="annex"),
    core.TrialIngested(trial="c.1", digest="sha256:cd34"),
    core.DatasetPublished(dataset="c/1", digest="sha256:ef56", rows=20),
    core.ModelUpdated(model="film:3", trials=("c.1", "c.2"), training="train-film-1", reason="no better"),
    core.CampaignPaused(reason="lunch"),
    core.CampaignResumed(),
    core.CampaignStopped(reason="enough", cancel=True),
    core.TimeSpent(seconds=3600.5),
    core.CampaignClosed(reason="goal met"),
    core.EarlierChosen(campaigns=(core.EarlierCampaign(campaign="films-2019", entries=412),)),
    core.PointRequested(point=_POINT, note="worked in 2019"),
    core.RegionForbidden(region=_REGION, reason="it foams"),
    core.RegionAllowed(region=_REGION, reason="with the antifoam"),
    core.TrialCorrected(
        trial="c.1", as_run={"temperature": 349.5}, observations=(_SEEN,), note="the thermometer was off",
        standing=_STANDING,
    ),
    core.OutcomeRejected(trial="c.1", reason="a bubble in the cell", standing=_STANDING),
    core.OutcomeRestored(trial="c.1", reason="it was no bubble", standing=_STANDING),
    core.TrialRevised(trial="c.1", digest="sha256:ef01", revision=31),
    core.BudgetChanged(budget=core.Budget(trials=30, cost=150.0, cost_unit="USD", seconds=7200.0), reason="a grant"),
    core.ActionPlaced(
        action="c.1.mix", facility="annex", reason="free now", others={"lab": "an incident since 9:00"}
    ),
    core.ActionAttested(action="c.1.mix", measured=_MEASURED, note="the vial is full"),
    core.ModelsChosen(versions={"reactions@production": "reactions:3"}),
    core.TrainingBegun(training="train-film-1", trials=("c.1", "c.2")),
)  # fmt: skip
"""One fact of every class, with every field filled."""
