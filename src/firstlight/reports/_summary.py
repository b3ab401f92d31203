"""A report's findings as one JSON-able dictionary."""

from collections.abc import Sequence
from typing import Any

import msgspec

from firstlight import core

from ._analysis import Analysis, analyse
from ._earlier import helped
from ._metrics import Bound, Factor
from ._schedule import schedule
from ._sources import by_source
from ._subject import Subject
from ._why import Calibration, calibration, foretold
from ._words import causes, paragraph, state, verdict


def summary(subject: Subject, baselines: Sequence[core.Results]) -> dict[str, Any]:
    """The findings, in the parameters' and objectives' own units and in seconds; only JSON's types.

    Under "acceleration", a number that is only known to be no less than so much has "at_least": true, and
    "factor" is null where nothing can honestly be stated ("statement" says why). Where trials come from sources of
    different cost, what it counts is the cost of trials ("counted_in").
    """
    return summarise(subject, analyse(subject, baselines))


def summarise(subject: Subject, analysis: Analysis) -> dict[str, Any]:
    """The same, of an analysis already made."""
    spec, campaign = subject.spec, subject.campaign
    best = subject.results.best(spec)
    laid = schedule(analysis.rows)
    failed = sum(r.failure is not None for r in analysis.rows)
    ended, seconds = len(analysis.rows), campaign.elapsed
    return {
        "campaign": spec.id,
        "title": spec.title,
        "state": state(campaign),
        "strategy": subject.strategy,
        "seed": spec.seed,
        "summary": paragraph(subject, analysis, best),
        "trials": {
            "ended": ended,
            "succeeded": ended - failed,
            "failed": failed,
            "good": sum(loss is not None for loss in analysis.losses),
            "pending": len(subject.results.pending),
            "told": len(subject.told),
            "rejected": len(subject.results.rejected),
        },
        "failures": dict(causes(analysis.rows)),
        "cost": campaign.cost,
        "cost_unit": spec.goal.budget.cost_unit,
        "seconds": seconds,
        "trials_per_hour": 3600 * ended / seconds if seconds > 0 else None,
        "slots": dict(laid.slots),
        "used": dict(campaign.used),
        "moved": subject.moved,
        "utilisation": laid.busy if laid.bars else None,
        "decisions_by_people": subject.people,
        "best": [_row(spec, row) for row in best[:100]],
        "hypervolume": float(analysis.curve[-1]) if analysis.box and len(analysis.curve) else None,
        "sources": _plain(by_source(subject, analysis)),
        "earlier": _plain(helped(subject)),
        "acceleration": _acceleration(analysis),
        "calibration": {
            name: _calibration(c)
            for name in foretold(analysis.rows)
            if (c := calibration(analysis.rows, name)) is not None
        },
        "outlook": msgspec.to_builtins(campaign.outlook),
        "versions": dict(subject.versions),
        "opened": subject.opened,
        "entries": subject.entries,
    }


def _plain(structs: Sequence[core.Value]) -> Any:
    return msgspec.json.decode(msgspec.json.encode(structs))


def _row(spec: core.CampaignSpec, row: core.Row) -> dict[str, Any]:
    expected = core.latest(row.predicted)
    found = {}
    for name, seen in row.seen.items():
        found[name] = {"value": seen.value, "unit": seen.unit, "sigma": seen.sigma}
        if name in expected:
            found[name] |= {"predicted": expected[name].value, "predicted_sigma": expected[name].sigma}
    return {"trial": row.trial, "point": dict(row.ran), "observations": found, "source": row.source}


def _calibration(found: Calibration) -> dict[str, Any]:
    one, two = found.within
    return {
        "trials": len(found.trials), "within_one_sigma": one, "within_two_sigma": two, "mean_z": found.offset,
        "statement": found.verdict,
    }  # fmt: skip


def _acceleration(analysis: Analysis) -> dict[str, Any]:
    random = analysis.random
    stated = not analysis.nothing
    return {
        "against": random.kind,
        "reference": random.words,
        "statement": verdict(analysis),
        "counted_in": "cost" if analysis.per else "trials",
        "factor": _factor(random.factor, analysis) if stated and random.factor else None,
        "along": [{"trials": n * (analysis.per or 1), **_factor(f, analysis)} for n, f in random.along]
        if stated
        else [],
        "enhancement": random.enhancement if stated else None,
        "advantage": random.advantage if stated else None,
        "advantage_at": random.at * (analysis.per or 1) if stated else None,
    }


def _factor(found: Factor, analysis: Analysis) -> dict[str, Any]:
    worth = analysis.per or 1
    return {
        "median": _bound(found.median),
        "low": _bound(found.low),
        "high": _bound(found.high),
        "campaign_trials": found.trials * worth,
        "random_trials": _bound(Bound(value=found.reference.value * worth, at_least=found.reference.at_least)),
        "reached": found.reached,
        "pairs": found.pairs,
    }


def _bound(found: Bound) -> dict[str, Any]:
    return {"value": found.value, "at_least": found.at_least}
