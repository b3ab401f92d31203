"""What a verb says and how it ends: exit codes, JSON on standard output, errors on standard error."""

import sys
import traceback
from enum import IntEnum
from typing import Any, NoReturn

import msgspec
from rich.console import Console, RenderableType
from rich.table import Table

from .. import core
from . import _parts as parts

REPORT_A_BUG = (
    "This is a bug in Firstlight or in a plug-in. Run it again with --debug, and report what it prints with the "
    "output of `firstlight --version`."
)


class Exit(IntEnum):
    """How a verb ended. These numbers never change."""

    DONE = 0
    BUG = 1
    BAD_INPUT = 2
    INTERRUPTED = 3
    HELD = 4
    REFUSED = 5
    UNAVAILABLE = 6
    DAMAGED = 7
    DIFFERENT = 8


MEANING = {
    Exit.DONE: "done; for run and resume: the campaign is closed, whether or not it met its goal",
    Exit.BUG: "internal error: a bug in Firstlight or a plug-in (--debug shows the traceback)",
    Exit.BAD_INPUT: "bad input: a specification, an option, an unknown campaign or action",
    Exit.INTERRUPTED: "interrupted before the end (Ctrl-C, SIGTERM); the campaign can be resumed",
    Exit.HELD: "held: somebody else is running the campaign",
    Exit.REFUSED: "refused: what was asked cannot follow what has happened",
    Exit.UNAVAILABLE: "unavailable: disk, journal, catalog or facility",
    Exit.DAMAGED: "the journal, or a model, is damaged, or is not what was written",
    Exit.DIFFERENT: "different: a strategy, asked again, chose otherwise than its journal says",
}


class Problem(Exception):
    """An end that is not a bug: its exit code, one line, what is wrong in detail, and what to do."""

    def __init__(self, exit: Exit, message: str, *, problems: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message)
        self.exit, self.message, self.problems, self.hint = exit, message, problems, hint


class Interrupted(Exception):
    """Somebody wants this process to end, and it has laid down what it did."""


class Here:
    """One call of the program: how it is to speak, and where its data lie."""

    def __init__(self, as_json: bool, data_dir: Any, debug: bool) -> None:
        self.as_json, self.data_dir, self.debug = as_json, data_dir, debug
        self.out, self.err = _console(sys.stdout), _console(sys.stderr)

    @property
    def live(self) -> bool:
        """Whether there is a screen to draw on."""
        return self.out.is_terminal and not self.as_json

    def say(self, shown: RenderableType) -> None:
        """A table, a panel, or a line of text, for a person: nothing at all with --json."""
        if not self.as_json:
            self.out.print(shown, markup=False, highlight=False, soft_wrap=isinstance(shown, str))

    def warn(self, line: str) -> None:
        """A line for a person, beside the results."""
        self.err.print(line, markup=False, highlight=False, soft_wrap=True)

    def note(self, line: str) -> None:
        """The same while a live view may be on the screen: it goes above the view, not through it."""
        if self.live:
            self.say(line)
        else:
            self.warn(line)

    def write(self, document: object) -> None:
        """One JSON document, on one line."""
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
        sys.stdout.flush()

    def tell(self, document: object, shown: RenderableType) -> None:
        """The one answer of a verb: the document with --json, else what a person reads."""
        if self.as_json:
            self.write(document)
        else:
            self.say(shown)

    def fail(self, problem: Problem) -> None:
        """Say what was wrong, on standard error; with --json as one document."""
        if self.as_json:
            error = {
                "code": int(problem.exit), "kind": problem.exit.name.lower().replace("_", "-"),
                "message": problem.message, "problems": problem.problems, "hint": problem.hint,
            }  # fmt: skip
            sys.stderr.write(msgspec.json.encode({"error": error}).decode() + "\n")
            return
        for line in problem.problems or (problem.message,):
            self.warn(line)
        if problem.hint:
            self.warn(problem.hint)


def columns(*names: str) -> Table:
    """An empty table with these columns, as every list is shown."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="grey58")
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _console(file: Any) -> Console:
    console = Console(file=file, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)
    return console


def explain(error: Exception) -> Problem:
    """What an exception means for whoever typed the command."""
    if isinstance(error, Problem):
        return error
    message = str(error) or type(error).__name__
    if isinstance(error, (parts.config.BadCampaign, parts.config.BadSettings)):
        return Problem(Exit.BAD_INPUT, message, problems=tuple(message.splitlines()))
    if isinstance(error, (parts.plugins.UnknownPart, parts.plugins.BrokenPart, core.Unrelated)):
        return Problem(Exit.BAD_INPUT, message)
    if isinstance(error, core.Unusable):
        return Problem(Exit.BAD_INPUT, message, hint="`firstlight model list` shows what there is.")
    if isinstance(error, core.Held):
        hint = f"`firstlight watch {error.campaign}` follows it; pause, stop and cancel reach its runner."
        return Problem(Exit.HELD, message, hint=hint)
    if isinstance(error, (core.UnreadableEntry, core.InconsistentError)):
        hint = "`firstlight audit verify` says what is damaged."
        return Problem(Exit.DAMAGED, f"the journal cannot be followed: {message}", hint=hint)
    if isinstance(error, parts.registry.Damaged):
        return Problem(Exit.DAMAGED, message)
    if isinstance(error, (core.Unavailable, core.Conflict, parts.journal.Unfit, OSError)):
        return Problem(Exit.UNAVAILABLE, " ".join(message.split()))
    if isinstance(error, parts.registry.Refused):
        return Problem(Exit.REFUSED, message)
    if isinstance(error, (parts.lab.BadLaboratory, parts.registry.Revoked)):
        return Problem(Exit.BAD_INPUT, message)
    return Problem(Exit.BUG, f"internal error: {type(error).__name__}: {message}", hint=REPORT_A_BUG)


def end_badly(here: Here, error: Exception) -> NoReturn:
    """Say it in a line and leave with its exit code; with --debug a bug shows its traceback too."""
    problem = explain(error)
    if here.debug and problem.exit is Exit.BUG:
        traceback.print_exception(error, file=sys.stderr)
    here.fail(problem)
    raise SystemExit(int(problem.exit))
