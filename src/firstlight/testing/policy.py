"""The contract of a policy as a suite to subclass, and campaigns to judge in.

class TestMyPolicy(PolicyContract):
    def make(self):
        return MyPolicy()
"""

import asyncio
from collections.abc import Sequence

import hypothesis.strategies as st
from hypothesis import example, given, settings

from firstlight import core

__all__ = ["PolicyContract", "action", "campaign", "judge"]


def action(trial: str, cost: float = 0.0, approval: str = "", name: str = "make") -> core.Action:
    """An action to judge."""
    return core.Action(
        id=f"{trial}.{name}", trial=trial, facility="lab", name=name, operation="lab:make", point={"x": 0.5},
        cost=cost, approval=approval,
    )  # fmt: skip


def campaign(
    actions: Sequence[core.Action], budget: float | None = None, spent: float = 0.0, committed: Sequence[float] = ()
) -> core.Campaign:
    """A campaign in which each action is the proposed one of a trial of its own, and others are under way."""
    spec = core.CampaignSpec(
        id="films",
        parameters=(core.Continuous(name="x", low=0.0, high=1.0),),
        goal=core.Goal(
            objectives=(core.Objective(observable="y", direction="maximize"),),
            budget=core.Budget(cost=budget, cost_unit="USD"),
        ),
        procedure=core.ProcedureSpec(steps=(core.StepSpec(operation="lab:make"),)),
    )
    open = {a.trial: core.Trial(id=a.trial, point=a.point, actions={a.id: core.ActionState(action=a)}) for a in actions}
    for number, cost in enumerate(committed):
        a = action(f"films.busy{number}", cost)
        open[a.trial] = core.Trial(
            id=a.trial, point=a.point, actions={a.id: core.ActionState(action=a, status="accepted")}
        )
    return core.Campaign(spec=spec, cost=spent, open=open)


def judge(policy: core.Policy, action: core.Action, campaign: core.Campaign) -> core.Verdict:
    """The policy's verdict on one action."""
    return asyncio.run(_judge(policy, action, campaign))


async def _judge(policy: core.Policy, action: core.Action, campaign: core.Campaign) -> core.Verdict:
    return await policy.judge(action, campaign)


_costs = st.one_of(st.just(0.0), st.floats(0.0, 100.0), st.sampled_from([0.1, 0.2, 0.3, 1e-9, 1e9]))
_campaigns = st.builds(
    lambda costs, approvals, budget, spent, committed: campaign(
        [action(f"films.{n}", cost, "Is the hood closed?" if ask else "")
         for n, (cost, ask) in enumerate(zip(costs, approvals, strict=False))],
        budget, spent, committed,
    ),
    st.lists(_costs, min_size=1, max_size=6),
    st.lists(st.booleans(), min_size=6, max_size=6),
    st.one_of(st.none(), _costs),
    _costs,
    st.lists(_costs, max_size=3),
)  # fmt: skip


class PolicyContract:
    """What every policy keeps."""

    def make(self) -> core.Policy:
        raise NotImplementedError

    @settings(max_examples=150, deadline=None)
    @given(_campaigns)
    def test_every_action_gets_one_verdict_that_says_why(self, campaign: core.Campaign) -> None:
        policy = self.make()

        async def body() -> None:
            for state in campaign.actions("proposed"):
                verdict = await policy.judge(state.action, campaign)
                match verdict:
                    case core.Allowed(policies=policies):
                        assert policies and all(policies)
                    case core.Refused(reasons=reasons):
                        assert reasons and all(reasons)
                    case core.Escalated(to=to, question=question):
                        assert to and question
                assert await policy.judge(state.action, campaign) == verdict
                assert await self.make().judge(state.action, campaign) == verdict

        asyncio.run(body())

    @settings(max_examples=150, deadline=None)
    @given(_campaigns)
    @example(campaign([action(f"films.{n}", 4.0) for n in range(4)], 10.0))
    @example(campaign([action(f"films.{n}", 4.0) for n in range(4)], 10.0, spent=1.0, committed=(2.0,)))
    def test_what_is_allowed_at_one_moment_fits_the_budget_together(self, campaign: core.Campaign) -> None:
        budget = campaign.spec.goal.budget.cost
        policy = self.make()

        async def body() -> float:
            verdicts = [(s.action.cost, await policy.judge(s.action, campaign)) for s in campaign.actions("proposed")]
            return sum(cost for cost, verdict in verdicts if isinstance(verdict, core.Allowed))

        allowed = asyncio.run(body())
        total = campaign.cost + campaign.committed + allowed
        assert budget is None or allowed == 0 or total <= budget * (1 + 1e-9)

    @settings(max_examples=50, deadline=None)
    @given(st.floats(0.01, 1e6), st.floats(0.01, 1e6))
    def test_an_action_beyond_the_budget_is_not_allowed(self, budget: float, excess: float) -> None:
        one = action("films.1", budget + excess * 1.001)
        verdict = judge(self.make(), one, campaign([one], budget))
        assert not isinstance(verdict, core.Allowed)
