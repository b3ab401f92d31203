"""One campaign on a pool: a strategy proposes, and the outcome is looked up."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
from msgspec.structs import replace

from firstlight import core

from ._pool import Flags, Floats, Pool, hidden

Ended = Literal["best found", "budget spent", "nothing proposed"]
Make = Callable[[str, Mapping[str, object]], core.Strategy]
"""Makes a strategy from its name and options; a function of a module, for it travels between processes."""
REGION = "it lies in the region that was hidden"


class Contender(core.Value, frozen=True):
    """A strategy with its options, and what it is called in tables."""

    label: str
    strategy: str
    options: dict[str, object] = {}


class Settings(core.Value, frozen=True):
    """How a strategy is tried.

    A run ends once the best row of the pool was tried (with `full`, not before the budget is spent). Points are asked
    for `count` at a time. The outcome of a row is the mean of its replicates, or with `noise` "draw" one of them.
    `hide` is the share of the pool that fails, a region that differs from seed to seed. `earlier` are the trials of
    each sibling campaign that the strategy may learn from, as they came out, or, to test its guard, shuffled or
    inverted.
    """

    budget: int = 60
    count: int = 1
    noise: Literal["mean", "draw"] = "mean"
    hide: float = 0.0
    full: bool = False
    earlier: int = 0
    earlier_as: Literal["true", "shuffled", "inverted"] = "true"


USUAL, NOBODY = Settings(), Contender(label="", strategy="")


class Run(core.Value, frozen=True):
    """What came of one run: the row tried, what was told of it (None: it failed) and what it cost to choose, a trial.

    `cpu` and `wall` are seconds of this process and of the clock; those of a batch are shared out among its points.
    """

    key: str
    pool: str
    contender: str
    seed: int
    rows: tuple[int, ...]
    values: tuple[tuple[float, ...] | None, ...]
    cpu: tuple[float, ...]
    wall: tuple[float, ...]
    ended: Ended


class Misbehaved(RuntimeError):
    """A strategy broke the contract of its port; the message says how."""


def key(pool: Pool, contender: Contender, seed: int, settings: Settings = USUAL, siblings: Sequence[Pool] = ()) -> str:
    """A name for a run by all that decides it: pool, strategy and options, seed, settings and what it learns from.

    The code of the strategy is not in it: whoever changes that keeps runs in another file.
    """
    what = (
        pool.digest, contender.strategy, contender.options, seed, settings,
        sorted(s.digest for s in siblings) if settings.earlier else [],
    )  # fmt: skip
    return hashlib.sha256(msgspec.json.encode(what, order="sorted")).hexdigest()[:32]


def run(
    pool: Pool, strategy: core.Strategy, seed: int, settings: Settings = USUAL, *,
    siblings: Sequence[Pool] = (), contender: Contender = NOBODY,
) -> Run:  # fmt: skip
    """Let a strategy look for the best of a pool. The same arguments give the same rows.

    Raises Misbehaved where the strategy proposes what is not in the pool; what the strategy raises passes through.
    """
    goal = replace(pool.spec.goal, budget=core.Budget(trials=settings.budget))
    spec = replace(pool.spec, goal=goal, seed=seed, batch=settings.count, parallel=settings.count)
    fails = hidden(pool, settings.hide, seed) if settings.hide else np.zeros(len(pool), dtype=bool)
    rng = np.random.default_rng([seed, 0xD4A])
    earlier = archive(siblings, settings, seed)
    ledger: list[core.Row] = []
    rows, values = list[int](), list[tuple[float, ...] | None]()
    cpu, wall = list[float](), list[float]()
    ended: Ended = "budget spent"
    left = best_rows(pool, fails)
    while len(ledger) < settings.budget:
        results = core.Results(rows=core.Prefix(ledger, len(ledger)), earlier=earlier)
        count = min(settings.count, settings.budget - len(ledger))
        began, clock = time.process_time(), time.perf_counter()
        proposals = strategy.propose(spec, results, count, seed * 1_000_003 + len(ledger))
        took, passed = time.process_time() - began, time.perf_counter() - clock
        if not proposals:
            ended = "nothing proposed"
            break
        if len(proposals) > count:
            raise Misbehaved(f"it was asked for {count} and proposed {len(proposals)}")
        for proposal in proposals:
            i = pool.find(proposal.point)
            if i is None:
                raise Misbehaved(f"it proposed {proposal.point}, which is not in the pool")
            row = looked_up(pool, i, str(len(ledger) + 1), fails, settings, rng)
            ledger.append(replace(row, predicted=proposal.predicted, reason=proposal.reason))
            rows.append(i)
            values.append(None if row.failure else tuple(o.value for o in row.observations))
            cpu.append(took / len(proposals))
            wall.append(passed / len(proposals))
            left = [group for group in left if i not in group]
        if not left and not settings.full:
            ended = "best found"
            break
    return Run(
        key=key(pool, contender, seed, settings, siblings), pool=pool.name, contender=contender.label, seed=seed,
        rows=tuple(rows), values=tuple(values), cpu=tuple(cpu), wall=tuple(wall), ended=ended,
    )  # fmt: skip


def looked_up(pool: Pool, i: int, trial: str, fails: Flags, settings: Settings, rng: np.random.Generator) -> core.Row:
    """What came of a row when it was tried, as a trial that has ended."""
    replicates = pool.outcomes[i]
    if fails[i] or not replicates:
        failure = core.Failure(cause="did-not-converge", message=REGION if fails[i] else "it failed when it was tried")
        return core.Row(trial=trial, point=pool.points[i], failure=failure)
    if settings.noise == "draw":
        told, of = np.asarray(replicates[int(rng.integers(len(replicates)))]), 1
    else:
        told, of = pool.means[i], len(replicates)
    seen = pool.seen(told)
    sigmas = dict(zip(pool.observables, pool.sigma / np.sqrt(of), strict=True))
    observations = tuple(replace(o, sigma=float(sigmas[o.observable])) for o in seen.values())
    return core.Row(trial=trial, point=pool.points[i], observations=observations)


def best_rows(pool: Pool, fails: Flags) -> list[set[int]]:
    """What there is to be found: the rows of the least loss; with several objectives those of every point of the front.

    Of rows that are equally good any will do.
    """
    losses: Floats = np.where(fails[:, None], np.nan, pool.losses)
    groups: dict[tuple[float, ...], set[int]] = {}
    for i in np.flatnonzero(~np.isnan(losses).any(axis=1)):
        groups.setdefault(tuple(map(float, losses[i])), set()).add(int(i))
    front: tuple[tuple[float, ...], ...] = ()
    for found in groups:
        front = core.advance(front, found)
    return [groups[found] for found in front]


# ------------------------------------------------------------------ earlier campaigns


SAME = 0.95
"""Where the outcomes of two pools at the points they share are ordered alike to this rank correlation, these are the
same experiments, told twice."""


def siblings_of(pool: Pool, others: Sequence[Pool]) -> list[Pool]:
    """The pools whose parameters overlap: more than half of this one's by name and kind, and its first observable.

    The same experiments in another file are no sibling: to know them would be to know the answers.
    """
    own = {(p.name, _words(p)) for p in pool.spec.parameters}
    return [
        other
        for other in others
        if other.name != pool.name
        and pool.observables[0] in other.observables
        and 2 * len(own & {(p.name, _words(p)) for p in other.spec.parameters}) > len(own)
        and not _same_experiments(pool, other)
    ]


def _same_experiments(pool: Pool, other: Pool) -> bool:
    shared = [(i, j) for i, point in enumerate(pool.points) if (j := other.places.get(other.row(point))) is not None]
    if 2 * len(shared) < len(pool):
        return False
    column = other.observables.index(pool.observables[0])
    told = np.array([(pool.means[i, 0], other.means[j, column]) for i, j in shared])
    told = told[~np.isnan(told).any(axis=1)]
    from scipy.stats import spearmanr  # noqa: PLC0415  scipy.stats takes as long to load as all else here.

    return len(told) > 2 and bool(spearmanr(told[:, 0], told[:, 1]).statistic >= SAME)


def _words(parameter: core.Parameter) -> bool:
    return isinstance(parameter, core.Categorical) or (
        isinstance(parameter, core.Ordered) and any(isinstance(v, str) for v in parameter.values)
    )


def archive(siblings: Sequence[Pool], settings: Settings, seed: int) -> tuple[core.Earlier, ...]:
    """Trials at random of every sibling, as they came out, shuffled among themselves, or upside down."""
    if not settings.earlier:
        return ()
    return tuple(_earlier(s, settings, np.random.default_rng([seed, n, 0xA5C])) for n, s in enumerate(siblings))


def _earlier(pool: Pool, settings: Settings, rng: np.random.Generator) -> core.Earlier:
    working = np.flatnonzero(~np.isnan(pool.means).any(axis=1))
    chosen = rng.permutation(working)[: settings.earlier]
    told = pool.means[chosen]
    if settings.earlier_as == "shuffled":
        told = told[rng.permutation(len(told))]
    elif settings.earlier_as == "inverted":
        told = np.nanmin(pool.means, axis=0) + np.nanmax(pool.means, axis=0) - told
    rows = tuple(
        core.Row(trial=str(n), point=pool.points[i], observations=tuple(pool.seen(values).values()))
        for n, (i, values) in enumerate(zip(chosen, told, strict=True), 1)
    )
    return core.Earlier(campaign=pool.name, spec=pool.spec, rows=rows)
