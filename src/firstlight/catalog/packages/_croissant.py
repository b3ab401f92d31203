"""Croissant 1.0 with its RAI extension (https://docs.mlcommons.org/croissant/docs/croissant-spec.html)."""

import re
from collections.abc import Mapping, Sequence, Set
from pathlib import PurePosixPath

import msgspec

from .._records import File, Record, VariableKind
from ._package import (
    DATA,
    Json,
    Package,
    Part,
    conditions,
    contact,
    description,
    iso,
    licence,
    media_type,
    organization,
    person,
    title,
)
from ._rocrate import readme
from ._tables import SPLIT, Column, Table, tables

METADATA = "croissant.json"
VERSION = "http://mlcommons.org/croissant/1.0"
_TYPES: Mapping[VariableKind, str] = {
    "float64": "sc:Float", "int64": "sc:Integer", "string": "sc:Text", "bool": "sc:Boolean", "time": "sc:DateTime",
}  # fmt: skip
_CONTEXT: Json = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty", "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract", "field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path",
    "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated",
    "replace": "cr:replace", "samplingRate": "cr:samplingRate", "sc": "https://schema.org/",
    "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip


def croissant(package: Package, data: Sequence[File], own: Sequence[Part]) -> dict[str, bytes]:
    """The files that make a directory with these files (below "data/") and parts a Croissant package, by name."""
    record, card = package.record, package.record.card
    found = tables(package)
    ids = {f.path: _id(f.path, number) for number, f in enumerate(data, start=1)}
    objects = [_object(ids[f.path], f"{DATA}/{f.path}", f.digest, f.size, f.media_type) for f in data]
    objects += [_object(p.path, p.path, p.digest, p.size, p.media_type or media_type(p.path)) for p in own]
    names = _unique([PurePosixPath(table.path).stem for table in found], "records", {"splits"})
    sets = [_records(table, id, ids[table.path]) for table, id in zip(found, names, strict=True) if table.columns]
    splits = sorted({split for table in found for split in table.splits})
    url, name = licence(card)
    whole: Json = {
        "@context": _CONTEXT, "@type": "sc:Dataset", "name": title(record), "description": description(record),
        "conformsTo": VERSION, "identifier": record.id, "version": _version(record),
        "license": url or name or "No licence yet: ask whoever sent these data before you use them",
        "url": record.address if "://" in record.address else f"urn:firstlight:{record.id}",
        **_said(
            creator=[_person(said) for said in card.creators or record.people],
            publisher=_publisher(card.publisher) if card.publisher else None,
            keywords=list(card.keywords), citeAs=card.citation, conditionsOfAccess=" ".join(conditions(card)),
            dateCreated=iso(record.created) if record.created else "",
            datePublished=iso(record.created or record.retrieved) if record.created or record.retrieved else "",
            isBasedOn=list(record.used), contactPoint=_contact(record),
        ),
        **_responsible(record),
        "distribution": objects,
        "recordSet": [*([_splits(splits)] if splits else []), *sets],
    }  # fmt: skip
    return {
        METADATA: msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n",
        "README.md": readme(record, data, [part.path for part in own]).encode(),
    }


def _said(**values: object) -> Json:
    return {name: value for name, value in values.items() if value not in ("", None, [], ())}


def _id(path: str, number: int) -> str:
    # Programs that read Croissant take no id with a space in it, however it is written.
    return f"{DATA}/{path}" if re.fullmatch(r"[A-Za-z0-9_./-]+", path) else f"file-{number}"


def _object(id: str, path: str, digest: str, size: int, type: str) -> Json:
    return {
        "@type": "cr:FileObject", "@id": id, "name": path, "contentUrl": path, "contentSize": f"{size} B",
        "encodingFormat": "application/x-parquet" if type == "application/vnd.apache.parquet" else type,
        "sha256": digest.removeprefix("sha256:"),
    }  # fmt: skip


def _version(record: Record) -> str:
    # Versions are to be like 1.2.3, and ours are digests: the digest is behind the plus, as in Semantic Versioning.
    return f"1.0.0+{re.sub('[^0-9a-zA-Z-]', '-', record.digest)[:40] or '0'}"


def _person(said: str) -> Json:
    name, orcid = person(said)
    return _said(**{"@type": "sc:Person"}, name=name, url=orcid)


def _publisher(said: str) -> Json:
    name, url = organization(said)
    return _said(**{"@type": "sc:Organization"}, name=name, url=url)


def _contact(record: Record) -> Json | None:
    name, address = contact(record.card)
    return _said(**{"@type": "sc:ContactPoint"}, name=name, email=address) if name else None


def _responsible(record: Record) -> Json:
    """What the card and the record say of how data were made and may be used, as properties of the RAI extension."""
    by = [*record.instruments, *record.facilities, *(f"{n} {v}" for n, v in record.software.items())]
    how = f"Made by {', '.join(by)}." if by else ""
    campaign = f"Collected by the closed-loop campaign {record.campaign}. " if record.campaign else ""
    missing = [f"{v.name}: {v.missing} rows" for v in record.variables if v.missing]
    said = {
        "rai:dataCollection": f"{campaign}{how}".strip(),
        "rai:dataCollectionType": "Simulations" if record.synthetic else "Experiments" if record.instruments else "",
        "rai:dataCollectionMissingData": f"Rows without a value: {'; '.join(missing)}." if missing else "",
        "rai:dataUseCases": list(record.card.uses),
        "rai:dataLimitations": conditions(record.card),
    }  # fmt: skip
    return {name: value for name, value in said.items() if value}


def _splits(names: Sequence[str]) -> Json:
    return {
        "@type": "cr:RecordSet", "@id": "splits", "name": "splits", "dataType": "cr:Split",
        "key": {"@id": "splits/name"}, "data": [{"splits/name": name} for name in names],
        "field": [{"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"}],
    }  # fmt: skip


def _unique(names: Sequence[str], what: str, taken: Set[str] = frozenset()) -> list[str]:
    """Names as ids: those that can be none, or that are there twice, are numbered."""
    plain = [name for name in names if re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) and name not in taken]
    found = [name if plain.count(name) == 1 else f"{what}-{n}" for n, name in enumerate(names, start=1)]
    return found if len(set(found)) == len(found) else [f"{what}-{n}" for n in range(1, len(found) + 1)]


def _records(table: Table, id: str, file: str) -> Json:
    ids = _unique([column.name for column in table.columns], "column")
    return {
        "@type": "cr:RecordSet", "@id": id, "name": id, "description": f"The rows of {table.path}",
        "field": [_field(table, f"{id}/{name}", file, c) for name, c in zip(ids, table.columns, strict=True)],
    }  # fmt: skip


def _field(table: Table, id: str, file: str, column: Column) -> Json:
    unit = f"In {column.unit}." if column.unit else ""
    found: Json = {
        "@type": "cr:Field", "@id": id, "name": column.name,
        "description": " ".join(part for part in (column.description, unit) if part) or column.name,
        "dataType": _TYPES.get(column.kind, "sc:Text"),
        "source": {"fileObject": {"@id": file}, "extract": {"column": column.called}},
    }  # fmt: skip
    if column.unit:
        found["unitText"] = column.unit
    if column.name == SPLIT and table.splits:
        found["references"] = {"field": {"@id": "splits/name"}}
    if column.kind == "array":
        found["repeated"] = True
        found["dataType"] = "sc:Float"
    return found
