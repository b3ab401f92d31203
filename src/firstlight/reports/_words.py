"""Numbers and findings in the words a scientist would use."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from firstlight import core

from ._analysis import Analysis
from ._metrics import Factor
from ._schedule import Schedule
from ._subject import Subject


def number(value: float) -> str:
    """Four significant digits, plain where that is short."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    if 1e-3 <= abs(value) < 1e6:
        digits = max(0, 3 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.3e}"


def scalar(value: core.Scalar) -> str:
    return value if isinstance(value, str) else number(float(value))


def quantity(value: float, unit: str = "", sigma: float = 0.0) -> str:
    """A value with its standard uncertainty, rounded as that warrants, and its unit."""
    if sigma > 0 and 1e-4 <= sigma < 1e5:
        digits = max(0, 1 - math.floor(math.log10(sigma)))
        text = f"{value:,.{digits}f} ± {sigma:.{digits}f}"
    elif sigma > 0:
        text = f"{number(value)} ± {sigma:.1e}"
    else:
        text = number(value)
    return f"{text} {unit}".strip()


def duration(seconds: float) -> str:
    for size, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= 2 * size:
            return f"{number(round(seconds / size, 1))} {name}"
    return f"{seconds:.2g} s" if seconds else "0 s"


def count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def wanted(spec: core.CampaignSpec) -> str:
    """The objectives in words: "maximise yield (%) and minimise cost"."""
    verbs = {"maximize": "maximise", "minimize": "minimise", "match": "match"}
    parts = []
    for o in spec.goal.objectives:
        aim = (
            f" to {quantity(o.target, o.unit, o.tolerance)}" if o.direction == "match" and o.target is not None else ""
        )
        unit = f" ({o.unit})" if o.unit and not aim else ""
        parts.append(f"{verbs[o.direction]} {o.observable}{unit}{aim}")
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def at(spec: core.CampaignSpec, point: core.Point) -> str:
    """A point in words."""
    return ", ".join(f"{p.name} {scalar(point[p.name])} {unit_of(p)}".rstrip() for p in spec.parameters)


def unit_of(parameter: core.Parameter) -> str:
    return "" if isinstance(parameter, core.Categorical) else parameter.unit


def state(campaign: core.Campaign) -> str:
    if campaign.closed:
        return f"closed: {campaign.closed}"
    if campaign.paused:
        return "paused"
    return f"ending: {campaign.ending}" if campaign.ending else "open"


def factor(found: Factor) -> str:
    """An acceleration factor with its interquartile interval."""
    if found.low == found.high:
        return f"{found.median}"
    return f"{found.median} (interquartile {found.low} to {found.high})"


def effort(analysis: Analysis, steps: float) -> str:
    """So many steps of a curve: a number of trials, or a cost."""
    return quantity(steps * analysis.per, analysis.cost_unit) if analysis.per else number(steps)


def verdict(analysis: Analysis) -> str:
    """One or two sentences on acceleration, for the caption and the summary."""
    random, found = analysis.random, analysis.random.factor
    if analysis.nothing or found is None:
        return f"No acceleration factor can be stated: {analysis.nothing}."
    many = found.reference
    took = f"more than {effort(analysis, many.value - 1)}" if many.at_least else effort(analysis, many.value)
    start = "As an estimate, random" if random.kind == "estimate" else "Random"
    needs = f"spends a median of {took}" if analysis.per else f"needs a median of {took} trials"
    did = "for" if analysis.per else "with its first"
    said = (
        f"{start} search {needs} to do as well as this campaign did {did} {effort(analysis, found.trials)}: "
        f"an acceleration factor of {factor(found)}"
    )
    if random.kind == "campaigns":
        said += f", against {random.words}"
        if found.reached < found.pairs:
            said += f", {found.pairs - found.reached} of which never did as well and count as lower bounds"
    else:
        said += f"; this is {random.words}"
    return said + "."


def paragraph(subject: Subject, analysis: Analysis, best: Sequence[core.Row]) -> str:
    """The campaign in a few sentences. Plain text, not escaped."""
    spec, campaign = subject.spec, subject.campaign
    ended, good = len(analysis.rows), sum(loss is not None for loss in analysis.losses)
    failed = sum(r.failure is not None for r in analysis.rows)
    text = [f"The campaign set out to {wanted(spec)} over {count(len(spec.parameters), 'parameter')}."]
    if not ended:
        text.append("No trial has ended yet.")
    else:
        fared = f"{failed:,} failed" if failed else "none failed"
        text.append(
            f"It performed {count(ended, 'trial')} in {duration(campaign.elapsed)} of running "
            f"with the strategy “{subject.strategy}”; {fared}."
        )
    if spec.fidelity is not None and ended:
        by_others = [r for r in analysis.rows if not core.counts(spec, r.ran)]
        failed += sum(not r.failure and not r.rejected for r in by_others)
        text.append(
            f"{count(len(by_others), 'trial')} came from other sources than {scalar(spec.fidelity.target)}, and inform."
        )
    bad = sum(bool(r.rejected) for r in analysis.rows)
    if bad:
        text.append(f"People marked the outcome of {count(bad, 'trial')} as bad: it does not count.")
    broke = ended - failed - good - sum(bool(r.rejected) and r.failure is None for r in analysis.rows)
    if broke:
        text.append(f"{count(broke, 'trial')} succeeded without meeting the constraints on outcomes.")
    if len(spec.goal.objectives) == 1 and best:
        row, objective = best[0], spec.goal.objectives[0]
        seen = row.seen[objective.observable]
        value = quantity(seen.value, seen.unit or objective.unit, seen.sigma)
        text.append(
            f"The best value, {objective.observable} = {value}, came from trial {row.trial} at {at(spec, row.ran)}."
        )
    elif best:
        text.append(f"They left a Pareto front of {count(len(best), 'trial')}.")
        if len(analysis.curve):
            text.append(f"It covers {analysis.curve[-1]:.0%} of the normalised hypervolume.")
    elif ended:
        text.append("No trial was good.")
    if ended:
        text.append(verdict(analysis))
    if campaign.met_by:
        text.append(f"Trial {campaign.met_by} met the goal.")
    if subject.told:
        text.append(f"{count(len(subject.told), 'earlier trial')} were told to it and are not counted as its own.")
    return " ".join(text)


def steered(spec: core.CampaignSpec, fact: core.Fact) -> str:
    """What a person changed, in a sentence."""
    units = {p.name: unit_of(p) for p in spec.parameters}

    def values(point: core.Point) -> list[str]:
        return [f"{n} {scalar(v)} {units.get(n, '')}".rstrip() for n, v in point.items()]

    match fact:
        case core.PointRequested(point=point, note=why):
            said = f"asked for a trial at {', '.join(values(point))}"
        case core.RegionForbidden(region=region, reason=why):
            said = f"forbade {core.region_words(region)}"
        case core.RegionAllowed(region=region, reason=why):
            said = f"allowed {core.region_words(region)} again"
        case core.TrialCorrected(trial=trial, as_run=as_run, observations=seen, note=why):
            right = [f"{o.observable} {quantity(o.value, o.unit, o.sigma)}" for o in seen]
            said = f"corrected trial {trial}: {', '.join([*values(as_run), *right])}"
        case core.OutcomeRejected(trial=trial, reason=why):
            said = f"marked the outcome of trial {trial} as bad"
        case core.OutcomeRestored(trial=trial, reason=why):
            said = f"let trial {trial} count again"
        case core.BudgetChanged(budget=budget, reason=why):
            said = f"changed the budget to {spendable(budget)}"
        case _:
            raise TypeError(f"{type(fact).__name__} changes nothing by a person's word")
    return f"{said} ({why})" if why else said


def spendable(budget: core.Budget) -> str:
    said = [] if budget.trials is None else [count(budget.trials, "trial")]
    said += [] if budget.cost is None else [f"cost {quantity(budget.cost, budget.cost_unit)}"]
    said += [] if budget.seconds is None else [duration(budget.seconds)]
    return ", ".join(said) or "no limit"


def laid_words(laid: Schedule) -> str:
    """What ran on how much, and how busy that was; a sentence without its end."""
    text = f"{count(len(laid.bars), 'action')} on "
    rest = {name: k for name, k in laid.slots.items() if name not in laid.instruments}
    text += ", ".join([*laid.instruments, *(f"{name}: {count(k, 'slot')}" for name, k in rest.items())])
    if not laid.instruments:
        return text + f"; these slots were busy {laid.busy:.0%} of the time"
    shares = ", ".join(f"{name} {share:.0%}" for name, share in laid.instruments.items())
    text += f"; a colour tells a trial from the next, and a red line a trial that failed. Busy were {shares}"
    return text + f", all together {laid.busy:.0%} of the time"


def facilities_took(subject: Subject) -> str:
    """What was used of facilities, and how often one went away; "" where there is nothing to say."""
    used = ", ".join(f"{number(amount)} {unit}" for unit, amount in subject.campaign.used.items())
    said = f" It used {used}." if used else ""
    if subject.moved:
        said += f" {count(subject.moved, 'time')} an action went to another facility because its own had gone away."
    return said


def causes(rows: Sequence[core.Row]) -> Mapping[str, int]:
    """How many trials failed of each cause, the most frequent first."""
    return dict(Counter(r.failure.cause for r in rows if r.failure).most_common())
