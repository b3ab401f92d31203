"""The figures of a back-test as pictures. Needs matplotlib; touches none of its global state."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from firstlight import core

from . import _random as random
from ._compare import Cell, Comparison
from ._pool import Floats, Pool
from ._run import Contender, Run
from ._yardstick import Yardstick, yardstick

INK, SOFT, GREY = "#16202a", "#566472", "#9aa5b1"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
ACROSS = 4


def draw(
    comparison: Comparison, pools: Sequence[Pool], contenders: Sequence[Contender], runs: Sequence[Run],
    directory: Path,
) -> list[Path]:  # fmt: skip
    """Write curves.png, acceleration.png and cpu.png."""
    colours = {c.label: COLOURS[i % len(COLOURS)] for i, c in enumerate(contenders)}
    made = [directory / "curves.png", directory / "acceleration.png", directory / "cpu.png"]
    _curves(comparison, pools, runs, colours, made[0])
    _accelerations(comparison, colours, made[1])
    _cpu(comparison, colours, made[2])
    return made


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _dress(axes: Axes, x: str = "", y: str = "", title: str = "") -> None:
    axes.set_xlabel(_plain(x), fontsize=9, color=INK)
    axes.set_ylabel(_plain(y), fontsize=9, color=INK)
    axes.set_title(_plain(title), fontsize=10, color=INK, loc="left")
    axes.tick_params(labelsize=8, colors=SOFT, length=0)
    axes.grid(True, color="#e8ecf0", linewidth=0.8)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color("#d9dfe5")


def _plain(text: str) -> str:
    return text.replace("$", r"\$")


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 5), frameon=False, fontsize=9)


# ------------------------------------------------------------------ the best so far


def _curves(
    comparison: Comparison, pools: Sequence[Pool], runs: Sequence[Run], colours: Mapping[str, str], path: Path
) -> None:
    shown = [p for p in pools if any(r.pool == p.name for r in runs)]
    across = min(ACROSS, len(shown))
    down = math.ceil(len(shown) / across)
    figure = _figure(3.6 * across + 0.4, 2.7 * down + 0.6)
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    for axes, pool in zip(grid, shown, strict=False):
        _curve(axes, comparison, pool, [r for r in runs if r.pool == pool.name], colours)
    _legend(figure, grid[0])
    figure.savefig(path, metadata={"Software": "Firstlight"})


def _curve(axes: Axes, comparison: Comparison, pool: Pool, runs: Sequence[Run], colours: Mapping[str, str]) -> None:
    settings = comparison.settings
    objective = pool.spec.goal.objectives[0]
    # Where a region is hidden, random search is that on the region of the first seed.
    stick = yardstick(pool, settings, min(r.seed for r in runs))
    trials = np.arange(1, settings.budget + 1)
    several = len(pool.spec.goal.objectives) > 1
    if several:
        axes.plot(trials, stick.random_quality(), color=GREY, linestyle="--", linewidth=1.5, label="random search")
    else:
        low, middle, high = (_random_best(stick, objective, q) for q in (0.25, 0.5, 0.75))
        axes.fill_between(trials, low, high, step="post", color=GREY, alpha=0.25, linewidth=0)
        axes.step(trials, middle, where="post", color=GREY, linestyle="--", linewidth=1.5, label="random search")
    for label, colour in colours.items():
        mine = [r for r in runs if r.contender == label]
        if not mine:
            continue
        sticks = [yardstick(pool, settings, r.seed) for r in mine]
        each = np.array(
            [s.quality(r) if several else _shown(objective, s.best(r)) for s, r in zip(sticks, mine, strict=True)]
        )
        low, middle, high = (_quantiles(each, q) for q in (0.25, 0.5, 0.75))
        axes.fill_between(trials, low, high, step="post", color=colour, alpha=0.15, linewidth=0)
        axes.step(trials, middle, where="post", color=colour, linewidth=2, label=label)
    name = f"{objective.observable} ({objective.unit})" if objective.unit else objective.observable
    if objective.direction == "match":
        name = f"distance of {name} from target"
    _dress(axes, "trials", "share of hypervolume" if several else f"best {name}", f"{pool.name}, {len(pool)} rows")


def _random_best(stick: Yardstick, objective: core.Objective, q: float) -> Floats:
    found = random.best_quantile(stick.losses[:, 0], stick.budget, q)
    padded = np.concatenate([found, np.full(stick.budget - len(found), found[-1])])
    return _shown(objective, padded)


def _shown(objective: core.Objective, losses: Floats) -> Floats:
    """Losses in the objective's own direction; what is not there yet is not drawn."""
    return np.where(np.isinf(losses), np.nan, -losses if objective.direction == "maximize" else losses)


def _quantiles(curves: Floats, q: float) -> Floats:
    """The q-quantile after each trial of the runs that have something by then; nan while most have nothing."""
    some = [column[~np.isnan(column)] for column in curves.T]
    return np.array([np.quantile(c, q) if 2 * len(c) >= len(curves) else np.nan for c in some])


# ------------------------------------------------------------------ factors


def _accelerations(comparison: Comparison, colours: Mapping[str, str], path: Path) -> None:
    pools = list(dict.fromkeys(cell.pool for cell in comparison.cells))
    figure = _figure(8, 0.35 * len(pools) * max(1, len(colours) / 2) + 1.6)
    axes = figure.subplots()
    for j, (label, colour) in enumerate(colours.items()):
        mine = [c for c in comparison.cells if c.contender == label]
        offset = (j - (len(colours) - 1) / 2) * 0.8 / max(len(colours), 1)
        for cell in mine:
            _factor(axes, comparison, cell, pools.index(cell.pool) + offset, colour)
        axes.plot([], [], "o", color=colour, label=label)
    axes.axvline(1.0, color=GREY, linestyle="--", linewidth=1.2, label="random search")
    axes.set_xscale("log")
    axes.set_yticks(range(len(pools)), pools)
    axes.invert_yaxis()
    _dress(axes, f"acceleration to the {comparison.aim} (an arrow: at most this)")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.tick_params(which="minor", labelsize=7, colors=SOFT, length=0)
    _legend(figure, axes)
    figure.savefig(path, metadata={"Software": "Firstlight"})


def _factor(axes: Axes, comparison: Comparison, cell: Cell, y: float, colour: str) -> None:
    found = cell.reached[comparison.aim].acceleration
    if found.value <= 0:
        return
    if found.low and found.high:
        axes.plot([found.low, found.high], [y, y], color=colour, linewidth=1.5)
    axes.plot([found.value], [y], "<" if found.side else "o", color=colour, markersize=5)


def _cpu(comparison: Comparison, colours: Mapping[str, str], path: Path) -> None:
    pools = list(dict.fromkeys(cell.pool for cell in comparison.cells))
    figure = _figure(8, 0.3 * len(pools) + 1.6)
    axes = figure.subplots()
    for label, colour in colours.items():
        mine = [c for c in comparison.cells if c.contender == label]
        at = [pools.index(c.pool) for c in mine]
        axes.plot([1e3 * max(c.cpu, 1e-6) for c in mine], at, "o", color=colour, label=label)
    axes.set_xscale("log")
    axes.set_yticks(range(len(pools)), pools)
    axes.invert_yaxis()
    _dress(axes, "CPU milliseconds a suggestion, median")
    _legend(figure, axes)
    figure.savefig(path, metadata={"Software": "Firstlight"})
