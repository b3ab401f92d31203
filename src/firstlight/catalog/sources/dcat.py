"""Catalogues of governments and institutions: CKAN, and DCAT-US 1.1 and 3.0 (https://resources.data.gov)."""

import asyncio
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from firstlight.core import Value

from ..index import File, Query, Record, digest_of_files
from ._answer import Answer, Progress, Unreachable, silent
from ._dcat_records import Distribution, distributions, record_of
from ._download import Basket
from ._match import unmet
from ._said import UNREADABLE
from ._wire import Wire

Kind = Literal["", "ckan", "data.json"]

_FIELDS = {
    "keyword": "tags", "licence": "license_id", "format": "res_format", "publisher": "organization", "group": "groups",
}  # fmt: skip
"""What of a query CKAN's search knows, by our names."""
_SPECIAL = re.compile(r'([+\-&|!(){}\[\]^"~*?:\\/])')


class Entry(Value, frozen=True):
    """One dataset of a catalogue, and the files that it offers."""

    record: Record
    files: tuple[Distribution, ...]


class Dcat:
    """A CKAN site ("https://catalog.data.gov") or a catalogue in one JSON file (".../data.json"); `kind` says which
    where the address does not. `token` goes in CKAN's header Authorization as it is.

    A record says "Public" only where the catalogue does; "restricted public" and "non-public" are told in its
    description. `most` bounds the bytes of a file, `catalogue` those of a data.json.
    """

    def __init__(
        self, name: str, url: str, *, kind: Kind = "", token: str = "", timeout: float = 30.0, most: int = 100 << 30,
        catalogue: int = 512 << 20, private: bool = False, tries: int = 4,
    ) -> None:  # fmt: skip
        self.address = url.rstrip("/")
        self._name, self._most = name, most
        self._ckan = kind == "ckan" or (kind == "" and not self.address.endswith(".json"))
        self._kept: tuple[str, tuple[Entry, ...]] = ("", ())
        """The catalogue that was read last, by the ETag of its file."""
        self._wire = Wire(
            name, url, token=token, scheme="", timeout=timeout, most=catalogue, private=private, tries=tries
        )

    async def search(self, query: Query, limit: int, cursor: str = "") -> Answer:
        if cursor and not cursor.isdecimal():
            raise ValueError(f"{cursor!r} is no cursor of this source")
        start = int(cursor or 0)
        if self._ckan:
            return await self._asked(query, limit, start)
        entries = await self._entries()
        matching = await asyncio.to_thread(lambda: [e.record for e in entries if not unmet(e.record, query)])
        after = start + limit
        more = str(after) if after < len(matching) else ""
        return Answer(records=tuple(matching[start:after]), total=len(matching), left=query, cursor=more)

    async def fetch(self, id: str, to: Path, progress: Progress = silent) -> Record:
        """The files of a dataset that may be downloaded; what its servers do not have is told in its description.

        Raises LookupError where nothing may be downloaded. A file that cannot be had just now does not hold up the
        others: `Unreachable` is raised after those have come.
        """
        entry = await self._entry(id)
        if not entry.files:
            raise LookupError(f"{id} has no file to download: see {entry.record.address or self.address}")
        basket = await Basket(self._wire, to, self._most, progress).open()
        files, gone, failed = list[File](), list[str](), list[Unreachable]()
        for wanted in entry.files:
            try:
                files.append(await basket.bring(wanted.address, digest=wanted.digest))
            except LookupError:
                gone.append(wanted.address)
            except Unreachable as error:
                failed.append(error)
        if failed:
            raise failed[0]
        if not files:
            raise LookupError(f"{id}: there is nothing any more at {', '.join(gone)}")
        missing = f"\n\nNot to be had when it was fetched: {', '.join(gone)}." if gone else ""
        card = msgspec.structs.replace(entry.record.card, description=entry.record.card.description + missing)
        return msgspec.structs.replace(
            entry.record, files=tuple(files), digest=digest_of_files(files), size=sum(f.size for f in files),
            card=card, retrieved=time.time(),
        )  # fmt: skip

    async def close(self) -> None:
        await self._wire.close()

    # ------------------------------------------------------------------ CKAN

    async def _asked(self, query: Query, limit: int, start: int) -> Answer:
        filters, left = _solr(query)
        params = [("rows", str(limit)), ("start", str(start))]
        params += [("q", _SPECIAL.sub(r"\\\1", query.text.lower()))] if query.text else []
        params += [("fq", " ".join(filters))] if filters else []
        try:
            said = await self._action("package_search", params)
        except LookupError as error:
            raise self._wire.fails(str(error), "check the address, and the option kind") from None
        packages, total = said.get("results"), said.get("count")
        if not isinstance(packages, list) or not isinstance(total, int):
            raise self._not_ckan("package_search")
        records = tuple(self._read(package).record for package in packages)
        after = start + len(packages)
        return Answer(records=records, total=total, left=left, cursor=str(after) if packages and after < total else "")

    async def _action(self, action: str, params: Sequence[tuple[str, str]]) -> dict[str, Any]:
        said = await self._wire.json(f"{self.address}/api/3/action/{action}", params)
        result = said.get("result") if isinstance(said, dict) and said.get("success") else None
        if not isinstance(result, dict):
            raise self._not_ckan(action)
        return result

    def _not_ckan(self, action: str) -> Exception:
        what = f"{self.address}/api/3/action/{action} does not answer as CKAN does"
        return self._wire.fails(what, "check the address, and the option kind")

    # ------------------------------------------------------------------ a catalogue in a file

    async def _entries(self) -> tuple[Entry, ...]:
        """All of it; the file is not sent again while it is the same."""
        tag, kept = self._kept
        try:
            reply = await self._wire.get(self.address, headers={"If-None-Match": tag} if tag else {})
        except LookupError as error:
            raise self._wire.fails(str(error), "check the address") from None
        if reply.status == 304:
            return kept
        entries = await asyncio.to_thread(self._parsed, reply.content)
        self._kept = (reply.headers.get("etag", ""), entries)
        return entries

    def _parsed(self, content: bytes) -> tuple[Entry, ...]:
        try:
            said = msgspec.json.decode(content)
        except UNREADABLE as error:
            raise self._wire.fails(f"{self.address} is no JSON ({error})", "check the address") from None
        datasets = said.get("dataset") if isinstance(said, dict) else None
        if not isinstance(datasets, list):
            what = f"{self.address} is no catalogue of DCAT-US"
            raise self._wire.fails(what, "check the address, and the option kind")
        return tuple(map(self._read, datasets))

    async def _entry(self, id: str) -> Entry:
        if self._ckan:
            return self._read(await self._action("package_show", [("id", id.removeprefix(f"{self._name}/"))]))
        for entry in await self._entries():
            if entry.record.id == id:
                return entry
        raise LookupError(f"there is no {id} in {self.address}")

    def _read(self, said: object) -> Entry:
        about = said if isinstance(said, dict) else {}
        record = record_of(about, self._name)
        page = f"{self.address}/dataset/{quote(str(about.get('name') or about.get('id')))}"
        address = record.address or (page if self._ckan else self.address)
        record = msgspec.structs.replace(record, address=address, retrieved=time.time())
        return Entry(record=record, files=tuple(distributions(about)))


def _solr(query: Query) -> tuple[list[str], Query]:
    """Conditions in the language of CKAN's search engine, and what of the query they do not say."""
    where = {facet: values for facet, values in query.where.items() if facet not in _FIELDS}
    filters = list(_facets(query.where))
    if query.since is not None or query.until is not None:
        filters.append(f"metadata_modified:[{_date(query.since)} TO {_date(query.until)}]")
    return filters, Query(where=where, ranges=query.ranges)


def _facets(where: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    for facet, values in where.items():
        if field := _FIELDS.get(facet):
            quoted = ('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values)
            yield f"{field}:({' OR '.join(quoted)})"


def _date(at: float | None) -> str:
    return "*" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
