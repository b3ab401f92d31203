"""A released model as an operation of a facility: a cheap source of what a trial would observe."""

import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from firstlight.core import Failed, Scalar

from .families import family_at, folder_of


def predict(
    point: Mapping[str, Scalar], *, config: str, weights: str, model: str = "the model",
    instead: Mapping[str, Scalar] = MappingProxyType({}),
) -> dict[str, dict[str, float | str]]:  # fmt: skip
    """What a released model expects at a point: value, sigma and unit by observable.

    Its `config.json` and `model.safetensors` are inputs of the action, under these two names; `model` is what it is
    called. Values of `instead` take the place of those of the point: of a model that has learned from several sources,
    they say which of them it is to stand for. Raises Failed ("invalid-input") where the point is unlike what it learned
    from, or where the files are no model.
    """
    try:
        loaded = _loaded(Path(config).resolve(), Path(weights).resolve())
        said = loaded.predict([{**point, **instead}])[0]
    except (ValueError, OSError) as error:
        raise Failed("invalid-input", str(error)) from error
    if not said.familiar:
        raise Failed("invalid-input", f"{model} does not know such points: {said.why}")
    return {name: {"value": o.value, "sigma": o.sigma, "unit": o.unit} for name, o in said.values.items()}


@lru_cache(maxsize=4)
def _loaded(config: Path, weights: Path) -> Any:
    """A model in use. Files are kept under their digests, and never change."""
    with tempfile.TemporaryDirectory() as folder:
        here = folder_of(Path(folder), config, weights)
        model = family_at(here).load(here)
    if not hasattr(model, "predict"):
        raise ValueError(f"what is in {config} does not predict points")
    return model
