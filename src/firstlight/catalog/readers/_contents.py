"""What a reader answers: the contents of a file, or why it cannot be read."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from arro3.core import RecordBatchReader

from firstlight.core import Value

from .._records import Variable

MOST_COLUMNS = 20_000
"""Columns of a table: a file with more of them is damaged, or is a matrix and no table."""
CELLS = 200_000
"""Cells of a table that are held at a time."""


class Unreadable(ValueError):
    """A file that cannot be read: which one, what is wrong with it and where, and what to do."""

    def __init__(self, path: Path, wrong: str, do: str = "") -> None:
        super().__init__(f"{path}: {wrong}{f'; {do}' if do else ''}")
        self.wrong = wrong


class Contents(Value, frozen=True):
    """What a file holds.

    `variables` are the columns of its table in order, then its arrays with their shapes. `rows` and `batches` are of
    the table: each call of `batches` reads the file anew, a bounded number of rows at a time, into columns that are
    typed (int64, float64, string, bool, or timestamps in microseconds UTC) and have their unit in the metadata of
    their field, under "unit". `batches` is None where there is no table. `elements` are chemical symbols, sorted;
    `metadata` is what the file says of itself; `notes` say for people what was changed, guessed or left out.
    """

    media_type: str
    variables: tuple[Variable, ...] = ()
    rows: int = 0
    batches: Callable[[], RecordBatchReader] | None = None
    elements: tuple[str, ...] = ()
    metadata: dict[str, str | float | int] = {}
    notes: tuple[str, ...] = ()


def library(name: str, path: Path) -> ModuleType:
    """A library of the extra `data`. Raises Unreadable where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unreadable(path, f"reading this format takes the library {name}", "install firstlight[data]") from error


@contextmanager
def trouble(path: Path, what: str, do: str) -> Iterator[None]:
    """Whatever a library of others raises over a file is that the file is unreadable: nobody knows all that they do."""
    try:
        yield
    except (Unreadable, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException as error:  # Of which a panic in Rust is one.
        raise Unreadable(path, f"{what}: {short(error)}", do) from error


def short(error: BaseException) -> str:
    """What a library says is wrong, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
