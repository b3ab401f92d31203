"""What is said between the facility, its keeper and the workers of its pilots."""

import msgspec

from ....core import JobStatus
from .._wire import Await, Cancel, Find, Shutdown, Submit
from ._site import Site


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """First words of a client: where its pilots run, how they are started, and how long they are kept."""

    session: str
    python: str
    directory: str
    environment: dict[str, str]
    site: Site
    fsync: bool
    launcher: tuple[str, ...]
    linger: float
    tries: int
    lease: float


class Goodbye(msgspec.Struct, frozen=True, tag="goodbye"):
    """Last words of a client that leaves of its own accord. No reply is waited for."""


class Look(msgspec.Struct, frozen=True, tag="look"):
    """Say how things are, with an action's how it stands. Whoever asks nothing else is no client."""

    id: int
    job: str = ""


Request = Hello | Submit | Find | Await | Cancel | Shutdown | Goodbye | Look


class View(msgspec.Struct, frozen=True):
    """The answer to a look. `trouble` is why there can be no workers, in the provider's words."""

    id: int
    running: int
    queued: int
    workers: int
    blocks: dict[str, str]
    trouble: str = ""
    job: JobStatus | None = None


NONE = b"null"
"""No outcome."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A reply as the keeper writes it: the outcome is passed on as it came."""

    id: int
    job: str | None = None
    outcome: msgspec.Raw = msgspec.Raw(NONE)
    attempts: int = 0
    unavailable: str = ""


class Bundle(msgspec.Struct, frozen=True):
    """What a worker is to perform, one after the other: names of run directories."""

    root: str
    generation: str
    session: str
    names: list[str]
    launcher: tuple[str, ...]
    fsync: bool
    lease: float


class Done(msgspec.Struct, frozen=True):
    """What came of each, `NONE` where somebody else is at it or it is to be continued, and the seconds each took."""

    outcomes: list[msgspec.Raw]
    seconds: list[float]
