"""One thing wrong with a specification, and the checks that all of its parts share."""

import itertools
from collections.abc import Iterable, Iterator

from ._problem import Value

RESERVED = ("trial", "as_run", "cost", "failure", "directory")
"""Names with a meaning of their own in results, in datasets and in commands."""

LARGEST = 2**53
"""Whole numbers beyond it are no longer told apart as floating-point numbers."""

HUGE = 1e100
"""Arithmetic on larger numbers soon leaves what a computer can hold; no unit needs them."""


class Problem(Value, frozen=True):
    """One thing wrong: the field ("parameters[2].high"), what is wrong with it, and what to do about it."""

    field: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}. {self.remedy}" if self.field else f"{self.message}. {self.remedy}"


Problems = Iterator[Problem]


def usable(number: float) -> bool:
    """Whether it is finite, and can be squared."""
    return abs(number) <= HUGE


def named(at: str, name: str) -> Problems:
    if not name or name != name.strip() or not name.isprintable():
        yield Problem(at, f"{name!r} is not a name", "Use visible characters, without blanks around them.")
    elif name in RESERVED:
        yield Problem(at, f"{name!r} has a meaning of its own in results", f"Use another name than {listed(RESERVED)}.")


def listed(names: Iterable[object]) -> str:
    shown = [str(n) for n in itertools.islice(names, 13)]
    return ", ".join([*shown[:12], "..."] if len(shown) > 12 else shown) or "none"
