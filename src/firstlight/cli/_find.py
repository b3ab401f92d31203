"""Find what was meant: a campaign by its id, an action by a part of its own."""

import difflib
from typing import Annotated

import typer

from .. import core
from . import _parts as parts
from . import _words as words
from ._board import Board
from ._drive import load
from ._output import Exit, Problem

Id = Annotated[str, typer.Argument(metavar="ID", help="The campaign's id.", show_default=False)]


async def find(app: "parts.app.App", id: str) -> Board:
    """The board of a campaign. Raises Problem with what may have been meant."""
    known = await app.journal.campaigns()
    if id not in known:
        near = difflib.get_close_matches(id, known, 1) or [k for k in known if k.startswith(id)][:1]
        meant = f"; did you mean {near[0]!r}?" if near else ""
        hint = "" if near else "`firstlight list` shows all campaigns of this data directory."
        raise Problem(Exit.BAD_INPUT, f"there is no campaign {id!r}{meant}", hint=hint)
    return await load(app, id)


def find_action(board: Board, typed: str) -> core.ActionState:
    """The action that waits for a person and is meant. Raises Problem where none is, or several may be."""
    id, waiting = board.spec.id, board.waiting()
    if not waiting:
        raise Problem(Exit.REFUSED, f"no action of {id} waits for a person")
    name = words.short(id, typed)
    by_name = {words.short(id, a.action.id): a for a in waiting}
    for matches in (
        [a for n, a in by_name.items() if n == name],
        [a for n, a in by_name.items() if n.startswith(f"{name}.") or n.endswith(f".{name}")],
        [a for n, a in by_name.items() if n.startswith(name)],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            several = ", ".join(words.short(id, a.action.id) for a in matches)
            raise Problem(Exit.BAD_INPUT, f"{typed!r} may be any of {several}: say which")
    raise Problem(Exit.BAD_INPUT, f"{typed!r} does not wait for a person; these do: {', '.join(by_name)}")


def find_trial(board: Board, typed: str) -> str:
    """The id of a trial that has ended. Raises Problem where it has not."""
    id = f"{board.spec.id}.{words.short(board.spec.id, typed)}"
    ended = {row.trial for row in board.results.ended}
    if id in ended:
        return id
    if id in board.campaign.open:
        raise Problem(Exit.REFUSED, f"trial {words.short(board.spec.id, id)} of {board.spec.id} has not ended yet")
    known = f"1 to {board.campaign.numbered}" if board.campaign.numbered else "none yet"
    raise Problem(Exit.BAD_INPUT, f"there is no trial {typed!r} that has ended; the trials are {known}")


async def ask(app: "parts.app.App", id: str, fact: core.Fact) -> None:
    """Have a person's word recorded. Raises Problem where it cannot follow."""
    try:
        await app.request(id, fact, parts.app.person())
    except core.InconsistentError as error:
        raise Problem(Exit.REFUSED, f"refused: {error}") from error
