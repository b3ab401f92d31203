"""Sequences described by a model, for strategies."""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from firstlight.core import (
    CampaignSpec,
    Categorical,
    Continuous,
    Goal,
    Objective,
    Observation,
    ProcedureSpec,
    Results,
    Row,
)
from firstlight.models.describe import Embeds, described
from firstlight.strategies.bayes import Bayes


class _Counts:
    """As many of each letter as there are."""

    def embed(self, sequences: Sequence[str]) -> npt.NDArray[np.float64]:
        return np.array([[s.count(letter) for letter in "ACGU"] for s in sequences], float)


SPEC = CampaignSpec(
    id="rna", parameters=(Categorical(name="s", values=("AAAA", "AAAC", "GGGG")), Continuous(name="t", low=0, high=1)),
    goal=Goal(objectives=(Objective(observable="y", direction="maximize"),)), procedure=ProcedureSpec(steps=()),
)  # fmt: skip


def test_what_is_alike_is_near() -> None:
    made = described(SPEC, _Counts(), "s").parameters[0]
    assert isinstance(made, Categorical)
    a, b, c = (np.array(list(made.descriptors[v].values())) for v in made.values)
    assert len(a) <= 8
    assert np.linalg.norm(a - b) == pytest.approx(2**0.5) and np.linalg.norm(a - c) == pytest.approx(32**0.5)


def test_what_is_no_such_parameter_is_refused() -> None:
    with pytest.raises(ValueError, match="'t' is no categorical parameter"):
        described(SPEC, _Counts(), "t")


# ------------------------------------------------------------------ what it is worth to a strategy

PAIRS = ["".join(pair) for pair in itertools.product("ACGU", repeat=2)]
SEEDS = 8


class _Pairs:
    """As many of each pair of neighbours as there are."""

    def embed(self, sequences: Sequence[str]) -> npt.NDArray[np.float64]:
        return np.array([[sum(s[i : i + 2] == p for i in range(len(s) - 1)) for p in PAIRS] for s in sequences], float)


class _Noise:
    """Numbers that have nothing to do with the sequences."""

    def embed(self, sequences: Sequence[str]) -> npt.NDArray[np.float64]:
        return np.random.default_rng(1).normal(size=(len(sequences), len(PAIRS)))


def _landscape(seed: int) -> dict[str, float]:
    """The fitness of 60 sequences: a smooth function of which pairs of neighbours they have."""
    draw = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < 60:
        found["".join(draw.choice(list("ACGU"), 16, p=draw.dirichlet([1.0] * 4)))] = None
    pairs = _Pairs().embed(list(found))
    height = (pairs - pairs.mean(0)) @ draw.normal(size=len(PAIRS))
    return dict(zip(found, np.tanh(height / height.std()).tolist(), strict=True))


def _trials(model: Embeds | None, seed: int) -> int:
    """How many `bayes` needs until it has tried one of the best three."""
    fitness = _landscape(seed)
    spec = CampaignSpec(
        id="fitness", parameters=(Categorical(name="s", values=tuple(fitness)),), goal=SPEC.goal,
        procedure=ProcedureSpec(steps=()),
    )  # fmt: skip
    told = spec if model is None else described(spec, model, "s")
    third, strategy, rows = sorted(fitness.values())[-3], Bayes(initial=4), list[Row]()
    while not rows or rows[-1].observations[0].value < third:
        (chosen,) = strategy.propose(told, Results(rows=tuple(rows)), 1, 1000 * seed + len(rows))
        seen = Observation(observable="y", value=fitness[str(chosen.point["s"])])
        rows.append(Row(trial=f"t{len(rows)}", point=chosen.point, failure=None, observations=(seen,)))
    return len(rows)


def test_sequences_that_are_described_need_far_fewer_trials() -> None:
    plain, described_, noise = (
        float(np.mean([_trials(model, seed) for seed in range(SEEDS)])) for model in (None, _Pairs(), _Noise())
    )
    print(f"trials to one of the best 3 of 60: {plain:.1f} by name, {described_:.1f} described, {noise:.1f} by noise")
    # Whoever tries them at random, each once, needs 61 / 4 on average.
    assert described_ < 0.6 * min(plain, 61 / 4)
    # Numbers that say nothing do not help: it is the model that does.
    assert noise > 1.5 * described_
