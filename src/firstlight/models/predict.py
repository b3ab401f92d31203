"""A released model as an operation of a facility: a cheap source of what a trial would observe."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from firstlight.core import Failed, Scalar

from .families import CONFIG, WEIGHTS, family_at

FILES = (CONFIG, WEIGHTS)


def predict(point: Mapping[str, Scalar], **files: str) -> dict[str, dict[str, float | str]]:
    """What a released model expects at a point: value, sigma and unit by observable.

    The files of the release, `config.json` and `model.safetensors`, are inputs of the action. Raises Failed
    ("invalid-input") where the point is unlike what it learned from, or where the files are no model.
    """
    if absent := [name for name in FILES if name not in files]:
        raise Failed("invalid-input", f"{' and '.join(absent)} must be inputs of the action: the files of a release")
    paths = [Path(files[name]) for name in FILES]
    if [p.name for p in paths] != list(FILES) or paths[0].parent != paths[1].parent:
        raise Failed("invalid-input", f"{paths[0]} and {paths[1]} must lie in one folder under their own names")
    try:
        model = _loaded(paths[0].parent.absolute(), tuple(p.stat().st_mtime_ns for p in paths))
        said = model.predict([dict(point)])[0]
    except (ValueError, OSError) as error:
        raise Failed("invalid-input", str(error)) from error
    if not said.familiar:
        raise Failed("invalid-input", f"the model does not know such points: {said.why}")
    return {name: {"value": o.value, "sigma": o.sigma, "unit": o.unit} for name, o in said.values.items()}


@lru_cache(maxsize=4)
def _loaded(folder: Path, written: tuple[int, ...]) -> Any:
    """A model in use, as it was written then. Only families that an installed package offers are ever imported."""
    model = family_at(folder).load(folder)
    if not hasattr(model, "predict"):
        raise ValueError(f"what is in {folder} does not predict points")
    return model
