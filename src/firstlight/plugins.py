"""Where parts come from: entry points, one group a port.

A package adds a part by naming it in its own metadata, as this one does for the parts it ships:

    [project.entry-points."firstlight.strategies"]
    mine = "my_package:MyStrategy"

What is loaded is called with the options of the specification as keyword arguments.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from typing import Any, Literal

Group = Literal[
    "strategies", "procedures", "policies", "facilities", "catalogs", "journals", "domains", "sources",
    "models",
]  # fmt: skip


GIVEN = ("root", "assets", "convert", "quantity", "instruments")
"""Options of facilities that the composition root fills, and nobody writes down."""


class UnknownPart(LookupError):
    """No installed package offers a part of this name."""


class BrokenPart(RuntimeError):
    """A part was found and could not be loaded, or refused its options."""


@cache
def _group(group: Group) -> Mapping[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"firstlight.{group}")}


def names(group: Group) -> tuple[str, ...]:
    """What is installed, in alphabetical order."""
    return tuple(sorted(_group(group)))


def origin(group: Group, name: str) -> dict[str, str]:
    """The package that offers a part, and its version; nothing where that is not known."""
    package = _group(group)[name].dist if name in _group(group) else None
    return {package.name: package.version} if package else {}


def load(group: Group, name: str) -> Any:
    """The object that an entry point names. Raises UnknownPart or BrokenPart."""
    points = _group(group)
    if name not in points:
        near = get_close_matches(name, points, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnknownPart(f"there is no {name!r} among the {group} ({', '.join(names(group)) or 'none'}){hint}")
    try:
        return points[name].load()
    except (ImportError, AttributeError, SyntaxError) as error:
        raise BrokenPart(f"{group} {name!r} ({points[name].value}) cannot be loaded: {error}") from error


def make(group: Group, name: str, options: Mapping[str, Any]) -> Any:
    """A part, made with these options. Raises UnknownPart, or BrokenPart saying which option is wrong."""
    part = load(group, name)
    if wrong := _unknown(part, options):
        raise BrokenPart(f"{group} {name!r}: {wrong}")
    try:
        return part(**options)
    except (TypeError, ValueError) as error:
        raise BrokenPart(f"{group} {name!r}: {error}") from error


def _unknown(part: Any, options: Mapping[str, Any]) -> str:
    """What is wrong with the names of options, in words for whoever wrote them; "" where nothing is, or can be told."""
    try:
        parameters = signature(part).parameters.values()
    except (TypeError, ValueError):
        return ""
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return ""
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for option in options:
        if option not in known:
            near = get_close_matches(option, known, 1)
            there = [name for name in known if name not in GIVEN]
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(there) or 'none'}"
            return f"there is no option {option!r}; {hint}"
    return ""
