"""Growth against what is published, the core problem against its enumeration, and strains against each other."""

import math
import random

import pytest
from msgspec.structs import replace

from firstlight import core
from firstlight.app import check_spec
from firstlight.domains import biotechnology as bio

pytest.importorskip("cobra")

WILD: core.Point = {**dict.fromkeys(bio.ENZYMES, 0), "substrate": "glucose", "oxygen": 0.0}


def without(*genes: str, **more: core.Scalar) -> core.Point:
    return {**WILD, **dict.fromkeys(genes, 1), **more}


def random_points(count: int, seed: int) -> list[core.Point]:
    rng = random.Random(seed)
    genes, substrates = list(bio.ENZYMES), list(bio.SUBSTRATES)
    return [
        without(
            *rng.sample(genes, rng.randint(0, bio.MOST_KNOCKOUTS)),
            substrate=rng.choice(substrates),
            oxygen=rng.uniform(0.0, 20.0),
        )
        for _ in range(count)
    ]


def test_wild_types_grow_as_published() -> None:
    assert bio.grow_core((), oxygen=1000.0).growth == pytest.approx(0.8739215, abs=1e-6)
    assert bio.grow_core(()).growth == pytest.approx(0.2116629, abs=1e-6)
    assert bio.grow((), oxygen=1000.0).growth == pytest.approx(0.9823718, abs=1e-6)


def test_the_best_core_design_among_its_neighbours_and_others() -> None:
    best = ("LDH_D", "ACALD", "THD2")
    designs = [d for d in bio.core_designs() if len(d) < 3 or len({*best} & {*d}) > 1]
    designs += random.Random(2).sample(bio.core_designs(), 200)
    values = {d: bio._guaranteed(d) for d in designs}
    alive = {d: v for d, v in values.items() if not math.isnan(v)}
    first, second = sorted(alive, key=lambda d: -alive[d])[:2]
    assert set(first) == set(best)
    assert bio.CORE.best is not None
    assert alive[first] == pytest.approx(bio.CORE.best.value, abs=5e-4)
    assert alive[second] < alive[first] - 0.02
    assert len(values) - len(alive) == 153


def test_the_pool_holds_the_designs_in_their_order() -> None:
    pool = bio.core_spec().pool
    assert pool is not None
    found = [tuple(name for name, x in zip(pool.columns, row, strict=True) if x) for row in pool.rows]
    assert found == bio.core_designs()
    assert len(found) == len(set(found)) == 4525
    assert bio.evaluate_core(pool.points()[-1])["succinate"] == bio.grow_core(found[-1]).least


def test_growth_makes_succinate_without_the_other_fermentations() -> None:
    wild, mutant = bio.evaluate(WILD), bio.evaluate(without("ldhA", "pflB", "adhE", "pta"))
    assert wild["succinate"] < 0.1
    assert mutant["succinate"] == pytest.approx(7.670, abs=0.01)
    assert mutant["growth"] < wild["growth"]
    assert mutant["carbon_yield"] == pytest.approx(100 * 4 * mutant["succinate"] / 60)
    assert mutant["coupled_yield"] == pytest.approx(mutant["growth"] * mutant["carbon_yield"] / 100)


def test_oxygen_buys_growth_with_succinate() -> None:
    genes = ("ldhA", "pflB", "adhE")
    seen = [bio.evaluate(without(*genes, oxygen=oxygen)) for oxygen in (0.0, 3.0, 10.0)]
    assert seen[0]["succinate"] > seen[1]["succinate"] > seen[2]["succinate"]
    assert seen[0]["growth"] < seen[1]["growth"] < seen[2]["growth"]


@pytest.mark.parametrize(
    ("point", "why"),
    [
        (without("gltA"), r"growth of 0\.000 1/h"),
        (without("ldhA", "pflB", "adhE", substrate="glycerol"), "lethal"),
    ],
)
def test_a_strain_that_does_not_live_fails(point: core.Point, why: str) -> None:
    with pytest.raises(core.Failed, match=why) as failed:
        bio.evaluate(point)
    assert failed.value.cause == "invalid-input"


def test_a_core_strain_that_cannot_feed_its_maintenance_fails() -> None:
    with pytest.raises(core.Failed, match="staying alive") as failed:
        bio.grow_core(("PGI",))
    assert failed.value.cause == "invalid-input"


def test_strains_leave_no_trace_in_one_another() -> None:
    designs = random.Random(1).sample(bio.core_designs(), 60)
    values = [bio._guaranteed(d) for d in designs]
    assert [bio._guaranteed(d) for d in reversed(designs)][::-1] == pytest.approx(values, abs=0.0, nan_ok=True)
    point = without("pta", "pykF", substrate="xylose", oxygen=7.0)
    first = bio.evaluate(point)
    bio.evaluate(WILD)
    assert bio.evaluate(point) == first


def test_thirty_random_points() -> None:
    failures = 0
    for point in random_points(30, seed=4):
        try:
            seen = bio.evaluate(point)
        except core.Failed as failed:
            assert failed.cause == "invalid-input", failed
            failures += 1
            continue
        assert set(seen) == {"succinate", "growth", "succinate_most", "carbon_yield", "coupled_yield"}
        assert 0 <= seen["succinate"] <= seen["succinate_most"] + 1e-6
        assert bio.LEAST_GROWTH <= seen["growth"] < 1.2
    assert 0 < failures < 15


def test_specifications() -> None:
    for spec in (bio.spec(), bio.core_spec()):
        assert check_spec(spec).id == spec.id
    spec = bio.spec()
    six = without(*list(bio.ENZYMES)[:6])
    assert core.violations(spec, six)
    assert not core.violations(replace(spec, constraints=()), six)
