"""What others say, of which nobody knows the shape."""

from typing import Any


def inner(said: object, *keys: str) -> dict[str, Any]:
    """An object within others, empty where it is none."""
    for key in keys:
        said = said.get(key) if isinstance(said, dict) else {}
    return dict(said) if isinstance(said, dict) else {}


def objects(said: object) -> list[dict[str, Any]]:
    """The objects of a list, none where it is no list."""
    return [item for item in said if isinstance(item, dict)] if isinstance(said, list) else []
