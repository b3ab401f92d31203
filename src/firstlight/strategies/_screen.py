"""What a model makes of very many candidates at once: which of them are kept, and whether it proves right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from firstlight import core

from ._acquisition import loss_of
from ._common import Key, asked_for, generator, space_of
from ._encoding import Array, Encoding, Indices

OPTIMISM = 1.0
"""A candidate counts for what it may well be: so many deviations better than the model expects."""
SPREAD = 4
"""What is kept lies apart from each other among so many times as many of the most promising."""
UNKNOWN = 0.1
"""The share of what is kept that is held for candidates which the model does not know, where there are any."""
TRADES = 24
"""Of several objectives so many trade-offs are drawn, and the best by each are kept."""
AT_ONCE = 25_000
"""Candidates drawn in one go."""
NEAR = ((0.2, 64), (0.05, 64), (0.01, 32))
"""Width and number of the points around the best trials that are kept besides, on the unit box."""
CENTRES = 3
"""So many of the best trials are looked around, by the target and by other sources."""
LEAST = 8
"""A model is judged by no fewer readings than this."""
SURELY = 2.3263
"""A model whose rank correlation with the readings is negative with a chance of 0.99, by Fisher's transformation, is
dismissed. Only readings count that it claims to tell apart: among what is kept it expects about the same of all."""
SIDES = 0.75
"""So is one that puts a smaller part of the readings on the side of the usual where they lie, where it is sure."""
_CHANCES = 2.0**0.5
"""It is judged anew after so many times as many readings: who asks all the time is fooled by chance one day."""


@runtime_checkable
class Tabular(Protocol):
    """A model that predicts very many points at once."""

    @property
    def observables(self) -> Sequence[str]:
        """What it predicts."""
        ...

    @property
    def units(self) -> Mapping[str, str]:
        """Units of what it predicts and of what it is asked, by name."""
        ...

    def predict_table(self, columns: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """Mean and sigma, (n,) or (n, t) each in the order of `observables`, and whether each row is familiar (n,)."""
        ...


class Usual(NamedTuple):
    """What a model expects of an observable over all candidates: the median, and by how much they differ."""

    level: float
    spread: float


@dataclass(frozen=True)
class Screen:
    """What was kept of so many candidates, which of that the model does not know, and what it usually expects."""

    candidates: int
    kept: tuple[core.Point, ...]
    designs: frozenset[Key]
    unknown: frozenset[Key]
    usual: Mapping[str, Usual]


class NothingScreened(Exception):
    """A model has nothing to say of a campaign; the message says why."""


def tabular(models: Mapping[str, core.LoadedModel], name: str, spec: core.CampaignSpec) -> Tabular:
    """The model of this name, if it covers the campaign. Raises NothingScreened."""
    loaded = models.get(name)
    if loaded is None:
        raise NothingScreened(f"the model {name} is not here")
    model = loaded.of
    if not isinstance(model, Tabular):
        raise NothingScreened(f"the model {name} does not predict points: it is a {type(model).__name__}")
    why = core.unanswered(spec, model.observables, model.units) or _in_other_units(spec, model)
    if why:
        raise NothingScreened(f"the model {name} does not cover this campaign: {why}")
    return model


def _in_other_units(spec: core.CampaignSpec, model: Tabular) -> str:
    """What the goal asks for in another unit than the model predicts; "" where there is nothing."""
    here = {o.name: o.unit for o in spec.observables} | {o.observable: o.unit for o in spec.goal.objectives}
    wanted = [n for n in asked_for(spec.goal) if here.get(n, "") != model.units[n]]
    return core.other_unit(wanted[0], here.get(wanted[0], ""), model.units[wanted[0]]) if wanted else ""


# ------------------------------------------------------------------ screening


def screened(spec: core.CampaignSpec, model: Tabular, name: str, candidates: int, keep: int) -> Screen:
    """What is kept of the candidates, by the target source where there are several.

    Raises NothingScreened where there are no more candidates than are kept, or where it knows none of them.
    """
    fidelity, whole = spec.fidelity, space_of(spec)
    space = whole if fidelity is None else whole.narrowed({fidelity.parameter: fidelity.target})
    rng, encoding = generator(spec.seed, 3), space.encoding
    if space.rows is not None:
        few = len(space.rows) <= candidates
        raw = space.rows if few else space.rows[np.sort(rng.choice(len(space.rows), candidates, replace=False))]
    else:
        sizes = [min(AT_ONCE, candidates - done) for done in range(0, candidates, AT_ONCE)]
        raw = np.vstack([space.sample(size, rng) for size in sizes])
    if len(raw) <= keep:
        raise NothingScreened(f"there are {len(raw)} candidates, of which the model {name} need not screen any")
    mean, sigma, familiar = predicted(model, columns_of(encoding, raw))
    known, strange = np.flatnonzero(familiar), np.flatnonzero(~familiar)
    if not len(known):
        raise NothingScreened(f"the model {name} knows none of {len(raw):,} candidates")
    held = max(min(len(strange), math.ceil(UNKNOWN * keep)), keep - len(known))
    order = known[_ranked(spec.goal, model.observables, mean[known], sigma[known], SPREAD * keep, rng)]
    best = order[_apart(encoding.features(raw[order]), keep - held)]
    some = np.sort(rng.permutation(strange)[: SPREAD * keep])
    rest = some[_apart(encoding.features(raw[some]), held)]
    points = encoding.points(raw[np.r_[best, rest]])
    designs = [designed(spec, p) for p in points]
    level, spread = np.median(mean[known], 0).tolist(), mean[known].std(0).tolist()
    usual = {n: Usual(a, b or 1.0) for n, a, b in zip(model.observables, level, spread, strict=True)}
    return Screen(len(raw), tuple(points), frozenset(designs), frozenset(designs[len(best) :]), usual)


def around(spec: core.CampaignSpec, rows: Sequence[core.Row]) -> list[core.Point]:
    """Points around the best trials, for what lies between the candidates; none where the points are listed."""
    space, fidelity = space_of(spec), spec.fidelity
    room = space if fidelity is None else space.narrowed({fidelity.parameter: fidelity.target})
    if room.rows is not None:
        return []
    by: dict[bool, list[tuple[tuple[float, ...], core.Point]]] = {}
    for row in rows:
        if row.failure is None and (found := core.losses(spec.goal, row.seen)) and not core.violations(spec, row.point):
            by.setdefault(core.counts(spec, row.ran), []).append((found, row.point))
    # Of several objectives each has its turn.
    best = [
        sorted(some, key=lambda one: one[0][k % len(one[0])])[k // len(some[0][0])][1]
        for some in by.values() for k in range(min(CENTRES, len(some)))
    ]  # fmt: skip
    if not best:
        return []
    centres, rng = room.encoding.raw(best), generator(spec.seed, 4, len(rows))
    return room.encoding.points(np.vstack([room.near(centres, number, width, rng) for width, number in NEAR]))


def pooled(spec: core.CampaignSpec, points: Sequence[core.Point]) -> core.CampaignSpec:
    """The campaign with these points as its pool: by every source, where there are several."""
    fidelity, whole = spec.fidelity, space_of(spec)
    if fidelity is not None:
        points = [p | {fidelity.parameter: s.value} for p in points for s in fidelity.sources]
        points = points if whole.rows is None else [p for p in points if tuple(p.values()) in whole.places]
    rows = dict.fromkeys(tuple(p[name] for name in whole.encoding.names) for p in points)
    return replace(spec, pool=core.Pool(columns=whole.encoding.names, rows=tuple(rows)))


def designed(spec: core.CampaignSpec, point: core.Point) -> Key:
    """A point whatever its source, known again."""
    source = spec.fidelity.parameter if spec.fidelity else ""
    return tuple(point[p.name] for p in spec.parameters if p.name != source)


def columns_of(encoding: Encoding, raw: Array) -> dict[str, Any]:
    """Raw rows (n, d) as the values of each parameter, (n,)."""
    columns: dict[str, Any] = {}
    for j, p in enumerate(encoding.parameters):
        if isinstance(p, core.Continuous | core.Integer):
            columns[p.name] = raw[:, j]
        else:
            values = np.array(p.values, dtype=object)[raw[:, j].astype(int)]
            columns[p.name] = values.astype(float) if not any(isinstance(v, str) for v in p.values) else values
    return columns


def predicted(model: Tabular, columns: Mapping[str, Any]) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    """Mean and sigma (n, t), and whether each is familiar and can be reckoned with (n,)."""
    mean, sigma, familiar = (np.asarray(a) for a in model.predict_table(columns))
    mean, sigma = mean.reshape(len(familiar), -1), sigma.reshape(len(familiar), -1)
    return mean, sigma, familiar & np.isfinite(mean).all(1) & np.isfinite(sigma).all(1)


def _ranked(
    goal: core.Goal, names: Sequence[str], mean: Array, sigma: Array, count: int, rng: np.random.Generator
) -> Indices:
    """The numbers of the `count` most promising rows, the best first.

    What may keep all bounds comes first, then what breaks them least (Deb 2000). Several objectives are weighed in many
    ways (augmented Chebyshev, as in ParEGO), and each takes its turn.
    """
    place = {name: list(names).index(name) for name in asked_for(goal)}
    broken = np.zeros(len(mean))
    for b in goal.outcome_constraints:
        j = place[b.observable]
        over = mean[:, j] - b.bound if b.relation == "<=" else b.bound - mean[:, j]
        broken += np.maximum(0.0, over - OPTIMISM * sigma[:, j]) / (float(mean[:, j].std()) or 1.0)
    losses = np.column_stack(
        [_hoped(o, mean[:, j], sigma[:, j]) for o in goal.objectives for j in [place[o.observable]]]
    )
    if losses.shape[1] == 1:
        return np.asarray(np.lexsort((losses[:, 0], broken))[:count])
    least, most = np.quantile(losses, (0.0, 0.5), axis=0)
    scaled = (losses - least) / np.where(most > least, most - least, 1.0)
    found = list[Indices]()
    for weights in rng.dirichlet(np.ones(losses.shape[1]), TRADES):
        weighed = weights * scaled
        found.append(np.lexsort((weighed.max(1) + 0.05 * weighed.sum(1), broken))[:count])
    turns = np.stack(found, 1).ravel()
    return np.asarray(turns[np.sort(np.unique(turns, return_index=True)[1])][:count])


def _hoped(o: core.Objective, mean: Array, sigma: Array) -> Array:
    """The loss (n,) where an outcome turns out as well as may be hoped."""
    if o.direction == "match":
        return np.maximum(0.0, loss_of(o, mean) - OPTIMISM * sigma)
    return loss_of(o, mean) - OPTIMISM * sigma


def _apart(features: Array, count: int) -> Indices:
    """The numbers of `count` rows, each the farthest from those before it (Gonzalez 1985), begun with the first."""
    if not count:
        return np.empty(0, int)
    chosen, near = [0], ((features - features[0]) ** 2).sum(1)
    while len(chosen) < min(count, len(features)):
        near[chosen[-1]] = -1.0
        chosen.append(int(np.argmax(near)))
        near = np.minimum(near, ((features - features[chosen[-1]]) ** 2).sum(1))
    return np.array(chosen)


# ------------------------------------------------------------------ does it prove right?


def wrong(
    spec: core.CampaignSpec, model: Tabular, name: str, usual: Mapping[str, Usual], rows: Sequence[core.Row]
) -> str:
    """Why a model is not heard any more, "" where it is: what it expected and what was read have too little in common.

    Compared are ranks, within each source, and sides of what is usual. It is judged after 8 trials, and then after ever
    more, each time by the first so many: what once was dismissed stays so. What a model itself was asked as a source
    does not count.
    """
    told = [row for row in rows if _telling(spec, row)]
    if len(told) < LEAST:
        return ""
    columns = {n: [row.ran.get(n) for row in told] for n in space_of(spec).encoding.names if n in model.units}
    mean, sigma, familiar = predicted(model, columns)
    source = spec.fidelity.parameter if spec.fidelity else ""
    failed = np.array([row.failure is not None for row in told])
    groups = np.unique([str(row.ran.get(source)) for row in told], return_inverse=True)[1]
    seen = [row.seen for row in told]
    compared = []
    for n in asked_for(spec.goal):
        j = list(model.observables).index(n)
        read = np.array([found[n].value if n in found else np.nan for found in seen])
        compared.append(_Compared(mean[:, j], sigma[:, j], np.where(familiar & ~failed, read, np.nan), usual[n].level))
    for first in _milestones(len(told)):
        if 2 * failed[:first].sum() > first:
            return f"the model {name} is not heard, for most of the first {first} trials failed"
        if said := _apart_by(compared, groups, first):
            return f"the model {name} is not heard, for it was wrong about this campaign ({said} after {first} trials)"
    return ""


@dataclass(frozen=True)
class _Compared:
    """What was expected of an observable (n,), give or take, what was read (nan: nothing), and what is usual."""

    mean: Array
    sigma: Array
    read: Array
    usual: float


def _apart_by(compared: Sequence[_Compared], groups: Indices, first: int) -> str:
    """What the first so many trials say against a model, "" where they say nothing."""
    weight = total = 0.0
    sides = list[bool]()
    for c in compared:
        there = np.flatnonzero(np.isfinite(c.read[:first]))
        for group in np.unique(groups[there]):
            both = there[groups[there] == group]
            if len(both) > 3 and c.mean[both].std() > c.sigma[both].mean():
                share = (len(both) - 3) / len(compared)
                weight, total = weight + share, total + share * _fisher(c.mean[both], c.read[both])
        sure = there[np.abs(c.mean[there] - c.usual) > 2.0 * c.sigma[there]]
        sides += ((c.mean[sure] > c.usual) == (c.read[sure] > c.usual)).tolist()
    if weight + 3 >= LEAST and total / weight + SURELY / math.sqrt(weight) < 0.0:
        return f"rank correlation {math.tanh(total / weight):.2f}"
    if len(sides) >= LEAST and sum(sides) < SIDES * len(sides):
        return f"{sum(sides)} of {len(sides)} on the side of the usual where it was sure they lie,"
    return ""


def _telling(spec: core.CampaignSpec, row: core.Row) -> bool:
    """Whether a trial says something of a model: nothing does that failed by no fault of its point."""
    steps = {s.name: s.operation for s in spec.procedure.steps}
    source = str(row.point.get(spec.fidelity.parameter)) if spec.fidelity else ""
    if steps.get(source) == core.PREDICT:
        return False
    return row.failure is None or row.failure.cause in ("did-not-converge", "invalid-output", "invalid-input")


def _milestones(count: int) -> list[int]:
    found, at = list[int](), float(LEAST)
    while round(at) <= count:
        found.append(round(at))
        at *= _CHANCES
    return found


def _fisher(a: Array, b: Array) -> float:
    """Fisher's transformation of Spearman's rank correlation; 0 where one of both is all the same."""
    from scipy.stats import rankdata  # noqa: PLC0415  scipy.stats takes as long to load as all else here.

    x, y = rankdata(a), rankdata(b)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.arctanh(np.clip(np.corrcoef(x, y)[0, 1], -0.999, 0.999)))
