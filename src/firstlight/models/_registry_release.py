"""The files of a release: weights and documents, and nothing that could run when it is read."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from ._registry_facts import Damaged
from ._release import CONFIG, WEIGHTS
from ._weights import read_header

_SUFFIXES = (".safetensors", ".json", ".md", ".txt")
_NAMES = ("LICENSE", "LICENCE", "NOTICE")


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
        read_header(file)
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


def digest_of_file(file: Path) -> str:
    """The SHA-256 digest of a file. Raises OSError."""
    with open(file, "rb") as source:
        return f"sha256:{hashlib.file_digest(source, 'sha256').hexdigest()}"


def check_digest(path: str, file: Path, digest: str) -> None:
    """Raises Damaged where a file is not what its digest promises."""
    if (found := digest_of_file(file)) != digest:
        raise Damaged(f"{path} is {found}, and not {digest}: it was changed or damaged")
