"""From results to surrogates: which readings to use, how far to trust each, and what failures tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from firstlight import core

from ._common import Memo, asked_for, digest, refusing
from ._encoding import Array, Encoding, Indices
from ._gp import GP, NOISE, TRUST, Hyper, Mixture, Predictor, Trend, fit
from ._prior import Expected
from ._surrogate import Surrogate

LEARNED: frozenset[core.Cause] = frozenset(
    {"did-not-converge", "invalid-input", "invalid-output", "timed-out", "out-of-memory", "crashed"}
)
"""Failures that tell of the point. The others tell of the world: a lost node says nothing of the point sent to it."""
EXACT, FITTED = 1_000, 200
"""At most so many readings are conditioned on, and so many are used to fit hyper-parameters."""
OWN: core.Cause = "invalid-input"
"""By this cause another source than the target fails at points that it cannot be asked of. The target can."""
SUCCESS_LENGTH = 1.0
"""Length-scale of success: too few trials fail for one to be fitted."""
HUGE = 1e100
"""Readings beyond this are taken for this, so that their squares are still numbers."""
USUAL = 5.0
"""For how many readings what earlier campaigns say of their scale counts."""
UNLIKELY = 0.01
"""A hypothesis less likely than this part of the likeliest has no say."""
POOLED = 2.0
"""For how many readings the pooled variance of all replicates counts beside those of one trial."""


@dataclass(frozen=True)
class Hypothesis:
    """That readings follow what some earlier campaigns made of the same observables, or (no trends) that none do.

    `prior` is the log of its chance before any reading, `trends` what it expects of an observable, and `levels` what
    was usual there and by how much points differed. `campaigns` says of how many trials each campaign tells. `priors`
    are what a model expects in place of trends. Where some hypothesis has any, the chance of each is settled already:
    `prior` counts the readings in.
    """

    prior: float = 0.0
    trends: Mapping[str, Trend] = field(default_factory=dict)
    levels: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    campaigns: Mapping[str, int] = field(default_factory=dict)
    priors: Mapping[str, Expected] = field(default_factory=dict)


COLD = Hypothesis()


@dataclass(frozen=True)
class Readings:
    """What good and bad trials told: features (n, D), losses (n, m), values and variances by name.

    `good` says which keep every bound, and `counts` which of these are by the target source. Other sources `answered`
    at some features (k, D), and could not be asked at others (`unanswered`).
    """

    features: Array
    losses: Array
    good: npt.NDArray[np.bool_]
    counts: npt.NDArray[np.bool_]
    values: Mapping[str, Array]
    variances: Mapping[str, Array]
    failed: Mapping[str, Array]
    answered: Array
    unanswered: Array

    def __len__(self) -> int:
        return len(self.features)


def learn(
    spec: core.CampaignSpec,
    encoding: Encoding,
    results: core.Results,
    fits: Memo[Hyper],
    hypotheses: Sequence[Hypothesis] = (COLD,),
) -> Surrogate | None:
    """Surrogates of everything the goal asks for, or None where it was not observed yet and nothing is expected."""
    r = _readings(spec, encoding, results)
    told = {name for h in hypotheses for name in (*h.trends, *h.priors)}
    if not len(r) and not (r.values.keys() <= told):
        return None
    use = _informative(r.losses, r.good, EXACT)
    gps: dict[str, Predictor] = {}
    chances = np.zeros(len(hypotheses))
    for name in r.values:
        gps[name], share = _predictor(name, r, use, spec.goal, encoding, fits, hypotheses)
        chances += share / len(r.values)
    surrogate = Surrogate(
        goal=spec.goal,
        gps=gps,
        success={cause: _success(_others(r, use, cause), r.failed[cause], encoding) for cause in r.failed},
        known=r.losses[r.counts],
        noisy=_noisy(r),
        trials=len(r),
        names=encoding.names,
        informed_by=_influences(hypotheses, chances),
        answers=_success(r.answered, r.unanswered, encoding) if len(r.unanswered) else None,
        refusing=refusing(spec, results),
    )
    if not len(r):
        # Whatever is better than usual is an improvement, for the first points to go where most is expected.
        level = [core.loss(o, usual(o.observable, hypotheses)[0]) for o in spec.goal.objectives]
        return surrogate.knowing(np.array([level]))
    if (surrogate.noisy and r.counts.any()) or (spec.fidelity and not r.counts.any() and r.good.any()):
        kept = use[(r.counts if r.counts.any() else r.good)[use]]
        target = encoding.by_source(r.features[kept if len(kept) else use], spec.fidelity)
        surrogate = surrogate.knowing(surrogate.expected(target))
    return surrogate


def _influences(hypotheses: Sequence[Hypothesis], chances: Array) -> tuple[core.Influence, ...]:
    """Which earlier campaigns have a part in the predictions, and how great a part."""
    shares: dict[str, float] = {}
    trials: dict[str, int] = {}
    for h, chance in zip(hypotheses, chances, strict=True):
        for name, count in h.campaigns.items():
            shares[name] = shares.get(name, 0.0) + float(chance) / len(h.campaigns)
            trials[name] = count
    return tuple(core.Influence(campaign=n, share=min(share, 1.0), trials=trials[n]) for n, share in shares.items())


def usual(name: str, hypotheses: Sequence[Hypothesis]) -> tuple[float, float]:
    """What earlier campaigns usually read of an observable, and by how much their points differed."""
    levels = [h.levels[name] for h in hypotheses if name in h.levels]
    return float(np.median([level for level, _ in levels])), float(np.median([unit for _, unit in levels]))


def _readings(spec: core.CampaignSpec, encoding: Encoding, results: core.Results) -> Readings:
    goal, wanted = spec.goal, asked_for(spec.goal)
    ok = [(row, seen) for row in results.rows if not row.failure and set(wanted) <= (seen := row.seen).keys()]
    losses = np.array([[core.loss(o, seen[o.observable].value) for o in goal.objectives] for _, seen in ok])
    good = np.array([core.feasible(goal, seen) for _, seen in ok], dtype=bool)
    causes: dict[str, list[core.Point]] = {}
    unanswered: list[core.Point] = []
    for row in results.rows:
        if row.failure and row.failure.cause in LEARNED:
            own = row.failure.cause == OWN and not core.counts(spec, row.ran)
            (unanswered if own else causes.setdefault(row.failure.cause, [])).append(row.ran)
    answered = [row.ran for row, _ in ok if unanswered and not core.counts(spec, row.ran)]
    return Readings(
        features=encoding.features_as_run([row.ran for row, _ in ok]),
        losses=np.clip(losses.reshape(len(ok), len(goal.objectives)), -HUGE, HUGE),
        good=good,
        counts=good & np.array([core.counts(spec, row.ran) for row, _ in ok], dtype=bool),
        values={w: np.clip([seen[w].value for _, seen in ok], -HUGE, HUGE) for w in wanted},
        variances={w: _variances(ok, w) for w in wanted},
        failed={c: encoding.features_as_run(points[-EXACT // 2 :]) for c, points in sorted(causes.items())},
        answered=encoding.features_as_run(answered[-EXACT // 2 :]),
        unanswered=encoding.features_as_run(unanswered[-EXACT // 2 :]),
    )


def _variances(ok: Sequence[tuple[core.Row, core.Seen]], name: str) -> Array:
    """The known variance of each trial's reading (n,): of replicates, with their scatter pooled over the trials.

    The scatter of two or three readings alone is worth little, so it counts together with that of all.
    """
    several = [[o for o in row.observations if o.observable == name] for row, _ in ok]
    known = np.minimum([seen[name].sigma for _, seen in ok], HUGE) ** 2
    bare = [i for i, found in enumerate(several) if len(found) > 1 and not any(o.sigma for o in found)]
    if not bare:
        return known
    scatter = np.array([np.var(np.clip([o.value for o in several[i]], -HUGE, HUGE), ddof=1) for i in bare])
    counts = np.array([len(several[i]) for i in bare])
    from scipy.stats import chi2  # noqa: PLC0415  scipy.stats takes as long to load as all else here.

    # Their median, as a variance: one trial that scatters widely says little of the others.
    freedom = float(np.median(counts - 1))
    pooled = float(np.median(scatter)) * freedom / float(chi2.median(freedom))
    known[bare] = (POOLED * pooled + (counts - 1) * scatter) / (POOLED + counts - 1) / counts
    return known


def _predictor(
    name: str, r: Readings, use: Indices, goal: core.Goal, encoding: Encoding, fits: Memo[Hyper],
    hypotheses: Sequence[Hypothesis],
) -> tuple[Predictor, Array]:  # fmt: skip
    """A Gaussian process a hypothesis, weighed by how well each explains the readings, and the weights (k,)."""
    k = next((k for k, o in enumerate(goal.objectives) if o.observable == name), None)
    y, variances = r.values[name], r.variances[name]
    told = any(name in h.levels for h in hypotheses)
    x, values, known = r.features[use], y[use], variances[use]
    shift, unit = scaling(values) if len(values) else (0.0, 0.0)
    if told:
        # A few readings say less of how far they will differ than the earlier campaigns do.
        level, differ = usual(name, hypotheses)
        shift = shift if len(values) else level
        unit = float(np.hypot(unit * np.sqrt(len(y) * (len(y) > 1)), differ * np.sqrt(USUAL)) / np.sqrt(len(y) + USUAL))
    failed = np.vstack([r.features[:0], *r.failed.values()])
    if k is not None and len(failed) and len(values):
        # Taken for as bad as the worst, a failure also drags down what lies around it.
        few = failed[-EXACT // 2 :]
        worst = float(values[int(np.argmax(r.losses[use, k]))])
        x, values = np.vstack([x, few]), np.r_[values, np.full(len(few), worst)]
        known = np.r_[known, np.zeros(len(few))]
    gps, chances = list[Predictor](), []
    settled = any(h.priors for h in hypotheses)
    for h in hypotheses:
        if name in h.priors:
            gps.append(h.priors[name].given(x, values, known))
            chances.append(h.prior)
            continue
        trend = h.trends.get(name)
        hyper = _hyper(r, y, variances, encoding, fits, trend, (shift, unit) if told else None)
        gps.append(GP(x, values, known, encoding.owner, hyper, shift, unit, trend))
        chances.append(h.prior + (0.0 if settled else hyper.evidence))
    if len(gps) == 1:
        return gps[0], np.ones(1)
    weights = np.exp(np.array(chances) - logsumexp(chances))
    kept = np.flatnonzero(weights > UNLIKELY * weights.max())
    return Mixture([gps[i] for i in kept], weights[kept] / weights[kept].sum()), weights


def _others(r: Readings, use: Indices, cause: str) -> Array:
    """Where trials did not fail by this cause: the good ones, and those that failed by another."""
    return np.vstack([r.features[use], *(x for c, x in r.failed.items() if c != cause)])


def _success(fine: Array, failed: Array, encoding: Encoding) -> GP:
    """A Gaussian process of succeeding (1) and failing (0), from the features of both."""
    x = np.vstack([fine, failed])
    y = np.r_[np.ones(len(fine)), np.zeros(len(failed))]
    lengths = np.full(len(encoding.names), SUCCESS_LENGTH)
    return GP(x, y, np.zeros(len(y)), encoding.owner, Hyper(lengths, 0.01, 1.0), *scaling(y))


def scaling(y: Array) -> tuple[float, float]:
    """Mean and deviation of readings, safe for enormous and for equal ones."""
    size = float(np.abs(y).max()) or 1.0
    z = y / size
    deviation = float(z.std()) * size
    return float(z.mean()) * size, deviation if deviation > 1e-12 * size else size


def _hyper(
    r: Readings, y: Array, variances: Array, encoding: Encoding, fits: Memo[Hyper], trend: Trend | None,
    scale: tuple[float, float] | None,
) -> Hyper:  # fmt: skip
    """Hyper-parameters fitted to the first so many readings, a number that grows in ever larger steps.

    So most calls find them in the memo, and a call that does not works out the same ones. `scale`, a shift and a unit
    where not the readings' own, is the same for all hypotheses, so that what each makes of the readings compares.
    """
    n = len(y)
    step = 2 ** max(0, int(np.log2(n / 16.0))) if n > 16 and scale is None else 1
    first = n - n % step
    use = _informative(r.losses[:first], r.good[:first], FITTED)
    shift, unit = scale or scaling(y[use])
    x, z, known = r.features[use], (y[use] - shift) / unit, variances[use] / unit / unit
    if not n:
        return Hyper(np.ones(len(encoding.names)), float(np.exp(NOISE[0])), 1.0)
    if trend is None:
        return fits.get(digest(x, z, known), lambda: fit(x, z, known, encoding.owner))
    before = (trend(x) - shift) / unit
    follows = TRUST * np.outer(before, before)
    return fits.get(digest(x, z, known, before), lambda: fit(x, z - before, known, encoding.owner, follows))


def _informative(losses: Array, good: npt.NDArray[np.bool_], most: int) -> Indices:
    """Which readings to use where there are too many: the best third, and the rest evenly over time; ascending."""
    n = len(losses)
    if n <= most:
        return np.arange(n)
    scale = np.where(np.ptp(losses, axis=0) > 0, np.ptp(losses, axis=0), 1.0)
    order = np.argsort(((losses - losses.min(0)) / scale).sum(1) + 10.0 * ~good, kind="stable")
    best, rest = order[: most // 3], np.sort(order[most // 3 :])
    even = rest[np.linspace(0, len(rest) - 1, most - len(best)).astype(int)]
    return np.unique(np.r_[best, even])


def _noisy(r: Readings) -> bool:
    """Whether readings scatter: some come with a sigma, or one point was read twice and differently."""
    if any(v.any() for v in r.variances.values()):
        return True
    first: dict[bytes, Array] = {}
    pairs = zip(r.features, r.losses, strict=True)
    return any(not np.array_equal(first.setdefault(x.tobytes(), y), y) for x, y in pairs)
