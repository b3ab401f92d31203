"""What families learn from goes where their module goes, and they learn the same there."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from firstlight.models import _loop  # noqa: E402
from firstlight.models._family import Examples, Learnable  # noqa: E402
from firstlight.models._spec import Training  # noqa: E402
from firstlight.models._workers import Workers  # noqa: E402
from firstlight.models.experiment import Experiment  # noqa: E402
from firstlight.models.potential import Potential  # noqa: E402
from firstlight.models.sequence import Sequence  # noqa: E402
from firstlight.models.table import Table  # noqa: E402
from firstlight.testing import reactions  # noqa: E402

from . import _archive  # noqa: E402
from ._elsewhere import DEVICE, Elsewhere  # noqa: E402
from .test_table import _examples  # noqa: E402

Made = Callable[[Path], Learnable]


def _table(folder: Path) -> Learnable:
    train, held = (_examples(folder, Table(target="y"), seed) for seed in (0, 1))
    return Table(target="y", members=2, width=8).begin(train, held, None, 0)


def _sequence(folder: Path) -> Learnable:
    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice(list("ACGU"), n % 20 + 5)) for n in range(40)]
    examples = Examples(texts, texts, texts)
    return Sequence(width=16, layers=1, heads=2, longest=32).begin(examples, examples.only(range(8)), None, 0)


def _experiment(folder: Path) -> Learnable:
    family = Experiment(width=8)
    examples = _archive.read(folder / "archive", reactions.earlier(0, 6, 12), family)
    return family.begin(examples.only(range(4)), examples.only(range(4, 6)), None, 0)


def _potential(folder: Path) -> Learnable:
    pytest.importorskip("chgnet")
    from . import test_potential  # noqa: PLC0415 (without CHGNet it is skipped as a whole)

    some = test_potential.read_all(test_potential.clusters(5), folder)
    return Potential().begin(some.only(range(4)), some.only(range(4, 5)), None, 0)


def _said(learnable: Learnable) -> tuple[float, float, list[float]]:
    """Loss, validation, and the slopes of what is trained, each as one number."""
    loss = learnable.loss([0, 1, 3], 1)
    loss.backward()  # type: ignore[no-untyped-call]
    trained = [p for n, p in learnable.module.named_parameters() if n not in learnable.frozen]
    slopes = [float(p.grad.norm()) for p in trained if p.grad is not None]
    learnable.module.zero_grad()
    with torch.no_grad():
        return float(loss.detach()), learnable.validate(), slopes


@pytest.mark.parametrize("made", [_table, _sequence, _experiment, _potential])
def test_a_family_says_the_same_elsewhere(made: Made, tmp_path: Path) -> None:
    learnable = made(tmp_path)
    here = _said(learnable)
    with Elsewhere() as elsewhere:
        learnable.module.to(DEVICE)
        there = _said(learnable)
        before = elsewhere.moved
        learnable.loss([0, 1, 3], 1)
        again = elsewhere.moved - before
    assert there[:2] == pytest.approx(here[:2], rel=1e-4)
    assert there[2] == pytest.approx(here[2], rel=1e-3, abs=1e-6)
    if made is not _experiment:  # Each step takes other readings of its campaigns.
        assert again < 200, "the data are there already, and little more than their numbers goes again"


def test_the_loop_trains_elsewhere_as_it_does_here(tmp_path: Path) -> None:
    how = Training(steps=2, batch=3, validate=1, average=0.9)
    here = _loop.train(_sequence(tmp_path), how, Workers(0, 1, torch.device("cpu")), tmp_path / "here")
    learnable = _sequence(tmp_path)
    with Elsewhere():
        there = _loop.train(learnable, how, Workers(0, 1, DEVICE), tmp_path / "there")
        assert all(p.device == DEVICE for p in learnable.module.parameters())
    assert [s.validation for s in there.curve] == pytest.approx([s.validation for s in here.curve], rel=1e-4)
    assert {t.device.type for t in there.weights.values()} == {"cpu"}


@pytest.mark.parametrize("made", [_table, _sequence, _experiment])
def test_a_batch_in_pieces_is_the_same_batch(made: Made, tmp_path: Path) -> None:
    learnable = made(tmp_path)
    pieces = [float(learnable.loss([i], 1).detach()) for i in (0, 2, 3)]
    assert float(learnable.loss([0, 2, 3], 1).detach()) == pytest.approx(np.mean(pieces), rel=1e-4)
    for at_once in (None, 1):
        how = Training(steps=1, batch=3, validate=1, at_once=at_once)
        curve = _loop.train(made(tmp_path), how, Workers(0, 1, torch.device("cpu"))).curve
        pieces.append(curve[-1].validation)
    assert pieces[-1] == pytest.approx(pieces[-2], rel=1e-4)


def test_what_stays_behind_is_found() -> None:
    """The device of these tests does not let it pass."""
    with Elsewhere():
        module = torch.nn.Linear(2, 2).to(DEVICE)
        with pytest.raises(AssertionError, match="has tensors on"):
            module(torch.ones(3, 2))
