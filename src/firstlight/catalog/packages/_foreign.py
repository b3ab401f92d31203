"""Records of packages that somebody else wrote, of the standard metadata that they have."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .._records import Card, File, Record, Variable, VariableKind, digest_of_files
from ..store import digest_of
from ._package import Json, Package, Part, checked, media_type

_KINDS: Mapping[str, VariableKind] = {
    "Float": "float64", "Number": "float64", "Integer": "int64", "Text": "string", "Boolean": "bool",
    "DateTime": "time", "Date": "time", "Int64": "int64", "Float64": "float64", "Float32": "float64",
}  # fmt: skip


def of_crate(said: Json, root: Path, parts: Sequence[Part]) -> Package:
    """Of an RO-Crate: all files of it, but those that describe it."""
    nodes = {str(n.get("@id", "")): n for n in said["@graph"] if isinstance(n, dict)}
    descriptor = next(n for id, n in nodes.items() if id.removeprefix("./") == "ro-crate-metadata.json")
    about = _Node(nodes, nodes.get(_ref(descriptor.get("about")), {}))
    if not about.node:
        raise ValueError("ro-crate-metadata.json is no RO-Crate: it describes no root")
    known = {part.path: part for part in parts}
    types = {id: _text(n.get("encodingFormat")) for id, n in nodes.items()}
    files = list[File]()
    for path in payload(root):
        digest, size = (known[path].digest, known[path].size) if path in known else digest_of(root / path)
        files.append(File(path, digest, size, _media(types, path)))
    software = {
        _text(n.get("name")): _text(n.get("softwareVersion")) or _text(n.get("version")) for n in nodes.values()
        if "SoftwareApplication" in _many(n.get("@type")) and _text(n.get("name"))
    }  # fmt: skip
    return _of(about, root, files, software)


def of_croissant(said: Json, root: Path, parts: Sequence[Part]) -> Package:
    """Of a Croissant dataset: the files that it distributes and that are there."""
    types = {_text(n.get("contentUrl")): _text(n.get("encodingFormat"))
             for n in _many(said.get("distribution")) if isinstance(n, dict)}  # fmt: skip
    files = [File(p.path, p.digest, p.size, _media(types, p.path)) for p in parts]
    return _of(_Node({}, said), root, files, {})


class _Node:
    """An entity of JSON-LD, with those that it refers to."""

    def __init__(self, nodes: Mapping[str, Json], node: Json) -> None:
        self.nodes, self.node = nodes, node

    def many(self, name: str) -> list[Json]:
        """The entities that a property has; a plain value is one with a name."""
        found = list[Json]()
        for value in _many(self.node.get(name)):
            if isinstance(value, dict):
                found.append(self.nodes.get(_ref(value)) or value)
            elif value not in (None, ""):
                found.append(self.nodes.get(str(value)) or {"name": str(value)})
        return found

    def text(self, *names: str) -> str:
        """The first of these properties that says something, in words."""
        return next((said for name in names if (said := _text(self.node.get(name)))), "")


def _of(about: _Node, root: Path, files: Sequence[File], software: dict[str, str]) -> Package:
    name = about.text("name") or root.name
    ordered = tuple(sorted(files, key=lambda file: file.path))
    digest = digest_of_files(ordered)
    keywords = [word.strip() for said in _many(about.node.get("keywords")) for word in _text(said).split(",")]
    identifier = about.text("url", "identifier", "sameAs")
    card = Card(
        title=name, description=about.text("description"), licence=_licence(about),
        creators=tuple(dict.fromkeys(_named(n) for n in (*about.many("author"), *about.many("creator")) if _named(n))),
        contact=next((_text(n.get("email")) or _text(n.get("name")) for n in about.many("contactPoint")), ""),
        publisher=next((_text(n.get("name")) for n in about.many("publisher")), ""),
        keywords=tuple(word for word in keywords if word), citation=about.text("citeAs", "creditText", "citation"),
    )  # fmt: skip
    record = Record(
        id=f"{_slug(name)}@{digest.removeprefix('sha256:')[:12]}", name=_slug(name), digest=digest, card=card,
        created=_seconds(about.text("dateCreated", "datePublished", "dateModified")),
        size=sum(file.size for file in ordered), files=ordered, variables=tuple(_variables(about)), software=software,
        address=identifier if "://" in identifier else "",
    )  # fmt: skip
    return Package(record, {file.path: root / file.path for file in ordered})


def _variables(about: _Node) -> Iterator[Variable]:
    for n in about.many("variableMeasured"):
        if name := _text(n.get("name")):
            low, high = (v if isinstance(v, int | float) else None for v in (n.get("minValue"), n.get("maxValue")))
            yield Variable(name, unit=_text(n.get("unitText")), low=low, high=high,
                           description=_text(n.get("description")))  # fmt: skip
    seen = set[str]()
    for records in about.many("recordSet"):
        if "Split" in str(records.get("dataType")):
            continue
        for field in _many(records.get("field")):
            name = _text(field.get("name")) if isinstance(field, dict) else ""
            if not name or name in seen:
                continue
            seen.add(name)
            type = next((_text(t).rpartition(":")[2].rpartition("/")[2] for t in _many(field.get("dataType"))), "")
            yield Variable(name, unit=_text(field.get("unitText")), kind=_KINDS.get(type, ""),
                           description=_text(field.get("description")))  # fmt: skip


def _licence(about: _Node) -> str:
    for value in _many(about.node.get("license")):
        said = _ref(value) or _text(value)
        if found := re.match(r"https?://spdx\.org/licenses/([\w.+-]+?)(\.html|\.json)?$", said):
            return found[1]
        if "://" in said:
            return said
        node = about.nodes.get(said, value)
        return _text(node.get("name")) if isinstance(node, dict) else said
    return ""


def _named(n: Json) -> str:
    name, id = _text(n.get("name")), _ref(n) or _text(n.get("url"))
    return f"{name} ({id})" if name and "orcid.org/" in id else name or (id if "://" in id else "")


def _ref(value: object) -> str:
    return str(value.get("@id", "")) if isinstance(value, dict) else ""


def _many(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _text(value: object) -> str:
    """A value in words: the first of several, the value or name of an object."""
    first = next(iter(_many(value)), "")
    if isinstance(first, dict):
        first = first.get("@value") or first.get("en") or first.get("name") or ""
    return str(first) if isinstance(first, str | int | float) else ""


def _media(types: Mapping[str, str], path: str) -> str:
    said = types.get(path) or types.get(f"./{path}") or ""
    return said if "/" in said and "://" not in said else media_type(path)


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name.casefold()).strip("-.")[:80] or "dataset"


def _seconds(said: str) -> float:
    """An ISO 8601 time as seconds since 1970 UTC, 0 where it is none that is known."""
    try:
        found = datetime.fromisoformat(said) if len(said) > 4 else datetime(int(said or "x"), 1, 1)
    except ValueError:
        return 0.0
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def payload(root: Path) -> Iterator[str]:
    """All files of a crate, but those that describe it. Raises ValueError where one of them is a link."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            raise ValueError(f"{name} is a link, and is not followed")
        if path.is_file() and name != "ro-crate-metadata.json" and not name.startswith("ro-crate-preview"):
            yield checked(name)
