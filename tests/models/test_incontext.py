"""The transformer that learns in context: the same in numpy and torch, blind to what comes later, quiet elsewhere."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from firstlight import core
from firstlight.models._experiment_place import placed
from firstlight.models._family import Examples
from firstlight.models._incontext_net import EDGE, TAIL, answered, log_density, moments, told
from firstlight.models._incontext_use import InContextPrior, before, chain
from firstlight.models._spec import Training
from firstlight.models.experiment import Experiment
from firstlight.testing import reactions

torch = pytest.importorskip("torch")

from firstlight.models import _loop  # noqa: E402
from firstlight.models._experiment_train import cut, stacked  # noqa: E402
from firstlight.models._workers import workers  # noqa: E402

from ._archive import fit, read  # noqa: E402

FAMILY = Experiment(kind="transformer", width=16, depth=2)
SPEC = reactions.specification("new")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return read(tmp_path_factory.mktemp("data"), reactions.earlier(0, 24, 16), FAMILY)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, examples: Examples) -> Path:
    folder = tmp_path_factory.mktemp("incontext") / "model"
    return fit(folder, FAMILY, examples.only(range(18)), examples.only(range(18, 24)), steps=40)


def test_it_learns_what_the_level_alone_does_not_say(release: Path, examples: Examples) -> None:
    scores, bases = FAMILY.evaluate(release, examples), FAMILY.baselines(examples, examples)
    assert scores["nll"] < bases["level"]["nll"] - 0.2
    assert scores["order"] > 0.2
    assert FAMILY.forgetting(release, release)["change"] == 0


def test_numpy_says_what_torch_does_all_at_once_or_one_by_one(release: Path, examples: Examples) -> None:
    learner = FAMILY.begin(examples, examples, release, 0)
    model = FAMILY.load(release)
    campaign = placed(model.config, examples.items[0])
    ours = chain(model.weights, *campaign)
    with torch.no_grad():
        theirs = learner.module(*stacked([campaign], torch.device("cpu")))
        # Filled up to a longer one it is the same.
        filled = learner.module(*stacked([cut(campaign, np.arange(9)), campaign], torch.device("cpu")))
    assert -ours.mean() == pytest.approx(float(theirs), abs=1e-4)
    assert filled[1] == pytest.approx(float(theirs), abs=1e-4)
    assert -ours[:9].mean() == pytest.approx(float(filled[0]), abs=1e-4)
    tokens, y, _ = campaign
    w = model.weights
    for n in (0, 5):
        t, z, e = cut(campaign, np.arange(n))
        known = told(w, t, z.astype(np.float32), np.sqrt(e).astype(np.float32))
        one = answered(w, cut(campaign, np.arange(n, n + 1))[0], known)
        assert log_density(one, y[[n]], np)[0] == pytest.approx(ours[n], abs=1e-3)
    assert before(w, tokens) == pytest.approx(model.unread(tokens))


def test_no_reading_is_told_from_itself_or_a_later_one(release: Path, examples: Examples) -> None:
    model = FAMILY.load(release)
    tokens, y, extra = placed(model.config, examples.items[1])
    other = y.copy()
    other[6:] += 1.0
    now, then = (chain(model.weights, tokens, v, extra) for v in (y, other))
    assert np.allclose(now[:6], then[:6])
    assert not np.allclose(now[7:], then[7:])


def test_a_histogram_is_a_density_with_the_moments_that_it_says() -> None:
    rng = np.random.default_rng(0)
    scores = 2.0 * rng.standard_normal((1, 82))
    chances = scores - np.log(np.exp(scores).sum())
    x = np.linspace(-EDGE - 8 * TAIL, EDGE + 8 * TAIL, 20_001)
    density = np.exp(log_density(np.repeat(chances, len(x), 0), x, np))
    step = x[1] - x[0]
    assert density.sum() * step == pytest.approx(1.0, abs=1e-3)
    mean, variance = moments(chances)
    assert mean[0] == pytest.approx((x * density).sum() * step, abs=3e-3)
    assert variance[0] == pytest.approx(((x - mean) ** 2 * density).sum() * step, abs=5e-3)


def test_what_was_read_nearby_is_what_it_expects(release: Path) -> None:
    prior = FAMILY.load(release).prior(SPEC, "profit")
    assert isinstance(prior, InContextPrior)
    u = np.random.default_rng(1).random((12, 5))
    columns = {p.name: [point[p.name] for point in reactions.points(u)] for p in reactions.PARAMETERS}
    first, _ = prior.given({n: c[:0] for n, c in columns.items()}, np.empty(0), np.empty(0)).at(columns)
    assert first == pytest.approx(prior.mean(columns))
    high, low = (prior.given(columns, prior.level + s * prior.spread * np.ones(12), np.zeros(12)) for s in (1.0, -1.0))
    assert (high.at(columns)[0] > low.at(columns)[0]).all()
    assert (high.at(columns)[1] > 0).all()
    assert len(high.evidence) == 12
    # In the unit of the observable a density is not what it is in spreads.
    assert high.evidence[0] == pytest.approx(
        float(chain(prior._weights, *high._told)[0]) - np.log(prior.spread), abs=1e-5
    )


def test_of_what_it_has_not_seen_it_says_nothing(release: Path) -> None:
    model = FAMILY.load(release)
    first, *rest = SPEC.parameters
    assert model.covers(SPEC, "profit") == ""
    wider = replace(SPEC, parameters=(replace(first, high=200.0), *rest))
    assert "temperature may be beyond what it has seen" in model.covers(wider, "profit")
    more = replace(SPEC, parameters=(*SPEC.parameters, core.Continuous(name="stirring", low=0, high=1)))
    assert "it has not seen stirring" in model.covers(more, "profit")


def test_a_run_that_was_killed_goes_on_to_the_last_bit(tmp_path: Path, examples: Examples) -> None:
    how = Training(steps=6, batch=4, learning_rate=1e-3, validate=2)

    def train(folder: Path | None, killed_at: int | None = None) -> dict[str, object]:
        def report(progress: object) -> None:
            if isinstance(progress, dict) and progress["step"] == killed_at:
                raise KeyboardInterrupt

        learner = FAMILY.begin(examples, examples, None, 0)
        with workers(tmp_path / ".meeting") as crew:
            return dict(_loop.train(learner, how, crew, folder, report).weights)

    whole = train(None)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "c", killed_at=4)
    again = train(tmp_path / "c")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_it_learns_from_what_a_gaussian_process_expects(tmp_path: Path, examples: Examples) -> None:
    gp = Experiment(width=8)
    parent = fit(tmp_path / "gp", gp, examples, examples, steps=2)
    plain, taught = FAMILY.begin(examples, examples, None, 0), FAMILY.begin(examples, examples, parent, 0)
    with torch.no_grad():
        assert float(plain.loss([0, 1], 3)) != float(taught.loss([0, 1], 3))
    child = fit(tmp_path / "child", FAMILY, examples, examples, steps=1, parent=parent)
    assert FAMILY.load(child).config.kind == "transformer"
    assert FAMILY.forgetting(child, parent)["change"] > 0
    with pytest.raises(ValueError, match="the parent is a transformer"):
        gp.begin(examples, examples, child, 0)


def test_its_options_are_checked() -> None:
    for wrong in ({"width": 18}, {"depth": 0}, {"synthetic": 1.0}):
        with pytest.raises(ValueError, match="of a transformer width must be a multiple of 4"):
            Experiment(kind="transformer", **wrong)
    with pytest.raises(ValueError, match="experiment"):
        Experiment(kind="transfromer")
