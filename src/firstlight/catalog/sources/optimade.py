"""Databases of materials that speak OPTIMADE 1.2 (Evans et al. 2024, doi:10.1039/D4DD00039K)."""

import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from firstlight.core import Value

from .._records import VariableKind
from ..index import Card, Query, Record, Variable
from ..store import digest_of_bytes
from ._answer import Answer, Progress, silent
from ._download import written
from ._harvest import Harvest, PageOfStructures, brought
from ._optimade_filter import filter_of, unit_of
from ._said import UNREADABLE, inner, objects
from ._structures import Entry, cell_of, seconds_of
from ._wire import Params, Reply, Wire

_IN_RECORDS = ("nsites", "nelements")


class About(Value, frozen=True):
    """What a provider says of itself: `base` is the address of its version, `properties` those of its structures."""

    base: str
    properties: dict[str, dict[str, Any]]
    publisher: str = ""
    licence: str = ""
    homepage: str = ""
    notes: tuple[str, ...] = ()


_page = msgspec.json.Decoder(PageOfStructures)


class Optimade:
    """The structures of one provider at `base_url` (with or without "/v1"). `page` is how many are asked for at once
    in a harvest; a provider that does not give so many gives as many as it likes.

    Records have "elements", the variables nsites, nelements and the provider's own properties ("_mp_band_gap") with
    their units. `citation` is how the provider wants to be cited, which OPTIMADE has no word for.
    """

    def __init__(
        self, name: str, base_url: str, *, token: str = "", timeout: float = 30.0, page: int = 100,
        private: bool = False, citation: str = "", licence: str = "", tries: int = 4,
    ) -> None:  # fmt: skip
        self.address = base_url.rstrip("/")
        self.name, self._page, self._citation, self._licence = name, page, citation, licence
        self.wire = Wire(name, base_url, token=token, timeout=timeout, private=private, tries=tries)
        self._about: About | None = None

    async def about(self) -> About:
        """Its version, properties and licence, asked for once. Raises `Unreachable`."""
        if self._about is None:
            self._about = await self._discovered()
        return self._about

    async def search(self, query: Query, limit: int, cursor: str = "") -> Answer:
        about = await self.about()
        filter, left = filter_of(query, about.properties)
        page = await self.page(cursor) if cursor else await self.first_page(filter, limit)
        total = page.meta.get("data_returned")
        return Answer(
            records=tuple(self._record(about, bytes(raw)) for raw in page.data), cursor=page.next, left=left,
            total=total if isinstance(total, int) else None, notes=about.notes,
        )  # fmt: skip

    async def fetch(self, id: str, to: Path, progress: Progress = silent) -> Record:
        """One structure, as `structure.json`."""
        about = await self.about()
        entry = id.removeprefix(f"{self.name}/")
        address = f"{about.base}/structures/{quote(entry, safe='')}"
        reply = await self.wire.get(address)
        try:
            said = msgspec.json.decode(reply.content, type=dict[str, msgspec.Raw])
            structure = said["data"]
            if bytes(structure) == b"null":
                raise LookupError(f"{self.name}: there is no structure {entry}")
            record = self._record(about, bytes(structure))
        except (*UNREADABLE, KeyError) as error:
            raise self.wire.fails(f"{address} cannot be understood ({error})", "tell the provider") from None
        file = await written(self.wire, to / "structure.json", bytes(structure), "application/vnd.api+json")
        progress(1, 1)
        return msgspec.structs.replace(record, files=(file,), digest=file.digest, size=file.size, address=address)

    async def harvest(self, query: Query, to: Path, progress: Progress = silent) -> Record:
        """Bring all structures that match into the directory `to`: `structures.jsonl`, as they came, one a line, and
        `structures.parquet`, their numbers with units.

        Each page is on disk before the next is asked for: whatever is killed, the next call goes on there. Raises
        `Unreachable` where the provider goes away meanwhile, and ValueError where it cannot search by all of the
        query or the directory has something else in it.
        """
        about = await self.about()
        where = {facet: values for facet, values in query.where.items() if facet != "provider"}
        filter, left = filter_of(msgspec.structs.replace(query, where=where), about.properties)
        if left != Query(every=query.every):
            raise ValueError(f"{self.name} cannot search by all of this, and a harvest would bring too much: {left}")
        sorted_by_id = bool(about.properties.get("id", {}).get("sortable"))
        properties = {name: said for name, said in about.properties.items() if name.startswith("_")}
        head = Harvest(
            provider=self.name, address=about.base, filter=filter, sorted=sorted_by_id, properties=properties,
            card=self._card(about, filter),
        )  # fmt: skip

        async def page(address: str) -> PageOfStructures:
            return await (self.page(address) if address else self.first_page(filter, self._page, sorted_by_id))

        return await brought(head, Path(to), page, self.wire.fails, progress)

    async def first_page(self, filter: str, limit: int, sorted_by_id: bool = False) -> PageOfStructures:
        """The first structures that match, at most `limit`, fewer where the provider does not give so many."""
        about = await self.about()
        params: Params = [("filter", filter)] if filter else []
        params = [*params, ("sort", "id")] if sorted_by_id else params
        address = f"{about.base}/structures"
        reply = await self.wire.send("GET", address, [*params, ("page_limit", str(limit))])
        if reply.status in (400, 403, 422) and b"page_limit" in reply.content:
            reply = await self.wire.send("GET", address, params)
        return self._paged(reply)

    async def page(self, address: str) -> PageOfStructures:
        """The page at an address that another one gave."""
        return self._paged(await self.wire.send("GET", address))

    async def close(self) -> None:
        await self.wire.close()

    # ------------------------------------------------------------------ what the provider says

    def _paged(self, reply: Reply) -> PageOfStructures:
        if reply.status >= 400:
            raise self.wire.refused(reply)
        try:
            return _page.decode(reply.content)
        except UNREADABLE as error:
            raise self.wire.fails(f"a page of structures cannot be understood ({error})", "tell the provider") from None

    async def _discovered(self) -> About:
        base = await self._base()
        info, structures = await self._json(f"{base}/info"), await self._json(f"{base}/info/structures")
        about, meta = inner(info, "data", "attributes"), inner(info, "meta")
        if about.get("is_index"):
            children = await self._json(f"{base}/links")
            links = [_href(inner(link, "attributes").get("base_url")) for link in objects(children.get("data"))]
            what = f"{self.address} has no structures: it only names databases"
            raise self.wire.fails(what, "use one of them: " + ", ".join(filter(None, links)))
        provider = inner(meta, "provider")
        properties = inner(structures, "data", "properties")
        return About(
            base=base, licence=self._licence or _licence(about) or _licence(meta),
            properties={k: v for k, v in properties.items() if isinstance(v, dict)},
            publisher=str(provider.get("name") or ""), homepage=_href(provider.get("homepage")),
        )  # fmt: skip

    async def _base(self) -> str:
        """The address of the version that is spoken here (section 3.2)."""
        if re.search(r"/v1(\.\d+)*$", self.address):
            return self.address
        try:
            listed = (await self.wire.get(f"{self.address}/versions")).content.decode(errors="replace").split()
        except LookupError:
            return f"{self.address}/v1"
        if listed[:1] != ["version"] or "1" not in listed:
            raise self.wire.fails(f"{self.address} offers no version 1 of OPTIMADE", "check the address")
        return f"{self.address}/v1"

    async def _json(self, address: str) -> dict[str, Any]:
        try:
            said = await self.wire.json(address)
        except LookupError as error:
            raise self.wire.fails(f"{error}", "check the address: this is not OPTIMADE") from None
        if not isinstance(said, dict):
            raise self.wire.fails(f"{address} cannot be understood", "check the address: this is not OPTIMADE")
        return said

    def _card(self, about: About, what: str) -> Card:
        title = f"Structures of {about.publisher or self.name}"
        return Card(
            title=f"{title} with {what}" if what else title, publisher=about.publisher, licence=about.licence,
            citation=self._citation, contact=about.homepage,
        )  # fmt: skip

    def _record(self, about: About, content: bytes) -> Record:
        """One structure. Raises MsgspecError where it is none."""
        entry = msgspec.json.decode(content, type=Entry)
        said = entry.attributes
        formula = str(said.get("chemical_formula_descriptive") or said.get("chemical_formula_reduced") or entry.id)
        elements = said.get("elements")
        address = f"{about.base}/structures/{quote(entry.id, safe='')}"
        return Record(
            id=f"{self.name}/{entry.id}", name=f"{self.name}/{entry.id}", digest=digest_of_bytes(content), rows=1,
            created=seconds_of(said.get("last_modified")) or 0.0, provider=self.name, address=address,
            elements=tuple(sorted(str(e) for e in elements)) if isinstance(elements, list) else (),
            variables=tuple(_variables(about, said)), retrieved=time.time(), size=len(content),
            card=Card(
                title=f"{formula} ({entry.id})", publisher=about.publisher, licence=about.licence,
                citation=self._citation, contact=about.homepage,
            ),
        )  # fmt: skip


def _variables(about: About, said: Mapping[str, Any]) -> Iterator[Variable]:
    for name, value in said.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and (name in _IN_RECORDS or name.startswith("_")):
            unit = unit_of(about.properties.get(name, {}))
            kind: VariableKind = "int64" if isinstance(value, int) else "float64"
            yield Variable(name=name, role="observable", unit=unit, low=float(value), high=float(value), kind=kind)
    yield from (
        Variable(name=name, unit=unit, low=value, high=value, kind="float64")
        for (name, unit), value in cell_of(said.get("lattice_vectors")).items()
        if value is not None
    )


def _href(link: object) -> str:
    """The address that a link is, or has (JSON:API 1.0)."""
    link = link.get("href") if isinstance(link, dict) else link
    return link if isinstance(link, str) else ""


def _licence(said: Mapping[str, Any]) -> str:
    """The SPDX identifiers under any of which data may be used, or else the address of their licence."""
    available = said.get("available_licenses")
    if isinstance(available, list) and available:
        return " OR ".join(str(identifier) for identifier in available)
    return _href(said.get("license")).removeprefix("https://spdx.org/licenses/")
