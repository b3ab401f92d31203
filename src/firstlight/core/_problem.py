"""The problem statement: what may be varied, what is observed, what is wanted and what it may cost."""

from typing import Literal

from msgspec import Struct

Scalar = float | int | str
Point = dict[str, Scalar]
"""A value for every parameter, by parameter name, in the parameter's own unit."""


class Value(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every noun: frozen, compared by content, unknown fields refused."""


# ------------------------------------------------------------------ parameters


class Continuous(Value, frozen=True, tag="continuous"):
    """A real number between `low` and `high`, both included. `scale` says how distance is felt."""

    name: str
    low: float
    high: float
    unit: str = ""
    scale: Literal["linear", "log"] = "linear"
    description: str = ""


class Integer(Value, frozen=True, tag="integer"):
    """A whole number between `low` and `high`, both included."""

    name: str
    low: int
    high: int
    unit: str = ""
    scale: Literal["linear", "log"] = "linear"
    description: str = ""


class Ordered(Value, frozen=True, tag="ordered"):
    """One of a few values in ascending order: all numbers (distance counts) or all words (rank counts)."""

    name: str
    values: tuple[Scalar, ...]
    unit: str = ""
    description: str = ""


class Categorical(Value, frozen=True, tag="categorical"):
    """One of a few names without order.

    `descriptors` may give every name the same numeric descriptors (`{"DMF": {"polarity": 6.4}, ...}`),
    so that a strategy can tell which names are alike.
    """

    name: str
    values: tuple[str, ...]
    descriptors: dict[str, dict[str, float]] = {}
    description: str = ""


Parameter = Continuous | Integer | Ordered | Categorical


class Pool(Value, frozen=True):
    """The only possible points, a row each; `columns` names the parameters in the order of a row's values."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Scalar, ...], ...]

    def points(self) -> tuple[Point, ...]:
        """The rows as points."""
        return tuple(dict(zip(self.columns, row, strict=True)) for row in self.rows)


# ------------------------------------------------------------------ constraints on points


class Linear(Value, frozen=True, tag="linear"):
    """sum(coefficient x parameter) <relation> bound, in the parameters' own units."""

    terms: dict[str, float]
    relation: Literal["<=", ">=", "=="]
    bound: float


class Mixture(Value, frozen=True, tag="mixture"):
    """Amounts that sum to `total`; between `min_parts` and `max_parts` of them are not zero."""

    parameters: tuple[str, ...]
    total: float = 1.0
    min_parts: int = 1
    max_parts: int | None = None


class Exclude(Value, frozen=True, tag="exclude"):
    """Never together: no point may have one of the listed values for every listed parameter at once."""

    combination: dict[str, tuple[Scalar, ...]]


class Forbid(Value, frozen=True, tag="forbid"):
    """A region where no point may lie: inside all ranges (both ends included, in the parameters' own units) and values.

    `ranges` are of parameters that are numbers, `values` of ordered and categorical ones.
    """

    ranges: dict[str, tuple[float, float]] = {}
    values: dict[str, tuple[Scalar, ...]] = {}


Constraint = Linear | Mixture | Exclude | Forbid


# ------------------------------------------------------------------ what is wanted


class Observable(Value, frozen=True):
    """A quantity that trials report besides the objectives."""

    name: str
    unit: str = ""
    description: str = ""


class Objective(Value, frozen=True):
    """An observable to maximise, to minimise, or to match to `target` within `tolerance`.

    For "maximize" and "minimize", `target` is the value at which the goal is met. `threshold` is the
    worst value worth having: it bounds the hypervolume where there are several objectives.
    """

    observable: str
    direction: Literal["maximize", "minimize", "match"]
    unit: str = ""
    target: float | None = None
    tolerance: float = 0.0
    threshold: float | None = None


class OutcomeConstraint(Value, frozen=True):
    """A bound on an observable that a trial must keep to count as good, known only once it is measured."""

    observable: str
    relation: Literal["<=", ">="]
    bound: float
    unit: str = ""


class Budget(Value, frozen=True):
    """What a campaign may spend: trials, cost (in `cost_unit`), and seconds of running. None is no limit."""

    trials: int | None = None
    cost: float | None = None
    cost_unit: str = ""
    seconds: float | None = None


class NoImprovement(Value, frozen=True):
    """Stop once `trials` trials in a row brought less than they must.

    They must improve the best value by more than `gain` (in the objective's unit). With `price`, what
    one unit of the objective is worth in the budget's cost unit, they must also have earned their cost.
    With several objectives any advance of the Pareto front counts.
    """

    trials: int
    gain: float = 0.0
    price: float | None = None


class Regret(Value, frozen=True):
    """Stop once the chance that more than `gain` (in the objective's unit) is still to be gained is at most `chance`.

    The strategy works the chance out (Wilson 2024, Stopping Bayesian optimization with probabilistic regret bounds).
    """

    gain: float
    chance: float = 0.05


class Goal(Value, frozen=True):
    """Objectives, bounds on outcomes, a budget, and when to stop before it is spent."""

    objectives: tuple[Objective, ...]
    outcome_constraints: tuple[OutcomeConstraint, ...] = ()
    budget: Budget = Budget()
    no_improvement: NoImprovement | None = None
    regret: Regret | None = None


# ------------------------------------------------------------------ how a point is tried


class Limits(Value, frozen=True):
    """What one action may take: seconds of running and bytes of memory. None is no limit."""

    seconds: float | None = None
    memory: int | None = None


class Resources(Value, frozen=True, omit_defaults=True):
    """What one action needs of a machine, in the words of the IRI Facility API's JobSpec; time and memory are `Limits`.

    `processes` are counted over all `nodes`, `cores` and `gpus` belong to each process. More processes than one are
    started together, as MPI has it. `pre_launch` and `post_launch` are lines of shell before and after. `attributes`
    are options of the scheduler by its own names. What is empty is the facility's to say.
    """

    nodes: int = 1
    processes: int = 1
    cores: int = 1
    gpus: int = 0
    exclusive: bool = False
    account: str = ""
    queue: str = ""
    reservation: str = ""
    container: str = ""
    pre_launch: tuple[str, ...] = ()
    post_launch: tuple[str, ...] = ()
    attributes: dict[str, str] = {}


class Asset(Value, frozen=True):
    """Bytes with a digest ("sha256:<hex>"). `uri` says where they came from, or what file they were."""

    uri: str
    digest: str
    media_type: str = "application/octet-stream"
    size: int = 0


CALLER = "caller"
"""The facility of whoever asks for points and tells what came of them. No other facility has its name."""


PREDICT = "firstlight.models.predict:predict"
"""The operation that asks a released model of a point. Its setting `model` says which, its inputs are the release."""


class StepSpec(Value, frozen=True):
    """One step of a procedure, from which an action is made for every trial.

    `operation` is what the facility calls it: for a computer "package.module:function" or
    "command"; `settings` are its fixed arguments, the same for all trials. `facility` is "" where the coordinator is
    to choose, among `facilities` if any are named. `inputs` are files by the name that the operation knows them by;
    `outputs` are patterns of the files that it leaves and that are to be kept.
    """

    operation: str
    name: str = "evaluate"
    facility: str = "local"
    facilities: tuple[str, ...] = ()
    resources: Resources = Resources()
    inputs: dict[str, Asset] = {}
    outputs: tuple[str, ...] = ()
    settings: dict[str, object] = {}
    limits: Limits = Limits()
    cost: float = 0.0
    repeatable: bool = True
    approval: str = ""
    """If not empty, a person must approve every such action; the text is the question put to them."""
    after: tuple[str, ...] | None = None
    """The steps that must have succeeded first; None for the one before, in procedures whose steps have an order."""


class ProcedureSpec(Value, frozen=True):
    """Which procedure turns a point into actions, and its steps."""

    steps: tuple[StepSpec, ...]
    name: str = "chain"
    options: dict[str, object] = {}


class StrategySpec(Value, frozen=True):
    """Which strategy chooses points, and its own options."""

    name: str = "bayes"
    options: dict[str, object] = {}


class Source(Value, frozen=True):
    """One way to learn of a point (a simulation, a model, the instrument), and what a trial by it costs."""

    value: Scalar
    cost: float


class Fidelity(Value, frozen=True):
    """Which parameter chooses the source of a trial, and what each source costs, in the budget's cost unit.

    Only trials by the source `target` count towards the goal; those by the others inform. Steps have no cost of their
    own then. Once the budget of cost does not buy a trial by the target any more, it is spent.
    """

    parameter: str
    target: Scalar
    sources: tuple[Source, ...]


class CampaignSpec(Value, frozen=True):
    """What was asked. Everything else in a campaign is what happened.

    At most `parallel` trials run at once. Points are designed `batch` at a time, and up to `ahead`
    trials are designed before a slot is free for them (None: a quarter of the slots, none for one slot).
    `shared` are the parameters that all points of a batch have in common (the temperature of a plate). `model` is a
    registered model, which is trained anew after every `retrain_after` new trials.
    """

    id: str
    parameters: tuple[Parameter, ...]
    goal: Goal
    procedure: ProcedureSpec
    title: str = ""
    description: str = ""
    observables: tuple[Observable, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    pool: Pool | None = None
    strategy: StrategySpec = StrategySpec()
    parallel: int = 1
    batch: int = 1
    shared: tuple[str, ...] = ()
    fidelity: Fidelity | None = None
    ahead: int | None = None
    seed: int = 0
    model: str = ""
    agreement: str = ""
    retrain_after: int = 20
