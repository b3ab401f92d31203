"""The registry of a catalog: its files and records are the library's, its histories documents of the same store."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from firstlight.catalog import Card, Record
from firstlight.catalog.index import Query
from firstlight.catalog.library import Library
from firstlight.core import LoadedModel, Unusable
from firstlight.models import family_at
from firstlight.models.registry import Kept, Registry, Use

_MOST = 100_000
"""Trials and datasets that are named as chosen by one version."""


class CatalogShelf:
    """The library, as a registry sees it."""

    def __init__(self, library: Library) -> None:
        self.library = library

    def keep(self, told: Kept, files: Mapping[str, Path | bytes]) -> str:
        """Keep the files of a model; the id of its record."""
        card = Card(title=told.title, description=told.description, licence=told.licence)
        record = Record(
            id="", name=told.name, digest="", kind="model", card=card, used=told.used, software=told.software,
            synthetic=told.synthetic, provider=told.origin, tags={"family": told.family} if told.family else {},
        )  # fmt: skip
        return self.library.add(record, files).record.id

    def files(self, record: str) -> Mapping[str, Path]:
        """Its files on this machine by their paths. Raises LookupError, OSError."""
        return self.library.files(self.library.index.get(record).record)

    def derived(self, id: str) -> Iterable[Use]:
        """All that was made from something, and from that; or what a version of a model has chosen."""
        chosen = Query(where={"model": (id,)}, every=True)
        for found in (*self.library.index.downstream(id), *self.library.index.search(chosen, _MOST, facets=()).found):
            yield Use(id=found.record.id, kind=found.record.kind, campaign=found.record.campaign)


class UsableModels:
    """Registered models for decisions, loaded once each; whether one was revoked is looked up every time."""

    def __init__(self, opened: Callable[[], AbstractContextManager[tuple[Library, Registry]]]) -> None:
        self._opened = opened
        self._loaded = dict[str, LoadedModel]()

    async def choose(self, name: str) -> str:
        """The version that a name means now. Raises core.Unusable."""
        return await asyncio.to_thread(self._choose, name)

    async def load(self, version: str) -> LoadedModel:
        """A version for use. Raises core.Unusable."""
        return await asyncio.to_thread(self._load, version)

    def _choose(self, name: str) -> str:
        with self._opened() as (_, registry), told():
            version = registry.resolve(name)
            registry.load_checked(version)
            return version.id

    def _load(self, id: str) -> LoadedModel:
        with self._opened() as (_, registry), told():
            folder = registry.load_checked(registry.resolve(id))
            if id not in self._loaded:
                self._loaded[id] = LoadedModel(version=id, of=family_at(folder).load(folder))
            return self._loaded[id]


@contextmanager
def told() -> Iterator[None]:
    """Whatever keeps a model from being used is said in the one way that the loop knows."""
    try:
        yield
    except (LookupError, OSError, ValueError) as error:
        raise Unusable(str(error)) from error


def open_registry(library: Library) -> Registry:
    """The models of a library; it is there as long as the library is open."""
    return Registry(library.store, CatalogShelf(library), library.root / "releases")
