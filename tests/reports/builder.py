"""Campaigns made by hand: journals of synthetic trials, and the subjects they fold to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace

from firstlight import core, reports

START = 1_750_000_000.0
Answer = core.Measured | core.Failure
Response = Callable[[core.Point, int], Answer]


def goal(*objectives: core.Objective, **rest: Any) -> core.Goal:
    return core.Goal(objectives=objectives or (core.Objective(observable="y", direction="maximize"),), **rest)


def spec(**changes: Any) -> core.CampaignSpec:
    fields: dict[str, Any] = {
        "id": "demo",
        "parameters": (core.Continuous(name="x", low=0.0, high=1.0),),
        "goal": goal(),
        "procedure": core.ProcedureSpec(steps=(core.StepSpec(operation="demo:measure"),)),
    }
    return core.CampaignSpec(**(fields | changes))


def measured(sigma: float = 0.0, units: Mapping[str, str] | None = None, **values: float) -> core.Measured:
    units = units or {}
    return core.Measured(
        observations=tuple(
            core.Observation(observable=n, value=float(v), unit=units.get(n, ""), sigma=sigma)
            for n, v in values.items()
        )
    )


def journal(
    spec: core.CampaignSpec,
    points: Sequence[core.Point],
    respond: Response,
    *,
    slots: int = 1,
    seconds: float = 60.0,
    source: str = "bayes",
    predict: Callable[[core.Point, int], tuple[core.Observation, ...]] = lambda point, i: (),
    decide: Callable[[core.Point, int], core.Decision | None] = lambda point, i: None,
    earlier: Sequence[str] | None = None,
    close: str = "trials spent",
) -> Iterator[core.Entry]:
    """The entries of a campaign that tries these points in turn on `slots` slots."""
    seq = 0

    def entry(fact: core.Fact, at: float) -> core.Entry:
        nonlocal seq
        seq += 1
        return core.Entry(seq=seq, at=at, by="tester", fact=fact)

    rng = np.random.default_rng(1)
    yield entry(core.CampaignOpened(spec=spec), START)
    yield entry(core.RunStarted(runner="node 7", versions={"firstlight": "0.1.0", "numpy": np.__version__}), START)
    if earlier is not None:
        chosen = tuple(core.EarlierCampaign(campaign=name, entries=9) for name in earlier)
        yield entry(core.EarlierChosen(campaigns=chosen), START)
    clock = START
    for first in range(0, len(points), slots):
        group = range(first, min(first + slots, len(points)))
        for i in group:
            trial = f"{spec.id}.{i + 1}"
            action = core.Action(
                id=f"{trial}.evaluate",
                trial=trial,
                facility="local",
                name="evaluate",
                operation="demo",
                point=points[i],
            )
            proposed = core.TrialProposed(
                trial=trial, point=points[i], actions=(action,), source=source, predicted=predict(points[i], i),
                reason="space-filling" if i < 8 else "expected improvement", decision=decide(points[i], i),
            )  # fmt: skip
            yield entry(proposed, clock)
            yield entry(core.ActionPermitted(action=action.id, policies=("open",)), clock)
            yield entry(core.ActionDispatched(action=action.id), clock)
            yield entry(core.ActionAccepted(action=action.id, job=str(i)), clock)
        lasted = sorted(zip(seconds * rng.uniform(0.4, 1.0, len(group)), group, strict=True))
        for length, i in lasted:
            trial, answer = f"{spec.id}.{i + 1}", respond(points[i], i)
            answer = replace(answer, started=clock + 1.0, ended=clock + float(length))
            id = f"{trial}.evaluate"
            fact = (
                core.ActionFailed(action=id, failure=answer)
                if isinstance(answer, core.Failure)
                else core.ActionSucceeded(action=id, measured=answer)
            )
            yield entry(fact, clock + float(length))
            yield entry(core.TrialIngested(trial=trial, digest="sha256:0"), clock + float(length))
        clock += seconds
    if close:
        yield entry(core.CampaignClosed(reason=close), clock)
        yield entry(core.RunEnded(reason="done"), clock)


def subject(spec: core.CampaignSpec, points: Sequence[core.Point], respond: Response, **how: Any) -> reports.Subject:
    return reports.gather(journal(spec, points, respond, **how))


def curve(values: Sequence[float | None], **changes: Any) -> reports.Subject:
    """A campaign of one parameter whose trials gave these values of y, None where they failed."""

    def respond(point: core.Point, i: int) -> Answer:
        value = values[i]
        return core.Failure(cause="crashed") if value is None else measured(y=value)

    return subject(spec(**changes), [{"x": i / len(values)} for i in range(len(values))], respond)
