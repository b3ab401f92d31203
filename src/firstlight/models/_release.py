"""What every release of a model has: its weights, and a document that says what they are."""

import json
from pathlib import Path
from typing import TypeVar

import msgspec

from firstlight.core import Value

from ._family import Inherited, Part
from ._weights import Weights, read_weights

CONFIG, WEIGHTS = "config.json", "model.safetensors"
"""The two files that a model is used by."""
Kind = TypeVar("Kind", bound=Value)


def inherited_of(folder: Path) -> tuple[Inherited, ...]:
    """The weights of others that a release began with, or its ancestors did."""
    told = json.loads((folder / CONFIG).read_bytes()).get("inherited", ())
    return msgspec.convert(told, tuple[Inherited, ...])


def parts_of(folder: Path) -> dict[str, Part]:
    """In which part the groups of a release were, by their marks."""
    told = json.loads((folder / CONFIG).read_bytes()).get("parts", {})
    return {group: part for part, groups in told.items() for group in groups}


def read_release(folder: Path, kind: type[Kind], what: str) -> tuple[Kind, Weights]:
    """What the family of a release noted beside its weights, and these. Raises ValueError, OSError."""
    told = json.loads((folder / CONFIG).read_bytes())
    try:
        config = msgspec.convert(told["config"], kind)
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise ValueError(f"{folder / CONFIG} is not that of a model of {what}: {error}") from error
    return config, read_weights(folder / WEIGHTS)
