"""Whether a version may be promoted: what its specification asked before it was trained, held against its scores."""

from collections.abc import Iterator, Mapping, Sequence

from firstlight.core import Value

from ._spec import Gate


class Check(Value, frozen=True):
    """One thing that a gate asks, and whether it holds; `why` says it in a sentence."""

    passed: bool
    why: str


class Verdict(Value, frozen=True):
    """What a gate says of a version. `ask` is put to a person before it is promoted, "" where nobody needs to be."""

    checks: tuple[Check, ...]
    ask: str = ""

    @property
    def passed(self) -> bool:
        """Whether all holds that was asked."""
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it may not be promoted; () where it may."""
        return tuple(check.why for check in self.checks if not check.passed)


class Compared(Value, frozen=True):
    """How a candidate predicted trials that the version in production served: the same metric of both on the same
    trials, smaller is better, and how well calibrated each was, None where that is not known. `campaigns` are those
    whose trials they are."""

    trials: int
    metric: str
    candidate: float
    production: float
    candidate_calibration: float | None = None
    production_calibration: float | None = None
    campaigns: tuple[str, ...] = ()


def judged(
    gate: Gate, metric: str, scores: Mapping[str, float], *, parent: str = "",
    parent_scores: Mapping[str, float] | None = None, baselines: Mapping[str, Mapping[str, float]] | None = None,
    forgetting: Mapping[str, float] | None = None,
) -> Verdict:  # fmt: skip
    """Hold scores against a gate. What it asks and nobody has measured does not hold."""
    checks = [
        *_bounds(gate.at_most, scores, "at most", "the test"), *_bounds(gate.at_least, scores, "at least", "the test")
    ]  # fmt: skip
    own = scores[metric]
    if parent:
        checks.append(_against_parent(gate, metric, own, parent, parent_scores or {}))
        checks += _bounds(gate.forgetting, forgetting or {}, "at most", "what the parent could do")
    if gate.baselines:
        checks += _against_baselines(metric, own, baselines or {})
    return Verdict(checks=tuple(checks), ask=gate.ask)


def in_the_shadow(gate: Gate, production: str, compared: Sequence[Compared]) -> Iterator[Check]:
    """What a gate asks of a candidate beside the version in production ("": there is none, and nothing to ask)."""
    if not gate.shadow:
        return
    if not production:
        yield Check(passed=True, why="no version is in production that it could be held against")
        return
    trials = sum(one.trials for one in compared)
    if trials < gate.shadow:
        yield Check(passed=False, why=f"it has predicted {trials} trials that {production} served, of {gate.shadow}")
        return
    own = sum(one.candidate * one.trials for one in compared) / trials
    theirs = sum(one.production * one.trials for one in compared) / trials
    word = "no worse" if own <= theirs else "worse"
    why = (
        f"on {trials} trials that {production} served its {compared[-1].metric} is {own:.4g}, {word} than {theirs:.4g}"
    )
    yield Check(passed=own <= theirs, why=why)


def _bounds(bounds: Mapping[str, float], scores: Mapping[str, float], word: str, on: str) -> Iterator[Check]:
    for name, bound in bounds.items():
        if (score := scores.get(name)) is None:
            yield Check(passed=False, why=f"{name} must be {word} {bound:.4g} on {on}, and nobody has measured it")
            continue
        passed = score <= bound if word == "at most" else score >= bound
        yield Check(passed=passed, why=f"{name} on {on} is {score:.4g}, and must be {word} {bound:.4g}")


def _against_parent(gate: Gate, metric: str, own: float, parent: str, scores: Mapping[str, float]) -> Check:
    if (theirs := scores.get(metric)) is None:
        return Check(passed=False, why=f"it was not held against its parent {parent} on the same test")
    bound = theirs - gate.better * abs(theirs)
    passed = own <= bound if gate.better else own < theirs
    by = f" by {100 * gate.better:.3g} %" if gate.better else ""
    word = "is better than" if passed else "must be better than"
    return Check(passed=passed, why=f"{metric} is {own:.4g}, and {word} {theirs:.4g} of its parent {parent}{by}")


def _against_baselines(metric: str, own: float, baselines: Mapping[str, Mapping[str, float]]) -> Iterator[Check]:
    if not baselines:
        yield Check(passed=False, why="it must be better than baselines, and nobody has measured any")
    for name, scores in baselines.items():
        if (theirs := scores.get(metric)) is None:
            yield Check(passed=False, why=f"it must be better than {name}, of which nobody has measured {metric}")
            continue
        word = "is better than" if own < theirs else "must be better than"
        yield Check(passed=own < theirs, why=f"{metric} is {own:.4g}, and {word} {theirs:.4g} of the baseline {name}")
