"""Numbers, durations, points and facts as a person reads them."""

import math
import time
from collections.abc import Callable

from .. import core

DOT = " · "


def number(value: float, sigma: float = 0.0) -> str:
    """Four digits, or as many as the uncertainty leaves: "0.942 ± 0.012"."""
    if sigma > 0:
        places = max(0, 1 - math.floor(math.log10(sigma)))
        if places <= 8 and abs(value) < 1e8:
            return f"{value:.{places}f} ± {sigma:.{places}f}"
        return f"{value:.4g} ± {sigma:.2g}"
    return f"{value:.4g}"


def quantity(seen: core.Observation) -> str:
    """A number with its uncertainty and unit."""
    return f"{number(seen.value, seen.sigma)} {seen.unit}".rstrip()


def percent(share: float) -> str:
    """As in "12 %", "5 %", "0.3 %", "below 0.1 %"."""
    if 0 < share < 0.001:
        return "below 0.1 %"
    return f"{100 * share:.{0 if share >= 0.0995 else 1}f} %".replace(".0 ", " ")


def outlook(spec: core.CampaignSpec, seen: core.Outlook) -> str:
    """As in "chance that more than 0.5 mV is still to be gained: 12 %"."""
    gain = f"{number(seen.gain)} {spec.goal.objectives[0].unit}".rstrip()
    return f"chance that more than {gain} is still to be gained: {percent(seen.chance)}"


def duration(seconds: float) -> str:
    """As in "12 s", "3 min 20 s", "2 h 05 min", "3 d 4 h"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{max(0.0, seconds):.1f} s" if seconds < 9.95 else f"{whole} s"
    minutes, seconds_left = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {seconds_left:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def moment(at: float) -> str:
    """A time of day with its date, in this place's time zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def point(spec: core.CampaignSpec, values: core.Point) -> str:
    """A point in the order of the specification, with units."""
    units = {p.name: getattr(p, "unit", "") for p in spec.parameters}
    ordered = [n for n in units if n in values] + [n for n in values if n not in units]
    return DOT.join(f"{n} {_scalar(values[n])} {units.get(n, '')}".rstrip() for n in ordered)


def _scalar(value: core.Scalar) -> str:
    return number(value) if isinstance(value, float) else str(value)


def short(campaign: str, id: str) -> str:
    """A trial or action without the campaign it belongs to: "12", "12.evaluate"."""
    return id.removeprefix(f"{campaign}.")


def plural(count: int, noun: str) -> str:
    """As in "1 trial", "2 trials"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def objective(o: core.Objective) -> str:
    """What is wanted: "maximize yield"."""
    if o.direction == "match":
        return f"match {o.observable} to {number(o.target or 0.0)} {o.unit}".rstrip()
    return f"{o.direction} {o.observable}"


def sources(spec: core.CampaignSpec) -> list[core.Scalar]:
    """The sources of trials, the target last; none where the specification declares none."""
    if spec.fidelity is None:
        return []
    target = spec.fidelity.target
    return [*(s.value for s in spec.fidelity.sources if s.value != target), target]


def sentence(fact: core.Fact, campaign: str) -> str:
    """A fact in a line."""

    def of(id: str) -> str:
        return short(campaign, id)

    match fact:
        case core.CampaignOpened(spec=spec):
            return "opened: " + ", ".join(objective(o) for o in spec.goal.objectives)
        case core.RunStarted(runner=runner):
            return f"taken up by {runner}"
        case core.RunEnded(reason=reason):
            return f"laid down: {reason}"
        case core.TrialProposed(trial=id, point=values, source=source, reason=reason):
            chosen = f" by {source}" if source else ""
            return f"trial {of(id)} proposed{chosen}: {_plain(values)}" + (f" ({reason})" if reason else "")
        case core.TrialWithdrawn(trial=id, reason=reason):
            return f"trial {of(id)} withdrawn: {reason}"
        case core.TrialAdded(trial=id, point=values, outcome=outcome):
            return f"trial {of(id)} added: {_plain(values)}: {_outcome(outcome)}"
        case core.ActionSucceeded(action=id, measured=outcome):
            return f"{of(id)} succeeded: {_outcome(outcome)}"
        case core.ActionFailed(action=id, failure=failure):
            return f"{of(id)} failed: {_outcome(failure)}"
        case core.ActionPermitted(action=id, policies=policies):
            return f"{of(id)} permitted by {', '.join(policies)}"
        case core.ActionRefused(action=id, reasons=reasons):
            return f"{of(id)} refused: {'; '.join(reasons)}"
        case core.ActionEscalated(action=id, to=to, question=question):
            return f"{of(id)} waits for {to}: {question}"
        case core.ActionApproved(action=id, note=note):
            return f"{of(id)} approved" + (f": {note}" if note else "")
        case core.ActionAccepted(action=id, job=job):
            return f"{of(id)} accepted as job {job}"
        case core.TrialIngested(trial=id):
            return f"trial {of(id)} ingested"
        case core.DatasetPublished(dataset=dataset, rows=rows):
            return f"dataset {dataset} published, {plural(rows, 'row')}"
        case core.CampaignStopped(reason=reason, cancel=cancel):
            return f"stopped{' and cancelled' if cancel else ''}: {reason}".rstrip(": ")
        case core.CampaignPaused(reason=reason):
            return f"paused: {reason}".rstrip(": ")
        case core.Event() if isinstance(fact, core.BY_PERSON):
            return _said(fact, of)
        case _:
            return _other(fact, of)


def _said(fact: core.Fact, of: Callable[[str], str]) -> str:
    match fact:
        case core.ActionAttested(action=id, measured=outcome, note=note):
            return f"{of(id)} was performed, as a person says: {_outcome(outcome)}" + _because(note)
        case core.PointRequested(point=values, note=note):
            return f"requested: {_plain(values)}" + _because(note)
        case core.RegionForbidden(region=region, reason=reason):
            return f"forbidden: {core.region_words(region)}" + _because(reason)
        case core.RegionAllowed(region=region, reason=reason):
            return f"allowed again: {core.region_words(region)}" + _because(reason)
        case core.TrialCorrected(trial=id, as_run=as_run, observations=seen, note=note):
            right = [f"{o.observable}={quantity(o)}" for o in seen]
            return f"trial {of(id)} corrected: {', '.join([*_each(as_run), *right])}" + _because(note)
        case core.OutcomeRejected(trial=id, reason=reason):
            return f"trial {of(id)} marked as bad: {reason}".rstrip(": ")
        case core.OutcomeRestored(trial=id, reason=reason):
            return f"trial {of(id)} counts again" + _because(reason)
        case core.BudgetChanged(budget=limits, reason=reason):
            return f"budget changed: {budget(limits)}" + _because(reason)
        case _:
            return _other(fact, of)


def budget(limits: core.Budget) -> str:
    """What may be spent: "80 trials, cost 500 USD, 2 h 00 min"."""
    said = [] if limits.trials is None else [plural(limits.trials, "trial")]
    said += [] if limits.cost is None else [f"cost {number(limits.cost)} {limits.cost_unit}".rstrip()]
    said += [] if limits.seconds is None else [duration(limits.seconds)]
    return ", ".join(said) or "no limit"


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


def _other(fact: core.Fact, of: Callable[[str], str]) -> str:
    match fact:
        case core.ActionDispatched(action=id):
            return f"{of(id)} dispatched"
        case core.ActionLost(action=id, reason=reason):
            return f"{of(id)} is lost: {reason or 'nobody knows whether it was performed'}"
        case core.ActionPlaced(action=id, facility=facility, reason=reason):
            return f"{of(id)} goes to {facility}" + (f": {reason}" if reason else "")
        case core.CancelRequested(action=id, facility=facility):
            return f"{of(id)} is asked to end" + (f" at {facility}, which it had left" if facility else "")
        case core.EarlierChosen(campaigns=campaigns):
            names = ", ".join(c.campaign for c in campaigns)
            return f"learns from earlier campaigns: {names or 'there are none'}"
        case core.ModelsChosen(versions=versions):
            return f"decides with {', '.join(versions.values())}"
        case core.DesignExhausted(reason=reason):
            return f"no further point: {reason}"
        case core.TrialRevised(trial=id):
            return f"trial {of(id)} replaced in the dataset"
        case core.TrainingBegun(training=training, trials=trials):
            return f"its model is trained anew, with {plural(len(trials), 'new trial')}: campaign {training}"
        case core.ModelUpdated(model=model, reason=reason) if reason:
            return f"goes on with {f'model {model}' if model else 'no model'}: {reason}"
        case core.ModelUpdated(model=model, trials=trials):
            return f"model {model} learned from {plural(len(trials), 'trial')}"
        case core.CampaignResumed():
            return "resumed"
        case core.TimeSpent(seconds=seconds):
            return f"time spent: {duration(seconds)}"
        case core.CampaignClosed(reason=reason):
            return f"closed: {reason}"
        case _:
            return type(fact).__name__


def _plain(values: core.Point) -> str:
    return ", ".join(_each(values))


def _each(values: core.Point) -> list[str]:
    return [f"{n}={_scalar(v)}" for n, v in values.items()]


def _outcome(outcome: core.Outcome) -> str:
    if isinstance(outcome, core.Failure):
        return outcome.cause + (f": {outcome.message}" if outcome.message else "")
    return ", ".join(f"{o.observable} {quantity(o)}" for o in outcome.observations) or "nothing observed"
