"""Optuna behind our port: its tree-structured Parzen estimator (TPE), as it comes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from firstlight import core

from .._common import Memo, Taken, generator, space_of, unknown_options, whole_option
from .._encoding import Array
from .._space import Space
from ._peers import excess, measured, nearest, proposals, ran, small, varied, vendor


class Optuna:
    """Optuna's default sampler, TPE, on a study that is told every trial.

    Numbers on a logarithmic scale, whole numbers, names and several objectives are Optuna's own; ordered values are
    told by rank, an objective to match by its distance, outcome constraints as Optuna's constraints, trials under way
    as running (its constant liar keeps away from them) and failed trials as failed, which TPE forgets. Optuna knows no
    pool, sum, mixture or exclusion, and suggests points again: the free legal point nearest to its suggestion is taken.
    `initial` is the number of random trials that TPE begins with (10, as Optuna has it).
    """

    def __init__(self, *, initial: int = 10, **options: object) -> None:
        unknown_options("optuna", options, ("initial",))
        self.initial = whole_option("optuna", "initial", initial, 1)
        self._optuna = vendor("optuna", "optuna")
        self._studies: Memo[_Study] = Memo(4)

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        """At most `count` points; see `firstlight.core.Strategy`."""
        space, rng = space_of(spec), generator(seed)
        taken = Taken(space, results)
        study = self._studies.get(id(spec), lambda: _Study(self._optuna, spec))
        study.tell(results.rows)
        sampler = self._optuna.samplers.TPESampler(seed=small(seed), n_startup_trials=self.initial)
        chosen: list[Array] = []
        try:
            for waiting in results.pending.values():
                study.start(waiting)
            while len(chosen) < count:
                row = nearest(space, taken, _raw(space, study.ask(sampler)), rng)
                if row is None:
                    break
                taken.take(row)
                chosen.append(row)
                study.start(core.Row(trial="", point=space.encoding.points(row)[0]))
        finally:
            study.stop()
        done = sum(measured(spec, row) is not None for row in results.rows)
        first = f"random until {self.initial} trials have succeeded ({done} have)"
        return proposals(space, chosen, f"Optuna: {'TPE' if done >= self.initial else first}")


class _Study:
    """A study of Optuna's that has been told the rows of a campaign. What was started in it is stopped again.

    Stopped trials stay in it as failed, and TPE passes over those: so it suggests what a new study would.
    """

    def __init__(self, optuna: Any, spec: core.CampaignSpec) -> None:
        self._optuna, self._spec = optuna, spec
        self._state = optuna.trial.TrialState
        self._distributions = {p.name: _distribution(optuna.distributions, p) for p in varied(spec)}
        self._begin()

    def _begin(self) -> None:
        verbosity = self._optuna.logging.get_verbosity()
        # It announces every study it makes.
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        self._study = self._optuna.create_study(directions=["minimize"] * len(self._spec.goal.objectives))
        self._optuna.logging.set_verbosity(verbosity)
        self._told: list[core.Row] = []
        self._open: list[int] = []
        self._size = 0

    def tell(self, rows: Sequence[core.Row]) -> None:
        """Make these rows, in their order, all that the study knows."""
        known = len(self._told)
        if known > len(rows) or any(a is not b and a != b for a, b in zip(self._told, rows, strict=False)):
            self._begin()
            known = 0
        for row in rows[known:]:
            self._told.append(row)
            point = ran(self._spec, row)
            if point is None:
                continue
            seen = measured(self._spec, row)
            if seen is None:
                self._add(point, state=self._state.FAIL)
                continue
            goal = self._spec.goal
            values = [core.loss(o, seen[o.observable].value) for o in goal.objectives]
            broken = {f"{i} {c.observable}": excess(c, seen) for i, c in enumerate(goal.outcome_constraints)}
            self._add(point, state=self._state.COMPLETE, values=values, constraints=broken)

    def start(self, row: core.Row) -> None:
        """A trial is under way."""
        point = ran(self._spec, row)
        if point is not None:
            self._open.append(self._add(point, state=self._state.RUNNING))

    def ask(self, sampler: Any) -> dict[str, Any]:
        """What the sampler would try next."""
        self._study.sampler = sampler
        trial = self._study.ask(self._distributions)
        self._size += 1
        self._study.tell(trial, state=self._state.FAIL)
        params: dict[str, Any] = trial.params
        return params

    def stop(self) -> None:
        """Nothing is under way any more."""
        for number in self._open:
            self._study.tell(number, state=self._state.FAIL)
        self._open = []

    def _add(self, point: core.Point, **what: Any) -> int:
        params = {p.name: _told(p, point[p.name]) for p in varied(self._spec)}
        trial = self._optuna.trial.create_trial(params=params, distributions=self._distributions, **what)
        self._study.add_trial(trial)
        self._size += 1
        return self._size - 1


def _distribution(distributions: Any, p: core.Parameter) -> Any:
    if isinstance(p, core.Continuous):
        return distributions.FloatDistribution(p.low, p.high, log=p.scale == "log")
    if isinstance(p, core.Integer):
        return distributions.IntDistribution(p.low, p.high, log=p.scale == "log")
    if isinstance(p, core.Ordered):
        return distributions.IntDistribution(0, len(p.values) - 1)
    return distributions.CategoricalDistribution(p.values)


def _told(p: core.Parameter, value: core.Scalar) -> core.Scalar:
    return p.values.index(value) if isinstance(p, core.Ordered) else value


def _raw(space: Space, params: dict[str, Any]) -> Array:
    """A suggestion as a raw row (1, d)."""
    wish = space.encoding.low.copy()
    for j, p in enumerate(space.encoding.parameters):
        if p.name in params:
            value = params[p.name]
            wish[j] = p.values.index(value) if isinstance(p, core.Categorical) else value
    return np.array([wish])
