"""Verbs that look and change nothing."""

import inspect
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from . import _live, _where
from . import _parts as parts
from . import _words as words
from ._board import Board
from ._documents import CampaignDocument, campaign_document, fact_document
from ._drive import load
from ._drive import watch as follow
from ._find import Id, find
from ._output import Exit, Here, columns
from ._verb import open_app, settings, verb

After = Annotated[int, typer.Option(metavar="SEQ", min=0, help="Only facts after this one (with --json).")]

Anchors = Annotated[
    Path | None, typer.Option(help="A copy of the journal's anchors, kept elsewhere.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    verb(app, "Look", "list")(list_campaigns)
    for looks in (show, watch, log):
        verb(app, "Look")(looks)
    for lists in (domains, strategies):
        verb(app, "Installed")(lists)
    audit = typer.Typer(no_args_is_help=True)
    audit.callback()(_audit)
    verb(audit, "Look")(verify)
    app.add_typer(audit, name="audit", rich_help_panel="Look")


def _audit() -> None:
    """Whether the journal is what was written."""


async def list_campaigns(here: Here) -> None:
    """List all campaigns."""
    found: list[tuple[Board, CampaignDocument]] = []
    async with open_app(here) as app:
        for id in await app.journal.campaigns():
            board, holder = await load(app, id), await app.journal.holder(id)
            found.append((board, campaign_document(board, holder, time.time())))
    if not found:
        here.tell({"campaigns": []}, "no campaigns yet: firstlight init, or firstlight run critical-materials")
        return
    table = columns("campaign", "state", "trials", "failed", "best", "strategy", "run by", "under way at")
    for board, document in found:
        spent, limit = document.spent.trials, document.spent.trials_limit
        waiting = f" ({len(document.waiting)} to approve)" if document.waiting else ""
        table.add_row(
            document.id, Text(document.state + waiting, _live.COLOURS[document.state]),
            f"{spent} of {limit}" if limit else str(document.trials), str(document.failed or ""),
            _best(board), document.strategy, document.runner,
            ", ".join(f"{name} {count}" for name, count in _where.places(board).items()),
        )  # fmt: skip
    here.tell({"campaigns": [document for _, document in found]}, table)


def _best(board: Board) -> str:
    if not board.front:
        return ""
    objectives = board.spec.goal.objectives
    if len(objectives) > 1:
        return f"front of {len(board.front)}"
    return f"{objectives[0].observable} {words.quantity(board.best[0].seen[objectives[0].observable])}"


async def show(here: Here, id: Id) -> None:
    """Show a campaign as it stands, and how its facilities see what they have of it."""
    async with open_app(here) as app:
        board, now = await find(app, id), time.time()
        holder = await app.journal.holder(id)
        jobs = await _where.ask(app, board, holder)
    width = here.out.width
    braille = (here.out.encoding or "").lower().startswith("utf")
    parts_shown = [_live.view(board, now, holder, width, hint=f"run by {holder}" if holder else "", braille=braille)]
    if len(board.spec.goal.objectives) > 1 and board.front:
        parts_shown += [Text(), _live.front_table(board)]
    if board.campaign.dataset:
        parts_shown.append(Text(f"dataset {board.campaign.dataset}"))
    parts_shown += _where.shown(board, jobs)
    here.tell(campaign_document(board, holder, now, jobs), Group(*parts_shown))


async def watch(here: Here, id: Id, after: After = 0) -> Exit:
    """Follow a campaign that another process runs, until it is closed."""
    async with open_app(here) as app:
        await find(app, id)
        board = await follow(here, app, id, after if here.as_json else 0)
        here.say(_live.summary(board))
    return Exit.DONE


async def log(here: Here, id: Id, after: After = 0) -> None:
    """Print a campaign's journal."""
    async with open_app(here) as app:
        await find(app, id)
        async for entry in app.journal.read(id, after):
            if here.as_json:
                here.write(fact_document(id, entry))
            else:
                here.say(f"{entry.seq:>6}  {words.moment(entry.at)}  {words.sentence(entry.fact, id)}  [{entry.by}]")


def domains(here: Here) -> None:
    """List the domains that are installed: campaigns on real simulators, ready to run."""
    table, documents = columns("name", "area", "what it is", "missing"), []
    found = [_domain(name) for name in parts.plugins.names("domains")]
    for document in sorted(found, key=lambda d: (not d["area"], d["area"], d["name"])):
        documents.append(document)
        table.add_row(document["name"], document["area"], document["about"], document["missing"])
    here.tell({"domains": documents}, table)


def _domain(name: str) -> dict[str, Any]:
    """What is said of one domain. One that cannot be loaded says why, and does not hide the others."""
    try:
        domain: parts.domains.Domain = parts.plugins.load("domains", name)
    except parts.plugins.BrokenPart as broken:
        return {"name": name, "title": name, "area": "", "about": str(broken), "missing": "it cannot be loaded"}
    return {
        "name": name, "title": domain.title, "area": domain.area, "about": domain.summary, "missing": domain.missing(),
        "best": domain.best,
    }  # fmt: skip


def strategies(here: Here) -> None:
    """List the strategies that are installed."""
    table, documents = columns("name", "what it is"), []
    for name in parts.plugins.names("strategies"):
        try:
            about = (inspect.getdoc(parts.plugins.load("strategies", name)) or "").partition("\n\n")[0]
        except parts.plugins.BrokenPart as broken:
            about = str(broken)
        documents.append({"name": name, "about": " ".join(about.split())})
        table.add_row(name, " ".join(about.split()))
    here.tell({"strategies": documents}, table)


async def verify(here: Here, anchors: Anchors = None) -> Exit:
    """Walk every campaign's chain of digests, and say what is not as it was written."""
    kind, options = settings(here).journal_part()
    if kind == "sqlite":
        # A damaged file may be impossible to open as a journal, and is to be examined all the same.
        findings = parts.journal.verify(Path(options["path"]), anchors)
    else:
        async with open_app(here) as app:
            findings = parts.journal.verify(app.journal, anchors)  # type: ignore[arg-type]
    lines = [f"{f.campaign or 'journal'} {f.seq or ''}: {f.problem}".replace(" :", ":") for f in findings]
    here.tell({"sound": not findings, "findings": findings}, "\n".join(lines) or "the journal is what was written")
    return Exit.DAMAGED if findings else Exit.DONE
