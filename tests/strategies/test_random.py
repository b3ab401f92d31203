"""Random points on a box cost the same after any number of trials."""

from collections.abc import Iterator, Sequence
from typing import NoReturn

from firstlight import core
from firstlight.strategies.designs import Random
from firstlight.testing.world import a_spec


class Shut(Sequence[core.Row]):
    """A million rows that nobody may look at."""

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: object) -> NoReturn:
        raise AssertionError("a row was looked at")

    def __iter__(self) -> Iterator[core.Row]:
        raise AssertionError("the rows were walked")


def test_on_a_box_no_earlier_trial_is_looked_at() -> None:
    proposals = Random().propose(a_spec(), core.Results(rows=Shut()), 3, seed=1)
    assert len({p.point["x"] for p in proposals}) == 3
