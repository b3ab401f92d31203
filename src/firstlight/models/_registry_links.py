"""How versions hang together: with the data they learned from, with one another, and with the trials they served."""

from collections.abc import Callable, Iterable, Iterator, Sequence

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
    `datasets` what used it, or was made from what did.
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


class Touched(Value, frozen=True):
    """A version that something has reached, and over what: the ids on the way, that something first."""

    version: Version
    way: tuple[str, ...]


Derived = Callable[[str], Iterable[Use]]


def ancestors(version: Version, every: Sequence[Version]) -> Iterator[Version]:
    """The versions that it was made from, the nearest first, as far as they are here."""
    by_record = {v.made.record: v for v in every}
    seen = {version.made.record}
    while (parent := by_record.get(version.made.parent)) is not None and parent.made.record not in seen:
        seen.add(parent.made.record)
        yield parent
        version = parent


def touched_by(id: str, every: Sequence[Version], derived: Derived) -> list[Touched]:
    """The versions that something has reached, in the order in which it did."""
    reached = {id: (id,)} | {use.id: (id, use.id) for use in derived(id) if use.kind != "trial"}
    found = dict[str, Touched]()
    while True:
        before = len(found)
        for version in every:
            if version.made.record in found:
                continue
            sources = (*version.made.data, version.made.parent, version.made.record)
            if source := next((s for s in sources if s and s in reached), None):
                way = reached[source]
                found[version.made.record] = Touched(version=version, way=(*way, version.id))
                reached.setdefault(version.made.record, (*way, version.id))
        if len(found) == before:
            return list(found.values())


def lineage_of(version: Version, every: Sequence[Version], derived: Derived) -> Lineage:
    """Where a version comes from, and what became of it."""
    made = version.made
    uses = list(dict.fromkeys((*derived(made.record), *derived(version.id))))
    own = {v.made.record for v in every}
    parents = [v.made.record for v in ancestors(version, every)]
    return Lineage(
        version=version.id, record=made.record, data=made.data, parents=tuple(parents or filter(None, [made.parent])),
        order=made.order, children=tuple(v.id for v in every if v.made.parent == made.record),
        campaigns=tuple(dict.fromkeys(use.campaign for use in uses if use.campaign)),
        trials=tuple(use.id for use in uses if use.kind == "trial"),
        datasets=tuple(use.id for use in uses if use.kind == "dataset" and use.id not in own),
    )  # fmt: skip
