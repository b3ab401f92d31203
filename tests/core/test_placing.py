"""Actions that name no facility: how they get one, and another, and what is owed meanwhile."""

import pytest
from msgspec.structs import replace

from firstlight import core
from firstlight.testing.world import Story, a_spec

LOOK = "c1.1.evaluate"


def story(parallel: int = 1, steps: int = 1, trials: int = 12, **step: object) -> Story:
    made = [
        replace(core.StepSpec(name=name, operation="look", facility=""), **step)
        for name in ("evaluate", "again", "oncemore")[:steps]
    ]
    spec = a_spec(procedure=core.ProcedureSpec(steps=tuple(made)), parallel=parallel, ahead=8)
    return Story(replace(spec, goal=replace(spec.goal, budget=core.Budget(trials=trials))))


def goes(facility: str, action: str = LOOK) -> core.ActionPlaced:
    return core.ActionPlaced(
        action=action, facility=facility, reason=f"free now at {facility}", others={"c": "is down"}
    )


def to(told: Story, status: str, facility: str = "a", action: str = LOOK) -> Story:
    """A first trial whose action has come so far at a facility."""
    if not told.campaign.open:
        told.propose()
    facts: list[core.Fact] = [goes(facility, action)]
    facts += [core.ActionPermitted(action=action, policies=("p",))] if status != "proposed" else []
    facts += [core.ActionDispatched(action=action)] if status in ("dispatched", "accepted") else []
    facts += [core.ActionAccepted(action=action, job="7")] if status == "accepted" else []
    told.tell(*facts)
    return told


def owed(campaign: core.Campaign) -> list[str]:
    """What is owed on actions."""
    steps = (core.Place, core.Check, core.Execute, core.Reattach, core.Measure, core.Cancel, core.Recall, core.Abandon)
    return [f"{type(s).__name__} {s.subject}" for s in core.next_steps(campaign) if isinstance(s, steps)]


def state(told: Story, action: str = LOOK) -> core.ActionState:
    found = told.campaign.action(action)
    assert found is not None
    return found


def test_a_facility_comes_before_policy() -> None:
    told = story()
    told.propose()
    assert owed(told.campaign) == [f"Place {LOOK}"]
    told.tell(goes("a"))
    assert owed(told.campaign) == [f"Check {LOOK}"]
    assert state(told).action.facility == "a"
    assert state(told).placement == core.Placement(facility="a", reason="free now at a", others={"c": "is down"})
    told.tell(core.ActionPermitted(action=LOOK, policies=("p",)))
    assert owed(told.campaign) == [f"Execute {LOOK}"]


def test_only_what_could_begin_now_is_placed() -> None:
    told = story(parallel=2)
    actions = [told.propose() for _ in range(4)]
    assert owed(told.campaign) == [f"Place {a}" for a in actions[:2]]
    told.tell(goes("a", actions[0]), core.ActionPermitted(action=actions[0], policies=()))
    assert owed(told.campaign) == [f"Place {actions[1]}", f"Execute {actions[0]}"]
    told.tell(core.ActionDispatched(action=actions[0]), core.ActionAccepted(action=actions[0], job="7"))
    assert owed(told.campaign) == [f"Place {actions[1]}", f"Measure {actions[0]}"]
    told.tell(core.ActionSucceeded(action=actions[0], measured=core.Measured()))
    assert owed(told.campaign) == [f"Place {a}" for a in actions[1:3]]


def test_what_waits_for_a_person_holds_up_no_other() -> None:
    told = story(parallel=1)
    first, second = told.propose(), told.propose()
    told.tell(goes("a", first), core.ActionEscalated(action=first, to="owner", question="?"))
    assert owed(told.campaign) == [f"Place {second}"]


def test_later_steps_are_placed_in_their_turn() -> None:
    told = to(story(steps=2), "accepted")
    told.tell(core.ActionSucceeded(action=LOOK, measured=core.Measured()))
    assert owed(told.campaign) == ["Place c1.1.again"]
    told.tell(goes("b", "c1.1.again"))
    assert owed(told.campaign) == ["Check c1.1.again"]


def test_paused_nothing_is_placed_and_ending_only_what_has_begun() -> None:
    told = story(steps=2, parallel=2)
    told.propose()
    told.tell(core.CampaignPaused())
    assert owed(told.campaign) == []
    told.tell(core.CampaignResumed())
    to(told, "accepted")
    told.tell(core.ActionSucceeded(action=LOOK, measured=core.Measured()))
    told.propose()
    told.tell(core.CampaignStopped(reason="enough"))
    assert owed(told.campaign) == ["Place c1.1.again"]
    told.tell(core.CampaignStopped(reason="enough", cancel=True))
    assert owed(told.campaign) == ["Abandon abandon c1.1.again"]


@pytest.mark.parametrize("status", ["proposed", "permitted", "dispatched", "accepted"])
def test_it_may_go_elsewhere_and_is_judged_again(status: str) -> None:
    told = to(story(), status)
    told.tell(goes("b"))
    moved, sent = state(told), status in ("dispatched", "accepted")
    assert (moved.action.facility, moved.status, moved.job, moved.policies) == ("b", "proposed", "", ())
    assert moved.left == (("a",) if sent else ())
    assert owed(told.campaign) == [f"Check {LOOK}"] + ([f"Recall recall {LOOK} a"] if sent else [])
    assert told.campaign.open["c1.1"].started is sent, "what was sent somewhere is not withdrawn"
    told.tell(core.ActionPermitted(action=LOOK, policies=()), core.ActionDispatched(action=LOOK))
    told.tell(core.ActionAccepted(action=LOOK, job="8"), core.ActionSucceeded(action=LOOK, measured=core.Measured()))
    row = told.ledger.row("c1.1")
    assert [(s.facility, s.dispatched) for s in row.spans] == [("b", told.entries[-3].at)]
    assert core.replay(told.entries) == told.campaign


def test_what_was_sent_and_may_not_be_repeated_stays() -> None:
    to(story(repeatable=False), "permitted").tell(goes("b"))
    for status in ("dispatched", "accepted"):
        with pytest.raises(core.InconsistentError, match=f"is {status}"):
            to(story(repeatable=False), status).tell(goes("b"))


def test_only_some_facilities_may_be_chosen() -> None:
    with pytest.raises(core.InconsistentError, match="may be performed at a, b, not at c"):
        to(story(facilities=("a", "b")), "proposed", "c")
    with pytest.raises(core.InconsistentError, match="it is at a"):
        to(story(), "permitted").tell(goes("a"))
    with pytest.raises(core.InconsistentError, match="it is at none"):
        to(story(), "proposed", "")


def test_what_its_specification_places_is_not_moved() -> None:
    told = story(facility="a")
    told.propose()
    with pytest.raises(core.InconsistentError, match="is to be performed at a, as its specification says"):
        told.tell(goes("b"))


def test_it_never_returns_to_where_it_was_sent() -> None:
    told = to(story(), "accepted")
    told.tell(goes("b"), goes("c"))
    with pytest.raises(core.InconsistentError, match="has left a and cannot be placed there again"):
        told.tell(goes("a"))
    told.tell(goes("b"))
    assert state(told).left == ("a",), "it was never sent to b or c"


def test_what_was_left_behind_is_called_back_once() -> None:
    told = to(story(), "accepted")
    told.tell(goes("b"))
    recalled = core.CancelRequested(action=LOOK, facility="a")
    told.tell(recalled)
    assert owed(told.campaign) == [f"Check {LOOK}"]
    assert not state(told).cancelling
    with pytest.raises(core.InconsistentError, match="has nothing at a"):
        told.tell(recalled)
    with pytest.raises(core.InconsistentError, match="has nothing at b"):
        told.tell(core.CancelRequested(action=LOOK, facility="b"))


def test_ending_a_moved_action_is_brought_to_its_end_and_cancelled_it_is_not() -> None:
    told = to(story(), "accepted")
    told.tell(goes("b"), core.CampaignStopped(reason="enough"))
    assert f"Check {LOOK}" in owed(told.campaign)
    told.tell(core.CampaignStopped(reason="enough", cancel=True))
    assert f"Abandon abandon {LOOK}" in owed(told.campaign)
    told.tell(core.ActionFailed(action=LOOK, failure=core.Failure(cause="cancelled")))
    row = told.ledger.row("c1.1")
    assert (row.cost, row.spans, told.campaign.cost) == (0.0, (), 0.0)


@pytest.mark.parametrize(
    ("status", "movable"),
    [("proposed", False), ("permitted", True), ("dispatched", True), ("accepted", True)],
)
def test_what_may_be_moved(status: str, movable: bool) -> None:
    assert to(story(), status).campaign.movable(LOOK) is movable
    assert to(story(repeatable=False), status).campaign.movable(LOOK) is (status == "permitted")
    cancelled = to(story(), status)
    cancelled.tell(core.CampaignStopped(cancel=True))
    assert not cancelled.campaign.movable(LOOK)
    assert not cancelled.campaign.movable("c1.9.evaluate")


def test_a_slot_is_wanted_from_the_choice_to_the_end() -> None:
    told = story()
    told.propose()
    assert told.campaign.wanted("a") == 0
    for fact in (
        goes("a"), core.ActionPermitted(action=LOOK, policies=()), core.ActionDispatched(action=LOOK),
        core.ActionAccepted(action=LOOK, job="7"),
    ):  # fmt: skip
        told.tell(fact)
        assert (told.campaign.wanted("a"), told.campaign.wanted("b")) == (1, 0)
    told.tell(core.ActionSucceeded(action=LOOK, measured=core.Measured()))
    assert told.campaign.wanted("a") == 0


def test_a_step_on_an_action_that_has_moved_is_not_due() -> None:
    told = story()
    told.propose()
    place = next(s for s in core.next_steps(told.campaign) if isinstance(s, core.Place))
    told.tell(goes("a"))
    assert not core.still_due(told.campaign, place)
    check = next(s for s in core.next_steps(told.campaign) if isinstance(s, core.Check))
    assert core.still_due(told.campaign, check)
    told.tell(goes("b"))
    assert not core.still_due(told.campaign, check)


def test_what_facilities_took_is_summed() -> None:
    told = to(story(), "accepted")
    told.tell(core.ActionSucceeded(action=LOOK, measured=core.Measured(used={"node-hours": 1.5, "attempts": 1.0})))
    again = told.propose()
    to(told, "accepted", action=again)
    told.tell(core.ActionFailed(action=again, failure=core.Failure(cause="crashed", used={"node-hours": 0.5})))
    assert told.campaign.used == {"node-hours": 2.0, "attempts": 1.0}
