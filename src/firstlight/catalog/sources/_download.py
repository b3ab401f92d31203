"""Files brought here whole, going on where it broke off."""

import asyncio
import hashlib
import os
import re
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from firstlight.core import Value

from ..index import File
from ..store import digest_of, digest_of_bytes, write_file
from ._answer import Progress, silent
from ._httpx import httpx
from ._said import UNREADABLE
from ._wire import Params, Wire, shown

MANIFEST = ".fetched.json"
"""What has been brought into a directory, and from where, so that it is not brought again."""


class Fetched(Value, frozen=True):
    """One file, and what its server called this version of it."""

    file: File
    validator: str = ""


class _Part(Value, frozen=True):
    """A file that is not whole yet."""

    key: str
    validator: str
    name: str
    media_type: str
    total: int = 0


class _Wanted(NamedTuple):
    """What is asked for: `key` stands for its address and parameters, `part` where it is while it is not whole."""

    key: str
    url: str
    params: Params
    part: Path
    name: str
    digest: str
    then: Callable[[bytes], bytes] | None


class Basket:
    """A directory into which files are brought. One at a time: two must not fill one directory at once."""

    def __init__(self, wire: Wire, to: Path, most: int, progress: Progress = silent) -> None:
        """`most` bounds the bytes of each file."""
        self._wire, self._to, self._most, self._progress = wire, Path(to), most, progress
        self._fetched: dict[str, Fetched] = {}
        self._before = 0

    async def open(self) -> "Basket":
        """Make the directory, or see what is in it. Raises `Unreachable` where that cannot be."""
        try:
            await asyncio.to_thread(self._to.mkdir, parents=True, exist_ok=True)
            content = await asyncio.to_thread(_read, self._to / MANIFEST)
        except OSError as error:
            raise self._wire.fails(f"{self._to} cannot be used ({error})", "choose another directory") from None
        try:
            self._fetched = msgspec.json.decode(content, type=dict[str, Fetched]) if content else {}
        except UNREADABLE:
            self._fetched = {}
        return self

    async def bring(
        self, url: str, *, name: str = "", digest: str = "", params: Params = (),
        then: Callable[[bytes], bytes] | None = None,
    ) -> File:  # fmt: skip
        """One file, under `name` or what its server calls it. `digest` ("sha256:...") is what must come; `then` makes
        of that what is kept.

        Raises `Unreachable` where it cannot be had or is another file, LookupError where there is none. What came
        stays, and the next call goes on there, where the server knows how to (RFC 9110, section 14).
        """
        # An address may have a signature in it, which is nothing to be kept on disk.
        key = hashlib.sha256(msgspec.json.encode([url, list(params)])).hexdigest()
        part = self._to / f".{key[:16]}.part"
        try:
            file = await self._whole(_Wanted(key, url, params, part, name, digest, then))
        except OSError as error:
            what = f"a file cannot be kept in {self._to} ({error})"
            raise self._wire.fails(what, "make room, or choose another directory") from None
        self._before += file.size
        return file

    async def _whole(self, wanted: _Wanted) -> File:
        stalled, known, part = 0, await self._known(wanted), wanted.part
        while True:
            size = await asyncio.to_thread(_size, part)
            try:
                said = await self._some(wanted, known)
            except (httpx.TransportError, httpx.DecodingError, TimeoutError) as error:
                # Whatever came is progress; only a server that gives nothing at all is given up.
                stalled = 0 if await asyncio.to_thread(_size, part) > size else stalled + 1
                if stalled >= 3:
                    what = f"{urlsplit(wanted.url).hostname} breaks off again and again ({type(error).__name__})"
                    raise self._wire.fails(what, "try again later: it goes on where it stands") from None
                await asyncio.sleep(0.2 * (1 + stalled))
                continue
            if isinstance(said, File):
                return said
            return await asyncio.to_thread(self._keep, wanted, said)

    async def _known(self, wanted: _Wanted) -> Fetched | None:
        """What was brought before and is still as it was."""
        known = self._fetched.get(wanted.key)
        if known is None or (wanted.digest and wanted.then is None and known.file.digest != wanted.digest):
            return None
        found = await asyncio.to_thread(_digest, self._to / known.file.path)
        return known if found == known.file.digest else None

    async def _some(self, wanted: _Wanted, known: Fetched | None) -> _Part | File:
        """Bring what is missing of a file, or say that what is known is still the newest."""
        key, url, params, part, *_ = wanted
        more = {"Accept-Encoding": "identity"}
        state, have = await asyncio.to_thread(_read_part, part, key)
        if known is not None and known.validator:
            more["If-Modified-Since" if known.validator.endswith("GMT") else "If-None-Match"] = known.validator
        elif state is not None and have:
            more |= {"Range": f"bytes={have}-", "If-Range": state.validator}
        async with self._wire.stream("GET", url, params, headers=more) as response:
            status = response.status_code
            if status == 304 and known is not None:
                return known.file
            if status == 416 and state is not None:
                if _complete_length(response) == have:
                    return state
                await asyncio.to_thread(part.unlink, missing_ok=True)
                raise httpx.ReadError("what is here is not the beginning of it")
            if status in (404, 410):
                raise LookupError(f"{self._wire.who}: there is nothing at {shown(url)}")
            if status not in (200, 206):
                raise self._wire.fails(f"{shown(url)} answers HTTP {status}", "see whether it may be had")
            begins = _begins(response) if status == 206 else 0
            if begins != (have if status == 206 else 0):
                await asyncio.to_thread(part.unlink, missing_ok=True)
                raise httpx.ReadError("it is not the part that was asked for")
            state = _described(response, key, begins)
            await self._take(response, wanted, state, begins)
            return state

    async def _take(self, response: httpx.Response, wanted: _Wanted, state: _Part, have: int) -> None:
        part, what = wanted.part, shown(wanted.url)
        await asyncio.to_thread(write_file, part.with_suffix(".json"), [msgspec.json.encode(state)])
        if max(state.total, have) > self._most:
            raise self._wire.fails(f"{what} has {state.total} bytes", f"allow more than {self._most} bytes (most)")
        out = await asyncio.to_thread(open, part, "r+b" if have else "wb")
        try:
            out.seek(have)
            # What is encoded in spite of our wish has neither a known length nor parts.
            # No size of chunks: what is held back to fill one would be lost when the connection is.
            encoded = _encoded(response)
            async for chunk in response.aiter_bytes() if encoded else response.aiter_raw():
                have += len(chunk)
                if have > self._most:
                    raise self._wire.fails(f"{what} has too many bytes", f"allow more than {self._most} (most)")
                await asyncio.to_thread(out.write, chunk)
                self._progress(self._before + have, self._before + state.total if state.total else 0)
        finally:
            await asyncio.to_thread(out.close)
        if state.total and have != state.total:
            raise httpx.ReadError(f"{have} of {state.total} bytes came")

    def _keep(self, wanted: _Wanted, state: _Part) -> File:
        part, digest = wanted.part, wanted.digest
        found = _digest(part)
        if digest and found != digest:
            part.unlink()
            part.with_suffix(".json").unlink(missing_ok=True)
            raise self._wire.fails(f"{shown(wanted.url)} is {found}, and not {digest}", "tell the provider of it")
        if wanted.then is not None:
            write_file(part, [wanted.then(part.read_bytes())])
            found = _digest(part)
        path = self._free(safe_name(wanted.name or state.name), wanted.key)
        file = File(path=path, digest=found, size=part.stat().st_size, media_type=state.media_type)
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        # Its name first: what is killed in between finds the file under no other one.
        self._fetched[wanted.key] = Fetched(file=file, validator=state.validator)
        write_file(self._to / MANIFEST, [msgspec.json.encode(self._fetched)])
        os.replace(part, self._to / path)
        part.with_suffix(".json").unlink(missing_ok=True)
        return file

    def _free(self, name: str, key: str) -> str:
        """A name that no other file of the directory has."""
        if (before := self._fetched.get(key)) is not None:
            return before.file.path
        stem, dot, suffix = name.partition(".")
        taken = {fetched.file.path.casefold() for fetched in self._fetched.values()}
        names = (name if n == 1 else f"{stem}-{n}{dot}{suffix}" for n in range(1, len(taken) + 100_000))
        return next(n for n in names if n.casefold() not in taken and not (self._to / n).exists())


async def written(wire: Wire, path: Path, content: bytes, media_type: str) -> File:
    """A file that is here already, kept whole as `path`. Raises `Unreachable` where it cannot be."""
    try:
        await asyncio.to_thread(write_file, path, [content])
    except OSError as error:
        raise wire.fails(f"{path} cannot be written ({error})", "make room, or choose another directory") from None
    digest = digest_of_bytes(content)
    return File(path=path.name, digest=digest, size=len(content), media_type=media_type)


def safe_name(name: str) -> str:
    """The name of a file that leads nowhere else, is not hidden and can be typed: "../../.ssh/id" is "id"."""
    last = re.split(r"[/\\]", name.replace("\0", ""))[-1]
    plain = re.sub(r"[^\w.\-+@ ()=,]", "_", last).strip(" .")
    stem, dot, suffix = plain.rpartition(".")
    if len(plain.encode()) > 150:
        plain = (stem or suffix).encode()[:120].decode(errors="ignore") + (dot + suffix)[:16].strip()
    return plain or "data"


def _described(response: httpx.Response, key: str, begins: int) -> _Part:
    """What the headers say of a file. Only a strong validator tells that two parts are of one file."""
    headers = response.headers
    etag, modified = headers.get("etag", ""), headers.get("last-modified", "")
    length = headers.get("content-length", "")
    total = begins + int(length) if length.isdigit() and not _encoded(response) else 0
    disposition = Message()
    disposition["content-disposition"] = headers.get("content-disposition", "")
    named = disposition.get_filename() or unquote(urlsplit(str(response.url)).path.rstrip("/").rpartition("/")[2])
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    strong = etag and not etag.startswith("W/")
    validator = "" if _encoded(response) else etag if strong else modified
    return _Part(key=key, validator=validator, name=named or "data", media_type=media_type, total=total)


def _encoded(response: httpx.Response) -> bool:
    return str(response.headers.get("content-encoding", "identity")).lower() != "identity"


def _begins(response: httpx.Response) -> int:
    found = re.match(r"bytes (\d+)-", response.headers.get("content-range", ""))
    return int(found[1]) if found else -1


def _complete_length(response: httpx.Response) -> int:
    found = re.match(r"bytes \*/(\d+)$", response.headers.get("content-range", ""))
    return int(found[1]) if found else -1


def _read_part(part: Path, key: str) -> tuple[_Part | None, int]:
    """What is known of a part, and how many bytes of it there are; nothing where the next would not fit to it."""
    try:
        state = msgspec.json.decode(_read(part.with_suffix(".json")), type=_Part)
    except UNREADABLE:
        return None, 0
    return (state, _size(part)) if state.key == key and state.validator else (None, 0)


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _digest(path: Path) -> str:
    return digest_of(path)[0] if path.is_file() else ""
