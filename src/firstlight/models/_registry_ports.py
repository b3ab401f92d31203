"""What a registry of models needs of others: where histories are kept, and the catalog as far as models are in it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from firstlight.core import Value

from ._registry_links import Use


class Documents(Protocol):
    """Where histories are kept: documents by name."""

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError."""
        ...

    def names(self, below: str) -> list[str]:
        """The names of all documents below this one, in order."""
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Keep a document durably, unless there is one of that name: whether it was kept."""
        ...


class Kept(Value, frozen=True):
    """What the catalog is told of a model: what it is called, what it was made from (ids), and by what."""

    name: str
    title: str = ""
    description: str = ""
    licence: str = ""
    family: str = ""
    used: tuple[str, ...] = ()
    synthetic: bool = False
    software: dict[str, str] = {}
    origin: str = ""


class Shelf(Protocol):
    """The catalog, as far as models need it."""

    def keep(self, told: Kept, files: Mapping[str, Path | bytes]) -> str:
        """Keep the files of a model; the id of its record. The same files under the same name have the same id."""
        ...

    def files(self, record: str) -> Mapping[str, Path]:
        """Its files on this machine by their paths. Raises LookupError, OSError."""
        ...

    def derived(self, id: str) -> Iterable[Use]:
        """All that was made from something (an id of the catalog), and from that; or what a version of a model (its id)
        has chosen."""
        ...


class Shunned(Value, frozen=True):
    """What another site has revoked, whether or not it is here: the record, and the digest of its weights."""

    record: str
    weights: str
    reason: str
    by: str
    at: float
