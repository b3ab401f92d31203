"""What the owner's policy says, and with which words."""

from math import nan

import pytest

from firstlight import core
from firstlight.governance import OwnerPolicy
from firstlight.testing.policy import action, campaign, judge


def test_the_owner_may_do_what_the_budget_allows() -> None:
    one = action("films.1", cost=3.0)
    for budget in (None, 10.0):
        verdict = judge(OwnerPolicy(), one, campaign([one], budget, spent=5.0, committed=(2.0,)))
        assert verdict == core.Allowed(policies=("owner/within-budget@1",))


def test_a_refusal_says_the_figures_and_the_policy() -> None:
    one = action("films.1", cost=3.5)
    verdict = judge(OwnerPolicy(), one, campaign([one], 10.0, spent=5.0, committed=(1.0, 1.0)))
    assert isinstance(verdict, core.Refused)
    (reason,) = verdict.reasons
    for part in ("owner/within-budget@1", "films.1.make", "3.5 USD", "10 USD", "5 is spent", "2 committed"):
        assert part in reason


def test_the_last_penny_may_be_spent() -> None:
    one = action("films.1", cost=0.1)
    assert isinstance(judge(OwnerPolicy(), one, campaign([one], 0.3, spent=0.1 + 0.1)), core.Allowed)


def test_a_batch_is_judged_as_if_one_after_the_other() -> None:
    actions = [action(f"films.{n}", cost) for n, cost in enumerate((4.0, 20.0, 4.0, 4.0, 2.0))]
    batch = campaign(actions, 10.0)
    allowed = [isinstance(judge(OwnerPolicy(), a, batch), core.Allowed) for a in actions]
    assert allowed == [True, False, True, False, True]


def test_what_needs_approval_goes_to_the_owner_unless_it_cannot_be_afforded() -> None:
    one = action("films.1", cost=3.0, approval="Is the hood closed?")
    assert judge(OwnerPolicy(), one, campaign([one], 10.0)) == core.Escalated(
        to="owner", question="Is the hood closed?"
    )
    assert isinstance(judge(OwnerPolicy(), one, campaign([one], 2.0)), core.Refused)


@pytest.mark.parametrize("cost", [nan, float("inf")])
def test_a_cost_that_is_no_number_is_refused(cost: float) -> None:
    one = action("films.1", cost)
    assert isinstance(judge(OwnerPolicy(), one, campaign([one], 10.0)), core.Refused)
