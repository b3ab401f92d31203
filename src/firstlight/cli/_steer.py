"""Verbs for people in the loop: a point to try, a region to keep out of, a value put right, a bad outcome, a budget."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from .. import core
from . import _parts as parts
from . import _words as words
from ._board import Board
from ._find import Id, ask, find, find_trial
from ._output import Exit, Here, Problem
from ._verb import open_app, verb

Values = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME=VALUE...", help="As in temperature=80 or temperature='353 K'.", show_default=False),
]
Ranges = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME=RANGE...", help="As in temperature=80..100 (or ..100, or 80..) and solvent=DMF,THF.",
        show_default=False,
    ),
]  # fmt: skip
TrialId = Annotated[str, typer.Argument(metavar="TRIAL", help="The trial, as in 12.", show_default=False)]
Note = Annotated[str, typer.Option(help="For the journal.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why, for the journal.", show_default=False)]
Trials = Annotated[str | None, typer.Option(metavar="N", help="How many trials in all, or none.", show_default=False)]
Cost = Annotated[
    str | None, typer.Option(metavar="COST", help='The cost in all, as in "500 USD", or none.', show_default=False)
]
Time = Annotated[
    str | None, typer.Option(metavar="TIME", help='The running time in all, as in "2 h", or none.', show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    for steers in (inject, forbid, allow, correct, reject, restore, budget):
        verb(app, "Steer")(steers)


async def inject(here: Here, id: Id, values: Values = None, note: Note = "") -> None:
    """Have a point tried: the next suggestion is yours."""
    given = pairs(values, "every parameter and its value, as in temperature=80 solvent=DMF")
    await _say(here, id, "requested", lambda app, board: app.requested(board.spec, given, note))


async def forbid(here: Here, id: Id, region: Ranges = None, reason: Reason = "") -> None:
    """Keep out of a region: no point inside all of these ranges and values at once."""
    given = pairs(region, "parameters and ranges, as in temperature=80..100 solvent=DMF")
    await _say(here, id, "forbidden", lambda app, board: app.forbidden(board.spec, given, reason))


async def allow(here: Here, id: Id, region: Ranges = None, reason: Reason = "") -> None:
    """Open a forbidden region again, named as it was forbidden."""

    def word(app: "parts.app.App", board: Board) -> core.Fact:
        there = "; ".join(map(core.region_words, board.campaign.forbidden)) or "none"
        return app.allowed(board.spec, pairs(region, f"the region; forbidden are: {there}"), reason)

    await _say(here, id, "allowed", word)


async def correct(here: Here, id: Id, trial: TrialId, values: Values = None, note: Note = "") -> None:
    """Put values of a trial right: parameters as they were run, and what was observed."""
    given = pairs(values, "what came out otherwise, as in temperature=81.5 yield=0.93")
    await _say(
        here, id, "corrected", lambda app, board: app.corrected(board.spec, find_trial(board, trial), given, note)
    )


async def reject(here: Here, id: Id, trial: TrialId, reason: Reason) -> None:
    """Mark the outcome of a trial as bad: it no longer counts, and nothing is learned from it."""
    await _say(
        here, id, "rejected", lambda app, board: core.OutcomeRejected(trial=find_trial(board, trial), reason=reason)
    )


async def restore(here: Here, id: Id, trial: TrialId, reason: Reason = "") -> None:
    """Have a rejected outcome count again."""
    await _say(
        here, id, "restored", lambda app, board: core.OutcomeRestored(trial=find_trial(board, trial), reason=reason)
    )


async def budget(
    here: Here, id: Id, trials: Trials = None, cost: Cost = None, time: Time = None, reason: Reason = ""
) -> None:
    """Change what a campaign may spend in all; what is not named stays as it is."""
    limits = {n: v for n, v in (("trials", trials), ("cost", cost), ("time", time)) if v is not None}

    def word(app: "parts.app.App", board: Board) -> core.Fact:
        if not limits:
            now = words.budget(board.spec.goal.budget)
            raise Problem(Exit.BAD_INPUT, f"say what to change: --trials, --cost or --time; the budget is {now}")
        return app.budgeted(board.spec, limits, reason)

    await _say(here, id, "changed", word)


async def _say(here: Here, id: str, done: str, word: Callable[["parts.app.App", Board], core.Fact]) -> None:
    async with open_app(here) as app:
        board = await find(app, id)
        if board.campaign.closed:
            closed = f"campaign {id} is closed ({board.campaign.closed}): nothing of it changes any more"
            raise Problem(Exit.REFUSED, closed, hint="What it found is in `firstlight export`; a new campaign goes on.")
        fact = word(app, board)
        await ask(app, id, fact)
        holder = await app.journal.holder(id)
    later = "" if holder else f"; nobody runs the campaign: firstlight resume {id}"
    here.tell({"campaign": id, "word": done}, f"{words.sentence(fact, id)}{later}")


def pairs(given: list[str] | None, wanted: str) -> dict[str, Any]:
    """NAME=VALUE, each once. Raises Problem."""
    found: dict[str, Any] = {}
    if not given:
        raise Problem(Exit.BAD_INPUT, f"name {wanted}")
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise Problem(Exit.BAD_INPUT, f"{pair!r} is not NAME=VALUE: name {wanted}")
        if name.strip() in found:
            raise Problem(Exit.BAD_INPUT, f"{name.strip()} is there twice: give it once")
        found[name.strip()] = value.strip()
    return found
