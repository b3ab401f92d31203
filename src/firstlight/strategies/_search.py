"""Looking for the most promising point of a space, and for the source to ask about it."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from firstlight import core

from ._common import Taken
from ._encoding import Array
from ._space import Space
from ._surrogate import Weighing

SAMPLED = 384
"""Candidates drawn over the whole space for one choice, besides those near the best points."""
SCORED = 6_000
"""At most this many listed points are scored for one choice."""
CLIMBS = ((0.1, 128), (0.03, 96), (0.01, 64))
"""Width and number of the candidates in each round around the most promising points."""
DRAWN = 2
"""So many times the candidates of one choice are drawn and held for all points of a design."""
STEPS = ((0.1, 24), (0.03, 16), (0.01, 12))
"""The same for every point that is chosen among candidates held for several."""
UPHILL = 20
"""How many steps a point climbs."""
ASKED = 256
"""For so many of the most promising points all sources are compared."""
TIED = 1e-9
"""Listed points whose scores, logarithms, differ by less promise the same: what separates them is rounding."""
SILENT = 0.1
"""A source that explains less of the target's variance than this is not asked."""


@dataclass(frozen=True)
class Choice:
    """The row chosen (1, d) among candidates (n, d), and the score of each: the logarithm of what it promises.

    `features` (n, D) are those of the candidates.
    """

    row: Array
    score: float
    candidates: Array
    features: Array
    scores: Array


@dataclass(frozen=True)
class Stock:
    """Candidates (n, d) drawn once for all points of a design, and their features (n, D).

    `effort` is what part of the usual work is put into looking around them.
    """

    raw: Array
    features: Array
    effort: float


def stock(space: Space, centres: Array, effort: float, rng: np.random.Generator) -> Stock | None:
    """Candidates for several points; None where points are listed, or tell each other apart by names alone."""
    if space.rows is not None or space.encoding.whole.all():
        return None
    raw = np.vstack([_drawn(space, centres, rng) for _ in range(DRAWN)])
    return Stock(raw, space.encoding.features(raw), effort)


def choose(
    space: Space, weighing: Weighing, taken: Taken, centres: Array, rng: np.random.Generator, held: Stock | None = None
) -> Choice | None:
    """The most promising row not taken yet; None where all are, unless repeating one can still teach.

    With candidates `held`, it is one of them or near the best of them.
    """
    if held is not None and (found := _choose_held(space, weighing, taken, held, rng)) is not None:
        return found
    fidelity = space.spec.fidelity
    room = space if fidelity is None else space.narrowed({fidelity.parameter: fidelity.target})
    pick = _choose_listed if room.rows is not None else _choose_anywhere
    choice = pick(room, weighing, taken, centres, rng)
    return choice if fidelity is None else _best_source(space, weighing, taken, choice, fidelity)


def _best_source(
    space: Space, weighing: Weighing, taken: Taken, choice: Choice | None, fidelity: core.Fidelity
) -> Choice | None:
    """The point and the source that together promise most for their cost.

    What a point promises at the target source counts by how much of its variance there a reading by the source would
    explain, and by what the source costs (after Huang, Allen, Notz and Miller 2006, Sequential kriging optimization
    using multiple-fidelity evaluations). So a source that does not tell of the target is left alone however cheap, and
    so is one where it has no answer, or that refuses.
    """
    if choice is None:
        return None
    encoding, surrogate = space.encoding, weighing.surrogate
    top = np.argsort(-choice.scores, kind="stable")[:ASKED]
    rows, scores = np.vstack([choice.row, choice.candidates[top]]), np.r_[choice.score, choice.scores[top]]
    features = encoding.features(rows)
    dear = core.target_cost(fidelity)
    best: tuple[float, Array] = (-np.inf, rows[:1])
    for source in (s for s in fidelity.sources if s.value not in surrogate.refusing):
        there = encoding.narrowed({fidelity.parameter: source.value})
        asked, worth = np.clip(rows, there.low, there.high), scores + np.log(dear / source.cost)
        if source.value != fidelity.target:
            told = surrogate.explained(features, encoding.features(asked))
            worth = np.where(told > SILENT, worth + np.log(np.maximum(told, SILENT)), -np.inf)
            worth = worth + surrogate.answering(encoding.features(asked))
            if space.rows is not None:
                legal = [tuple(p.values()) in space.places for p in encoding.points(asked)]
                worth = np.where(legal, worth, -np.inf)
        for i in np.argsort(-worth, kind="stable")[:ASKED]:
            if worth[i] <= best[0]:
                break
            if len(taken.free(asked[[i]])) or (source.value == fidelity.target and surrogate.noisy):
                best = (float(worth[i]), asked[[i]])
                break
    return replace(choice, row=best[1], score=float(best[0])) if np.isfinite(best[0]) else choice


def _drawn(space: Space, centres: Array, rng: np.random.Generator) -> Array:
    tries = [space.sample(SAMPLED, rng)]
    if len(centres):
        tries += [space.near(centres, 96, width, rng) for width in (0.2, 0.05)]
    return np.vstack(tries)


def _choose_held(
    space: Space, weighing: Weighing, taken: Taken, held: Stock, rng: np.random.Generator
) -> Choice | None:
    free = np.flatnonzero(taken.apart(held.features))
    if not len(free):
        return None
    raw, features, score = held.raw[free], held.features[free], weighing.score(held.features)[free]
    for width, number in STEPS:
        top = raw[np.argsort(-score, kind="stable")[:4]]
        more = taken.free(space.near(top, max(2, round(held.effort * number)), width, rng), diverse=True)
        their = space.encoding.features(more)
        raw, features = np.vstack([raw, more]), np.vstack([features, their])
        score = np.r_[score, weighing.score(their)]
    best = int(np.argmax(score))
    if len(space.free) and (steps := round(held.effort * UPHILL)):
        row, gain = _climb(space, weighing, raw[[best]], steps)
        if gain > score[best] and len(taken.free(row, diverse=True)):
            return Choice(row, gain, raw, features, score)
    return Choice(raw[[best]], float(score[best]), raw, features, score)


def _choose_anywhere(
    space: Space, weighing: Weighing, taken: Taken, centres: Array, rng: np.random.Generator
) -> Choice | None:
    found = _drawn(space, centres, rng)
    raw = taken.free(found, diverse=True)
    raw = raw if len(raw) else taken.free(found)
    if not len(raw):
        return None
    features = space.encoding.features(raw)
    score = weighing.score(features)
    for width, number in CLIMBS:
        top = raw[np.argsort(-score, kind="stable")[:4]]
        more = taken.free(space.near(top, number, width, rng), diverse=True)
        their = space.encoding.features(more)
        raw, features = np.vstack([raw, more]), np.vstack([features, their])
        score = np.r_[score, weighing.score(their)]
    order = np.argsort(-score, kind="stable")
    climbed = [_climb(space, weighing, raw[[i]]) for i in order[:2]] if len(space.free) else []
    for row, gain in sorted(climbed, key=lambda c: -c[1]):
        if gain > score[order[0]] and len(taken.free(row, diverse=True)):
            return Choice(row, gain, raw, features, score)
    return Choice(raw[order[:1]], float(score[order[0]]), raw, features, score)


def _choose_listed(
    space: Space, weighing: Weighing, taken: Taken, centres: Array, rng: np.random.Generator
) -> Choice | None:
    assert space.rows is not None
    free = taken.listed(space)
    if not len(free):
        # Reading the most promising point once more teaches something only where readings scatter.
        if not weighing.surrogate.noisy or not len(space.rows):
            return None
        free = np.arange(len(space.rows))
    if len(free) > SCORED:
        free = rng.choice(free, size=SCORED, replace=False)
    features = space.features[free]
    score = weighing.score(features)
    # Names of which nothing is known promise the same: the seed chooses among them, and not the order of the list.
    best = np.flatnonzero(score >= score.max() - TIED)
    i = int(best[0] if len(best) == 1 else rng.choice(best))
    return Choice(space.rows[free[[i]]], float(score[i]), space.rows[free], features, score)


def _climb(space: Space, weighing: Weighing, row: Array, most: int = UPHILL) -> tuple[Array, float]:
    """Move the free continuous parameters of one row (1, d) uphill; the row reached and its score."""
    free, encoding = space.free, space.encoding
    start = encoding.unit(row)[0]
    step = 1e-5

    def downhill(u: Array) -> tuple[float, Array]:
        unit = np.tile(start, (len(free) + 1, 1))
        unit[:, free] = u
        # Forward differences, turned inwards at the upper bound.
        signs = np.where(u + step > 1.0, -1.0, 1.0)
        unit[np.arange(1, len(free) + 1), free] += signs * step
        raw = np.tile(row, (len(unit), 1))
        raw[:, free] = encoding.from_unit(unit)[:, free]
        score = weighing.score(encoding.features(raw))
        return -float(score[0]), -(score[1:] - score[0]) / (signs * step)

    found = minimize(
        downhill, start[free], jac=True, method="L-BFGS-B", bounds=[(0.0, 1.0)] * len(free), options={"maxiter": most}
    )
    unit = start[None].copy()
    unit[0, free] = found.x
    reached = row.copy()
    reached[0, free] = encoding.from_unit(unit)[0, free]
    return reached, -float(found.fun)
