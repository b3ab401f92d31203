"""Verbs for what waits for a person."""

from collections.abc import Callable
from typing import Annotated

import typer
from rich.table import Table

from .. import core
from . import _words as words
from ._documents import Waiting, waiting_documents
from ._find import Id, ask, find, find_action
from ._output import Here
from ._verb import open_app, verb

ActionId = Annotated[
    str, typer.Argument(metavar="ACTION", help="The action, or as much of its id as tells.", show_default=False)
]
OptionalId = Annotated[str | None, typer.Argument(metavar="[ID]", show_default=False, help="Of this campaign only.")]
Note = Annotated[str, typer.Option(help="For the journal.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why, for the journal.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    for decides in (approvals, approve, refuse):
        verb(app, "Decide")(decides)


async def approvals(here: Here, id: OptionalId = None) -> None:
    """List the actions that wait for a person: escalated by policy, or lost."""
    waiting: list[Waiting] = []
    async with open_app(here) as app:
        for campaign in [id] if id else await app.journal.campaigns():
            board = await find(app, campaign)
            waiting += waiting_documents(board)
    here.tell({"waiting": waiting}, _table(waiting) if waiting else "nothing waits for a person")


def _table(waiting: list[Waiting]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="grey58")
    for column in ("campaign", "action", "why", "question", "point"):
        table.add_column(column, overflow="fold")
    for w in waiting:
        point = words.DOT.join(f"{k} {words.number(v) if isinstance(v, float) else v}" for k, v in w.point.items())
        table.add_row(w.campaign, words.short(w.campaign, w.action), w.status, w.question, point)
    return table


async def approve(here: Here, id: Id, action: ActionId, note: Note = "") -> None:
    """Allow an action that waits; for a lost one: it was not performed, perform it."""
    await _decide(here, id, action, "approved", lambda full: core.ActionApproved(action=full, note=note))


async def refuse(here: Here, id: Id, action: ActionId, reason: Reason) -> None:
    """Refuse an action that waits; its trial has failed then."""
    await _decide(here, id, action, "refused", lambda full: core.ActionRefused(action=full, reasons=(reason,)))


async def _decide(here: Here, id: str, typed: str, word: str, fact: Callable[[str], core.Fact]) -> None:
    async with open_app(here) as app:
        full = find_action(await find(app, id), typed).action.id
        await ask(app, id, fact(full))
        holder = await app.journal.holder(id)
    later = "" if holder else f"; nobody runs the campaign: firstlight resume {id}"
    here.tell({"campaign": id, "action": full, "decision": word}, f"{full} is {word}{later}")
