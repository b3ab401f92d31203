"""Bayesian optimisation that begins with what a model of tables expects."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from firstlight import core

from ._common import asked_for, space_of
from ._encoding import Array, Encoding
from ._gp import Trend
from ._learn import COLD, Hypothesis
from ._prior import columns_at
from ._screen import Tabular, Usual, predicted
from ._space import Space
from .bayes import Bayes

TRUSTED = 0.9
"""The chance, before any reading, that readings follow what the model expects."""
LITTLE = 0.01
"""Readings that differ less, in what the model expects points to differ, are taken for the same."""


class Informed(Bayes):
    """`bayes` for readings that follow a model, up to a level, a factor and a difference that is learned, or do not: as
    likely as each is by the readings so far (Bayesian model averaging, as in `transfer`)."""

    def __init__(
        self, spec: core.CampaignSpec, model: Tabular, usual: Mapping[str, Usual], options: Mapping[str, Any]
    ) -> None:  # fmt: skip
        super().__init__(**options)
        encoding, names = space_of(spec).encoding, list(model.observables)
        trends = {n: _trend(encoding, model, names.index(n), usual[n].level) for n in asked_for(spec.goal)}
        self._usual = {n: usual[n] for n in trends}
        cold = replace(COLD, prior=float(np.log1p(-TRUSTED)))
        self._told = (cold, Hypothesis(prior=float(np.log(TRUSTED)), trends=trends))

    def _hypotheses(self, space: Space, results: core.Results) -> Sequence[Hypothesis]:
        seen = [row.seen for row in results.rows if not row.failure]
        for name, usual in self._usual.items():
            read = [found[name].value for found in seen if name in found]
            if len(read) < 2 or float(np.std(read)) < LITTLE * usual.spread:
                # Readings that are all the same say nothing of how far others will differ.
                return (COLD,)
        return self._told


def _trend(encoding: Encoding, model: Tabular, which: int, usual: float) -> Trend:
    """What is expected of one observable at features; where the model knows nothing, what is usual."""

    def at(features: Array) -> Array:
        if not len(features):
            return np.empty(0)
        mean, _, familiar = predicted(model, columns_at(encoding, features))
        return np.asarray(np.where(familiar, mean[:, which], usual))

    return at
