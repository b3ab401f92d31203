"""The trajectory against the published optimum, against Kepler, and against pykep-rust itself."""

import math
import random
import time
from typing import Any

import pytest
from msgspec.structs import replace

from firstlight import core
from firstlight.app import check_spec
from firstlight.domains import space

pykep: Any = pytest.importorskip("pykep_rust")

POLISHED = (-789.8115577091123, 158.30191422362688, 449.3858738245666, 54.748933484045175, 1024.362337184595,
            4552.308366624293)  # fmt: skip
"""The published point, polished here."""


def point(values: tuple[float, ...]) -> core.Point:
    return dict(zip(("launch_date", *space.LEGS), values, strict=True))


def random_points(count: int, seed: int) -> list[tuple[float, ...]]:
    rng = random.Random(seed)
    bounds = [(p.low, p.high) for p in space.spec().parameters if isinstance(p, core.Continuous)]
    return [tuple(rng.uniform(*b) for b in bounds) for _ in range(count)]


def test_the_published_optimum_is_reproduced_to_its_last_digit() -> None:
    seen = space.evaluate(point(space.BEST))
    assert round(seen["delta_v"], 4) == space.DOMAIN.best.value == 4.9307  # type: ignore[union-attr]
    assert seen["penalty"] == 0.0
    assert all(seen[f"pericentre_{n}"] >= 1.0 for n in space.FLYBYS)


def test_polishing_gains_nothing_that_the_published_digits_could_show() -> None:
    assert space.fly(*POLISHED).delta_v == pytest.approx(4.930723, abs=1e-6)
    best = space.fly(*POLISHED).delta_v
    rng = random.Random(0)
    for _ in range(300):
        aside = tuple(x + rng.gauss(0, 1e-3) for x in POLISHED)
        assert space.fly(*aside).delta_v > best


def test_what_it_is_made_of_adds_up() -> None:
    for values in (space.BEST, *random_points(20, seed=1)):
        seen = space.evaluate(point(values))
        parts = [seen["launch"], seen["arrival"], seen["penalty"], *(seen[f"burn_{n}"] for n in space.FLYBYS)]
        assert math.fsum(parts) == pytest.approx(seen["delta_v"], rel=1e-12)
        assert min(parts) >= 0.0
        assert seen["duration"] == pytest.approx(sum(values[1:]) / 365.25)


def test_low_fly_bys_are_fined() -> None:
    for values in random_points(50, seed=2):
        flight = space.fly(*values)
        short = [
            space.FINE[name] * space.CLOSEST[name] * max(0.0, 1.0 - ratio)
            for name, ratio in zip(space.SEQUENCE[1:5], flight.pericentres, strict=True)
        ]
        assert flight.penalty == pytest.approx(sum(short), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("planet", space.ELEMENTS)
def test_planets_move_as_kepler_says(planet: str) -> None:
    for date in (-1000.0, 0.0, 5000.0):
        here, velocity = space.state(planet, date)
        later = pykep.propagate_lagrangian([*here, *velocity], space.DAY, space.MU_SUN)
        there, speed = space.state(planet, date + 1.0)
        # What is left is the drift of the elements themselves.
        assert math.dist(later[:3], there) < 1e-5 * math.hypot(*there)
        assert math.dist(later[3:], speed) < 1e-5 * math.hypot(*speed)


def test_the_ephemerides_are_jpls_of_half_a_day_later() -> None:
    for planet in space.ELEMENTS:
        mine, _ = space.state(planet, 0.0)
        theirs = pykep.Planet.jpl_low_precision(planet).state(0.5)
        assert math.dist(mine, [x / 1000.0 for x in theirs[:3]]) < 2e-3 * math.hypot(*mine), planet


def test_a_leg_arrives_where_the_planet_is() -> None:
    dates = [space.BEST[0]]
    for leg in space.BEST[1:]:
        dates.append(dates[-1] + leg)
    for n, leg in enumerate(space.BEST[1:]):
        start, _ = space.state(space.SEQUENCE[n], dates[n])
        end, _ = space.state(space.SEQUENCE[n + 1], dates[n + 1])
        departure, arrival = space._arc(start, end, leg)
        there = pykep.propagate_lagrangian([*start, *departure], leg * space.DAY, space.MU_SUN)
        assert math.dist(there[:3], end) < 1e-9 * math.hypot(*end)
        assert math.dist(there[3:], arrival) < 1e-9


def test_a_fly_by_without_a_burn_turns_as_the_formula_says() -> None:
    mu, speed, radius = space.MU["venus"], 8.0, 9000.0
    turn = 2.0 * math.asin(1.0 / (1.0 + radius * speed**2 / mu))
    burn, found = space._flyby((speed, 0.0, 0.0), (speed * math.cos(turn), speed * math.sin(turn), 0.0), mu)
    assert found == pytest.approx(radius, rel=1e-12)
    assert burn == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("faster", [1e-3, 0.5, 1.0, 30.0, 1e3])
@pytest.mark.parametrize("turn", [1e-6, 0.1, 1.5, 3.0, math.pi - 1e-6])
def test_a_fly_by_with_a_burn_turns_by_half_of_either_hyperbola(faster: float, turn: float) -> None:
    mu, speed = space.MU["earth"], 7.0
    after = speed * faster
    burn, radius = space._flyby((speed, 0.0, 0.0), (after * math.cos(turn), after * math.sin(turn), 0.0), mu)
    bent = [math.pi / 2 - math.atan(math.sqrt(radius * (2 * a + radius)) / a) for a in (mu / speed**2, mu / after**2)]
    assert sum(bent) == pytest.approx(turn, rel=1e-6)
    assert burn == pytest.approx(abs(math.sqrt(after**2 + 2 * mu / radius) - math.sqrt(speed**2 + 2 * mu / radius)))


def test_planets_in_line_with_the_sun_leave_the_plane_of_a_leg_open() -> None:
    with pytest.raises(core.Failed, match="Lambert's problem over 100 days") as failed:
        space._arc((1.5e8, 0.0, 0.0), (-1.1e8, 0.0, 0.0), 100.0)
    assert failed.value.cause == "did-not-converge"


def test_a_probe_that_would_have_to_turn_straight_back_fails() -> None:
    with pytest.raises(core.Failed) as failed:
        space._flyby((5.0, 0.0, 0.0), (-5.0, 0.0, 0.0), space.MU["venus"])
    assert failed.value.cause == "did-not-converge"


def test_two_hundred_random_points() -> None:
    began = time.process_time()
    flights = [space.evaluate(point(values)) for values in random_points(200, seed=7)]
    assert (time.process_time() - began) / 200 < 0.005
    assert all(math.isfinite(x) for flight in flights for x in flight.values())
    assert all(flight["delta_v"] > 5.0 for flight in flights)
    assert sum(flight["penalty"] > 0.0 for flight in flights) > 150


def test_the_same_point_gives_the_same_numbers() -> None:
    first = space.evaluate(point(space.BEST))
    for values in random_points(10, seed=3):
        space.evaluate(point(values))
    assert space.evaluate(point(space.BEST)) == first


def test_the_spec_is_gtops() -> None:
    spec = check_spec(replace(space.spec(), strategy=core.StrategySpec(name="random")))
    bounds = [(p.low, p.high) for p in spec.parameters if isinstance(p, core.Continuous)]
    assert bounds == [(-1000, 0), (30, 400), (100, 470), (30, 400), (400, 2000), (1000, 6000)]
    reported = {o.observable for o in spec.goal.objectives} | {o.name for o in spec.observables}
    assert reported == space.evaluate(point(space.BEST)).keys()
