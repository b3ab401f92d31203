"""Any REST API that lists records and is described by an OpenAPI 3 document: a mapping says what means what."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from firstlight.core import Value

from ..index import Card, Query, Record, Variable, digest_of_files
from ._answer import Answer, Progress, silent
from ._download import Basket, written
from ._openapi_document import Document, Operation, at, parsed
from ._structures import seconds_of
from ._wire import Params, Wire


class Field(Value, frozen=True):
    """A variable: where it is in an item (a JSON pointer, RFC 6901), and its unit."""

    at: str
    unit: str = ""


class Ends(Value, frozen=True):
    """The query parameters that bound a variable, "" where there is none, and their unit."""

    low: str = ""
    high: str = ""
    unit: str = ""


class Meaning(Value, frozen=True):
    """What means what. Everything named `..._at`, and the values of `terms`, are JSON pointers into an item.

    `list` is the operation that lists ("sample_index", or "GET /sample"), `get` the one that gives one item: its path
    parameters are filled from `path` ({"name": "/identifier/name"}). `text`, `page` and `size` are query parameters
    of `list`; `paging` says whether `page` counts pages from `first`, or items from 0 ("offset"), or takes what
    is at `next` of the answer ("cursor"). `where` has the query parameter of a facet, `ranges` those of a variable,
    `always` parameters that are always sent.

    `items` and `total` point into the answer. `terms` become keywords ("organism": "Homo sapiens" is searched as words
    and as the facet keyword), `variables` variables, `files_at` points to the address of a file or to a list of them.
    """

    list: str
    get: str = ""
    path: dict[str, str] = {}
    text: str = ""
    page: str = ""
    size: str = ""
    paging: str = "page"
    first: int = 1
    next: str = ""
    where: dict[str, str] = {}
    ranges: dict[str, Ends] = {}
    always: dict[str, str] = {}
    items: str = ""
    total: str = ""
    id_at: tuple[str, ...] = ("/id",)
    title_at: str = ""
    description_at: str = ""
    licence_at: str = ""
    publisher_at: str = ""
    citation_at: str = ""
    created_at: str = ""
    address_at: str = ""
    terms: dict[str, str] = {}
    variables: dict[str, Field] = {}
    files_at: str = ""


class OpenApi:
    """The API that `document` describes: an address, or a file here; its server is `url`, if that is given. `mapping`
    is a `Meaning`, or a table of it.

    Only parameters that the document declares are sent, with values that it allows: raises ValueError at the first use
    where the mapping does not fit to the document.
    """

    def __init__(
        self, name: str, document: str, mapping: Mapping[str, Any] | Meaning, *, url: str = "", token: str = "",
        header: str = "Authorization", scheme: str = "Bearer", timeout: float = 30.0, most: int = 100 << 30,
        private: bool = False, licence: str = "", tries: int = 4,
    ) -> None:  # fmt: skip
        remote = document.startswith(("http://", "https://"))
        if not remote and not url:
            raise ValueError("an OpenAPI document in a file needs the option url, the address of its server")
        self.address = (url or document).rstrip("/")
        self._name, self._document, self._url, self._remote = name, document, url.rstrip("/"), remote
        self._means = mapping if isinstance(mapping, Meaning) else msgspec.convert(mapping, Meaning)
        self._most, self._licence = most, licence
        self._wire = Wire(
            name, self.address, token=token, header=header, scheme=scheme, timeout=timeout, private=private, tries=tries
        )
        self._read: Document | None = None

    async def search(self, query: Query, limit: int, cursor: str = "") -> Answer:
        document, means = await self._described(), self._means
        operation = document.operation(means.list)
        params, left = self._params(query, operation)
        size = operation.clamped(means.size, limit) if means.size else limit
        params += [(means.size, str(size))] if means.size else []
        if means.page and (cursor or means.paging != "cursor"):
            params.append((means.page, cursor or str(means.first if means.paging == "page" else 0)))
        operation.check(params)
        said = await self._asked(operation.address(document.server, {}), params)
        items = at(said, means.items)
        if not isinstance(items, list):
            raise self._wire.fails(f"there are no items at {means.items!r} of its answer", "check the mapping")
        total = at(said, means.total) if means.total else None
        return Answer(
            records=tuple(self._record(item, document) for item in items), left=left,
            total=total if isinstance(total, int) else None, cursor=self._next(said, cursor, len(items), size, total),
        )  # fmt: skip

    async def fetch(self, id: str, to: Path, progress: Progress = silent) -> Record:
        """What the API says of one item, as `item.json`, and the files that it names.

        Raises LookupError where there is none, ValueError where the mapping has no operation that gives one item.
        """
        document, means = await self._described(), self._means
        if not means.get:
            raise ValueError(f"{self._name} has no operation that gives one item: say which it is (get)")
        operation = document.operation(means.get)
        parts = id.removeprefix(f"{self._name}/").split("/")
        if len(parts) != len(means.id_at):
            raise LookupError(f"{id!r} is none of {self._name}'s: those have {len(means.id_at)} parts")
        known = dict(zip(means.id_at, parts, strict=True))
        path = {name: known.get(pointer, "") for name, pointer in means.path.items()}
        item = await self._wire.json(operation.address(document.server, path))
        record = self._record(item, document)
        content = msgspec.json.format(msgspec.json.encode(item), indent=1)
        basket = await Basket(self._wire, to, self._most, progress).open()
        files = [await basket.bring(address) for address in self._files(item)]
        files.append(await written(self._wire, Path(to) / "item.json", content, "application/json"))
        return msgspec.structs.replace(
            record, files=tuple(files), digest=digest_of_files(files), size=sum(f.size for f in files)
        )

    async def close(self) -> None:
        await self._wire.close()

    # ------------------------------------------------------------------ asking

    async def _described(self) -> Document:
        if self._read is None:
            try:
                content = await (self._wire_content() if self._remote else asyncio.to_thread(self._file_content))
            except (LookupError, OSError) as error:
                raise self._wire.fails(f"its OpenAPI document cannot be read ({error})", "check where it is") from None
            try:
                self._read = parsed(content, self._url, self._document if self._remote else "")
            except ValueError as error:
                raise self._wire.fails(f"{self._document}: {error}", "check that it is an OpenAPI 3 document") from None
        return self._read

    async def _wire_content(self) -> bytes:
        return (await self._wire.get(self._document)).content

    def _file_content(self) -> bytes:
        return Path(self._document).read_bytes()

    def _params(self, query: Query, operation: Operation) -> tuple[list[tuple[str, str]], Query]:
        means, where = self._means, dict[str, tuple[str, ...]]()
        params = list(means.always.items())
        if query.text and means.text:
            params.append((means.text, query.text))
        for facet, values in query.where.items():
            name = means.where.get(facet, "")
            if name and (len(values) == 1 or operation.takes_several(name)):
                params += ((name, value) for value in values)
            else:
                where[facet] = values
        left = list[Any]()
        for wanted in query.ranges:
            ends = means.ranges.get(wanted.variable)
            fits = ends is not None and wanted.unit in ("", ends.unit)
            asked = [(wanted.low, ends.low), (wanted.high, ends.high)] if ends is not None and fits else []
            if not fits or any(end is not None and not name for end, name in asked):
                left.append(wanted)
            params += ((name, f"{end:.15g}") for end, name in asked if end is not None and name)
        text = "" if means.text else query.text
        return params, msgspec.structs.replace(query, text=text, where=where, ranges=tuple(left))

    async def _asked(self, address: str, params: Params) -> Any:
        try:
            return await self._wire.json(address, params)
        except LookupError as error:
            raise self._wire.fails(str(error), "check its address and the mapping") from None

    def _next(self, said: object, cursor: str, count: int, size: int, total: object) -> str:
        """The cursor of the next page, "" where this was the last one."""
        means = self._means
        if means.paging == "cursor":
            following = at(said, means.next)
            return str(following) if following is not None and following != "" else ""
        if not means.page or count == 0:
            return ""
        begun = int(cursor or (means.first if means.paging == "page" else 0))
        came = (begun - means.first) * size + count if means.paging == "page" else begun + count
        if came >= total if isinstance(total, int) else count < size:
            return ""
        return str(begun + 1 if means.paging == "page" else came)

    # ------------------------------------------------------------------ understanding

    def _record(self, item: object, document: Document) -> Record:
        means = self._means
        id = "/".join(_text(item, pointer) for pointer in means.id_at)
        page = _text(item, means.address_at)
        return Record(
            id=f"{self._name}/{id}", name=f"{self._name}/{id}", digest="", provider=self._name, retrieved=time.time(),
            address=page if page.startswith(("http://", "https://")) else self._page(item, document),
            created=seconds_of(at(item, means.created_at)) or 0.0 if means.created_at else 0.0,
            variables=tuple(self._variables(item)),
            card=Card(
                title=_text(item, means.title_at) or id, description=_text(item, means.description_at),
                licence=_text(item, means.licence_at) or self._licence, publisher=_text(item, means.publisher_at),
                citation=_text(item, means.citation_at),
                keywords=tuple(word for pointer in means.terms.values() for word in _texts(item, pointer)),
            ),
        )  # fmt: skip

    def _page(self, item: object, document: Document) -> str:
        """Where the API gives this item, or else where it lists all."""
        means = self._means
        if not means.get:
            return document.operation(means.list).address(document.server, {})
        path = {name: _text(item, pointer) for name, pointer in means.path.items()}
        return document.operation(means.get).address(document.server, path)

    def _variables(self, item: object) -> Iterator[Variable]:
        for name, field in self._means.variables.items():
            value = at(item, field.at)
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield Variable(name=name, unit=field.unit, low=float(value), high=float(value))
            elif value is not None:
                yield Variable(name=name, unit=field.unit, kind="string", description=str(value))

    def _files(self, item: object) -> list[str]:
        return _texts(item, self._means.files_at) if self._means.files_at else []


def _text(item: object, pointer: str) -> str:
    value = at(item, pointer) if pointer else None
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _texts(item: object, pointer: str) -> list[str]:
    value = at(item, pointer)
    values = value if isinstance(value, list) else [value]
    return [str(v) for v in values if isinstance(v, str | int | float) and not isinstance(v, bool)]
