"""Which facility the coordinator chooses, and what it says of it."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from firstlight import core
from firstlight.facilities.coordinator import FRESH, FRESH_SILENCE, Coordinator
from firstlight.testing.facility import FakeFacility

GIB = 2**30
LONG = "lets an action run for 60 s, and it may take 2 h"


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Told(FakeFacility):
    """A facility that says what it is told to say, and counts how often it was asked."""

    def __init__(self, slots: int = 4, **says: Any) -> None:
        super().__init__(lambda action: core.Measured(), slots)
        self.says, self.asked = core.FacilityStatus(**{"state": "up", **says}), 0

    async def status(self, action: core.Action | None = None) -> core.FacilityStatus:
        self.asked += 1
        return await super().status(action)


class Mute:
    """A facility that says nothing of itself."""

    slots = 3


def action(**changes: Any) -> core.Action:
    return core.Action(
        **{"id": "c1.1.look", "trial": "c1.1", "facility": "", "name": "look", "operation": "o", "point": {}, **changes}
    )


def place(
    facilities: Mapping[str, Any], wanted: core.Action | None = None, aside: Mapping[str, str] | None = None,
    **load: int,
) -> core.Placement:  # fmt: skip
    async def ask() -> core.Placement:
        coordinator = Coordinator(facilities)
        try:
            return await coordinator.place(wanted or action(), lambda name: load.get(name, 0), aside or {})
        finally:
            await coordinator.close()

    return asyncio.run(ask())


def test_a_queue_speaks_against_a_facility() -> None:
    found = place({"polaris": Told(queued=14, wait=7300.0), "local": Told()})
    assert found == core.Placement(
        facility="local",
        reason="free now; polaris has 14 jobs waiting, about 2 h",
        others={"polaris": "has 14 jobs waiting, about 2 h"},
    )


def test_with_nothing_between_them_the_order_decides() -> None:
    both = {"local": Told(), "polaris": Told(queued=2, wait=40.0)}
    assert place(both).facility == "local"
    found = place(both, action(facilities=("polaris", "local")))
    assert found.facility == "polaris"
    assert found.others == {"local": "would do as well, and comes later in the order"}


def test_waits_that_differ_by_little_are_the_same() -> None:
    near = {"a": Told(wait=5000.0, price=1.0), "b": Told(wait=4500.0, price=2.0)}
    assert place(near).facility == "a"
    assert place({"a": Told(wait=11000.0), "b": Told(wait=4500.0)}).facility == "b"


def test_a_free_slot_is_better_than_one_to_wait_for() -> None:
    found = place({"a": Told(slots=2), "b": Told(slots=2)}, a=2, b=1)
    assert (found.facility, found.others) == ("b", {"a": "has all its 2 slots taken"})
    found = place({"a": Told(slots=2), "b": Told(slots=1)}, a=6, b=4)
    assert (found.facility, found.reason.split(";")[0]) == ("a", "it has all its 2 slots taken")
    # A turn at one of them is over long before that queue is.
    assert place({"a": Told(slots=2), "b": Told(wait=90000.0)}, a=2).facility == "a"
    short = action(limits=core.Limits(seconds=1.0))
    assert place({"a": Told(slots=2), "b": Told()}, short, a=2).facility == "b"


def test_cost_decides_where_all_tell_theirs() -> None:
    wanted = action(resources=core.Resources(nodes=2), limits=core.Limits(seconds=1800.0))
    found = place({"a": Told(price=4.0), "b": Told(price=3.0)}, wanted)
    assert (found.facility, found.others) == ("b", {"a": "costs more (4 against 3)"})
    assert place({"a": Told(price=4.0), "b": Told(price=3.0), "c": Told()}, wanted).facility == "a"


@pytest.mark.parametrize(
    ("says", "needs", "why"),
    [
        ({"state": "down", "message": "until Friday"}, {}, "is down (until Friday)"),
        ({"unfit": "runs no containers"}, {}, "runs no containers"),
        ({"nodes": 1}, {"resources": core.Resources(nodes=2)}, "has 1 node, and it needs 2"),
        ({"cores": 8}, {"resources": core.Resources(processes=3, cores=4)}, "has 8 cores a node, and it needs 12"),
        ({"gpus": 0}, {"resources": core.Resources(gpus=1)}, "has no GPUs a node, and it needs 1"),
        ({"memory": 8 * GIB}, {"limits": core.Limits(memory=16 * GIB)}, "has 8 GiB a node, and it may take 16"),
        ({"seconds": 60.0}, {"limits": core.Limits(seconds=7200.0)}, LONG),
    ],
)  # fmt: skip
def test_what_cannot_take_it_is_out(says: dict[str, Any], needs: dict[str, Any], why: str) -> None:
    found = place({"a": Told(**says), "b": Told(wait=99999.0)}, action(**needs))
    assert (found.facility, found.others) == ("b", {"a": why})
    with pytest.raises(core.Unavailable, match="nobody can take it now: a "):
        place({"a": Told(**says)}, action(**needs))


@pytest.mark.parametrize(
    ("says", "needs"),
    [
        ({"nodes": 2, "cores": 8, "gpus": 4, "memory": 8 * GIB, "seconds": 60.0}, {}),
        ({"cores": 8}, {"resources": core.Resources(nodes=2, processes=4, cores=4)}),
        ({"memory": 8 * GIB}, {"resources": core.Resources(nodes=2), "limits": core.Limits(memory=16 * GIB)}),
        ({"seconds": 60.0}, {"limits": core.Limits(seconds=60.0)}),
    ],
)
def test_what_just_fits_is_in(says: dict[str, Any], needs: dict[str, Any]) -> None:
    assert place({"a": Told(**says)}, action(**needs)).facility == "a"


def test_degraded_comes_last() -> None:
    found = place({"a": Told(state="degraded", message="one rack"), "b": Told(wait=99999.0)})
    assert (found.facility, found.others) == ("b", {"a": "is degraded (one rack)"})
    assert (
        place({"a": Told(state="degraded", message="one rack")}).reason == "free now, though it is degraded (one rack)"
    )


def test_what_is_set_aside_is_not_asked() -> None:
    a = Told()
    found = place({"a": a, "b": Told()}, aside={"a": "has gone away"})
    assert (found.facility, found.others, a.asked) == ("b", {"a": "has gone away"}, 0)


def test_one_that_says_nothing_is_up_with_its_slots() -> None:
    assert place({"a": Mute(), "b": Told()}).facility == "a"
    assert place({"a": Mute(), "b": Told()}, a=3).others == {"a": "has all its 3 slots taken"}


def test_one_out_of_reach_and_one_that_cannot_be_made_do_not_hold_up_the_rest() -> None:
    class Some(Mapping[str, Any]):
        def __getitem__(self, name: str) -> Any:
            if name == "broken":
                raise core.Unavailable("there is no option 'qeue'")
            return gone if name == "gone" else good

        def __iter__(self) -> Iterator[str]:
            return iter(("broken", "gone", "good"))

        def __len__(self) -> int:
            return 3

    gone, good = Told(), Told()
    gone.reachable = False
    found = place(Some())
    assert found.facility == "good"
    assert found.others == {
        "broken": "cannot be reached (there is no option 'qeue')",
        "gone": "cannot be reached (the fake facility is out of reach)",
    }


def test_many_ask_at_once_and_it_is_asked_once_in_a_while() -> None:
    a, clock = Told(), Clock()

    async def story() -> list[int]:
        coordinator, counts = Coordinator({"a": a}, clock=clock), []
        for pause in (0.0, FRESH - 0.1, FRESH + 0.1):
            clock.now += pause
            await asyncio.gather(*(coordinator.place(action(id=f"c1.{n}.look"), lambda name: 0) for n in range(20)))
            counts.append(a.asked)
        await coordinator.place(action(resources=core.Resources(cores=8)), lambda name: 0)
        counts.append(a.asked)
        assert await coordinator.away("a") == ""
        return counts

    assert asyncio.run(story()) == [1, 1, 2, 3]


def test_nobody_waits_twice_for_one_that_does_not_answer() -> None:
    class Stuck(Told):
        stuck = True

        async def status(self, action: core.Action | None = None) -> core.FacilityStatus:
            await asyncio.sleep(60 if self.stuck else 0)
            return await super().status(action)

    a, clock = Stuck(), Clock()

    async def story() -> tuple[list[float], core.Placement]:
        coordinator, took = Coordinator({"a": a, "b": Told(wait=1e5)}, answer=0.2, clock=clock), []
        for _ in range(3):
            began = time.monotonic()
            found = await coordinator.place(action(), lambda name: 0)
            took.append(time.monotonic() - began)
            clock.now += FRESH_SILENCE + 1
        assert found.others == {"a": "has not answered for 0.2 s"}
        assert await coordinator.away("a") == "has not answered for 0.2 s"
        a.stuck = False
        await asyncio.sleep(0.3)
        clock.now += FRESH_SILENCE + 1
        await coordinator.place(action(), lambda name: 0)
        await asyncio.sleep(0.01)
        found = await coordinator.place(action(), lambda name: 0)
        await coordinator.close()
        return took, found

    took, found = asyncio.run(story())
    assert took[0] >= 0.2 > took[1], "the second time its silence is known"
    assert found.facility == "a", "and once it speaks, that is heard"


def test_down_is_away() -> None:
    async def story() -> list[str]:
        three: dict[str, Any] = {"a": Told(state="down", message="power cut"), "b": Told(state="degraded"), "c": Mute()}
        coordinator = Coordinator(three)
        return [await coordinator.away(name) for name in "abc"]

    assert asyncio.run(story()) == ["is down (power cut)", "", ""]


def test_patience_is_above_zero() -> None:
    with pytest.raises(ValueError, match="patience must be above 0 seconds, not 0"):
        Coordinator({}, patience=0)


def test_whoever_stops_waiting_for_an_answer_leaves_it_to_the_others() -> None:
    class Slow(Told):
        async def status(self, action: core.Action | None = None) -> core.FacilityStatus:
            await asyncio.sleep(0.2)
            return await super().status(action)

    a = Slow()

    async def story() -> core.Placement:
        coordinator = Coordinator({"a": a})
        first, second = (asyncio.create_task(coordinator.place(action(), lambda name: 0)) for _ in range(2))
        await asyncio.sleep(0.05)
        first.cancel()
        found = await second
        await coordinator.close()
        return found

    assert asyncio.run(story()).facility == "a"
    assert a.asked == 1


def test_the_sentence_names_first_what_might_have_been_chosen_and_is_short() -> None:
    down = Told(state="down", message="a long story of " + "a cooling pump " * 20)
    found = place({"a": down, "b": Told(wait=7200.0), "c": Told(), "d": Told(unfit="e"), "f": Told(unfit="g")})
    assert found.facility == "c"
    assert found.reason.startswith("free now; b would begin in about 2 h; a is down (a long story of a cooling pump")
    assert found.reason.endswith(" ...; d e"), "the rest is in the others"
    assert len(found.others["a"]) > 300
    assert found.others["f"] == "g"
