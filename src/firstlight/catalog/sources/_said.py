"""What others say, of which nobody knows the shape."""

from typing import Any

import msgspec

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What is raised where something is not what it should be, or so deep that nobody means it."""


def inner(said: object, *keys: str) -> dict[str, Any]:
    """An object within others, empty where it is none."""
    for key in keys:
        said = said.get(key) if isinstance(said, dict) else {}
    return dict(said) if isinstance(said, dict) else {}


def objects(said: object) -> list[dict[str, Any]]:
    """The objects of a list, none where it is no list."""
    return [item for item in said if isinstance(item, dict)] if isinstance(said, list) else []


def path_of(item: object) -> str:
    """Where a node of Tiled is, from the root."""
    ancestors = inner(item, "attributes").get("ancestors")
    listed = ancestors if isinstance(ancestors, list) else []
    return "/".join([*map(str, listed), str(inner(item).get("id"))])
