"""The policy of somebody who works alone: their own actions, within their own budget."""

import math

from firstlight.core import Action, Allowed, Campaign, Escalated, Refused, Verdict

WITHIN_BUDGET = "owner/within-budget@1"
"""No action whose estimated cost, with what is spent and committed, exceeds the campaign's budget."""


class OwnerPolicy:
    """Allows the owner's own actions within the budget of cost; asks the owner where a step says so.

    Pure in its arguments and total: every action gets a verdict. What cannot be afforded is refused
    before anybody is asked about it.
    """

    async def judge(self, action: Action, campaign: Campaign) -> Verdict:
        budget = campaign.spec.goal.budget
        if budget.cost is not None:
            spent, committed = campaign.cost, campaign.committed
            ahead = _ahead(action, campaign, budget.cost)
            if not _within(spent + committed + ahead + action.cost, budget.cost):
                unit = f" {budget.cost_unit}" if budget.cost_unit else ""
                shared = f", {ahead:g} for actions judged before it" if ahead else ""
                reason = (
                    f"{WITHIN_BUDGET}: {action.id} is estimated to cost {action.cost:g}{unit}, and of the budget of "
                    f"{budget.cost:g}{unit} {spent:g} is spent and {committed:g} committed{shared}"
                )
                return Refused(reasons=(reason,))
        if action.approval:
            return Escalated(to="owner", question=action.approval)
        return Allowed(policies=(WITHIN_BUDGET,))


def _ahead(action: Action, campaign: Campaign, budget: float) -> float:
    """The cost of proposed actions that come before this one and fit.

    Actions of one batch are judged against one and the same campaign, in which none of them is committed
    yet: without this, each alone would fit and all together would not.
    """
    total = 0.0
    before = campaign.cost + campaign.committed
    proposed = [a.action for _, a in campaign.ready("proposed")]
    if action.id not in (a.id for a in proposed):
        return 0.0
    for other in proposed:
        if other.id == action.id:
            break
        if not other.approval and _within(before + total + other.cost, budget):
            total += other.cost
    return total


def _within(total: float, budget: float) -> bool:
    """Rounding aside; a total that is not a number is not within anything."""
    return total <= budget or math.isclose(total, budget, rel_tol=1e-9)
