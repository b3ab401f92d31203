"""Arguments of an operation: typed, in its units, and every mistake told before anything is sent."""

import pytest
from msgspec.structs import replace

from firstlight import core
from firstlight.testing.world import Story, a_spec
from firstlight.units import PintUnits, split_quantity

DISPENSE = core.Operation(
    name="Dispense",
    arguments=(
        core.Argument(name="Volume", unit="uL", low=5.0, high=1000.0),
        core.Argument(name="Times", type="integer", low=1, default=1),
        core.Argument(name="Reagent", type="string", choices=("acid", "base"), default="acid"),
        core.Argument(name="Slow", type="boolean", default=False),
        core.Argument(name="Wells", type="array", default="", schema={"items": {"type": "string"}}),
    ),
)


def convert(text: str, unit: str) -> float:
    number, given = split_quantity(text)
    return PintUnits().convert(number, given, unit) if given else number


def check(**given: object) -> tuple[dict[str, object], tuple[str, ...]]:
    return core.check_arguments(DISPENSE, {"Wells": ["A1"], "Volume": 100, **given}, convert)


def test_arguments_come_typed_complete_and_in_units() -> None:
    taken, wrong = check(Volume="0.1 mL", Times=2.0)
    assert wrong == ()
    assert taken == {"Volume": 100.0, "Times": 2, "Reagent": "acid", "Slow": False, "Wells": ["A1"]}
    assert [type(taken[n]) for n in ("Volume", "Times")] == [float, int]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"Volume": "1 g"}, "Volume: g cannot be turned into uL"),
        ({"Volume": "2 mL"}, "Volume: 2000 uL is above the highest, 1000 uL"),
        ({"Volume": 4.9}, "Volume: 4.9 uL is below the lowest, 5 uL"),
        ({"Volume": True}, "Volume: True is not a number"),
        ({"Volume": float("nan")}, "Volume: nan is not a number"),
        ({"Volume": None}, "Volume is missing (in uL)"),
        ({"Times": 1.5}, "Times: 1.5 is not a whole number"),
        ({"Reagent": "gold"}, "Reagent: 'gold' is none of acid, base"),
        ({"Reagent": 3}, "Reagent: 3 is not a text"),
        ({"Slow": 1}, "Slow: 1 is not true or false"),
        ({"Wells": "A1"}, "Wells: 'A1' is not a list"),
        ({"Speed": 1}, "Dispense has no argument 'Speed'; it has: Volume, Times, Reagent, Slow, Wells"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(given: dict[str, object], said: str) -> None:
    assert check(**given)[1] == (said,)


def test_everything_wrong_is_told_at_once() -> None:
    assert len(check(Volume="1 g", Times=0, Reagent="gold", Speed=1)[1]) == 4


@pytest.mark.parametrize("volume", [5, 1000, "5 uL", "1 mL"])
def test_bounds_are_inclusive(volume: object) -> None:
    assert check(Volume=volume)[1] == ()


# ------------------------------------------------------------------ what comes of an action in doubt, and of samples

SAMPLE = core.Sample(id="c1.1", kind="well", location="plate-1/A1")


def lost(story: Story) -> str:
    action = story.begin()
    story.tell(core.ActionLost(action=action, reason="no answer came"))
    return action


def test_an_attested_action_counts_in_both_folds_and_spends_nothing_twice() -> None:
    story = Story(a_spec())
    action = lost(story)
    seen = core.Observation(observable="y", value=0.5)
    story.tell(core.ActionAttested(action=action, measured=core.Measured(observations=(seen,), samples=(SAMPLE,))))
    assert (story.campaign.succeeded, story.campaign.failed) == (1, 0)
    assert not list(story.campaign.ready("accepted"))
    (row,) = story.ledger.view().rows
    assert (row.failure, row.observations, row.samples) == (None, (seen,), (replace(SAMPLE, state="measured"),))


def test_only_what_is_lost_can_be_attested() -> None:
    story = Story(a_spec())
    with pytest.raises(core.InconsistentError):
        story.tell(core.ActionAttested(action=story.begin(), measured=core.Measured()))


def test_the_samples_of_a_failure_are_kept_as_they_came_last() -> None:
    story = Story(a_spec())
    failure = core.Failure(cause="instrument-fault", samples=(SAMPLE,))
    story.tell(core.ActionFailed(action=story.begin(), failure=failure))
    (row,) = story.ledger.view().rows
    assert row.samples == (replace(SAMPLE, state="failed"),)
