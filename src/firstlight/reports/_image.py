"""The main figures as pictures, for a README or a slide. Needs matplotlib; touches none of its global state."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from firstlight import core

from ._analysis import Analysis
from ._plots import horizontal, shown
from ._reasons import CROWD, ranked, smooth
from ._subject import Subject
from ._surrogate import POOR, Influence
from ._why import Calibration, Why
from ._words import number, verdict

OWN, RANDOM, BAND, GREY, INK, SOFT, BAD = "#0072b2", "#b35c00", "#f7e3c0", "#b9c1c9", "#16202a", "#566472", "#c4430b"


def draw(subject: Subject, analysis: Analysis, path: Path) -> None:
    """Write a PNG of 1600 by 900 pixels: progress against random search, and the front of two objectives."""
    figure = Figure(figsize=(16, 9), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    several = analysis.box is not None
    axes = figure.subplots(1, 2 if several else 1, squeeze=False)[0]
    figure.subplots_adjust(left=0.08, right=0.97, top=0.78, bottom=0.11, wspace=0.2)
    figure.text(
        0.08, 0.93, _plain(_short(subject.spec.title or subject.spec.id)), fontsize=27, fontweight="bold", color=INK
    )
    figure.text(0.08, 0.89, _wrap(verdict(analysis)), fontsize=15, color=SOFT, va="top", linespacing=1.4)
    found = analysis.random.factor
    if found and not analysis.nothing:
        figure.text(0.97, 0.91, f"{found.median}×", fontsize=44, fontweight="bold", color=OWN, ha="right")  # noqa: RUF001
        figure.text(
            0.97,
            0.875,
            "acceleration" + (", estimated" if analysis.random.kind == "estimate" else ""),
            fontsize=15,
            color=SOFT,
            ha="right",
        )
    _progress(axes[0], subject.spec, analysis)
    if several:
        _front(axes[1], subject, analysis)
    figure.savefig(path, metadata={"Software": "Firstlight"})


def _plain(text: str) -> str:
    """Text that is not read as mathematics."""
    return text.replace("$", r"\$")


def _short(text: str, most: int = 50) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _wrap(text: str, width: int = 112) -> str:
    lines = [""]
    for word in _plain(text).split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines[:3])


def _dress(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(_plain(x), fontsize=16, color=INK)
    axes.set_ylabel(_plain(y), fontsize=16, color=INK)
    axes.tick_params(labelsize=14, colors=SOFT, length=0)
    axes.grid(True, color="#e8ecf0", linewidth=1)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color("#d9dfe5")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=14, frameon=False, loc="best", labelcolor=INK)


def _numbers(values: Sequence[float | None]) -> Any:
    return np.array([math.nan if v is None else v for v in values], dtype=float)


def _progress(axes: Axes, spec: core.CampaignSpec, analysis: Analysis) -> None:
    random, objective = analysis.random, spec.goal.objectives[0]
    if random.kind != "none" and len(random.median):
        n = np.arange(1, len(random.median) + 1) * (analysis.per or 1)
        low, middle, high = (_numbers(shown(analysis, spec, c)) for c in (random.low, random.median, random.high))
        words = "random search" + (" (estimate)" if random.kind == "estimate" else "")
        axes.fill_between(n, low, high, step="post", color=BAND, label=f"{words}, quartiles", linewidth=0)
        axes.step(n, middle, where="post", color=RANDOM, linestyle="--", linewidth=2.5, label=f"{words}, median")
    if analysis.box is None:
        seen = [(x, r) for x, r in zip(analysis.places, analysis.rows, strict=True)
                if not r.failure and objective.observable in r.seen]  # fmt: skip
        for counted, colour, words in ((True, OWN, "trials"), (False, GREY, "trials by other sources")):
            part = [(x, r.seen[objective.observable].value) for x, r in seen if core.counts(spec, r.ran) is counted]
            if part:
                x, y = zip(*part, strict=True)
                drawn = [core.loss(objective, v) for v in y] if objective.direction == "match" else y
                alpha = 0.3 if counted else 0.6
                axes.plot(x, drawn, "o", color=colour, alpha=alpha, markersize=7, markeredgewidth=0, label=words)
    failed = [x for x, r in zip(analysis.places, analysis.rows, strict=True) if r.failure]
    if failed:
        at = axes.get_xaxis_transform()
        axes.plot(failed, [0.015] * len(failed), "x", color=BAD, transform=at, markersize=8, label="failed")
    own = _numbers(shown(analysis, spec, analysis.steps))
    if np.isfinite(own).any():
        axes.step(analysis.places, own, where="post", color=OWN, linewidth=4, label="this campaign")
    label = f"{objective.observable} ({objective.unit})" if objective.unit else objective.observable
    if objective.direction == "match":
        label = f"distance of {label} from target"
    if not analysis.rows:
        axes.text(0.5, 0.5, "no trial has ended yet", transform=axes.transAxes, ha="center", fontsize=18, color=SOFT)
    _dress(axes, horizontal(analysis), "normalised hypervolume" if analysis.box else label)


def _front(axes: Axes, subject: Subject, analysis: Analysis) -> None:
    a, b = subject.spec.goal.objectives[:2]
    best = subject.results.best(subject.spec)
    names, chosen = [o.observable for o in subject.spec.goal.objectives], {r.trial for r in best}
    rest = [r for r in analysis.rows if not r.failure and r.trial not in chosen and all(n in r.seen for n in names)]
    for rows, colour, words in ((rest, GREY, "other trials"), (best, OWN, "Pareto front")):
        if rows:
            x, y = zip(*sorted((r.seen[a.observable].value, r.seen[b.observable].value) for r in rows), strict=True)
            line = "-" if rows is best and len(names) == 2 else ""
            axes.plot(x, y, "o", linestyle=line, markersize=9, linewidth=2, label=words, color=colour)
    _dress(axes, *(f"{o.observable} ({o.unit})" if o.unit else o.observable for o in (a, b)))


# ------------------------------------------------------------------ why these points


def draw_why(subject: Subject, why: Why, path: Path) -> bool:
    """Write a PNG of 1600 by 900 pixels: predictions against outcomes, what matters, and what was left to gain.

    Of several objectives the first of which there is something to say. False, and no file, where there is nothing.
    """
    spec, panels = subject.spec, list[Callable[[Axes], None]]()
    panels += [partial(_foretold, found=c, spec=spec) for c in why.calibrations[:1]]
    known = [f for f in why.influences if not f.unknown][:1]
    panels += [partial(_indices, found=f) for f in known]
    panels += [partial(_interactions, found=f) for f in known if len(f.total) > 1]
    panels += [partial(_outlook, why=why, spec=spec)] * bool(why.outlooks)
    if not panels:
        return False
    figure = Figure(figsize=(16, 9), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    across = 2 if len(panels) == 4 else len(panels)
    down = len(panels) // across
    figure.text(0.06, 0.94, _plain(_short(spec.title or spec.id)), fontsize=27, fontweight="bold", color=INK)
    figure.subplots_adjust(left=0.1, right=0.97, top=0.84, bottom=0.1, wspace=0.38, hspace=0.42)
    for axes, panel in zip(figure.subplots(down, across, squeeze=False).flat, panels, strict=True):
        panel(axes)
    figure.savefig(path, metadata={"Software": "Firstlight"})
    return True


def _title(axes: Axes, text: str) -> None:
    axes.set_title(_plain(text), fontsize=15, color=INK, loc="left", pad=12)


def _foretold(axes: Axes, found: Calibration, spec: core.CampaignSpec) -> None:
    x, y, sigma = (np.array(side) for side in (found.predicted, found.observed, found.sigma))
    order = np.argsort(x, kind="stable")
    across, half = x[order], smooth(sigma[order])
    axes.fill_between(across, across - half, across + half, color=BAND, linewidth=0, label="one standard deviation")
    axes.plot([x.min(), x.max()], [x.min(), x.max()], ":", color=SOFT, linewidth=1.5)
    axes.plot(x, y, "o", color=OWN, alpha=0.6, markersize=7, markeredgewidth=0, label="trials")
    unit = next((o.unit for o in spec.goal.objectives if o.observable == found.observable), "")
    label = f"{found.observable} ({unit})" if unit else found.observable
    _dress(axes, f"predicted {label}", f"observed {label}")
    one, two = found.within
    said = f"{one:.0%} within 1 sigma (68% expected)\n{two:.0%} within 2 sigma (95%)"
    axes.text(0.98, 0.04, said, transform=axes.transAxes, ha="right", va="bottom", fontsize=13, color=SOFT)
    _title(axes, "Predictions and outcomes")


def _indices(axes: Axes, found: Influence) -> None:
    names = ranked(found)[:CROWD][::-1]
    places = np.arange(len(names))
    axes.barh(places, [found.total[n] for n in names], color="#a9cfe6", label="with its interactions")
    axes.barh(places, [found.alone[n] for n in names], color=OWN, label="alone")
    axes.set_yticks(places, [_plain(_short(n, 18)) for n in names])
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    _dress(axes, f"share of the variation of {_short(found.observable, 24)}", "")
    hint = ", a hint only" if found.r2 < POOR else ""
    _title(axes, f"What matters (surrogate: R² {found.r2:.2f}{hint})")


def _interactions(axes: Axes, found: Influence) -> None:
    names = ranked(found)[:CROWD]
    both = {**found.pairs, **{(b, a): share for (a, b), share in found.pairs.items()}}
    shares = np.array([[both[a, b] if j < i else math.nan for j, b in enumerate(names[:-1])]
                       for i, a in enumerate(names)][1:])  # fmt: skip
    top = max(0.05, float(np.nanmax(shares)))
    axes.imshow(shares, cmap="viridis", vmin=0.0, vmax=top, aspect="auto")
    for i, j in np.argwhere(~np.isnan(shares)):
        colour = "white" if shares[i, j] < 0.6 * top else INK
        axes.text(j, i, f"{shares[i, j]:.0%}", ha="center", va="center", fontsize=12, color=colour)
    labels = [_plain(_short(n, 14)) for n in names]
    _dress(axes, "", "")
    axes.set_xticks(np.arange(len(names) - 1), labels[:-1], rotation=35, ha="right")
    axes.set_yticks(np.arange(len(names) - 1), labels[1:])
    axes.grid(False)
    _title(axes, "Interactions of two")


def _outlook(axes: Axes, why: Why, spec: core.CampaignSpec) -> None:
    numbers, chances = [n for n, _ in why.outlooks], [seen.chance for _, seen in why.outlooks]
    axes.plot(numbers, chances, "-", color=OWN, linewidth=3)
    if spec.goal.regret is not None:
        axes.axhline(spec.goal.regret.chance, color=SOFT, linestyle=":", linewidth=2, label="stops here")
    axes.set_ylim(0, 1.03)
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    _dress(axes, "trial proposed", "chance")
    gain = f"{number(why.outlooks[-1][1].gain)} {spec.goal.objectives[0].unit}".rstrip()
    _title(axes, f"Chance of gaining more than {gain}")
