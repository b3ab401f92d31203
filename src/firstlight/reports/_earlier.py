"""Which earlier campaigns helped, and how much: what the decisions say of their share in the predictions."""

import statistics
from collections.abc import Sequence

from firstlight import core

from ._plots import Figure, every, figure, plain, round_to
from ._subject import Subject
from ._words import count

WORTH_NAMING = 0.05
"""An earlier campaign whose mean share is smaller did not help to speak of."""


class Helped(core.Value, frozen=True):
    """An earlier campaign, and its share in the prediction behind each trial, by the trial's place among all (from 1).

    `rows` is how many of its trials informed the last decision.
    """

    campaign: str
    shares: tuple[tuple[int, float], ...]
    mean: float
    first: float
    last: float
    rows: int


def helped(subject: Subject) -> list[Helped]:
    """Every earlier campaign that the campaign could learn from, the most helpful first.

    A trial whose decision does not speak of a campaign had nothing from it; trials chosen without a surrogate, whose
    decisions name none at all, say nothing and are left out.
    """
    informed: list[tuple[int, dict[str, core.Influence]]] = []
    for place, row in enumerate(_in_order(subject), 1):
        if row.decision is not None and row.decision.informed_by:
            informed.append((place, {i.campaign: i for i in row.decision.informed_by}))
    chosen = [c.campaign for c in subject.campaign.earlier or ()]
    names = dict.fromkeys([*chosen, *(name for _, by in informed for name in by if name != subject.spec.id)])
    found = []
    for name in names:
        shares = tuple((place, by[name].share if name in by else 0.0) for place, by in informed)
        values = [share for _, share in shares] or [0.0]
        rows = [by[name].trials for _, by in informed if name in by]
        found.append(
            Helped(
                campaign=name, shares=shares, mean=statistics.fmean(values), first=values[0], last=values[-1],
                rows=rows[-1] if rows else 0,
            )
        )  # fmt: skip
    return sorted(found, key=lambda h: -h.mean)


def _in_order(subject: Subject) -> Sequence[core.Row]:
    """The campaign's own trials in the order they were proposed."""
    return sorted((r for r in subject.own), key=lambda r: int(r.trial.rpartition(".")[2]))


def words(found: Sequence[Helped]) -> str:
    """Which helped and how much, in a sentence or two."""
    if not found:
        return "The strategy looked for earlier campaigns to learn from, and there were none that overlap."
    if not any(h.shares for h in found):
        return (
            f"It could learn from {count(len(found), 'earlier campaign')}; no trial was chosen by what they taught yet."
        )
    useful = [h for h in found if h.mean >= WORTH_NAMING]
    said = ", ".join(f"{h.campaign} ({h.mean:.0%} on average, {h.last:.0%} in the end)" for h in useful)
    rest = len(found) - len(useful)
    text = f"What the strategy predicted came from earlier campaigns in part: {said}." if useful else ""
    if rest:
        which = f"{count(rest, 'other campaign')}" if useful else f"{count(rest, 'earlier campaign')}"
        text += f" {which.capitalize()} hardly mattered (less than {WORTH_NAMING:.0%} on average)."
    return text.strip()


HEAD = ("campaign", "mean share", "first", "last", "its trials used")


def lines(found: Sequence[Helped]) -> list[tuple[str, ...]]:
    """Rows of the table of earlier campaigns."""
    return [(h.campaign, f"{h.mean:.0%}", f"{h.first:.0%}", f"{h.last:.0%}", f"{h.rows:,}") for h in found]


def shares(found: Sequence[Helped], most: int = 12) -> Figure:
    """The share of each of the most helpful campaigns in what was predicted, trial by trial."""
    data = []
    for i, h in enumerate(found[:most]):
        keep = every(len(h.shares))
        colour, dash = f"--series-{i % 6}", "dot" if i > 5 else "solid"
        data.append({
            "x": [h.shares[k][0] for k in keep], "y": [round_to(h.shares[k][1]) for k in keep],
            "name": plain(h.campaign), "mode": "lines+markers", "line": {"color": colour, "width": 2, "dash": dash},
            "marker": {"size": 5, "color": colour}, "hovertemplate": "%{y:.0%} of trial %{x}",
        })  # fmt: skip
    drawn = figure(data, "trials proposed", "share in the prediction", showlegend=True)
    drawn["layout"]["yaxis"] |= {"range": [0, 1.02], "tickformat": ".0%"}
    return drawn
