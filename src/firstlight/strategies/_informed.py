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


class Informed(Bayes):
    """`bayes` for readings that follow a model, up to a level, a factor and a difference that is learned, or do not: as
    likely as each is by the readings so far (Bayesian model averaging, as in `transfer`). Points that fill the
    space come first only where `initial` says so."""

    def __init__(
        self, spec: core.CampaignSpec, model: Tabular, usual: Mapping[str, Usual], options: Mapping[str, Any]
    ) -> None:  # fmt: skip
        super().__init__(**options)
        encoding, names = space_of(spec).encoding, list(model.observables)
        trends = {n: _trend(encoding, model, names.index(n), usual[n].level) for n in asked_for(spec.goal)}
        levels = {n: (usual[n].level, usual[n].spread) for n in trends}
        cold = replace(COLD, prior=float(np.log1p(-TRUSTED)))
        self._told = (cold, Hypothesis(prior=float(np.log(TRUSTED)), trends=trends, levels=levels))

    def _starts(self, space: Space, results: core.Results) -> int:
        return self.initial or 0

    def _hypotheses(self, space: Space, results: core.Results) -> Sequence[Hypothesis]:
        return self._told


def _trend(encoding: Encoding, model: Tabular, which: int, usual: float) -> Trend:
    """What is expected of one observable at features; where the model knows nothing, what is usual."""

    def at(features: Array) -> Array:
        if not len(features):
            return np.empty(0)
        mean, _, familiar = predicted(model, columns_at(encoding, features))
        return np.asarray(np.where(familiar, mean[:, which], usual))

    return at
