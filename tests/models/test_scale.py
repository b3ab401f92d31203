"""The dial, and the arithmetic of what training takes; the page that shows it is held to it."""

import doctest
import itertools
import re
from pathlib import Path

import pytest

from firstlight.models import scale
from firstlight.models.scale import LETTERS, MACHINES, SCALES, parameters, plan, table, takes
from firstlight.models.sequence import Sequence

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "train-at-scale.md"


def test_what_the_page_computes_is_what_it_says() -> None:
    assert doctest.testmod(scale).failed == 0
    assert table([12, 20, 32]) in PAGE.read_text(), "print(table([12, 20, 32])) says what has to be there"


def test_the_dial_says_how_large_a_model_is() -> None:
    pytest.importorskip("torch")
    from firstlight.models._sequence_net import Network  # noqa: PLC0415

    for depth in (1, 3):
        told = Sequence(depth=depth, longest=64).options
        assert (told.layers, told.width, told.heads) == (depth, 64 * depth, depth)
        network = Network(LETTERS, told.width, told.layers, told.heads, told.longest)
        assert parameters(depth, 64) == sum(p.numel() for p in network.parameters())
    with pytest.raises(ValueError, match="depth says what width would say"):
        Sequence(depth=2, width=64)
    with pytest.raises(ValueError, match="depth is a number of layers"):
        Sequence(depth=0)


def test_more_depth_is_more_of_everything_and_more_devices_are_less_time() -> None:
    plans = [plan(depth) for depth in SCALES.values()]
    assert all(a.flops < b.flops and a.learning_rate >= b.learning_rate for a, b in itertools.pairwise(plans))
    one, eight = (takes(plan(20), MACHINES[name]) for name in ("one H100", "a node of 8 H100"))
    assert 6 < one.hours / eight.hours < 8 and one.talking == 0 < eight.talking
    assert takes(plan(32), MACHINES["one H100"]).fits and not takes(plan(64), MACHINES["one H100"]).fits


def test_every_machine_says_where_its_figures_are_from() -> None:
    assert all(re.search(r"data sheet|TOP500", machine.source) for machine in MACHINES.values())
