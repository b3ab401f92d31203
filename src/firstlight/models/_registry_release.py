"""The files of a release: weights and documents, and nothing that could run when it is read."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from ._registry_facts import Damaged
from ._release import CONFIG, WEIGHTS

_SUFFIXES = (".safetensors", ".json", ".md", ".txt")
_NAMES = ("LICENSE", "LICENCE", "NOTICE")
_DTYPES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
_MOST_HEADER = 100 << 20
"""Bytes of the header of weights: what the format itself allows."""


def release_files(folder: Path) -> dict[str, Path]:
    """The files of a release by their paths in it. Raises ValueError for one that has no business there, or a weights
    file that is none; FileNotFoundError where weights or config.json are missing."""
    found = dict[str, Path]()
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder).as_posix()
        if file.is_symlink():
            raise ValueError(f"{file} is a link: a release has files")
        if file.is_dir():
            continue
        check_name(path)
        found[path] = file
    for wanted in (WEIGHTS, CONFIG):
        if wanted not in found:
            raise FileNotFoundError(f"{folder} is no release of a model: it has no {wanted}")
    for path, file in found.items():
        check_content(path, file)
    return found


def check_name(path: str) -> None:
    """Raises ValueError for a path that leads out of a release, or a file that has no business in one."""
    parts = path.split("/")
    if not path or "\\" in path or "\0" in path or any(part in ("", "..") or part.startswith(".") for part in parts):
        raise ValueError(f"{path!r} cannot be the path of a file in a release")
    if not (path.endswith(_SUFFIXES) or parts[-1] in _NAMES):
        allowed = ", ".join([*_SUFFIXES, *_NAMES])
        raise ValueError(f"{path!r} has no business in a release, which has {allowed}: no pickles, and no code")


def check_content(path: str, file: Path) -> None:
    """Raises ValueError where a file is not what its name says."""
    if path.endswith(".safetensors"):
        read_tensors(file)
    elif path.endswith(".json"):
        read_json(file)


def read_json(file: Path) -> Any:
    """A document. Raises ValueError naming the file."""
    try:
        return msgspec.json.decode(file.read_bytes())
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"{file.name} is not JSON: {error}") from error


def family_of(folder: Path) -> str:
    """The family that a release is of, as its config.json says. Raises ValueError."""
    config = read_json(folder / CONFIG)
    family = config.get("family") if isinstance(config, dict) else None
    if not isinstance(family, str) or not family:
        raise ValueError(f"{folder / CONFIG} does not say of which family the model is")
    return family


def read_tensors(file: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The tensors of a file of weights: the type and shape of each by name.

    Only the header is read, and held against the size of the file: tensors lie side by side without a gap, as the
    format wants it. Raises ValueError naming the file where it is no safetensors.
    """
    size = file.stat().st_size
    with open(file, "rb") as source:
        length = int.from_bytes(source.read(8), "little")
        if size < 8 or not 2 <= length <= min(_MOST_HEADER, size - 8):
            raise ValueError(f"{file.name} is no safetensors: its header would have {length:,} bytes")
        try:
            header = msgspec.json.decode(source.read(length), type=dict[str, dict[str, Any]])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ValueError(f"{file.name} is no safetensors: {error}") from error
    header.pop("__metadata__", None)
    data = size - 8 - length
    found, spans = dict[str, tuple[str, tuple[int, ...]]](), list[tuple[int, int]]()
    for name, told in header.items():
        try:
            tensor = msgspec.convert(told, _Tensor)
            wanted = _DTYPES[tensor.dtype]
        except (msgspec.ValidationError, KeyError) as error:
            raise ValueError(f"{file.name} is no safetensors: tensor {name!r}: {error}") from error
        for along in tensor.shape:
            wanted *= along
        low, high = tensor.data_offsets
        if min(low, *tensor.shape, 0) < 0:
            raise ValueError(f"{file.name} is no safetensors: tensor {name!r} has a negative length or place")
        if high - low != wanted:
            raise ValueError(f"{file.name}: tensor {name!r} has {high - low:,} bytes, and should have {wanted:,}")
        found[name] = (tensor.dtype, tensor.shape)
        spans.append((low, high))
    _check_spans(file, spans, data)
    return found


class _Tensor(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def _check_spans(file: Path, spans: Iterable[tuple[int, int]], size: int) -> None:
    end = 0
    for low, high in sorted(spans):
        if low != end:
            raise ValueError(f"{file.name} is no safetensors: its tensors overlap, or leave a gap at byte {end:,}")
        end = high
    if end != size:
        raise ValueError(f"{file.name} is no safetensors: it has {size:,} bytes of tensors, and tells of {end:,}")


def digest_of_file(file: Path) -> str:
    """The SHA-256 digest of a file. Raises OSError."""
    with open(file, "rb") as source:
        return f"sha256:{hashlib.file_digest(source, 'sha256').hexdigest()}"


def check_digest(path: str, file: Path, digest: str) -> None:
    """Raises Damaged where a file is not what its digest promises."""
    if (found := digest_of_file(file)) != digest:
        raise Damaged(f"{path} is {found}, and not {digest}: it was changed or damaged")
