"""Datasets as CKAN and DCAT-US describe them, as records."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from firstlight.core import Value

from .._records import Sensitivity
from ..index import Card, Record
from ._federation import doi_of
from ._structures import seconds_of

_DIGEST = re.compile(r"(?:sha-?256:)?([0-9a-f]{64})")


class Distribution(Value, frozen=True):
    """A file that a dataset offers: `digest` ("sha256:...") and `size` in bytes where the catalogue says so."""

    address: str
    digest: str = ""
    size: int = 0


def record_of(about: Mapping[str, Any], provider: str) -> Record:
    """A record of a package of CKAN or a dataset of DCAT-US, in whose words both are nearly the same."""
    extras = {str(e.get("key")): e.get("value") for e in _list(about.get("extras")) if isinstance(e, dict)}
    said = {**extras, **about}
    id = _text(said, "@id") or _text(said, "id", "identifier", "name") or _text(said, "title")
    access, sensitivity = _access(said)
    description = "\n\n".join(filter(None, (_text(said, "notes", "description"), access)))
    files = list(distributions(about))
    return Record(
        id=f"{provider}/{id}", name=f"{provider}/{id}", provider=provider, address=_address(said),
        digest=files[0].digest if len(files) == 1 else "", size=sum(f.size for f in files),
        created=next((at for k in ("modified", "metadata_modified", "issued") if (at := seconds_of(said.get(k)))), 0.0),
        card=Card(
            title=_text(said, "title", "name"), description=description, keywords=_keywords(said),
            publisher=_named(said, "publisher") or _named(said, "organization"), contact=_contact(said),
            creators=tuple(filter(None, [_text(said, "author")])), citation=_citation(said), licence=_licence(said),
            sensitivity=sensitivity,
        ),
    )  # fmt: skip


def distributions(about: Mapping[str, Any]) -> Iterator[Distribution]:
    """Files that may be downloaded: not pages, nor services that want to be asked."""
    for said in [*_list(about.get("distribution")), *_list(about.get("resources"))]:
        if not isinstance(said, dict):
            continue
        address = _text(said, "downloadURL") or _text(said, "url")
        kind = _text(said, "resource_type", "format").lower()
        if not address.startswith(("http://", "https://")) or kind in ("api", "html", "service", "website"):
            continue
        checksum = said.get("checksum")
        stated = _text(checksum, "checksumValue") if isinstance(checksum, dict) else _text(said, "hash")
        digest = _DIGEST.fullmatch(stated.lower())
        size = said.get("byteSize") or said.get("size") or 0
        yield Distribution(
            address=address, digest=f"sha256:{digest[1]}" if digest else "",
            size=int(size) if str(size).isdecimal() else 0,
        )  # fmt: skip


def _access(said: Mapping[str, Any]) -> tuple[str, Sensitivity]:
    """Who may have the data, in the catalogue's words, and how sensitive they are if these words say so."""
    level = _text(said, "accessLevel").strip()
    stated = said.get("accessRights")
    rights = _text(said, "rights") or (_label(stated) if stated else "")
    restriction = said.get("cuiRestriction")
    marking = _text(restriction, "cuiBannerMarking") if isinstance(restriction, dict) else ""
    stated_as = (("Access", level), ("Rights", rights), ("CUI", marking))
    told = " ".join(f"{what}: {text.rstrip('.')}." for what, text in stated_as if text)
    if restriction:
        return told, "CUI"
    public = level.lower() == "public" if level else rights.rstrip("/").rpartition("/")[2].upper() == "PUBLIC"
    return told, "Public" if public else ""


def _licence(said: Mapping[str, Any]) -> str:
    found = _text(said, "license_url", "license_id") or _label(said.get("license")) or _text(said, "license_title")
    if not found:
        # DCAT-US lets each file have its own; it is that of the dataset where they agree.
        each = {_label(d.get("license")) for d in _list(said.get("distribution")) if isinstance(d, dict)}
        found = each.pop() if len(each) == 1 else ""
    # What CKAN writes where nobody has chosen one says nothing of what is allowed.
    return "" if found.lower() in ("notspecified", "not specified", "other-license-specified") else found


def _contact(said: Mapping[str, Any]) -> str:
    point: Any = next(iter(_list(said.get("contactPoint"))), {})
    if isinstance(point, dict) and point:
        mail = _text(point, "hasEmail", "email").removeprefix("mailto:")
        return " ".join(filter(None, (_text(point, "fn", "name"), f"<{mail}>" if mail else "")))
    return _text(said, "maintainer_email", "author_email", "maintainer")


def _citation(said: Mapping[str, Any]) -> str:
    stated = (_text(said, key) for key in ("doi", "identifier", "citation"))
    return next((text for text in stated if doi_of(text)), _text(said, "citation", "bibliographicCitation"))


def _address(said: Mapping[str, Any]) -> str:
    page = _text(said, "landingPage", "url") or _label(said.get("landingPage"))
    return page if page.startswith(("http://", "https://")) else ""


def _keywords(said: Mapping[str, Any]) -> tuple[str, ...]:
    found = _list(said.get("keyword")) or _list(said.get("tags"))
    return tuple(_text(word, "name", "display_name") if isinstance(word, dict) else str(word) for word in found)


def _named(said: Mapping[str, Any], key: str) -> str:
    stated = said.get(key)
    return _text(stated, "title", "name", "prefLabel") if isinstance(stated, dict) else _text(said, key)


def _label(stated: object) -> str:
    """What a text, an object with an address or label, or the first of several says."""
    stated = next(iter(_list(stated)), "")
    return _text(stated, "@id", "uri", "prefLabel", "title", "name") if isinstance(stated, dict) else str(stated)


def _list(stated: object) -> list[Any]:
    return stated if isinstance(stated, list) else [] if stated is None or stated == "" else [stated]


def _text(said: Mapping[str, Any], *keys: str) -> str:
    return next((said[key] for key in keys if isinstance(said.get(key), str) and said[key]), "")
