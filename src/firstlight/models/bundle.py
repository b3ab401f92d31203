"""Models for sites without network: one file with a version, what is known of it, and the signature of who sends it.

The file is a zip that any tool opens, and of which no byte can be changed unnoticed: `bundle.json` (a manifest, signed
as a whole), `signature.json`, `release/...`. Nothing of it is used before its signer is known to be trusted, and
nothing in it is run. It needs cryptography.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from firstlight.core import Value

from ._bundle_sign import Untrusted, key_of, kind_of, make_key, signed, signer
from ._bundle_zip import Reader, Writer
from ._licence import licence
from ._registry_facts import Entry, Refused, Registered, Version
from ._registry_release import check_name, family_of, release_files
from ._release import WEIGHTS
from ._report import REPORT, Report, read_report
from .card import CARD
from .registry import Kept, Registry, Shunned

__all__ = [
    "Bundle", "File", "Revocations", "Untrusted", "bring", "bring_revocations", "export", "export_revocations",
    "has_revocations", "key_of", "look", "look_at_revocations", "make_key", "read_card",
]  # fmt: skip

MODEL = "application/vnd.firstlight.model-bundle+json"
REVOCATIONS = "application/vnd.firstlight.revocations+json"
"""What kind of document is signed: a signature under one is none under the other."""
FORMAT = 1
_MANIFEST, _SIGNATURE, _RELEASE = "bundle.json", "signature.json", "release/"
_MOST_MANIFEST, _MOST_SIGNATURE = 64 << 20, 64 << 10
"""Bytes that are read before anybody has been believed."""

Document = TypeVar("Document", bound=Value)


class File(Value, frozen=True):
    """The digest of a file, and how many bytes it has."""

    digest: str
    size: int


class Bundle(Value, frozen=True):
    """A version as it travels: what the catalog is told of it, what was registered, and what has happened to it since.

    `history` are the entries about it in the history of its model at the site it comes from. `licences` are those of
    its data by dataset, and of the weights that it began with. `parents` are the records of the versions it was made
    from, the nearest first.
    """

    told: Kept
    made: Registered
    files: dict[str, File]
    history: tuple[Entry, ...]
    licences: dict[str, str] = {}
    parents: tuple[str, ...] = ()
    format: int = FORMAT


class Revocations(Value, frozen=True):
    """All that a site has revoked, or heard to be."""

    revoked: tuple[Shunned, ...]
    format: int = FORMAT


# ---------------------------------------------------------------------- a version


def export(registry: Registry, version: Version, path: Path, key: Path) -> Bundle:
    """Write a version as a bundle that this key has signed. The same version is the same bytes; a crash leaves no
    bundle that is not whole.

    Raises Revoked; Refused where it was made from one that is; ValueError where its licence drops a condition of its
    data's or parent's; Damaged, OSError.
    """
    folder = registry.load_checked(version)
    if lost := registry.lost(version):
        raise Refused(f"{version.id} is not exported: {'; '.join(lost)}")
    report = read_report(folder)
    licences = {item.dataset: item.licence for item in report.data}
    licences |= {one.id: one.licence for one in report.inherited}
    terms = licence(version.made.licence, licences.values())
    made = replace(version.made, licence=terms)
    files = {p: File(digest=d, size=(folder / p).stat().st_size) for p, d in sorted(made.files.items())}
    bundle = Bundle(
        told=_told(version.name, made, report), made=made, files=files,
        history=tuple(e for e in registry.history(version.name) if e.fact.version == version.number),
        licences=licences, parents=registry.lineage(version).parents,
    )  # fmt: skip

    def release(writer: Writer) -> None:
        for name, file in files.items():
            with open(folder / name, "rb") as source:
                writer.copy(f"{_RELEASE}{name}", source, file.size, file.digest)

    _write(path, MODEL, bundle, key, release)
    return bundle


def look(path: Path, trusted: Iterable[Path]) -> tuple[Bundle, str]:
    """What a bundle says, and who has signed that; the files are not read. Raises Untrusted, Damaged, ValueError."""
    with open(path, "rb") as source:
        return _opened(Reader(source), path, MODEL, Bundle, trusted)


def read_card(path: Path, trusted: Iterable[Path]) -> str:
    """The card of the version in a bundle, "" where it has none. Raises Untrusted, Damaged, ValueError."""
    with open(path, "rb") as source:
        reader = Reader(source)
        bundle, _ = _opened(reader, path, MODEL, Bundle, trusted)
        _check(bundle, path)
        if CARD not in bundle.files:
            return ""
        for name, file in sorted(bundle.files.items()):
            with tempfile.TemporaryFile() as to:
                reader.copy(f"{_RELEASE}{name}", to, file.size, file.digest)
                if name == CARD:
                    to.seek(0)
                    return to.read().decode("utf-8", "replace")
    raise AssertionError(bundle)


def bring(registry: Registry, path: Path, trusted: Iterable[Path], by: str, scratch: Path | None = None) -> Version:
    """Take in the version in a bundle, under the next number of its name here; the same one again changes nothing.

    `trusted` are the files of the public keys that are believed; the name of the one that has signed is the `origin`
    of the version. Its files are first unpacked into a private folder in `scratch`. It is in no alias until somebody
    promotes it here.

    Raises Untrusted, Damaged where anything was changed, ValueError where it cannot be used here, Refused where it or
    one it was made from is revoked here, OSError.
    """
    with open(path, "rb") as source, tempfile.TemporaryDirectory(prefix="firstlight-", dir=scratch) as private:
        reader, folder = Reader(source), Path(private)
        bundle, origin = _opened(reader, path, MODEL, Bundle, trusted)
        _check(bundle, path)
        _unpack(reader, bundle, folder)
        _check_release(bundle, folder)
        _check_parents(registry, bundle)
        made = replace(bundle.made, version=0, origin=origin, ancestors=bundle.parents[1:])
        return registry.admit(replace(bundle.told, origin=origin), made, {n: folder / n for n in bundle.files}, by)


def _told(name: str, made: Registered, report: Report) -> Kept:
    return Kept(
        name=name, title=str(made.spec.get("title") or name), description=str(made.spec.get("description") or ""),
        licence=made.licence, family=made.family, used=(*made.data, *([made.parent] if made.parent else [])),
        synthetic=any(item.synthetic for item in report.data), software=report.software,
    )  # fmt: skip


def _check(bundle: Bundle, path: Path) -> None:
    """Raises ValueError where what was signed cannot be a version here."""
    name, made = bundle.told.name, bundle.made
    if not name or set(name) & set(":@/\\ \t\n") or name.startswith("."):
        raise ValueError(f"{path}: a model cannot be called {name!r}")
    for file, told in bundle.files.items():
        check_name(file)
        if told.size < 0:
            raise ValueError(f"{path}: {file} cannot have {told.size} bytes")
    if (total := sum(file.size for file in bundle.files.values())) > path.stat().st_size:
        raise ValueError(f"{path} would have {total:,} bytes of files, which is more than it has itself")
    if {file: told.digest for file, told in bundle.files.items()} != made.files or WEIGHTS not in made.files:
        raise ValueError(f"{path}: its files are not those that were registered")
    if any(entry.model != name or entry.fact.version != made.version for entry in bundle.history):
        raise ValueError(f"{path}: its history is that of another version")
    if licence(made.licence, bundle.licences.values()) != bundle.told.licence:
        raise ValueError(f"{path}: its licence {bundle.told.licence!r} is not what follows from its data")


def _unpack(reader: Reader, bundle: Bundle, folder: Path) -> None:
    for name, file in sorted(bundle.files.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with open(folder / name, "xb") as to:
            reader.copy(f"{_RELEASE}{name}", to, file.size, file.digest)
    reader.finish()


def _check_release(bundle: Bundle, folder: Path) -> None:
    """Raises ValueError where the files are no release, or one of a family that nobody offers here, or say other things
    than what was registered."""
    made = bundle.made
    known = {point.name for point in entry_points(group="firstlight.models")}
    if made.family not in known:
        raise ValueError(
            f"{bundle.told.name}: no package here offers its family {made.family!r} of models; there are: "
            f"{', '.join(sorted(known))}"
        )
    release_files(folder)
    if (said := family_of(folder)) != made.family:
        raise ValueError(f"{bundle.told.name}: registered is the family {made.family}, and its config.json says {said}")
    report = read_report(folder)
    told = (report.name, report.family, report.metric, report.scores, report.baselines, report.parent_scores)
    if told != (bundle.told.name, made.family, made.metric, made.scores, made.baselines, made.parent_scores):
        raise ValueError(f"{bundle.told.name}: its {REPORT} says other things than what was registered")


def _check_parents(registry: Registry, bundle: Bundle) -> None:
    for one in registry.revoked():
        if one.record in bundle.parents:
            raise Refused(f"{bundle.told.name} was made from {one.record}, which {one.by} has revoked: {one.reason}")


# ---------------------------------------------------------------------- revocations


def export_revocations(registry: Registry, path: Path, key: Path) -> tuple[Shunned, ...]:
    """Write down all that is revoked here, or was heard to be, signed with this key. Raises Damaged, ValueError,
    OSError."""
    revoked = tuple(registry.revoked())
    _write(path, REVOCATIONS, Revocations(revoked=revoked), key)
    return revoked


def has_revocations(path: Path) -> bool:
    """Whether a bundle says that it has revocations, and no version. Raises Untrusted, Damaged, OSError."""
    with open(path, "rb") as source:
        reader = Reader(source)
        reader.document(_MANIFEST, _MOST_MANIFEST)
        return kind_of(reader.document(_SIGNATURE, _MOST_SIGNATURE)) == REVOCATIONS


def look_at_revocations(path: Path, trusted: Iterable[Path]) -> tuple[Revocations, str]:
    """What another site has revoked, and who has signed that. Raises Untrusted, Damaged, ValueError, OSError."""
    with open(path, "rb") as source:
        reader = Reader(source)
        told, origin = _opened(reader, path, REVOCATIONS, Revocations, trusted)
        reader.finish()
    return told, origin


def bring_revocations(registry: Registry, path: Path, trusted: Iterable[Path], by: str) -> list[Version]:
    """Hear what another site has revoked: the versions here that are revoked by it now. What is not here is refused
    when it comes. Raises Untrusted, Damaged, ValueError, OSError."""
    told, _ = look_at_revocations(path, trusted)
    return [version for one in told.revoked for version in registry.shun(one, by)]


# ---------------------------------------------------------------------- the file


def _write(
    path: Path, kind: str, told: Value, key: Path, more: Callable[[Writer], None] = lambda _: None
) -> None:  # fmt: skip
    manifest = msgspec.json.encode(told, order="deterministic")
    signature = signed(kind, manifest, key)
    private = path.with_name(f".{path.name}-{time.time_ns()}")
    try:
        with open(private, "xb") as to:
            writer = Writer(to)
            writer.document(_MANIFEST, manifest)
            writer.document(_SIGNATURE, signature)
            more(writer)
            writer.close()
            to.flush()
            os.fsync(to.fileno())
        private.replace(path)
    finally:
        private.unlink(missing_ok=True)


def _opened(
    reader: Reader, path: Path, kind: str, wanted: type[Document], trusted: Iterable[Path]
) -> tuple[Document, str]:  # fmt: skip
    """The manifest of a bundle, and who has signed it, which is settled before it is read."""
    manifest = reader.document(_MANIFEST, _MOST_MANIFEST)
    signature = reader.document(_SIGNATURE, _MOST_SIGNATURE)
    try:
        origin = signer(kind, manifest, signature, trusted)
    except Untrusted as error:
        raise Untrusted(f"{path}: {error}") from error
    try:
        version = msgspec.json.decode(manifest, type=_Format).format
        if version != FORMAT:
            raise ValueError(f"{path} is a bundle of format {version}, of which this program knows {FORMAT} only")
        return msgspec.json.decode(manifest, type=wanted), origin
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path}: its manifest cannot be read: {error}") from error


class _Format(msgspec.Struct, frozen=True):
    format: int
