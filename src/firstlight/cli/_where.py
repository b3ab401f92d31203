"""Where actions are, and how far they have come there: what `show` asks the facilities."""

import asyncio
from collections import Counter

from rich.table import Table
from rich.text import Text

from .. import core
from . import _parts as parts
from . import _words as words
from ._board import Board
from ._documents import JobDocument

ANSWER = 3.0
"""Seconds that a facility may take to answer."""
MOST_ASKED, MOST_SHOWN = 64, 12


async def ask(app: "parts.app.App", board: Board, holder: str) -> tuple[JobDocument, ...]:
    """All actions that facilities have, each as its facility sees it; one that does not answer holds up nobody."""
    c = board.campaign
    sent = [a for a in c.actions("dispatched", "accepted") if a.action.facility != core.CALLER]
    asked = await asyncio.gather(*(_job(app, a) for a in sent[:MOST_ASKED]))
    rest = [_document(a, core.JobStatus(state="unknown", message="not asked")) for a in sent[MOST_ASKED:]]
    return (*asked, *rest, *(await _unplaced(app, c) if holder else ()))


def shown(board: Board, jobs: tuple[JobDocument, ...]) -> list[Table | Text]:
    """The same for a person, and what was used so far."""
    id, lines = board.spec.id, list[Table | Text]()
    if jobs:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="grey58")
        for name in ("action", "at", "state", "begins", "node-hours", "why there"):
            table.add_column(name, overflow="fold", justify="right" if name == "node-hours" else "left")
        for job in jobs[:MOST_SHOWN]:
            state = words.DOT.join(filter(None, (job.state, job.native, job.message)))
            begins = words.moment(job.expected_start) if job.expected_start else ""
            used = words.number(job.node_hours) if job.node_hours else ""
            table.add_row(words.short(id, job.action), job.facility or "nowhere yet", state, begins, used, job.reason)
        lines += [Text(), table]
    if len(jobs) > MOST_SHOWN:
        lines.append(Text(f"and {len(jobs) - MOST_SHOWN} more", "grey58"))
    if took := board.campaign.used:
        said = words.DOT.join(f"{words.number(amount)} {unit}" for unit, amount in took.items())
        lines += [Text(), Text(f"used      {said}")]
    return lines


def places(board: Board) -> Counter[str]:
    """How many actions are under way at each facility."""
    return Counter(a.action.facility for a in board.campaign.actions("dispatched", "accepted"))


async def _job(app: "parts.app.App", a: core.ActionState) -> JobDocument:
    try:
        facility = app.facilities[a.action.facility]
        if a.status == "dispatched":
            status = core.JobStatus(state="unknown", message="it is being sent")
        elif not isinstance(facility, core.ReportsStatus):
            status = core.JobStatus(state="unknown", message="its facility does not say")
        else:
            status = await asyncio.wait_for(facility.job(a.job), ANSWER)
    except core.Unavailable as error:
        status = core.JobStatus(state="unknown", message=f"{a.action.facility} cannot be reached: {error}")
    except TimeoutError:
        status = core.JobStatus(state="unknown", message=f"{a.action.facility} has not answered for {ANSWER:g} s")
    return _document(a, status)


async def _unplaced(app: "parts.app.App", c: core.Campaign) -> list[JobDocument]:
    """Actions that somebody wants to place, and why nobody takes them."""
    waiting = [a for _, a in c.ready("proposed") if not a.action.facility]
    if not waiting:
        return []
    try:
        await app.coordinator.place(waiting[0].action, lambda name: 0)
        why = "it is about to get a facility"
    except core.Unavailable as error:
        why = str(error)
    return [_document(a, core.JobStatus(state="unknown", message=why)) for a in waiting]


def _document(a: core.ActionState, status: core.JobStatus) -> JobDocument:
    return JobDocument(
        action=a.action.id, facility=a.action.facility, state=status.state, message=status.message,
        reason=a.placement.reason if a.placement else "", native=status.native,
        expected_start=status.expected_start, node_hours=status.node_hours,
    )  # fmt: skip
