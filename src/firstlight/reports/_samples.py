"""What became of every sample: what went into it, where it went, and how it ended."""

import datetime
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from firstlight import core

from ._words import number

MOST = 500
HEAD = ("sample", "kind", "trial", "what went in", "what was done", "where it went", "where it is", "what became of it")


class History(core.Value, frozen=True):
    """A sample as it was seen last, the trials that touched it, and the instruments of their actions in order.

    `cause` is why the last of these trials failed, where the sample did.
    """

    sample: core.Sample
    trials: tuple[str, ...]
    went: tuple[str, ...]
    cause: str = ""


def histories(results: core.Results) -> list[History]:
    """Every sample once, in the order in which trials that touched it ended; those of trials under way come last."""
    found: dict[str, History] = {}
    for row in _touching(results):
        for sample in row.samples:
            before = found.get(sample.id, History(sample=sample, trials=(), went=()))
            found[sample.id] = History(
                sample=sample,
                trials=(*before.trials, row.trial),
                went=(*before.went, *_ways(row, sample)),
                cause=row.failure.cause if row.failure and sample.state == "failed" else "",
            )
    return list(found.values())


def _touching(results: core.Results) -> Iterator[core.Row]:
    """Rows with samples, those marked as bad too: the matter was there all the same."""
    yield from (r for r in results.ended if r.samples)
    yield from (r for r in results.pending.values() if r.samples)


def _ways(row: core.Row, sample: core.Sample) -> Iterator[str]:
    """The instruments that had it: of all actions where it is the trial's only one, else of those it names."""
    named = {use.action for use in sample.uses}
    last = ""
    for span in sorted(row.spans, key=lambda s: s.started or s.dispatched):
        if span.instrument and span.instrument != last and (len(row.samples) == 1 or span.action in named):
            yield span.instrument
            last = span.instrument


def account(found: Sequence[History]) -> str:
    """The sum that must come out: every sample is in exactly one of its parts."""
    ends = Counter(h.sample.state for h in found)
    causes = Counter(h.cause or "no cause told" for h in found if h.sample.state == "failed")
    by = f" ({', '.join(f'{n} {cause}' for cause, n in causes.most_common())})" if causes else ""
    text = f"{len(found):,} planned = {ends['measured']:,} measured + {ends['failed']:,} failed{by}"
    text += f" + {ends['discarded']:,} discarded"
    others = Counter({state: n for state, n in ends.items() if state not in ("measured", "failed", "discarded")})
    text += "".join(f" + {n:,} {state or 'of which nothing has become yet'}" for state, n in sorted(others.items()))
    return f"{text}."


def line(history: History) -> tuple[str, ...]:
    """The history as cells under `HEAD`."""
    sample = history.sample
    end = sample.state or "nothing yet"
    return (
        sample.id, sample.kind, ", ".join(history.trials), _went_in(sample.uses), _done(sample.uses),
        " → ".join(history.went),
        sample.location, f"{end}: {history.cause}" if history.cause else end,
    )  # fmt: skip


def _went_in(uses: Iterable[core.Use]) -> str:
    return "; ".join(_use(use) for use in uses if use.amount)


def _done(uses: Iterable[core.Use]) -> str:
    return "; ".join(f"{use.material}{_at(use)}" for use in uses if not use.amount)


def _use(use: core.Use) -> str:
    return f"{number(use.amount)} {use.unit}".rstrip() + f" of {use.material}{_at(use)}"


def _at(use: core.Use) -> str:
    return datetime.datetime.fromtimestamp(use.at, datetime.UTC).strftime(" at %H:%M:%S") if use.at else ""
