"""One query over many sources: asked at once, each with the same patience, and none holds up the others."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest

import msgspec

from firstlight.core import Value

from ..index import Query, Record
from ._answer import Answer, Source
from ._cache import Cache, Kept
from ._match import unknown, unmet

_GRACE = 0.2
"""Seconds for what was cancelled to end. What goes on nevertheless is not waited for."""


class Heard(Value, frozen=True):
    """What came of asking one source: its answer or why there is none, or both, where an old answer stands in.

    `as_of` is when the answer came (seconds since 1970 UTC), 0 where it is of now.
    """

    provider: str
    answer: Answer | None = None
    failed: str = ""
    as_of: float = 0.0
    notes: tuple[str, ...] = ()


class Hit(Value, frozen=True):
    """A record, and the same data as others offer them."""

    record: Record
    also: tuple[Record, ...] = ()

    @property
    def origins(self) -> tuple[str, ...]:
        """Whose catalogs it is in."""
        return tuple(dict.fromkeys(r.provider for r in (self.record, *self.also)))


class Merged(Value, frozen=True):
    """What all sources found, the best of each first.

    `totals` is how much each has in all (None: it does not say), `cursors` where each of them goes on, `failed` why
    some did not answer, `dates` when answers came that stand in for those. `notes` are for people.
    """

    hits: tuple[Hit, ...] = ()
    totals: dict[str, int | None] = {}
    cursors: dict[str, str] = {}
    failed: dict[str, str] = {}
    dates: dict[str, float] = {}
    notes: tuple[str, ...] = ()


async def search(
    sources: Mapping[str, Source], query: Query, limit: int, patience: float, cache: Cache | None = None, *,
    age: float = 0.0, cursors: Mapping[str, str] | None = None,
) -> Merged:  # fmt: skip
    """At most `limit` records of each source, merged; `answers` says what the arguments mean. Does not raise where
    sources fail: they are named in `failed`."""
    heard = [h async for h in answers(sources, query, limit, patience, cache, age=age, cursors=cursors)]
    heard.sort(key=lambda h: list(sources).index(h.provider))
    return merge(heard, query)


async def answers(
    sources: Mapping[str, Source], query: Query, limit: int, patience: float, cache: Cache | None = None, *,
    age: float = 0.0, cursors: Mapping[str, str] | None = None,
) -> AsyncIterator[Heard]:  # fmt: skip
    """What each source says, as it comes: the next page of those with a cursor in `cursors`, where that is given.

    Whoever has not answered after `patience` seconds has failed. An answer that is kept and not older than `age`
    seconds is taken without asking; one of any age stands in for a source that fails.
    """
    if limit < 1 or patience <= 0:
        raise ValueError("limit must be at least 1 and patience more than 0 seconds")
    if cursors is not None:
        sources = {name: source for name, source in sources.items() if cursors.get(name)}
    if wanted := query.where.get("provider"):
        sources = {name: source for name, source in sources.items() if name in wanted}
    where = {facet: values for facet, values in query.where.items() if facet != "provider"}
    query = msgspec.structs.replace(query, where=where)
    until = time.monotonic() + patience
    places = {name: (cursors or {}).get(name, "") for name in sources}
    keys = {name: Cache.key(name, source.address, query, limit, places[name]) for name, source in sources.items()}
    fresh = await _fresh(keys, cache, age)
    asked = {
        asyncio.create_task(source.search(query, limit, places[name]), name=f"search {name}"): name
        for name, source in sources.items()
        if name not in fresh
    }
    try:
        # Only now that everybody is at work, as whoever listens may take his time.
        for name, kept in fresh.items():
            yield Heard(provider=name, answer=kept.answer, as_of=kept.date)
        while asked:
            rest = max(0.0, until - time.monotonic())
            done, _ = await asyncio.wait(asked, timeout=rest, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            for task in done:
                yield await _heard(asked.pop(task), task, keys, cache)
        for task, name in list(asked.items()):
            task.cancel()
            yield await _stand_in(name, f"{name} has not answered within {patience:g} s", keys, cache)
    finally:
        for task in asked:
            task.cancel()
            task.add_done_callback(_seen)
        if asked:
            await asyncio.wait(asked, timeout=_GRACE)


async def _fresh(keys: Mapping[str, str], cache: Cache | None, age: float) -> dict[str, Kept]:
    """Answers that are young enough to be taken without asking."""
    if cache is None or age <= 0:
        return {}
    kept = {name: await asyncio.to_thread(cache.get, key, age) for name, key in keys.items()}
    return {name: answer for name, answer in kept.items() if answer is not None}


def _seen(task: asyncio.Task[Answer]) -> None:
    """What comes of it too late is of no interest, and no complaint either."""
    if not task.cancelled():
        task.exception()


async def _heard(name: str, task: asyncio.Task[Answer], keys: Mapping[str, str], cache: Cache | None) -> Heard:
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if error is not None:
        return await _stand_in(name, str(error) or f"{name}: {type(error).__name__}", keys, cache)
    answer = task.result()
    notes: tuple[str, ...] = ()
    if cache is not None:
        try:
            await asyncio.to_thread(cache.put, keys[name], answer)
        except OSError as failure:
            notes = (f"the answer of {name} could not be kept: {failure}",)
    return Heard(provider=name, answer=answer, notes=notes)


async def _stand_in(name: str, why: str, keys: Mapping[str, str], cache: Cache | None) -> Heard:
    kept = None if cache is None else await asyncio.to_thread(cache.get, keys[name])
    if kept is None:
        return Heard(provider=name, failed=why)
    return Heard(provider=name, answer=kept.answer, failed=why, as_of=kept.date)


def merge(heard: Sequence[Heard], query: Query) -> Merged:
    """All answers as one: the first of each, then the second of each; what a source could not apply of the query is
    applied here, as far as its records tell."""
    notes, ranks = list[str](), list[list[Record]]()
    for h in heard:
        notes += h.notes
        if h.as_of:
            notes.append(f"{h.provider}: as of {datetime.fromtimestamp(h.as_of, UTC).date().isoformat()}")
        if h.answer is None:
            continue
        notes += (f"{h.provider}: {note}" for note in h.answer.notes)
        kept = [record for record in h.answer.records if not unmet(record, h.answer.left)]
        ranks.append(kept)
        notes += _unchecked(h.provider, kept, h.answer.left)
    answered = [(h.provider, h.answer) for h in heard if h.answer is not None]
    return Merged(
        hits=tuple(_folded(record for rank in zip_longest(*ranks) for record in rank if record is not None)),
        totals={name: answer.total for name, answer in answered},
        cursors={name: answer.cursor for name, answer in answered if answer.cursor},
        failed={h.provider: h.failed for h in heard if h.failed},
        dates={h.provider: h.as_of for h in heard if h.as_of},
        notes=tuple(notes),
    )  # fmt: skip


def _unchecked(provider: str, records: Sequence[Record], left: Query) -> Iterable[str]:
    counts = dict[str, int]()
    for record in records:
        for part in unknown(record, left):
            counts[part] = counts.get(part, 0) + 1
    return (f"{provider} cannot search by {part}: {count} answers unchecked" for part, count in counts.items())


def _folded(records: Iterable[Record]) -> list[Hit]:
    """The same data are one hit: those with the same digest or DOI. Two records of one provider never are: many of
    them may cite one DOI."""
    found = list[list[Record]]()
    at = dict[str, list[int]]()
    for record in records:
        same = _identities(record)
        places = (place for identity in same for place in at.get(identity, ()))
        place = next((p for p in places if all(_foreign(record, other) for other in found[p])), len(found))
        if place == len(found):
            found.append([])
        if record not in found[place]:
            found[place].append(record)
        for identity in same:
            at.setdefault(identity, []).append(place)
    return [Hit(record=first, also=tuple(others)) for first, *others in found]


def _foreign(one: Record, other: Record) -> bool:
    return one.provider != other.provider or one.id == other.id


def _identities(record: Record) -> list[str]:
    doi = doi_of(record.card.citation)
    return [f"id {record.id}", *([record.digest] if record.digest else []), *([f"doi {doi}"] if doi else [])]


def doi_of(text: str) -> str:
    """The DOI that a text is, in lower case: "10.1/x", "doi:10.1/x" or its address; "" where it is none."""
    bare = text.strip().casefold()
    for prefix in ("https://", "http://", "dx.", "doi.org/", "doi:"):
        bare = bare.removeprefix(prefix).strip()
    return bare if bare.startswith("10.") and "/" in bare and " " not in bare else ""
