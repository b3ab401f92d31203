"""The little in which the databases that keep a journal differ."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from ._chain import Finding, Head

SCHEMA = 1
"""The schema of the tables this version writes."""


class Cursor(Protocol):
    """What came of a statement."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Session(Protocol):
    """One connection. Parameters are marked "?"."""

    def execute(self, sql: str, values: Sequence[object] = (), /) -> Cursor: ...
    def close(self) -> None: ...


class Database(Protocol):
    """What a journal asks of its database. All but `session`, `holder` and `verify` belong to the writer's thread.

    Every one of them may raise one of `errors`; then nothing of the transaction under way was written, as
    far as anybody knows.
    """

    name: str
    errors: tuple[type[Exception], ...]
    poll: float | None
    """How often to ask for changes made by other processes, in seconds; None where `session` is told of them."""

    def session(self) -> Session:
        """A new connection for reading, to be used by one thread at a time."""
        ...

    def holder(self, session: Session, campaign: str) -> str:
        """Who holds a campaign's lease, "" if nobody."""
        ...

    def begin(self) -> Session:
        """Begin a transaction of the writer; others wait for their turn."""
        ...

    def commit(self, changed: Iterable[str]) -> None:
        """Make it durable, and tell other processes which campaigns changed."""
        ...

    def rollback(self) -> None:
        """Undo what was begun, if anything was. Never raises."""
        ...

    def lock(self, campaign: str, holder: str) -> object:
        """Take a campaign's lease: a token that is good while `holds` says so. Raises Held."""
        ...

    def holds(self, token: object) -> bool:
        """Whether the lease is still ours."""
        ...

    def unlock(self, campaign: str, token: object) -> None: ...

    def anchor(self, campaign: str, head: Head) -> None:
        """Record, apart from the database where that can be done, how far a campaign's chain has come."""
        ...

    def changes(self) -> Iterable[str]:
        """The campaigns that other processes changed since this was last asked."""
        ...

    def verify(self, anchors: Mapping[str, Sequence[Head]]) -> Sequence[Finding]:
        """Walk all chains, on a connection of its own."""
        ...

    def close(self) -> None:
        """Let go of everything, leases included."""
        ...
