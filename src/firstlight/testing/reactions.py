"""A family of reactions to optimise: one campaign is unlike another, and all have something in common.

A + B -> P with a catalyst; P decomposes, A reacts with itself, and the catalyst loses its activity. Rates, orders and
prices differ from campaign to campaign and are not known; what is wanted is the yield less the prices of what went in.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firstlight import core

Array = npt.NDArray[np.float64]
PARAMETERS: tuple[core.Continuous, ...] = (
    core.Continuous(name="temperature", low=20.0, high=120.0, unit="degC"),
    core.Continuous(name="time", low=0.1, high=24.0, unit="h", scale="log"),
    core.Continuous(name="catalyst", low=0.5, high=10.0, unit="mol%", scale="log"),
    core.Continuous(name="equivalents", low=1.0, high=3.0),
    core.Continuous(name="concentration", low=0.05, high=1.0, unit="mol/L", scale="log"),
)
GOAL = core.Goal(objectives=(core.Objective(observable="profit", direction="maximize"),))
NOISE = 0.02
WRONG = (3, 0, 4, 1, 2)
"""In which order a wrong archive has its inputs, which are mirrored besides."""
_STEPS, _GAS, _USUAL = 60, 8.314, 340.0


@dataclass(frozen=True)
class Reaction:
    """The hidden side of one campaign: log rates at 340 K and activation energies (J/mol) of the four reactions, the
    orders in catalyst and in B, and prices of catalyst, time, excess and concentration."""

    rates: Array
    energies: Array
    orders: Array
    prices: Array


def reaction(rng: np.random.Generator) -> Reaction:
    """One reaction of the family."""
    rates = rng.uniform([-1.5, -6.0, -4.5, -5.0], [2.0, 0.0, 1.0, 2.0])
    energies = rng.uniform([45e3, 60e3, 35e3, 50e3], [90e3, 120e3, 85e3, 120e3])
    orders = rng.uniform([0.4, 0.3], [1.0, 1.2])
    prices = rng.uniform([0.0, 0.0, 0.0, -0.25], [0.35, 0.25, 0.2, 0.25])
    return Reaction(rates, energies, orders, prices)


def profit(r: Reaction, u: Array) -> Array:
    """Yield less prices (n,) at inputs (n, 5), each 0 to 1 across its range (its logarithm, where that is felt)."""
    kelvin = 293.15 + 100.0 * u[:, 0]
    hours, catalyst = 0.1 * 240.0 ** u[:, 1], 0.5 * 20.0 ** u[:, 2]
    b, strength = 1.0 + 2.0 * u[:, 3], 0.05 * 20.0 ** u[:, 4]
    k = np.exp(r.rates - r.energies / _GAS * (1.0 / kelvin - 1.0 / _USUAL)[:, None])
    rate = k[:, 0] * (catalyst / 3.0) ** r.orders[0]
    a, product, active, before = np.ones(len(u)), np.zeros(len(u)), np.ones(len(u)), np.zeros(len(u))
    for step in range(1, _STEPS + 1):
        now = hours * (step / _STEPS) ** 2
        passed, before = now - before, now
        wanted = rate * active * (strength * np.maximum(b, 1e-6)) ** r.orders[1]
        whole = wanted + k[:, 2] * strength * a + 1e-12
        used = a * (1.0 - np.exp(-whole * passed))
        made = np.minimum(used * wanted / whole, b)
        a, b = a - used, b - made
        product = (product + made) * np.exp(-k[:, 1] * passed * (1.0 + 0.1 * catalyst))
        active = active * np.exp(-k[:, 3] * passed)
    return np.asarray(np.clip(product, 0.0, 1.0) - u[:, [2, 1, 3, 4]] @ r.prices)


def points(u: Array) -> list[core.Point]:
    """Inputs (n, 5) as points."""
    columns = []
    for p, x in zip(PARAMETERS, u.T, strict=True):
        value = p.low * (p.high / p.low) ** x if p.scale == "log" else p.low + (p.high - p.low) * x
        columns.append(np.clip(value, p.low, p.high).tolist())
    return [dict(zip((p.name for p in PARAMETERS), row, strict=True)) for row in zip(*columns, strict=True)]


def specification(id: str, pool: Array | None = None) -> core.CampaignSpec:
    """A campaign of the family, over the whole box or a pool of inputs (n, 5)."""
    names = tuple(p.name for p in PARAMETERS)
    rows = None if pool is None else tuple(tuple(point[n] for n in names) for point in points(pool))
    return core.CampaignSpec(
        id=id, parameters=PARAMETERS, goal=GOAL, procedure=core.ProcedureSpec(steps=()),
        pool=None if rows is None else core.Pool(columns=names, rows=rows),
    )  # fmt: skip


def rows(u: Array, values: Sequence[float] | Array) -> tuple[core.Row, ...]:
    """Trials at inputs (n, 5) with what was read there."""
    return tuple(
        core.Row(trial=str(i), point=point, observations=(core.Observation(observable="profit", value=float(value)),))
        for i, (point, value) in enumerate(zip(points(u), values, strict=True))
    )


def earlier(seed: int, campaigns: int, trials: int = 40, wrong: bool = False) -> list[core.Earlier]:
    """An archive: half of its campaigns tried points at random, half climbed from the best point they had.

    With `wrong` its inputs are not those that it says: they stand in another order, and high for low.
    """
    found = []
    for i in range(campaigns):
        rng = np.random.default_rng([seed, i])
        r = reaction(rng)
        u = rng.random((trials, len(PARAMETERS)))
        if i % 2:
            u = _climbed(r, u, rng)
        values = profit(r, u) + NOISE * rng.standard_normal(trials)
        told = 1.0 - u[:, WRONG] if wrong else u
        found.append(core.Earlier(campaign=f"r{i}", spec=specification(f"r{i}"), rows=rows(told, values)))
    return found


def _climbed(r: Reaction, u: Array, rng: np.random.Generator) -> Array:
    """After the first quarter, steps away from the best so far (as it was read), now and then a random point."""
    u, first = u.copy(), len(u) // 4
    seen = (profit(r, u[:first]) + NOISE * rng.standard_normal(first)).tolist()
    for i in range(first, len(u)):
        if rng.random() < 0.85:
            u[i] = np.clip(u[int(np.argmax(seen))] + 0.12 * rng.standard_normal(u.shape[1]), 0.0, 1.0)
        seen.append(float(profit(r, u[[i]])[0] + NOISE * rng.standard_normal()))
    return u
