"""Whatever others say, a record comes of it or a clear word: never a traceback, and nothing invented."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from firstlight.catalog.index import Record
from firstlight.catalog.sources._dcat_records import distributions, record_of
from firstlight.catalog.sources._openapi_document import Document, Operation
from firstlight.catalog.sources._structures import tabled
from firstlight.catalog.sources.openapi import Meaning, OpenApi
from firstlight.catalog.sources.optimade import About, Optimade
from firstlight.catalog.sources.tiled import Tiled
from firstlight.catalog.sources.web import Web

from .houses import ONE_ONE, PACKAGES, SAMPLES, THREE
from .test_openapi import MAPPING

JUNK: tuple[Any, ...] = (
    None, True, 5, -1.5, 1e300, 2**70, "", "x", "\x00", "0001-01-01T00:00:00+14:00", [], [None], [[]], {}, {"x": {}},
)  # fmt: skip
PROPERTIES: dict[str, dict[str, Any]] = {
    "_x_gap": {"type": "float", "unit": 5},
    "_x_n": {"type": "integer"},
    "_x_s": {"type": []},
}
STRUCTURE = {
    "id": "s1",
    "attributes": {
        "elements": ["O"], "nsites": 3, "lattice_vectors": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "_x_gap": 1.0, "_x_n": 2,
        "last_modified": "2024-01-01T00:00:00Z", "chemical_formula_reduced": "O", "_x_s": "x",
        "chemical_formula_descriptive": "O",
    },
}  # fmt: skip
NODE = {
    "id": "a",
    "attributes": {
        "ancestors": ["b"], "structure_family": "array",
        "metadata": {"title": "x", "elements": ["O"], "created": 5.0, "authors": ["Ann"], "tags": ["x"],
            "firstlight": {},
        },
        "structure": {
            "data_type": {"kind": "f", "itemsize": 8, "endianness": "little"}, "shape": [2], "chunks": [[2]],
            "columns": ["x"],
        },
    },
    "links": {"self": "http://x"},
}  # fmt: skip
LISTED = {"url": "small/a.csv", "title": "x", "license": "y", "sha256": "z", "size": 7, "doi": "10.1/x"}


def optimade(said: Any) -> Record:
    source = Optimade("p", "https://example.org")
    tabled([json.dumps(said).encode()], PROPERTIES)
    return source._record(About(base="https://example.org/v1", properties=PROPERTIES), json.dumps(said).encode())


def tiled(said: Any) -> Record:
    return Tiled("p", "https://example.org", keys={"created": "created", "t": "title.x"})._record(said)


def dcat(said: Any) -> Record:
    assert all(d.address.startswith("http") and d.size >= 0 for d in distributions(said))
    return record_of(said, "p")


def openapi(said: Any) -> Record:
    source = OpenApi("p", "https://example.org/openapi.json", MAPPING | {"get": "", "files_at": "/metadata/title"})
    source._files(said)
    document = Document(server="https://example.org", operations={"sample_index": Operation("sample_index", "/s", {})})
    return source._record(said, document)


def web(said: Any) -> Record:
    return Web("p", "https://example.org")._record("https://example.org/a.csv", said)


def spoilt(said: Any) -> list[Any]:
    """The same with each part of it replaced by each kind of junk, one at a time."""
    if isinstance(said, dict):
        return [*JUNK, *({**said, key: other} for key in said for other in spoilt(said[key]))]
    if isinstance(said, list) and said:
        return [*JUNK, *([other, *said[1:]] for other in spoilt(said[0]))]
    return list(JUNK)


@pytest.mark.parametrize(
    ("read", "good"),
    [
        (optimade, STRUCTURE), (tiled, NODE), (dcat, PACKAGES[1]), (dcat, ONE_ONE["dataset"][0]),
        (dcat, THREE["dataset"][0]), (openapi, SAMPLES[1]), (web, LISTED),
    ],
)  # fmt: skip
def test_no_junk_is_too_much(read: Callable[[Any], Record], good: dict[str, Any]) -> None:
    assert read(good).id.startswith("p/")
    for key in good:
        for junk in spoilt(good[key]):
            if read is optimade and (key == "id" or not isinstance(junk, dict)):
                continue  # What is no entry at all is refused as a page.
            record = read({**good, key: junk})
            assert record.provider == "p" and record.id.startswith("p/")
            assert record.card.sensitivity in ("", "Public", "CUI") and record.size >= 0


def test_meanings_are_checked_when_they_are_given() -> None:
    with pytest.raises(Exception, match="Object missing required field `list`"):
        OpenApi("p", "https://example.org", {})
    assert asyncio.run(OpenApi("p", "https://example.org", Meaning(list="x")).close()) is None
