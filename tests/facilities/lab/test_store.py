"""What a laboratory remembers: reservations are all or nothing, and last as long as they must."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from firstlight.facilities.lab._store import RunRow, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "lab.db")
    yield made
    made.close()


def test_a_reservation_is_all_or_nothing(store: Store) -> None:
    assert store.hold({"handler": 1, "plate-1": 1}, "a", "me", 30.0) == ""
    assert store.hold({"mover": 1, "plate-1": 1}, "b", "you", 30.0) == "plate-1 is reserved by a"
    assert store.held() == {"handler": ("a",), "plate-1": ("a",)}
    store.release("a", "plate-1")
    assert store.hold({"mover": 1, "plate-1": 1}, "b", "you", 30.0) == ""
    store.release("b")
    assert store.held() == {"handler": ("a",)}


def test_a_resource_with_room_for_two_takes_two(store: Store) -> None:
    assert store.hold({"furnace": 2}, "a", "me", None) == ""
    assert store.hold({"furnace": 2}, "b", "me", None) == ""
    assert store.hold({"furnace": 2}, "c", "me", None) == "furnace is reserved by a, b"


def test_a_reservation_on_which_nothing_was_started_ends_by_itself(store: Store) -> None:
    store.hold({"handler": 1}, "a", "me", 0.05)
    assert store.hold({"handler": 1}, "b", "you", 1.0) != ""
    time.sleep(0.06)
    assert store.hold({"handler": 1}, "b", "you", None) == ""
    time.sleep(0.06)
    assert store.held() == {"handler": ("b",)}


def test_another_process_sees_what_is_reserved(store: Store, tmp_path: Path) -> None:
    store.hold({"handler": 1}, "a", "me", None)
    other = Store(tmp_path / "lab.db")
    assert other.hold({"handler": 1}, "b", "you", None) == "handler is reserved by a"
    other.close()


def test_only_one_takes_over_a_run_of_a_process_that_is_gone(store: Store) -> None:
    store.begin(RunRow("a", "handler", "Dispense", {}, (), "starting", "", "", {}, 0.0, 0.0))
    store.hold({"handler": 1}, "a", "gone", None)
    assert store.orphans() == [("a", "gone")]
    assert store.claim("a", "gone", "me")
    assert not store.claim("a", "gone", "you")
    store.settle("a", "succeeded")
    assert store.orphans() == []


def test_a_change_that_fails_leaves_no_trace(store: Store) -> None:
    with pytest.raises(RuntimeError), store.changing():
        store.hold({"handler": 1}, "a", "me", None)
        raise RuntimeError
    assert store.held() == {}


def test_a_run_that_somebody_else_has_settled_does_not_begin_again(store: Store) -> None:
    store.begin(RunRow("a", "handler", "Dispense", {}, (), "starting", "", "", {}, 0.0, 0.0))
    store.settle("a", "failed", "the needle is clogged")
    store.started("a", "handle")
    assert store.runs("running") == []
