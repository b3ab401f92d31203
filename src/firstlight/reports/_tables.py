"""The tables: the best trials, every trial, and the specification."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from firstlight import core

from ._plots import round_to
from ._subject import Subject
from ._words import at, duration, number, quantity, scalar, unit_of, wanted

BEST = 50


def _headed(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name


def _grid(head: Iterable[tuple[str, str]], rows: Iterable[Sequence[tuple[str, str]]]) -> str:
    """A table of (text, class) cells."""
    top = "".join(f'<th scope="col" class="{kind}">{html.escape(text)}</th>' for text, kind in head)
    body = "".join(
        "<tr>" + "".join(f'<td class="{kind}">{html.escape(text)}</td>' for text, kind in row) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def observables(subject: Subject) -> dict[str, str]:
    """Every observable asked for or seen, the objectives first, with its unit."""
    spec = subject.spec
    units = {o.observable: o.unit for o in spec.goal.objectives}
    asked = [(o.name, o.unit) for o in spec.observables]
    bounds = [(o.observable, o.unit) for o in spec.goal.outcome_constraints]
    seen = ((o.observable, o.unit) for row in subject.results.ended for o in row.observations)
    for name, unit in (*asked, *bounds, *seen):
        units[name] = units.get(name) or unit
    return units


def best(subject: Subject, rows: Sequence[core.Row]) -> str:
    """The best points with units and uncertainty, and what was predicted of them."""
    units, parameters = observables(subject), subject.spec.parameters
    expected = [core.latest(row.predicted) for row in rows]
    foretold = [name for name in units if any(name in e for e in expected)]
    head = [("trial", "")]
    for name, unit in units.items():
        head.append((_headed(name, unit), "n"))
        if name in foretold:
            head.append(("predicted", "n"))
    head += [(_headed(p.name, unit_of(p)), "" if isinstance(p, core.Categorical) else "n") for p in parameters]
    lines = []
    for row, told in zip(rows[:BEST], expected, strict=False):
        line = [(row.trial, "")]
        for name in units:
            line.append((_value(row.seen.get(name)), "n"))
            if name in foretold:
                line.append((_value(told.get(name)), "n"))
        for p in parameters:
            value = row.ran[p.name]
            line.append((scalar(value), "" if isinstance(value, str) else "n"))
        lines.append(line)
    more = f'<p class="note">The first {BEST} of {len(rows):,}.</p>' if len(rows) > BEST else ""
    return _grid(head, lines) + more


def _value(seen: core.Observation | None) -> str:
    return "" if seen is None else quantity(seen.value, "", seen.sigma)


def decisions(spec: core.CampaignSpec, rows: Sequence[core.Row]) -> str:
    """Why these trials were chosen: the criterion, how far off the prediction was, and what each was preferred to."""
    head = [("trial", ""), ("reason", "long"), ("criterion", "long"), ("score", "n"), ("off by", "n"),
            ("preferred to", "long"), ("its score", "n")]  # fmt: skip
    lines = []
    for row in rows:
        assert row.decision is not None
        rival = row.decision.runners_up[0] if row.decision.runners_up else None
        off = ", ".join(f"{name} {z:+.1f} sigma" for name, z in row.surprise.items())
        lines.append([
            (row.trial, ""), (row.reason, "long"), (row.decision.criterion, "long"), (_score(row.decision.score), "n"),
            (off, "n"), (at(spec, rival.point) if rival else "", "long"), (_score(rival.score) if rival else "", "n"),
        ])  # fmt: skip
    return _grid(head, lines)


def _score(score: float | None) -> str:
    return "" if score is None else number(score)


def influences(shares: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Earlier campaigns, and their shares in the predictions: on average, at first and at last."""
    head = [
        ("earlier campaign", ""),
        ("trials it informed", "n"),
        ("mean share", "n"),
        ("at first", "n"),
        ("last", "n"),
    ]
    lines = []
    for campaign, told in shares.items():
        each = [share for _, share in told]
        told_of = (sum(each) / len(each), each[0], each[-1])
        lines.append([(campaign, ""), (f"{len(each):,}", "n"), *((f"{share:.0%}", "n") for share in told_of)])
    return _grid(head, lines)


def columns(subject: Subject) -> list[tuple[str, str]]:
    """The names and classes of the columns of the table of all trials."""
    return [
        ("trial", ""),
        ("outcome", ""),
        *((_headed(name, unit), "n") for name, unit in observables(subject).items()),
        *((_headed(p.name, unit_of(p)), "" if isinstance(p, core.Categorical) else "n")
          for p in subject.spec.parameters),
        ("cost", "n"),
        ("source", ""),
        ("reason", "long"),
    ]  # fmt: skip


def trials(subject: Subject) -> dict[str, Any]:
    """Every trial that has ended, as rows of JSON values for the page's own table."""
    names = list(observables(subject))
    rows, failed = [], []
    for i, row in enumerate(subject.results.ended):
        seen = row.seen
        if row.failure or row.rejected:
            failed.append(i)
        why = f"{row.failure.message[:200]} {row.reason[:200]}".strip() if row.failure else row.reason[:200]
        why = f"marked as bad: {row.rejected}; {why}" if row.rejected else why
        told = " (told)" if row.trial in subject.told else ""
        rows.append([
            row.trial, _outcome(subject.spec, row), *(round_to(seen[n].value) if n in seen else None for n in names),
            *(v if isinstance(v := row.ran[p.name], str) else round_to(float(v)) for p in subject.spec.parameters),
            round_to(row.cost), f"{row.source}{told}", why,
        ])  # fmt: skip
    return {"rows": rows, "failed": failed, "kinds": [kind for _, kind in columns(subject)]}


def _outcome(spec: core.CampaignSpec, row: core.Row) -> str:
    goal = spec.goal
    if row.rejected:
        return "marked as bad"
    if row.failure:
        return row.failure.cause
    if any(o.observable not in row.seen for o in goal.objectives):
        return "not measured"
    if core.losses(goal, row.seen) is None:
        return "constraint broken"
    return "good" if core.counts(spec, row.ran) else "informs"


def point(row: core.Row) -> str:
    """The point as run, one value after the other."""
    return ", ".join(f"{name} = {scalar(value)}" for name, value in row.ran.items())


def specification(subject: Subject) -> str:
    """What may be varied, what is wanted, and what it may cost, in words."""
    spec = subject.spec
    varied = _grid(
        [(h, "") for h in ("parameter", "kind", "range", "unit", "description")],
        [[(p.name, ""), (_kind(p), ""), (_range(p), ""), (unit_of(p), ""), (p.description, "long")]
         for p in spec.parameters],
    )  # fmt: skip
    budget = spec.goal.budget
    limits = [
        f"{budget.trials:,} trials" if budget.trials is not None else "",
        quantity(budget.cost, budget.cost_unit) if budget.cost is not None else "",
        duration(budget.seconds) if budget.seconds is not None else "",
    ]
    steps = [f"{s.name}: {s.operation} at {_place(s)}" for s in spec.procedure.steps]
    bounds = [f"{c.observable} {c.relation} {quantity(c.bound, c.unit)}" for c in spec.goal.outcome_constraints]
    options = msgspec.json.encode(spec.strategy.options).decode() if spec.strategy.options else ""
    rows = [
        ("goal", wanted(spec)),
        ("targets", ", ".join(f"{o.observable} {quantity(o.target, o.unit)}" for o in spec.goal.objectives
                              if o.target is not None)),
        ("bounds on outcomes", ", ".join(bounds)),
        ("constraints on points", ", ".join(_constraint(c) for c in spec.constraints)),
        ("pool", f"{len(spec.pool.rows):,} points" if spec.pool else ""),
        ("sources", _sources(spec)),
        ("budget", ", ".join(filter(None, limits)) or "no limit"),
        ("strategy", f"{spec.strategy.name} {options}".strip()),
        ("procedure", "; ".join(steps)),
        ("at once", f"{spec.parallel:,} (designed {spec.batch:,} at a time)"),
        ("shared by a batch", ", ".join(spec.shared)),
        ("seed", str(spec.seed)),
    ]  # fmt: skip
    return varied + _grid([("", ""), ("", "")], [[(a, ""), (b, "long")] for a, b in rows if b])


def _place(step: core.StepSpec) -> str:
    return step.facility or " or ".join(step.facilities) or "any facility"


def _sources(spec: core.CampaignSpec) -> str:
    if spec.fidelity is None:
        return ""
    costs = [f"{scalar(s.value)} for {quantity(s.cost, spec.goal.budget.cost_unit)}" for s in spec.fidelity.sources]
    return f"{spec.fidelity.parameter}: {', '.join(costs)}; {scalar(spec.fidelity.target)} counts"


def _kind(parameter: core.Parameter) -> str:
    kind = type(parameter).__name__.lower()
    log = isinstance(parameter, core.Continuous | core.Integer) and parameter.scale == "log"
    return f"{kind}, log scale" if log else kind


def _range(parameter: core.Parameter) -> str:
    if isinstance(parameter, core.Categorical | core.Ordered):
        return ", ".join(map(scalar, parameter.values[:20])) + (" …" if len(parameter.values) > 20 else "")
    return f"{number(parameter.low)} to {number(parameter.high)}"


def _constraint(constraint: core.Constraint) -> str:
    match constraint:
        case core.Linear(terms=terms, relation=relation, bound=bound):
            return f"{' + '.join(f'{number(k)} {n}' for n, k in terms.items())} {relation} {number(bound)}"
        case core.Mixture(parameters=names, total=total):
            return f"{' + '.join(names)} = {number(total)}"
        case core.Exclude(combination=combination):
            return "never " + " with ".join(f"{n} {'/'.join(map(scalar, v))}" for n, v in combination.items())
        case core.Forbid():
            return f"never {core.region_words(constraint)}"


def json_of(spec: core.CampaignSpec) -> str:
    """The specification as JSON; a pool longer than a hundred points is cut."""
    whole = msgspec.to_builtins(spec)
    if spec.pool and len(spec.pool.rows) > 100:
        whole["pool"]["rows"] = [*whole["pool"]["rows"][:100], f"... {len(spec.pool.rows) - 100} more"]
    return msgspec.json.format(msgspec.json.encode(whole), indent=2).decode()
