"""Other people's data beside ours: searched at once, brought here, and published there."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from firstlight import plugins
from firstlight.app import App
from firstlight.catalog import sources
from firstlight.catalog.index import Query, Record
from firstlight.catalog.library import Library

OURS = "here"
"""Our own catalog, among sources."""


class Ours:
    """Our own catalog as one source among others."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self.address = library.store.address

    async def search(self, query: Query, limit: int, cursor: str = "") -> sources.Answer:
        """Datasets that are here."""
        where = {"kind": ("dataset", "model", "asset"), **query.where}
        wanted = replace(query, where=where)
        page = await asyncio.to_thread(self._library.index.search, wanted, limit, int(cursor or 0), ())
        # What came from elsewhere keeps its origin, and what is ours says so.
        records = tuple(replace(f.record, provider=f.record.provider or OURS) for f in page.found)
        return sources.Answer(records=records, cursor=str(page.after or ""), total=page.total)

    async def fetch(self, id: str, to: Path, progress: sources.Progress = lambda done, total: None) -> Record:
        """Copy its files out. Raises LookupError."""
        record = self._library.index.get(id).record
        for file in record.files:
            await asyncio.to_thread(self._library.store.fetch, file.digest, to / file.path)
        return record

    async def close(self) -> None:
        """Nothing is held."""


def source(app: App, name: str) -> sources.Source:
    """A source that the settings name; whoever asks closes it. Raises UnknownPart or BrokenPart."""
    options = dict(app.settings.sources.get(name, {}))
    if not options:
        there = ", ".join(app.settings.sources) or "none yet"
        raise plugins.UnknownPart(f"there is no source {name!r} (there are: {there}); `firstlight source add` adds one")
    made: sources.Source = plugins.make("sources", str(options.pop("kind", name)), {"name": name, **options})
    return made


async def search(
    app: App, query: Query, limit: int, patience: float, names: Sequence[str] = (), age: float = 0.0
) -> AsyncIterator[sources.Heard]:  # fmt: skip
    """What our own catalog and others' say, each as it comes; `sources.merge` makes one answer of it.

    `names` are the sources that are asked (all, if none is given, and ours). An answer that is not older than `age`
    seconds is not asked for again, and one of any age stands in for a source that fails.
    """
    asked = dict[str, sources.Source]()
    with app.library() as library:
        try:
            for name in names or (OURS, *app.settings.sources):
                asked[name] = Ours(library) if name == OURS else source(app, name)
            cache = sources.Cache(app.settings.data_dir / "catalog" / "answers")
            async for heard in sources.answers(asked, query, limit, patience, cache, age=age):
                yield heard
        finally:
            for one in asked.values():
                await one.close()


async def fetch(app: App, name: str, id: str, to: Path, progress: sources.Progress) -> Record:
    """Bring what a source has into a directory, which it keeps until all is there. Raises Unreachable, LookupError."""
    made = source(app, name)
    try:
        return await made.fetch(id, to, progress)
    finally:
        await made.close()


async def fetch_address(address: str, to: Path, progress: sources.Progress) -> Record:
    """Bring a file from an address of the web into a directory. Raises Unreachable, LookupError."""
    made: sources.Source = plugins.make("sources", "web", {"name": "web", "url": address, "private": True})
    try:
        return await made.fetch(address, to, progress)
    finally:
        await made.close()


async def harvest(app: App, name: str, query: Query, to: Path, progress: sources.Progress) -> Record:
    """Bring all that a source finds into a directory, page by page, and go on where that stood. Raises Unreachable, and
    ValueError where a source gives no more than one thing at a time."""
    made: Any = source(app, name)
    try:
        if not hasattr(made, "harvest"):
            raise ValueError(f"{name} gives one thing at a time: add {name}/ID")
        record: Record = await made.harvest(query, to, progress)
        return record
    finally:
        await made.close()


async def publish(app: App, name: str, id: str) -> str:
    """Publish a dataset at a source that takes some, and say at which address. Raises Unreachable, ValueError."""
    made: Any = source(app, name)
    try:
        if not hasattr(made, "publish"):
            raise ValueError(f"{name} takes no data from others: a Tiled server does")
        with app.library() as library:
            record = library.index.get(id).record
            if record.card.sensitivity not in ("", "Public", "Unclassified_Uncontrolled"):
                raise ValueError(f"{record.id} is {record.card.sensitivity}, and stays here")
            address: str = await made.publish(record, library.files(record), record.id)
        return address
    finally:
        await made.close()
