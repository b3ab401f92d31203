"""Why these points: how the predictions held, what was still to be gained, and which campaigns informed the choices."""

import math
import statistics
from collections.abc import Sequence

from firstlight import core

from ._analysis import Analysis
from ._subject import Subject
from ._surrogate import Influence, influence

WITHIN_ONE = 0.6827
"""The share of outcomes within one standard deviation of predictions that are as sure as they should be."""
ENOUGH = 8
"""Fewer outcomes than this say nothing of how sure the predictions should have been."""


class Calibration(core.Value, frozen=True):
    """Predictions of one observable, and what came: a value, a sigma (both uncertainties together) and an outcome each.

    `within` is the share of outcomes within one and two sigma, `offset` their mean distance in sigma.
    """

    observable: str
    trials: tuple[str, ...]
    predicted: tuple[float, ...]
    sigma: tuple[float, ...]
    observed: tuple[float, ...]

    @property
    def z(self) -> list[float]:
        return [(o - p) / s for p, s, o in zip(self.predicted, self.sigma, self.observed, strict=True)]

    @property
    def within(self) -> tuple[float, float]:
        count = len(self.trials)
        return sum(abs(z) <= 1 for z in self.z) / count, sum(abs(z) <= 2 for z in self.z) / count

    @property
    def offset(self) -> float:
        return sum(self.z) / len(self.trials)

    @property
    def verdict(self) -> str:
        """What the shares say, in words."""
        n, (one, two) = len(self.trials), self.within
        said = f"{one:.0%} of {n:,} outcomes came within one standard deviation of the prediction and {two:.0%} within "
        said += "two (68% and 95% are to be expected)"
        if n < ENOUGH:
            return f"{said}; {n} are too few to tell how sure the predictions should have been."
        low, high = interval(round(one * n), n)
        if high < WITHIN_ONE:
            sure = "surer than they should have been"
        elif low > WITHIN_ONE:
            sure = "less sure than they could have been"
        else:
            sure = f"as sure as they should be, as far as {n:,} trials can tell"
        said += f". The predictions were {sure}."
        if abs(self.offset) > 2 * statistics.stdev(self.z) / math.sqrt(n):
            side = "higher" if self.offset > 0 else "lower"
            said += f" On average outcomes were {abs(self.offset):.2g} standard deviations {side} than predicted."
        return said


class Why(core.Value, frozen=True):
    """All that is said of the choices: `outlooks` by number of the trial, `shares` by campaign, then likewise."""

    calibrations: tuple[Calibration, ...]
    influences: tuple[Influence, ...]
    outlooks: tuple[tuple[int, core.Outlook], ...]
    shares: dict[str, tuple[tuple[int, float], ...]]


def why(subject: Subject, analysis: Analysis) -> Why:
    """Hold the predictions of a campaign's own trials against their outcomes, and fit surrogates of its objectives."""
    goal, rows = subject.spec.goal, list(subject.results.rows)
    found = (calibration(analysis.rows, name) for name in foretold(analysis.rows))
    influences = (influence(subject.spec, rows, o.observable) for o in goal.objectives) if rows else ()
    return Why(
        calibrations=tuple(c for c in found if c is not None), influences=tuple(influences),
        outlooks=tuple(subject.outlooks), shares=_shares(analysis.rows),
    )  # fmt: skip


def foretold(rows: Sequence[core.Row]) -> list[str]:
    """The observables that were predicted."""
    return list(dict.fromkeys(o.observable for row in rows for o in row.predicted))


def calibration(rows: Sequence[core.Row], observable: str) -> Calibration | None:
    """Of the trials that succeeded and whose outcome was predicted with an uncertainty; None where they are none."""
    chosen = [row for row in rows if not row.failure and observable in row.surprise]
    if not chosen:
        return None
    pairs = [(core.latest(row.predicted)[observable], row.seen[observable]) for row in chosen]
    return Calibration(
        observable=observable, trials=tuple(row.trial for row in chosen), predicted=tuple(p.value for p, _ in pairs),
        sigma=tuple(math.hypot(p.sigma, s.sigma) for p, s in pairs), observed=tuple(s.value for _, s in pairs),
    )  # fmt: skip


def interval(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share of `hits` in `n` (Wilson 1927)."""
    share, spread = hits / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return middle - half, middle + half


def _shares(rows: Sequence[core.Row]) -> dict[str, tuple[tuple[int, float], ...]]:
    """How much each earlier campaign counted, whenever the strategy said so."""
    found: dict[str, list[tuple[int, float]]] = {}
    for i, row in enumerate(rows, 1):
        for one in row.decision.informed_by if row.decision else ():
            found.setdefault(one.campaign, []).append((i, one.share))
    return {name: tuple(told) for name, told in found.items()}
