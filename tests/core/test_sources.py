"""Several sources of trials: which of them count, and what they cost."""

import pytest
from msgspec.structs import replace

from firstlight import core
from firstlight.testing.world import StepByStep, a_spec

BY = core.Categorical(name="by", values=("model", "instrument"))
FIDELITY = core.Fidelity(
    parameter="by", target="instrument",
    sources=(core.Source(value="model", cost=1.0), core.Source(value="instrument", cost=20.0)),
)  # fmt: skip


def a_spec_of_two(**goal: object) -> core.CampaignSpec:
    spec = a_spec()
    return replace(spec, parameters=(*spec.parameters, BY), fidelity=FIDELITY, goal=replace(spec.goal, **goal))


def told(spec: core.CampaignSpec, *trials: tuple[str, float | None]) -> tuple[core.Campaign, core.Ledger]:
    """The campaign after these trials, by source and value of y (None: it failed), one after the other."""
    entries = [core.Entry(seq=1, at=1.0, by="ada", fact=core.CampaignOpened(spec=spec))]
    for number, (by, y) in enumerate(trials, 1):
        trial, point = f"c1.{number}", core.Point(x=0.5, by=by)
        actions = core.priced(spec, point, StepByStep().actions(spec, trial, point))
        id = actions[0].id
        seen = core.Measured(observations=(core.Observation(observable="y", value=y or 0.0),))
        facts: list[core.Fact] = [
            core.TrialProposed(trial=trial, point=point, actions=actions),
            core.ActionPermitted(action=id, policies=("p",)), core.ActionDispatched(action=id),
            core.ActionAccepted(action=id, job="j"),
            core.ActionFailed(action=id, failure=core.Failure(cause="crashed")) if y is None
            else core.ActionSucceeded(action=id, measured=seen),
        ]  # fmt: skip
        entries += [core.Entry(seq=len(entries) + i, at=1.0, by="ada", fact=f) for i, f in enumerate(facts, 1)]
    return core.replay(entries), core.Ledger(entries)


def test_only_trials_by_the_target_advance_the_front_and_meet_the_goal() -> None:
    spec = a_spec_of_two()
    campaign, ledger = told(spec, ("model", 0.99), ("instrument", 0.4), ("model", 0.98))
    assert (campaign.front, campaign.met_by, campaign.succeeded) == (((-0.4,),), "", 3)
    assert [r.trial for r in ledger.view().best(spec)] == ["c1.2"]
    assert [core.losses_of(spec, r) for r in ledger.view().rows] == [None, (-0.4,), None]
    campaign, _ = told(spec, ("model", 0.99), ("instrument", 0.96))
    assert campaign.met_by == "c1.2"


def test_it_is_the_source_as_run_that_counts() -> None:
    row = core.Row(
        trial="t", point={"x": 0.5, "by": "instrument"}, observations=(core.Observation(observable="y", value=1),)
    )
    spec = a_spec_of_two()
    assert core.losses_of(spec, row) == (-1.0,)
    assert core.losses_of(spec, replace(row, as_run={"by": "model"})) is None
    told_of: list[tuple[core.Point, tuple[tuple[float, ...], ...]]] = [({}, ((-1.0,),)), ({"by": "model"}, ())]
    for as_run, front in told_of:
        seen = core.Measured(observations=row.observations, as_run=as_run)
        campaign, _ = told(spec)
        assert tell(campaign, core.TrialAdded(trial="c1.1", point=row.point, outcome=seen)).front == front


def test_cheap_trials_are_no_lack_of_improvement_but_their_cost_is_paid() -> None:
    aim = (core.Objective(observable="y", direction="maximize"),)
    rule = core.NoImprovement(trials=2)
    spec = a_spec_of_two(objectives=aim, no_improvement=rule)
    many = [("model", 0.9)] * 5 + [("model", None)]
    campaign, _ = told(spec, ("instrument", 0.4), *many, ("instrument", 0.3))
    assert (campaign.ending, campaign.stale, campaign.failed) == ("", 1, 1)
    campaign, _ = told(spec, ("instrument", 0.4), *many, ("instrument", 0.3), ("instrument", None))
    assert campaign.ending == "no further improvement"
    assert campaign.recent[-1] == (-0.4, 3 * 20.0 + 6 * 1.0)


def test_a_trial_costs_what_its_source_does_and_what_is_under_way_is_committed() -> None:
    spec = a_spec_of_two(budget=core.Budget(cost=42.0))
    campaign, ledger = told(spec, ("model", 0.1), ("instrument", 0.2))
    assert (campaign.cost, campaign.committed, campaign.ending) == (21.0, 0.0, "")
    assert [r.cost for r in ledger.view().rows] == [1.0, 20.0]
    campaign, _ = told(spec, ("model", 0.1), ("instrument", 0.2), ("model", None), ("instrument", 0.2))
    assert (campaign.cost, campaign.ending) == (42.0, "cost spent")


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_actions_of_a_trial_make_up_the_cost_of_its_source(steps: int) -> None:
    made = tuple(core.StepSpec(name=f"s{i}", operation="look") for i in range(steps))
    spec = replace(a_spec_of_two(), procedure=core.ProcedureSpec(steps=made))
    point: core.Point = {"x": 0.5, "by": "instrument"}
    actions = core.priced(spec, point, StepByStep().actions(spec, "c1.1", point))
    assert [a.cost for a in actions] == [20.0 / steps] * steps


def test_no_trial_is_designed_that_would_leave_nothing_for_the_target() -> None:
    """Three slots, 65 to spend: with two trials by the target under way there is room for one more of them, not two."""
    spec = a_spec_of_two(budget=core.Budget(cost=65.0))
    assert core.open_campaign(core.Entry(seq=1, at=1.0, by="ada", fact=core.CampaignOpened(spec=spec))).affordable == 3
    campaign, _ = told(spec, ("instrument", 0.1), ("model", 0.1))
    assert (campaign.affordable, campaign.designable) == (2, 2)
    trial, point = "c1.3", core.Point(x=0.5, by="instrument")
    actions = core.priced(spec, point, StepByStep().actions(spec, trial, point))
    campaign = tell(campaign, core.TrialProposed(trial=trial, point=point, actions=actions))
    assert (campaign.affordable, campaign.ending) == (1, "")
    campaign = tell(campaign, core.ActionRefused(action=actions[0].id, reasons=("no",)))
    assert campaign.affordable == 2
    assert replace(campaign, spec=replace(spec, goal=replace(spec.goal, budget=core.Budget()))).affordable is None


def test_what_will_not_run_any_more_is_not_reserved() -> None:
    steps = tuple(core.StepSpec(name=name, operation="look") for name in ("weigh", "look"))
    spec = replace(a_spec_of_two(budget=core.Budget(cost=29.0)), procedure=core.ProcedureSpec(steps=steps))
    point: core.Point = {"x": 0.5, "by": "instrument"}
    actions = core.priced(spec, point, StepByStep().actions(spec, "c1.1", point))
    campaign = tell(told(spec)[0], core.TrialProposed(trial="c1.1", point=point, actions=actions))
    assert campaign.affordable == 0
    campaign = tell(campaign, core.ActionRefused(action=actions[0].id, reasons=("no",)))
    assert [a.status for a in campaign.open["c1.1"].actions.values()] == ["refused", "proposed"]
    assert campaign.affordable == 1


def tell(campaign: core.Campaign, fact: core.Fact) -> core.Campaign:
    return core.reduce(campaign, core.Entry(seq=campaign.seq + 1, at=1.0, by="ada", fact=fact))


def test_the_budget_is_spent_once_it_buys_no_trial_by_the_target() -> None:
    spec = a_spec_of_two(budget=core.Budget(cost=41.0))
    campaign, _ = told(spec, ("instrument", 0.1), ("model", 0.1))
    assert (campaign.cost, campaign.ending) == (21.0, "")
    campaign, _ = told(spec, ("instrument", 0.1), ("model", 0.1), ("model", 0.1))
    assert (campaign.cost, campaign.ending, campaign.designable) == (22.0, "cost spent", 0)


def test_without_sources_nothing_changes() -> None:
    spec = a_spec()
    actions = tuple(StepByStep().actions(spec, "c1.1", {"x": 0.5}))
    assert core.priced(spec, {"x": 0.5}, actions) == actions
    assert core.counts(spec, {"x": 0.5})
