"""The comparison as rows of text: the same for a terminal, for Markdown and for CSV."""

import csv
import io
from collections.abc import Sequence

from ._compare import Cell, Comparison
from ._factors import Estimate, digits, said
from ._pool import Pool
from ._yardstick import LEVELS

RANDOM = "random (exact)"
HEADS = (
    "pool", "strategy", "runs", "found", "trials to best 1 %", "acceleration", "trials to best", "rank AUC",
    "enhancement", "wasted", "CPU a suggestion",
)  # fmt: skip


def rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """A row for random search and one for each contender, pool by pool, under HEADS."""
    found: list[tuple[str, ...]] = []
    for i, cell in enumerate(comparison.cells):
        if not i or comparison.cells[i - 1].pool != cell.pool:
            aim, best = cell.reached[comparison.aim], cell.reached["best"]
            found.append(
                (
                    cell.pool, RANDOM, "", "", digits(aim.random), "1", digits(best.random),
                    f"{cell.random_quality:.3f}", "1", "", "",
                )
            )  # fmt: skip
        found.append(_row(cell, comparison.aim))
    return found


def _row(cell: Cell, aim: str) -> tuple[str, ...]:
    aimed = cell.reached[aim]
    return (
        cell.pool, cell.contender, str(cell.runs), f"{100 * aimed.found:.0f} %", _brief(aimed.trials),
        _brief(aimed.acceleration), _brief(cell.reached["best"].trials), f"{cell.quality.value:.3f}",
        "" if cell.enhancement is None else str(cell.enhancement), f"{100 * cell.wasted:.0f} %", seconds(cell.cpu),
    )  # fmt: skip


def _brief(estimate: Estimate) -> str:
    return f"{estimate} ({estimate.interval})" if estimate.interval else str(estimate)


def seconds(value: float) -> str:
    """A time with a fitting unit."""
    return f"{1e3 * value:.2g} ms" if value < 1 else f"{value:.2g} s"


def duels(comparison: Comparison) -> list[tuple[str, ...]]:
    """A row for every two contenders: who, against whom, the ratio of their trials, and pools won, tied and lost."""
    return [(d.a, d.b, said(d.ratio), str(d.won), str(d.tied), str(d.lost)) for d in comparison.duels]


DUEL_HEADS = ("strategy", "against", "trials, as a ratio", "won", "tied", "lost")


def markdown(comparison: Comparison, pools: Sequence[Pool]) -> str:
    """The whole comparison, and what was assumed about the data."""
    s = comparison.settings
    lines = ["# Back-test", "", comparison.words, "", *_lines(HEADS, rows(comparison)), ""]
    overall = [(label, said(factor)) for label, factor in comparison.overall.items()]
    lines += ["## All pools", "", *_lines(("strategy", "acceleration, geometric mean"), overall), ""]
    if comparison.duels:
        lines += [*_lines(DUEL_HEADS, duels(comparison)), ""]
    hidden = f", {100 * s.hide:.0f} % of every pool hidden" if s.hide else ""
    earlier = f", {s.earlier} trials of every sibling ({s.earlier_as})" if s.earlier else ""
    lines += [
        f"Budget {s.budget}, {s.count} at a time, outcomes: {s.noise} of replicates{hidden}{earlier}. Intervals: 95 %, "
        "by the bootstrap. ≥ and ≤: runs that did not reach it give bounds only; ~: on both sides. Enhancement after "
        f"{(s.budget + 1) // 2} trials.",
        "",
    ]
    lines += ["## The pools", "", *_lines(("pool", "rows", "parameters", "goal", "source", "assumed"), about(pools)), ""]
    return "\n".join(lines)


def about(pools: Sequence[Pool]) -> list[tuple[str, ...]]:
    """A row a pool: what it is, and what was assumed."""
    return [
        (
            p.name, str(len(p)), str(len(p.spec.parameters)),
            ", ".join(f"{o.direction} {o.observable}" for o in p.spec.goal.objectives), p.source, "; ".join(p.assumed),
        )
        for p in pools
    ]  # fmt: skip


def _lines(heads: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in body]
    return ["| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads), *escaped)]


def spreadsheet(comparison: Comparison) -> str:
    """CSV with plain numbers: a row a pool, strategy and target; an empty cell where there is no number."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["pool", "strategy", "runs", "target", "found", "random_trials"]
        + [f"{what}{end}" for what in ("trials", "acceleration") for end in ("", "_low", "_high", "_side")]
        + ["quality", "random_quality", "wasted", "cpu_seconds"]
    )
    for cell in comparison.cells:
        for target in LEVELS:
            r = cell.reached[target]
            numbers = [x for e in (r.trials, r.acceleration) for x in (e.value, e.low, e.high, e.side)]
            writer.writerow(
                [cell.pool, cell.contender, cell.runs, target, r.found, r.random, *numbers]
                + [cell.quality.value, cell.random_quality, cell.wasted, cell.cpu]
            )
    return out.getvalue()
