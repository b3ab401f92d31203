"""Which families there are: those that installed packages offer, and no others, whatever a file may say."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from ._family import Family
from ._options import nearest
from ._registry_release import family_of, read_json
from ._release import CONFIG, WEIGHTS


def family(name: str, options: Mapping[str, object]) -> Family:
    """The family of this name (an entry point in the group "firstlight.models"), with these options.

    Raises ValueError saying what is wrong with either.
    """
    points = {point.name: point for point in entry_points(group="firstlight.models")}
    if name not in points:
        raise ValueError(f"no installed package offers a family {name!r} of models; {nearest(name, sorted(points))}")
    try:
        return cast("Family", points[name].load()(**options))
    except ImportError as error:
        raise ValueError(f"the family {name} cannot be loaded here: {error}") from error
    except TypeError as error:
        raise ValueError(f"the family {name} refuses its options: {error}") from error


def family_at(folder: Path) -> Family:
    """The family of a release, with the options that it was made with. Raises ValueError, FileNotFoundError."""
    return family(family_of(folder), read_json(folder / CONFIG).get("options", {}))


def folder_of(folder: Path, config: Path, weights: Path) -> Path:
    """The two files of a model as a folder that families read; files of an action have names of its own."""
    folder.mkdir(exist_ok=True)
    for name, file in ((CONFIG, config), (WEIGHTS, weights)):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(file.resolve())
    return folder
