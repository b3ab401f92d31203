"""Weights in files: safetensors, read and written with numpy alone, so that a model can be used without torch.

A file is eight bytes (the length of what follows, little-endian), a header in JSON (for every tensor its kind, shape
and place), and the bytes of the tensors, one after another. It holds numbers and nothing that could be run.
"""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Weights = dict[str, npt.NDArray[Any]]

LONGEST_HEADER = 16 * 1024 * 1024
"""Bytes. A header of a hundred thousand tensors is shorter."""
_KINDS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_NAMES = {np.dtype(code): kind for kind, code in _KINDS.items() if kind != "BF16"}


def read_weights(path: Path | str) -> Weights:
    """The tensors of a safetensors file by name, in the order of the file. They share one buffer; none is copied,
    but for those of bfloat16, which numpy does not know and which come as float32.

    Raises ValueError where the file is not what it must be, OSError where it cannot be read.
    """
    return _read(Path(path))[0]


def read_metadata(path: Path | str) -> dict[str, str]:
    """What the header says besides the tensors. Raises as `read_weights` does."""
    return _header(Path(path), np.fromfile(path, np.uint8))[0]


def write_weights(path: Path | str, tensors: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str] = {}) -> None:
    """Write tensors as a safetensors file, which is replaced whole or not at all. The same tensors, the same bytes.

    Raises ValueError where one is of a kind that such files do not have.
    """
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
    path = Path(path)
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for array in flat:
                file.write(array.tobytes())
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _kinds() -> str:
    return ", ".join(str(kind) for kind in _NAMES)


def _read(path: Path) -> tuple[Weights, dict[str, str]]:
    data = np.fromfile(path, np.uint8)
    metadata, header, start = _header(path, data)
    found, at = Weights(), start
    for name, said in sorted(header.items(), key=lambda item: _begins(path, *item)):
        kind, shape, first, last = _said(path, name, said)
        dtype = np.dtype(_KINDS[kind])
        if first + start != at or last - first != math.prod(shape) * dtype.itemsize or last + start > len(data):
            raise _wrong(path, f"the bytes of tensor {name!r} are not where, or not as many as, its shape says")
        at = last + start
        array = data[first + start : at].view(dtype).reshape(shape)
        found[name] = (array.astype("<u4") << 16).view("<f4") if kind == "BF16" else array
    if at != len(data):
        raise _wrong(path, f"{len(data) - at} bytes at its end belong to no tensor")
    return found, metadata


def _header(path: Path, data: npt.NDArray[np.uint8]) -> tuple[dict[str, str], dict[str, Any], int]:
    """What it says besides the tensors, what of each of them, and where their bytes begin."""
    if len(data) < 8:
        raise _wrong(path, "it is shorter than eight bytes")
    length = int.from_bytes(data[:8].tobytes(), "little")
    if length > LONGEST_HEADER:
        raise _wrong(path, f"its header would be {length} bytes long, and {LONGEST_HEADER} are allowed")
    if length + 8 > len(data):
        raise _wrong(path, "it ends within its header")
    try:
        header = json.loads(data[8 : length + 8].tobytes(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _wrong(path, f"its header is no JSON ({error})") from None
    if not isinstance(header, dict):
        raise _wrong(path, "its header has no names")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise _wrong(path, "its metadata are not words by name")
    return metadata, header, length + 8


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name stands in it twice")
    return made


def _begins(path: Path, name: str, said: object) -> tuple[int, int]:
    return _said(path, name, said)[2:]


def _said(path: Path, name: str, said: object) -> tuple[str, tuple[int, ...], int, int]:
    """Kind, shape, first byte and the one after the last of a tensor."""
    if not isinstance(said, dict) or set(said) != {"dtype", "shape", "data_offsets"}:
        raise _wrong(path, f"tensor {name!r} must have dtype, shape and data_offsets, and nothing else")
    kind, shape, place = said["dtype"], said["shape"], said["data_offsets"]
    if not isinstance(kind, str) or kind not in _KINDS:
        raise _wrong(path, f"tensor {name!r} is of the kind {kind!r}; known are {', '.join(_KINDS)}")
    if not _counts(shape) or not _counts(place) or len(place) != 2 or place[0] > place[1]:
        raise _wrong(path, f"the shape {shape!r} or the place {place!r} of tensor {name!r} is no such thing")
    return kind, tuple(shape), place[0], place[1]


def _counts(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _wrong(path: Path, why: str) -> ValueError:
    return ValueError(f"{path} is no safetensors file, or is damaged: {why}")
