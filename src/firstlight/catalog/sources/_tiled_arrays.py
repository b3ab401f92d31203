"""Arrays of a Tiled server, block by block into a file of NumPy's."""

import asyncio
import itertools
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import msgspec
import numpy as np

from ..index import File
from ..store import digest_of
from ._answer import Progress
from ._said import inner
from ._wire import Wire

_ORDER = {"little": "<", "big": ">", "not_applicable": "|"}


def dtype_of(structure: Mapping[str, Any]) -> "np.dtype[Any] | None":
    """What the array is of, None where NumPy has no plain type for it."""
    said = inner(structure, "data_type")
    kind, size, units = said.get("kind"), said.get("itemsize"), said.get("dt_units") or ""
    if not isinstance(kind, str) or kind not in "biufcSUmM" or not isinstance(size, int) or size < 1:
        return None
    order = _ORDER.get(str(said.get("endianness")), "|")
    try:
        return np.dtype(f"{order}{kind}{size // 4 if kind == 'U' else size}{units}")
    except (TypeError, ValueError):
        return None


def whole_numbers(said: object) -> TypeGuard[list[int]]:
    """Whether it is a list of sizes."""
    return isinstance(said, list) and all(isinstance(n, int) and n >= 0 for n in said)


async def saved(
    wire: Wire, address: str, structure: Mapping[str, Any], path: Path, most: int, progress: Progress
) -> File:  # fmt: skip
    """The array whose blocks are at `address` ("https://.../array/path"), as `path`. Blocks that came before stay, as
    long as the array is of the same structure. Raises `Unreachable`."""
    dtype, shape, chunks = dtype_of(structure), structure.get("shape"), structure.get("chunks")
    if dtype is None or not whole_numbers(shape) or not isinstance(chunks, list) or not all(map(whole_numbers, chunks)):
        raise wire.fails(f"{address} is an array of records or objects", "read it with Tiled")
    size = math.prod(shape) * dtype.itemsize
    if size > most:
        raise wire.fails(f"{address} has {size} bytes", f"allow more than {most} (most)")
    part, state = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.blocks")
    done = await asyncio.to_thread(_begin, part, state, structure, dtype, shape)
    came = 0
    for block in itertools.product(*(range(len(axis)) for axis in chunks)):
        place = tuple(slice(sum(axis[:n]), sum(axis[: n + 1])) for axis, n in zip(chunks, block, strict=True))
        extent = [axis[n] for axis, n in zip(chunks, block, strict=True)]
        expected = math.prod(extent) * dtype.itemsize
        label = ",".join(map(str, block))
        if label not in done:
            content = await _block(wire, address, label)
            if len(content) != expected:
                raise wire.fails(f"block {label} of {address} has {len(content)} bytes, not {expected}")
            await asyncio.to_thread(_put, part, state, place, np.frombuffer(content, dtype).reshape(extent), label)
        came += expected
        progress(came, size)
    return await asyncio.to_thread(_end, part, state, path)


async def _block(wire: Wire, address: str, label: str) -> bytes:
    base, _, rest = address.partition("/array/")
    what = "block" if label else "full"
    params = [("format", "application/octet-stream"), *([("block", label)] if label else [])]
    try:
        return (await wire.get(f"{base}/array/{what}/{rest}", params)).content
    except LookupError as error:
        raise wire.fails(str(error)) from None


def _begin(
    part: Path, state: Path, structure: Mapping[str, Any], dtype: "np.dtype[Any]", shape: list[int]
) -> set[str]:  # fmt: skip
    """The blocks that are there; an empty file where there are none of this array."""
    head = msgspec.json.encode(structure, order="deterministic").decode()
    lines = state.read_text().split("\n") if state.exists() and part.exists() else []
    if lines[:1] == [head]:
        return set(lines[1:-1])
    part.parent.mkdir(parents=True, exist_ok=True)
    np.lib.format.open_memmap(part, "w+", dtype, tuple(shape)).flush()
    state.write_text(head + "\n")
    return set()


def _put(part: Path, state: Path, place: tuple[slice, ...], values: "np.ndarray[Any, Any]", label: str) -> None:
    """The block first, then that it is there."""
    whole = np.lib.format.open_memmap(part, "r+")
    whole[place] = values
    whole.flush()
    with open(state, "a") as file:
        file.write(label + "\n")
        file.flush()
        os.fsync(file.fileno())


def _end(part: Path, state: Path, path: Path) -> File:
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    digest, size = digest_of(part)
    os.replace(part, path)
    state.unlink()
    return File(path=path.name, digest=digest, size=size, media_type="application/x-npy")
