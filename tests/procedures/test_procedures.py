"""Chains wait, replicates do not."""

import pytest

from firstlight.procedures import Chain, Replicates
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
