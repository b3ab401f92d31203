"""BoTorch behind our port: its Gaussian processes and acquisition functions, put together as its tutorials do."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from firstlight import core

from .._common import Taken, generator, space_of, unknown_options, whole_option
from .._encoding import Array, numbers_of
from .._space import Space
from ._peers import cut, measured, nearest, only, proposals, ran, small, torch_alone, vendor

CANDIDATES = 2048
"""Legal points among which the best is taken where BoTorch's optimisers cannot keep the constraints."""

Told = Sequence[tuple[core.Point, core.Seen]]


class BoTorch:
    """Sobol points, then Gaussian processes with BoTorch's own priors and the log of the expected improvement.

    SingleTaskGP, or MixedSingleTaskGP where there are names; known sigmas are its known noise. One objective: qLogEI,
    or qLogNEI with known noise or outcome constraints; several: qLogNEHVI, with the thresholds as reference point.
    Trials under way are pending points. A pool, and any finite space of up to 20,000 points, is weighed whole.
    Elsewhere BoTorch optimises from `restarts` of `samples` starts within linear constraints; where it cannot keep a
    constraint (an exclusion, a limit on the parts of a mixture, an exact sum with whole numbers or logarithms in it)
    the best of 2,048 legal points is taken. It knows neither failures nor descriptors: failed trials are left out.
    `initial` is the number of Sobol points: 5 on a pool, else twice the number of parameters and two, at most 20.
    `draws` is the number of posterior samples in an expectation, `steps` the most of a fit (as BoTorch has them).
    """

    def __init__(
        self,
        *,
        initial: int | None = None,
        restarts: int = 10,
        samples: int = 512,
        draws: int | None = None,
        steps: int | None = None,
        **options: object,
    ) -> None:
        unknown_options("botorch", options, ("initial", "restarts", "samples", "draws", "steps"))
        self.initial = None if initial is None else whole_option("botorch", "initial", initial, 1)
        self.restarts = whole_option("botorch", "restarts", restarts, 1)
        self.samples = whole_option("botorch", "samples", samples, 1)
        self.draws = None if draws is None else whole_option("botorch", "draws", draws, 1)
        self.steps = None if steps is None else whole_option("botorch", "steps", steps, 1)
        vendor("botorch", "botorch")

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        """At most `count` points; see `firstlight.core.Strategy`."""
        space, rng = space_of(spec), generator(seed)
        taken, box = Taken(space, results), _Box(space)
        if (last := only(space, taken)) is not None:
            return proposals(space, [last], "BoTorch: the only point left") if len(last) else []
        told = [(p, seen) for row in results.rows if (seen := measured(spec, row)) and (p := ran(spec, row))]
        waiting = [p for row in results.pending.values() if (p := ran(spec, row))]
        done = len(results.rows) + len(results.pending)
        initial = self.initial or (5 if spec.pool is not None else min(20, 2 * len(box.columns) + 2))
        few = min(count, max(0, initial - done)) if told else count
        with torch_alone(seed, "botorch"):
            first = _take(space, taken, box.sobol(few, done, small(spec.seed)), rng)
            of = f"Sobol point of the first {initial}" if done < initial else "Sobol point until a trial succeeds"
            found = proposals(space, first, f"BoTorch: {of}")
            if len(found) == count or len(first) < few:
                return found
            waiting += [p.point for p in found]
            acquisition, name = _acquisition(spec.goal, box, told, waiting, self.draws, self.steps)
            wishes = self._optimised(acquisition, box, taken, told, count - len(found), rng)
            return found + proposals(space, _take(space, taken, wishes, rng), f"BoTorch: {name}")

    def _optimised(
        self, acquisition: Any, box: "_Box", taken: Taken, told: Told, count: int, rng: np.random.Generator
    ) -> list[Array]:
        """The most promising `count` points, one after the other, as raw rows (1, d)."""
        torch, optim = vendor("torch", "botorch"), vendor("botorch.optim", "botorch")
        if box.space.rows is not None or not box.native:
            free = taken.free(box.space.rows if box.space.rows is not None else _legal(box.space, told, rng))
            count = min(count, len(free))
            if not count:
                return []
            best, _ = optim.optimize_acqf_discrete(acquisition, count, box.tensor(free), unique=True)
            at = [int((box.tensor(free) == x).all(-1).nonzero()[0]) for x in best]
            return [free[[i]] for i in at]
        options: dict[str, Any] = {
            "bounds": torch.tensor(box.bounds, dtype=torch.double),
            "q": count,
            "num_restarts": self.restarts,
            "raw_samples": self.samples,
            "sequential": True,
            "inequality_constraints": box.sums(torch, equal=False) or None,
            "equality_constraints": box.sums(torch, equal=True) or None,
        }
        if not (box.levels or box.names):
            best, _ = optim.optimize_acqf(acquisition, **options)
        else:
            mixed = vendor("botorch.optim.optimize_mixed", "botorch").optimize_acqf_mixed_alternating
            best, _ = mixed(acquisition, discrete_dims=box.levels or None, cat_dims=box.names or None, **options)
        return list(box.raw(best.numpy())[:, None])


class _Box:
    """The parameters that vary, in BoTorch's terms: numbers on [0, 1], names by their place in the list."""

    def __init__(self, space: Space) -> None:
        self.space, e = space, space.encoding
        self.columns = np.flatnonzero(e.high > e.low)
        kinds = [e.parameters[j] for j in self.columns]
        named = {i: len(p.values) for i, p in enumerate(kinds) if isinstance(p, core.Categorical)}
        self.names = {i: [float(v) for v in range(n)] for i, n in named.items()}
        self.levels = {
            i: np.unique(self.coordinates(self._along(int(j)))[:, i]).tolist()
            for i, j in enumerate(self.columns)
            if e.whole[j] and i not in named
        }
        self.bounds = np.array([[0.0] * len(kinds), [named.get(i, 2) - 1.0 for i in range(len(kinds))]])
        self.native, self._sums = self._constraints()

    def _along(self, j: int) -> Array:
        """One row for every value of a parameter of whole numbers or ordered values."""
        e = self.space.encoding
        out = np.tile(e.low, (int(e.high[j] - e.low[j]) + 1, 1))
        out[:, j] = np.arange(e.low[j], e.high[j] + 1.0)
        return out

    def coordinates(self, raw: Array) -> Array:
        """Raw rows of the space in BoTorch's coordinates (n, D)."""
        e = self.space.encoding
        out = e.unit(raw)
        for j, p in enumerate(e.parameters):
            if isinstance(p, core.Categorical):
                out[:, j] = raw[:, j]
            elif (numbers := numbers_of(p)) is not None and len(numbers) > 1:
                out[:, j] = (numbers[raw[:, j].astype(int)] - numbers[0]) / (numbers[-1] - numbers[0])
        return out[:, self.columns]

    def tensor(self, raw: Array) -> Any:
        """Raw rows as a tensor of coordinates."""
        torch = vendor("torch", "botorch")
        return torch.tensor(self.coordinates(raw), dtype=torch.double)

    def points(self, points: Sequence[core.Point]) -> Any:
        """Points as a tensor of coordinates."""
        return self.tensor(self.space.encoding.raw(points))

    def raw(self, x: Array) -> Array:
        """Coordinates as raw rows: not legal yet."""
        e = self.space.encoding
        unit = np.zeros((len(x), len(e.names)))
        unit[:, self.columns] = x
        out = e.from_unit(unit)
        for i, j in enumerate(self.columns):
            if i in self.names:
                out[:, j] = np.round(x[:, i])
            elif isinstance(e.parameters[j], core.Ordered):
                out[:, j] = np.abs(x[:, [i]] - np.array(self.levels[i])).argmin(1)
        return out

    def sobol(self, count: int, done: int, seed: int) -> list[Array]:
        """The points of a scrambled Sobol sequence that follow the first `done`, as raw rows (1, d): not legal yet."""
        e = self.space.encoding
        engine = vendor("torch", "botorch").quasirandom.SobolEngine(len(self.columns), scramble=True, seed=seed)
        unit = np.zeros((count, len(e.names)))
        if count:
            unit[:, self.columns] = engine.fast_forward(done).draw(count).numpy()
        shares = e.low + np.minimum(np.floor(unit * (e.high - e.low + 1.0)), e.high - e.low)
        return list(np.where(e.whole & ~e.log, shares, e.from_unit(unit))[:, None])

    def _constraints(self) -> tuple[bool, list[tuple[list[int], list[float], float, bool]]]:
        """Whether BoTorch can keep all constraints, and those on sums: indices, factors, least sum, or exact sum."""
        e, found, native = self.space.encoding, [], not (self.space.choices.excludes or self.space.choices.limits)
        place = {int(j): i for i, j in enumerate(self.columns)}
        numbers = [numbers_of(p) for p in e.parameters]
        low = np.array([n[0] if n is not None else x for n, x in zip(numbers, e.low, strict=True)])
        high = np.array([n[-1] if n is not None else x for n, x in zip(numbers, e.high, strict=True)])
        for row, lower, upper in zip(
            self.space.choices.rows, self.space.choices.lower, self.space.choices.upper, strict=True
        ):
            used = [j for j in np.flatnonzero(row) if int(j) in place]
            equal = lower == upper
            native &= not any(e.log[j] or (equal and e.whole[j]) for j in used)
            at, factors, settled = [place[int(j)] for j in used], row[used] * (high - low)[used], row @ low
            if used and np.isfinite(lower):
                found.append((at, factors.tolist(), float(lower - settled), equal))
            if used and np.isfinite(upper) and not equal:
                found.append((at, (-factors).tolist(), float(settled - upper), False))
        return native, found

    def sums(self, torch: Any, equal: bool) -> list[tuple[Any, Any, float]]:
        """The constraints on sums as BoTorch takes them."""
        return [
            (torch.tensor(at), torch.tensor(factors, dtype=torch.double), bound)
            for at, factors, bound, exact in self._sums
            if exact == equal
        ]


def _take(space: Space, taken: Taken, wishes: Sequence[Array], rng: np.random.Generator) -> list[Array]:
    """The free legal points nearest to some wishes, each taken thereby."""
    rows = []
    for wish in wishes:
        row = nearest(space, taken, wish, rng)
        if row is None:
            break
        taken.take(row)
        rows.append(row)
    return rows


def _legal(space: Space, told: Told, rng: np.random.Generator) -> Array:
    """Legal points over the whole space, half of them near where trials were."""
    spread = space.sample(CANDIDATES // 2, rng)
    raw = space.encoding.raw([p for p, _ in told if not core.violations(space.spec, p)][-64:])
    close = [space.near(raw, CANDIDATES // 4, width, rng) for width in (0.1, 0.02)] if len(raw) else []
    return np.vstack([spread, *close])


def _acquisition(
    goal: core.Goal, box: _Box, told: Told, waiting: Sequence[core.Point], draws: int | None, steps: int | None
) -> tuple[Any, str]:
    """The acquisition function for what has been told, and its name."""
    torch = vendor("torch", "botorch")
    objectives = [o.observable for o in goal.objectives]
    names = list(dict.fromkeys([*objectives, *(c.observable for c in goal.outcome_constraints)]))
    x = box.points([p for p, _ in told])
    y = torch.tensor([[cut(seen[n].value) for n in names] for _, seen in told], dtype=torch.double)
    sigma = torch.tensor([[min(seen[n].sigma, 1e15) for n in names] for _, seen in told], dtype=torch.double)
    model = _fitted(box, x, y, sigma, steps)
    samplers = vendor("botorch.sampling.normal", "botorch")
    options = {
        "X_pending": box.points(waiting) if waiting else None,
        "sampler": None if draws is None else samplers.SobolQMCNormalSampler(torch.Size([draws])),
    }
    gains = [_gain(torch, o, names.index(o.observable)) for o in goal.objectives]
    bounds = [_broken(c, names.index(c.observable)) for c in goal.outcome_constraints] or None
    if len(gains) > 1:
        many = vendor("botorch.acquisition.multi_objective", "botorch")
        objective = vendor("botorch.acquisition.multi_objective.objective", "botorch").GenericMCMultiOutputObjective(
            lambda samples, X=None: torch.stack([gain(samples) for gain in gains], -1)
        )
        kept = y if bounds is None else y[torch.stack([b(y) <= 0 for b in bounds]).all(0)]
        reference = _reference(goal, objective(kept if len(kept) else y))
        return many.qLogNoisyExpectedHypervolumeImprovement(
            model, reference, x, objective=objective, constraints=bounds, prune_baseline=True, **options
        ), "qLogNEHVI"
    one = vendor("botorch.acquisition", "botorch")
    goal_of = one.GenericMCObjective(lambda samples, X=None: gains[0](samples))
    if bounds or (sigma > 0).any():
        return one.qLogNoisyExpectedImprovement(
            model, x, objective=goal_of, constraints=bounds, prune_baseline=True, **options
        ), "qLogNEI"
    best = gains[0](y).max()
    return one.qLogExpectedImprovement(model, best, objective=goal_of, **options), "qLogEI"


def _fitted(box: _Box, x: Any, y: Any, sigma: Any, steps: int | None) -> Any:
    """A model a column of y (n, m), fitted; sigmas (n, m) are known noise where all of a column are."""
    models, gpytorch = vendor("botorch.models", "botorch"), vendor("gpytorch.mlls", "botorch")
    each = []
    for k in range(y.shape[1]):
        noise = sigma[:, [k]] ** 2 if (sigma[:, k] > 0).all() else None
        if box.names:
            each.append(models.MixedSingleTaskGP(x, y[:, [k]], cat_dims=list(box.names), train_Yvar=noise))
        else:
            each.append(models.SingleTaskGP(x, y[:, [k]], train_Yvar=noise))
    fit = vendor("botorch.fit", "botorch").fit_gpytorch_mll
    limit = {} if steps is None else {"optimizer_kwargs": {"options": {"maxiter": steps}}}
    for model in each:
        fit(gpytorch.ExactMarginalLogLikelihood(model.likelihood, model), **limit)
    return each[0] if len(each) == 1 else models.ModelListGP(*each)


def _gain(torch: Any, o: core.Objective, k: int) -> Callable[[Any], Any]:
    """What is to be made large, from samples (..., m): less the loss."""
    if o.direction == "match":
        target, tolerance = o.target or 0.0, o.tolerance
        return lambda samples: -torch.relu((samples[..., k] - target).abs() - tolerance)
    sign = 1.0 if o.direction == "maximize" else -1.0
    return lambda samples: sign * samples[..., k]


def _broken(c: core.OutcomeConstraint, k: int) -> Callable[[Any], Any]:
    """Negative where a constraint is kept, from samples (..., m)."""
    sign = 1.0 if c.relation == "<=" else -1.0
    return lambda samples: sign * (samples[..., k] - c.bound)


def _reference(goal: core.Goal, gains: Any) -> Any:
    """The reference point: thresholds, and where there is none what BoTorch infers from the front."""
    utils = vendor("botorch.utils.multi_objective", "botorch")
    front = gains[utils.is_non_dominated(gains)]
    reference = vendor("botorch.utils.multi_objective.hypervolume", "botorch").infer_reference_point(front)
    for k, o in enumerate(goal.objectives):
        if o.threshold is not None:
            reference[k] = -core.loss(o, o.threshold)
    return reference
