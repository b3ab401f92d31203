"""Sequences described by a model, for strategies."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from firstlight.core import CampaignSpec, Categorical, Continuous, Goal, Objective, ProcedureSpec
from firstlight.models.describe import described


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
