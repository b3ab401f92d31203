"""Sequences that a campaign chooses among, described by a model, so that strategies know which are alike."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from firstlight.core import CampaignSpec, Categorical

MOST = 8
"""Descriptors: with more of them every two names are about as far apart."""


class Embeds(Protocol):
    """A model that turns sequences into numbers, (n, d)."""

    def embed(self, sequences: Sequence[str]) -> npt.NDArray[np.float64]: ...


def described(spec: CampaignSpec, model: Embeds, parameter: str, count: int = MOST) -> CampaignSpec:
    """The same campaign, whose categorical `parameter` (its values are sequences) has descriptors: the first principal
    components of their embeddings, at most `count`. Those it has already are kept.

    Raises ValueError where there is no such parameter, and as the model does for what it cannot read.
    """
    found = next((p for p in spec.parameters if p.name == parameter), None)
    if not isinstance(found, Categorical):
        raise ValueError(f"{parameter!r} is no categorical parameter of {spec.id}")
    made = descriptors(found.values, model, count)
    told = {value: found.descriptors.get(value, {}) | made[value] for value in found.values}
    new = replace(found, descriptors=told)
    return replace(spec, parameters=tuple(new if p is found else p for p in spec.parameters))


def descriptors(sequences: Sequence[str], model: Embeds, count: int = MOST) -> dict[str, dict[str, float]]:
    """The first principal components of their embeddings, at most `count`, as the descriptors of a `Categorical` whose
    values are these sequences. Raises what the model does for one that it cannot read."""
    x = np.asarray(model.embed(list(sequences)), float)
    left, size, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    kept = min(count, int((size > 1e-9 * max(float(size[0]), 1e-300)).sum()))
    places = left[:, :kept] * size[:kept]
    return {s: {f"embedding-{j + 1}": float(places[i, j]) for j in range(kept)} for i, s in enumerate(sequences)}
