"""The loop with several sources: each at a facility of its own, within one budget of cost."""

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from firstlight import core, engine
from firstlight.governance import OwnerPolicy
from firstlight.procedures import Source
from firstlight.testing.world import RandomPoints, Room, a_spec, a_world

COSTS = {"model": 1.0, "instrument": 20.0}


def a_spec_of_two(budget: float, parallel: int = 3) -> core.CampaignSpec:
    by = core.Categorical(name="by", values=tuple(COSTS))
    sources = tuple(core.Source(value=v, cost=c) for v, c in COSTS.items())
    steps = tuple(core.StepSpec(name=name, operation="look", facility=name) for name in COSTS)
    aim = (core.Objective(observable="y", direction="maximize"),)
    spec = a_spec(parallel=parallel)
    return replace(
        spec, parameters=(*spec.parameters, by), procedure=core.ProcedureSpec(steps=steps, name="source"),
        fidelity=core.Fidelity(parameter="by", target="instrument", sources=sources),
        goal=core.Goal(objectives=aim, budget=core.Budget(cost=budget)),
    )  # fmt: skip


class Only(RandomPoints):
    """Random points by one source."""

    def __init__(self, by: str) -> None:
        self.by = by

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        found = super().propose(spec, results, count, seed)
        return [replace(p, point={**p.point, "by": self.by}) for p in found]


def look(action: core.Action) -> core.Outcome:
    """y = x, and the model promises 10 more."""
    y = float(action.point["x"]) + (10.0 if action.point["by"] == "model" else 0.0)
    return core.Measured(observations=(core.Observation(observable="y", value=y),))


def perform(spec: core.CampaignSpec, strategy: core.Strategy) -> tuple[core.Campaign, core.Results, dict[str, Room]]:
    rooms = {name: Room(look) for name in COSTS}
    ports = a_world(strategy=strategy, procedure=Source(), policy=OwnerPolicy(), facilities=rooms)

    async def whole() -> tuple[core.Campaign, core.Ledger]:
        await engine.create(spec, ports.journal, ports.clock, "ada")
        await engine.run("c1", ports, by="ada")
        return await engine.recover("c1", ports.journal)

    campaign, ledger = asyncio.run(asyncio.wait_for(whole(), 30))
    return campaign, ledger.view(), rooms


def test_every_trial_is_performed_where_its_source_is_and_costs_what_that_does() -> None:
    spec = a_spec_of_two(200.0)
    campaign, results, rooms = perform(spec, RandomPoints())
    by = {name: [r for r in results.rows if r.point["by"] == name] for name in COSTS}
    assert {name: len(room.performed) for name, room in rooms.items()} == {name: len(rows) for name, rows in by.items()}
    assert all(by.values())
    assert all(r.cost == COSTS[str(r.point["by"])] for r in results.rows)
    assert campaign.cost == sum(r.cost for r in results.rows)
    assert 180.0 < campaign.cost <= 200.0
    (best,) = results.best(spec)
    assert best.point["by"] == "instrument"
    assert campaign.front == ((-max(r.seen["y"].value for r in by["instrument"]),),)


@pytest.mark.parametrize("parallel", [1, 3, 8])
@pytest.mark.parametrize(
    ("by", "budget", "trials"), [("instrument", 70.0, 3), ("model", 30.0, 11), ("instrument", 60.0, 3)]
)
def test_it_ends_where_the_money_does_and_policy_has_nothing_to_refuse(
    by: str, budget: float, trials: int, parallel: int
) -> None:
    campaign, results, _ = perform(a_spec_of_two(budget, parallel), Only(by))
    assert campaign.closed == "cost spent"
    assert [r.failure for r in results.rows] == [None] * trials
    assert campaign.cost == trials * COSTS[by]
