"""The registry of a catalog: its files and records are the library's, its histories documents of the same store."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from firstlight.catalog import Card, Record
from firstlight.catalog.library import Library
from firstlight.models.registry import Kept, Registry, Use


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
        """All that was made from something, and from that."""
        for found in self.library.index.downstream(id):
            yield Use(id=found.record.id, kind=found.record.kind, campaign=found.record.campaign)


def open_registry(library: Library) -> Registry:
    """The models of a library; it is there as long as the library is open."""
    return Registry(library.store, CatalogShelf(library), library.root / "releases")
