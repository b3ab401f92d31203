"""The picture of a campaign in a terminal: a pure function of its board and the time."""

from collections.abc import Iterable, Sequence

from rich.box import ROUNDED
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .. import core
from . import _words as words
from ._board import Board, Dot
from ._chart import Layer, Pair, chart, spark, stairs
from ._where import places

COLOURS = {
    "running": "green", "waiting": "yellow", "paused": "yellow", "ending": "cyan",
    "interrupted": "red", "new": "cyan", "closed": "blue",
}  # fmt: skip
DIM, LABEL, BRIGHT = "grey58", "bold", "bold green"
MOST_FLIGHTS = 6
MOST_OBJECTIVES = 6
MOST_WORDS = 3
A_WHILE = 5.0
"""Seconds for which an action that is about to begin may be without a facility before it is worth a word."""
SCREEN_FOR_A_PICTURE, SCREEN_FOR_FAILURES = 38, 30
AXIS = 10


def view(
    board: Board, now: float, holder: str, width: int, height: int = 50, *, hint: str = "", braille: bool = True
) -> RenderableType:
    """The whole picture, for a screen of this many characters and lines; without `braille` the chart is ASCII."""
    c, standing = board.campaign, board.standing(holder)
    # The terminal echoes "^C" behind the last line: there must be room, or the picture is a line higher than it knows.
    wide = min(width - 3, 110)
    inner = wide - 4
    title = Text.assemble((f" {c.spec.id} ", "bold"), (f"{standing} ", COLOURS[standing]))
    parts: list[RenderableType] = [_heading(board), Text(), _bars(board, now, holder, inner), Text(), _best(board)]
    parts += _outlook(board, inner, braille)
    parts += _learns(board)
    # On a low screen the picture goes first, then the list of failures; the rest is what a person acts on.
    if height >= SCREEN_FOR_A_PICTURE and (picture := _picture(board, inner, braille)):
        parts += [Text(), picture]
    parts += [*_flights(board, now, inner, most=max(1, min(MOST_FLIGHTS, height - 18)))]
    parts += [*_unplaced(board, now, holder), *_waiting(board)]
    parts += _steered(board)
    parts += [*_failures(board, inner, few=height < SCREEN_FOR_FAILURES), _footer(board, now, holder)]
    return Panel(
        Group(*parts), title=title, title_align="left", box=ROUNDED, width=wide,
        subtitle=Text(f" {hint} ", DIM) if hint else None, subtitle_align="left", border_style=COLOURS[standing],
    )  # fmt: skip


def summary(board: Board) -> RenderableType:
    """How it ended, or stands: the best trials, and what they took."""
    c = board.campaign
    how = f"closed: {c.closed}" if c.closed else "not closed yet"
    parts: list[RenderableType] = [Text.assemble((c.spec.title or c.spec.id, LABEL), f"  {how}")]
    parts += [Text(), _best(board)]
    parts += _outlook(board, 0, braille=False)
    if len(board.spec.goal.objectives) > 1 and board.front:
        parts += [Text(), front_table(board)]
    took = [words.plural(board.ended, "trial")]
    if board.failures:
        took.append(f"{sum(board.failures.values())} failed ({_causes(board)})")
    took.append(f"in {words.duration(c.elapsed)}")
    if c.cost:
        took.append(f"cost {words.number(c.cost)} {c.spec.goal.budget.cost_unit}".rstrip())
    parts += [Text(), Text(words.DOT.join(took))]
    if c.dataset:
        parts.append(Text(f"dataset {c.dataset}"))
    return Group(Text(), *parts)


def front_table(board: Board, most: int = 12) -> Table:
    """The Pareto front, best first in the first objective."""
    objectives = board.spec.goal.objectives
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=DIM)
    table.add_column("trial", justify="right")
    for o in objectives:
        table.add_column(f"{o.observable} {o.unit}".rstrip(), justify="right")
    table.add_column("point", overflow="ellipsis", no_wrap=True)
    ordered = [row for _, row in sorted(board.worth, key=lambda pair: pair[0])]
    chosen = (
        ordered if len(ordered) <= most else [ordered[round(i * (len(ordered) - 1) / (most - 1))] for i in range(most)]
    )
    for row in chosen:
        seen = row.seen
        values = [words.number(seen[o.observable].value, seen[o.observable].sigma) for o in objectives]
        table.add_row(words.short(board.spec.id, row.trial), *values, words.point(board.spec, row.ran))
    if len(ordered) > most:
        beyond = " beyond every threshold" if len(ordered) < len(board.front) else ""
        table.caption = f"{most} of the {len(ordered)} trials of the front{beyond}"
        table.caption_justify, table.caption_style = "left", DIM
    return table


# ------------------------------------------------------------------ the parts, from top to bottom


def _heading(board: Board) -> RenderableType:
    c = board.campaign
    how = f"{c.spec.strategy.name}{words.DOT}seed {c.spec.seed}{words.DOT}{_slots(c)}"
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    wanted = words.DOT.join(words.objective(o) for o in c.spec.goal.objectives)
    if c.spec.title:
        grid.add_row(Text(c.spec.title, LABEL), Text(how, DIM))
        grid.add_row(Text(wanted, DIM), Text(c.model, DIM))
    else:
        grid.add_row(Text(wanted, LABEL), Text(how, DIM))
    return grid


def _slots(c: core.Campaign) -> str:
    # Whoever asks and tells has as many slots as they like.
    return f"{c.parallel} at once" if c.parallel < 100_000 else "ask and tell"


def _bars(board: Board, now: float, holder: str, width: int) -> RenderableType:
    budget, c = board.spec.goal.budget, board.campaign
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style=DIM, width=7)
    grid.add_column(width=max(12, min(48, width - 36)))
    grid.add_column(no_wrap=True)

    def bar(label: str, done: float, limit: float | None, text: str) -> None:
        drawn: RenderableType = Text("no limit", DIM)
        if limit:
            done = min(done, limit)
            drawn = ProgressBar(total=limit, completed=done, complete_style="green", finished_style="blue")
        grid.add_row(label, drawn, text)

    spent, limit = board.spent(), budget.trials
    bar("trials", spent, limit, f"{spent} of {limit}" if limit else f"{spent}")
    elapsed = board.elapsed(now, holder)
    if budget.seconds:
        bar("time", elapsed, budget.seconds, f"{words.duration(elapsed)} of {words.duration(budget.seconds)}")
    if c.spec.fidelity is not None:
        counted = [f"{source}: {board.by_source[source]}" for source in words.sources(c.spec)]
        grid.add_row(
            "source", Text(words.DOT.join(counted), overflow="ellipsis"), f"only {c.spec.fidelity.target} counts"
        )
    if budget.cost:
        bar("cost", c.cost, budget.cost, f"{words.number(c.cost)} of {words.number(budget.cost)} {budget.cost_unit}")
    return grid


def _best(board: Board) -> RenderableType:
    goal, spec = board.spec.goal, board.spec
    if not board.front:
        waiting = "nothing good yet" if board.ended else "waiting for the first trial"
        return Text.assemble(("best     ", DIM), (waiting, DIM))
    if len(goal.objectives) > 1:
        return _best_of_several(board)
    row, o = board.best[0], goal.objectives[0]
    target = ""
    if o.target is not None:
        target = f"   target {words.number(o.target)} {o.unit}".rstrip()
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style=DIM, width=7)
    grid.add_column(overflow="fold")
    value = Text.assemble((f"{o.observable} {words.quantity(row.seen[o.observable])}", BRIGHT), (target, DIM))
    value.append(f"   trial {words.short(spec.id, row.trial)}", DIM)
    grid.add_row("best", value)
    grid.add_row("at", words.point(spec, row.ran))
    return grid


def _outlook(board: Board, width: int, braille: bool) -> list[RenderableType]:
    """What is still to be gained, as the strategy sees it, and how that went; nothing where it has not said."""
    if board.campaign.outlook is None:
        return []
    rule, said = board.spec.goal.regret, Text(words.outlook(board.spec, board.campaign.outlook))
    if rule is not None:
        said.append(f"   stops at {words.percent(rule.chance)}", DIM)
    if braille and (room := min(24, width - said.cell_len - 12)) > 1 and len(board.chances) > 1:
        said.append(f"   {spark(board.chances[-room:])}", "cyan")
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style=DIM, width=7)
    grid.add_column(overflow="fold")
    grid.add_row("outlook", said)
    return [grid]


def _learns(board: Board) -> list[RenderableType]:
    """The earlier campaigns that inform it."""
    earlier = board.campaign.earlier
    if not earlier:
        return []
    names = ", ".join(c.campaign for c in earlier)
    return [Text.assemble(("learns   ", DIM), f"from {names}", overflow="ellipsis", no_wrap=True)]


def _best_of_several(board: Board) -> RenderableType:
    goal, spec = board.spec.goal, board.spec
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style=DIM, width=7)
    for _ in range(2):
        grid.add_column(no_wrap=True)
    grid.add_column(style=DIM, overflow="ellipsis", no_wrap=True)
    grid.add_row("front", Text(words.plural(len(board.front), "trial"), BRIGHT))
    for i, o in enumerate(goal.objectives[:MOST_OBJECTIVES]):
        _, row = min(board.worth, key=lambda pair: pair[0][i])
        target = f"target {words.number(o.target)}  " if o.target is not None else ""
        value = Text(words.quantity(row.seen[o.observable]), BRIGHT)
        grid.add_row("" if i else "best", o.observable, value, f"{target}trial {words.short(spec.id, row.trial)}")
    return grid


def _picture(board: Board, width: int, braille: bool) -> RenderableType | None:
    shown = [d for d in board.dots if d.values is not None]
    if len(shown) < 2:
        return None
    if len(board.spec.goal.objectives) > 1:
        return _scatter(board, shown, width, braille)
    return _history(board, width, braille)


def _history(board: Board, width: int, braille: bool) -> RenderableType:
    o = board.spec.goal.objectives[0]
    dots = [(float(i), d) for i, d in enumerate(board.dots, 1)]
    y = _span([d.values[0] for _, d in dots if d.values is not None], board.best_values)
    x = (1.0, float(max(2, board.spec.goal.budget.trials or 0, board.ended)))
    columns = width - AXIS - 1

    def layer(chosen: Iterable[tuple[float, Dot]], style: str, mark: str) -> Layer:
        return Layer([(i, d.values[0]) for i, d in chosen if d.values is not None], style, mark)

    curve = stairs(board.best_values, board.first_good, 2 * columns, (1.0, float(board.ended)))
    layers = [
        layer((p for p in dots if p[1].informs), DIM, _mark(braille)),
        layer((p for p in dots if not p[1].good and not p[1].informs), "red", _mark(braille)),
        layer((p for p in dots if p[1].good), "cyan", _mark(braille)),
        Layer(curve, BRIGHT, "" if braille else "-"),
    ]
    lines = chart(layers, x, y, columns, 6)
    legend = Text.assemble(
        (f"{o.observable} {o.unit}".rstrip(), DIM), "   ", ("best so far", BRIGHT), "  ", ("trial", "cyan")
    )
    if any(d.values is not None and d.informs for d in board.dots):
        legend.append("  by another source", DIM)
    if any(d.values is not None and not d.good and not d.informs for d in board.dots):
        legend.append("  breaks a constraint", "red")
    return _framed(lines, y, f"{x[0]:.0f}", f"trial {x[1]:.0f}", columns, legend)


def _mark(braille: bool) -> str:
    return "•" if braille else "o"


def _scatter(board: Board, shown: Sequence[Dot], width: int, braille: bool) -> RenderableType:
    first, second = board.spec.goal.objectives[:2]
    pairs = [(d.values[0], d.values[1]) for d in shown if d.values is not None]
    worth = [row.seen for _, row in board.worth]
    x, y = (_reach([s[o.observable].value for s in worth], o) for o in (first, second))
    columns = min(64, width - AXIS - 1)
    seen = [row.seen for row in board.best]
    front = [(s[first.observable].value, s[second.observable].value) for s in seen]
    layers = [Layer(pairs, "cyan", _mark(braille)), Layer(front, BRIGHT, "●" if braille else "*")]
    lines = chart(layers, x, y, columns, 7)
    legend = Text.assemble(
        (f"{second.observable} {second.unit}".rstrip() + f" over {first.observable} {first.unit}".rstrip(), DIM),
        "   ", ("front", BRIGHT), "  ", ("other trials", "cyan"),
    )  # fmt: skip
    return _framed(lines, y, words.number(x[0]), words.number(x[1]), columns, legend)


def _framed(lines: Sequence[Text], y: Pair, left: str, right: str, columns: int, legend: Text) -> RenderableType:
    labels = {0: words.number(y[1]), len(lines) - 1: words.number(y[0])}
    drawn = [Text.assemble(" " * AXIS, legend)]
    for i, line in enumerate(lines):
        drawn.append(
            Text.assemble((f"{labels.get(i, ''):>{AXIS - 1}} ", DIM), ("┤" if i in labels else "│", DIM), line)
        )
    gap = max(1, columns - len(left) - len(right))
    drawn.append(Text(" " * AXIS + "└" + left + "─" * gap + right, DIM))
    return Group(*drawn)


def _reach(values: Sequence[float], o: core.Objective) -> Pair:
    """What the trials worth having span, and the threshold: other trials are drawn at the edge."""
    return _span([*values, *([] if o.threshold is None else [o.threshold])], [])


def _span(values: Sequence[float], curve: Sequence[float]) -> Pair:
    """The range worth looking at: far-out trials, one in ten on either side, are drawn at the edge."""
    ordered = sorted(values)
    cut = len(ordered) // 10
    inside = ordered[cut : len(ordered) - cut] or ordered
    # The best values are the point of the picture: they are never cut off.
    kept = [*inside, *(curve[-1:] or [ordered[0], ordered[-1]])]
    low, high = min(kept), max(kept)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _flights(board: Board, now: float, width: int, most: int) -> list[RenderableType]:
    rows = [r for t in board.campaign.open.values() if (r := _flight(board, t, now))]
    if not rows:
        return []
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style=DIM, width=7, justify="right")
    grid.add_column(overflow="ellipsis", no_wrap=True, max_width=max(16, width - 40))
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True, style=DIM)
    for cells in rows[:most]:
        grid.add_row(*cells)
    more = [Text(f"         and {len(rows) - most} more", DIM)] if len(rows) > most else []
    where = places(board)
    said = words.DOT.join(f"{name} {count}" for name, count in where.most_common()) if len(where) > 1 else ""
    return [Text(), Text(f"in flight  {said}".rstrip(), DIM), grid, *more]


def _flight(board: Board, trial: core.Trial, now: float) -> tuple[str, str, Text, str] | None:
    """A line for a trial that is under way or waits for a person."""
    states = list(trial.actions.values())
    asked = next((a for a in states if a.status in ("escalated", "lost")), None)
    under_way = next((a for a in states if a.status in ("dispatched", "accepted")), None)
    name, at = words.short(board.spec.id, trial.id), words.point(board.spec, trial.point)
    if asked is not None and trial.failure is None:
        return name, at, Text("waits for approval" if asked.status == "escalated" else "lost", "yellow"), ""
    if under_way is None:
        return None
    where = under_way.action.facility + ("" if len(states) == 1 else f"{words.DOT}{under_way.action.name}")
    age = words.duration(now - board.sent.get(under_way.action.id, now))
    return name, at, Text(f"{where} (cancelling)" if under_way.cancelling else where), age


def _unplaced(board: Board, now: float, holder: str) -> list[RenderableType]:
    """Actions that no facility can take: those that still have none when nothing has happened for a while."""
    c = board.campaign
    count = sum(1 for _ in c.placeable) if holder and not c.paused and now - c.last > A_WHILE else 0
    if not count:
        return []
    said = f"no facility can take {words.plural(count, 'action')} now: firstlight show {c.spec.id} says why"
    return [Text(), Text(said, "yellow")]


def _waiting(board: Board) -> list[RenderableType]:
    asked = board.waiting()
    if not asked:
        return []
    id = board.spec.id
    lines: list[RenderableType] = [Text(), Text(f"waiting for a person: {len(asked)}", "yellow")]
    for a in asked[:2]:
        lines.append(Text(f"  {a.question}", overflow="ellipsis", no_wrap=True))
        verb = "attend" if a.status == "lost" else "approve"
        lines.append(Text(f"  firstlight {verb} {id} {words.short(id, a.action.id)}", "bold"))
    return lines


def _steered(board: Board) -> list[RenderableType]:
    """What people want and forbid, and what they set aside."""
    c, id = board.campaign, board.spec.id
    lines: list[tuple[str, str]] = []
    lines += [("wanted", f"{words.point(board.spec, r.point)}   by {r.by}") for r in c.requested[:MOST_WORDS]]
    lines += [("forbid", core.region_words(region)) for region in c.forbidden[-MOST_WORDS:]]
    lines += [("bad", f"trial {words.short(id, r.trial)}   {r.rejected}") for r in board.results.rejected[-MOST_WORDS:]]
    if not lines:
        return []
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style=DIM, width=7)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for label, text in lines:
        grid.add_row(label, text)
    return [Text(), grid]


def _failures(board: Board, width: int, few: bool) -> list[RenderableType]:
    if not board.failures:
        return []
    lines: list[RenderableType] = [Text()]
    lines.append(Text.assemble((f"failed {sum(board.failures.values())}", "red"), (f"   {_causes(board)}", DIM)))
    for row in () if few else reversed(board.last_failures):
        assert row.failure is not None
        message = " ".join(row.failure.message.split())
        name = words.short(board.spec.id, row.trial)
        lines.append(Text(f"{name:>7}  {row.failure.cause}  {message}"[:width], DIM, no_wrap=True, overflow="ellipsis"))
    return lines


def _causes(board: Board) -> str:
    return ", ".join(f"{cause} {count}" for cause, count in board.failures.most_common())


def _footer(board: Board, now: float, holder: str) -> RenderableType:
    c, said = board.campaign, []
    if c.closed:
        said.append(f"closed: {c.closed}")
    elif c.ending:
        said.append(f"ending: {c.ending}")
    elif not holder and c.seq > 1:
        said.append(f"nobody runs it: firstlight resume {c.spec.id}")
    if holder and not c.closed:
        if rate := board.rate(now):
            said.append(f"{words.number(rate * 60)} trials/min" if rate < 10 else f"{words.number(rate)} trials/s")
        if not c.paused and (left := board.time_left(now, holder)) is not None:
            said.append(f"about {words.duration(left)} left")
    said.append(f"{words.duration(board.elapsed(now, holder))} so far")
    return Group(Text(), Text(words.DOT.join(said), DIM))
