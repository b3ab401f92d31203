"""The page of a dataset, put together from what the catalog knows of it."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from arro3.io import read_parquet

from firstlight import reports
from firstlight.app import App
from firstlight.catalog import quality
from firstlight.catalog.index import Card, Found, Index, Record
from firstlight.catalog.library import Library
from firstlight.core import Unavailable

from ._packages import trace

_ROWS = 3_000
"""Rows that a page has: more of them make it slow."""
_LEVELS, _MOST = 4, 60
"""Steps of lineage each way, and things that are drawn in all."""


async def page(app: App, id: str, to: Path) -> None:
    """Write a page about a dataset. Raises LookupError, OSError, and ImportError where nothing can draw."""
    with app.library() as library:
        found = library.index.get(id)
        told = await trace(app, library, found.record)
        made = tuple((agent.name, agent.kind, agent.version) for agent in told.agents)
        shown = await asyncio.to_thread(_dataset, library, found)
    reports.write_dataset(msgspec.structs.replace(shown, made=made), to)


def _dataset(library: Library, found: Found) -> reports.Dataset:
    r = found.record
    tables = library.tables(r)
    nodes, edges = _lineage(library.index, found)
    judged = None
    with suppress(Unavailable):  # It takes a library that may not be here.
        judged = quality.examine(tables, r.variables).problems if len(tables) == 1 else None
    marks = [r.kind, f"version {found.version}", *(["synthetic"] if r.synthetic else [])]
    marks += [f"retracted: {found.retracted} ({found.by})"] if found.retracted else []
    facts = {
        "rows": f"{r.rows:,}" if r.rows else "", "size": _size(r.size), "files": str(len(r.files) or ""),
        "licence": r.card.licence or "not said", "sensitivity": r.card.sensitivity or "not said",
        "from": r.provider or r.campaign,
    }  # fmt: skip
    return reports.Dataset(
        id=r.id, title=r.card.title or r.name, description=r.card.description, marks=tuple(marks), rows=r.rows,
        facts=tuple((name, text) for name, text in facts.items() if text), card=tuple(_card(r)),
        columns=tuple(_columns(r, tables)), quality=judged, nodes=tuple(nodes), edges=tuple(edges),
        files=tuple((f.path, f.digest, _size(f.size), f.media_type) for f in r.files[:500]),
    )  # fmt: skip


def _card(record: Record) -> Iterator[tuple[str, str]]:
    for field in msgspec.structs.fields(Card):
        value = getattr(record.card, field.name)
        text = "; ".join(value) if isinstance(value, tuple) else str(value)
        yield field.name.replace("_", " "), text or "not said yet"
    yield "elements", ", ".join(record.elements)
    yield "address", record.address
    yield "digest", record.digest


def _columns(record: Record, tables: Sequence[Path]) -> Iterator[reports.Column]:
    """The columns of the first table, some of its rows; where there is none, what the record says of variables."""
    known = {variable.name: variable for variable in record.variables}
    values = _some_rows(tables[0]) if tables else {name: () for name in known}
    for name, column in values.items():
        v = known.get(name)
        if v is None:
            yield reports.Column(name, column, described=False)
            continue
        shape = " x ".join(map(str, v.shape))
        said = ", ".join(part for part in (v.description, f"called {v.called}" if v.called else "", shape) if part)
        yield reports.Column(name, column, v.unit, v.role, v.low, v.high, v.missing, said)


def _some_rows(table: Path) -> dict[str, tuple[Any, ...]]:
    """At most so many rows, evenly spread; all columns of them."""
    reader = read_parquet(table)
    names = reader.schema.names
    batches = list[tuple[int, Any]]()
    start = 0
    for batch in reader:
        batches.append((start, batch))
        start += batch.num_rows
        if start > 50 * _ROWS:
            break
    step = max(1, -(-start // _ROWS))
    found: dict[str, list[Any]] = {name: [] for name in names}
    for first, batch in batches:
        for i, name in enumerate(names):
            found[name] += batch.column(i).to_pylist()[(-first) % step :: step]
    return {name: tuple(column) for name, column in found.items()}


def _lineage(index: Index, found: Found) -> tuple[list[reports.Node], list[tuple[str, str]]]:
    """What a dataset is made from, and what was made of it, some steps each way."""
    nodes = {found.record.id: reports.Node(found.record.id, 0, found.record.kind)}
    edges = list[tuple[str, str]]()
    for up in (True, False):
        here = [found.record.id]
        for level in range(1, _LEVELS + 1):
            further = list[str]()
            for id in here:
                for other, kind, note in _neighbours(index, id, up):
                    edges.append((other, id) if up else (id, other))
                    if other not in nodes and len(nodes) < _MOST:
                        nodes[other] = reports.Node(other, -level if up else level, kind, note)
                        further.append(other)
            here = further
    return list(nodes.values()), list(dict.fromkeys(edges))


def _neighbours(index: Index, id: str, up: bool) -> Iterator[tuple[str, str, str]]:
    """What something is directly made from, or what is directly made of it; trials as the campaign that they are of."""
    if not up:
        down = [f for f in index.downstream(id) if id in f.record.used]
        for f in down:
            if f.record.kind != "trial":
                yield f.record.id, f.record.kind, _note(f)
        yield from (
            (f"campaign {c}", "campaign", "") for c in {f.record.campaign: 0 for f in down if f.record.campaign}
        )
        return
    try:
        used = index.get(id).record.used
    except LookupError:
        return
    for other in used:
        try:
            f = index.get(other)
        except LookupError:
            yield other, "not in this catalog", ""
            continue
        yield other, f.record.kind, _note(f)


def _note(found: Found) -> str:
    return f"retracted: {found.retracted}" if found.retracted else found.record.card.title


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
