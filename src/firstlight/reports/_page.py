"""The report as one HTML file that needs nothing else: no network, no server."""

import datetime
from collections.abc import Sequence

from firstlight import core

from . import _earlier, _inputs, _plots, _reasons, _samples, _sources, _tables
from ._analysis import ADVICE, Analysis
from ._metrics import trial_losses
from ._schedule import schedule
from ._shell import Figures, document, esc, note, rows_table, section, table
from ._subject import Subject
from ._surrogate import POOR, Influence
from ._why import Why
from ._words import (
    causes,
    count,
    duration,
    effort,
    facilities_took,
    laid_words,
    number,
    paragraph,
    quantity,
    state,
    steered,
    verdict,
)

LOGS = 100
LOG_TAIL = 4000


def page(subject: Subject, analysis: Analysis, why: Why, plotly: str) -> str:
    """The whole document; `plotly` is the source of the Plotly JavaScript library."""
    figures = Figures()
    first = subject.spec.goal.objectives[0]
    best = sorted(subject.results.best(subject.spec), key=lambda r: core.loss(first, r.seen[first.observable].value))
    sections = [
        _progress(subject, analysis, figures),
        _best(subject, best),
        _sources_of(subject, analysis),
        _fronts(subject, analysis, best, figures),
        _why(subject, why, best, figures),
        _parameters(subject, analysis, why, figures),
        _earlier_ones(subject, figures),
        _failures(analysis, figures),
        _course(subject, analysis, figures),
        _samples_of(subject),
        _trials(subject),
        _words(subject),
        _asked(subject),
        _provenance(subject),
    ]
    footer = "Written by Firstlight from the campaign's journal."
    data = {"figures": figures.all, "trials": _tables.trials(subject)}
    return document(_title(subject), _header(subject, analysis, best), sections, footer, data, plotly)


def _title(subject: Subject) -> str:
    return subject.spec.title or subject.spec.id


def _header(subject: Subject, analysis: Analysis, best: Sequence[core.Row]) -> str:
    about = f'<p class="about">{esc(subject.spec.description)}</p>' if subject.spec.description else ""
    tiles = "".join(
        f"<div><dt>{esc(name)}</dt><dd>{esc(value)}<small>{esc(more)}</small></dd></div>"
        for name, value, more in _tiles(subject, analysis, best)
    )
    return (
        f'<header><div><p class="kicker">Campaign report · {esc(subject.spec.id)}</p>'
        f'<h1>{esc(_title(subject))}</h1>{about}<span class="state">{esc(state(subject.campaign))}</span>'
        f'<p class="lead">{esc(paragraph(subject, analysis, best))}</p><dl class="tiles">{tiles}</dl></div></header>'
    )


def _tiles(subject: Subject, analysis: Analysis, best: Sequence[core.Row]) -> list[tuple[str, str, str]]:
    spec, campaign = subject.spec, subject.campaign
    failed = sum(r.failure is not None for r in analysis.rows)
    ended, seconds = len(analysis.rows), campaign.elapsed
    tiles = [("Trials", f"{ended:,}", f"{failed:,} failed, {len(subject.results.pending):,} pending")]
    if best and len(spec.goal.objectives) == 1:
        objective = spec.goal.objectives[0]
        seen = best[0].seen[objective.observable]
        value = quantity(seen.value, seen.unit or objective.unit, seen.sigma)
        tiles.append((f"Best {objective.observable}", value, f"trial {best[0].trial}"))
    elif best:
        tiles.append(("Pareto front", count(len(best), "trial"), f"{analysis.curve[-1]:.0%} of the hypervolume"
                      if len(analysis.curve) else ""))  # fmt: skip
    found = analysis.random.factor
    if found and not analysis.nothing:
        estimate = "estimate; " if analysis.random.kind == "estimate" else ""
        spread = "a lower bound" if found.low == found.high else f"interquartile {found.low} to {found.high}"
        tiles.append(("Acceleration", f"{found.median} times", f"{estimate}{spread}"))
    else:
        tiles.append(("Acceleration", "not stated", analysis.nothing))
    if seconds:
        tiles.append(("Running time", duration(seconds), f"{number(3600 * ended / seconds)} trials per hour"))
    if campaign.cost:
        tiles.append(("Cost", quantity(campaign.cost, spec.goal.budget.cost_unit), ""))
    tiles.append(("Decisions by people", f"{subject.people:,}", "approvals, refusals, pauses, stops, words that steer"))
    return tiles


def _progress(subject: Subject, analysis: Analysis, figures: Figures) -> str:
    if not analysis.rows:
        return section("Progress", note("No trial has ended yet: there is nothing to draw."))
    caption = verdict(analysis)
    if analysis.box:
        where = "the goal's thresholds" if analysis.box[2] else (
            "the goal's thresholds where given, else the worst value of a good trial and a tenth of the range"
        )  # fmt: skip
        names = [o.observable for o in subject.spec.goal.objectives]
        signs = [-1 if o.direction == "maximize" else 1 for o in subject.spec.goal.objectives]
        point = ", ".join(f"{n} {number(s * float(r))}" for n, s, r in zip(names, signs, analysis.box[1], strict=True))
        caption += (
            f" The hypervolume is the share of the box between the best values seen and the reference point "
            f"({point}; {where})."
        )
    drawn = len(_plots.every(len(analysis.rows)))
    if drawn < len(analysis.rows):
        caption += f" {drawn:,} of {len(analysis.rows):,} trials are drawn."
    parts = [figures.put(_plots.progress(analysis, subject.spec), caption)]
    if analysis.random.along and not analysis.nothing:
        rows = _plots.along(analysis)
        equal = "cost" if analysis.per else "trials"
        parts.append(f"<details><summary>Acceleration and enhancement at equal {equal}</summary>")
        parts.append(table((equal, "random search needs", "acceleration (interquartile)"), rows))
        parts.append(note(_enhancement(subject, analysis)) + "</details>")
    return section("Progress", *parts)


def _enhancement(subject: Subject, analysis: Analysis) -> str:
    random = analysis.random
    counted, that = "trials: the trials random search needs", "the trials"
    if analysis.per:
        counted, that = "cost: what random search spends", "that"
    text = (
        f"Acceleration counts {counted} to do as well, over {that} of this campaign "
        "(MacLeod et al. 2022). It is no ratio of times, and noise flatters the best value of both alike. "
        "≥ marks what random search did not reach."
    )
    if random.advantage is not None and len(subject.spec.goal.objectives) == 1:
        unit = subject.spec.goal.objectives[0].unit
        spent = effort(analysis, random.at) if analysis.per else f"{random.at:,} trials"
        text += f" After {spent} each, this campaign is ahead of the random median by "
        text += f"{quantity(random.advantage, unit)}."
    if random.enhancement is not None:
        text += f" The enhancement factor there is {number(random.enhancement)}; it depends on the objective's zero."
    return text


def _best(subject: Subject, best: Sequence[core.Row]) -> str:
    if not best:
        return ""
    rows = _leading(subject, best)
    return section("The best trial" if len(rows) == 1 else "The best trials", _tables.best(subject, rows))


def _leading(subject: Subject, best: Sequence[core.Row]) -> Sequence[core.Row]:
    """The five best good trials of a single objective, told ones included; of several objectives the front."""
    if len(subject.spec.goal.objectives) > 1:
        return best
    rows = subject.results.rows
    ranked = [(loss, i) for i, loss in enumerate(trial_losses(subject.spec, rows)) if loss is not None]
    return [rows[i] for _, i in sorted(ranked)[:5]]


def _fronts(subject: Subject, analysis: Analysis, best: Sequence[core.Row], figures: Figures) -> str:
    drawn = _plots.fronts(analysis, subject.spec, best)
    drawn = [(words, one) for words, one in drawn if one["data"]]
    if not drawn:
        return ""
    failed = sum(r.failure is not None for r in analysis.rows)
    text = "Each mark is a trial; those on the front are not beaten in every objective by any other."
    if failed:
        text += f" {count(failed, 'trial')} failed and cannot be drawn here."
    places = "".join(figures.put(one, words) for words, one in drawn)
    return section("Trade-offs", f'<div class="pair">{places}</div>', note(text))


def _why(subject: Subject, why: Why, best: Sequence[core.Row], figures: Figures) -> str:
    spec, parts = subject.spec, list[str]()
    units = _tables.observables(subject)
    drawn = [figures.put(_reasons.foretold(c, units.get(c.observable, "")), f"{c.observable}: {c.verdict}")
             for c in why.calibrations]  # fmt: skip
    if drawn:
        parts.append(f'<div class="pair">{"".join(drawn)}</div>')
    if why.outlooks:
        trial, last = why.outlooks[-1]
        gain = quantity(last.gain, spec.goal.objectives[0].unit)
        caption = f"The chance that more than {gain} is still to be gained, as the strategy saw it trial by trial: "
        caption += f"{last.chance:.1%} for trial {trial:,}"
        rule = spec.goal.regret
        caption += f"; the campaign stops at {rule.chance:.1%}." if rule else "."
        parts.append(figures.put(_reasons.outlook(why, spec), caption))
    if why.shares:
        caption = "How much earlier campaigns counted in the predictions; the rest is what was learned here."
        parts += [figures.put(_reasons.shares(why), caption), _tables.influences(why.shares)]
    decided = [row for row in _leading(subject, best)[:10] if row.decision is not None]
    if decided:
        parts += ["<h3>Why the best ones were tried</h3>", _tables.decisions(spec, decided)]
    if not parts:
        return ""
    how = f"firstlight explain TRIAL says it of any trial, and --replay asks {spec.strategy.name} again."
    return section("Why these points", *parts, note(how))


def _parameters(subject: Subject, analysis: Analysis, why: Why, figures: Figures) -> str:
    spec = subject.spec
    if not analysis.rows:
        return ""
    rows = list(subject.results.rows)
    known = [f for f in why.influences if not f.unknown]
    parts = [note(f"{f.observable}: {f.unknown}.") for f in why.influences if f.unknown]
    if known:
        scores = ", ".join(f"{f.observable}: R² {f.r2:.2f} on {f.trials:,} trials" for f in known)
        caption = (
            "By how much a surrogate's prediction of held-out trials gets worse when one parameter's values are "
            f"shuffled. Cross-validated quality of the surrogate: {scores}. Trials chosen by a strategy crowd where "
            "it looked, so this tells of the region searched."
        )
        parts.append(figures.put(_inputs.importance(known), caption))
        parts += ["<h3>Alone and together</h3>", *(_together(spec, one, figures) for one in known)]
    for i, one in enumerate(known):
        places = "".join(figures.put(s) for s in _inputs.slices(spec, rows, one))
        text = f"{one.observable} by parameter: trials, and the surrogate's mean over the other parameters"
        opened = " open" if i == 0 else ""
        parts.append(f'<details{opened}><summary>{esc(text)}</summary><div class="triple">{places}</div></details>')
    lines = _inputs.parallel(spec, rows)
    if lines:
        caption = f"Every line is a trial ({lines[1]:,} drawn). Drag along an axis to keep only part of it."
        parts += ["<h3>All parameters at once</h3>", figures.put(lines[0], caption, "wide")]
    return section("What the parameters do", *parts)


def _together(spec: core.CampaignSpec, found: Influence, figures: Figures) -> str:
    """Sobol indices of one observable, and a warning where they stand on little."""
    alone, pairs = sum(found.alone.values()), sum(found.pairs.values())
    rest = max(0.0, 1.0 - alone - pairs)
    caption = (
        f"Shares of the variation of {found.observable} over the whole space (Sobol indices of the surrogate, all "
        f"values equally likely): {alone:.0%} by parameters alone, {pairs:.0%} by pairs, {rest:.0%} by more together. "
        f"The surrogate predicts held-out trials with R² {found.r2:.2f}."
    )
    if spec.constraints or spec.pool is not None:
        caption += " The whole space is more than was possible: it leaves constraints and the pool aside."
    places = [figures.put(_reasons.indices(found), caption)]
    if (heat := _reasons.interactions(found)) is not None:
        text = f"Interactions: what two parameters do to {found.observable} together, beyond what each does alone."
        places.append(figures.put(heat, text))
    warning = ""
    if found.r2 < POOR:
        text = f"The surrogate of {found.observable} predicts poorly (R² {found.r2:.2f}): take this as a hint."
        warning = f'<p class="note warning">{esc(text)}</p>'
    return f'{warning}<div class="pair">{"".join(places)}</div>'


def _sources_of(subject: Subject, analysis: Analysis) -> str:
    found = _sources.by_source(subject, analysis)
    if not found or not analysis.rows:
        return ""
    text = "Only trials by the target count towards the goal; those by the others inform what is tried there."
    return section("Sources", table(_sources.HEAD, _sources.lines(subject, found)), note(text))


def _earlier_ones(subject: Subject, figures: Figures) -> str:
    found = _earlier.helped(subject)
    if not found and subject.campaign.earlier is None:
        return ""
    parts = [f"<p>{esc(_earlier.words(found))}</p>"]
    if any(h.shares for h in found):
        caption = "The share of each earlier campaign in the prediction behind every trial, as its decision records it."
        parts += [figures.put(_earlier.shares(found), caption)]
    if found:
        parts.append(table(_earlier.HEAD, _earlier.lines(found)))
    return section("Earlier campaigns", *parts)


def _failures(analysis: Analysis, figures: Figures) -> str:
    failed = [r for r in analysis.rows if r.failure]
    if not failed:
        return ""
    places = [figures.put(_inputs.failures(dict(causes(failed))), f"{len(failed):,} of {len(analysis.rows):,} trials.")]
    for row in failed[:LOGS]:
        assert row.failure is not None
        message, log = row.failure.message or "no message", row.failure.log[-LOG_TAIL:] or "(no log)"
        head = esc(f"{row.trial} · {row.failure.cause} · {message[:160]}")
        body = esc(f"{_tables.point(row)}\n\n{message}\n\n{log}")
        places.append(f"<details><summary>{head}</summary><pre>{body}</pre></details>")
    if len(failed) > LOGS:
        places.append(note(f"The first {LOGS} of {len(failed):,} are listed; all are in the table of trials."))
    return section("Failures", *places)


def _course(subject: Subject, analysis: Analysis, figures: Figures) -> str:
    laid = schedule(analysis.rows)
    if not laid.bars:
        return ""
    drawn, n = _inputs.timeline(laid)
    text = laid_words(laid)
    text += f", and an action waited {duration(laid.waited)} on average before it started." if laid.waited else "."
    text += facilities_took(subject)
    if n < len(laid.bars):
        text += f" The last {n:,} are drawn."
    return section("When it ran", figures.put(drawn, text))


def _samples_of(subject: Subject) -> str:
    found = _samples.histories(subject.results)
    if not found:
        return ""
    drawn = found[: _samples.MOST]
    rest = note(f"The first {len(drawn):,} of {len(found):,} are listed.") if len(drawn) < len(found) else ""
    listed = table(_samples.HEAD, map(_samples.line, drawn))
    return section("Samples", f"<p>{esc(_samples.account(found))}</p>", listed, rest)


def _trials(subject: Subject) -> str:
    if not subject.results.ended:
        return ""
    return section("All trials", rows_table(_tables.columns(subject), "Filter trials"))


def _words(subject: Subject) -> str:
    """What people changed while it ran."""
    if not subject.words:
        return ""
    rows = [(when(w.at), w.by, steered(subject.spec, w.fact)) for w in subject.words]
    return section("What people changed", table(("", "by", ""), rows))


def _asked(subject: Subject) -> str:
    text = _tables.json_of(subject.spec)
    whole = f"<details><summary>The whole specification as JSON</summary><pre>{esc(text)}</pre></details>"
    return section("What was asked", _tables.specification(subject), whole)


def _provenance(subject: Subject) -> str:
    campaign = subject.campaign
    rows = [
        ("campaign", subject.spec.id),
        ("state", state(campaign)),
        ("opened", when(subject.opened)),
        ("last entry", when(campaign.last)),
        ("journal entries", f"{subject.entries:,}"),
        ("seed", str(subject.spec.seed)),
        ("dataset", campaign.dataset),
        ("model", campaign.model),
        ("agreement", subject.spec.agreement),
        *((f"version of {name}", version) for name, version in sorted(subject.versions.items())),
        *((f"run by {r.runner}", f"{when(r.started)} to {when(r.ended) if r.ended else 'no word of its end'}"
           + (f" ({r.reason})" if r.reason else "")) for r in subject.runs[-20:]),
    ]  # fmt: skip
    return section("Where this comes from", table(("", ""), [r for r in rows if r[1]]), note(_honesty()))


def _honesty() -> str:
    return f"Every figure is computed from the journal. Acceleration is stated only against random search: {ADVICE}."


def when(seconds: float) -> str:
    if not seconds:
        return ""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
