"""Bayesian optimisation that starts from what earlier campaigns learned, as far as they prove right."""

from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp

from firstlight import core

from ._common import Memo, asked_for, unknown_options, whole_option
from ._earlier import strangers, translated
from ._encoding import Array, Encoding
from ._gp import GP, Hyper, Trend, fit
from ._learn import COLD, EXACT, FITTED, HUGE, Hypothesis, scaling, usual
from ._space import Space
from .bayes import Bayes

TRUSTED = 0.9
"""The chance, before any reading, that some earlier campaign tells of this one."""
ALIKE = 3.0
"""By how much likelier than in the middle a new name lies where the old name spelled most like it did."""
SKILL = 0.1
"""An earlier campaign whose surrogate predicts less of its own readings (leave-one-out Q2) tells nothing of others."""
LEAST = 5
"""An earlier campaign with fewer readings of an observable than this says nothing of it."""


class Transfer(Bayes):
    """`bayes`, with what earlier campaigns made of the same parameters and observables as something to go by.

    Every earlier campaign is a hypothesis: that readings here follow its surrogate, up to a level, a factor and a
    difference that is learned; so are all of them together, and that none tells anything (which is `bayes` alone).
    Predictions are weighed by how well each explains the readings so far (Bayesian model averaging), so that a
    campaign that misleads loses its say within a few trials. With something to go by there is no space-filling
    start. `campaigns` names the campaigns; without it all that share a parameter and an observable are asked.
    """

    def __init__(self, *, campaigns: Sequence[str] = (), initial: int | None = None, **options: object) -> None:
        unknown_options("transfer", options, ("campaigns", "initial"))
        if isinstance(campaigns, str) or not all(isinstance(name, str) for name in campaigns):
            raise ValueError(f"option campaigns of strategy transfer must be a list of names, not {campaigns!r}")
        super().__init__(initial=None if initial is None else whole_option("transfer", "initial", initial, 1))
        self.campaigns = tuple(campaigns)
        self._archive: Memo[tuple[object, tuple[Hypothesis, ...]]] = Memo(8)

    def earlier(self) -> tuple[str, ...]:
        """Which earlier campaigns it wants to learn from; none named means all that overlap."""
        return self.campaigns

    def _starts(self, space: Space, results: core.Results) -> int:
        told = {name for h in self._hypotheses(space, results) for name in h.trends}
        return 0 if set(asked_for(space.spec.goal)) <= told else super()._starts(space, results)

    def _hypotheses(self, space: Space, results: core.Results) -> Sequence[Hypothesis]:
        key = (id(space.spec), *(id(e) for e in results.earlier))
        return self._archive.get(key, lambda: ((space, results.earlier), _hypotheses(space, results.earlier)))[1]


def _hypotheses(space: Space, earlier: Sequence[core.Earlier]) -> tuple[Hypothesis, ...]:
    wanted = asked_for(space.spec.goal)
    alone = [h for e in earlier for h in _of_campaign(space.encoding, e, wanted)]
    told = [*alone, *_together(alone, wanted)]
    if not told:
        return (COLD,)
    shared = np.log(TRUSTED) - logsumexp([h.prior for h in told])
    cold = Hypothesis(prior=np.log(1.0 - TRUSTED))
    return (cold, *(Hypothesis(shared + h.prior, h.trends, h.levels, h.campaigns) for h in told))


def _of_campaign(here: Encoding, e: core.Earlier, wanted: Sequence[str]) -> list[Hypothesis]:
    """What one earlier campaign expects; twice where names differ: with new names in the middle, and by spelling."""
    there = Encoding(e.spec.parameters)
    gps, levels = {}, {}
    told = [(row.ran, row.seen) for row in e.rows if not row.failure]
    for name in wanted:
        seen = [(point, all_seen[name]) for point, all_seen in told if name in all_seen][-EXACT:]
        if len(seen) >= LEAST:
            y = np.clip([o.value for _, o in seen], -HUGE, HUGE)
            sigma = np.minimum([o.sigma for _, o in seen], HUGE)
            gp = _fitted(there, [point for point, _ in seen], y, sigma**2)
            if gp.skill() > SKILL:
                gps[name], levels[name] = gp, scaling(y)
    if not gps or not set(here.names) & set(there.names):
        return []
    made = []
    for alike in (True, False) if strangers(here, there) else (False,):
        translate = translated(here, there, alike)
        trends = {name: _trend(gp, translate) for name, gp in gps.items()}
        made.append(Hypothesis(np.log(ALIKE) * alike, trends, levels, {e.campaign: len(told)}))
    return made


def _fitted(encoding: Encoding, points: Sequence[core.Point], y: Array, variances: Array) -> GP:
    x = encoding.features_as_run(points)
    shift, unit = scaling(y)
    some = np.unique(np.linspace(0, len(y) - 1, min(len(y), FITTED)).astype(int))
    hyper: Hyper = fit(x[some], (y[some] - shift) / unit, variances[some] / unit / unit, encoding.owner)
    return GP(x, y, variances, encoding.owner, hyper, shift, unit)


def _trend(gp: GP, translate: Trend) -> Trend:
    return lambda features: gp.predict(translate(features)).mean


def _together(alone: Sequence[Hypothesis], wanted: Sequence[str]) -> list[Hypothesis]:
    """All earlier campaigns at once: on average they may know better than each alone."""
    if len({name for h in alone for name in h.campaigns}) < 2:
        return []
    # Of a campaign that reads names in two ways, only the likelier.
    first = {name: h for h in reversed(alone) for name in h.campaigns}
    alone, prior = list(first.values()), max(h.prior for h in alone)
    trends, levels = {}, {}
    for name in wanted:
        several = [h.trends[name] for h in alone if name in h.trends]
        if several:
            trends[name] = _average(several)
            levels[name] = usual(name, alone)
    campaigns = {name: trials for h in alone for name, trials in h.campaigns.items()}
    return [Hypothesis(prior, trends, levels, campaigns)]


def _average(trends: Sequence[Trend]) -> Trend:
    return lambda features: np.mean([trend(features) for trend in trends], axis=0)
