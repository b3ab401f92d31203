"""Which files a model learns from: found by query once, and then fixed by their digests."""

from collections.abc import Sequence
from pathlib import Path

from firstlight.catalog import Record
from firstlight.catalog.asked import one_line
from firstlight.catalog.index import Found
from firstlight.catalog.library import Library
from firstlight.core import Asset
from firstlight.models import Column, Item

_MOST = 10_000
"""Datasets that one query may bring."""


class NotForTraining(ValueError):
    """Data that no model may be trained on, or not without somebody's word."""


def frozen(
    library: Library, texts: Sequence[str], suffixes: Sequence[str], asked: str = ""
) -> list[tuple[Item, Asset]]:  # fmt: skip
    """The files with these suffixes in the datasets that are meant, each with where it is, in the order of their ids.

    Each text is the id or name of a dataset, or a query in one line; of a name, the newest version is meant. `asked` is
    the question that a person will be asked first, "" where nobody is. Raises NotForTraining where a dataset is
    retracted, or its card says that no model may be trained on it, or only on conditions and nobody is asked;
    ValueError where a text finds nothing that can be read; OSError where the bytes are not here.
    """
    index = library.index
    found = dict[str, Found]()
    for text in texts:
        several = [f for f in index.search(one_line(index, text), _MOST, facets=()).found if f.record.kind == "dataset"]
        newest = {f.record.name: f for f in sorted(several, key=lambda f: f.version)}
        usable = {f.record.id: f for f in newest.values() if _files(f.record, suffixes)}
        if not usable:
            said = (
                f"{len(several)} datasets, none of them with a file of {', '.join(suffixes)}" if several else "nothing"
            )
            raise ValueError(f"{text!r} finds {said}; `firstlight data search` shows what there is")
        found |= usable
    for one in found.values():
        _allowed(one, asked)
    return [_item(library, found[id].record, n) for id in sorted(found) for n in _files(found[id].record, suffixes)]


def files_of(library: Library, id: str, suffixes: Sequence[str]) -> list[tuple[Item, Path]]:
    """The files of a dataset with these suffixes, and where each is. Raises LookupError, OSError."""
    record = library.index.get(id).record
    return [(_item(library, record, n)[0], Path(library.file(record.files[n]))) for n in _files(record, suffixes)]


def _files(record: Record, suffixes: Sequence[str]) -> list[int]:
    return [n for n, file in enumerate(record.files) if file.path.lower().endswith(tuple(suffixes))]


def _allowed(found: Found, asked: str) -> None:
    record = found.record
    if found.retracted:
        raise NotForTraining(f"{record.id} is retracted: {found.retracted} ({found.by}); name another version, or none")
    if record.card.training == "No":
        raise NotForTraining(f"the card of {record.id} says that no model may be trained on it")
    if record.card.training == "Conditional" and not asked:
        raise NotForTraining(
            f"the card of {record.id} lets models be trained on it on conditions only: let the specification ask a "
            "person (approval: ...)"
        )


def _item(library: Library, record: Record, number: int) -> tuple[Item, Asset]:
    file = record.files[number]
    item = Item(
        dataset=record.id, path=file.path, digest=file.digest, size=file.size, media_type=file.media_type,
        group=record.campaign or record.name, licence=record.card.licence, training=record.card.training,
        synthetic=record.synthetic,
        columns=tuple(Column(name=v.name, role=v.role, unit=v.unit) for v in record.variables),
    )  # fmt: skip
    place = Path(library.file(file)).absolute().as_uri()
    return item, Asset(
        uri=place, digest=file.digest, media_type=file.media_type or "application/octet-stream", size=file.size
    )
