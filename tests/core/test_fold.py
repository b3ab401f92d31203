"""The fold is strict, the campaign stays small, and both folds agree."""

import asyncio
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from firstlight import core, engine
from firstlight.testing.world import PaperJournal, Room, StepByStep, Story, a_spec, a_world, peak


def goal(**changes: object) -> core.CampaignSpec:
    spec = a_spec()
    return replace(spec, goal=replace(spec.goal, **changes))


def test_trial_ids_cannot_repeat() -> None:
    story = Story(a_spec())
    story.propose()
    actions = tuple(StepByStep().actions(a_spec(), "c1.1", {"x": 0.1}))
    with pytest.raises(core.InconsistentError, match=r"the next trial is c1\.2"):
        story.tell(core.TrialProposed(trial="c1.1", point={"x": 0.1}, actions=actions))


def test_the_budget_of_trials_holds_whatever_a_stage_says() -> None:
    story = Story(goal(budget=core.Budget(trials=1)))
    story.propose()
    with pytest.raises(core.InconsistentError, match="exceeds the budget of 1 trials"):
        story.propose()


def test_a_gap_in_the_sequence_is_refused() -> None:
    story = Story(a_spec())
    with pytest.raises(core.InconsistentError, match="entry 3 cannot follow entry 1"):
        core.reduce(story.campaign, core.Entry(seq=3, at=0.0, by="ada", fact=core.CampaignPaused()))


def test_nothing_follows_a_close_but_the_runner_leaving() -> None:
    story = Story(a_spec())
    story.tell(core.RunStarted(runner="ada"), core.CampaignClosed(reason="done"), core.RunEnded())
    with pytest.raises(core.InconsistentError, match=r"is closed \(done\): no CampaignPaused"):
        story.tell(core.CampaignPaused())


FOLLOWS = {
    "proposed": {"ActionPermitted", "ActionRefused", "ActionEscalated", "ActionFailed"},
    "permitted": {"ActionDispatched", "ActionFailed"},
    "escalated": {"ActionApproved", "ActionRefused", "ActionFailed"},
    "dispatched": {"ActionAccepted", "ActionLost", "ActionFailed"},
    "accepted": {"ActionSucceeded", "ActionFailed", "CancelRequested", "ActionLost"},
    "lost": {"ActionApproved", "ActionAttested", "ActionRefused", "ActionFailed"},
}


@pytest.mark.parametrize("status", FOLLOWS)
def test_only_what_can_follow_a_status_is_accepted(status: str) -> None:
    facts: dict[str, core.Fact] = {
        "ActionPermitted": core.ActionPermitted(action="c1.1.evaluate", policies=()),
        "ActionRefused": core.ActionRefused(action="c1.1.evaluate", reasons=("no",)),
        "ActionEscalated": core.ActionEscalated(action="c1.1.evaluate", to="ada", question="?"),
        "ActionApproved": core.ActionApproved(action="c1.1.evaluate"),
        "ActionAttested": core.ActionAttested(action="c1.1.evaluate"),
        "ActionDispatched": core.ActionDispatched(action="c1.1.evaluate"),
        "ActionAccepted": core.ActionAccepted(action="c1.1.evaluate", job="j"),
        "ActionLost": core.ActionLost(action="c1.1.evaluate"),
        "ActionSucceeded": core.ActionSucceeded(action="c1.1.evaluate", measured=core.Measured()),
        "ActionFailed": core.ActionFailed(action="c1.1.evaluate", failure=core.Failure(cause="crashed")),
        "CancelRequested": core.CancelRequested(action="c1.1.evaluate"),
    }
    way = {
        "proposed": [],
        "permitted": ["ActionPermitted"],
        "escalated": ["ActionEscalated"],
        "dispatched": ["ActionPermitted", "ActionDispatched"],
        "accepted": ["ActionPermitted", "ActionDispatched", "ActionAccepted"],
        "lost": ["ActionPermitted", "ActionDispatched", "ActionLost"],
    }[status]
    followed = set()
    for name, fact in facts.items():
        story = Story(a_spec())
        story.propose()
        story.tell(*(facts[w] for w in way))
        try:
            story.tell(fact)
        except core.InconsistentError:
            continue
        followed.add(name)
    assert followed == FOLLOWS[status]


@settings(max_examples=400, deadline=None)
@given(words=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), max_size=30))
def test_a_trial_is_over_for_both_folds_at_once_whatever_comes_of_its_actions(words: list[tuple[int, int]]) -> None:
    """Three actions side by side, and any fact that can follow: the loop keeps a row once the campaign says so."""
    story = Story(a_spec())
    first = StepByStep().actions(a_spec(), "c1.1", {"x": 0.5})[0]
    ids = [f"c1.1.part-{i}" for i in range(3)]
    actions = tuple(replace(first, id=id, name=id.rpartition(".")[2], after=()) for id in ids)
    story.tell(core.TrialProposed(trial="c1.1", point={"x": 0.5}, actions=actions))
    for which, word in words:
        id = ids[which]
        facts: list[core.Fact] = [
            core.ActionPermitted(action=id, policies=()), core.ActionRefused(action=id, reasons=("no",)),
            core.ActionEscalated(action=id, to="ada", question="?"), core.ActionApproved(action=id),
            core.ActionAttested(action=id), core.ActionDispatched(action=id), core.ActionAccepted(action=id, job="j"),
            core.ActionLost(action=id), core.ActionSucceeded(action=id, measured=core.Measured()),
            core.ActionFailed(action=id, failure=core.Failure(cause="crashed")),
        ]  # fmt: skip
        possible, over = [], story.ledger.ended == 1
        for fact in facts:
            if over and not isinstance(fact, core.ActionApproved | core.ActionRefused):
                continue  # That is what people may still say before its row is kept.
            entry = core.Entry(seq=story.campaign.seq + 1, at=0.0, by="ada", fact=fact)
            with contextlib.suppress(core.InconsistentError):
                core.reduce(story.campaign, entry)
                possible.append(fact)
        if not possible:
            continue
        story.tell(possible[word % len(possible)])
        over = "c1.1" not in story.campaign.open or story.campaign.open["c1.1"].settled
        assert (story.ledger.ended == 1) == over, words
        assert ("c1.1" in story.ledger.view().pending) != over
        if over:
            assert story.ledger.row("c1.1").trial == "c1.1"


def test_the_goal_is_met_by_one_good_trial() -> None:
    story = Story(goal(outcome_constraints=(core.OutcomeConstraint(observable="y", relation="<=", bound=0.99),)))
    assert story.succeed(0.995).met_by == "", "it breaks the outcome constraint"
    assert story.succeed(0.94).ending == ""
    assert story.succeed(0.96).ending == "goal met"


def test_what_is_queued_is_withdrawn_when_the_goal_is_met_and_costs_nothing() -> None:
    story = Story(a_spec())
    queued = story.propose().rpartition(".")[0]
    story.succeed(0.99)
    steps = list(core.next_steps(story.campaign))
    assert core.Withdraw(subject=f"withdraw {queued}", trial=queued, reason="goal met") in steps
    story.tell(core.TrialWithdrawn(trial=queued, reason="goal met"))
    assert story.campaign.counted == 1
    assert queued not in story.ledger.view().pending


def test_no_further_improvement_stops_it() -> None:
    rule = core.NoImprovement(trials=3, gain=0.05)
    story = Story(goal(no_improvement=rule, budget=core.Budget(trials=50)))
    for y in (0.1, 0.5, 0.8, 0.81, 0.82):
        assert story.succeed(y).ending == ""
    assert story.succeed(0.83).ending == "no further improvement"


def test_improvement_must_be_worth_its_price() -> None:
    rule = core.NoImprovement(trials=2, price=100.0)
    story = Story(goal(no_improvement=rule, budget=core.Budget(cost=1000.0)))
    story.succeed(0.1, cost=5.0)
    story.succeed(0.2, cost=5.0)
    assert story.succeed(0.3, cost=5.0).ending == "", "0.2 more is worth 20, and cost 10"
    story.succeed(0.31, cost=5.0)
    assert story.succeed(0.32, cost=5.0).ending == "no further improvement", "0.02 more is worth 2, and cost 10"


def test_it_ends_once_little_is_left_to_gain() -> None:
    story = Story(goal(regret=core.Regret(gain=0.1, chance=0.05)))
    first = story.propose()
    assert story.campaign.outlook is None
    story.propose(outlook=core.Outlook(gain=0.1, chance=0.051))
    assert story.campaign.ending == ""
    story.propose(outlook=core.Outlook(gain=0.2, chance=0.001))
    assert story.campaign.ending == "", "a chance of gaining more than something else"
    last = story.propose(outlook=core.Outlook(gain=0.1, chance=0.05)).rpartition(".")[0]
    assert story.campaign.ending == "little left to gain"
    withdrawn = [s.trial for s in core.next_steps(story.campaign) if isinstance(s, core.Withdraw)]
    assert withdrawn == [t.id for t in story.campaign.open.values()]
    for trial in withdrawn:
        story.tell(core.TrialWithdrawn(trial=trial, reason="little left to gain"))
    assert {first.rpartition(".")[0], last} <= set(withdrawn)
    assert core.Close(subject="campaign", reason="little left to gain") in core.next_steps(story.campaign)


def test_what_is_left_to_gain_ends_nothing_without_a_rule_and_is_kept_when_not_said_again() -> None:
    story = Story(a_spec())
    story.propose(outlook=core.Outlook(gain=0.1, chance=0.0))
    story.propose()
    assert story.campaign.ending == ""
    assert story.campaign.outlook == core.Outlook(gain=0.1, chance=0.0)


def test_cost_is_what_was_paid_or_else_what_was_estimated() -> None:
    step = core.StepSpec(operation="look", facility="room", cost=3.0)
    spec = a_spec(procedure=core.ProcedureSpec(steps=(step,)))
    story = Story(replace(spec, goal=replace(spec.goal, budget=core.Budget(cost=12.0))))
    assert story.succeed(0.1, cost=5.0).cost == 5.0
    assert story.succeed(0.1).cost == 8.0
    story.tell(core.ActionFailed(action=story.begin(), failure=core.Failure(cause="crashed")))
    assert story.campaign.cost == 11.0
    refused = story.propose()
    assert story.tell(core.ActionRefused(action=refused, reasons=("over",))).cost == 11.0, "nothing was done"
    assert [row.cost for row in story.ledger.view().rows] == [5.0, 3.0, 3.0, 0.0]
    assert story.succeed(0.1).ending == "cost spent"


def test_running_time_leaves_out_the_time_between_runs() -> None:
    story = Story(a_spec())
    story.tell(core.RunStarted(runner="ada"), core.CampaignPaused(), core.RunEnded())
    assert story.campaign.elapsed == 2.0
    late = core.Entry(seq=story.campaign.seq + 1, at=9000.0, by="ada", fact=core.RunStarted(runner="ada"))
    campaign = core.reduce(story.campaign, late)
    after = core.Entry(seq=campaign.seq + 1, at=9001.5, by="ada", fact=core.CampaignResumed())
    assert core.reduce(campaign, after).elapsed == 3.5


def test_a_run_that_crashed_counts_up_to_its_last_fact() -> None:
    story = Story(a_spec())
    story.tell(core.RunStarted(runner="ada"), core.CampaignPaused())
    late = core.Entry(seq=story.campaign.seq + 1, at=9000.0, by="grace", fact=core.RunStarted(runner="grace"))
    assert core.reduce(story.campaign, late).elapsed == 1.0


def test_a_trial_that_was_performed_elsewhere_spends_no_budget() -> None:
    story = Story(goal(budget=core.Budget(trials=1)))
    measured = core.Measured(observations=(core.Observation(observable="y", value=0.7),), cost=4.0)
    story.tell(core.TrialAdded(trial="c1.1", point={"x": 0.3}, outcome=measured))
    assert (story.campaign.counted, story.campaign.cost, story.campaign.succeeded) == (0, 0.0, 1)
    assert story.campaign.front == ((-0.7,),)
    assert [s for s in core.next_steps(story.campaign) if isinstance(s, core.Ingest)]


def test_batches_wait_for_room_for_a_whole_plate() -> None:
    spec = a_spec(parallel=4, batch=4)
    story = Story(replace(spec, goal=replace(spec.goal, budget=core.Budget(trials=6))))
    assert story.campaign.designable == 4
    actions = [story.begin() for _ in range(4)]
    for action in actions[:3]:
        assert story.campaign.designable == 0
        story.tell(core.ActionFailed(action=action, failure=core.Failure(cause="crashed")))
    assert story.campaign.designable == 0
    story.tell(core.ActionFailed(action=actions[3], failure=core.Failure(cause="crashed")))
    assert story.campaign.designable == 2, "the last plate is as large as the budget leaves"


def test_points_are_designed_ahead_of_need() -> None:
    spec = a_spec(parallel=4)
    assert Story(spec).campaign.designable == 5
    assert Story(replace(spec, ahead=0)).campaign.designable == 4
    assert Story(replace(spec, parallel=1)).campaign.designable == 1, "one at a time learns from each"


def test_a_view_does_not_change_when_the_ledger_grows() -> None:
    story = Story(a_spec())
    story.succeed(0.2)
    view = story.ledger.view()
    story.succeed(0.3)
    assert len(view.rows) == 1
    assert len(story.ledger.view().rows) == 2
    with pytest.raises(IndexError):
        view.rows[1]
    assert view.rows[-1].seen["y"].value == 0.2


def test_results_know_the_front() -> None:
    objectives = (
        core.Objective(observable="a", direction="maximize"),
        core.Objective(observable="b", direction="minimize"),
    )
    two = core.Goal(objectives=objectives)

    def row(trial: str, a: float, b: float) -> core.Row:
        seen = (core.Observation(observable="a", value=a), core.Observation(observable="b", value=b))
        return core.Row(trial=trial, point={}, observations=seen)

    rows = [row("1", 1, 1), row("2", 2, 2), row("3", 1, 2), row("4", 2, 1.5), row("5", 2, 1.5)]
    assert [r.trial for r in core.Results(rows=rows).best(a_spec(goal=two))] == ["1", "4"]


def test_match_forgives_what_is_within_tolerance() -> None:
    match = core.Objective(observable="pH", direction="match", target=7.0, tolerance=0.1)
    assert core.loss(match, 7.05) == 0.0
    assert core.loss(match, 6.5) == pytest.approx(0.4)
    seen = {"pH": core.Observation(observable="pH", value=7.08)}
    assert core.met(core.Goal(objectives=(match,)), seen)
    assert not core.met(core.Goal(objectives=(replace(match, tolerance=0.05),)), seen)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_observation_is_a_finite_number(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        core.Observation(observable="y", value=value)
    with pytest.raises(ValueError, match="sigma"):
        core.Observation(observable="y", value=0.0, sigma=-1.0)


@settings(max_examples=40, deadline=None)
@given(
    parallel=st.integers(1, 6),
    batch=st.integers(1, 3),
    ahead=st.none() | st.integers(0, 3),
    trials=st.integers(1, 25),
    seed=st.integers(0, 1000),
    shape=st.sampled_from(["one", "chain"]),
)
def test_both_folds_replay_to_what_the_live_campaign_was(
    parallel: int, batch: int, ahead: int | None, trials: int, seed: int, shape: str
) -> None:
    steps = (core.StepSpec(name="mix", operation="m", facility="room", cost=0.5),) if shape == "chain" else ()
    procedure = core.ProcedureSpec(steps=(*steps, core.StepSpec(operation="look", facility="room", cost=1.0)))
    spec = replace(
        goal(budget=core.Budget(trials=trials)),
        parallel=max(parallel, batch), batch=batch, ahead=ahead, seed=seed, procedure=procedure,
    )  # fmt: skip
    journal, live = PaperJournal(), []
    ports = a_world(Room(peak), journal)

    async def whole() -> core.Campaign:
        await engine.create(spec, journal, ports.clock, "ada")
        return await engine.run("c1", ports, by="ada", listeners=[lambda entry, campaign: live.append(campaign)])

    campaign = asyncio.run(whole())
    entries = [core.decode(line) for line in journal.lines["c1"]]
    assert core.replay(entries) == campaign == live[-1]
    assert campaign.counted <= trials
    assert campaign.cost == pytest.approx(sum(r.cost for r in core.Ledger(entries).view().rows))
    assert campaign.succeeded + campaign.failed == core.Ledger(entries).ended
    assert [e.seq for e in entries] == list(range(1, len(entries) + 1))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_decision_holds_only_what_a_journal_can_keep(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        core.Decision(criterion="c", score=bad)
    with pytest.raises(ValueError, match=r"learned of y, noise, must be a finite number"):
        core.Decision(criterion="c", learned={"y": {"noise": bad}})
    with pytest.raises(ValueError, match="finite"):
        core.Alternative(point={}, score=bad)
    with pytest.raises(ValueError, match="share of c1"):
        core.Influence(campaign="c1", share=bad)
    with pytest.raises(ValueError, match="between 0 and 1"):
        core.Outlook(gain=1.0, chance=bad)
    with pytest.raises(ValueError, match="finite"):
        core.Outlook(gain=bad, chance=0.5)


def test_a_surprise_is_in_standard_deviations() -> None:
    def of(observable: str, value: float, sigma: float = 0.0) -> core.Observation:
        return core.Observation(observable=observable, value=value, sigma=sigma)

    row = core.Row(
        trial="1", point={}, predicted=(of("y", 1.0, 0.3), of("z", 2.0), of("w", 0.0, 1.0)),
        observations=(of("y", 2.0, 0.4), of("z", 3.0), of("v", 1.0)),
    )  # fmt: skip
    assert row.surprise == {"y": pytest.approx(2.0)}
