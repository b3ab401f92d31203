"""The one contract, kept by every catalog."""

from pathlib import Path

from firstlight import core
from firstlight.catalog import FileCatalog
from firstlight.testing.catalog import CatalogContract, MemoryCatalog


class TestMemoryCatalog(CatalogContract):
    lasting = False

    def make(self, place: Path) -> core.Catalog:
        return MemoryCatalog()


class TestFileCatalog(CatalogContract):
    def make(self, place: Path) -> core.Catalog:
        return FileCatalog(place / "catalog")
