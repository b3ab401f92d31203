"""What can be said of a specification without asking anybody."""

import math
from typing import Any

import pytest
from msgspec.structs import replace

from firstlight import core
from firstlight.core import problems

X = core.Continuous(name="x", low=0.0, high=1.0)
Y = core.Continuous(name="y", low=0.0, high=2.0)
N = core.Integer(name="n", low=1, high=3)
S = core.Categorical(name="s", values=("a", "b"))
GOAL = core.Goal(objectives=(core.Objective(observable="z", direction="maximize"),), budget=core.Budget(trials=5))
STEP = core.StepSpec(operation="m:f")
SPEC = core.CampaignSpec(id="c", parameters=(X, Y, N, S), goal=GOAL, procedure=core.ProcedureSpec(steps=(STEP,)))


def objective(**changes: Any) -> core.CampaignSpec:
    return replace(SPEC, goal=replace(GOAL, objectives=(replace(GOAL.objectives[0], **changes),)))


def goal(**changes: Any) -> core.CampaignSpec:
    return replace(SPEC, goal=replace(GOAL, **changes))


def budget(**changes: Any) -> core.CampaignSpec:
    return goal(budget=core.Budget(**changes))


def parameter(*those: core.Parameter) -> core.CampaignSpec:
    return replace(SPEC, parameters=those)


def keeping(*those: core.Constraint) -> core.CampaignSpec:
    return replace(SPEC, constraints=those)


def step(**changes: Any) -> core.CampaignSpec:
    return replace(SPEC, procedure=core.ProcedureSpec(steps=(replace(STEP, **changes),)))


def pooled(*rows: tuple[core.Scalar, ...], columns: tuple[str, ...] = ("x", "y", "n", "s")) -> core.CampaignSpec:
    return replace(SPEC, pool=core.Pool(columns=columns, rows=rows))


SUM = core.Linear(terms={"x": 1, "n": 1}, relation="<=", bound=3.0)
MIX = core.Mixture(parameters=("x", "n"), total=3.0)


def sourced(
    parameter: str = "s", values: tuple[core.Scalar, ...] = ("a", "b"), target: core.Scalar = "", cost: float = 1.0,
    constraints: tuple[core.Constraint, ...] = (),
) -> core.CampaignSpec:  # fmt: skip
    """Sources of which the first costs `cost`; the last is the target."""
    sources = tuple(core.Source(value=v, cost=20.0 if i else cost) for i, v in enumerate(values))
    fidelity = core.Fidelity(parameter=parameter, target=target or values[-1], sources=sources)
    return replace(SPEC, fidelity=fidelity, constraints=constraints)


ROW = (0.5, 1.0, 2, "a")
TWO = (GOAL.objectives[0], core.Objective(observable="w", direction="minimize"))

WRONG: list[tuple[str, core.CampaignSpec, str]] = [
    ("id", replace(SPEC, id="A.b"), "not a campaign id"),
    ("id", replace(SPEC, id="a" * 64), "not a campaign id"),
    ("id", replace(SPEC, id="a\n"), "not a campaign id"),
    ("parameters", parameter(), "there are none"),
    ("parameters[1].name", parameter(X, X), "there twice"),
    ("parameters[0].name", parameter(replace(X, name="z")), "also an observable"),
    ("parameters[0].name", parameter(replace(X, name="")), "not a name"),
    ("parameters[0].name", parameter(replace(X, name=" x")), "not a name"),
    ("parameters[0].name", parameter(replace(X, name="as_run")), "meaning of its own"),
    ("parameters[0].high", parameter(replace(X, high=0.0)), "not above low"),
    ("parameters[0].high", parameter(replace(N, high=0)), "not above low"),
    ("parameters[0].low", parameter(replace(X, low=math.nan)), "not a finite"),
    ("parameters[0].high", parameter(replace(X, high=1e101)), "up to 1e+100"),
    ("parameters[0].high", parameter(replace(X, high=5e-324)), "too close"),
    ("parameters[0].descriptors", parameter(replace(S, values=("a",), descriptors={"a": {"p": 1e155}})), "1e+155"),
    ("parameters[0].high", parameter(replace(N, high=2**60)), "too large"),
    ("parameters[0].low", parameter(replace(X, scale="log")), "no logarithm"),
    ("parameters[0].values", parameter(core.Ordered(name="o", values=())), "there are none"),
    ("parameters[0].values", parameter(core.Ordered(name="o", values=(1, 1))), "do not ascend"),
    ("parameters[0].values", parameter(core.Ordered(name="o", values=(1, "b"))), "mixed"),
    ("parameters[0].values", parameter(core.Ordered(name="o", values=(1, math.inf))), "not a finite"),
    ("parameters[0].values", parameter(core.Ordered(name="o", values=("a", "a"))), "there twice"),
    ("parameters[0].values", parameter(replace(S, values=())), "there are none"),
    ("parameters[0].values", parameter(replace(S, values=("a", ""))), "is empty"),
    ("parameters[0].descriptors", parameter(replace(S, descriptors={"a": {"p": 1.0}})), "'b' has none"),
    (
        "parameters[0].descriptors",
        parameter(replace(S, values=("a",), descriptors={"a": {"p": 1.0}, "c": {"p": 1.0}})),
        "not one of the values",
    ),
    ("parameters[0].descriptors", parameter(replace(S, descriptors={"a": {"p": 1.0}, "b": {"q": 1.0}})), "others p"),
    ("parameters[0].descriptors", parameter(replace(S, values=("a",), descriptors={"a": {"p": math.nan}})), "nan"),
    ("constraints[0].terms", keeping(core.Linear(terms={}, relation="<=", bound=1)), "there are none"),
    ("constraints[0].terms", keeping(core.Linear(terms={"q": 1}, relation="<=", bound=1)), "not a parameter"),
    ("constraints[0].terms", keeping(core.Linear(terms={"s": 1}, relation="<=", bound=1)), "words"),
    ("constraints[0]", keeping(core.Linear(terms={"x": math.inf}, relation="<=", bound=1)), "not finite"),
    ("constraints[0].bound", keeping(core.Linear(terms={"x": -1, "y": 1}, relation=">=", bound=2.1)), "from -1 to 2"),
    ("constraints[0].bound", keeping(core.Linear(terms={"x": 1}, relation="==", bound=-0.1)), "from 0 to 1"),
    ("constraints[0].parameters", keeping(core.Mixture(parameters=("x",))), "two or more"),
    ("constraints[0].parameters", keeping(core.Mixture(parameters=("x", "x"))), "two or more"),
    ("constraints[0].parameters", keeping(core.Mixture(parameters=("x", "s"))), "words"),
    ("constraints[0].total", keeping(core.Mixture(parameters=("x", "y"), total=3.5)), "between 0 and 3"),
    ("constraints[0].total", keeping(core.Mixture(parameters=("n", "y"), total=0.5)), "between 1 and 5"),
    ("constraints[0].total", keeping(core.Mixture(parameters=("x", "y"), total=0.0)), "not an amount"),
    ("constraints[0].min_parts", keeping(core.Mixture(parameters=("x", "y"), min_parts=3)), "of 2 parts"),
    ("constraints[0].max_parts", keeping(core.Mixture(parameters=("x", "y"), min_parts=2, max_parts=1)), "too few"),
    ("constraints[0].max_parts", keeping(core.Mixture(parameters=("x", "y"), total=2.5, max_parts=1)), "never add up"),
    ("constraints[0].combination", keeping(core.Exclude(combination={})), "empty"),
    ("constraints[0].combination", keeping(core.Exclude(combination={"q": (1,)})), "not a parameter"),
    ("constraints[0].combination.s", keeping(core.Exclude(combination={"s": ("c",)})), "none of a, b"),
    ("constraints[0].combination.n", keeping(core.Exclude(combination={"n": (7,)})), "outside"),
    ("constraints[0].combination.n", keeping(core.Exclude(combination={"n": ()})), "no values"),
    (
        "constraints",
        replace(parameter(N, S), constraints=(core.Exclude(combination={"n": (1, 2, 3)}),)),
        "exclude everything",
    ),
    (
        "constraints",
        replace(pooled(ROW), constraints=(core.Linear(terms={"x": 1}, relation="<=", bound=0.4),)),
        "no row of the pool",
    ),
    ("pool.rows", pooled(), "empty"),
    ("pool.columns", pooled((0.5, 1.0, 2), columns=("x", "y", "n")), "missing"),
    ("pool.columns", pooled((*ROW, 1), columns=("x", "y", "n", "s", "q")), "not a parameter"),
    ("pool.rows[0]", pooled((0.5, 1.0)), "2 values for 4"),
    ("pool.rows[1]", pooled(ROW, (2.0, 1.0, 2, "a")), "outside"),
    ("pool.rows[0]", pooled((0.5, math.nan, 2, "a")), "not a number"),
    ("pool.rows[1]", pooled(ROW, ROW), "same as row 0"),
    ("goal.objectives", goal(objectives=()), "there are none"),
    ("goal.objectives[1].observable", goal(objectives=GOAL.objectives * 2), "there twice"),
    ("goal.objectives[0].observable", objective(observable="cost"), "meaning of its own"),
    ("goal.objectives[0].tolerance", objective(tolerance=-1.0), "below 0"),
    ("goal.objectives[0].target", objective(direction="match"), "nothing to match"),
    ("goal.objectives[0].target", objective(target=math.nan), "not a finite"),
    ("goal.objectives[0].threshold", objective(threshold=math.inf), "not a finite"),
    ("goal.objectives[0].threshold", objective(target=1.0, threshold=2.0), "beyond"),
    ("goal.objectives[0].threshold", objective(direction="minimize", target=2.0, threshold=1.0), "beyond"),
    ("observables[1].name", replace(SPEC, observables=(core.Observable(name="w"),) * 2), "there twice"),
    ("observables[0].unit", replace(SPEC, observables=(core.Observable(name="z", unit="kg"),)), "as an objective"),
    (
        "goal.outcome_constraints[0].observable",
        goal(outcome_constraints=(core.OutcomeConstraint(observable="w", relation="<=", bound=1.0),)),
        "not an observable",
    ),
    (
        "goal.outcome_constraints[0].unit",
        goal(outcome_constraints=(core.OutcomeConstraint(observable="z", relation="<=", bound=1.0, unit="kg"),)),
        "'kg'",
    ),
    (
        "goal.outcome_constraints[0].bound",
        goal(outcome_constraints=(core.OutcomeConstraint(observable="z", relation="<=", bound=math.inf),)),
        "not a finite",
    ),
    ("goal.budget.trials", budget(trials=0), "no budget"),
    ("goal.budget.cost", budget(cost=math.inf), "no budget"),
    ("goal.budget.seconds", budget(seconds=0.0), "no budget"),
    ("goal.budget", budget(), "never end"),
    ("goal.no_improvement.trials", goal(no_improvement=core.NoImprovement(trials=0)), "too few"),
    ("goal.no_improvement.gain", goal(no_improvement=core.NoImprovement(trials=1, gain=-1.0)), "no gain"),
    ("goal.no_improvement.price", goal(no_improvement=core.NoImprovement(trials=1, price=1.0)), "cost unit"),
    ("goal.regret.gain", goal(regret=core.Regret(gain=0.0)), "no gain"),
    ("goal.regret.gain", goal(regret=core.Regret(gain=math.inf)), "no gain"),
    ("goal.regret.chance", goal(regret=core.Regret(gain=1.0, chance=1.0)), "no chance"),
    ("goal.regret.chance", goal(regret=core.Regret(gain=1.0, chance=0.0)), "no chance"),
    ("goal.regret", goal(objectives=TWO, regret=core.Regret(gain=1.0)), "exactly one objective"),
    ("goal.budget", goal(budget=core.Budget(), regret=core.Regret(gain=1.0)), "never end"),
    ("procedure.steps", replace(SPEC, procedure=core.ProcedureSpec(steps=())), "there are none"),
    ("procedure.steps[1].name", replace(SPEC, procedure=core.ProcedureSpec(steps=(STEP, STEP))), "there twice"),
    ("procedure.steps[0].name", step(name="a.b"), "not a step name"),
    ("procedure.steps[0].operation", step(operation=""), "empty"),
    ("procedure.steps[0].resources.gpus", step(resources=core.Resources(gpus=-1)), "too few"),
    ("procedure.steps[0].resources.pre_launch", step(resources=core.Resources(pre_launch=("a\nb",))), "several lines"),
    ("procedure.steps[0].resources.attributes", step(resources=core.Resources(attributes={"a b": "c"})), "no option"),
    (
        "procedure.steps[0].inputs.2d",
        step(inputs={"2d": core.Asset(uri="a", digest="sha256:" + 64 * "0")}),
        "cannot name",
    ),
    (
        "procedure.steps[0].inputs.m",
        step(inputs={"m": core.Asset(uri="a", digest="sha256:" + 64 * "0")}, settings={"m": 1}),
        "same name",
    ),
    ("procedure.steps[0].outputs[0]", step(outputs=("/etc/*",)), "leads out"),
    ("procedure.steps[0].facilities", step(facility="lab", facilities=("lab", "local")), "to be performed at lab"),
    ("procedure.steps[0].facilities[1]", step(facility="", facilities=("lab", "lab")), "'lab' is there twice"),
    ("procedure.steps[0].facilities[0]", step(facility="", facilities=("",)), "empty"),
    ("procedure.steps[0].facilities[1]", step(facility="", facilities=("lab", "caller")), "cannot be chosen"),
    ("procedure.steps[0].cost", step(cost=-1.0), "no cost"),
    ("procedure.steps[0].limits.seconds", step(limits=core.Limits(seconds=0.0)), "no limit"),
    ("procedure.steps[0].limits.memory", step(limits=core.Limits(memory=-1)), "no limit"),
    ("procedure.steps[0].settings.a[1]", step(settings={"a": [1, math.nan]}), "cannot be recorded"),
    ("procedure.steps[0].settings.a", step(settings={"a": {1, 2}}), "cannot be recorded"),
    ("strategy.name", replace(SPEC, strategy=core.StrategySpec(name="")), "empty"),
    ("parallel", replace(SPEC, parallel=0), "too few"),
    ("batch", replace(SPEC, batch=0), "too few"),
    ("batch", replace(SPEC, batch=2), "never fit"),
    ("ahead", replace(SPEC, ahead=-1), "below 0"),
    ("shared", replace(SPEC, shared=("x",)), "share nothing"),
    ("shared[0]", replace(SPEC, parallel=2, batch=2, shared=("q",)), "not a parameter"),
    ("fidelity.parameter", sourced(parameter="x"), "no values"),
    ("fidelity.parameter", sourced(parameter="q"), "not a parameter"),
    ("fidelity.parameter", sourced(parameter="n", values=(1, 2, 3), constraints=(SUM,)), "part of a sum"),
    ("fidelity.parameter", sourced(parameter="n", values=(1, 2, 3), constraints=(MIX,)), "part of a sum"),
    ("fidelity.sources", sourced(values=("b",)), "a has no cost"),
    ("fidelity.sources[2].value", sourced(values=("a", "b", "a")), "there twice"),
    ("fidelity.sources[0].cost", sourced(cost=-1.0), "no cost"),
    ("fidelity.sources[0].cost", sourced(cost=math.nan), "no cost"),
    ("fidelity.target", sourced(target="c"), "none of a, b"),
    (
        "procedure.steps[0].cost",
        replace(sourced(), procedure=core.ProcedureSpec(steps=(replace(STEP, cost=1.0),))),
        "costs what its source does",
    ),
    (
        "goal.budget.cost",
        replace(sourced(), goal=replace(GOAL, budget=core.Budget(cost=19.0))),
        "does not buy one trial by the target, which costs 20",
    ),
    ("seed", replace(SPEC, seed=-1), "cannot be a seed"),
    ("", replace(SPEC, title="\ud800"), "cannot be recorded"),
]


@pytest.mark.parametrize(("field", "spec", "phrase"), WRONG, ids=[f"{i}-{w[0]}" for i, w in enumerate(WRONG)])
def test_exactly_what_is_wrong_is_named(field: str, spec: core.CampaignSpec, phrase: str) -> None:
    found = problems(spec)
    assert [p.field for p in found] == [field]
    assert phrase in found[0].message and found[0].remedy.endswith(".")


FINE = [
    SPEC,
    keeping(
        core.Linear(terms={"x": 1, "y": 1}, relation="<=", bound=3.0), core.Mixture(parameters=("x", "y"), total=3.0)
    ),
    keeping(core.Mixture(parameters=("x", "y"), total=1.0, max_parts=1)),
    keeping(core.Exclude(combination={"s": ("a",), "n": (1, 2), "x": (0.5,)})),
    pooled(ROW, (0.5, 1.0, 2, "b")),
    replace(pooled(ROW), goal=replace(GOAL, budget=core.Budget())),
    goal(budget=core.Budget(), no_improvement=core.NoImprovement(trials=3)),
    goal(regret=core.Regret(gain=0.5)),
    objective(target=1.0, threshold=0.0),
    objective(direction="match", target=1.0, tolerance=0.1),
    replace(objective(unit="kg"), observables=(core.Observable(name="z", unit="kg"), core.Observable(name="w"))),
    replace(SPEC, parallel=4, batch=4, ahead=0),
    step(settings={"a": [1, "b", None, True, {"c": 1.5}]}),
    sourced(),
    sourced(parameter="n", values=(3, 2, 1)),
    replace(
        sourced(constraints=(core.Exclude(combination={"s": ("a",), "n": (1,)}),)), parallel=2, batch=2, shared=("s",)
    ),
]


@pytest.mark.parametrize("spec", FINE, ids=range(len(FINE)))
def test_nothing_is_said_of_a_good_one(spec: core.CampaignSpec) -> None:
    assert problems(spec) == ()


def test_all_problems_are_named() -> None:
    spec = replace(SPEC, id="", parallel=0, parameters=(replace(X, low=2.0), X))
    assert [p.field for p in problems(spec)] == ["id", "parameters[0].high", "parameters[1].name", "parallel"]


def test_a_problem_reads_as_one_sentence_after_another() -> None:
    found = problems(parameter(replace(X, low=10.0, high=5.0)))[0]
    assert str(found) == "parameters[0].high: 5 is not above low 10. Give high a larger value than low."
