"""Bayesian optimisation with a model that was trained on earlier campaigns, as far as it proves right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from firstlight import core

from ._common import Memo, asked_for, space_of, unknown_options, whole_option
from ._encoding import Array
from ._learn import COLD, HUGE, Hypothesis
from ._prior import Expected, InContext, Prior, cold_evidence, expected, experienced
from ._space import Space
from .bayes import Bayes

TRUSTED = 0.9
"""The chance, before any reading, that a model which covers a campaign is right about it."""
DISMISSED = 0.3
"""A model that is less likely right than this is not heard any more."""
DISAPPOINTING = -0.2
"""The same after the first reading, by the log of how much likelier that was under the model than without. It is taken
where the model expects most: of the family it was learned from nearly no campaign disappoints there by so much, and
most of those do that it only seems to cover."""
TESTED = 8
"""After each of so many first readings it is asked whether the model is to be dismissed, which is for good."""
SETTLED = 64
"""After so many readings of an observable the chance that the model is right stays what it is."""
SURE = 0.99
"""Beyond this chance nothing else is asked."""


@dataclass(frozen=True)
class Stand:
    """What a model has to say of a campaign, and the chance that it is right; `why` it is not heard, "" where it is."""

    why: str
    version: str = ""
    chance: float = 0.0
    hypotheses: tuple[Hypothesis, ...] = (COLD,)


class Pretrained(Bayes):
    """`bayes`, with a model that has learned from many earlier campaigns what to expect of this one.

    Two hypotheses: readings follow what the model expects, or they follow nothing that was known. Each is as
    likely as the readings so far are under it, hyper-parameters averaged over and not fitted (Bayesian model
    averaging). While the model is heard there is no space-filling start: the first point is where it expects most. A
    model that misleads is dismissed after a surprise or two, and the campaign goes on as `bayes` would have begun.
    `model` is the name of a registered model; where it is not here or does not cover the campaign, this is `bayes`
    and says so.
    """

    def __init__(self, *, model: str = "", initial: int | None = None, **options: object) -> None:
        unknown_options("pretrained", options, ("model", "initial"))
        if not isinstance(model, str) or not model:
            raise ValueError("option model of strategy pretrained must be the name of a registered model")
        super().__init__(initial=None if initial is None else whole_option("pretrained", "initial", initial, 1))
        self.model = model
        self._stands: Memo[tuple[object, Stand]] = Memo(8)
        self._priors: Memo[tuple[object, dict[str, Prior | InContext]]] = Memo(8)

    def models(self) -> tuple[str, ...]:
        """The models that it wants to be handed."""
        return (self.model,)

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        """At most `count` points; see `firstlight.core.Strategy`."""
        made = super().propose(spec, results, count, seed)
        stand = self._stand(space_of(spec), results)
        return [_explained(proposal, stand, self.model) for proposal in made]

    def _starts(self, space: Space, results: core.Results) -> int:
        return super()._starts(space, results) if self._stand(space, results).why else 0

    def _hypotheses(self, space: Space, results: core.Results) -> Sequence[Hypothesis]:
        return self._stand(space, results).hypotheses

    def _stand(self, space: Space, results: core.Results) -> Stand:
        model = results.models.get(self.model)
        key = (id(space.spec), id(model), id(results.rows), len(results.rows))
        return self._stands.get(key, lambda: ((space, model, results.rows), self._weighed(space, results)))[1]

    def _weighed(self, space: Space, results: core.Results) -> Stand:
        model, why = experienced(results.models, self.model)
        if model is None:
            return Stand(why)
        spec, wanted = space.spec, asked_for(space.spec.goal)
        why = next((why for name in wanted if (why := model.covers(spec, name))), "")
        if why:
            return Stand(f"the model {self.model} does not cover this campaign: {why}")
        key = (id(spec), id(model))
        priors = self._priors.get(key, lambda: ((space, model), {n: model.prior(spec, n) for n in wanted}))[1]
        return _judged(space, results, results.models[self.model].version, self.model, priors)


def _judged(
    space: Space, results: core.Results, version: str, called: str, priors: Mapping[str, Prior | InContext]
) -> Stand:  # fmt: skip
    """The chance that a model is right, by the readings so far of all that the goal asks for."""
    own = {name: expected(prior, space.encoding) for name, prior in priors.items()}
    gains = [_gained(prior, space, _read(space, results, name)) for name, prior in own.items()]
    count, chance = max(map(len, gains)), TRUSTED
    for first in sorted({*range(1, min(count, TESTED) + 1), count} - {0}):
        gain = sum(float(gained[min(first, len(gained)) - 1]) for gained in gains if len(gained))
        odds = np.log(TRUSTED) - np.log(1.0 - TRUSTED) + gain
        chance = float(1.0 / (1.0 + np.exp(-np.clip(odds, -500.0, 500.0))))
        if chance < DISMISSED or (first == 1 and gain < DISAPPOINTING):
            after = "its first trial" if first == 1 else f"{first} trials"
            return Stand(f"the model {called} is not heard, for it was wrong about {after} of this campaign")
    levels = {name: (prior.level, prior.spread) for name, prior in priors.items()}
    right = Hypothesis(prior=float(np.log(chance)), levels=levels, priors=own)
    if chance > SURE:
        return Stand("", version, chance, (right,))
    return Stand("", version, chance, (Hypothesis(prior=float(np.log1p(-chance)), levels=levels), right))


def _gained(prior: Expected, space: Space, readings: tuple[Array, Array, Array]) -> Array:
    """By how much the first reading of an observable, the first two, and so on (n,) are likelier, as a log, under a
    model than without."""
    x, y, extra = readings
    cold = cold_evidence(x, y, extra, space.encoding.owner, prior.prior.level, prior.prior.spread)
    return np.asarray(prior.given(x, y, extra).evidence - cold)


def _read(space: Space, results: core.Results, name: str) -> tuple[Array, Array, Array]:
    """Features (n, D), readings (n,) and known noise variances (n,) of one observable, the first SETTLED."""
    told = [(row.ran, seen[name]) for row in results.rows if not row.failure and name in (seen := row.seen)][:SETTLED]
    x = space.encoding.features_as_run([point for point, _ in told])
    y = np.clip([o.value for _, o in told], -HUGE, HUGE)
    return x, y, np.minimum([o.sigma for _, o in told], HUGE) ** 2


def _explained(proposal: core.Proposal, stand: Stand, called: str) -> core.Proposal:
    """The proposal with what part the model had in it."""
    if stand.why:
        return replace(proposal, reason="; ".join(filter(None, (proposal.reason, stand.why))))
    reason = f"{proposal.reason}; by the model {called}, right with chance {stand.chance:.2f}"
    if proposal.decision is None:
        return replace(proposal, reason=reason)
    learned = {name: {**told, "chance of the model": stand.chance} for name, told in proposal.decision.learned.items()}
    return replace(proposal, reason=reason, decision=replace(proposal.decision, model=stand.version, learned=learned))
