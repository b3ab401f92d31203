"""Models of experiments: learned from campaigns, used without torch, and silent about what they do not know."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from firstlight import core
from firstlight.models._embedding import spelled
from firstlight.models._experiment_use import ExperimentModel, ExperimentPrior
from firstlight.models._weights import read_weights, write_weights
from firstlight.models.experiment import Experiment
from firstlight.testing import reactions

torch = pytest.importorskip("torch")

from ._archive import fit, read  # noqa: E402

FAMILY = Experiment(width=16)
SPEC = reactions.specification("new")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiment")
    examples = read(folder / "data", reactions.earlier(0, 30, 16), FAMILY)
    order = np.random.default_rng(0).permutation(len(examples)).tolist()
    return fit(folder / "model", FAMILY, examples.only(order[6:]), examples.only(order[:6]), steps=120)


def _expected(model: ExperimentModel, spec: core.CampaignSpec, observable: str = "profit") -> ExperimentPrior:
    prior = model.prior(spec, observable)
    assert isinstance(prior, ExperimentPrior)
    return prior


def test_it_knows_more_of_a_new_campaign_than_those_who_know_nothing(release: Path, tmp_path: Path) -> None:
    test = read(tmp_path / "test", reactions.earlier(5, 8, 16), FAMILY)
    train = read(tmp_path / "train", reactions.earlier(0, 30, 16), FAMILY)
    scores, bases = FAMILY.evaluate(release, test), FAMILY.baselines(train, test)
    assert scores["nll"] < min(b["nll"] for b in bases.values()) - 0.2
    assert scores["order"] > 0.4
    wrong = read(tmp_path / "wrong", reactions.earlier(5, 8, 16, wrong=True), FAMILY)
    assert FAMILY.evaluate(release, wrong)["nll"] > scores["nll"] + 0.5


def test_numpy_says_what_torch_does(release: Path, tmp_path: Path) -> None:
    test = read(tmp_path / "test", reactions.earlier(5, 6, 24), FAMILY)
    learner = FAMILY.begin(test, test, release, 0)
    assert learner.validate() == pytest.approx(FAMILY.evaluate(release, test)["nll"], abs=0.02)


def test_a_prior_is_a_gaussian_process_in_the_unit_of_the_observable(release: Path) -> None:
    prior = _expected(FAMILY.load(release), SPEC)
    u = np.random.default_rng(0).random((40, 5))
    columns = {p.name: [point[p.name] for point in reactions.points(u)] for p in reactions.PARAMETERS}
    mean, covariance = prior.mean(columns), prior.covariance(columns, columns)
    assert mean.shape == (40,)
    assert np.allclose(np.diag(covariance), prior.variance(columns), rtol=1e-4)
    assert np.linalg.eigvalsh(covariance).min() > -1e-8
    actual = np.mean(
        [reactions.profit(reactions.reaction(np.random.default_rng([3, k])), u) for k in range(30)], axis=0
    )
    assert np.corrcoef(mean, actual)[0, 1] > 0.55
    assert 0.001 < prior.noise < 0.15


def _with(**changes: object) -> core.CampaignSpec:
    first, *rest = reactions.PARAMETERS
    return replace(SPEC, parameters=(replace(first, **changes), *rest))


def test_it_says_why_it_has_nothing_to_say(release: Path) -> None:
    model = FAMILY.load(release)
    assert model.covers(SPEC, "profit") == ""
    assert "not purity" in model.covers(SPEC, "purity")
    assert "temperature is in K here" in model.covers(_with(unit="K"), "profit")
    assert "temperature is nowhere here" in model.covers(_with(low=200.0, high=300.0), "profit")
    other = replace(SPEC, parameters=tuple(replace(p, name=f"other {p.name}") for p in SPEC.parameters))
    assert "too few of the parameters" in model.covers(other, "profit")
    words = replace(SPEC, parameters=(core.Categorical(name="time", values=("a", "b")), *SPEC.parameters[2:]))
    assert model.covers(words, "profit")
    with pytest.raises(ValueError, match="nothing to say"):
        model.prior(other, "profit")


def test_it_is_less_sure_outside_what_was_tried_and_of_what_it_does_not_know(release: Path) -> None:
    model = FAMILY.load(release)
    (point,) = reactions.points(np.full((1, 5), 0.5))
    columns = {name: [value] for name, value in point.items()}
    inside = _expected(model, SPEC).variance(columns)
    wider = _expected(model, _with(high=300.0))
    assert np.allclose(wider.variance(columns), inside)
    assert wider.variance({**columns, "temperature": [250.0]}) > 4 * inside
    more = replace(SPEC, parameters=(*SPEC.parameters, core.Continuous(name="stirring", low=0, high=1)))
    assert _expected(model, more).variance({**columns, "stirring": [0.3]}) > inside
    fewer = replace(SPEC, parameters=SPEC.parameters[:4])
    assert np.isfinite(model.prior(fewer, "profit").mean(columns)).all()


def _words(seed: int, other: str) -> core.Earlier:
    """Campaigns that differ in their parameters, of which a solvent is one."""
    rng = np.random.default_rng(seed)
    solvents = ("DMF", "DMSO", "toluene", "hexane")
    parameters: tuple[core.Parameter, ...] = (
        core.Categorical(name="solvent", values=solvents), core.Integer(name=other, low=0, high=9),
    )  # fmt: skip
    points: list[core.Point] = [{"solvent": solvents[rng.integers(4)], other: int(rng.integers(10))} for _ in range(12)]
    rows = tuple(
        core.Row(trial=str(i), point=p, observations=(core.Observation(
            observable="y", value=5.0 + 2.0 * (str(p["solvent"])[0] == "D") + 0.1 * rng.standard_normal()),))
        for i, p in enumerate(points)
    )  # fmt: skip
    goal = core.Goal(objectives=(core.Objective(observable="y", direction="maximize"),))
    spec = core.CampaignSpec(id=f"w{seed}", parameters=parameters, goal=goal, procedure=core.ProcedureSpec(steps=()))
    bad = core.Row(trial="bad", point=points[0], rejected="spilt",
                   observations=(core.Observation(observable="y", value=1e6),))  # fmt: skip
    failed = core.Row(trial="failed", point=points[0], failure=core.Failure(cause="crashed"))
    return core.Earlier(campaign=spec.id, spec=spec, rows=(*rows, bad, failed))


def test_campaigns_with_other_parameters_and_words_teach_one_model(tmp_path: Path) -> None:
    archive = [_words(k, "base" if k % 2 else "ligand") for k in range(16)]
    examples = read(tmp_path / "data", archive, FAMILY)
    assert {len(told.values) for told in examples.items} == {12}  # Neither what failed nor what was rejected.
    folder = fit(tmp_path / "m", FAMILY, examples.only(range(12)), examples.only(range(12, 16)), steps=60)
    model = FAMILY.load(folder)
    assert {k.name for k in model.config.parameters} == {"solvent", "base", "ligand"}
    spec = archive[0].spec
    mean = model.prior(spec, "y").mean({"solvent": ["DMF", "hexane"], "ligand": [5, 5]})
    assert mean[0] - mean[1] == pytest.approx(2.0, abs=0.8)
    # A name that was never tried is less certain.
    new = replace(spec, parameters=(replace(spec.parameters[0], values=("DMF", "water")), spec.parameters[1]))
    known, strange = _expected(model, new, "y").variance({"solvent": ["DMF", "water"], "ligand": [5, 5]})
    assert strange > known


def test_files_do_not_matter_in_their_order_and_are_refused_where_they_are_no_campaigns(tmp_path: Path) -> None:
    archive = reactions.earlier(0, 3, 8)
    keys = [read(tmp_path / str(n), some, FAMILY).keys for n, some in enumerate((archive, archive[::-1]))]
    assert keys[0] == keys[1]
    with pytest.raises(ValueError, match="no option 'widht'; did you mean 'width'"):
        Experiment(widht=3)
    with pytest.raises(ValueError, match="3 readings of 'purity'"):
        read(tmp_path / "none", archive, Experiment(observable="purity"))
    half = tmp_path / "0" / "r0.parquet"
    half.write_bytes(half.read_bytes()[:300])
    from firstlight.models._family import Item  # noqa: PLC0415

    with pytest.raises(ValueError, match=r"d, trials\.parquet: it cannot be read"):
        FAMILY.read([Item(dataset="d", path="trials.parquet", digest="", size=0)], [half])


def test_units_that_differ_are_refused(tmp_path: Path) -> None:
    first, *rest = reactions.PARAMETERS
    archive = reactions.earlier(0, 2, 8)
    kelvin = replace(archive[1], spec=replace(archive[1].spec, parameters=(replace(first, unit="K"), *rest)))
    examples = read(tmp_path / "d", [archive[0], kelvin], FAMILY)
    with pytest.raises(ValueError, match="'temperature' is in K and in degC"):
        FAMILY.begin(examples, examples, None, 0)


def test_a_child_starts_where_its_parent_ended(release: Path, tmp_path: Path) -> None:
    more = read(tmp_path / "more", reactions.earlier(9, 12, 24), FAMILY)
    child = fit(tmp_path / "child", FAMILY, more, more, steps=20, parent=release, rate=1e-3)
    change = FAMILY.forgetting(child, release)["change"]
    assert 0 < change < 0.5
    assert FAMILY.forgetting(release, release)["change"] == 0
    assert FAMILY.load(child).config.campaigns == FAMILY.load(release).config.campaigns + 12


def test_a_release_that_does_not_fit_is_refused(release: Path, tmp_path: Path) -> None:
    weights = dict(read_weights(release / "model.safetensors"))
    (tmp_path / "config.json").write_text((release / "config.json").read_text())
    write_weights(tmp_path / "model.safetensors", {**weights, "mix": weights["mix"][:3]})
    with pytest.raises(ValueError, match="do not go together"):
        FAMILY.load(tmp_path)
    write_weights(tmp_path / "model.safetensors", {**weights, "mix": weights["mix"] * np.float32(np.nan)})
    with pytest.raises(ValueError, match="no finite numbers"):
        FAMILY.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"config": {"width": 16}}))
    with pytest.raises(ValueError, match="not that of a model of experiments"):
        FAMILY.load(tmp_path)


def test_it_is_used_without_torch(release: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from firstlight.models.experiment import Experiment; "
        "from firstlight.testing import reactions; "
        f"p = Experiment().load(Path({str(release)!r})).prior(reactions.specification('n'), 'profit'); "
        "p.mean({q.name: [q.low] for q in reactions.PARAMETERS}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_spelled_alike_lie_near() -> None:
    near = spelled("temperature", 24) @ spelled("temperatur", 24)
    assert near > 0.7 > spelled("temperature", 24) @ spelled("catalyst", 24)
    assert not spelled("", 24).any()
