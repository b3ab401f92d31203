"""What an earlier campaign brings: its trials as they stood, in the units of the one that learns."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from firstlight import core
from firstlight.journal import JournalArchive, MemoryJournal
from firstlight.units import PintUnits

T = core.Continuous(name="t", low=20.0, high=80.0, unit="degC")
TIME = core.Integer(name="time", low=1, high=3, unit="h")
GRADE = core.Ordered(name="grade", values=(1, 2), unit="mm")
SIZE = core.Ordered(name="size", values=("small", "large"))
SOLVENT = core.Categorical(name="solvent", values=("water", "DMF"))


def a_spec(id: str, *parameters: core.Parameter, unit: str = "g", **more: Any) -> core.CampaignSpec:
    aim = core.Objective(observable="yield", direction="maximize", unit=unit, target=5.0, threshold=1.0)
    purity = core.OutcomeConstraint(observable="purity", relation=">=", bound=90.0, unit="%")
    fields: dict[str, Any] = {
        "id": id, "parameters": parameters, "observables": (core.Observable(name="purity", unit="%"),),
        "goal": core.Goal(objectives=(aim,), outcome_constraints=(purity,), budget=core.Budget(trials=9)),
        "procedure": core.ProcedureSpec(steps=(core.StepSpec(operation="m:f"),)),
    }  # fmt: skip
    return core.CampaignSpec(**(fields | more))


def seen(unit: str = "g", value: float = 2.0) -> core.Measured:
    yielded = core.Observation(observable="yield", value=value, unit=unit, sigma=0.5)
    return core.Measured(observations=(yielded, core.Observation(observable="purity", value=95.0, unit="%")))


async def keep(journal: core.Journal, spec: core.CampaignSpec, *trials: core.TrialAdded) -> None:
    lease = await journal.lease(spec.id, "ada")
    facts: list[core.Fact] = [core.CampaignOpened(spec=spec), *trials]
    for seq, fact in enumerate(facts, 1):
        await journal.append(lease, core.Entry(seq=seq, at=1.0, by="ada", fact=fact))
    await lease.release()


def learnt(mine: core.CampaignSpec, other: core.CampaignSpec, *trials: core.TrialAdded) -> core.Earlier:
    """What a campaign learns from another of these trials."""

    async def story() -> core.Earlier:
        journal = MemoryJournal()
        archive = JournalArchive(journal, PintUnits())
        await keep(journal, other, *trials)
        (chosen,) = await archive.find(mine, [other.id])
        assert chosen == core.EarlierCampaign(campaign=other.id, entries=1 + len(trials))
        return await archive.read(mine, chosen)

    return asyncio.run(story())


def added(number: int, point: core.Point, outcome: core.Measured | core.Failure) -> core.TrialAdded:
    return core.TrialAdded(trial=f"old.{number}", point=point, outcome=outcome)


def test_what_is_in_the_same_units_is_as_it_was() -> None:
    point: core.Point = {"t": 30.0, "time": 2, "solvent": "DMF"}
    old = a_spec("old", T, TIME, SOLVENT)
    failed = added(2, point, core.Failure(cause="timed-out", as_run={"t": 31.0}))
    earlier = learnt(a_spec("new", T, TIME, SOLVENT), old, added(1, point, seen()), failed)
    assert (earlier.campaign, earlier.spec) == ("old", old)
    first, second = earlier.rows
    assert (first.point, first.seen["yield"].value, type(first.point["time"])) == (point, 2.0, int)
    assert second.failure is not None and second.ran["t"] == 31.0


def test_points_bounds_and_observations_come_in_the_units_of_the_one_that_learns() -> None:
    mine = a_spec("new", replace(T, unit="K"), replace(TIME, unit="min"), replace(GRADE, unit="um"), unit="mg")
    old = a_spec("old", replace(T, scale="log"), TIME, GRADE, SOLVENT)
    point: core.Point = {"t": 30.0, "time": 2, "grade": 2, "solvent": "DMF"}
    told = core.Measured(observations=seen().observations, as_run={"t": 31.0})
    earlier = learnt(mine, old, added(1, point, told))
    (row,) = earlier.rows
    assert row.point == pytest.approx({"t": 303.15, "time": 120.0, "grade": 2000.0, "solvent": "DMF"})
    assert row.ran["t"] == pytest.approx(304.15)
    assert row.seen["yield"] == core.Observation(observable="yield", value=2000.0, unit="mg", sigma=500.0)
    t, time, grade, solvent = earlier.spec.parameters
    assert isinstance(t, core.Continuous) and t.unit == "K"
    assert t.low == pytest.approx(293.15)
    assert isinstance(time, core.Continuous) and (time.low, time.high, time.unit) == (60.0, 180.0, "min")
    assert isinstance(grade, core.Ordered) and grade.values == pytest.approx((1000.0, 2000.0))
    assert solvent == SOLVENT
    (aim,) = earlier.spec.goal.objectives
    assert (aim.unit, aim.target, aim.threshold) == ("mg", 5000.0, 1000.0)
    assert core.losses_of(earlier.spec, row) == (-2000.0,)


def test_a_sigma_and_a_tolerance_are_differences() -> None:
    old = a_spec("old", TIME)
    aim = core.Objective(observable="heat", direction="match", target=20.0, tolerance=1.0, unit="degC")
    old = replace(old, goal=replace(old.goal, objectives=(aim,)))
    mine = replace(old, id="new", goal=replace(old.goal, objectives=(replace(aim, unit="K"),)))
    heat = core.Measured(observations=(core.Observation(observable="heat", value=20.0, sigma=2.0, unit="degC"),))
    earlier = learnt(mine, old, added(1, {"time": 1}, heat))
    assert earlier.spec.goal.objectives[0].tolerance == pytest.approx(1.0)
    seen = earlier.rows[0].seen["heat"]
    assert [seen.value, seen.sigma] == pytest.approx([293.15, 2.0])


def test_what_cannot_be_converted_is_left_out_and_so_are_constraints_and_pool() -> None:
    mine = a_spec("new", T, replace(TIME, unit="kg"), core.Categorical(name="grade", values=("a", "b")))
    old = a_spec(
        "old", T, TIME, GRADE, constraints=(core.Linear(terms={"time": 1}, relation="<=", bound=3.0),),
        pool=core.Pool(columns=("t", "time", "grade"), rows=((30.0, 2, 1),)),
    )  # fmt: skip
    mine = replace(
        mine, observables=(core.Observable(name="purity", unit="kg"),), goal=replace(mine.goal, outcome_constraints=())
    )
    earlier = learnt(mine, old, added(1, {"t": 30.0, "time": 2, "grade": 1}, seen()))
    assert earlier.spec.parameters == (T,)
    assert (earlier.spec.constraints, earlier.spec.pool, earlier.spec.observables) == ((), None, ())
    assert earlier.spec.goal.outcome_constraints == ()
    assert (earlier.rows[0].point, set(earlier.rows[0].seen)) == ({"t": 30.0}, {"yield"})


@pytest.mark.parametrize(
    ("mine", "theirs", "shared"),
    [
        (T, replace(T, unit="K"), True),
        (T, core.Integer(name="t", low=1, high=2, unit="K"), True),
        (T, replace(T, unit="kg"), False),
        (T, replace(T, unit=""), False),
        (SOLVENT, replace(SOLVENT, values=("DMF", "ethanol")), True),
        (SOLVENT, replace(SOLVENT, values=("ethanol",)), False),
        (SOLVENT, core.Ordered(name="solvent", values=("water", "ice")), True),
        (SOLVENT, core.Ordered(name="solvent", values=(1, 2)), False),
        (
            core.Categorical(name="base", values=("KOH",), descriptors={"KOH": {"pka": 14.7}}),
            core.Categorical(name="base", values=("NaOH",), descriptors={"NaOH": {"pka": 13.8, "radius": 1.0}}),
            True,
        ),
        (SIZE, replace(SIZE, name="width"), False),
    ],
)
def test_parameters_overlap_where_their_values_mean_the_same(
    mine: core.Parameter, theirs: core.Parameter, shared: bool
) -> None:
    values = theirs.values if isinstance(theirs, core.Ordered | core.Categorical) else (1,)
    trial = added(1, {theirs.name: values[0]}, seen())
    if shared:
        assert learnt(a_spec("new", mine), a_spec("old", theirs), trial).rows
    else:
        with pytest.raises(core.Unrelated, match="new cannot learn from old: they share no parameter"):
            learnt(a_spec("new", mine), a_spec("old", theirs), trial)


def test_an_objective_may_have_been_a_mere_observable_there() -> None:
    old = a_spec("old", T, observables=(core.Observable(name="purity", unit=""),))
    mine = a_spec("new", T)
    aim = core.Objective(observable="purity", direction="maximize", unit="%")
    mine = replace(mine, observables=(), goal=replace(mine.goal, objectives=(aim,), outcome_constraints=()))
    pure = core.Measured(observations=(core.Observation(observable="purity", value=0.95),))
    earlier = learnt(mine, old, added(1, {"t": 30.0}, pure))
    assert earlier.rows[0].seen["purity"].value == pytest.approx(95.0)


def by_source(id: str, unit: str, values: tuple[float, ...]) -> core.CampaignSpec:
    by = core.Ordered(name="by", values=values, unit=unit)
    sources = tuple(core.Source(value=v, cost=v) for v in values)
    return a_spec(id, T, by, fidelity=core.Fidelity(parameter="by", target=values[-1], sources=sources))


def test_sources_are_told_in_the_units_of_the_one_that_learns_or_only_the_target_is_known() -> None:
    old = by_source("old", "mm", (1.0, 2.0))
    trials = [added(i, {"t": 30.0, "by": v}, seen()) for i, v in enumerate((1.0, 2.0), 1)]
    earlier = learnt(by_source("new", "um", (1000.0, 2000.0)), old, *trials)
    assert [core.losses_of(earlier.spec, r) for r in earlier.rows] == [None, (-2.0,)]
    assert earlier.spec.fidelity is not None
    assert [s.value for s in earlier.spec.fidelity.sources] == [1000.0, 2000.0]
    assert len(learnt(a_spec("new", T), old, *trials).rows) == 2
    earlier = learnt(a_spec("new", T, core.Categorical(name="by", values=("a",))), old, *trials)
    assert earlier.spec.fidelity is None
    assert [(r.trial, r.point) for r in earlier.rows] == [("old.2", {"t": 30.0})]


def test_it_is_known_as_far_as_it_went_whatever_came_later() -> None:
    async def story() -> None:
        journal, old = MemoryJournal(), a_spec("old", T)
        archive = JournalArchive(journal, PintUnits())
        await keep(journal, old, *(added(i, {"t": 20.0 + i}, seen()) for i in (1, 2)))
        (chosen,) = await archive.find(a_spec("new", T), ())
        lease = await journal.lease("old", "ada")
        await journal.append(lease, core.Entry(seq=4, at=1.0, by="ada", fact=added(3, {"t": 25.0}, seen())))
        known = await archive.read(a_spec("new", T), chosen)
        assert [r.trial for r in known.rows] == ["old.1", "old.2"]
        (now,) = await archive.find(a_spec("new", T), ())
        assert now.entries == 4

    asyncio.run(story())


def test_without_names_all_that_overlap_are_found_the_oldest_first() -> None:
    async def story() -> None:
        journal = MemoryJournal()
        archive = JournalArchive(journal, PintUnits())
        for id, parameter in (("b", T), ("a", T), ("other", SOLVENT)):
            await keep(journal, a_spec(id, parameter), added(1, {parameter.name: 30.0}, seen()))
        await keep(journal, a_spec("empty", T))
        await keep(journal, a_spec("new", T), added(1, {"t": 30.0}, seen()))
        assert [c.campaign for c in await archive.find(a_spec("new", T), ())] == ["b", "a"]
        assert [c.campaign for c in await archive.find(a_spec("new", T), ("a", "b", "a"))] == ["a", "b"]

    asyncio.run(story())
