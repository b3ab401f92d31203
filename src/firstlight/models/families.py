"""Which families there are: those that installed packages offer, and no others, whatever a file may say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from ._family import Family

CONFIG, WEIGHTS = "config.json", "model.safetensors"
"""The two files that a model is used by."""


def family(name: str, options: Mapping[str, object]) -> Family:
    """The family of this name (an entry point in the group "firstlight.models"), with these options.

    Raises ValueError saying what is wrong with either.
    """
    points = {point.name: point for point in entry_points(group="firstlight.models")}
    if name not in points:
        near = get_close_matches(name, points, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(points))}"
        raise ValueError(f"no installed package offers a family {name!r} of models; {hint}")
    try:
        return cast("Family", points[name].load()(**options))
    except ImportError as error:
        raise ValueError(f"the family {name} cannot be loaded here: {error}") from error
    except TypeError as error:
        raise ValueError(f"the family {name} refuses its options: {error}") from error


def family_at(folder: Path) -> Family:
    """The family of a release, with the options that it was made with. Raises ValueError, FileNotFoundError."""
    told = json.loads((folder / CONFIG).read_bytes())
    if not isinstance(told, dict) or not isinstance(told.get("family"), str):
        raise ValueError(f"{folder / CONFIG} does not say of which family the model is")
    return family(told["family"], told.get("options", {}))


def folder_of(folder: Path, config: Path, weights: Path) -> Path:
    """The two files of a model as a folder that families read; files of an action have names of its own."""
    folder.mkdir(exist_ok=True)
    for name, file in ((CONFIG, config), (WEIGHTS, weights)):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(file.resolve())
    return folder
