"""Runs that have ended, a line of JSON each, so that nothing is run twice."""

import fcntl
import os
from pathlib import Path
from types import TracebackType

import msgspec

from ._run import Run


class Unkept(ValueError):
    """A file in which runs cannot be kept; the message says why and what to do."""


class Keep:
    """A file of ended runs, held by one process. Use it as a context manager. Raises Unkept.

    A line is written at one stroke and is on disk before the next run is asked for. What a cut in the power may have
    left of a last line is taken off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.runs = self._read()
        except BlockingIOError:
            os.close(self._file)
            raise Unkept(f"another back-test writes {path}: wait for it, or name another file") from None
        except BaseException:
            os.close(self._file)
            raise

    def _read(self) -> dict[str, Run]:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.ftruncate(self._file, whole)
        runs = {}
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                run = msgspec.json.decode(line, type=Run)
            except msgspec.DecodeError as error:
                raise Unkept(
                    f"{self.path}:{number}: it is no run of a back-test ({error}): name another file"
                ) from None
            runs[run.key] = run
        return runs

    def add(self, run: Run) -> None:
        """Keep one more."""
        os.write(self._file, msgspec.json.encode(run) + b"\n")
        os.fsync(self._file)
        self.runs[run.key] = run

    def __enter__(self) -> "Keep":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._file)
