"""Bytes kept by their digest, and documents by their name, in a directory or an object store."""

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Protocol, TypeVar

from firstlight.core import Unavailable

T = TypeVar("T")
Progress = Callable[[int], None]
"""Told how many more bytes have passed."""
_CHUNK = 1 << 20
_AT_ONCE = 16
"""Files that wait for the disk together."""
_OBJECTS = ("s3", "gs", "az")


class Damaged(OSError):
    """Bytes that are not those that their digest promises."""


class _Place(Protocol):
    """Where keys have bytes. Each appears whole or not at all."""

    def write(self, items: Sequence[tuple[str, Iterable[bytes]]]) -> None:
        """All of them are durable when it returns, and the first ones appear first."""
        ...

    def create(self, key: str, content: bytes) -> bool:
        """The same for one that must not be there yet: whether it was written."""
        ...

    def open(self, key: str) -> BinaryIO:
        """Raises FileNotFoundError."""
        ...

    def exists(self, key: str) -> bool: ...
    def keys(self, below: str) -> Iterator[str]: ...


class Store:
    """Bytes under `sha256/ab/ab12...`, documents under their names. Nothing that is kept by its digest ever changes.

    `address` is a directory, or an object store ("s3://bucket/prefix", with `options` such as `endpoint`), reached
    through fsspec and obstore, which takes credentials from the environment. Several processes may use one at once.
    Raises OSError where a disk refuses, `Unavailable` where a store cannot be reached.
    """

    def __init__(self, address: str | Path, options: Mapping[str, Any] | None = None) -> None:
        self.address = str(address)
        local = "://" not in self.address
        self._place: _Place = _Directory(Path(address)) if local else _Objects(self.address, options or {})

    @property
    def remote(self) -> bool:
        """Whether it is on another machine."""
        return isinstance(self._place, _Objects)

    # ------------------------------------------------------------------ bytes by digest

    def put(self, file: Path, progress: Progress | None = None) -> tuple[str, int]:
        """Take a file in; its digest and its size in bytes. Memory does not grow with it.

        Raises Damaged where it is changed meanwhile, OSError where it cannot be read.
        """
        digest, size = digest_of(file)
        self.put_all({digest: file}, progress=progress)
        return digest, size

    def put_bytes(self, content: bytes) -> str:
        """Take bytes in; their digest."""
        digest = digest_of_bytes(content)
        self.put_all({digest: content})
        return digest

    def put_all(
        self, contents: Mapping[str, Path | bytes], documents: Mapping[str, bytes] = MappingProxyType({}),
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        """Take in bytes by their digests, and then documents by their names: all of it waits for the disk together, and
        no document is there before the bytes. Raises as `put` does; then no document was kept."""
        items = list[tuple[str, Iterable[bytes]]]()
        for digest, content in contents.items():
            if not self.holds(digest):
                items.append((_key(digest), _content(content, digest, progress)))
            elif progress is not None:
                progress(len(content) if isinstance(content, bytes) else content.stat().st_size)
        self._place.write([*items, *((_named(name), [text]) for name, text in documents.items())])

    def holds(self, digest: str) -> bool:
        """Raises ValueError for what is no digest."""
        return self._place.exists(_key(digest))

    def open(self, digest: str) -> BinaryIO:
        """The bytes, to be read; they are not verified. Raises FileNotFoundError."""
        return self._place.open(_key(digest))

    def fetch(self, digest: str, to: Path, progress: Progress | None = None) -> None:
        """Copy bytes into a file, which is whole or not there. Raises Damaged, FileNotFoundError."""
        with closing(self.open(digest)) as source:
            chunks = _checked(_chunks(source, progress), digest, f"{self.address}/{_key(digest)}")
            write_file(to, chunks)

    def path(self, digest: str) -> Path | None:
        """Where the bytes are on this machine, None where they are elsewhere. Raises FileNotFoundError."""
        if not isinstance(self._place, _Directory):
            return None
        path = self._place.root / _key(digest)
        if not path.exists():
            raise FileNotFoundError(f"{path}: there is nothing of this digest")
        return path

    def check(self, digest: str) -> int:
        """Read all of it, and compare; its size. Raises Damaged, FileNotFoundError."""
        with closing(self.open(digest)) as source:
            return sum(map(len, _checked(_chunks(source), digest, f"{self.address}/{_key(digest)}")))

    # ------------------------------------------------------------------ documents by name

    def write(self, name: str, content: bytes) -> None:
        """Keep a document under its name, which may have "/" and leads nowhere else."""
        self._place.write([(_named(name), [content])])

    def create(self, name: str, content: bytes) -> bool:
        """Keep a document, unless there is one of this name: whether it was kept. Of several processes that create the
        same one at once, one keeps its own."""
        return self._place.create(_named(name), content)

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError."""
        with closing(self._place.open(_named(name))) as file:
            return file.read()

    def names(self, below: str) -> list[str]:
        """The names of all documents below this one, in order."""
        return sorted(self._place.keys(_named(below)))


class _Directory:
    """Files of this machine, synced to disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, items: Sequence[tuple[str, Iterable[bytes]]]) -> None:
        write_files([(self.root / key, chunks) for key, chunks in items])

    def create(self, key: str, content: bytes) -> bool:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        private = path.with_name(f".{path.name[:80]}-{os.getpid()}-{secrets.token_hex(4)}")
        try:
            _write((private, [content]))
            os.link(private, path)  # Which fails where there is one, and else shows a file that is whole.
        except FileExistsError:
            return False
        finally:
            private.unlink(missing_ok=True)
        sync_directory(path.parent)
        return True

    def open(self, key: str) -> BinaryIO:
        return open(self.root / key, "rb")

    def exists(self, key: str) -> bool:
        return (self.root / key).exists()

    def keys(self, below: str) -> Iterator[str]:
        for path in (self.root / below).rglob("*"):
            if path.is_file() and not path.name.startswith("."):
                yield path.relative_to(self.root).as_posix()


class _Objects:
    """Objects of a store, through fsspec."""

    def __init__(self, address: str, options: Mapping[str, Any]) -> None:
        protocol, _, path = address.partition("://")
        self._address, self._root = address, path.strip("/")
        self._options = options
        with self._reachable():
            self._fs = _file_system(protocol, options)

    def write(self, items: Sequence[tuple[str, Iterable[bytes]]]) -> None:
        for key, chunks in items:
            self._write(key, chunks)

    def _write(self, key: str, chunks: Iterable[bytes]) -> None:
        with self._reachable():
            file = self._fs.open(f"{self._root}/{key}", "wb")
            try:
                for chunk in chunks:
                    file.write(chunk)
            except BaseException:
                file.closed = True  # Closing it would make an object of what has come so far.
                raise
            file.close()

    def create(self, key: str, content: bytes) -> bool:
        with self._reachable():
            # fsspec has no word for it; obstore, which does the work below it, has.
            import obstore  # noqa: PLC0415
            from obstore.exceptions import AlreadyExistsError  # noqa: PLC0415
            from obstore.store import from_url  # noqa: PLC0415

            bucket, _, prefix = self._root.partition("/")
            protocol = self._address.partition("://")[0]
            make: Any = from_url
            store = make(f"{protocol}://{bucket}", config=dict(self._options), client_options=_client(self._options))
            try:
                obstore.put(store, f"{prefix}/{key}" if prefix else key, content, mode="create")
            except AlreadyExistsError:
                return False
            return True

    def open(self, key: str) -> BinaryIO:
        with self._reachable():
            if not self.exists(key):
                raise FileNotFoundError(f"{self._address}/{key}: there is no such object")
            opened: BinaryIO = self._fs.open(f"{self._root}/{key}", "rb")
            return opened

    def exists(self, key: str) -> bool:
        with self._reachable():
            return bool(self._fs.exists(f"{self._root}/{key}"))

    def keys(self, below: str) -> Iterator[str]:
        with self._reachable():
            try:
                found = list(self._fs.find(f"{self._root}/{below}"))
            except FileNotFoundError:
                return
        yield from (name.removeprefix(f"{self._root}/") for name in found)

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except (Unavailable, FileNotFoundError, Damaged):
            raise
        except Exception as error:
            # Each library of each store has errors of its own, and what they have in common is that it did not work.
            raise Unavailable(f"the store {self._address} cannot be used: {_first_line(error)}") from error


def _file_system(protocol: str, options: Mapping[str, Any]) -> Any:
    # Other file systems of fsspec show a file before it is whole.
    if protocol not in _OBJECTS:
        raise Unavailable(f"{protocol}:// is no store that is known: use a directory, or {', '.join(_OBJECTS)}")
    try:
        from obstore.fsspec import FsspecStore  # noqa: PLC0415 - few use it, and it takes a while to load
    except ImportError as error:
        raise Unavailable("object stores want obstore: pip install 'firstlight[data]'") from error
    make: Any = FsspecStore
    return make(protocol, config=dict(options), client_options=_client(options))


def _client(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"allow_http": str(options.get("endpoint", "")).startswith("http://")}


def write_file(path: Path, chunks: Iterable[bytes]) -> None:
    """Make a file hold these bytes, durably, at one stroke. Raises OSError."""
    write_files([(path, chunks)])


def write_files(files: Sequence[tuple[Path, Iterable[bytes]]]) -> None:
    """The same for several files, which wait for the disk together and appear in this order. Raises OSError; then the
    first ones may be there."""
    privates = [p.with_name(f".{p.name[:80]}-{os.getpid()}-{secrets.token_hex(4)}") for p, _ in files]
    directories = list(dict.fromkeys(path.parent for path, _ in files))
    for directory in directories:
        directory.mkdir(parents=True, exist_ok=True)
    try:
        _each(_write, [(private, chunks) for private, (_, chunks) in zip(privates, files, strict=True)])
        for private, (path, _) in zip(privates, files, strict=True):
            private.replace(path)
        _each(sync_directory, directories)
    finally:
        for private in privates:
            private.unlink(missing_ok=True)


def _write(of: tuple[Path, Iterable[bytes]]) -> None:
    path, chunks = of
    with open(path, "xb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o644)


def _each(work: Callable[[T], object], of: Sequence[T]) -> None:
    """The same for each, several at a time: what is synced together costs little more than one of it."""
    if len(of) < 2:
        for one in of:
            work(one)
        return
    with ThreadPoolExecutor(min(_AT_ONCE, len(of)), thread_name_prefix="store") as pool:
        list(pool.map(work, of))


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. Raises OSError."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def digest_of(file: Path) -> tuple[str, int]:
    """The digest of a file, and its size in bytes. Raises OSError."""
    with open(file, "rb") as source:
        return f"sha256:{hashlib.file_digest(source, 'sha256').hexdigest()}", source.tell()


def digest_of_bytes(content: bytes) -> str:
    """The digest of bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _content(content: Path | bytes, digest: str, progress: Progress | None) -> Iterable[bytes]:
    """The bytes of a file, which are read when they are wanted, or those that are given."""
    if isinstance(content, bytes):
        return [content]
    return _checked(_read(content, progress), digest, content)


def _read(file: Path, progress: Progress | None) -> Iterator[bytes]:
    with open(file, "rb") as source:
        yield from _chunks(source, progress)


def _chunks(source: BinaryIO, progress: Progress | None = None) -> Iterator[bytes]:
    while chunk := source.read(_CHUNK):
        yield chunk
        if progress is not None:
            progress(len(chunk))


def _checked(chunks: Iterable[bytes], digest: str, what: object) -> Iterator[bytes]:
    found = hashlib.sha256()
    for chunk in chunks:
        found.update(chunk)
        yield chunk
    if (made := f"sha256:{found.hexdigest()}") != digest:
        raise Damaged(f"{what} is {made}, and not {digest}: it was changed or damaged")


def _key(digest: str) -> str:
    kind, _, name = digest.partition(":")
    if kind != "sha256" or len(name) != 64 or not set(name) <= set("0123456789abcdef"):
        raise ValueError(f"{digest!r} is not a digest: sha256: and 64 hexadecimal digits")
    return f"{kind}/{name[:2]}/{name}"


def _named(name: str) -> str:
    if not name or any(part in ("", ".", "..") or part.startswith(".") for part in name.split("/")):
        raise ValueError(f"{name!r} cannot be the name of a document")
    return name


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
