"""Chains wait, replicates do not, and a source has a step of its own."""

import pytest
from msgspec.structs import replace

from firstlight import core
from firstlight.procedures import Chain, Replicates, Source
from firstlight.testing.procedure import a_step, spec_of


def test_each_step_of_a_chain_waits_for_the_one_before() -> None:
    made = Chain().actions(spec_of([a_step("weigh"), a_step("make"), a_step("look")]), "films.1", {"x": 0.5})
    assert [a.id for a in made] == ["films.1.weigh", "films.1.make", "films.1.look"]
    assert [a.after for a in made] == [(), ("films.1.weigh",), ("films.1.make",)]


def test_replicates_are_numbered_and_independent() -> None:
    made = Replicates(replicates=3).actions(spec_of([a_step("make")]), "films.1", {"x": 0.5})
    assert [a.id for a in made] == ["films.1.make-1", "films.1.make-2", "films.1.make-3"]
    assert all(a.after == () for a in made)


@pytest.mark.parametrize(
    ("names", "problem"), [([], "at least one"), (["a", "a"], "names of their own"), (["a.b"], "dot"), ([""], "empty")]
)
def test_a_chain_refuses_steps_it_cannot_name(names: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Chain().actions(spec_of([a_step(name) for name in names]), "films.1", {"x": 0.5})


def test_replicates_take_one_step() -> None:
    with pytest.raises(ValueError, match="use a chain"):
        Replicates().actions(spec_of([a_step("weigh"), a_step("make")]), "films.1", {"x": 0.5})


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "3"])
def test_replicates_must_be_a_number_of_times(count: object) -> None:
    with pytest.raises(ValueError, match="whole number"):
        Replicates(replicates=count)  # type: ignore[arg-type]


def sourced(steps: list[str], *values: core.Scalar) -> core.CampaignSpec:
    sources = tuple(core.Source(value=v, cost=1.0) for v in values)
    fidelity = core.Fidelity(parameter="mesh", target=values[-1], sources=sources)
    return replace(spec_of([a_step(name, facility=f"at {name}") for name in steps]), fidelity=fidelity)


@pytest.mark.parametrize(
    ("values", "names"),
    [(("coarse", "fine"), ["coarse", "fine"]), ((1, 2.0), ["1", "2"]), ((10, 2.5e6), ["10", "2500000"])],
)
def test_a_trial_performs_the_step_of_its_source_and_no_other(
    values: tuple[core.Scalar, ...], names: list[str]
) -> None:
    spec = sourced(names[::-1], *values)
    for value, name in zip(values, names, strict=True):
        (action,) = Source().actions(spec, "films.1", {"mesh": value})
        assert (action.name, action.facility, action.after) == (name, f"at {name}", ())


@pytest.mark.parametrize("names", [["coarse"], ["coarse", "fine", "finest"], ["coarse", "coarse"], ["coarse", "Fine"]])
def test_every_source_has_one_step_and_every_step_a_source(names: list[str]) -> None:
    with pytest.raises(ValueError, match=f"its steps are {names[0]}.*, and its sources coarse, fine: name them alike"):
        Source().actions(sourced(names, "coarse", "fine"), "films.1", {"mesh": "fine"})


def test_a_step_for_each_source_needs_sources() -> None:
    with pytest.raises(ValueError, match="no sources are declared: add fidelity"):
        Source().actions(spec_of([a_step("fine")]), "films.1", {"x": 0.5})


def test_a_source_that_is_an_instrument_is_told_the_point_in_its_settings() -> None:
    settings: dict[str, object] = {"Amount": "{x}", "Label": "{sample} of {mesh}", "Substrate": 3}
    for operation, told in (("robot.Couple", {"Amount": 0.5, "Label": "films.1 of fine", "Substrate": 3}),
                            ("films:make", settings), ("command", settings)):  # fmt: skip
        spec = sourced(["coarse", "fine"], "coarse", "fine")
        steps = tuple(replace(s, operation=operation, settings=settings) for s in spec.procedure.steps)
        spec = replace(spec, procedure=replace(spec.procedure, steps=steps))
        (action,) = Source().actions(spec, "films.1", {"x": 0.5, "mesh": "fine"})
        assert action.settings == told
