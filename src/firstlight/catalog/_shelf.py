"""The rows of one campaign, kept in a file that only grows: one line a trial, with its digest."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from firstlight.core import Row, Value

from .store import digest_of_bytes, sync_directory

_row = msgspec.json.Decoder(Row)
_encoder = msgspec.json.Encoder(order="deterministic")


class Kept(Value, frozen=True):
    """One line, its row as it was written: what a later version adds to rows does not change its digest."""

    digest: str
    row: msgspec.Raw


_decoder = msgspec.json.Decoder(Kept)


class Line(NamedTuple):
    """A row ready to be written."""

    trial: str
    digest: str
    content: bytes
    revision: int


def line(row: Row) -> Line:
    """A row as one line, the same whatever the order of its keys. Raises TypeError, ValueError or OverflowError."""
    content = _encoder.encode(row)
    found = digest_of_bytes(content)
    kept = _encoder.encode(Kept(digest=found, row=msgspec.Raw(content)))
    return Line(row.trial, found, kept + b"\n", row.revision)


class Shelf:
    """One file, for one thread at a time.

    A line counts once it is synced to disk; a tail torn by a crash is cut off when the file is next read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digests: dict[str, tuple[int, str]] = {}
        """Revision and digest of every trial's row."""
        self._size = -1

    def keep(self, lines: Sequence[Line]) -> list[str | Exception]:
        """Make these lines durable with one sync: for each its digest, or why it cannot be kept. Raises OSError."""
        self._catch_up()
        said: list[str | Exception] = []
        new: dict[str, tuple[int, str]] = {}
        content = b""
        for trial, found, text, revision in lines:
            known = new.get(trial) or self._digests.get(trial)
            if known is not None and known[1] != found and known[0] >= revision:
                said.append(ValueError(f"trial {trial} is kept as {known[1]}, and is not to be replaced by {found}"))
                continue
            if known is None or known[1] != found:
                new[trial] = (revision, found)
                content += text
            said.append(found)
        if content:
            self._append(content)
            self._digests |= new
        return said

    def rows(self) -> list[Row]:
        """All rows, in the order of their trials' numbers. Raises OSError, ValueError where the file is damaged."""
        self._catch_up()
        content = self._path.read_bytes() if self._path.exists() else b""
        found = {row.trial: row for _, row in self._parse(content)[0]}
        return sorted(found.values(), key=lambda r: (len(r.trial), r.trial))

    def _append(self, content: bytes) -> None:
        fresh = not self._path.exists()
        if fresh:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "ab", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            try:
                if file.write(content) != len(content):
                    raise OSError(f"{self._path}: the disk took only a part of what was written")
                os.fsync(file.fileno())
            except OSError:
                self._size = -1
                with suppress(OSError):
                    file.truncate(before)
                raise
            self._size = before + len(content)
        if fresh:
            sync_directory(self._path.parent)

    def _catch_up(self) -> None:
        """Read the file again where it is not as this process left it: at the start, and after another one wrote."""
        try:
            if self._path.stat().st_size == self._size:
                return
        except FileNotFoundError:
            self._digests, self._size = {}, 0
            return
        with open(self._path, "r+b") as file:
            content = file.read()
            kept, good = self._parse(content)
            if good < len(content):
                file.truncate(good)
            os.fsync(file.fileno())
        self._digests = {row.trial: (row.revision, found) for found, row in kept}
        self._size = good

    def _parse(self, content: bytes) -> tuple[list[tuple[str, Row]], int]:
        """The rows with their digests, and where they end; what follows the last good one is a torn tail."""
        kept: list[tuple[str, Row]] = []
        good = at = 0
        torn = ""
        for number, text in enumerate(content.splitlines(keepends=True), start=1):
            at += len(text)
            sound = _sound(text)
            if sound is None:
                torn = torn or f"line {number} of {self._path} is damaged: restore the file or remove the line"
                continue
            if torn:
                raise ValueError(torn)
            kept.append(sound)
            good = at
        return kept, good


def read_from(path: Path, at: int) -> Iterator[tuple[str, Row, int]]:
    """The rows after this byte with their digests, and where each ends; up to the first line that is not sound."""
    with open(path, "rb") as file:
        file.seek(at)
        for text in file:
            at += len(text)
            sound = _sound(text)
            if sound is None:
                return
            yield *sound, at


def _sound(text: bytes) -> tuple[str, Row] | None:
    """The digest and the row of a line; None where it is torn or damaged."""
    try:
        read = _decoder.decode(text)
        row = _row.decode(read.row)
    except msgspec.MsgspecError:
        return None
    return (read.digest, row) if text.endswith(b"\n") and digest_of_bytes(bytes(read.row)) == read.digest else None
