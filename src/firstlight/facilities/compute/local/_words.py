"""What only the local facility says: how its workers shall be started, and what they do."""

import msgspec

from ....core import Outcome, Permit
from .._wire import Await, Cancel, Find, Shutdown, Submit


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """First words of a client: how its workers shall be started, and how many actions it may have at once."""

    session: str
    python: str
    directory: str
    environment: dict[str, str]
    slots: int
    fsync: bool
    launcher: tuple[str, ...] = ()


Request = Hello | Submit | Find | Await | Cancel | Shutdown


class Work(msgspec.Struct, frozen=True):
    """For a worker: perform this in that directory, and commit."""

    permit: Permit
    attempt: str
    fsync: bool
    launcher: tuple[str, ...] = ()


class Done(msgspec.Struct, frozen=True):
    """From a worker: it is ready (no outcome), or the action has ended and its outcome is committed."""

    outcome: Outcome | None = None
