"""What is wrong with a campaign file, and what the file is checked against."""

from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from typing import Protocol

from msgspec import Struct

from firstlight.core import Problem, Units


class Checker(Units, Protocol):
    """Units, as the border needs them. Every method raises ValueError with a reason fit to show."""

    def check(self, unit: str) -> None:
        """Nothing where the unit is known."""
        ...

    def parse_quantity(self, text: str, to: str) -> float:
        """The number in "2 h", in the unit `to`; a text without a unit is in it already."""
        ...


class Known(Struct, frozen=True, kw_only=True):
    """The names of the parts that are installed. None: any name will do.

    `computes` says of a facility whether it runs functions and commands, whose files stand beside the campaign's.
    """

    facilities: Collection[str] | None = None
    computes: Callable[[str], bool] = lambda name: name == "local"
    strategies: Collection[str] | None = None
    procedures: Collection[str] | None = None


class BadCampaign(ValueError):
    """A specification that cannot be used. Its text has every problem, one a line, with file and line."""

    def __init__(self, problems: Sequence[Problem], source: str = "", lines: Sequence[int] = ()) -> None:
        self.problems, self.source = tuple(problems), source
        self.lines = tuple(lines) or (0,) * len(self.problems)
        super().__init__("\n".join(map(self._line, self.problems, self.lines)))

    def _line(self, problem: Problem, line: int) -> str:
        where = ":".join(part for part in (self.source, str(line or "")) if part)
        return f"{where}: {problem}" if where else str(problem)


def meant(word: object, known: Collection[str]) -> str:
    """ "Did you mean 'x'?", or the list of what there is."""
    near = get_close_matches(str(word), known, 1, 0.5)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"There are: {', '.join(sorted(known))}." if known else "There are none."


def shown(value: object) -> str:
    """A value, short enough for a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
