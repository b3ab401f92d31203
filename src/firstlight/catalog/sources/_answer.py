"""What every source offers, and what it says."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from firstlight.core import Value

from ..index import Query, Record

Progress = Callable[[int, int], None]
"""Told how much has come and how much there is in all (0: nobody knows): bytes, or structures of a harvest."""


def silent(done: int, total: int) -> None:
    """Tell nobody."""


class Unreachable(Exception):
    """Who cannot be used, what happened, and what to do about it."""

    def __init__(self, who: str, what: str, remedy: str = "try again later") -> None:
        super().__init__(who, what, remedy)
        self.who, self.what, self.remedy = who, what, remedy

    def __str__(self) -> str:
        return f"{self.who}: {self.what}; {self.remedy}" if self.remedy else f"{self.who}: {self.what}"


class Answer(Value, frozen=True):
    """What a source found.

    `cursor` is where the next page begins, "" where there is none; `total` how much there is in all, None where the
    source does not say. `left` is the part of the query that the source could not apply: whoever asked has to.
    """

    records: tuple[Record, ...] = ()
    cursor: str = ""
    total: int | None = None
    left: Query = Query()
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """Somebody else's data facility. Everything raises `Unreachable` where it cannot be used just now."""

    @property
    def address(self) -> str:
        """Where it is, without anything secret."""
        ...

    async def search(self, query: Query, limit: int, cursor: str = "") -> Answer:
        """At most so many records: what the provider says of them, without their files. Raises ValueError where the
        cursor is none of its own."""
        ...

    async def fetch(self, id: str, to: Path, progress: Progress = silent) -> Record:
        """Bring what a record stands for into the directory `to`; what is there already is not brought again.

        The record that comes back has the files with their digests. Raises LookupError where there is none.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
