"""Recipes: what follows what, whose sample it is, and settings worked out from the point."""

import pytest
from msgspec.structs import replace

from firstlight import core
from firstlight.procedures.recipe import Recipe
from firstlight.testing.procedure import ProcedureContract, a_step, spec_of


class TestRecipe(ProcedureContract):
    steps = (a_step("weigh"), a_step("fill", after=()), a_step("look", after=("weigh", "fill")))

    def make(self) -> core.Procedure:
        return Recipe()


class TestReplicatedRecipe(ProcedureContract):
    steps = (a_step("weigh"), a_step("look"))

    def make(self) -> core.Procedure:
        return Recipe(replicates=3)


POINT: core.Point = {"acid": 20.0, "base": 0.5, "solvent": "water"}


def filled(value: object, replicates: int = 1, earlier: str = "weigh") -> list[object]:
    """One setting of the second of two steps, of each replicate."""
    spec = replace(
        spec_of([a_step(earlier), a_step("do", settings={"given": value})]),
        parameters=(
            core.Continuous(name="acid", low=0.0, high=100.0, unit="uL"),
            core.Continuous(name="base", low=0.0, high=100.0),
            core.Categorical(name="solvent", values=("water", "DMF")),
        ),
    )
    made = Recipe(replicates=replicates).actions(spec, "films.1", POINT)
    return [a.settings["given"] for a in made if a.name.startswith("do")]


def test_a_step_follows_the_one_before_or_those_it_names() -> None:
    steps = [a_step("a"), a_step("b"), a_step("c", after=()), a_step("d", after=("a", "c"))]
    made = Recipe().actions(spec_of(steps), "films.1", {"x": 0.5})
    assert {a.name: a.after for a in made} == {
        "a": (), "b": ("films.1.a",), "c": (), "d": ("films.1.a", "films.1.c")
    }  # fmt: skip


def test_replicates_follow_only_their_own_steps() -> None:
    made = Recipe(replicates=2).actions(spec_of([a_step("a"), a_step("b")]), "films.1", {"x": 0.5})
    assert [(a.name, a.after) for a in made] == [
        ("a-1", ()), ("b-1", ("films.1.a-1",)), ("a-2", ()), ("b-2", ("films.1.a-2",))
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{acid}", "20.0 uL"), ("{base}", 0.5), ("{solvent}", "water"), ("in {solvent}", "in water"),
        ("{200 - acid - base} uL", "179.5 uL"), ("{acid + base}", 20.5), ("{-acid}", -20.0),
        ("{max(acid, 50)} uL and {min(base, 1)}", "50 uL and 0.5"), ("{(acid + 1) * 2 / 3} uL", "14 uL"),
        ("{sample}", "films.1"), ("plain", "plain"), (7, 7), (["{acid}", {"deep": "{solvent}"}],
        ["20.0 uL", {"deep": "water"}]), ("{weigh.Mass}", "{weigh.Mass}"), ("{weigh.Mass} mg", "{weigh.Mass} mg"),
    ],
)  # fmt: skip
def test_what_stands_in_braces_is_worked_out(text: object, value: object) -> None:
    assert filled(text) == [value]


def test_every_replicate_has_its_own_sample_and_its_own_earlier_results() -> None:
    assert filled("{sample}", 2) == ["films.1-1", "films.1-2"]
    assert filled("{weigh.Mass}", 2) == ["{weigh-1.Mass}", "{weigh-2.Mass}"]
    assert filled("{other.Mass}", 2) == ["{other.Mass}", "{other.Mass}"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{200 - acit}", "there is no parameter 'acit'; there are: acid, base, solvent"),
        ("{acid", "a brace without its other"),
        ("{acid / 0}", "division"),
        ("{acid * solvent}", "solvent is 'water', not a number"),
        ("{acid ** 2}", "a sum has numbers"),
        ("{__import__('os')}", "a sum has numbers"),
        ("{acid.real + 1}", "a sum has numbers"),
        ("{1e999 * acid}", "comes to inf"),
        ("{True + 1}", "a sum has numbers"),
        ("{acid +}", "cannot be worked out"),
    ],
)
def test_a_setting_that_cannot_be_worked_out_is_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="setting given of step do: ") as caught:
        filled(text)
    assert said in str(caught.value)


def test_a_step_cannot_follow_what_comes_later_or_is_not_there() -> None:
    with pytest.raises(
        ValueError, match="step a is to be after 'b', and the steps before it are none: it is the first"
    ):
        Recipe().actions(spec_of([a_step("a", after=("b",)), a_step("b")]), "films.1", {"x": 0.5})
    with pytest.raises(ValueError, match="step b is to be after 'z', and the steps before it are a"):
        Recipe().actions(spec_of([a_step("a"), a_step("b", after=("z",))]), "films.1", {"x": 0.5})


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_steps_need_names_of_their_own(names: list[str]) -> None:
    with pytest.raises(ValueError, match="names of their own"):
        Recipe().actions(spec_of([a_step(name) for name in names]), "films.1", {"x": 0.5})


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "3"])
def test_replicates_are_a_whole_number(count: object) -> None:
    with pytest.raises(ValueError, match="whole number"):
        Recipe(replicates=count)  # type: ignore[arg-type]
