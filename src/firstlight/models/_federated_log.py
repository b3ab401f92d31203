"""A log that only grows, of which every line holds the digest of the one before: what was changed later is found."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

_FIRST = "0" * 64


class ChainedLog:
    """Lines of JSON in a file. Raises ValueError where it was changed since it was written.

    A line that a crash left unfinished was told to nobody, and is taken away, unless it is only to be read: then
    somebody else may be writing it.
    """

    def __init__(self, path: Path, reading: bool = False) -> None:
        self._path = path
        self.entries: list[dict[str, Any]] = []
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data) and not reading:
            os.truncate(path, len(whole))
        self._last = _FIRST
        for number, line in enumerate(whole.splitlines(), 1):
            self.entries.append(_checked(line, self._last, f"{path}, line {number}"))
            self._last = hashlib.sha256(line).hexdigest()

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add a line, which is on the disk when this returns."""
        made = dict(entry) | {"before": self._last}
        line = msgspec.json.encode(made)
        with self._path.open("ab") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._last = hashlib.sha256(line).hexdigest()
        self.entries.append(made)


def _checked(line: bytes, before: str, where: str) -> dict[str, Any]:
    try:
        entry = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ValueError(f"{where}: it is no line of such a log ({error})") from error
    if entry.get("before") != before:
        raise ValueError(f"{where}: what stands before it was changed since it was written")
    return entry


def keep(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file whole or not at all, and on the disk when this returns."""
    part = path.with_name(f".{path.name}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
