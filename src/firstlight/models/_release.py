"""What every release of a model has: its weights, and a document that says what they are."""

import json
from pathlib import Path
from typing import TypeVar

import msgspec

from firstlight.core import Value

from ._weights import Weights, read_weights

CONFIG, WEIGHTS = "config.json", "model.safetensors"
"""The two files that a model is used by."""
Kind = TypeVar("Kind", bound=Value)


def read_release(folder: Path, kind: type[Kind], what: str) -> tuple[Kind, Weights]:
    """What the family of a release noted beside its weights, and these. Raises ValueError, OSError."""
    told = json.loads((folder / CONFIG).read_bytes())
    try:
        config = msgspec.convert(told["config"], kind)
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise ValueError(f"{folder / CONFIG} is not that of a model of {what}: {error}") from error
    return config, read_weights(folder / WEIGHTS)
