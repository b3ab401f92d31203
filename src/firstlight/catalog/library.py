"""All that a catalog has: bytes, records, where they come from, and the index by which they are found."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from ._records import File, Record, digest_of_files
from ._trials import Shelves
from .index import Found, Index
from .store import Progress, Store, digest_of, digest_of_bytes

Convert = Callable[[float, str, str], float]
Files = Mapping[str, "Path | bytes | File"]
"""What is in a dataset: where each file is, or its bytes, or that they are kept already."""
Describe = Callable[[Record], Mapping[str, Any]]
"""How a dataset came to be, as a document."""

_record = msgspec.json.Decoder(Record)
_encode = msgspec.json.Encoder(order="deterministic").encode


class Retraction(msgspec.Struct, frozen=True):
    """Why something is not to be used any more, and who said so."""

    id: str
    reason: str
    by: str


class Library:
    """The datasets of one catalog: those of its campaigns, those that people added, those that came in packages.

    `root` has the rows of campaigns and the index; `store` (by default the same directory) has bytes, and a document a
    record, of which the index can be made anew. `index` is where the index is, if not in `root`: a PostgreSQL address.
    `lent` are stores of others that may have bytes which this one has not. Close it after use.
    """

    def __init__(
        self, root: Path | str, store: Store | None = None, index: str = "", convert: Convert | None = None,
        lent: Sequence[Store] = (),
    ) -> None:  # fmt: skip
        self.root = Path(root)
        self.store = store or Store(self.root)
        self._lent = tuple(lent)
        self._where, self._convert = index or self.root / "index.db", convert
        self._index: Index | None = None

    def __enter__(self) -> "Library":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the index."""
        if self._index is not None:
            self._index.close()
            self._index = None

    @property
    def index(self) -> Index:
        """By which all is found, every trial that has ended included. Raises Unavailable."""
        index = self._opened
        Shelves(self.root / "rows").catch_up(index)
        return index

    @property
    def _opened(self) -> Index:
        """The index, but for trials that have ended since."""
        if self._index is None:
            self._index = Index(self._where, self._convert)
            self._restore(self._index)
        return self._index

    # ------------------------------------------------------------------ what comes in

    def add(
        self, record: Record, files: Files, describe: Describe | None = None, progress: Progress | None = None
    ) -> Found:  # fmt: skip
        """Keep a dataset: `files` by their paths in it. Its digest, size, files and id follow from them. A `File` says
        that its bytes are here, or with one who lends them. `describe` says how it came to be, once that is known.

        What is synthetic upstream is synthetic here. Adding the same again changes nothing, and a crash in the middle
        leaves nothing that can be found. Raises OSError, Unavailable, ValueError for a path that leads out.
        """
        return self.add_all([(record, files)], describe, progress)[0]

    def add_all(
        self, datasets: Sequence[tuple[Record, Files]], describe: Describe | None = None,
        progress: Progress | None = None,
    ) -> list[Found]:  # fmt: skip
        """Keep many datasets, as `add` does each: all can be found, or none of those that are new. They wait for the
        disk together, which makes hundreds of them several times as quick as one after the other."""
        bytes_ = dict[str, Path | bytes]()
        records = list[Record]()
        for record, files in datasets:
            kept = [self._file(path, content, record, bytes_) for path, content in sorted(files.items())]
            records.append(self._whole(record, kept))
        documents = {}
        if describe is not None:
            documents = {_document("provenance", r.id): _encode(describe(r)) for r in records}
        return self._admit(records, bytes_, documents, progress)

    def admit(self, record: Record, provenance: Mapping[str, Any] | None = None) -> Found:
        """Take in a record as it is, whose bytes are here already (or nowhere). Raises ValueError where its id is known
        with another digest."""
        told = {} if provenance is None else {_document("provenance", record.id): _encode(provenance)}
        return self._admit([record], {}, told)[0]

    def _admit(
        self, records: Sequence[Record], contents: Mapping[str, Path | bytes], documents: Mapping[str, bytes],
        progress: Progress | None = None,
    ) -> list[Found]:  # fmt: skip
        known = {found.record.id for found in self._known([record.id for record in records])}
        new = {_document("records", r.id): _encode(r) for r in records if r.id not in known}
        self.store.put_all(contents, {**documents, **new}, progress)
        return self._opened.add(records)

    def _file(
        self, path: str, content: Path | bytes | File, record: Record, bytes_: dict[str, Path | bytes]
    ) -> File:  # fmt: skip
        """A file of a dataset; its bytes, where they are to be kept, are noted by their digest."""
        if path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")):
            raise ValueError(f"{path!r} cannot be the path of a file in a dataset: it leads out of it")
        if isinstance(content, File):
            # Where our bytes are elsewhere, whoever reads them there finds nothing of what is lent to us here.
            if self.store.remote and not self.store.holds(content.digest):
                bytes_[content.digest] = self.file(content)
            return content
        if isinstance(content, bytes):
            digest, size = digest_of_bytes(content), len(content)
        else:
            digest, size = digest_of(content)
        bytes_[digest] = content
        told = next((file.media_type for file in record.files if file.path == path), "")
        return File(path=path, digest=digest, size=size, media_type=told)

    def _whole(self, record: Record, files: Sequence[File]) -> Record:
        """A record with what follows from its files and from what it was made of."""
        digest = digest_of_files(files)
        return replace(
            record, files=tuple(files), digest=digest, size=sum(file.size for file in files),
            id=f"{record.name}@{digest.removeprefix('sha256:')[:12]}",
            synthetic=record.synthetic or any(found.record.synthetic for found in self._known(record.used)),
        )  # fmt: skip

    def retract(self, id: str, reason: str, by: str) -> list[Found]:
        """Say that something is not to be used any more; all that was made from it. Raises LookupError, ValueError."""
        found = self._opened.get(id)
        down = self._opened.retract(found.record.id, reason, by)
        found = self._opened.get(found.record.id)  # What was said first stands, in the index and beside it.
        said = Retraction(found.record.id, found.retracted, found.by)
        self.store.write(_document("retracted", said.id), _encode(said))
        return down

    # ------------------------------------------------------------------ what goes out

    def file(self, file: File) -> Path:
        """A file of a record on this machine; what is elsewhere is fetched once. Raises FileNotFoundError, Damaged."""
        for store in (self.store, *self._lent):
            if store.holds(file.digest):
                path = store.path(file.digest)
                return path if path is not None else self._fetched(store, file.digest)
        raise FileNotFoundError(f"{file.path} ({file.digest}) is not in this catalog: only its record is")

    def holds(self, digest: str) -> bool:
        """Whether bytes are here, or with one who lends them."""
        return any(store.holds(digest) for store in (self.store, *self._lent))

    def newest(self, names: Iterable[str]) -> Iterator[str]:
        """The ids of the newest versions of these names, where there are any."""
        yield from (found.record.id for found in self._known(tuple(names)))

    def files(self, record: Record) -> dict[str, Path]:
        """All its files on this machine, by their paths in it. Raises FileNotFoundError, Damaged."""
        return {file.path: self.file(file) for file in record.files}

    def tables(self, record: Record) -> list[Path]:
        """Its Parquet files. Raises FileNotFoundError, Damaged."""
        return [self.file(file) for file in record.files if file.path.endswith(".parquet")]

    def provenance(self, id: str) -> dict[str, Any] | None:
        """How it came to be, as it was kept with it; None where nothing was."""
        try:
            found: dict[str, Any] = msgspec.json.decode(self.store.read(_document("provenance", id)))
        except FileNotFoundError:
            return None
        return found

    def verify(self, record: Record) -> None:
        """Read all its bytes, and compare them with their digests. Raises Damaged, FileNotFoundError."""
        for file in record.files:
            store = next((s for s in (self.store, *self._lent) if s.holds(file.digest)), self.store)
            store.check(file.digest)

    # ------------------------------------------------------------------

    def _known(self, ids: Sequence[str]) -> Iterator[Found]:
        for id in ids:
            try:
                yield self._opened.get(id)
            except LookupError:
                continue

    def _fetched(self, store: Store, digest: str) -> Path:
        path = self.root / "fetched" / digest.removeprefix("sha256:")
        if not path.exists():
            store.fetch(digest, path)
        return path

    def _restore(self, index: Index) -> None:
        """Make an index that has nothing of what is kept."""
        if index.count():
            return
        records = [_record.decode(self.store.read(name)) for name in self.store.names("records")]
        index.add(sorted(records, key=lambda r: (r.created, r.id)))
        for name in self.store.names("retracted"):
            said = msgspec.json.decode(self.store.read(name), type=Retraction)
            index.retract(said.id, said.reason, said.by)


def _document(kind: str, id: str) -> str:
    name = quote(id, safe="@ ")
    return f"{kind}/{name.replace('.', '%2E', 1) if name.startswith('.') else name}.json"
