"""Answers that are kept, for when whoever gave them does not answer."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from firstlight.core import Value

from ..index import Query
from ..store import write_file
from ._answer import Answer
from ._said import UNREADABLE

_encode = msgspec.json.Encoder(order="deterministic").encode


class Kept(Value, frozen=True):
    """An answer and when it came (seconds since 1970 UTC)."""

    key: str
    date: float
    answer: Answer


_decoder = msgspec.json.Decoder(Kept)


class Cache:
    """A directory of JSON files, one an answer. What cannot be read is not there, and is replaced by the next answer.

    `clock` gives seconds since 1970 UTC. Safe for several processes: a file appears whole or not at all.
    """

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self.directory, self.clock = Path(directory), clock

    @staticmethod
    def key(name: str, address: str, query: Query, limit: int, cursor: str) -> str:
        """What was asked of whom: another name, address, query or page is another key."""
        return hashlib.sha256(_encode([name, address, query, limit, cursor])).hexdigest()

    def get(self, key: str, age: float | None = None) -> Kept | None:
        """The answer, if there is one that is not older than so many seconds."""
        try:
            kept = _decoder.decode(self._file(key).read_bytes())
        except (OSError, *UNREADABLE):
            return None
        if kept.key != key or (age is not None and not 0 <= self.clock() - kept.date <= age):
            return None
        return kept

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer. Raises OSError where the directory cannot be written."""
        # What a source tells its owner is not for everybody on this computer.
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(self._file(key), [_encode(Kept(key=key, date=self.clock(), answer=answer))])

    def _file(self, key: str) -> Path:
        return self.directory / key[:2] / f"{key}.json"
