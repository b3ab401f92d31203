"""In the shadow: a candidate judged on what the version in production served, before it serves anything."""

from collections.abc import Sequence
from pathlib import Path

from ._family import Item
from ._registry_gate import Compared
from ._release import parts_of
from ._split import mark
from .families import family_at


class Nothing(ValueError):
    """There is nothing that two versions can be held against each other on; the message says why."""


def compared(
    candidate: Path, production: Path, items: Sequence[Item], files: Sequence[Path], trials: int
) -> Compared:  # fmt: skip
    """Two released models of one family on the same data, of which neither has learned: `items` lie in `files`.

    They hold `trials` trials. Groups that either of them has seen, be it to be judged by, are left out. Raises Nothing
    where nothing is left, ValueError where the data cannot be read.
    """
    own, theirs = family_at(candidate), family_at(production)
    if type(own) is not type(theirs) or own.metric != theirs.metric:
        raise Nothing("they are of different families, and no score is the same for both")
    examples = own.read(items, files)
    known = parts_of(candidate).keys() | parts_of(production).keys()
    fresh = [n for n, group in enumerate(examples.groups) if mark(group) not in known]
    if not fresh:
        raise Nothing("one of them has seen all that there is, be it to be judged by")
    test = examples.only(fresh)
    now, before = own.evaluate(candidate, test), own.evaluate(production, test)
    return Compared(
        trials=trials, metric=own.metric, candidate=now[own.metric], production=before[own.metric],
        campaigns=tuple(dict.fromkeys(item.group for item in items)),
    )  # fmt: skip


def seen(release: Path, group: str) -> bool:
    """Whether a released model has seen this group of examples (a campaign), to learn from or to be judged by."""
    return mark(group) in parts_of(release)
