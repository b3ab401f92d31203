"""The verb that lets strategies run on experiments whose outcomes are known."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from . import _parts as parts
from ._output import Exit, Here, Interrupted, Problem
from ._verb import verb


class Objectives(StrEnum):
    """Which objectives of a pool count."""

    all = "all"
    first = "first"


class Noise(StrEnum):
    """What is told where a row has replicates."""

    mean = "mean"
    draw = "draw"


class As(StrEnum):
    """What becomes of the outcomes of earlier campaigns."""

    true = "true"
    shuffled = "shuffled"
    inverted = "inverted"


Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="The directory tree with the experiments.")]
Describe = Annotated[
    list[Path], typer.Option("--describe", metavar="DIR", help="Where descriptions of its tables are, besides it.")
]
Strategies = Annotated[
    str | None,
    typer.Option(metavar="LIST", help="As in bayes,cold=bayes{initial: 3},sobol; without it the pools are listed."),
]
Pools = Annotated[str, typer.Option(metavar="LIST", help="Only pools with these names, as in buchwald_*,snar.")]
Seeds = Annotated[int, typer.Option(metavar="N", min=1, help="How many runs of each strategy on each pool.")]
BudgetOf = Annotated[int, typer.Option("--budget", metavar="N", min=1, help="How many trials a run may take.")]
Batch = Annotated[int, typer.Option(metavar="N", min=1, help="How many points are asked for at a time.")]
WhichObjectives = Annotated[Objectives, typer.Option("--objectives", help="All objectives of a pool, or its first.")]
WhichNoise = Annotated[Noise, typer.Option("--noise", help="Tell the mean of replicates, or draw one of them.")]
Hide = Annotated[float, typer.Option(metavar="SHARE", min=0, max=0.9, help="Share of a pool that fails, a region.")]
EarlierOf = Annotated[
    int, typer.Option("--earlier", metavar="N", min=0, help="Trials known of each pool with like parameters.")
]
EarlierAs = Annotated[As, typer.Option("--earlier-as", help="Those as they were, or made useless or misleading.")]
Full = Annotated[bool, typer.Option("--full", help="Spend the budget even where the best is found.")]
KeepIn = Annotated[
    Path | None,
    typer.Option("--keep", metavar="FILE", help="Where ended runs are kept (default: DIR of --out/runs.jsonl)."),
]
Jobs = Annotated[int | None, typer.Option(metavar="N", min=1, help="How many runs at once (default: one a processor).")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Write table and figures there.")]


NARROW = ("strategy", "runs", "found", "to best 1 %", "acceleration", "to best", "rank AUC", "EF", "wasted", "CPU")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "Prepare")(backtest)


def backtest(
    here: Here, data: Data, describe: Describe = [], strategies: Strategies = None, pools: Pools = "",  # noqa: B006
    seeds: Seeds = 10, budget: BudgetOf = 60, batch: Batch = 1, objectives: WhichObjectives = Objectives.all,
    noise: WhichNoise = Noise.mean, hide: Hide = 0.0, earlier: EarlierOf = 0, earlier_as: EarlierAs = As.true,
    full: Full = False, keep: KeepIn = None, jobs: Jobs = None, out: Out = None,
) -> Exit:  # fmt: skip
    """Let strategies run on experiments whose outcomes are known, and say which to choose."""
    if not data.is_dir():
        raise Problem(Exit.BAD_INPUT, f"there is no directory {data}", hint="Name it with --data.")
    names = [name.strip() for name in pools.split(",") if name.strip()]
    found = parts.app.find_pools(data, describe, objectives.value, names)
    for fault in found.faults:
        here.warn(f"left out: {fault}")
    if not found.pools:
        raise Problem(Exit.BAD_INPUT, f"there is no pool{' of these names' if names else ''} in {data}")
    if strategies is None:
        _list(here, found)
        return Exit.DONE
    contenders = _contenders(here, strategies)
    settings = parts.backtest.Settings(
        budget=budget, count=batch, noise=noise.value, hide=hide, full=full, earlier=earlier,
        earlier_as=earlier_as.value,
    )  # fmt: skip
    if out is not None:
        try:
            parts.backtest.drawing()  # Better known now than after hours.
        except parts.backtest.MissingExtra as missing:
            raise Problem(Exit.BAD_INPUT, str(missing), hint="Or leave out --out.") from missing
    file = keep or (out / "runs.jsonl" if out else None)
    todo = parts.backtest.tasks(found.pools, contenders, range(1, seeds + 1), settings, found.others)
    runs, broken = _perform(here, [*found.pools, *found.others], todo, file, jobs or os.cpu_count() or 1)
    comparison = parts.backtest.compare(found.pools, contenders, runs, settings)
    written = parts.backtest.write(comparison, found.pools, contenders, runs, out) if out and runs else []
    for line in broken:
        here.warn(line)
    document = {
        "comparison": comparison, "broken": broken, "written": [str(path) for path in written],
        **_about(found),
    }  # fmt: skip
    here.tell(document, Group(*_shown(comparison), *(Text(f"written: {path}") for path in written)))
    return Exit.DONE


def _contenders(here: Here, text: str) -> "Sequence[parts.backtest.Contender]":
    """The strategies named, each of which can be made. Random search is computed and not run."""
    try:
        named = parts.backtest.contenders(text, parts.config.read_document)
    except ValueError as error:
        raise Problem(Exit.BAD_INPUT, f"--strategies: {error}") from error
    for contender in named:
        parts.app.make_strategy(contender.strategy, contender.options)
    run = [c for c in named if c.label != "random"]
    if not run:
        hint = "Random search needs no running: it is computed, and is in every table."
        raise Problem(Exit.BAD_INPUT, "--strategies names none to run", hint=hint)
    return run


def _perform(
    here: Here, pools: "Sequence[parts.backtest.Pool]", todo: "Sequence[parts.backtest.Task]", file: Path | None,
    jobs: int,
) -> "tuple[list[parts.backtest.Run], list[str]]":  # fmt: skip
    """The runs, in the order they were asked for, and what went wrong with others. Raises Interrupted."""
    try:
        kept = parts.backtest.Keep(file) if file else nullcontext()
    except parts.backtest.Unkept as error:
        raise Problem(Exit.BAD_INPUT, str(error)) from error
    broken = list[str]()
    columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        kept as store,
        _stoppable(),
        Progress(*columns, console=here.out, transient=True, disable=not here.live) as bar,
    ):
        done = {} if store is None else {t.key: store.runs[t.key] for t in todo if t.key in store.runs}
        left = [t for t in todo if t.key not in done]
        progress = bar.add_task("", total=len(todo), completed=len(done))
        performing = parts.backtest.perform(left, pools, parts.app.make_strategy, min(jobs, max(len(left), 1)))
        try:
            for ended in performing:
                if isinstance(ended, parts.backtest.Broken):
                    t = ended.task
                    broken.append(f"{t.contender.label} on {pools[t.pool].name}, seed {t.seed}: {ended.message}")
                else:
                    done[ended.key] = ended
                    if store is not None:
                        store.add(ended)
                bar.advance(progress)
        except KeyboardInterrupt:
            where = f" in {file}; the same command goes on" if file else " nowhere, for there is no --keep"
            here.warn(f"{len(done)} of {len(todo)} runs are kept{where}")
            raise Interrupted from None
        finally:
            performing.close()
    # A kept run has the label it was run under, and the same strategy may have another one now.
    labelled = [parts.backtest.relabelled(done[t.key], t, pools) for t in todo if t.key in done]
    return labelled, broken


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# ------------------------------------------------------------------ what is shown


def _about(found: "parts.backtest.Found") -> dict[str, Any]:
    pools = [
        {
            "name": p.name, "rows": len(p), "source": p.source, "assumed": p.assumed,
            "parameters": [q.name for q in p.spec.parameters],
            "objectives": [{"observable": o.observable, "direction": o.direction} for o in p.spec.goal.objectives],
        }
        for p in found.pools
    ]  # fmt: skip
    return {"pools": pools, "left_out": [str(fault) for fault in found.faults]}


def _list(here: Here, found: "parts.backtest.Found") -> None:
    table = _table(parts.backtest.POOL_HEADS)
    for row in parts.backtest.about(found.pools):
        table.add_row(*map(Text, row))
    here.tell(_about(found), table)


def _shown(comparison: "parts.backtest.Comparison") -> list[Any]:
    table, last = _table(parts.backtest.HEADS), ""
    for pool, strategy, *more in parts.backtest.rows(comparison):
        style = "grey58" if strategy == parts.backtest.RANDOM else ""
        table.add_row(*(Text(cell, style) for cell in ("" if pool == last else pool, strategy, *more)))
        last = pool
    shown: list[Any] = [table, Text()]
    overall = _table(("strategy", "acceleration over all pools"))
    for label, factor in comparison.overall.items():
        overall.add_row(Text(label), Text(parts.backtest.said(factor)))
    shown += [overall, Text()]
    if comparison.duels:
        against = _table(parts.backtest.DUEL_HEADS)
        for row in parts.backtest.duels(comparison):
            against.add_row(*map(Text, row))
        shown += [against, Text()]
    return [*shown, Text(comparison.words, "bold")]


def _table(heads: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="grey58")
    for head in heads:
        table.add_column(head, overflow="fold", no_wrap=head in NARROW)
    return table
