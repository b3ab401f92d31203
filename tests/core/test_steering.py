"""What people say to a campaign under way: checked at once, small in the fold, and held against the rows."""

import pytest
from msgspec.structs import replace

from firstlight import core
from firstlight.testing.world import StepByStep, Story, a_spec

LOW = core.Forbid(ranges={"x": (0.0, 0.3)})


def goal(**changes: object) -> core.CampaignSpec:
    spec = a_spec()
    return replace(spec, goal=replace(spec.goal, **changes))


def steps(campaign: core.Campaign, kind: type) -> list[core.Step]:
    return [s for s in core.next_steps(campaign) if isinstance(s, kind)]


def seen(y: float) -> tuple[core.Observation, ...]:
    return (core.Observation(observable="y", value=y),)


# ------------------------------------------------------------------ points


def test_a_requested_point_is_owed_a_trial_and_a_place_of_the_budget() -> None:
    story = Story(goal(budget=core.Budget(trials=3)))
    story.tell(core.PointRequested(point={"x": 0.7}, note="try this"))
    assert story.campaign.designable == 2
    (step,) = steps(story.campaign, core.Grant)
    assert isinstance(step, core.Grant)
    assert (step.request.point, step.request.by, step.request.note) == ({"x": 0.7}, "ada", "try this")
    assert story.ledger.view().pending["request 2"].point == {"x": 0.7}
    story.propose(0.7)
    assert not steps(story.campaign, core.Grant)
    assert list(story.ledger.view().pending) == ["c1.1"]


def test_a_point_requested_twice_is_tried_twice() -> None:
    story = Story(a_spec())
    story.tell(core.PointRequested(point={"x": 0.7}), core.PointRequested(point={"x": 0.7}))
    story.propose(0.7)
    assert [r.seq for r in story.campaign.requested] == [3]


def test_requests_wait_for_a_place() -> None:
    story = Story(a_spec(parallel=1))
    story.begin()
    story.tell(core.PointRequested(point={"x": 0.7}))
    assert not steps(story.campaign, core.Grant)
    assert not steps(story.campaign, core.Design)


def test_a_request_keeps_an_exhausted_campaign_open() -> None:
    story = Story(a_spec())
    story.tell(core.PointRequested(point={"x": 0.7}), core.DesignExhausted(reason="no more"))
    assert steps(story.campaign, core.Grant)
    assert not steps(story.campaign, core.Close)
    story.propose(0.7)
    story.tell(core.TrialWithdrawn(trial="c1.1", reason="."))
    assert steps(story.campaign, core.Close)


@pytest.mark.parametrize(
    ("before", "point", "said"),
    [
        ((), {"x": 7.0}, "the point cannot be tried: x is 7.0, outside 0.0 to 1.0"),
        ((), {}, "x is missing"),
        ((core.RegionForbidden(region=LOW),), {"x": 0.2}, r"in a forbidden region \(x 0 to 0.3\)"),
        ((core.CampaignStopped(reason="enough"),), {"x": 0.5}, r"is ending \(enough\)"),
        ((core.PointRequested(point={"x": 0.5}),) * 12, {"x": 0.5}, "budget of 12 trials leaves none"),
    ],
)
def test_a_point_that_cannot_be_tried_is_refused_at_once(
    before: tuple[core.Fact, ...], point: core.Point, said: str
) -> None:
    story = Story(a_spec())
    story.tell(*before)
    with pytest.raises(core.InconsistentError, match=said):
        story.tell(core.PointRequested(point=point))


# ------------------------------------------------------------------ regions


def test_a_forbidden_region_is_a_constraint_until_it_is_allowed_again() -> None:
    story = Story(a_spec())
    asked = story.campaign.spec
    assert story.tell(core.CampaignPaused(), core.CampaignResumed()).spec is asked
    held = story.tell(core.RegionForbidden(region=LOW)).spec
    assert held.constraints == (LOW,)
    assert core.violations(held, {"x": 0.3})
    assert not core.violations(held, {"x": 0.31})
    assert story.tell(core.CampaignPaused()).spec is held, "strategies know a specification by its identity"
    assert story.tell(core.RegionAllowed(region=LOW)).spec == asked


def test_what_is_queued_or_requested_in_a_forbidden_region_is_not_tried() -> None:
    story = Story(a_spec())
    begun, queued = story.begin(0.1), story.propose(0.2)
    story.tell(core.ActionPermitted(action=queued, policies=()), core.PointRequested(point={"x": 0.25}))
    before = story.campaign
    permit = core.Execute(subject=queued, permit=next(a for _, a in before.ready("permitted")).permit)
    assert core.still_due(before, permit)
    story.tell(core.RegionForbidden(region=LOW))
    assert not core.still_due(story.campaign, permit)
    assert not steps(story.campaign, core.Execute)
    assert not story.campaign.requested
    assert list(story.ledger.view().pending) == ["c1.1", "c1.2"]
    (step,) = steps(story.campaign, core.Withdraw)
    assert step.subject == "withdraw c1.2"
    assert [a.action.id for a in story.campaign.actions("accepted")] == [begun], "what runs goes on"


def test_no_trial_is_proposed_in_a_forbidden_region() -> None:
    story = Story(a_spec())
    story.tell(core.RegionForbidden(region=LOW))
    with pytest.raises(core.InconsistentError, match=r"c1\.1 cannot follow: the point is in a forbidden region"):
        story.propose(0.2)


def test_a_region_allowed_again_may_have_points_left() -> None:
    story = Story(a_spec())
    story.tell(core.RegionForbidden(region=LOW), core.DesignExhausted(reason="no more"))
    assert steps(story.campaign, core.Close)
    story.tell(core.RegionAllowed(region=LOW))
    assert steps(story.campaign, core.Design)


@pytest.mark.parametrize(
    ("fact", "said"),
    [
        (core.RegionForbidden(region=LOW), r"\(x 0 to 0.3\) is forbidden already"),
        (core.RegionForbidden(region=core.Forbid()), "it is empty"),
        (core.RegionForbidden(region=core.Forbid(ranges={"z": (0.0, 1.0)})), "'z' is not a parameter"),
        (core.RegionForbidden(region=core.Forbid(ranges={"x": (0.5, 0.4)})), "0.5 to 0.4 is no range"),
        (core.RegionForbidden(region=core.Forbid(ranges={"x": (2.0, 3.0)})), "lies outside 0 to 1"),
        (core.RegionForbidden(region=core.Forbid(values={"x": (0.5,)})), "Give a range"),
        (core.RegionAllowed(region=core.Forbid(ranges={"x": (0.0, 0.4)})), "nobody forbade .*: x 0 to 0.3"),
    ],
)
def test_a_region_that_says_nothing_is_refused(fact: core.Fact, said: str) -> None:
    story = Story(a_spec())
    story.tell(core.RegionForbidden(region=LOW))
    with pytest.raises(core.InconsistentError, match=said):
        story.tell(fact)


# ------------------------------------------------------------------ trials that have ended


def test_a_rejected_outcome_no_longer_counts_and_can_be_restored() -> None:
    story = Story(a_spec())
    story.succeed(0.5)
    assert story.succeed(0.99).ending == "goal met"
    view = story.ledger.view()
    story.tell(core.OutcomeRejected(trial="c1.2", reason="the lamp was off"))
    assert (story.campaign.ending, story.campaign.front, story.campaign.met_by) == ("", ((-0.5,),), "")
    after = story.ledger.view()
    assert [r.trial for r in after.rows] == ["c1.1"]
    assert [(r.trial, r.rejected) for r in after.rejected] == [("c1.2", "the lamp was off")]
    assert [r.trial for r in after.ended] == ["c1.1", "c1.2"]
    assert [r.trial for r in view.rows] == ["c1.1", "c1.2"], "an earlier view does not change"
    assert story.ledger.ended == 2
    story.succeed(0.6)
    story.tell(core.OutcomeRestored(trial="c1.2"))
    assert story.campaign.ending == "goal met"
    assert [r.trial for r in story.ledger.view().rows] == ["c1.1", "c1.2", "c1.3"], "it has its place again"


def test_a_corrected_trial_is_judged_anew() -> None:
    story = Story(a_spec())
    story.succeed(0.5)
    story.tell(core.TrialCorrected(trial="c1.1", as_run={"x": 0.52}, observations=seen(0.97)))
    assert story.campaign.met_by == "c1.1"
    (row,) = story.ledger.view().rows
    assert (row.point, row.ran, row.seen["y"].value) == ({"x": 0.5}, {"x": 0.52}, 0.97)
    assert len(row.observations) == 1, "the value that was wrong is gone"


def test_the_row_of_an_amended_trial_is_replaced_in_the_dataset() -> None:
    story = Story(a_spec())
    story.succeed(0.5)
    story.tell(core.TrialIngested(trial="c1.1", digest="d"))
    assert not steps(story.campaign, core.Ingest)
    story.tell(core.TrialCorrected(trial="c1.1", as_run={"x": 0.6}))
    first = story.ledger.row("c1.1").revision
    story.tell(core.OutcomeRejected(trial="c1.1", reason="."))
    assert len(steps(story.campaign, core.Ingest)) == 1
    story.tell(core.TrialRevised(trial="c1.1", digest="e", revision=first))
    assert steps(story.campaign, core.Ingest), "it was amended again meanwhile"
    story.tell(core.TrialRevised(trial="c1.1", digest="f", revision=story.ledger.row("c1.1").revision))
    assert not steps(story.campaign, core.Ingest)
    with pytest.raises(core.InconsistentError, match="was not amended"):
        story.tell(core.TrialRevised(trial="c1.1", digest="f", revision=99))


def test_the_rule_of_no_improvement_counts_anew_once_the_best_is_another() -> None:
    story = Story(goal(no_improvement=core.NoImprovement(trials=2), budget=core.Budget(trials=50)))
    for y in (0.1, 0.9, 0.2, 0.3):
        story.succeed(y)
    assert story.campaign.ending == "no further improvement"
    assert story.tell(core.TrialCorrected(trial="c1.1", as_run={"x": 0.4})).ending, "the best is the same"
    assert story.tell(core.OutcomeRejected(trial="c1.2", reason="a bubble")).ending == ""
    story.succeed(0.25)
    assert story.succeed(0.25).ending == "no further improvement"


@pytest.mark.parametrize(
    ("fact", "said"),
    [
        (core.OutcomeRejected(trial="c1.9", reason="."), r"no trial c1\.9 that has ended"),
        (core.OutcomeRejected(trial="c1.3", reason="."), r"no trial c1\.3 that has ended"),
        (core.OutcomeRestored(trial="c1.1"), "is not marked as bad"),
        (core.TrialCorrected(trial="c1.1"), "nothing is corrected"),
        (core.TrialCorrected(trial="c1.1", as_run={"z": 1.0}), "z is not a parameter; the parameters are x"),
        (core.TrialCorrected(trial="c1.1", as_run={"x": "hot"}), "x is 'hot', not a number"),
        (core.TrialCorrected(trial="c1.2", observations=seen(0.5)), r"c1\.2 failed \(crashed\)"),
        (
            core.TrialCorrected(trial="c1.1", observations=(core.Observation(observable="z", value=0.0),)),
            "z is not an observable; the observables are y",
        ),
        (
            core.TrialCorrected(trial="c1.1", observations=(core.Observation(observable="y", value=0.0, unit="g"),)),
            "y is observed in plain numbers, not in g",
        ),
    ],
)
def test_an_amendment_that_cannot_be_is_refused_and_changes_nothing(fact: core.Fact, said: str) -> None:
    story = Story(a_spec())
    story.succeed(0.5)
    story.tell(core.ActionFailed(action=story.begin(), failure=core.Failure(cause="crashed")))
    story.begin()
    before, rows = story.campaign, list(story.ledger.view().rows)
    with pytest.raises(core.InconsistentError, match=said):
        story.tell(fact)
    assert story.campaign == before
    assert list(story.ledger.view().rows) == rows


def test_rejecting_twice_is_refused() -> None:
    story = Story(a_spec())
    story.succeed(0.5)
    story.tell(core.OutcomeRejected(trial="c1.1", reason="a bubble"))
    with pytest.raises(core.InconsistentError, match=r"marked as bad already \(a bubble\)"):
        story.tell(core.OutcomeRejected(trial="c1.1", reason="."))


def test_a_standing_that_the_rows_deny_is_refused() -> None:
    story = Story(a_spec())
    story.succeed(0.5)
    story.succeed(0.8)
    fact = core.OutcomeRejected(trial="c1.2", reason=".")
    with pytest.raises(core.InconsistentError, match="does not say where the trials stand"):
        core.reduce(story.campaign, core.Entry(seq=story.campaign.seq + 1, at=0.0, by="ada", fact=fact))
    wrong = replace(fact, standing=core.Standing(front=((-0.9,),)))
    with pytest.raises(core.InconsistentError, match="and its rows"):
        story.ledger.add(core.Entry(seq=story.campaign.seq + 1, at=0.0, by="ada", fact=wrong))
    assert len(story.ledger.view().rows) == 2


def test_after_an_amendment_both_folds_stand_where_they_would_have_stood_without_the_slip() -> None:
    story, other = Story(a_spec()), Story(a_spec())
    for y in (0.2, 0.9, 0.6, 0.7):
        story.succeed(y)
    for y in (0.2, 0.6, 0.75):
        other.succeed(y)
    story.tell(
        core.OutcomeRejected(trial="c1.2", reason="."), core.TrialCorrected(trial="c1.4", observations=seen(0.75))
    )
    assert (story.campaign.front, story.campaign.met_by) == (other.campaign.front, other.campaign.met_by)
    assert core.replay(story.entries) == story.campaign


# ------------------------------------------------------------------ the budget


def test_a_spent_budget_can_be_raised_until_the_campaign_is_closed() -> None:
    story = Story(goal(budget=core.Budget(trials=1)))
    story.succeed(0.5)
    story.tell(core.TrialIngested(trial="c1.1", digest="d"), core.DatasetPublished(dataset="d", digest="d", rows=1))
    assert steps(story.campaign, core.Close)
    story.tell(core.BudgetChanged(budget=core.Budget(trials=3)))
    assert not steps(story.campaign, core.Close)
    assert story.campaign.designable == 2
    story.tell(core.BudgetChanged(budget=core.Budget(trials=1)), core.CampaignClosed(reason="trials spent"))
    with pytest.raises(core.InconsistentError, match=r"is closed \(trials spent\): no BudgetChanged can follow"):
        story.tell(core.BudgetChanged(budget=core.Budget(trials=3)))


def test_time_that_was_spent_may_be_given_again() -> None:
    story = Story(goal(budget=core.Budget(seconds=2.0)))
    story.tell(
        core.RunStarted(runner="ada"), core.CampaignPaused(), core.CampaignResumed(), core.TimeSpent(seconds=2.0)
    )
    assert story.campaign.ending == "time spent"
    assert story.tell(core.BudgetChanged(budget=core.Budget(seconds=2.5))).ending == "time spent", "that is spent too"
    (old,) = [core.WatchClock(subject="clock", until=1004.0)]
    assert story.tell(core.BudgetChanged(budget=core.Budget(seconds=60.0))).ending == ""
    (clock,) = steps(story.campaign, core.WatchClock)
    assert core.still_due(story.campaign, clock)
    assert not core.still_due(story.campaign, old), "the old clock rings for nothing"


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (core.Budget(trials=0, cost_unit="USD"), "0 trials are no budget"),
        (core.Budget(cost=-1.0, cost_unit="USD"), "-1 is no budget"),
        (core.Budget(trials=5, cost_unit="EUR"), "counted in USD, not in EUR"),
        (core.Budget(trials=12, cost_unit="USD"), "this is the budget already"),
        (core.Budget(cost_unit="USD"), "would never end"),
    ],
)
def test_a_budget_that_is_none_is_refused(budget: core.Budget, said: str) -> None:
    objectives = (core.Objective(observable="y", direction="maximize"),)
    story = Story(goal(budget=core.Budget(trials=12, cost_unit="USD"), objectives=objectives))
    with pytest.raises(core.InconsistentError, match=said):
        story.tell(core.BudgetChanged(budget=budget))


def test_a_lower_budget_keeps_what_was_spent() -> None:
    story = Story(a_spec())
    for _ in range(3):
        story.begin()
    assert story.tell(core.BudgetChanged(budget=core.Budget(trials=2))).trials_left == 0
    actions = tuple(StepByStep().actions(a_spec(), "c1.4", {"x": 0.1}))
    with pytest.raises(core.InconsistentError, match="exceeds the budget of 2 trials"):
        story.tell(core.TrialProposed(trial="c1.4", point={"x": 0.1}, actions=actions))
