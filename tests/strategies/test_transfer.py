"""Earlier campaigns help where they are right, and cost little where they mislead or say nothing."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from msgspec.structs import replace

from firstlight import core
from firstlight.strategies._common import space_of
from firstlight.strategies._earlier import translated
from firstlight.strategies._encoding import Encoding
from firstlight.strategies.bayes import Bayes
from firstlight.strategies.transfer import Transfer
from firstlight.testing.strategy import SPECS, check_point, outcome, tried

from .test_bayes import LEAST, numbers, spec

SOLVENTS = ("DMF", "DMSO", "THF", "MeCN", "EtOH", "PhMe")
GRID = tuple((s, float(t), c) for s in SOLVENTS for t in range(20, 121, 10) for c in (0.1, 0.2, 0.4, 0.8))
POOL = core.Pool(columns=("solvent", "t", "c"), rows=GRID)
NEW = spec(
    core.Categorical(name="solvent", values=SOLVENTS), core.Continuous(name="t", low=20, high=120),
    core.Ordered(name="c", values=(0.1, 0.2, 0.4, 0.8)), pool=POOL,
)  # fmt: skip


def reaction(p: core.Point, shift: float = 0.0) -> float:
    t, c = numbers(p, "t", "c")
    off = {"DMF": 0.3, "DMSO": 0.0, "THF": 1.0, "MeCN": 0.6, "EtOH": 1.4, "PhMe": 1.8}[str(p["solvent"])]
    return off + ((t - 85 - shift) / 30) ** 2 + 0.7 * math.log2(c / 0.4) ** 2


def rows_of(points: Sequence[core.Point], values: Sequence[float]) -> tuple[core.Row, ...]:
    return tuple(
        core.Row(trial=str(i), point=p, observations=(core.Observation(observable="f", value=v),))
        for i, (p, v) in enumerate(zip(points, values, strict=True))
    )


def archive(seed: int, kind: str = "true", shift: float = 5.0) -> core.Earlier:
    rng = np.random.default_rng([seed, 7])
    points = [POOL.points()[i] for i in rng.choice(len(GRID), 60, replace=False)]
    values = np.array([reaction(p, shift) for p in points])
    if kind == "shuffled":
        values = rng.permutation(values)
    if kind == "inverted":
        values = values.max() - values
    return core.Earlier(campaign=f"{kind}-{shift:g}", spec=NEW, rows=rows_of(points, [float(v) for v in values]))


def needed(strategy: core.Strategy, earlier: tuple[core.Earlier, ...], seed: int) -> int:
    """Trials until one of the three best of the pool."""
    good = sorted(reaction(p) for p in POOL.points())[2]
    rows: list[core.Row] = []
    while len(rows) < 60:
        (p,) = strategy.propose(NEW, core.Results(rows=tuple(rows), earlier=earlier), 1, 100 * seed + len(rows))
        rows += rows_of([p.point], [reaction(p.point)])
        if reaction(p.point) <= good:
            break
    return len(rows)


SEEDS = range(6)


def typical(strategy: type[Bayes], kind: str = "") -> float:
    taken = [needed(strategy(), (archive(s, kind),) if kind else (), s) for s in SEEDS]
    return float(np.exp(np.mean(np.log(taken))))


def test_it_needs_a_third_where_the_archive_is_right_and_hardly_more_where_it_is_not() -> None:
    cold = typical(Bayes)
    assert typical(Transfer, "true") < cold / 3
    assert typical(Transfer, "shuffled") < 1.25 * cold
    assert typical(Transfer, "inverted") < 1.6 * cold


def shares(kinds: Sequence[tuple[str, float]], trials: int = 10) -> dict[str, float]:
    earlier = tuple(archive(3, kind, shift) for kind, shift in kinds)
    rng = np.random.default_rng(5)
    points = [POOL.points()[i] for i in rng.choice(len(GRID), trials, replace=False)]
    results = core.Results(rows=rows_of(points, [reaction(p) for p in points]), earlier=earlier)
    (p,) = Transfer().propose(NEW, results, 1, 0)
    assert p.decision is not None
    return {i.campaign: i.share for i in p.decision.informed_by}


def test_the_decision_says_which_campaign_helped() -> None:
    found = shares([("true", 5.0), ("inverted", 5.0), ("shuffled", 5.0)])
    assert "shuffled-5" not in found  # It cannot predict its own readings.
    assert found["true-5"] > 0.8
    assert found["inverted-5"] < 0.2
    nearer = shares([("true", 2.0), ("true", 45.0)], trials=14)
    assert nearer["true-2"] > nearer["true-45"]


def test_without_an_archive_it_is_bayes() -> None:
    rows = rows_of(POOL.points()[::40], [reaction(p) for p in POOL.points()[::40]])
    results = core.Results(rows=rows)
    ours = [p.point for p in Transfer().propose(NEW, results, 2, 4)]
    assert ours == [p.point for p in Bayes().propose(NEW, results, 2, 4)]


def test_the_first_point_goes_where_the_archive_expects_the_best() -> None:
    (p,) = Transfer().propose(NEW, core.Results(earlier=(archive(1),)), 1, 0)
    assert reaction(p.point, 5.0) <= np.quantile([reaction(q, 5.0) for q in POOL.points()], 0.03)
    several = Transfer().propose(NEW, core.Results(earlier=(archive(1),)), 4, 0)
    assert len({repr(q.point) for q in several}) == 4


def test_names_that_changed_are_matched_by_spelling() -> None:
    old = core.Categorical(name="halide", values=("4-chloroanisole", "4-iodoanisole"))
    new = core.Categorical(name="halide", values=("4-iodotoluene", "4-chlorotoluene", "4-fluorotoluene"))
    here, there = Encoding([new]), Encoding([old])
    features = here.features_as_run([{"halide": v} for v in new.values])
    alike, middle = translated(here, there, True)(features), translated(here, there, False)(features)
    known = there.features_as_run([{"halide": v} for v in old.values])
    assert np.allclose(alike[0], known[1])
    assert np.allclose(alike[1], known[0])
    assert np.allclose(alike[2], known.mean(0))
    assert np.allclose(middle, known.mean(0))


def test_numbers_are_matched_by_value_whatever_their_ranges_and_kinds() -> None:
    here = Encoding([core.Continuous(name="t", low=20, high=120), core.Ordered(name="c", values=(0.1, 0.4, 1.0))])
    there = Encoding(
        [core.Integer(name="t", low=0, high=200), core.Continuous(name="c", low=0.01, high=1, scale="log"),
         core.Continuous(name="stirring", low=0, high=9)]
    )  # fmt: skip
    points: list[core.Point] = [{"t": 50.0, "c": 0.1}, {"t": 120.0, "c": 1.0}]
    found = translated(here, there, False)(here.features_as_run(points))
    wanted = there.features_as_run([{"t": 50, "c": 0.1, "stirring": 4.5}, {"t": 120, "c": 1.0, "stirring": 4.5}])
    assert np.allclose(found, wanted)


@pytest.mark.parametrize("problem", SPECS, ids=lambda s: s.id)
def test_any_space_learns_from_any_archive(problem: core.CampaignSpec) -> None:
    space = space_of(problem)
    points = space.encoding.points(space.sample(12, np.random.default_rng(0)))
    same = core.Earlier(campaign="same", spec=problem, rows=tried(problem, points).rows)
    other = core.Earlier(
        campaign="other", spec=SPECS[3], rows=tried(SPECS[3], [{"t": 30.0, "solvent": "THF", "base": "none"}]).rows
    )
    for rows in ((), tried(problem, points[:5]).rows):
        for p in Transfer().propose(problem, core.Results(rows=rows, earlier=(same, other)), 2, 1):
            check_point(problem, p.point)


def test_an_earlier_campaign_of_several_observables_and_failures_is_read() -> None:
    problem = SPECS[-1]
    points = space_of(problem).encoding.points(space_of(problem).sample(20, np.random.default_rng(0)))
    earlier = core.Earlier(campaign="e", spec=problem, rows=tried(problem, points, fail=3).rows)
    (p,) = Transfer().propose(problem, core.Results(earlier=(earlier,)), 1, 1)
    check_point(problem, p.point)
    assert outcome(problem, p.point)


def test_its_options_are_checked() -> None:
    assert Transfer().earlier() == ()
    assert Transfer(campaigns=["films-2019"]).earlier() == ("films-2019",)
    with pytest.raises(ValueError, match=r"campaigns .* list of names"):
        Transfer(campaigns="films-2019")
    with pytest.raises(ValueError, match="no option 'speed'"):
        Transfer(speed=1)
    assert replace(NEW, goal=LEAST) == NEW
