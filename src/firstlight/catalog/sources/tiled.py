"""Tiled servers (https://blueskyproject.io/tiled): searched, read and published to over their HTTP API."""

import hashlib
import math
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import msgspec

from ..index import Card, File, Query, Record, Variable, digest_of_files
from ._answer import Answer, Progress, silent
from ._download import Basket, safe_name, written
from ._match import words
from ._optimade_filter import ELEMENTS
from ._said import inner, objects, path_of
from ._structures import seconds_of
from ._tiled_arrays import dtype_of, saved, whole_numbers
from ._tiled_publish import OURS, cleaned, published, unfinished
from ._wire import Params, Wire

_DEEPEST = 8
"""Containers within containers that are fetched."""


class Tiled:
    """The server at `url` ("https://tiled.example.org"), or what is below a path of it (`under`: "scans/2026").

    `keys` says in which key of the metadata a facet or a variable is ("start.plan_name"), as that is for each facility
    to decide: only those are searched for by the server. "created" among them is a time in seconds since 1970 UTC.
    `units` has the units of variables. `api_key` may be "env:NAME".
    """

    def __init__(
        self, name: str, url: str, *, api_key: str = "", under: str = "", keys: Mapping[str, str] | None = None,
        units: Mapping[str, str] | None = None, timeout: float = 30.0, most: int = 100 << 30, private: bool = False,
        licence: str = "", tries: int = 4,
    ) -> None:  # fmt: skip
        self.address = url.rstrip("/").removesuffix("/api/v1") + "/api/v1"
        self._name, self._under, self._most, self._licence = name, under.strip("/"), most, licence
        self._keys, self._units = dict(keys or {}), dict(units or {})
        self._wire = Wire(
            name, url, token=api_key, scheme="Apikey", timeout=timeout, private=private, most=1 << 30, tries=tries
        )

    async def search(self, query: Query, limit: int, cursor: str = "") -> Answer:
        filters, left = self._filters(query)
        found = await self._found("search-deep", self._under, filters, limit, cursor)
        items = [item for item in objects(found.get("data")) if not unfinished(item)]
        total = inner(found, "meta").get("count")
        return Answer(
            records=tuple(self._record(item) for item in items), left=left, cursor=_next(found),
            total=total if isinstance(total, int) else None,
        )  # fmt: skip

    async def fetch(self, id: str, to: Path, progress: Progress = silent) -> Record:
        """A table as Parquet, one file a partition; an array as `.npy`; a container as a directory of those."""
        path = id.removeprefix(f"{self._name}/")
        item = inner(await self._wire.json(self._at("metadata", path)), "data")
        if unfinished(item):
            raise self._wire.fails(f"{path} was left before it was complete", "publish it again")
        files = [file async for file in self._brought(item, path, Path(to), progress, 0)]
        return msgspec.structs.replace(
            self._record(item), files=tuple(files), digest=digest_of_files(files), size=sum(f.size for f in files)
        )

    async def publish(self, record: Record, files: Mapping[str, Path], key: str) -> str:
        """Publish the Parquet files of a dataset as tables, with its record as metadata, and say at which address.

        `files` are where those of the record are, by their names in it. A dataset that is there already, by its
        digest, is not published twice. Raises ValueError where it has no Parquet file, a file is not as the record
        says, or the key is another dataset's.
        """
        return await published(self._wire, self.address, self._under, record, files, key)

    async def close(self) -> None:
        await self._wire.close()

    # ------------------------------------------------------------------ asking

    def _at(self, what: str, path: str) -> str:
        return f"{self.address}/{what}/{quote(path.strip('/'))}"

    def _filters(self, query: Query) -> tuple[Params, Query]:
        """Conditions that all hold, as parameters, and what of the query they do not say."""
        conditions = list[tuple[str, dict[str, str]]]()
        # One condition a word: some databases take only that, and operators of theirs are nobody's words.
        conditions += (("fulltext", {"text": word}) for word in words(query.text))
        where = dict[str, tuple[str, ...]]()
        for facet, values in query.where.items():
            if (key := self._keys.get(facet)) and len(values) == 1:
                conditions.append(("contains" if facet == "element" else "eq", {"key": key, "value": _json(values[0])}))
            else:
                where[facet] = values
        ranges = tuple(r for r in query.ranges if not self._comparable(r.variable, r.unit))
        for wanted in (r for r in query.ranges if r not in ranges):
            conditions += self._between(self._keys[wanted.variable], wanted.low, wanted.high)
        dated = "created" in self._keys
        if dated:
            conditions += self._between(self._keys["created"], query.since, query.until)
        params = [(f"filter[{kind}][condition][{k}]", v) for kind, said in conditions for k, v in said.items()]
        left = Query(
            where=where, ranges=ranges, since=None if dated else query.since, until=None if dated else query.until
        )
        return params, left

    def _comparable(self, variable: str, unit: str) -> bool:
        return variable in self._keys and unit in ("", self._units.get(variable, ""))

    @staticmethod
    def _between(key: str, low: float | None, high: float | None) -> Iterator[tuple[str, dict[str, str]]]:
        for operator, end in (("ge", low), ("le", high)):
            if end is not None:
                yield "comparison", {"operator": operator, "key": key, "value": _json(end)}

    async def _found(self, how: str, path: str, filters: Params, limit: int, cursor: str) -> dict[str, Any]:
        params = [*filters, ("page[limit]", str(limit)), *([("page[cursor]", cursor)] if cursor else [])]
        try:
            said = await self._wire.json(self._at(how, path), params)
        except LookupError as error:
            raise self._wire.fails(str(error), "check the address, and that its version is 0.2.20 or later") from None
        if not isinstance(said, dict):
            raise self._wire.fails(f"{self.address} answers with what Tiled does not say", "check the address")
        return said

    # ------------------------------------------------------------------ bringing

    async def _brought(
        self, item: Mapping[str, Any], path: str, to: Path, progress: Progress, depth: int
    ) -> AsyncIterator[File]:
        """The files of a node, their paths seen from `to`."""
        about = inner(item, "attributes")
        family, structure = about.get("structure_family"), inner(about, "structure")
        content = msgspec.json.format(msgspec.json.encode(about.get("metadata") or {}), indent=1)
        if family == "table":
            async for file in self._table(path, structure, inner(about, "metadata", "renamed"), to, progress):
                yield file
        elif family == "array":
            yield await saved(self._wire, self._at("array", path), structure, to / "data.npy", self._most, progress)
        elif family == "container" and depth < _DEEPEST:
            async for child in self._children(path):
                name = _directory(str(child.get("id")))
                async for file in self._brought(child, f"{path}/{child.get('id')}", to / name, progress, depth + 1):
                    yield msgspec.structs.replace(file, path=f"{name}/{file.path}")
        else:
            raise self._wire.fails(f"{path} is {family or 'of no kind'}, which is not fetched", "read it with Tiled")
        yield await written(self._wire, to / "metadata.json", content, "application/json")

    async def _table(
        self, path: str, structure: Mapping[str, Any], renamed: Mapping[str, str], to: Path, progress: Progress
    ) -> AsyncIterator[File]:
        basket = await Basket(self._wire, to, self._most, progress).open()
        said = structure.get("npartitions")
        parts = said if isinstance(said, int) and said > 0 else 1
        for n in range(parts):
            what, more = ("table/full", []) if parts == 1 else ("table/partition", [("partition", str(n))])
            name = "data.parquet" if parts == 1 else f"data-{n:05}.parquet"
            params = (*more, ("format", "application/x-parquet"))
            try:
                file = await basket.bring(
                    self._at(what, path), name=name, params=params, then=lambda content: cleaned(content, renamed)
                )
            except ValueError as error:
                raise self._wire.fails(f"{path} cannot be understood ({error})", "read it with Tiled") from None
            yield file

    async def _children(self, path: str) -> AsyncIterator[dict[str, Any]]:
        cursor = ""
        while True:
            found = await self._found("search", path, [], 100, cursor)
            for item in objects(found.get("data")):
                yield item
            if not (cursor := _next(found)):
                return

    # ------------------------------------------------------------------ understanding

    def _record(self, item: Mapping[str, Any]) -> Record:
        about = inner(item, "attributes")
        path = path_of(item)
        metadata = inner(about, "metadata")
        address = inner(item, "links").get("self")
        own = Record(
            id=f"{self._name}/{path}", name=f"{self._name}/{path}", digest="", provider=self._name,
            address=address if isinstance(address, str) else self._at("metadata", path), retrieved=time.time(),
        )  # fmt: skip
        try:
            # What was published from here says itself what it is.
            return msgspec.structs.replace(
                msgspec.convert(metadata[OURS], Record), id=own.id, name=own.name, provider=own.provider,
                address=own.address, retrieved=own.retrieved,
            )  # fmt: skip
        except (KeyError, msgspec.ValidationError):
            pass
        structure = inner(about, "structure")
        elements = metadata.get("elements")
        known = isinstance(elements, list) and all(isinstance(e, str) and e in ELEMENTS for e in elements)
        return msgspec.structs.replace(
            own, card=self._card(path, metadata), created=self._created(metadata),
            elements=tuple(sorted(elements)) if known and elements else (), size=_size(structure),
            variables=tuple(self._variables(metadata, structure)),
        )  # fmt: skip

    def _card(self, path: str, metadata: Mapping[str, Any]) -> Card:
        return Card(
            title=_text(metadata, "title", "name") or path, description=_text(metadata, "description", "comment"),
            creators=_texts(metadata, "creators", "authors", "creator", "author"), contact=_text(metadata, "contact"),
            keywords=_texts(metadata, "keywords", "tags"), citation=_text(metadata, "doi", "citation"),
            licence=_text(metadata, "license", "licence", "rights") or self._licence,
        )  # fmt: skip

    def _created(self, metadata: Mapping[str, Any]) -> float:
        said = _at(metadata, self._keys.get("created", "created"))
        return float(said) if _number(said) else seconds_of(said) or 0.0

    def _variables(self, metadata: Mapping[str, Any], structure: Mapping[str, Any]) -> Iterator[Variable]:
        named = {name: _at(metadata, key) for name, key in self._keys.items() if name != "created"}
        for name, value in {**metadata, **named}.items():
            if _number(value) and name != "created":
                yield Variable(name=name, unit=self._units.get(name, ""), low=float(value), high=float(value))
        columns = structure.get("columns")
        for column in map(str, columns if isinstance(columns, list) else ()):
            if column not in metadata and column not in named:
                yield Variable(name=column, unit=self._units.get(column, ""))


def _directory(key: str) -> str:
    """A directory for a node that is no other one's, nor a file of ours."""
    name = safe_name(key)
    plain = name == key and not name.startswith(("metadata.json", "data"))
    return name if plain else f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def _size(structure: Mapping[str, Any]) -> int:
    """Bytes of an array, 0 of anything else."""
    shape, dtype = structure.get("shape"), dtype_of(structure)
    return math.prod(shape) * dtype.itemsize if dtype is not None and whole_numbers(shape) else 0


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _at(metadata: Mapping[str, Any], key: str) -> Any:
    """What is at "a.b", None where there is nothing."""
    said: Any = metadata
    for part in key.split("."):
        said = said.get(part) if isinstance(said, dict) else None
    return said


def _text(said: Mapping[str, Any], *keys: str) -> str:
    return next((said[k] for k in keys if isinstance(said.get(k), str)), "")


def _texts(said: Mapping[str, Any], *keys: str) -> tuple[str, ...]:
    found: Any = next((said[k] for k in keys if said.get(k)), [])
    return tuple(map(str, found)) if isinstance(found, list) else (str(found),)


def _next(found: Mapping[str, Any]) -> str:
    """The cursor of the next page: servers behind a proxy give addresses that are not for us."""
    link = inner(found, "links").get("next")
    return dict(parse_qsl(urlsplit(link).query)).get("page[cursor]", "") if isinstance(link, str) else ""
