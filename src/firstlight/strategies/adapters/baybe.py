"""BayBE behind our port: its default recommender, on the pool where there is one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace

from firstlight import core

from .._common import Memo, Taken, generator, space_of, unknown_options, whole_option
from .._encoding import Array, Indices, numbers_of
from .._space import LISTED, Space
from ._peers import cut, measured, nearest, only, proposals, ran, small, torch_alone, vendor

FEW = 64
"""Where the space cannot be listed, an integer of more values than this is a continuous parameter, and rounded."""


class BayBE:
    """BayBE's default: random until `initial` trials succeeded, then a GP with its own kernel and priors, and qLogEI.

    A pool, and any finite space of up to 20,000 points, is BayBE's discrete search space: every free row is weighed
    and none is mapped. Elsewhere constraints among discrete parameters limit the discrete part, and sums of continuous
    parameters and the number of parts of a mixture are BayBE's own constraints; those that tie discrete to continuous
    parameters it does not know, and the free legal point nearest to its suggestion is taken. Descriptors become a
    custom encoding, a logarithmic scale the logarithm, trials under way pending experiments, several objectives a
    Pareto objective whose reference point are the thresholds, if all have one. BayBE knows no failures and no outcome
    constraints: failed trials are left out, bounds on outcomes are not heeded.
    Between continuous parameters it optimises from `restarts` of `samples` starts for each of `configurations` discrete
    combinations (all, in BayBE) and `subsets` choices of a mixture's parts, drawn at random where there are more. The
    other defaults are BayBE's own.
    """

    def __init__(
        self,
        *,
        initial: int = 1,
        restarts: int = 10,
        samples: int = 64,
        configurations: int = 32,
        subsets: int = 10,
        **options: object,
    ) -> None:
        unknown_options("baybe", options, ("initial", "restarts", "samples", "configurations", "subsets"))
        self.initial = whole_option("baybe", "initial", initial, 1)
        self.restarts = whole_option("baybe", "restarts", restarts, 1)
        self.samples = whole_option("baybe", "samples", samples, 1)
        self.configurations = whole_option("baybe", "configurations", configurations, 1)
        self.subsets = whole_option("baybe", "subsets", subsets, 1)
        vendor("baybe", "baybe")
        self._searches: Memo[_Search] = Memo(4)

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        """At most `count` points; see `firstlight.core.Strategy`."""
        space, rng = space_of(spec), generator(seed)
        taken = Taken(space, results)
        if (last := only(space, taken)) is not None:
            return proposals(space, [last], "BayBE: the only point left") if len(last) else []
        search = self._searches.get(id(spec), lambda: _Search(space))
        told = [(p, seen) for row in results.rows if (seen := measured(spec, row)) and (p := ran(spec, row))]
        waiting = [p for row in results.pending.values() if (p := ran(spec, row))]
        searchspace, left = search.free(taken)
        count = min(count, left)
        if not count:
            return []
        with torch_alone(seed, "baybe"), vendor("baybe", "baybe").Settings(random_seed=small(seed)):
            found = self._recommend(search, count, searchspace, told, waiting)
        chosen: list[Array] = []
        for wish in search.raw(found):
            row = wish if space.rows is not None else nearest(space, taken, wish, rng)
            if row is not None:
                taken.take(row)
                chosen.append(row)
        first = f"random until {self.initial} trials have succeeded ({len(told)} have)"
        return proposals(space, chosen, f"BayBE: {search.criterion if len(told) >= self.initial else first}")

    def _recommend(
        self, search: "_Search", count: int, searchspace: Any,
        told: list[tuple[core.Point, core.Seen]], waiting: list[core.Point],
    ) -> Any:  # fmt: skip
        """What the two-phase recommender, which BayBE's campaigns have by default, recommends."""
        recommenders = vendor("baybe.recommenders", "baybe")
        if len(told) < self.initial:
            return recommenders.RandomRecommender().recommend(count, searchspace)
        options: dict[str, Any] = {"n_restarts": self.restarts, "n_raw_samples": self.samples}
        options["max_n_subsets"] = self.subsets
        if search.configurations > self.configurations:
            options |= {"hybrid_sampler": "Random", "sampling_percentage": self.configurations / search.configurations}
        if search.reference is not None:
            acquisition = vendor("baybe.acquisition", "baybe")
            options["acquisition_function"] = acquisition.qLogNEHVI(reference_point=search.reference)
        pending = search.frame(waiting) if waiting else None
        return recommenders.BotorchRecommender(**options).recommend(
            count, searchspace, search.objective, search.measurements(told), pending
        )


class _Search:
    """A specification in BayBE's terms, made once: with thousands of rows that takes longer than a suggestion."""

    def __init__(self, space: Space) -> None:
        self._pandas = vendor("pandas", "baybe")
        self.space, self.spec = space, space.spec
        self.objective, self.reference = _objective(self.spec.goal)
        self.criterion = "qLogEI" if len(self.spec.goal.objectives) == 1 else "qLogNEHVI"
        e = space.encoding
        wide = e.high > e.low if space.rows is None else np.ptp(space.rows, axis=0) > 0
        columns = np.flatnonzero(wide)
        many = np.array([isinstance(p, core.Integer) and p.high - p.low >= FEW for p in e.parameters], dtype=bool)
        smooth = (~e.whole | many) & wide & (space.rows is None)
        self._base = e.low if space.rows is None or not len(space.rows) else space.rows[0]
        # A sum of logarithms is no linear constraint.
        self._log = e.log & ~(space.choices.rows != 0).any(0) if space.rows is None else e.log
        self._discrete: Indices = columns[~smooth[columns]]
        self._continuous: Indices = columns[smooth[columns]]
        self._space = self._searchspace()
        self.configurations = len(self._space.discrete.exp_rep) if len(self._continuous) else 0

    # ------------------------------------------------------------------ the search space

    def _searchspace(self) -> Any:
        baybe, e = vendor("baybe.searchspace", "baybe"), self.space.encoding
        self._configured = rows = self._listed()
        self._at = {row.tobytes(): i for i, row in enumerate(rows)}
        parameters = [self._parameter(j, rows) for j in self._discrete]
        frame = self._columns(rows, self._discrete)
        discrete = (
            baybe.SubspaceDiscrete.from_dataframe(frame, parameters)
            if len(self._discrete)
            else baybe.SubspaceDiscrete.empty()
        )
        interval = vendor("baybe.parameters", "baybe").NumericalContinuousParameter
        ends = np.array([e.low, e.high])
        ends[:, self._log] = np.log10(ends[:, self._log])
        continuous = baybe.SubspaceContinuous.from_product(
            [interval(f"x{j}", tuple(ends[:, j].tolist())) for j in self._continuous], self._sums()
        )
        return baybe.SearchSpace(discrete=discrete, continuous=continuous)

    def _listed(self) -> Array:
        """All that the discrete parameters may be together, as raw rows of the whole space."""
        if self.space.rows is not None:
            return self.space.rows
        names = {self.space.encoding.names[j] for j in self._discrete}
        alone = replace(
            self.spec,
            parameters=tuple(p for p in self.spec.parameters if p.name in names),
            constraints=tuple(c for c in self.spec.constraints if _names(c) <= names),
        )
        found = Space(alone).rows if names else np.empty((1, 0))
        if found is None:
            found = self.space.sample(LISTED, np.random.default_rng(0))[:, self._discrete]
        out = np.tile(self._base, (len(found), 1))
        out[:, self._discrete] = found
        return np.unique(out, axis=0)

    def _parameter(self, j: int, rows: Array) -> Any:
        kinds, p, name = vendor("baybe.parameters", "baybe"), self.space.encoding.parameters[j], f"x{j}"
        if isinstance(p, core.Categorical):
            told = self._pandas.DataFrame(p.descriptors).T.reindex(list(p.values))
            told = told.loc[:, told.nunique() > 1] if not told.isna().to_numpy().any() else told.iloc[:, :0]
            if told.shape[1] and not told.duplicated().any():
                return kinds.CustomDiscreteParameter(name, told)
            return kinds.CategoricalParameter(name, p.values)
        if isinstance(p, core.Ordered) and numbers_of(p) is None:
            return kinds.CategoricalParameter(name, [str(v) for v in p.values], encoding="INT")
        return kinds.NumericalDiscreteParameter(name, np.unique(self._column(rows[:, j], j)).tolist())

    def _column(self, raw: Array, j: int) -> Any:
        """The values of one parameter as BayBE has them, from raw ones."""
        p = self.space.encoding.parameters[j]
        numbers = numbers_of(p)
        if numbers is not None:
            return numbers[raw.astype(int)]
        if isinstance(p, core.Categorical | core.Ordered):
            return [str(p.values[int(i)]) for i in raw]
        return np.log10(raw) if self._log[j] else raw

    def _columns(self, raw: Array, which: Indices) -> Any:
        return self._pandas.DataFrame({f"x{j}": self._column(raw[:, j], int(j)) for j in which})

    def _sums(self) -> list[Any]:
        """The constraints among continuous parameters; parameters without width are settled."""
        kinds, e, found = vendor("baybe.constraints", "baybe"), self.space.encoding, []
        index = {name: j for j, name in enumerate(e.names)}
        for c in self.spec.constraints if self.space.rows is None else ():
            if isinstance(c, core.Exclude | core.Forbid):
                continue
            terms = c.terms if isinstance(c, core.Linear) else dict.fromkeys(c.parameters, 1.0)
            free = {index[n]: k for n, k in terms.items() if index[n] in self._continuous}
            if any(e.whole[index[n]] and index[n] not in free and e.low[index[n]] < e.high[index[n]] for n in terms):
                continue
            settled = sum(k * e.low[index[n]] for n, k in terms.items() if index[n] not in free)
            relation = {"==": "=", "<=": "<=", ">=": ">="}[c.relation if isinstance(c, core.Linear) else "=="]
            bound = (c.bound if isinstance(c, core.Linear) else c.total) - settled
            names = [f"x{j}" for j in free]
            if free:
                found.append(kinds.ContinuousLinearConstraint(names, relation, list(free.values()), bound))
            if isinstance(c, core.Mixture) and len(free) == len(terms) and not (e.low[list(free)] > 0).any():
                most = len(names) if c.max_parts is None else c.max_parts
                if c.min_parts > 1 or most < len(names):
                    found.append(kinds.ContinuousCardinalityConstraint(names, c.min_parts, most))
        return found

    # ------------------------------------------------------------------ to and fro

    def free(self, taken: Taken) -> tuple[Any, int]:
        """The search space without the points taken, and at least how many points that leaves."""
        rows = self.space.rows
        if rows is None:
            return self._space, 2**31 if self.space.bank else 0
        keep = [self._at[row.tobytes()] for row in taken.free(rows)]
        whole = self._space.discrete
        left = type(whole)(whole.parameters, exp_rep=whole.exp_rep.iloc[keep], comp_rep=whole.comp_rep.iloc[keep])
        return type(self._space)(discrete=left), len(keep)

    def frame(self, points: Sequence[core.Point]) -> Any:
        """Points as BayBE's experiments."""
        raw = self.space.encoding.raw(points)
        return self._columns(raw, np.r_[self._discrete, self._continuous])

    def measurements(self, told: Sequence[tuple[core.Point, core.Seen]]) -> Any:
        """Points and what was seen there as BayBE's measurements."""
        out = self.frame([point for point, _ in told])
        for k, o in enumerate(self.spec.goal.objectives):
            out[f"y{k}"] = [cut(seen[o.observable].value) for _, seen in told]
        return out

    def raw(self, found: Any) -> list[Array]:
        """BayBE's recommendations as raw rows (1, d); a listed space's are its very rows."""
        if self.space.rows is not None:
            return [self.space.rows[[i]] for i in dict.fromkeys(found.index)]
        out = np.tile(self._base, (len(found), 1))
        out[:, self._discrete] = (
            self._configured[found.index.to_numpy()][:, self._discrete] if len(self._discrete) else 0
        )
        for j in self._continuous:
            value = found[f"x{j}"].to_numpy(dtype=float)
            out[:, j] = 10.0**value if self._log[j] else value
        return [row[None] for row in out]


def _names(c: core.Constraint) -> set[str]:
    match c:
        case core.Linear(terms=terms):
            return set(terms)
        case core.Mixture(parameters=names):
            return set(names)
        case core.Exclude(combination=combination):
            return set(combination)
        case core.Forbid(ranges=ranges, values=values):
            return {*ranges, *values}


def _objective(goal: core.Goal) -> tuple[Any, tuple[float, ...] | None]:
    """The objective, and the reference point where every objective has a threshold (BayBE maximises all of it)."""
    targets, objectives = vendor("baybe.targets", "baybe").NumericalTarget, vendor("baybe.objectives", "baybe")
    found = [
        targets.match_absolute(f"y{k}", o.target or 0.0)
        if o.direction == "match"
        else targets(f"y{k}", minimize=o.direction == "minimize")
        for k, o in enumerate(goal.objectives)
    ]
    if len(found) == 1:
        return objectives.SingleTargetObjective(found[0]), None
    worst = [-core.loss(o, o.threshold) for o in goal.objectives if o.threshold is not None]
    return objectives.ParetoObjective(found), tuple(worst) if len(worst) == len(found) else None
