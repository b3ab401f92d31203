"""What an adapter remembers of the runs of its instrument."""

from typing import TypeVar

T = TypeVar("T")

REMEMBERED = 1000
"""Runs that are remembered after their end."""


def remember(kept: dict[str, T], key: str, value: T) -> T:
    """Keep a value, and let go of the oldest where there are too many; the value."""
    kept[key] = value
    while len(kept) > REMEMBERED:
        kept.pop(next(iter(kept)))
    return value
