"""How versions hang together: with the data they learned from, with one another, and with the trials they served."""

from collections.abc import Callable, Iterable, Sequence

from firstlight.core import Value

from ._registry_facts import Version


class Use(Value, frozen=True):
    """Something that was made from something else: its id in the catalog, what it is, and its campaign, if any."""

    id: str
    kind: str
    campaign: str = ""


class Lineage(Value, frozen=True):
    """Where a version comes from, and what became of it, as far as it is known.

    `data` are the datasets it learned from, `parents` the records of the versions it began with, the nearest first,
    `order` is the digest of what was trained. `children` are the versions that began with it; `campaigns`, `trials` and
    `datasets` what used it, or was made from what did. `hidden` says of which models that cannot be told, because their
    history is damaged.
    """

    version: str
    record: str
    data: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    order: str = ""
    children: tuple[str, ...] = ()
    campaigns: tuple[str, ...] = ()
    trials: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


class Touched(Value, frozen=True):
    """A version that something has reached, and over what: the ids on the way, that something first."""

    version: Version
    way: tuple[str, ...]


Derived = Callable[[str], Iterable[Use]]


def before(version: Version, every: Iterable[Version]) -> tuple[str, ...]:
    """The records of the versions that it was made from, the nearest first, as far back as anybody has said."""
    by_record = {v.made.record: v for v in every}
    found = dict[str, None]()
    while version.made.parent:
        found |= dict.fromkeys((version.made.parent, *version.made.ancestors))
        if (parent := by_record.pop(version.made.parent, None)) is None:
            break
        version = parent
    return tuple(found)


def touched_by(id: str, every: Sequence[Version], derived: Derived) -> list[Touched]:
    """The versions that something has reached, in the order in which it did."""
    reached = {id: (id,)} | {use.id: (id, use.id) for use in derived(id) if use.kind != "trial"}
    found = dict[str, Touched]()
    while True:
        before = len(found)
        for version in every:
            if version.made.record in found:
                continue
            made = version.made
            sources = (*made.data, made.parent, *made.ancestors, made.record)
            if source := next((s for s in sources if s and s in reached), None):
                way = reached[source]
                found[version.made.record] = Touched(version=version, way=(*way, version.id))
                reached.setdefault(version.made.record, (*way, version.id))
        if len(found) == before:
            return list(found.values())


def lineage_of(
    version: Version, every: Sequence[Version], derived: Derived, hidden: Iterable[str] = ()
) -> Lineage:  # fmt: skip
    """Where a version comes from, and what became of it."""
    made = version.made
    uses = list(dict.fromkeys((*derived(made.record), *derived(version.id))))
    own = {v.made.record for v in every}
    return Lineage(
        version=version.id, record=made.record, data=made.data, parents=before(version, every),
        order=made.order, children=tuple(v.id for v in every if v.made.parent == made.record),
        campaigns=tuple(dict.fromkeys(use.campaign for use in uses if use.campaign)),
        trials=tuple(use.id for use in uses if use.kind == "trial"),
        datasets=tuple(use.id for use in uses if use.kind == "dataset" and use.id not in own),
        hidden=tuple(hidden),
    )  # fmt: skip
