"""Weights in files: safetensors, read and written with numpy alone, so that a model can be used without torch.

A file is eight bytes (the length of what follows, little-endian), a header in JSON (for every tensor its kind, shape
and place), and the bytes of the tensors, one after another. It holds numbers and nothing that could be run.
"""

import io
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

Weights = dict[str, npt.NDArray[Any]]

LONGEST_HEADER = 16 * 1024 * 1024
"""Bytes. A header of a hundred thousand tensors is shorter."""
_KINDS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?", "F8_E4M3": "u1", "F8_E5M2": "u1",
}  # fmt: skip
_UNKNOWN_TO_NUMPY = ("BF16", "F8_E4M3", "F8_E5M2")
_NAMES = {np.dtype(code): kind for kind, code in _KINDS.items() if kind not in _UNKNOWN_TO_NUMPY}


class Tensor(NamedTuple):
    """Of one tensor: kind, shape, and its first byte and the one after its last, counted from the end of the header."""

    kind: str
    shape: tuple[int, ...]
    first: int
    last: int


class Header(NamedTuple):
    """The tensors by name, in the order of their bytes; what is said besides; where their bytes begin."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    start: int


def read_header(path: Path | str) -> Header:
    """What a safetensors file says it holds, held against how long it is; its tensors are not read.

    Raises ValueError where the file is not what it must be, OSError where it cannot be read.
    """
    with open(path, "rb") as file:
        return _header(str(path), file, os.fstat(file.fileno()).st_size)


def read_weights(path: Path | str) -> Weights:
    """The tensors of a safetensors file by name, in the order of the file. They share one buffer; none is copied,
    but for those of bfloat16, which numpy does not know and which come as float32. Raises as `read_header` does."""
    return _tensors(str(path), read_header(path), np.fromfile(path, np.uint8))


def read_metadata(path: Path | str) -> dict[str, str]:
    """What the header says besides the tensors. Raises as `read_header` does."""
    return read_header(path).metadata


def unpacked(data: bytes, where: str) -> tuple[Weights, dict[str, str]]:
    """The tensors in the bytes of a safetensors file, and what is said besides; `where` they come from is for errors.

    Raises ValueError.
    """
    header = _header(where, io.BytesIO(data), len(data))
    return _tensors(where, header, np.frombuffer(bytearray(data), np.uint8)), header.metadata


def packed(tensors: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str] = {}) -> bytes:
    """Tensors as the bytes of a safetensors file. The same tensors, the same bytes.

    Raises ValueError where one is of a kind that such files do not have.
    """
    return b"".join(_pieces(tensors, metadata))


def write_weights(path: Path | str, tensors: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str] = {}) -> None:
    """Write tensors as a safetensors file, which is replaced whole or not at all. Raises as `packed` does."""
    path = Path(path)
    pieces = _pieces(tensors, metadata)
    first = next(pieces)  # Before anything is written: what cannot be kept is found now.
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(first)
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _pieces(tensors: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]) -> Iterator[bytes]:
    """The header, and then tensor by tensor."""
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    flat, at = [], 0
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        # Not ascontiguousarray: it makes a vector of a number.
        array = np.array(array, array.dtype.newbyteorder("<"), order="C", copy=None)
        if name == "__metadata__" or array.dtype not in _NAMES:
            raise ValueError(f"tensor {name!r} ({array.dtype}) cannot be kept as safetensors: use one of {_kinds()}")
        header[name] = {
            "dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]
        }  # fmt: skip
        flat.append(array)
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for array in flat:
        yield array.tobytes()


def _kinds() -> str:
    return ", ".join(str(kind) for kind in _NAMES)


def _tensors(where: str, header: Header, data: npt.NDArray[np.uint8]) -> Weights:
    found = Weights()
    for name, tensor in header.tensors.items():
        if tensor.kind.startswith("F8"):
            raise ValueError(f"{where}: tensor {name!r} is of the kind {tensor.kind}, which numpy does not know")
        array = data[header.start + tensor.first : header.start + tensor.last]
        array = array.view(_KINDS[tensor.kind]).reshape(tensor.shape)
        found[name] = (array.astype("<u4") << 16).view("<f4") if tensor.kind == "BF16" else array
    return found


def _header(where: str, source: BinaryIO, size: int) -> Header:
    if size < 8:
        raise _wrong(where, "it is shorter than eight bytes")
    length = int.from_bytes(source.read(8), "little")
    if length > LONGEST_HEADER:
        raise _wrong(where, f"its header would be {length} bytes long, and {LONGEST_HEADER} are allowed")
    if length + 8 > size:
        raise _wrong(where, "it ends within its header")
    try:
        told = json.loads(source.read(length), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _wrong(where, f"its header is no JSON ({error})") from None
    if not isinstance(told, dict):
        raise _wrong(where, "its header has no names")
    metadata = told.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise _wrong(where, "its metadata are not words by name")
    tensors = {name: _said(where, name, said) for name, said in told.items()}
    tensors = dict(sorted(tensors.items(), key=lambda item: item[1][2:]))
    at, end = 0, size - 8 - length
    for name, (kind, shape, first, last) in tensors.items():
        if first != at or last - first != math.prod(shape) * np.dtype(_KINDS[kind]).itemsize or last > end:
            raise _wrong(where, f"the bytes of tensor {name!r} are not where, or not as many as, its shape says")
        at = last
    if at != end:
        raise _wrong(where, f"{end - at} bytes at its end belong to no tensor")
    return Header(tensors, metadata, length + 8)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name stands in it twice")
    return made


def _said(where: str, name: str, said: object) -> Tensor:
    if not isinstance(said, dict) or set(said) != {"dtype", "shape", "data_offsets"}:
        raise _wrong(where, f"tensor {name!r} must have dtype, shape and data_offsets, and nothing else")
    kind, shape, place = said["dtype"], said["shape"], said["data_offsets"]
    if not isinstance(kind, str) or kind not in _KINDS:
        raise _wrong(where, f"tensor {name!r} is of the kind {kind!r}; known are {', '.join(_KINDS)}")
    if not _counts(shape) or not _counts(place) or len(place) != 2 or place[0] > place[1]:
        raise _wrong(where, f"the shape {shape!r} or the place {place!r} of tensor {name!r} is no such thing")
    return Tensor(kind, tuple(shape), place[0], place[1])


def _counts(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _wrong(where: str, why: str) -> ValueError:
    return ValueError(f"{where} is no safetensors file, or is damaged: {why}")
