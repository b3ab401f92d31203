"""A REST API that lists samples, described by OpenAPI and a mapping; its server refuses what it does not declare."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import yaml

from firstlight.catalog.index import Query, Range
from firstlight.catalog.sources import Unreachable
from firstlight.catalog.sources._openapi_document import at, parsed
from firstlight.catalog.sources.openapi import OpenApi

from .conftest import Houses
from .houses import DOCUMENT

T = TypeVar("T")
MAPPING: dict[str, Any] = {
    "list": "sample_index", "get": "sample_show", "text": "search", "page": "page", "size": "per_page",
    "items": "/data", "total": "/summary/counts/all", "where": {"organism": "organism"},
    "ranges": {"age": {"low": "age_min", "unit": "a"}},
    "id_at": ["/identifier/namespace/organization", "/identifier/namespace/name", "/identifier/name"],
    "path": {
        "organization": "/identifier/namespace/organization", "namespace": "/identifier/namespace/name",
        "name": "/identifier/name",
    },
    "title_at": "/metadata/title", "licence_at": "/metadata/license", "created_at": "/metadata/updated",
    "terms": {"organism": "/metadata/organism"}, "variables": {"age": {"at": "/metadata/age/value", "unit": "a"}},
}  # fmt: skip


def run(
    houses: Houses, what: Callable[[OpenApi], Awaitable[T]], change: dict[str, Any] | None = None, **options: Any
) -> T:
    async def asked() -> T:
        document = options.pop("document", f"{houses.url}/openapi.json")
        source = OpenApi("bio", document, {**MAPPING, **(change or {})}, **options)
        try:
            return await asyncio.wait_for(what(source), 20)
        finally:
            await source.close()

    return asyncio.run(asked())


def test_samples_are_found_by_text_and_facet_page_by_page(houses: Houses) -> None:
    async def all_of_it(source: OpenApi) -> list[str]:
        found, cursor = list[str](), ""
        while True:
            answer = await source.search(Query(text="tumour", where={"organism": ("Homo sapiens",)}), 5, cursor)
            assert answer.total == 12 and answer.left == Query()
            found += (r.id for r in answer.records)
            if not (cursor := answer.cursor):
                return found

    assert run(houses, all_of_it) == [f"bio/lab/study/S{n:03}" for n in range(1, 25, 2)]


def test_a_size_that_the_document_does_not_allow_is_made_smaller(houses: Houses) -> None:
    answer = run(houses, lambda s: s.search(Query(), 500))
    assert len(answer.records) == 10 and answer.cursor == "2"


def test_a_record_says_what_the_item_says(houses: Houses) -> None:
    zero, one = run(houses, lambda s: s.search(Query(), 2)).records
    assert one.address == f"{houses.url}/sample/lab/study/S001" and one.created == 1_704_153_600.0
    assert (one.card.title, one.card.licence, one.card.keywords) == ("Tumour 1", "CC-BY-4.0", ("Homo sapiens",))
    assert [(v.name, v.low, v.unit) for v in one.variables] == [("age", 11.0, "a")]
    assert zero.card.licence == "" and zero.digest == ""


def test_what_the_api_cannot_do_is_left(houses: Houses) -> None:
    query = Query(
        where={"organism": ("Homo sapiens", "Mus musculus"), "keyword": ("x",)},
        ranges=(Range(variable="age", low=30.0, unit="a"), Range(variable="age", low=1.0, high=2.0, unit="a"),
                Range(variable="age", low=1.0, unit="d"), Range(variable="mass", low=1.0)),
    )  # fmt: skip
    answer = run(houses, lambda s: s.search(query, 9), {"ranges": {"age": {"low": "age_min", "unit": "a"}}, "text": ""})
    assert answer.left == msgspec.structs.replace(query, ranges=query.ranges[1:])
    assert {v.low for r in answer.records for v in r.variables} <= set(map(float, range(10, 35)))
    assert run(houses, lambda s: s.search(Query(text="x"), 9), {"text": ""}).left == Query(text="x")


@pytest.mark.parametrize(
    ("change", "query", "says"),
    [
        ({"text": "q"}, Query(text="x"), "no query parameter 'q'"),
        ({"list": "nothing"}, Query(), "no operation 'nothing'"),
        ({"always": {"organism": "Danio rerio"}}, Query(), "must be one of Homo sapiens"),
        ({"always": {"age_min": "old"}}, Query(), "must be a number"),
        ({"always": {"age_min": "-1"}}, Query(), "from 0 to None"),
        ({"size": "organization", "list": "GET /sample"}, Query(), "no query parameter 'organization'"),
    ],
)
def test_what_the_document_does_not_allow_is_never_sent(
    houses: Houses, change: dict[str, Any], query: Query, says: str
) -> None:
    before = len(houses.asked(""))
    with pytest.raises(ValueError, match=says):
        run(houses, lambda s: s.search(query, 5), change)
    assert len(houses.asked("")) == before


def test_one_sample_is_fetched(houses: Houses, tmp_path: Path) -> None:
    record = run(houses, lambda s: s.fetch("bio/lab/study/S003", tmp_path))
    assert json.loads((tmp_path / "item.json").read_text())["metadata"]["title"] == "Tumour 3"
    assert [f.path for f in record.files] == ["item.json"] and record.digest == record.files[0].digest
    with pytest.raises(LookupError):
        run(houses, lambda s: s.fetch("bio/lab/study/S999", tmp_path))
    with pytest.raises(LookupError, match="3 parts"):
        run(houses, lambda s: s.fetch("bio/S999", tmp_path))
    with pytest.raises(ValueError, match="no operation that gives one item"):
        run(houses, lambda s: s.fetch("bio/lab/study/S003", tmp_path), {"get": ""})


def test_a_document_in_a_file_and_in_yaml_is_one_too(houses: Houses, tmp_path: Path) -> None:
    (tmp_path / "api.yaml").write_text(yaml.safe_dump(DOCUMENT))
    found = run(houses, lambda s: s.search(Query(), 2), document=str(tmp_path / "api.yaml"), url=houses.url)
    assert found.total == 25
    with pytest.raises(Unreachable, match="cannot be read"):
        run(houses, lambda s: s.search(Query(), 2), document=str(tmp_path / "no.yaml"), url=houses.url)
    with pytest.raises(ValueError, match="needs the option url"):
        OpenApi("bio", "api.yaml", MAPPING)
    with pytest.raises(Unreachable, match="does not say that it is OpenAPI 3"):
        run(houses, lambda s: s.search(Query(), 2), document=f"{houses.url}/data.json")
    with pytest.raises(Unreachable, match="no items at '/nowhere'"):
        run(houses, lambda s: s.search(Query(), 2), {"items": "/nowhere"})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x00\xff", "neither JSON nor YAML"), (b"{", "neither"), (b"a: [", "neither"), (b"7", "OpenAPI 3"),
        (b'{"swagger": "2.0"}', "OpenAPI 3"),
        (b'{"openapi": "3.1.0", "paths": {"/x": {"$ref": "#/nowhere"}}}', "nothing"),
        (b'{"openapi": "3.1.0", "paths": {"/x": {"$ref": "#/paths/~1x"}}}', "circles"),
        (b'{"openapi": "3.1.0", "paths": {"/x": {"$ref": "other.json"}}}', "another document"),
        (b'{"openapi": "3.1.0"}', "give the option url"),
    ],
)  # fmt: skip
def test_documents_that_are_none_are_refused(content: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parsed(content, "", "")


@pytest.mark.parametrize(
    ("pointer", "value"),
    [("", {"a": [{"b/c": 1}, {"b/c": 2}]}), ("/a/1/b~1c", 2), ("/a/*/b~1c", [1, 2]), ("/a/7", None), ("/x/y", None)],
)
def test_pointers(pointer: str, value: object) -> None:
    assert at({"a": [{"b/c": 1}, {"b/c": 2}]}, pointer) == value
