"""The figures of parameters, of failures and of the course of the campaign, as plain Plotly JSON."""

from collections.abc import Sequence
from typing import Any

from firstlight import core

from ._plots import Figure, every, figure, marks_of, plain, round_to, title_of
from ._schedule import Schedule
from ._surrogate import Influence
from ._words import unit_of

BARS = 1500
LINES = 2000


def importance(found: Sequence[Influence]) -> Figure:
    """How much each parameter matters to each objective, the most important on top."""
    known = [f for f in found if not f.unknown]
    weight = {name: max(f.importance[name] for f in known) for name in known[0].importance}
    names = sorted(weight, key=lambda n: weight[n])[-20:]
    data = [
        {
            "type": "bar", "orientation": "h", "name": plain(f.observable), "y": [plain(n) for n in names],
            "x": [round_to(f.importance[n]) for n in names], "marker": {"color": f"--series-{i % 6}"},
            "hovertemplate": "%{y}: %{x:.2f}",
        }
        for i, f in enumerate(known)
    ]  # fmt: skip
    height = 90 + 26 * len(names) * max(1, len(known) * 0.6)
    drawn = figure(data, "fall of R² where shuffled", "", height=height, barmode="group", showlegend=len(known) > 1)
    drawn["layout"]["yaxis"] = {"automargin": True, "type": "category", "title": {"text": ""}}
    return drawn


def slices(spec: core.CampaignSpec, rows: Sequence[core.Row], found: Influence) -> list[Figure]:
    """For every important parameter the data and the surrogate's mean over the others."""
    rows = [r for r in rows if not r.failure and found.observable in r.seen]
    rows = [rows[i] for i in every(len(rows), 600)]
    parameters = {p.name: p for p in spec.parameters}
    drawn = []
    for part in found.slices:
        parameter = parameters[part.parameter]
        words = _wordy(parameter)
        x = [_drawn(r.ran[part.parameter], words) for r in rows]
        data = marks_of(x, [round_to(r.seen[found.observable].value) for r in rows], "--grey", "trials")
        data["marker"] = {"color": "--grey", "size": 6, "opacity": 0.7}
        line = {
            "x": [_drawn(v, words) for v in part.values], "y": [round_to(m) for m in part.means], "name": "surrogate",
            "mode": "markers" if isinstance(parameter, core.Categorical) else "lines",
            "line": {"color": "--own", "width": 3}, "marker": {"color": "--own", "size": 16, "symbol": "line-ew-open",
                                                              "line": {"width": 3, "color": "--own"}},
        }  # fmt: skip
        unit = unit_of(parameter)
        label = plain(f"{part.parameter} ({unit})" if unit else part.parameter)
        one = figure([data, line], label, plain(found.observable), height=280, showlegend=False)
        if words:
            one["layout"]["xaxis"]["type"] = "category"
        elif isinstance(parameter, core.Continuous | core.Integer) and parameter.scale == "log":
            one["layout"]["xaxis"]["type"] = "log"
        drawn.append(one)
    return drawn


def _wordy(parameter: core.Parameter) -> bool:
    return isinstance(parameter, core.Categorical | core.Ordered) and any(isinstance(v, str) for v in parameter.values)


def _drawn(value: core.Scalar, words: bool) -> Any:
    return plain(value) if words or isinstance(value, str) else round_to(float(value))


def parallel(spec: core.CampaignSpec, rows: Sequence[core.Row]) -> tuple[Figure, int] | None:
    """Parallel coordinates of the trials that were measured, coloured by the first objective; how many are drawn."""
    names = [o.observable for o in spec.goal.objectives]
    rows = [r for r in rows if not r.failure and all(n in r.seen for n in names)]
    if len(rows) < 2:
        return None
    rows = [rows[i] for i in every(len(rows), LINES)]
    axes = [_axis(p, [r.ran[p.name] for r in rows]) for p in spec.parameters[:20]]
    for objective in spec.goal.objectives:
        values = [round_to(r.seen[objective.observable].value) for r in rows]
        axes.append({"label": title_of(objective), "values": values})
    # Viridis: even in lightness, and told apart by the colour-blind.
    colours = {"color": axes[-len(names)]["values"], "colorscale": "Viridis", "showscale": True,
               "reversescale": spec.goal.objectives[0].direction == "minimize",
               "colorbar": {"thickness": 12, "title": {"text": title_of(spec.goal.objectives[0])}}}  # fmt: skip
    drawn = {"data": [{"type": "parcoords", "dimensions": axes, "line": colours}],
             "layout": {"height": 440, "margin": {"l": 70, "r": 50, "t": 60, "b": 30}}}  # fmt: skip
    return drawn, len(rows)


def _axis(parameter: core.Parameter, values: Sequence[core.Scalar]) -> dict[str, Any]:
    unit = unit_of(parameter)
    label = plain(f"{parameter.name} ({unit})" if unit else parameter.name)
    if _wordy(parameter) and isinstance(parameter, core.Categorical | core.Ordered):
        places = {v: i for i, v in enumerate(parameter.values)}
        return {
            "label": label, "values": [places.get(v, -1) for v in values], "tickvals": list(places.values()),
            "ticktext": [str(v) for v in places],
        }  # fmt: skip
    return {"label": label, "values": [round_to(float(v)) for v in values]}


def failures(causes: dict[str, int]) -> Figure:
    names = list(causes)[::-1]
    bar = {"type": "bar", "orientation": "h", "y": names, "x": [causes[n] for n in names], "marker": {"color": "--bad"},
           "text": [str(causes[n]) for n in names], "textposition": "auto",
           "hovertemplate": "%{y}: %{x}<extra></extra>"}  # fmt: skip
    drawn = figure([bar], "trials", "", height=110 + 34 * len(names), showlegend=False)
    drawn["layout"]["yaxis"] = {"automargin": True, "type": "category", "title": {"text": ""}}
    if max(causes.values()) < 6:
        drawn["layout"]["xaxis"]["dtick"] = 1
    return drawn


def timeline(laid: Schedule) -> tuple[Figure, int]:
    """Actions on their slots in time (the last `BARS` of them), and how many are drawn."""
    if laid.instruments:
        return by_instrument(laid)
    bars = laid.bars[-BARS:]
    lanes = [f"{plain(f)} {i + 1}" for f, n in laid.slots.items() for i in range(n)][::-1]
    data = []
    for failed, colour, name in ((False, "--good", "succeeded"), (True, "--bad", "failed")):
        part = [b for b in bars if b.failed is failed]
        if part:
            data.append({
                "type": "bar", "orientation": "h", "name": name, "marker": {"color": colour, "line": {"width": 0.5,
                                                                                           "color": "--paper"}},
                "y": [f"{plain(b.facility)} {b.slot + 1}" for b in part],
                "base": [round(b.started * 1000) for b in part],
                "x": [max(1, round((b.ended - b.started) * 1000)) for b in part],
                "text": [plain(b.action) for b in part], "textposition": "none",
                "customdata": [round(b.ended - b.started, 3) for b in part],
                "hovertemplate": "%{text}<br>%{customdata} s<extra></extra>", "width": 0.8,
            })  # fmt: skip
    drawn = figure(data, "time (UTC)", "", height=140 + 24 * len(lanes), barmode="overlay")
    drawn["layout"]["xaxis"]["type"] = "date"
    drawn["layout"]["yaxis"] = {"type": "category", "categoryorder": "array", "categoryarray": lanes,
                                "automargin": True, "title": {"text": ""}}  # fmt: skip
    return drawn, len(bars)


def by_instrument(laid: Schedule) -> tuple[Figure, int]:
    """Actions in time, one lane an instrument (the last `BARS` of them), a colour a trial, and how many are drawn.

    What runs at once on one instrument shares the height of its lane.
    """
    bars = laid.bars[-BARS:]
    trials = {name: i for i, name in enumerate(dict.fromkeys(b.trial for b in laid.bars))}
    lanes = [plain(lane) for lane in sorted(laid.slots)][::-1]
    share = [0.8 / laid.slots[b.lane] for b in bars]
    data = [{
        "type": "bar", "orientation": "h", "y": [plain(b.lane) for b in bars],
        "base": [round(b.started * 1000) for b in bars],
        "x": [max(1, round((b.ended - b.started) * 1000)) for b in bars],
        "width": share, "offset": [round(-0.4 + b.slot * w, 4) for b, w in zip(bars, share, strict=True)],
        "marker": {"color": [f"--series-{trials[b.trial] % 6}" for b in bars],
                   "line": {"width": [2 if b.failed else 0.5 for b in bars],
                            "color": ["--bad" if b.failed else "--paper" for b in bars]}},
        "text": [plain(b.action) + (" (its trial failed)" if b.failed else "") for b in bars], "textposition": "none",
        "customdata": [[round(b.ended - b.started, 3), round(b.waited, 3), plain(b.trial)] for b in bars],
        "hovertemplate": "%{text}<br>trial %{customdata[2]}<br>%{customdata[0]} s, waited %{customdata[1]} s before"
                         "<extra></extra>",
    }]  # fmt: skip
    drawn = figure(data, "time (UTC)", "", height=140 + 36 * len(lanes), barmode="overlay", showlegend=False)
    drawn["layout"]["xaxis"]["type"] = "date"
    drawn["layout"]["yaxis"] = {"type": "category", "categoryorder": "array", "categoryarray": lanes,
                                "automargin": True, "title": {"text": ""}}  # fmt: skip
    return drawn, len(bars)
