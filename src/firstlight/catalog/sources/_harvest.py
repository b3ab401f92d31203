"""All of something, page by page: what has come is on disk before more is asked for."""

import asyncio
import fcntl
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time
from typing import Any

import msgspec

from firstlight.core import Value

from ..index import Card, File, Record, digest_of_files
from ..store import digest_of_bytes, write_file
from ._answer import Progress, Unreachable
from ._said import UNREADABLE
from ._structures import Entry, Tabled, tabled

PAGES, STRUCTURES, TABLE, RECORD = "pages.jsonl", "structures.jsonl", "structures.parquet", "record.json"


class PageOfStructures(msgspec.Struct):
    """One page as it came: each structure as its own JSON text."""

    data: list[msgspec.Raw]
    links: dict[str, Any] = {}
    meta: dict[str, Any] = {}

    @property
    def next(self) -> str:
        """The address of the next page, "" after the last one."""
        link = self.links.get("next")
        link = link.get("href") if isinstance(link, dict) else link
        return link if isinstance(link, str) else ""


class Harvest(Value, frozen=True):
    """What is brought: all that matches `filter` at `address`, in the order of ids where `sorted`."""

    provider: str
    address: str
    filter: str
    sorted: bool
    properties: dict[str, dict[str, Any]]
    card: Card

    @property
    def what(self) -> tuple[str, str, bool]:
        return self.address, self.filter, self.sorted


class _Line(msgspec.Struct):
    """One page, the address of the one that follows it ("" after the last one), and the total that its server tells."""

    structures: list[msgspec.Raw]
    next: str
    total: int = 0


class _Finished(Value, frozen=True):
    head: Harvest
    record: Record


_head = msgspec.json.Decoder(Harvest)
_line = msgspec.json.Decoder(_Line)
_entry = msgspec.json.Decoder(Entry)


class _Pages:
    """The file to which pages are appended. A page counts once it is synced; a torn one is cut off."""

    def __init__(self, path: Path, head: Harvest) -> None:
        self._path, self.head = path, head
        self.next, self.count, self.total, self.ended = "", 0, 0, False
        good = 0
        for line in self._lines():
            good += len(line)
            if good == len(line):
                self.head = _head.decode(line)
                if self.head.what != head.what:
                    raise ValueError(f"{path.parent} has another harvest: {self.head.filter or 'of everything'}")
                continue
            self._learn(_line.decode(line))
        if good == 0:
            write_file(path, [msgspec.json.encode(head) + b"\n"])
        elif good < path.stat().st_size:
            os.truncate(path, good)

    def add(self, page: PageOfStructures) -> None:
        """Make a page durable. Raises OSError."""
        total = page.meta.get("data_returned")
        line = _Line(
            [_on_one_line(raw) for raw in page.data], page.next, total if isinstance(total, int) else self.total
        )
        with open(self._path, "ab", buffering=0) as file:
            content = msgspec.json.encode(line) + b"\n"
            before = file.seek(0, os.SEEK_END)
            if file.write(content) != len(content):
                file.truncate(before)
                raise OSError(f"{self._path}: the disk took only a part of a page")
            os.fsync(file.fileno())
        self._learn(line)

    def _learn(self, line: _Line) -> None:
        self.next, self.total, self.ended = line.next, line.total, not line.next
        self.count += len(line.structures)

    def structures(self) -> Iterator[bytes]:
        """Each structure once, as it came."""
        seen = set[str]()
        for n, line in enumerate(self._lines()):
            for raw in _line.decode(line).structures if n else ():
                id = _entry.decode(raw).id
                if id not in seen:
                    seen.add(id)
                    yield bytes(raw)

    def _lines(self) -> Iterator[bytes]:
        """The lines up to the first that is not whole: what follows that is brought again."""
        if not self._path.exists():
            return
        with open(self._path, "rb") as file:
            for n, line in enumerate(file):
                try:
                    (_line if n else _head).decode(line)
                except UNREADABLE:
                    return
                if not line.endswith(b"\n"):
                    return
                yield line


def _on_one_line(raw: msgspec.Raw) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.format(bytes(raw), indent=-1)) if b"\n" in bytes(raw) else raw


async def brought(
    head: Harvest, to: Path, page: Callable[[str], Awaitable[PageOfStructures]],
    fails: Callable[[str, str], Unreachable], progress: Progress,
) -> Record:  # fmt: skip
    """All pages, the first at "", into the directory `to`. `fails` makes an error of what happened and what to do.
    Raises ValueError where the directory has another harvest in it or is in use."""
    try:
        await asyncio.to_thread(to.mkdir, parents=True, exist_ok=True)
        with _alone(to):
            if (finished := await asyncio.to_thread(_finished, to, head)) is not None:
                return finished
            pages = await asyncio.to_thread(_Pages, to / PAGES, head)
            seen = {pages.next}
            while not pages.ended:
                new = await page(pages.next)
                if new.next and new.next in seen:
                    raise fails("its pages lead in circles", "tell the provider")
                for raw in new.data:
                    _entry.decode(raw)
                await asyncio.to_thread(pages.add, new)
                seen.add(new.next)
                progress(pages.count, pages.total)
            return await asyncio.to_thread(_finish, to, pages)
    except UNREADABLE as error:
        raise fails(f"what came is no structure ({error})", "tell the provider") from None
    except OSError as error:
        raise fails(f"{to} cannot be used ({error})", "make room: it goes on where it stands") from None


@contextmanager
def _alone(to: Path) -> Iterator[None]:
    """Nobody else harvests into this directory; the lock goes with the process that has it."""
    with open(to / ".lock", "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"somebody else harvests into {to} just now: wait, or choose another directory") from None
        yield


def _finished(to: Path, head: Harvest) -> Record | None:
    """What an earlier call has brought, if it is all there."""
    try:
        found = msgspec.json.decode((to / RECORD).read_bytes(), type=_Finished)
    except FileNotFoundError:
        return None
    except UNREADABLE:
        raise ValueError(f"{to / RECORD} is not of a harvest: choose another directory") from None
    if found.head.what != head.what:
        raise ValueError(f"{to} has another harvest: {found.head.filter or 'of everything'}")
    for file in found.record.files:
        if not (to / file.path).is_file() or (to / file.path).stat().st_size != file.size:
            raise ValueError(f"{to / file.path} is not as it was brought: harvest into another directory")
    return found.record


def _finish(to: Path, pages: _Pages) -> Record:
    """The files, then the record, then no more pages: whatever is killed between them is done again."""
    structures = _written(to / STRUCTURES, pages.structures())
    table = tabled(_lines_of(to / STRUCTURES), pages.head.properties)
    write_file(to / TABLE, [table.content])
    digest = digest_of_bytes(table.content)
    parquet = File(path=TABLE, digest=digest, size=len(table.content), media_type="application/vnd.apache.parquet")
    record = _record(pages, table, (structures, parquet))
    write_file(to / RECORD, [msgspec.json.encode(_Finished(head=pages.head, record=record))])
    (to / PAGES).unlink()
    return record


def _written(path: Path, lines: Iterator[bytes]) -> File:
    digest, size, private = hashlib.sha256(), 0, path.with_name(f".{path.name}")
    with open(private, "wb") as out:
        for line in lines:
            digest.update(line + b"\n")
            size += out.write(line + b"\n")
        out.flush()
        os.fsync(out.fileno())
    os.replace(private, path)
    return File(path=path.name, digest=f"sha256:{digest.hexdigest()}", size=size, media_type="application/jsonl")


def _lines_of(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        yield from file


def _record(pages: _Pages, table: Tabled, files: tuple[File, ...]) -> Record:
    head, digest = pages.head, digest_of_files(files)
    name = f"{head.provider}/structures" + (f"?{head.filter}" if head.filter else "")
    description = f"All structures at {head.address}" + (f" with {head.filter}." if head.filter else ".")
    if pages.total and pages.total != table.rows:
        description += f" The provider says that there are {pages.total}; {table.rows} came."
    return Record(
        id=f"{name}@{digest.removeprefix('sha256:')[:12]}", name=name, digest=digest, rows=table.rows, files=files,
        size=sum(f.size for f in files), variables=table.variables, elements=table.elements, created=table.created,
        provider=head.provider, address=f"{head.address}/structures", retrieved=time(),
        card=msgspec.structs.replace(head.card, description=description),
    )  # fmt: skip
