"""Datasets as tables of a Tiled server: written whole, and then declared complete."""

import asyncio
import base64
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from arro3.core import Field, Schema, Table
from arro3.io import read_parquet, write_ipc, write_ipc_stream, write_parquet

from firstlight.core import Value

from ..index import Record
from ..store import digest_of_bytes
from ._said import inner, objects, path_of
from ._wire import Params, Reply, Wire

OURS = "firstlight"
"""The key of the metadata that has our record."""
_COMPLETE = "complete"
_ROWS = 200_000
"""Rows of a partition: each is one request."""
_ARROW = "application/vnd.apache.arrow.file"
_END = b"\xff\xff\xff\xff\0\0\0\0"


class Sheet(Value, frozen=True):
    """One table, ready to be sent: its structure and its partitions as Arrow files. `renamed` has the columns that
    Tiled does not allow as they are, by their new names."""

    structure: dict[str, Any]
    partitions: tuple[bytes, ...]
    renamed: dict[str, str] = {}


async def published(
    wire: Wire, address: str, under: str, record: Record, files: Mapping[str, Path], key: str
) -> str:  # fmt: skip
    """What `Tiled.publish` says."""
    if not key or "/" in key or key.startswith((".", "_")):
        raise ValueError(f"{key!r} cannot be a key: it must have no / and not begin with . or _")
    sheets = await asyncio.to_thread(_sheets, record, files)
    if there := await _twin(wire, address, under, record):
        return there
    path = f"{under}/{key}" if under else key
    metadata = _metadata(record, sheets)
    one = len(sheets) == 1
    structure = next(iter(sheets.values())).structure if one else None
    await _made(wire, address, path, {**metadata, _COMPLETE: False}, structure, record.digest)
    for name, sheet in sheets.items():
        at = path if one else f"{path}/{name}"
        if not one:
            await _made(wire, address, at, {**metadata, "title": name, OURS: None}, sheet.structure, record.digest)
        await _filled(wire, address, at, sheet)
    # A server that was left alone before this has a dataset that says it is not complete.
    await _sent(
        wire, "PUT", f"{address}/metadata/{quote(path)}", [("drop_revision", "true")],
        {"metadata": {**metadata, _COMPLETE: True}},
    )  # fmt: skip
    return f"{address}/metadata/{quote(path)}"


def unfinished(item: Mapping[str, Any]) -> bool:
    """Whether a node is of a dataset that was left before it was complete."""
    return (
        inner(item, "attributes", "metadata", OURS) != {}
        and inner(item, "attributes", "metadata").get(_COMPLETE) is False
    )


async def _twin(wire: Wire, address: str, under: str, record: Record) -> str:
    """The address of the same dataset, complete, "" where there is none."""
    conditions = {"digest": record.digest, _COMPLETE: True}
    filters = [
        (f"filter[eq][condition][{part}]", said)
        for key, value in conditions.items()
        for part, said in (("key", key), ("value", msgspec.json.encode(value).decode()))
    ]
    said = await wire.json(f"{address}/search/{quote(under)}", [*filters, ("page[limit]", "1")])
    for item in objects(said.get("data") if isinstance(said, dict) else None):
        return f"{address}/metadata/{quote(path_of(item))}"
    return ""


async def _made(
    wire: Wire, address: str, path: str, metadata: Mapping[str, Any], structure: Mapping[str, Any] | None, digest: str
) -> None:
    """A node, unless one of the same dataset is there. Raises ValueError where it is another one's."""
    parent, _, key = path.rpartition("/")
    family = "table" if structure else "container"
    body = {
        "id": key, "structure_family": family, "metadata": metadata, "specs": [],
        "data_sources": [{"structure_family": family, "structure": structure}] if structure else [],
    }  # fmt: skip
    reply = await wire.send(
        "POST", f"{address}/metadata/{quote(parent)}", content=msgspec.json.encode(body),
        headers={"Content-Type": "application/json"},
    )  # fmt: skip
    if reply.status == 409:
        said = await wire.json(f"{address}/metadata/{quote(path)}")
        if inner(said, "data", "attributes", "metadata").get("digest") != digest:
            raise ValueError(f"{wire.who} has another dataset at {path}: publish under another key")
    elif reply.status >= 400:
        raise wire.refused(reply)


async def _filled(wire: Wire, address: str, path: str, sheet: Sheet) -> None:
    for n, content in enumerate(sheet.partitions):
        one = len(sheet.partitions) == 1
        params: Params = [] if one else [("partition", str(n))]
        what = f"{address}/table/{'full' if one else 'partition'}/{quote(path)}"
        reply = await wire.send("PUT", what, params, content=content, headers={"Content-Type": _ARROW})
        if reply.status >= 400:
            raise wire.refused(reply)


async def _sent(wire: Wire, method: str, url: str, params: Params, body: object) -> Reply:
    headers = {"Content-Type": "application/json"}
    reply = await wire.send(method, url, params, content=msgspec.json.encode(body), headers=headers)
    if reply.status >= 400:
        raise wire.refused(reply)
    return reply


def _sheets(record: Record, files: Mapping[str, Path]) -> dict[str, Sheet]:
    """The tables of a dataset, by the names that they get. Raises ValueError."""
    digests = {file.path: file.digest for file in record.files}
    found = dict[str, Sheet]()
    for name, path in sorted(files.items()):
        if not name.endswith(".parquet"):
            continue
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error}") from None
        digest = digest_of_bytes(content)
        if digests.get(name, digest) != digest:
            raise ValueError(f"{path} is {digest}, and not {digests[name]} as the record says")
        found[name.removesuffix(".parquet").replace("/", "-")] = _sheet(content, str(path))
    if not found:
        raise ValueError("it has no Parquet file: Tiled takes tables")
    return found


def _sheet(content: bytes, name: str) -> Sheet:
    table = table_of(content, name)
    names = [_allowed(n, table.column_names) for n in table.column_names]
    renamed = {new: old for new, old in zip(names, table.column_names, strict=True) if new != old}
    table = table.rename_columns(names)
    rows = table.num_rows
    parts = [table.slice(n, min(_ROWS, rows - n)) for n in range(0, max(rows, 1), _ROWS)]
    structure = {
        "arrow_schema": f"data:{_ARROW};base64,{base64.b64encode(_serialized(table.schema)).decode()}",
        "npartitions": len(parts), "columns": names, "resizable": False,
    }  # fmt: skip
    return Sheet(structure=structure, partitions=tuple(map(_file, parts)), renamed=renamed)


def table_of(content: bytes, name: str) -> Table:
    """A Parquet file, `name`, as a table. Raises ValueError where it is none."""
    if len(content) < 12 or content[:4] != b"PAR1" or content[-4:] != b"PAR1":
        raise ValueError(f"{name} is no Parquet file, or not all of one")
    try:
        return read_parquet(io.BytesIO(content)).read_all()
    except BaseException as error:
        # What the library makes of a damaged file is a panic, which is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"{name} cannot be read as Parquet: {error}") from None


def cleaned(content: bytes, renamed: Mapping[str, str]) -> bytes:
    """A table that Tiled gives, as it was: without the index that pandas puts in, and with the names that we changed.
    Raises ValueError."""
    table = table_of(content, "what Tiled gives")
    names = [name for name in table.column_names if not re.fullmatch(r"__index_level_\d+__", name)]
    table = table.select(names).rename_columns([renamed.get(name, name) for name in names])
    out = io.BytesIO()
    # The keys of fields and of the file are pandas' own, and the library writes several in a random order.
    fields = [table.schema.field(n) for n in range(len(names))]
    schema = Schema([Field(field.name, field.type, nullable=field.nullable) for field in fields])
    plain = Table.from_arrays([table.column(n) for n in range(len(names))], schema=schema)
    write_parquet(plain, out, compression="zstd(3)", created_by="firstlight")
    return out.getvalue()


def _allowed(name: str, others: list[str]) -> str:
    """A name that does not begin with "_", which Tiled keeps for itself."""
    new = name.lstrip("_") or "column"
    while new != name and new in others:
        new += "_"
    return new


def _serialized(schema: Schema) -> bytes:
    """A schema as one message of Arrow's format for streams."""
    out = io.BytesIO()
    write_ipc_stream(Table.from_batches([], schema=schema), out)
    return out.getvalue().removesuffix(_END)


def _file(table: Table) -> bytes:
    out = io.BytesIO()
    write_ipc(table, out)
    return out.getvalue()


def _metadata(record: Record, sheets: Mapping[str, Sheet]) -> dict[str, Any]:
    """What people look for, in words that others use, and the whole record."""
    card = record.card
    renamed = {new: old for sheet in sheets.values() for new, old in sheet.renamed.items()}
    return {
        "title": card.title or record.name, "description": card.description, "creators": list(card.creators),
        "license": card.licence, "keywords": list(card.keywords), "citation": card.citation,
        "elements": list(record.elements), "created": record.created, "digest": record.digest,
        "derived_from": list(record.used), "renamed": renamed, OURS: msgspec.to_builtins(record),
    }  # fmt: skip
