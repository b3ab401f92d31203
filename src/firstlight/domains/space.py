"""Space exploration: a probe to Saturn by way of Venus, Venus, the Earth and Jupiter, for the least propellant.

Problem Cassini1 of the Global Trajectory Optimisation Problems of ESA's Advanced Concepts Team: a launch date and five
times of flight. Between planets the probe coasts along the conic that Lambert's problem gives; at each planet it may
fire its engine once, at the pericentre of the fly-by hyperbola. pykep-rust solves Lambert's problem; planets move as
in GTOP's own analytical ephemerides, with its constants, so that the published best value can be reproduced.
"""

import math
from collections.abc import Mapping
from itertools import pairwise

from msgspec import Struct

from firstlight.core import (
    Budget,
    CampaignSpec,
    Continuous,
    Failed,
    Goal,
    Limits,
    Objective,
    Observable,
    Point,
    ProcedureSpec,
    StepSpec,
    StrategySpec,
)

from ._domain import Domain, Reference
from ._later import later

pykep = later("pykep_rust", "space")

Vector = tuple[float, float, float]

LEGS = ("t1", "t2", "t3", "t4", "t5")
SEQUENCE = ("earth", "venus", "venus", "earth", "jupiter", "saturn")

FLYBYS = (1, 2, 3, 4)

DAY, YEAR = 86_400.0, 365.25
"""s; days."""
AU = 149_597_870.66
"""km."""
MU_SUN = 1.32712428e11
MU = {"venus": 324_860.0, "earth": 398_601.19, "jupiter": 126.7e6, "saturn": 37.9e6}
"""Gravitational parameters, km3/s2, rounded as GTOP has them."""
CLOSEST = {"venus": 6351.8, "earth": 6778.1, "jupiter": 600_000.0}
"""The least pericentre radius of a fly-by, km."""
FINE = {"venus": 0.01, "earth": 0.01, "jupiter": 0.001}
"""What a km below it adds to the objective, km/s."""
ORBIT_PERICENTRE, ORBIT_ECCENTRICITY = 108_950.0, 0.98
"""The orbit around Saturn that the last burn leaves the probe in; km."""

BEST = (-789.8117, 158.302027105278, 449.385873819743, 54.7489684339665, 1024.36205846918, 4552.30796805542)
"""The published best: launch (MJD2000) and the five legs (days), 4.9307 km/s."""

# Each element is a polynomial in Julian centuries since 1900 (constant first): semi-major axis (au), eccentricity,
# inclination, longitude of the node, argument of the pericentre, and mean anomaly (all in degrees).
ELEMENTS: Mapping[str, tuple[tuple[float, ...], ...]] = {
    "venus": (
        (0.7233316,),
        (0.00682069, -4.774e-5, 9.1e-8),
        (3.39363055555555556, 1.00583333333333333e-3, -9.72222222222222222e-7),
        (75.7796472222222222, 0.89985, 4.1e-4),
        (54.3841861111111111, 0.508186111111111111, -1.38638888888888889e-3),
        (212.603219444444444, 58517.803875, 1.28605555555555556e-3),
    ),
    "earth": (
        (1.00000023,),
        (0.01675104, -4.18e-5, -1.26e-7),
        (0.0,),
        (0.0,),
        (101.220833333333333, 1.719175, 4.52777777777777778e-4, 3.33333333333333333e-6),
        (358.475844444444444, 35999.04975, -1.50277777777777778e-4, -3.33333333333333333e-6),
    ),
    "jupiter": (
        (5.202561,),
        (0.04833475, 1.6418e-4, -4.676e-7, -1.7e-9),
        (1.30873611111111111, -5.69611111111111111e-3, 3.88888888888888889e-6),
        (99.4433861111111111, 1.01053, 3.52222222222222222e-4, -8.51111111111111111e-6),
        (273.277541666666667, 0.599431666666666667, 7.0405e-4, 5.07777777777777778e-6),
        (225.328327777777778, 3034.69202388888889, -7.21588888888888889e-4, 1.78444444444444444e-6),
    ),
    "saturn": (
        (9.554747,),
        (0.05589232, -3.455e-4, -7.28e-7, 7.4e-10),
        (2.49251944444444444, -3.91888888888888889e-3, -1.54888888888888889e-5, 4.44444444444444444e-8),
        (112.790388888888889, 0.873195138888888889, -1.52180555555555556e-4, -5.30555555555555556e-6),
        (338.307772222222222, 1.08522069444444444, 9.78541666666666667e-4, 9.91666666666666667e-6),
        (175.466216666666667, 1221.55146777777778, -5.01819444444444444e-4, -5.19444444444444444e-6),
    ),
}
"""GTOP's ephemerides: mean elements of date, referred to the ecliptic."""


class Flight(Struct, frozen=True):
    """What a trajectory asks for, in km/s; every fly-by has a burn, and a pericentre in units of the least allowed."""

    launch: float
    burns: tuple[float, ...]
    pericentres: tuple[float, ...]
    arrival: float
    penalty: float

    @property
    def delta_v(self) -> float:
        """GTOP's objective: all burns and the penalty."""
        return self.launch + sum(self.burns) + self.arrival + self.penalty


def evaluate(point: Point) -> dict[str, float]:
    """The delta-v of one trajectory and what it is made of; units as in `spec`.

    Raises Failed: "did-not-converge" where a leg or a fly-by has no solution (planets in line with the Sun, so that
    the plane of the transfer is not defined), "invalid-input" where pykep-rust is not installed.
    """
    legs = [float(point[name]) for name in LEGS]
    flight = fly(float(point["launch_date"]), *legs)
    return {
        "delta_v": flight.delta_v,
        "launch": flight.launch,
        **{f"burn_{n}": burn for n, burn in zip(FLYBYS, flight.burns, strict=True)},
        "arrival": flight.arrival,
        "penalty": flight.penalty,
        **{f"pericentre_{n}": ratio for n, ratio in zip(FLYBYS, flight.pericentres, strict=True)},
        "duration": sum(legs) / YEAR,
    }


def fly(launch_date: float, *legs: float) -> Flight:
    """The trajectory that leaves the Earth on a date (MJD2000) and takes five legs (days). Raises Failed."""
    dates = [launch_date]
    for leg in legs:
        dates.append(dates[-1] + leg)
    planets = [state(name, date) for name, date in zip(SEQUENCE, dates, strict=True)]
    arcs = [_arc(planets[n][0], planets[n + 1][0], leg) for n, leg in enumerate(legs)]
    burns, pericentres, penalty = [], [], 0.0
    for n in FLYBYS:
        name, velocity = SEQUENCE[n], planets[n][1]
        burn, radius = _flyby(_less(arcs[n - 1][1], velocity), _less(arcs[n][0], velocity), MU[name])
        burns.append(burn)
        pericentres.append(radius / CLOSEST[name])
        penalty += FINE[name] * max(0.0, CLOSEST[name] - radius)
    return Flight(
        launch=math.dist(arcs[0][0], planets[0][1]),
        burns=tuple(burns),
        pericentres=tuple(pericentres),
        arrival=_capture(math.dist(arcs[-1][1], planets[-1][1])),
        penalty=penalty,
    )


def state(planet: str, date: float) -> tuple[Vector, Vector]:
    """Where a planet is (km) and how fast (km/s), heliocentric and ecliptic, on a date (MJD2000)."""
    centuries = (date + 36_525.0) / 36_525.0
    a, e, *angles = (sum(c * centuries**k for k, c in enumerate(terms)) for terms in ELEMENTS[planet])
    inclination, node, pericentre, mean = (math.radians(angle % 360.0) for angle in angles)
    a *= AU
    anomaly = _eccentric(mean, e)
    ce, se, flat = math.cos(anomaly), math.sin(anomaly), math.sqrt(1.0 - e * e)
    speed = math.sqrt(MU_SUN / a) / (1.0 - e * ce)
    cn, sn, cp, sp = math.cos(node), math.sin(node), math.cos(pericentre), math.sin(pericentre)
    ci, si = math.cos(inclination), math.sin(inclination)
    towards = (cn * cp - sn * sp * ci, sn * cp + cn * sp * ci, sp * si)
    across = (-cn * sp - sn * cp * ci, -sn * sp + cn * cp * ci, cp * si)
    return (
        _combined(a * (ce - e), towards, a * flat * se, across),
        _combined(-speed * se, towards, speed * flat * ce, across),
    )


def _eccentric(mean: float, e: float) -> float:
    """Kepler's equation by Newton's method: from the mean anomaly, orbits of planets take four steps or so."""
    anomaly = mean
    for _ in range(30):
        step = (anomaly - e * math.sin(anomaly) - mean) / (1.0 - e * math.cos(anomaly))
        anomaly -= step
        if abs(step) < 1e-14:
            break
    return anomaly


def _arc(start: Vector, end: Vector, days: float) -> tuple[Vector, Vector]:
    """The velocities (km/s) at both ends of the prograde conic of less than one revolution."""
    try:
        (found,) = pykep.LambertProblem(start, end, days * DAY, MU_SUN, False, 0).solutions
    except pykep.PykepError as error:
        raise Failed("did-not-converge", f"Lambert's problem over {days:g} days: {error}") from None
    return found.departure_velocity, found.arrival_velocity


def _flyby(incoming: Vector, outgoing: Vector, mu: float) -> tuple[float, float]:
    """The burn (km/s) at the common pericentre of two hyperbolae, and its radius (km).

    The velocities are relative to the planet. The angle between both asymptotes fixes the radius: the lower the
    probe passes, the more it is turned. It lies between the radii that either hyperbola would need on both sides.
    """
    before, after = math.hypot(*incoming), math.hypot(*outgoing)
    angle = math.atan2(math.hypot(*_cross(incoming, outgoing)), -sum(map(float.__mul__, incoming, outgoing)))
    if not before or not after or not angle:
        raise Failed("did-not-converge", "no fly-by stops a probe or sends it straight back")
    a, b = mu / before**2, mu / after**2
    low, high = sorted(2.0 * k * math.sin(angle / 4.0) ** 2 / math.cos(angle / 2.0) for k in (a, b))
    radius = math.sqrt(low * high)
    for _ in range(60):
        p, q = math.sqrt(radius * (2.0 * a + radius)), math.sqrt(radius * (2.0 * b + radius))
        excess = math.atan(p / a) + math.atan(q / b) - angle
        low, high = (low, radius) if excess > 0.0 else (radius, high)
        better = radius - excess / (a / (p * (a + radius)) + b / (q * (b + radius)))
        if abs(better - radius) <= 1e-13 * radius:
            break
        radius = better if low < better < high else math.sqrt(low * high)
    return abs(math.sqrt(after**2 + 2.0 * mu / radius) - math.sqrt(before**2 + 2.0 * mu / radius)), radius


def _capture(speed: float) -> float:
    """The burn (km/s) at the pericentre of the final orbit, arriving at Saturn with this speed."""
    escape = 2 * MU["saturn"] / ORBIT_PERICENTRE
    return math.sqrt(speed**2 + escape) - math.sqrt(escape * (1 + ORBIT_ECCENTRICITY) / 2)


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _less(a: Vector, b: Vector) -> Vector:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _combined(x: float, a: Vector, y: float, b: Vector) -> Vector:
    return x * a[0] + y * b[0], x * a[1] + y * b[1], x * a[2] + y * b[2]


def spec() -> CampaignSpec:
    """5,000 trials, 4 at once, seed 0."""
    journeys = [f"{a.capitalize()} to {b.capitalize()}" for a, b in pairwise(SEQUENCE)]
    bounds = ((30.0, 400.0), (100.0, 470.0), (30.0, 400.0), (400.0, 2000.0), (1000.0, 6000.0))
    legs = tuple(
        Continuous(name=name, low=low, high=high, unit="day", description=journey)
        for name, (low, high), journey in zip(LEGS, bounds, journeys, strict=True)
    )
    speed = "km/s"
    return CampaignSpec(
        id="space",
        title="Earth to Saturn by way of Venus, Venus, Earth and Jupiter",
        description="GTOP's Cassini1: the least delta-v of a trajectory with powered fly-bys; Lambert by pykep-rust.",
        parameters=(
            Continuous(name="launch_date", low=-1000.0, high=0.0, unit="day",
                       description="days from 2000-01-01 00:00 (MJD2000)"),
            *legs,
        ),
        goal=Goal(
            objectives=(Objective(observable="delta_v", direction="minimize", unit=speed),),
            budget=Budget(trials=5000),
        ),
        observables=(
            Observable(name="launch", unit=speed, description="speed at which the probe leaves the Earth behind"),
            *(Observable(name=f"burn_{n}", unit=speed, description=f"at fly-by {n}, {SEQUENCE[n]}") for n in FLYBYS),
            Observable(name="arrival", unit=speed, description="burn into the orbit around Saturn"),
            Observable(name="penalty", unit=speed, description="for fly-bys that are too low"),
            *(Observable(name=f"pericentre_{n}", description=f"of fly-by {n}, over the least allowed") for n in FLYBYS),
            Observable(name="duration", unit="year", description="from launch to Saturn"),
        ),
        procedure=ProcedureSpec(
            steps=(StepSpec(operation="firstlight.domains.space:evaluate", limits=Limits(seconds=10.0)),)
        ),
        strategy=StrategySpec(name="portfolio"),
        parallel=4,
    )  # fmt: skip


DOMAIN = Domain(
    name="space",
    title="A trajectory to Saturn",
    area="Space exploration",
    summary="GTOP's Cassini1 on pykep-rust: delta-v of five legs and four fly-bys against six dates",
    spec=spec,
    modules=("pykep_rust",),
    best=Reference(value=4.9307, source="ESA Advanced Concepts Team, GTOP database, Cassini1"),
)
