"""Run a campaign in the foreground, or follow one, and show it: live, in lines, or as JSON."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar

from rich.live import Live

from .. import core
from . import _live
from . import _parts as parts
from . import _words as words
from ._board import Board
from ._documents import fact_document
from ._output import Exit, Here, Interrupted

T = TypeVar("T")
FRAME, LINE = 0.25, 0.1
"""Seconds between two looks at the journal: for a picture, for lines."""
LAYING_DOWN = "laying it down; Ctrl-C again leaves at once"


class Display(Protocol):
    """What becomes of a campaign's facts, as they are read from its journal."""

    pause: float

    def fact(self, board: Board, entry: core.Entry, ended: list[core.Row]) -> None:
        """One more fact, already in the board."""
        ...

    def look(self, board: Board, holder: str) -> None:
        """That is all for now."""
        ...


class Picture:
    """A live view on a terminal."""

    pause = FRAME

    def __init__(self, here: Here, live: Live, hint: str) -> None:
        self._console, self._live, self._hint = here.out, live, hint
        self._braille = (here.out.encoding or "").lower().startswith("utf")

    def fact(self, board: Board, entry: core.Entry, ended: list[core.Row]) -> None:
        """The next picture shows it."""

    def look(self, board: Board, holder: str) -> None:
        """Draw it."""
        width, height = self._console.size
        hint = self._hint.format(id=board.spec.id)
        shown = _live.view(board, time.time(), holder, width, height, hint=hint, braille=self._braille)
        self._live.update(shown, refresh=True)


class Lines:
    """A line a trial that has ended, and one for what people should know."""

    pause = LINE

    def __init__(self, here: Here) -> None:
        self._here = here

    def fact(self, board: Board, entry: core.Entry, ended: list[core.Row]) -> None:
        """Say it, if it is worth a line."""
        for row in ended:
            self._here.say(trial_line(board, row))
        id, fact = board.spec.id, entry.fact
        worth = (*core.BY_PERSON, core.ActionEscalated, core.ActionLost, core.TimeSpent)
        moved = isinstance(fact, core.ActionPlaced) and has_moved(board, fact)
        if (isinstance(fact, worth) or moved) and not ended:
            self._here.say(words.sentence(fact, id))
        if isinstance(fact, core.ActionEscalated | core.ActionLost):
            verb = "attend" if isinstance(fact, core.ActionLost) else "approve"
            self._here.say(f"  firstlight {verb} {id} {words.short(id, fact.action)}")

    def look(self, board: Board, holder: str) -> None:
        """Nothing more to say."""


class JsonLines:
    """A JSON document a fact."""

    pause = LINE

    def __init__(self, here: Here) -> None:
        self._here = here

    def fact(self, board: Board, entry: core.Entry, ended: list[core.Row]) -> None:
        """Write it."""
        self._here.write(fact_document(board.spec.id, entry))

    def look(self, board: Board, holder: str) -> None:
        """All is written."""


def has_moved(board: Board, fact: core.ActionPlaced) -> bool:
    """Whether an action goes to a facility because another, to which it had been sent, went away."""
    state = board.campaign.action(fact.action)
    return state is not None and bool(state.left)


def trial_line(board: Board, row: core.Row) -> str:
    """A trial that has ended, in a line."""
    spec, limit = board.spec, board.spec.goal.budget.trials
    place = f"{board.spent()}/{limit}" if limit else f"{board.ended}"
    head = f"[{place}] trial {words.short(spec.id, row.trial)}"
    took = f"  {words.duration(row.ended - row.spans[0].dispatched)}" if row.spans else ""
    if row.failure:
        return f"{head} failed: {row.failure.cause}  {' '.join(row.failure.message.split())}".rstrip() + took
    seen = row.seen
    values = [
        f"{o.observable} {words.quantity(seen[o.observable])}" for o in spec.goal.objectives if o.observable in seen
    ]
    line = f"{head} {', '.join(values) or 'ended'}"
    if not core.counts(spec, row.ran) and spec.fidelity is not None:
        return f"{line}  by {row.ran[spec.fidelity.parameter]}{took}"
    if len(spec.goal.objectives) > 1:
        return f"{line}  front {len(board.front)}{took}"
    if board.front:
        best = board.best[0]
        value = best.seen[spec.goal.objectives[0].observable]
        mark = "  best" if best.trial == row.trial else f"  (best {words.number(value.value, value.sigma)})"
        return line + mark + took
    return f"{line}  breaks a constraint{took}"


async def load(app: "parts.app.App", id: str, upto: int | None = None) -> Board:
    """The board of a campaign as its journal stands."""
    board = Board()
    async for entry in app.journal.read(id):
        board.add(entry)
        if upto is not None and board.seq >= upto:
            break
    return board


async def run(
    here: Here, app: "parts.app.App", id: str, parallel: int, *, from_start: bool = False,
    screen: "Callable[[Board], AbstractContextManager[Display]] | None" = None,
) -> Board:  # fmt: skip
    """Run it until it is closed, showing what is recorded. Raises Interrupted, after laying it down, or Held.

    What is shown is read back from the journal: nothing is shown that is not durable, and whatever goes wrong
    with a display does not touch the campaign.
    """
    board = Board() if from_start else await load(app, id)
    holder, done = parts.app.runner(), asyncio.Event()
    here_runs = f"Ctrl-C lays it down cleanly{words.DOT}firstlight resume {{id}} goes on"
    with screen(board) if screen else _screen(here, board, here_runs) as display:
        showing = asyncio.create_task(_tail(app, id, board, display, done, holder))
        try:
            await interruptible(here, app.run(id, holder, parallel))
        finally:
            done.set()
            shown = await asyncio.gather(showing, return_exceptions=True)
    if isinstance(shown[0], BaseException):
        raise shown[0]
    return board


async def watch(here: Here, app: "parts.app.App", id: str, after: int) -> Board:
    """Follow a campaign that another process runs, until it is closed. Raises Interrupted."""
    board = await load(app, id, after) if after else Board()
    with _screen(here, board, "Ctrl-C ends the watching, not the campaign") as display:
        await interruptible(here, _tail(app, id, board, display, asyncio.Event(), None), "")
    return board


def _screen(here: Here, board: Board, hint: str) -> AbstractContextManager[Any]:
    if here.as_json:
        return nullcontext(JsonLines(here))
    if not here.live:
        return nullcontext(Lines(here))
    return _Drawn(here, hint)


class _Drawn(AbstractContextManager[Picture]):
    def __init__(self, here: Here, hint: str) -> None:
        self._live = Live(console=here.out, auto_refresh=False, transient=True)
        self._picture = Picture(here, self._live, hint)

    def __enter__(self) -> Picture:
        self._live.start()
        return self._picture

    def __exit__(self, *_: object) -> None:
        self._live.stop()


async def _tail(
    app: "parts.app.App", id: str, board: Board, display: Display, done: asyncio.Event, holder: str | None
) -> None:
    """Read on in the journal until it is done, or (`holder` None: somebody else runs it) the campaign is closed."""
    while True:
        last = done.is_set()
        async for entry in app.journal.read(id, board.seq):
            display.fact(board, entry, board.add(entry))
        by = await app.journal.holder(id) if holder is None else holder
        display.look(board, by)
        if last or (holder is None and board.campaign.closed):
            return
        try:
            await asyncio.wait_for(done.wait(), display.pause)
        except TimeoutError:
            continue


async def interruptible(here: Here, work: Coroutine[Any, Any, T], said: str = LAYING_DOWN) -> T:
    """Ctrl-C or SIGTERM cancels the work, which lays itself down; a second one leaves at once. Raises Interrupted."""
    loop, task, count = asyncio.get_running_loop(), asyncio.ensure_future(work), 0

    def stop() -> None:
        nonlocal count
        count += 1
        if count > 1:
            here.out.show_cursor()
            os._exit(int(Exit.INTERRUPTED))
        if said:
            here.note(said)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if count:
            raise Interrupted from None
        raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
