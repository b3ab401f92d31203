"""The figures of progress and of outcomes, as plain Plotly JSON. Colours are CSS variables, resolved in the page."""

import html
import itertools
import math
from collections.abc import Sequence
from typing import Any

from firstlight import core

from ._analysis import Analysis
from ._hypervolume import Floats
from ._metrics import Factor
from ._words import effort, scalar

Figure = dict[str, Any]
MOST = 3000
"""More marks than this make a page slow: the rest are left out evenly, and the caption says so."""


def plain(text: object) -> str:
    """Text that Plotly shows as it is."""
    return html.escape(str(text))


def title_of(objective: core.Objective) -> str:
    return plain(f"{objective.observable} ({objective.unit})" if objective.unit else objective.observable)


def figure(data: list[dict[str, Any]], x: str = "", y: str = "", **layout: Any) -> Figure:
    return {"data": data, "layout": {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}, **layout}}


def every(total: int, most: int = MOST) -> list[int]:
    """At most `most` places out of `total`, evenly spread, the first and the last among them."""
    if total <= most:
        return list(range(total))
    return sorted({round(i * (total - 1) / (most - 1)) for i in range(most)})


def shown(analysis: Analysis, spec: core.CampaignSpec, performance: Floats) -> list[float | None]:
    """A performance curve in the unit it is drawn in, None where there is nothing yet."""
    sign = 1.0 if analysis.box or spec.goal.objectives[0].direction == "maximize" else -1.0
    return [round_to(sign * float(v)) if math.isfinite(v) else None for v in performance]


def round_to(value: float) -> float:
    """Seven significant digits: enough for any screen, and half the bytes."""
    return float(f"{value:.7g}")


def vertical(analysis: Analysis, spec: core.CampaignSpec) -> str:
    if analysis.box:
        return "normalised hypervolume"
    objective = spec.goal.objectives[0]
    if objective.direction == "match":
        return f"distance of {title_of(objective)} from target"
    return f"best {title_of(objective)} so far"


def progress(analysis: Analysis, spec: core.CampaignSpec) -> Figure:
    """The best so far, or the hypervolume, beside random search's median and interquartile band."""
    random, data = analysis.random, list[dict[str, Any]]()
    places_of = [round_to(float(x)) for x in analysis.places]
    keep = every(len(random.median))
    if keep and random.kind != "none":
        places = [round_to((i + 1) * (analysis.per or 1)) for i in keep]
        low, high, middle = (shown(analysis, spec, c[keep]) for c in (random.low, random.high, random.median))
        first = next((i for i, (a, b) in enumerate(zip(low, high, strict=True)) if None not in (a, b)), len(low))
        words = "random search" + (" (estimate)" if random.kind == "estimate" else "")
        edge = {"x": places[first:], "mode": "lines", "line": {"width": 0, "shape": "hv"}, "hoverinfo": "skip"}
        data += [
            {**edge, "y": low[first:], "showlegend": False},
            {
                **edge,
                "y": high[first:],
                "fill": "tonexty",
                "fillcolor": "--random-soft",
                "name": f"{words}, quartiles",
            },
            _steps(places, middle, "--random", f"{words}, median", dash="dash"),
        ]
    if analysis.box is None:
        objective = spec.goal.objectives[0]
        data += _outcomes(analysis, spec, objective)
        if objective.target is not None and objective.direction != "match" and places_of:
            ends = [places_of[0], max(places_of[-1], len(random.median) * (analysis.per or 1))]
            data.append(_steps(ends, [objective.target] * 2, "--ink-soft", "target", dash="dot", width=1.5))
    failed = [
        (places_of[i], f"trial {i + 1}: {row.failure.cause}") for i, row in enumerate(analysis.rows) if row.failure
    ]
    if failed:
        marks = marks_of([f[0] for f in failed], [0.02] * len(failed), "--bad", "failed", "x-thin-open")
        marks["text"] = [failed[i][1] for i in every(len(failed))]
        data.append({**marks, "yaxis": "y2", "hovertemplate": "%{text}<extra></extra>"})
    keep = every(len(places_of))
    own = shown(analysis, spec, analysis.steps[keep])
    data.append(_steps([places_of[i] for i in keep], own, "--own", "this campaign", width=3))
    return figure(data, horizontal(analysis), vertical(analysis, spec))


def horizontal(analysis: Analysis) -> str:
    if not analysis.per:
        return "trials ended"
    return plain(f"cost spent ({analysis.cost_unit})" if analysis.cost_unit else "cost spent")


def _outcomes(analysis: Analysis, spec: core.CampaignSpec, objective: core.Objective) -> list[dict[str, Any]]:
    """Trials by what came of them; those by a source that does not count, by their source."""
    seen: dict[str, list[tuple[float, float]]] = {"trials": [], "constraint broken": []}
    for x, row, loss in zip(analysis.places, analysis.rows, analysis.losses, strict=True):
        if row.failure or objective.observable not in row.seen:
            continue
        value = row.seen[objective.observable].value
        drawn = core.loss(objective, value) if objective.direction == "match" else value
        group = "trials" if loss is not None else "constraint broken"
        if spec.fidelity is not None and not core.counts(spec, row.ran):
            group = f"by {plain(scalar(row.ran[spec.fidelity.parameter]))}"
        seen.setdefault(group, []).append((round_to(float(x)), round_to(drawn)))
    known = {"trials": ("--own-soft", "circle"), "constraint broken": ("--constraint", "circle-open")}
    return [
        marks_of([s[0] for s in marks], [s[1] for s in marks], colour, name, symbol)
        for name, marks in seen.items()
        for colour, symbol in [known.get(name, ("--grey", "diamond-open"))]
        if marks
    ]


def _steps(
    x: Sequence[float], y: Sequence[float | None], colour: str, name: str, dash: str = "solid", width: float = 2
) -> dict[str, Any]:
    line = {"color": colour, "width": width, "shape": "hv", "dash": dash}
    return {"x": x, "y": y, "mode": "lines", "line": line, "name": name, "hovertemplate": "%{y:.4~g} after %{x}"}


def marks_of(x: Sequence[float], y: Sequence[float], colour: str, name: str, symbol: str = "circle") -> dict[str, Any]:
    keep = every(len(x))
    marker = {"color": colour, "size": 7, "symbol": symbol, "line": {"width": 1.5, "color": colour}}
    return {"x": [x[i] for i in keep], "y": [y[i] for i in keep], "mode": "markers", "marker": marker, "name": name}


def fronts(analysis: Analysis, spec: core.CampaignSpec, best: Sequence[core.Row]) -> list[tuple[str, Figure]]:
    """Every pair of objectives (six at most): dominated trials in grey, the front on top of them."""
    on_front = {row.trial for row in best}
    names = [o.observable for o in spec.goal.objectives]
    measured = [(r, loss) for r, loss in zip(analysis.rows, analysis.losses, strict=True)
                if not r.failure and all(n in r.seen for n in names)]  # fmt: skip
    groups = (
        ("constraint broken", "--constraint", "circle-open",
         [r for r, loss in measured if loss is None]),
        ("dominated", "--grey", "circle", [r for r, loss in measured if loss is not None and r.trial not in on_front]),
        ("Pareto front", "--own", "circle", list(best)),
    )  # fmt: skip
    found = []
    for a, b in itertools.islice(itertools.combinations(spec.goal.objectives, 2), 6):
        data = []
        for name, colour, symbol, rows in groups:
            if rows:
                order = sorted(rows, key=lambda r: r.seen[a.observable].value)
                x, y = ([round_to(r.seen[o.observable].value) for r in order] for o in (a, b))
                marks = marks_of(x, y, colour, name, symbol)
                marks["text"] = [plain(order[i].trial) for i in every(len(order))]
                marks["hovertemplate"] = "%{text}: %{x:.4~g}, %{y:.4~g}<extra></extra>"
                if colour == "--own" and len(names) == 2:
                    marks |= {"mode": "lines+markers", "line": {"color": colour, "width": 1.5, "shape": "linear"}}
                data.append(marks)
        found.append((f"{a.observable} and {b.observable}", figure(data, title_of(a), title_of(b))))
    return found


def along(analysis: Analysis) -> list[tuple[str, str, str]]:
    """Rows of the table of acceleration: trials, random's trials, factor."""
    return [
        (
            effort(analysis, n),
            ("≥ " if f.reference.at_least else "") + effort(analysis, f.reference.value),
            _interval(f),
        )
        for n, f in analysis.random.along
    ]


def _interval(f: Factor) -> str:
    return str(f.median) if f.low == f.high else f"{f.median} ({f.low} to {f.high})"
