"""The comparison as rows of text: the same for a terminal, for Markdown and for CSV."""

import csv
import io
from collections.abc import Sequence

from ._compare import Cell, Comparison
from ._factors import Estimate, digits, said
from ._pool import Pool
from ._yardstick import LEVELS

RANDOM = "random"
"""Exact, not run; with several objectives by many shuffles of the pool."""
HEADS = (
    "pool", "strategy", "runs", "found", "to best 1 %", "acceleration", "to best", "rank AUC", "EF", "wasted", "CPU"
)  # fmt: skip
POOL_HEADS = ("pool", "rows", "parameters", "goal", "source", "assumed")


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


def _brief(found: Estimate) -> str:
    """A number and its interval, short: "9 (8.5-10)", "14 (9+)" without an upper end, "2.1 (<2.9)" without a lower."""
    if found.low is None and found.high is None:
        return str(found)
    if found.high is None:
        return f"{found} ({digits(found.low or 0.0)}+)"
    return f"{found} ({digits(found.low)}-{digits(found.high)})" if found.low else f"{found} (<{digits(found.high)})"


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
        "by the bootstrap. `to best 1 %` and `to best` are trials, median; `acceleration` is to the best 1 %. ≥ and ≤: "
        f"runs that did not get there give bounds only; ~: on both sides. EF after {(s.budget + 1) // 2} trials; CPU "
        "of one suggestion, median.",
        "",
    ]
    lines += [
        "## The pools",
        "",
        *_lines(POOL_HEADS, about(pools)),
        "",
    ]
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
    ends = ("", "_low", "_high", "_side")
    trials, factors = ([f"{what}{end}" for end in ends] for what in ("trials", "acceleration"))
    heads = ["pool", "strategy", "runs", "target", "found", "random_trials", *trials, *factors]
    writer.writerow([*heads, "quality", "random_quality", "wasted", "cpu_seconds"])
    for cell in comparison.cells:
        of_all = [cell.quality.value, cell.random_quality, cell.wasted, cell.cpu]
        for target in LEVELS:
            r = cell.reached[target]
            numbers = [x for e in (r.trials, r.acceleration) for x in (e.value, e.low, e.high, e.side)]
            writer.writerow([cell.pool, cell.contender, cell.runs, target, r.found, r.random, *numbers, *of_all])
    return out.getvalue()
