"""Where the trials came from, what they cost, and which of them count."""

from firstlight import core

from ._analysis import Analysis
from ._subject import Subject
from ._words import number, quantity, scalar


class FromSource(core.Value, frozen=True):
    """The campaign's own trials by one source. `price` is what one costs as specified, `cost` what all of them did."""

    source: core.Scalar
    counts: bool
    price: float
    trials: int
    failed: int
    cost: float


def by_source(subject: Subject, analysis: Analysis) -> list[FromSource]:
    """One for every source, the target last; none where the specification declares no sources."""
    fidelity = subject.spec.fidelity
    if fidelity is None:
        return []
    found = []
    for source in sorted(fidelity.sources, key=lambda s: (s.value == fidelity.target, s.cost)):
        rows = [r for r in analysis.rows if r.ran[fidelity.parameter] == source.value]
        found.append(
            FromSource(
                source=source.value, counts=source.value == fidelity.target, price=source.cost, trials=len(rows),
                failed=sum(r.failure is not None for r in rows), cost=sum(r.cost for r in rows),
            )
        )  # fmt: skip
    return found


HEAD = ("source", "towards the goal", "a trial costs", "trials", "failed", "spent", "of all")


def lines(subject: Subject, found: list[FromSource]) -> list[tuple[str, ...]]:
    """Rows of the table of sources."""
    unit, total = subject.spec.goal.budget.cost_unit, sum(s.cost for s in found)
    return [
        (
            scalar(s.source), "counts" if s.counts else "informs", quantity(s.price, unit), f"{s.trials:,}",
            f"{s.failed:,}", quantity(s.cost, unit), f"{s.cost / total:.0%}" if total else number(0),
        )
        for s in found
    ]  # fmt: skip
