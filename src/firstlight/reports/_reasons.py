"""The figures of why: predictions against outcomes, what was left to gain, and what matters, as plain Plotly JSON."""

from typing import Any

import numpy as np

from firstlight import core

from ._hypervolume import Floats
from ._plots import Figure, every, figure, marks_of, plain, round_to
from ._surrogate import Influence
from ._why import Calibration, Why

MOST = 600
CROWD = 12
"""A heat map of more parameters than this cannot be read: the most important are shown."""


def foretold(found: Calibration, unit: str) -> Figure:
    """Outcomes over predictions, with the band of one standard deviation."""
    keep = every(len(found.trials), MOST)
    x, y, sigma = ([round_to(side[i]) for i in keep] for side in (found.predicted, found.observed, found.sigma))
    order = np.argsort(x, kind="stable")
    across, half = np.array(x)[order], smooth(np.array(sigma)[order])
    low, high = ([round_to(v) for v in across + sign * half] for sign in (-1, 1))
    edge = {"x": [round_to(v) for v in across], "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    marks = marks_of(x, y, "--own", "trials")
    marks["text"] = [plain(found.trials[i]) for i in keep]
    marks["customdata"] = [round_to(found.z[i]) for i in keep]
    marks["hovertemplate"] = "%{text}: %{x:.4~g} expected, %{y:.4~g} seen, %{customdata:+.1f} sigma<extra></extra>"
    ends = [min(x), max(x)]
    data: list[dict[str, Any]] = [
        {**edge, "y": low, "showlegend": False},
        {**edge, "y": high, "fill": "tonexty", "fillcolor": "--random-soft", "name": "one standard deviation"},
        {"x": ends, "y": ends, "mode": "lines", "line": {"color": "--ink-soft", "width": 1, "dash": "dot"},
         "name": "as predicted", "hoverinfo": "skip"},
        marks,
    ]  # fmt: skip
    label = plain(f"{found.observable} ({unit})" if unit else found.observable)
    return figure(data, f"predicted {label}", f"observed {label}")


def smooth(sigma: Floats) -> Floats:
    """The running median: a band as wide as predictions thereabouts."""
    reach = max(1, len(sigma) // 12)
    return np.array([np.median(sigma[max(0, i - reach) : i + reach + 1]) for i in range(len(sigma))])


def outlook(found: Why, spec: core.CampaignSpec) -> Figure:
    """The chance that more is still to be gained, trial by trial, and the chance at which the campaign stops."""
    keep = every(len(found.outlooks))
    x, y = [found.outlooks[i][0] for i in keep], [round_to(found.outlooks[i][1].chance) for i in keep]
    data = [{"x": x, "y": y, "mode": "lines+markers", "name": "chance", "line": {"color": "--own", "width": 3},
             "marker": {"color": "--own", "size": 5},
             "hovertemplate": "%{y:.1%} for trial %{x}<extra></extra>"}]  # fmt: skip
    rule = spec.goal.regret
    if rule is not None:
        data.append({"x": [x[0], x[-1]], "y": [rule.chance] * 2, "mode": "lines", "name": "stops here",
                     "line": {"color": "--ink-soft", "width": 1.5, "dash": "dot"}})  # fmt: skip
    drawn = figure(data, "trial proposed", "chance of a gain", height=320, showlegend=rule is not None)
    drawn["layout"]["yaxis"] |= {"range": [0, 1.03], "tickformat": ".0%"}
    return drawn


def shares(found: Why) -> Figure:
    """How much each earlier campaign counted in the predictions, trial by trial."""
    data = []
    for i, (campaign, told) in enumerate(sorted(found.shares.items(), key=lambda pair: -_mean(pair[1]))[:6]):
        kept = [told[k] for k in every(len(told))]
        data.append({"x": [n for n, _ in kept], "y": [round_to(s) for _, s in kept], "mode": "lines",
                     "name": plain(campaign), "line": {"color": f"--series-{i}", "width": 2.5},
                     "hovertemplate": "%{y:.0%} in trial %{x}"})  # fmt: skip
    drawn = figure(data, "trials ended", "share in the prediction", height=320)
    drawn["layout"]["yaxis"] |= {"range": [0, 1.03], "tickformat": ".0%"}
    return drawn


def _mean(told: tuple[tuple[int, float], ...]) -> float:
    return sum(share for _, share in told) / len(told)


def indices(found: Influence) -> Figure:
    """First-order and total Sobol indices, the most important parameter on top."""
    names = ranked(found)[::-1]
    labels = [plain(n) for n in names]
    data = [
        {"type": "bar", "orientation": "h", "name": name, "y": labels, "x": [round_to(values[n]) for n in names],
         "marker": {"color": colour}, "hovertemplate": f"%{{y}} {name}: %{{x:.1%}}<extra></extra>"}
        for name, values, colour in (
            ("with its interactions", found.total, "--own-soft"), ("alone", found.alone, "--own"),
        )
    ]  # fmt: skip
    title = f"share of the variation of {plain(found.observable)}"
    drawn = figure(data, title, "", height=_height(names), barmode="overlay")
    drawn["layout"]["xaxis"] |= {"tickformat": ".0%", "rangemode": "tozero"}
    drawn["layout"]["yaxis"] = {"automargin": True, "type": "category", "title": {"text": ""}}
    return drawn


def interactions(found: Influence) -> Figure | None:
    """Second-order Sobol indices of all pairs; None where there is no pair."""
    names = ranked(found)[:CROWD]
    if len(names) < 2:
        return None
    both = {**found.pairs, **{(b, a): share for (a, b), share in found.pairs.items()}}
    # Every pair once: what lies above the diagonal would say it again.
    z = [[round_to(both[a, b]) if j < i else None for j, b in enumerate(names[:-1])] for i, a in enumerate(names)][1:]
    x, y = [plain(n) for n in names[:-1]], [plain(n) for n in names[1:]]
    heat = {"type": "heatmap", "x": x, "y": y, "z": z, "zmin": 0, "zmax": max(0.05, *both.values()),
            "colorscale": "Viridis", "xgap": 2, "ygap": 2, "hoverongaps": False,
            "colorbar": {"thickness": 12, "tickformat": ".0%"},
            "hovertemplate": "%{y} with %{x}: %{z:.1%}<extra></extra>"}  # fmt: skip
    if len(names) <= 8:
        heat |= {"texttemplate": "%{z:.0%}"}
    drawn = figure([heat], "", "", height=_height(names), showlegend=False)
    for axis in ("xaxis", "yaxis"):
        drawn["layout"][axis] = {"automargin": True, "type": "category", "title": {"text": ""}, "showgrid": False}
    drawn["layout"]["yaxis"]["autorange"] = "reversed"
    return drawn


def ranked(found: Influence) -> list[str]:
    """The parameters, the most important first; at most twenty."""
    return sorted(found.total, key=lambda n: (-found.total[n], n))[:20]


def _height(names: list[str]) -> int:
    return max(260, 110 + 28 * len(names))
