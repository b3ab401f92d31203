"""The verb for what a laboratory asks of people: actions in doubt, and what has run out."""

from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.table import Table

from .. import core
from . import _parts as parts
from . import _words as words
from ._documents import Waiting, waiting_documents
from ._find import ask, find, find_action
from ._output import Exit, Here, Problem
from ._steer import pairs
from ._verb import open_app, verb

Said = Literal["done", "again", "discard"]
OptionalId = Annotated[str | None, typer.Argument(metavar="[ID]", show_default=False, help="The campaign.")]
OptionalAction = Annotated[
    str | None, typer.Argument(metavar="[ACTION]", show_default=False, help="The action, or as much as tells.")
]
Word = Annotated[
    str | None,
    typer.Argument(
        metavar="[done|again|discard]", show_default=False,
        help="It was performed; it was not, perform it; or give its sample up.",
    ),
]  # fmt: skip
Values = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME=VALUE...]", show_default=False, help="With done: what was observed, as run."),
]
Note = Annotated[str, typer.Option(help="For the journal.", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="The same word for every action of the campaign that is in doubt.")]


def register(app: typer.Typer) -> None:
    """Add this verb."""
    verb(app, "Decide")(attend)


async def attend(
    here: Here, id: OptionalId = None, action: OptionalAction = None, word: Word = None, values: Values = None,
    note: Note = "", every: All = False,
) -> None:  # fmt: skip
    """Look after what waits for a person: say of an action in doubt whether it was done, or give its sample up.

    Without a word it lists all that waits: actions, and what laboratories lack.
    """
    async with open_app(here) as app:
        if id is None or (action is None and not every):
            await _list(here, app, id)
            return
        if id in app.laboratories and id not in await app.journal.campaigns():
            _answer(here, app.laboratory(id), id, action or "", word, values, note)
            return
        if every:
            # ACTION is not given then, and what stands in its place is the word.
            action, word, values = None, action, [*([word] if word else []), *(values or [])]
        board = await find(app, id)
        if word not in ("done", "again", "discard"):
            said = f"{word!r} is" if word else "say"
            raise Problem(Exit.BAD_INPUT, f"{said} {'none of' if word else 'one of'} done, again, discard")
        lost = [a for a in board.waiting() if a.status == "lost"]
        chosen = lost if every else [find_action(board, action or "")]
        if not chosen:
            raise Problem(Exit.REFUSED, f"no action of {id} is in doubt")
        for one in chosen:
            await ask(app, id, _fact(app, board.spec, one, word, values, note))
        holder = await app.journal.holder(id)
    ids = [one.action.id for one in chosen]
    later = "" if holder else f"; nobody runs the campaign: firstlight resume {id}"
    done = {"done": "was performed", "again": "is performed again", "discard": "is given up, with its sample"}[word]
    here.tell({"campaign": id, "actions": ids, "word": word}, f"{', '.join(ids)} {done}{later}")


def _answer(
    here: Here, lab: "parts.lab.LabFacility", name: str, typed: str, word: str | None, values: list[str] | None,
    note: str,
) -> None:  # fmt: skip
    """A task that a person was asked to do by hand: done, with its form filled in, or not."""
    tasks = {task.id: task for task in lab.tasks()}
    found = [t for id, t in tasks.items() if typed in (id, "")] or [t for id, t in tasks.items() if typed in id]
    if len(found) != 1:
        raise Problem(Exit.BAD_INPUT, f"{typed!r} is no task of {name}; there are: {', '.join(tasks) or 'none'}")
    (task,) = found
    if word not in ("done", "discard"):
        raise Problem(Exit.BAD_INPUT, f"say done, with what was found, or discard: {task.instructions}")
    try:
        if word == "done":
            given = pairs(values, _form(task)) if task.form else {}
            lab.answer(
                task, {k: parts.config.read_document(f"v: {v}")["v"] for k, v in given.items()}, parts.app.person()
            )
        else:
            lab.decline(task, note or "not done", parts.app.person())
    except (ValueError, LookupError) as error:
        raise Problem(Exit.BAD_INPUT, str(error.args[0]), hint=f"It asks for {_form(task)}.") from error
    except OSError as error:
        raise Problem(Exit.UNAVAILABLE, f"task {task.id} cannot be answered: {error}") from error
    here.tell({"laboratory": name, "task": task.id, "word": word}, f"{task.id}: {word}")


def _form(task: Any) -> str:
    return ", ".join(f"{a.name}{f' in {a.unit}' if a.unit else ''}" for a in task.form) or "nothing"


def _fact(
    app: "parts.app.App", spec: core.CampaignSpec, state: core.ActionState, word: str, values: list[str] | None,
    note: str,
) -> core.Fact:  # fmt: skip
    action = state.action.id
    if state.status != "lost":
        raise Problem(
            Exit.REFUSED, f"{action} is not in doubt: it waits for a decision",
            hint=f"`firstlight approve {spec.id} {words.short(spec.id, action)}`, or refuse.",
        )  # fmt: skip
    if values and word != "done":
        raise Problem(Exit.BAD_INPUT, f"values go with done, not with {word}")
    match word:
        case "done":
            return app.attested(spec, action, pairs(values, "what was observed") if values else {}, note)
        case "again":
            return core.ActionApproved(action=action, note=note)
        case _:
            return core.ActionRefused(action=action, reasons=(note or "given up by a person",))


def _lacks(app: "parts.app.App", name: str) -> list[str]:
    try:
        return app.laboratory(name).troubles()
    except (parts.plugins.UnknownPart, parts.plugins.BrokenPart, core.Unavailable, OSError) as error:
        return [str(error)]  # What the others lack is to be seen all the same.


def _tasks(app: "parts.app.App", name: str) -> list[Any]:
    try:
        return list(app.laboratory(name).tasks())
    except (parts.plugins.UnknownPart, parts.plugins.BrokenPart, core.Unavailable, OSError):
        return []  # `_lacks` says what is wrong with it.


async def _list(here: Here, app: "parts.app.App", id: str | None) -> None:
    waiting: list[Waiting] = []
    for campaign in [id] if id else await app.journal.campaigns():
        waiting += waiting_documents(await find(app, campaign))
    lacks, tasks = dict[str, Any](), list[tuple[str, Any]]()
    for name in app.laboratories if id is None else ():
        lacks[name] = _lacks(app, name)
        tasks += [(name, task) for task in _tasks(app, name)]
    asked = [{"laboratory": name, **msgspec.to_builtins(task)} for name, task in tasks]
    document: dict[str, Any] = {"waiting": waiting, "laboratories": lacks, "tasks": asked}
    if not waiting and not any(lacks.values()) and not tasks:
        here.tell(document, "nothing waits for a person")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="grey58")
    for column in ("where", "what", "why", "question"):
        table.add_column(column, overflow="fold")
    for w in waiting:
        table.add_row(w.campaign, words.short(w.campaign, w.action), w.status, w.question)
    for name, task in tasks:
        table.add_row(name, task.id, "by hand", f"{task.instructions} Write down: {_form(task)}.")
    for name, troubles in lacks.items():
        for trouble in troubles:
            table.add_row(name, "", "waits", trouble)
    here.tell(document, table)
