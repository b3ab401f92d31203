"""Files at an HTTP address: one of them, or those that a listing names."""

import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import msgspec

from ..index import Card, Query, Record, digest_of_files
from ._answer import Answer, Progress, silent
from ._download import Basket, safe_name
from ._match import unmet
from ._said import UNREADABLE
from ._wire import Reply, Wire

_LISTS = ("files", "items", "resources", "entries", "datasets", "data", "results")
_ADDRESSES = ("url", "href", "downloadURL", "download_url", "path", "name")


class Web:
    """One file at `url`, or a listing: JSON (a list of addresses or of objects with one, alone or under a name such as
    "files") or an HTML page that links to files. What an object of a list says of its file is taken over: "title",
    "description", "license", "sha256", "size", "doi".

    `digest` ("sha256:...") is what the one file must have. `most` bounds the bytes of a file. `private` allows a public
    page to lead into a private network. `token`, or "env:NAME", is sent to the host of `url` only.
    """

    def __init__(
        self, name: str, url: str, *, digest: str = "", token: str = "", timeout: float = 20.0,
        most: int = 100 << 30, private: bool = False, licence: str = "",
    ) -> None:  # fmt: skip
        self.address = url
        self._name, self._digest, self._most, self._licence = name, digest, most, licence
        self._wire = Wire(name, url, token=token, timeout=timeout, private=private)

    async def search(self, query: Query, limit: int, cursor: str = "") -> Answer:
        start = _offset(cursor)
        matching = [record for record in (await self._items()).values() if not unmet(record, query)]
        after = start + limit
        return Answer(
            records=tuple(matching[start:after]), total=len(matching), left=query,
            cursor=str(after) if after < len(matching) else "",
        )  # fmt: skip

    async def fetch(self, id: str, to: Path, progress: Progress = silent) -> Record:
        """The file of a record, or that at an address that the listing has."""
        address = id.removeprefix(f"{self._name}/")
        record = await self._one(address)
        basket = await Basket(self._wire, to, self._most, progress).open()
        file = await basket.bring(address, digest=record.digest)
        return msgspec.structs.replace(
            record, files=(file,), digest=digest_of_files([file]), size=file.size, retrieved=time.time()
        )

    async def close(self) -> None:
        await self._wire.close()

    async def _one(self, address: str) -> Record:
        if urlsplit(address).scheme not in ("http", "https"):
            raise LookupError(f"{self._name}: {address!r} is neither http:// nor https://, and only those are fetched")
        if address == self.address:
            return self._record(address, {"sha256": self._digest.removeprefix("sha256:")})
        items = await self._items()
        if address not in items:
            raise LookupError(f"{self._name}: {self.address} does not list {address}")
        return items[address]

    async def _items(self) -> dict[str, Record]:
        """The files that there are, by address."""
        async with self._wire.stream("GET", self.address, headers={"Accept-Encoding": "identity"}) as response:
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if response.status_code == 200 and not (kind == "text/html" or kind.endswith("json")):
                about = {"size": response.headers.get("content-length", "")}
                return {self.address: self._record(self.address, {**about, "sha256": self._digest.partition(":")[2]})}
        try:
            reply = await self._wire.get(self.address)
        except LookupError as error:
            raise self._wire.fails(str(error), "check the address") from None
        listed = _html(reply) if kind == "text/html" else _json(reply)
        found = {address: self._record(address, about) for address, about in listed if address != self.address}
        return found or {self.address: self._record(self.address, {"size": str(len(reply.content))})}

    def _record(self, address: str, about: dict[str, Any]) -> Record:
        path = urlsplit(address).path
        title = _text(about, "title", "name") or safe_name(unquote(path.rstrip("/").rpartition("/")[2]))
        sha256 = _text(about, "sha256").lower()
        size = _text(about, "size", "byteSize", "bytes")
        card = Card(
            title=title, description=_text(about, "description"),
            licence=_text(about, "license", "licence") or self._licence, citation=_text(about, "doi", "citation"),
        )  # fmt: skip
        return Record(
            id=f"{self._name}/{address}", name=f"{self._name}/{address}", card=card, provider=self._name,
            digest=f"sha256:{sha256}" if len(sha256) == 64 else "", kind="asset", address=address,
            size=int(size) if size.isdigit() else 0, retrieved=time.time(),
        )  # fmt: skip


def _offset(cursor: str) -> int:
    if cursor and not cursor.isdecimal():
        raise ValueError(f"{cursor!r} is no cursor of this source")
    return int(cursor or 0)


def _text(about: dict[str, Any], *keys: str) -> str:
    return next((str(about[k]) for k in keys if isinstance(about.get(k), str | int | float) and about[k] != ""), "")


def _json(reply: Reply) -> Iterator[tuple[str, dict[str, Any]]]:
    """Addresses that a JSON document lists, with what it says of each."""
    try:
        said = msgspec.json.decode(reply.content)
    except UNREADABLE:
        return
    if isinstance(said, dict):
        said = next((said[key] for key in _LISTS if isinstance(said.get(key), list)), [])
    for item in said if isinstance(said, list) else []:
        about = item if isinstance(item, dict) else {}
        link = item if isinstance(item, str) else _text(about, *_ADDRESSES)
        if link and (isinstance(item, str) or _text(about, *_ADDRESSES[:-1]) or "." in link):
            yield urljoin(reply.url, link), about


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found = list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a" and (link := dict(attrs).get("href")):
            self.found.append(link)


def _html(reply: Reply) -> Iterator[tuple[str, dict[str, Any]]]:
    """Files to which a page links: at the same host or another, with a suffix that is not of a page."""
    links = _Links()
    links.feed(reply.content.decode(errors="replace"))
    for link in links.found:
        address = urljoin(reply.url, link).partition("#")[0]
        name = urlsplit(address).path.rpartition("/")[2]
        if "." in name and not name.lower().endswith((".html", ".htm", ".php", ".asp", ".aspx", ".jsp")):
            yield address, {}
