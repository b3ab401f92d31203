"""Packages that appear whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import get_args

import msgspec

from .._records import File, digest_of_files
from ..provenance import prov_json
from ..store import digest_of
from ._croissant import croissant
from ._datacite import datacite
from ._dcat import dcat_us
from ._package import (
    DATA,
    JOURNAL,
    OWN,
    PROVENANCE,
    Damaged,
    Form,
    Json,
    Package,
    Part,
    checked,
    copied,
    media_type,
)
from ._rocrate import crate
from ._tables import as_csv, as_parquet

_encode = msgspec.json.Encoder(order="deterministic").encode


def write(package: Package, form: Form, to: Path, actions: int = 100) -> Path:
    """Write a package: a directory (rocrate, croissant) or a file. It appears whole or not at all.

    A crate of a campaign (a package with a journal) lists that many of its actions one by one; all are in its
    `provenance.json`. Raises FileExistsError where `to` is there, Damaged where a file is not what the record says,
    ValueError for what a form cannot say (it names what is missing), OSError where the disk refuses.
    """
    if form not in get_args(Form):
        raise ValueError(f"there is no form {form!r}: use one of {', '.join(get_args(Form))}")
    to = Path(to)
    if os.path.lexists(to):
        raise FileExistsError(f"{to} is there already: remove it, or give another name")
    _check(package)
    if form in ("rocrate", "croissant"):
        return _appear(to, lambda place: _directory(package, form, place, actions))
    return _appear(to, lambda place: _file(package, form, place))


def _appear(to: Path, make: Callable[[Path], None]) -> Path:
    """What is made beside its place is moved there at one stroke, or removed."""
    to.parent.mkdir(parents=True, exist_ok=True)
    private = Path(tempfile.mkdtemp(dir=to.parent, prefix=f".{to.name[:60]}."))
    try:
        made = private / "made"
        make(made)
        if made.is_dir():
            if os.path.lexists(to):
                raise FileExistsError(f"{to} has come to be meanwhile")
            os.rename(made, to)
        else:
            os.link(made, to)  # Unlike a rename, it never replaces what is there.
    finally:
        shutil.rmtree(private, ignore_errors=True)
    return to


def _check(package: Package) -> None:
    """That the files given are those of the record, before anything is written."""
    record, given = package.record, set(package.files)
    for path in given:
        checked(path)
        if above := next((p for p in map(str, PurePosixPath(path).parents) if p in given), None):
            raise ValueError(f"{above} is a file and a directory at once, with {path} in it")
    if record.files:
        said = {file.path for file in record.files}
        if missing := sorted(said - given):
            raise ValueError(f"{record.id} has a file {missing[0]}, and nobody says where its bytes are")
        if more := sorted(given - said):
            raise ValueError(f"{record.id} has no file {more[0]}")
        if (found := digest_of_files(record.files)) != record.digest:
            raise Damaged(record.id, record.digest, f"{found} by its list of files")


def _directory(package: Package, form: Form, place: Path, actions: int) -> None:
    place.mkdir()
    known = {file.path: file for file in package.record.files}
    data = list[File]()
    for path, source in sorted(package.files.items()):
        digest, size = copied(source, place / DATA / checked(path))
        said = known.get(path)
        if said is not None and (said.digest, said.size) != (digest, size):
            raise Damaged(path, f"{said.digest} ({said.size} bytes)", f"{digest} ({size} bytes)")
        data.append(File(path, digest, size, media_type(said or path)))
    own = [_put(place / OWN, msgspec.json.format(_encode(package.record), indent=1) + b"\n")]
    if package.provenance is not None:
        own.append(_put(place / PROVENANCE, msgspec.json.encode(prov_json(package.provenance)) + b"\n"))
    if package.journal is not None:
        digest, size = copied(package.journal, place / JOURNAL)
        own.append(Part(JOURNAL, digest, size, "application/jsonl"))
    files = crate(package, data, own, actions) if form == "rocrate" else croissant(package, data, own)
    for name, content in files.items():
        _put(place / name, content)


def _put(path: Path, content: bytes) -> Part:
    path.write_bytes(content)
    digest, size = digest_of(path)
    return Part(path.name, digest, size, media_type(path.name))


def _file(package: Package, form: Form, place: Path) -> None:
    if form == "csv":
        as_csv(package, place)
    elif form == "parquet":
        as_parquet(package, place)
    elif form == "prov":
        if package.provenance is None:
            raise ValueError(f"nothing is known of how {package.record.id} came to be: there is no provenance to write")
        _put(place, _pretty(prov_json(package.provenance)))
    else:
        said = datacite(package.record) if form == "datacite" else dcat_us(package)
        _put(place, _pretty(said))


def _pretty(said: Json) -> bytes:
    return msgspec.json.format(msgspec.json.encode(said), indent=2) + b"\n"
