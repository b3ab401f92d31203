"""What is learned from never judges: not by its group, nor by what is the same, nor across generations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstlight.models._family import Examples
from firstlight.models._spec import Split
from firstlight.models._split import mark, split


def _examples(groups: list[str], keys: list[str] | None = None, parts: list[str | None] | None = None) -> Examples:
    made = keys or [str(i) for i in range(len(groups))]
    return Examples(groups, groups, made, parts)  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 30), min_size=40, max_size=200), st.integers(0, 5), st.data())
def test_no_group_and_no_example_is_in_two_parts(numbers: list[int], seed: int, data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.integers(0, 300).map(str), min_size=len(numbers), max_size=len(numbers)))
    examples = _examples([f"g{n}" for n in numbers], keys)
    try:
        parts = split(examples, Split(seed=seed))
    except ValueError:
        return
    assert sorted(i for chosen in parts.values() for i in chosen) == list(range(len(numbers)))
    for of in (examples.groups, examples.keys):
        seen = [{of[i] for i in chosen} for chosen in parts.values()]
        assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


def test_the_parts_are_about_as_large_as_asked() -> None:
    parts = split(_examples([f"g{i}" for i in range(200)]), Split(validation=0.1, test=0.2))
    assert {p: len(found) for p, found in parts.items()} == {"train": 140, "validation": 20, "test": 40}


def test_another_order_of_the_data_is_the_same_split() -> None:
    names = [f"g{i}" for i in range(30)]
    there, back = (split(_examples(order), Split()) for order in (names, names[::-1]))
    assert {names[i] for i in there["test"]} == {names[::-1][i] for i in back["test"]}


def test_what_the_parent_learned_from_judges_no_child() -> None:
    names = [f"g{i}" for i in range(40)]
    before = {mark(n): p for p, at in split(_examples(names), Split()).items() for n in [names[i] for i in at]}
    more = names + [f"new{i}" for i in range(10)]
    # Another seed would deal them out anew.
    now = split(_examples(more), Split(seed=7), before)
    for part, chosen in now.items():
        assert all(before[mark(more[i])] == part for i in chosen if mark(more[i]) in before)
    assert any(more[i].startswith("new") for i in now["train"])


def test_groups_that_share_an_example_go_where_one_was_learned_from() -> None:
    names = [f"g{i}" for i in range(10)]
    before = {mark("g0"): "train", mark("g1"): "test"}
    parts = split(_examples([*names, "g0", "g1"], [*map(str, range(10)), "same", "same"]), Split(), before)  # type: ignore[arg-type]
    assert {0, 1, 10, 11} <= set(parts["train"])


def test_the_parts_of_the_data_are_kept_and_may_not_tear_a_group() -> None:
    names = [f"g{i}" for i in range(6)]
    told: list[str | None] = ["test", "validation", "train", None, None, None]
    parts = split(_examples(names, parts=told), Split())
    assert 0 in parts["test"] and 1 in parts["validation"] and 2 in parts["train"]
    with pytest.raises(ValueError, match=r"g0 .* in test and in train"):
        split(_examples(["g0", "g0", "g1"], parts=["test", "train", None]), Split())


def test_too_few_groups_are_said() -> None:
    with pytest.raises(ValueError, match="at least three groups"):
        split(_examples(["a"] * 5 + ["b"] * 5), Split())
