"""A dataset with its files, and what all forms of package need to say of it."""

import hashlib
import mimetypes
import re
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from .._graph import Provenance
from .._records import Card, File, Record
from ..store import digest_of

Form = Literal["rocrate", "croissant", "dcat-us", "datacite", "prov", "csv", "parquet"]
"""RO-Crate 1.1, Croissant 1.0, DCAT-US 3.0, DataCite 4.6, W3C PROV-JSON, or the table alone."""

Json = dict[str, Any]

DATA = "data"
"""Where the files of a dataset are in a package: no name of theirs can be that of a file of the package itself."""
OWN = "firstlight-record.json"
"""The record as the catalog knows it, so that one of us gets back what another sent."""
PROVENANCE = "provenance.json"
JOURNAL = "journal.jsonl"
CAMPAIGN = "campaign.json"


class Damaged(ValueError):
    """A package is not as it was written: `file` was to be `expected`, and is `found`."""

    def __init__(self, file: str, expected: str, found: str) -> None:
        super().__init__(f"{file} is damaged: {expected} was expected, and {found} was found; get the package again")
        self.file, self.expected, self.found = file, expected, found


class Package(NamedTuple):
    """A dataset: its record, where the bytes of each of its files are (by path in the dataset), how it came to be.

    `journal` is that of the campaign that made it, as JSON lines.
    """

    record: Record
    files: Mapping[str, Path]
    provenance: Provenance | None = None
    journal: Path | None = None


class Part(NamedTuple):
    """A file that was put into a package, or that one says it has."""

    path: str
    digest: str
    size: int
    media_type: str = ""


def checked(path: str) -> str:
    """A path that stays where it is put. Raises ValueError for any other."""
    parts = path.split("/")
    if (
        not path or "\\" in path or any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in path)
        or any(part in ("", ".", "..") for part in parts) or re.match(r"[A-Za-z]:", path)
    ):  # fmt: skip
        raise ValueError(f"{path!r} is no place for a file: it must be relative, with '/', and not lead out")
    return str(PurePosixPath(path))


def copied(source: Path, to: Path) -> tuple[str, int]:
    """Copy a file; the digest and size of what was written. Raises OSError, FileExistsError where `to` is there."""
    hash, size = hashlib.sha256(), 0
    to.parent.mkdir(parents=True, exist_ok=True)
    with open(source, "rb") as file, open(to, "xb") as out:
        while chunk := file.read(1 << 20):
            hash.update(chunk)
            size += out.write(chunk)
    return f"sha256:{hash.hexdigest()}", size


def verify(name: str, path: Path, digest: str = "", size: int | None = None) -> Part:
    """A file that is what it was said to be ("" and None: nothing was said). Raises Damaged."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        raise Damaged(name, digest or "a file", "nothing") from None
    if not stat.S_ISREG(mode):
        raise Damaged(name, "a file", "a link or something else that is none")
    if size is not None and path.stat().st_size != size:
        raise Damaged(name, f"{size} bytes", f"{path.stat().st_size} bytes")
    found, length = digest_of(path)
    if digest and found != digest:
        raise Damaged(name, digest, found)
    return Part(name, found, length)


def media_type(file: File | str) -> str:
    """The media type of a file: what is known of it, or what its name says."""
    known = "" if isinstance(file, str) else file.media_type
    path = file if isinstance(file, str) else file.path
    own = {
        ".parquet": "application/vnd.apache.parquet", ".h5": "application/x-hdf5", ".nc": "application/x-netcdf",
        ".jsonl": "application/jsonl", ".md": "text/markdown", ".cif": "chemical/x-cif", ".zarr": "application/zarr",
    }  # fmt: skip
    return known or own.get(PurePosixPath(path).suffix.lower()) or mimetypes.guess_type(path)[0] or (
        "application/octet-stream"
    )  # fmt: skip


def version_of(package: Package, name: str) -> str:
    """The version of a program that made the data, "" where nobody has said."""
    agents = package.provenance.agents if package.provenance else ()
    found = (a.version for a in agents if a.kind == "software" and a.name == name)
    return package.record.software.get(name) or next(found, "")


def iso(at: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, to the millisecond."""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{at} is no time: seconds since 1970, between the years 1 and 9999") from error


def encoded(path: str) -> str:
    """A path as a relative address."""
    return quote(path, safe="/")


def title(record: Record) -> str:
    return record.card.title or record.name or record.id


def description(record: Record) -> str:
    """What a record says of its data, or that it says nothing: standards ask for some description."""
    said = record.card.description or f"{title(record)}: nobody has described these data yet."
    return f"{said}\n\nThese data are synthetic: computed, and not measured." if record.synthetic else said


def licence(card: Card) -> tuple[str, str]:
    """The address of a licence and its name; ("", "") where nobody has given one."""
    if not card.licence:
        return "", ""
    if re.match(r"https?://\S+$", card.licence):
        return card.licence, card.licence
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", card.licence):
        return f"https://spdx.org/licenses/{card.licence}", card.licence
    return "", card.licence


def person(said: str) -> tuple[str, str]:
    """A name and the ORCID beside it, "" where there is none."""
    found = re.search(r"(?:https?://)?orcid\.org/(\d{4}-\d{4}-\d{4}-\d{3}[\dX])", said)
    if found is None:
        return said.strip(), ""
    name = (said[: found.start()] + said[found.end() :]).strip(" ,;()<>[]")
    return name or found[1], f"https://orcid.org/{found[1]}"


def organization(said: str) -> tuple[str, str]:
    """A name and the address beside it (that of its page, or of its ROR), "" where there is none."""
    found = re.search(r"https?://[^\s,;()<>\[\]]+", said)
    if found is None:
        return said, ""
    name = (said[: found.start()] + said[found.end() :]).strip(" ,;()<>[]")
    return name or found[0], found[0]


def contact(card: Card) -> tuple[str, str]:
    """Whom to ask: a name and an e-mail address, "" where there is none in what the card says."""
    found = re.search(r"[\w.+~-]+@[\w-]+(\.[\w-]+)+", card.contact)
    if found is None:
        return card.contact, ""
    name = (card.contact[: found.start()] + card.contact[found.end() :]).strip(" ,;()<>[]")
    return name or found[0], found[0]


def conditions(card: Card) -> list[str]:
    """What binds whoever gets the data, a sentence each."""
    said = {
        "Sensitivity": card.sensitivity, "Export control": card.export_control,
        "Access from abroad": card.foreign_access, "Restriction": card.restriction,
        "Agreement": " ".join(part for part in (card.agreement_type, card.agreement) if part),
        "Permitted uses": ", ".join(card.uses), "Training of models": card.training,
        "Inference": card.inference, "Evaluation": card.evaluation,
    }  # fmt: skip
    return [f"{what}: {how}." for what, how in said.items() if how]
