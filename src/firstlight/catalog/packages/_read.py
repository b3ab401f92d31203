"""Packages of others, and our own that come back: every byte is checked before anything is believed."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

from .._records import Record, digest_of_files
from ..provenance import from_prov_json
from . import _croissant, _rocrate
from ._foreign import of_crate, of_croissant
from ._package import DATA, JOURNAL, OWN, PROVENANCE, Damaged, Json, Package, Part, checked, verify
from ._zip import unpacked

_LARGEST = 512 * 2**20
"""Bytes of metadata that are read at most."""


def read(path: Path, scratch: Path) -> Package:
    """A package from a directory or a .zip of an RO-Crate or a Croissant dataset.

    A directory's files stay where they are; a .zip is unpacked into a fresh directory below `scratch`, which is
    removed again where anything is wrong. Of our own packages the record is the one that was sent; of others it is
    made of the standard metadata, with digests of what is there.

    Raises Damaged where a file is not what the package says, ValueError for what is no such package or cannot be
    trusted (a path that leads out, a link, an archive that swells), OSError where it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return _package(_root(path, path.name))
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path.name} is neither a directory nor a .zip: give one of an RO-Crate or a Croissant dataset"
        )
    with unpacked(path, Path(scratch)) as place:
        return _package(_root(place, path.name))


def _root(place: Path, name: str) -> Path:
    """Where the metadata are: at the top, or in the one directory there."""
    inside = [p for p in place.iterdir() if p.is_dir() and not p.is_symlink()]
    roots = [place, *inside] if len(inside) == 1 else [place]
    for root in roots:
        if (root / _rocrate.METADATA).exists() or _croissants(root):
            return root
    raise ValueError(f"{name} is no package: it has neither {_rocrate.METADATA} nor Croissant metadata")


def _croissants(root: Path) -> list[Path]:
    known = [p for p in (root / _croissant.METADATA, root / "metadata.json") if p.is_file() and not p.is_symlink()]
    return known or [p for p in sorted(root.glob("*croissant*.json")) if p.is_file() and not p.is_symlink()]


def _package(root: Path) -> Package:
    if (root / _rocrate.METADATA).exists():
        said = _json(root / _rocrate.METADATA)
        parts, found = _crate_parts(said), _rocrate.METADATA
    else:
        metadata = _croissants(root)[0]
        said, found = _json(metadata), metadata.name
        parts = _croissant_parts(said, found)
    if any(part.path == OWN for part in parts):
        return _own(root, parts)
    if found == _rocrate.METADATA:
        return of_crate(said, root, _verified(root, parts))
    return of_croissant(said, root, _verified(root, parts))


def _json(path: Path) -> Json:
    if path.is_symlink() or not path.is_file():
        raise ValueError(f"{path.name} is a link or no file, and is not followed")
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path.name} is larger than {_LARGEST:,} bytes: these are no metadata")
    try:
        found = msgspec.json.decode(path.read_bytes())
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is no JSON-LD: it must be an object")
    return found


def _crate_parts(said: Json) -> list[Part]:
    """The files in a crate that its metadata describe. Raises ValueError for JSON that is no crate."""
    graph = said.get("@graph")
    nodes = [n for n in graph if isinstance(n, dict)] if isinstance(graph, list) else []
    if not any(str(n.get("@id", "")).removeprefix("./") == _rocrate.METADATA and "about" in n for n in nodes):
        raise ValueError(f"{_rocrate.METADATA} is no RO-Crate: it has no '@graph' with a descriptor of itself")
    return [
        Part(_path(str(n.get("@id", ""))), _digest(n.get("sha256")), _size(n.get("contentSize")))
        for n in nodes if "File" in many(n.get("@type")) and _local(str(n.get("@id", "")))
    ]  # fmt: skip


def _croissant_parts(said: Json, name: str) -> list[Part]:
    if "mlcommons.org" not in f"{said.get('conformsTo')} {said.get('@context')}":
        raise ValueError(f"{name} is no Croissant dataset: it conforms to something else")
    found = list[Part]()
    for node in many(said.get("distribution")):
        if not isinstance(node, dict) or "FileObject" not in str(node.get("@type", "")) or node.get("containedIn"):
            continue
        address = str(node.get("contentUrl", ""))
        if address and _local(address):
            found.append(Part(_plain(address), _digest(node.get("sha256")), _size(node.get("contentSize"))))
    return found


def many(value: Any) -> list[Any]:
    """What JSON-LD has as nothing, one value or a list, as a list."""
    return [] if value is None else value if isinstance(value, list) else [value]


def _local(id: str) -> bool:
    return bool(id) and not id.startswith("#") and "://" not in id and not id.startswith(("urn:", "mailto:", "data:"))


def _path(id: str) -> str:
    return _plain(unquote(id))


def _plain(path: str) -> str:
    return checked(path.removeprefix("./").rstrip("/"))


def _digest(said: object) -> str:
    return f"sha256:{said.lower().removeprefix('sha256:')}" if isinstance(said, str) and said else ""


def _size(said: object) -> int:
    """Bytes, or -1 where nothing exact is said ("12 kB")."""
    words = str(said).split()
    exact = len(words) == 1 or (len(words) == 2 and words[1] in ("B", "bytes"))
    return int(words[0]) if exact and words[0].isdigit() else -1


def _verified(root: Path, parts: Sequence[Part]) -> list[Part]:
    return [_sound(root, part) for part in parts]


def _sound(root: Path, part: Part) -> Part:
    for parent in list(Path(part.path).parents)[:-1]:
        if (root / parent).is_symlink():
            raise ValueError(f"{part.path} leads through a link, and is not followed")
    found = verify(part.path, root / part.path, part.digest, part.size if part.size >= 0 else None)
    return found._replace(media_type=part.media_type)


def _own(root: Path, parts: Sequence[Part]) -> Package:
    """A package that one of us wrote: its record as it was."""
    sound = {part.path: part for part in _verified(root, parts)}
    try:
        record = msgspec.json.decode((root / OWN).read_bytes(), type=Record)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"{OWN} is no record that this version can read: {error}") from error
    data = {path.removeprefix(f"{DATA}/"): p for path, p in sound.items() if path.startswith(f"{DATA}/")}
    for file in record.files:
        there = data.get(file.path)
        if there is None:
            raise Damaged(f"{DATA}/{file.path}", file.digest, "nothing in the metadata")
        if (there.digest, there.size) != (file.digest, file.size):
            raise Damaged(f"{DATA}/{file.path}", f"{file.digest} ({file.size} bytes)",
                          f"{there.digest} ({there.size} bytes)")  # fmt: skip
    if record.files:
        if more := sorted(data.keys() - {file.path for file in record.files}):
            raise Damaged(f"{DATA}/{more[0]}", "no such file in the record", "one in the metadata")
        if (found := digest_of_files(record.files)) != record.digest:
            raise Damaged(OWN, record.digest, f"{found} by its list of files")
    provenance = from_prov_json(_json(root / PROVENANCE)) if PROVENANCE in sound else None
    journal = root / JOURNAL if JOURNAL in sound else None
    return Package(record, {path: root / DATA / path for path in data}, provenance, journal)
