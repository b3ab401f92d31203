"""The contract of a procedure as a suite to subclass.

class TestMyProcedure(ProcedureContract):
    def make(self):
        return MyProcedure()
"""

from collections.abc import Sequence

from msgspec.structs import replace

from firstlight import core

__all__ = ["ProcedureContract", "a_step", "spec_of"]


def a_step(name: str, **changes: object) -> core.StepSpec:
    """A step in which nothing is as by default."""
    step = core.StepSpec(
        name=name, operation=f"lab:{name}", facility="lab", settings={"speed": 300}, limits=core.Limits(seconds=60.0),
        cost=2.0, repeatable=False, approval="Is the hood closed?",
    )  # fmt: skip
    return replace(step, **changes)


def spec_of(steps: Sequence[core.StepSpec]) -> core.CampaignSpec:
    """A small campaign whose procedure has these steps."""
    return core.CampaignSpec(
        id="films",
        parameters=(core.Continuous(name="x", low=0.0, high=1.0),),
        goal=core.Goal(objectives=(core.Objective(observable="y", direction="maximize"),)),
        procedure=core.ProcedureSpec(steps=tuple(steps)),
    )


class ProcedureContract:
    """What every procedure keeps. `spec` is a campaign whose steps it can carry out at `point`."""

    steps: Sequence[core.StepSpec] = (a_step("make"),)
    point: core.Point = {"x": 0.5}
    other: core.Point = {"x": 0.25}

    def make(self) -> core.Procedure:
        raise NotImplementedError

    def spec(self) -> core.CampaignSpec:
        return spec_of(self.steps)

    def actions(self) -> Sequence[core.Action]:
        return self.make().actions(self.spec(), "films.1", self.point)

    def test_the_same_point_gives_the_same_actions(self) -> None:
        procedure, spec = self.make(), self.spec()
        first = list(procedure.actions(spec, "films.1", self.point))
        procedure.actions(spec, "films.2", self.other)
        assert list(procedure.actions(spec, "films.1", self.point)) == first == list(self.actions())

    def test_actions_belong_to_their_trial_and_carry_its_point(self) -> None:
        for action in self.actions():
            assert action.id == f"films.1.{action.name}"
            assert (action.trial, action.point) == ("films.1", self.point)

    def test_actions_keep_what_their_step_says(self) -> None:
        known = {s.operation: s for s in self.steps}
        for action in self.actions():
            step = known[action.operation]
            for field in ("facility", "settings", "limits", "cost", "repeatable", "approval"):
                assert getattr(action, field) == getattr(step, field), field

    def test_a_campaign_accepts_them_and_can_perform_them_all(self) -> None:
        """The fold takes the trial, and no action waits for one that can never come."""
        spec, actions = self.spec(), tuple(self.actions())
        facts: list[core.Fact] = [
            core.CampaignOpened(spec=spec),
            core.TrialProposed(trial="films.1", point=self.point, actions=actions),
        ]

        def campaign() -> core.Campaign:
            return core.replay(core.Entry(seq=n, at=0.0, by="test", fact=f) for n, f in enumerate(facts, start=1))

        for _ in actions:
            ready = [state.action.id for _, state in campaign().ready("proposed")]
            assert ready
            facts += [
                core.ActionPermitted(action=ready[0], policies=("test",)),
                core.ActionDispatched(action=ready[0]),
                core.ActionAccepted(action=ready[0], job="j"),
                core.ActionSucceeded(action=ready[0], measured=core.Measured()),
            ]
        assert campaign().succeeded == 1
