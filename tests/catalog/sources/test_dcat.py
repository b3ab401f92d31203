"""Catalogues of governments: CKAN, and DCAT-US in one file."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from firstlight.catalog.index import Query
from firstlight.catalog.sources import Unreachable
from firstlight.catalog.sources._dcat_records import distributions, record_of
from firstlight.catalog.sources.dcat import Dcat

from .conftest import Houses

T = TypeVar("T")


def run(url: str, what: Callable[[Dcat], Awaitable[T]], **options: Any) -> T:
    async def asked() -> T:
        source = Dcat("gov", url, **options)
        try:
            return await asyncio.wait_for(what(source), 20)
        finally:
            await source.close()

    return asyncio.run(asked())


def test_ckan_is_searched_page_by_page(houses: Houses) -> None:
    first = run(houses.url, lambda s: s.search(Query(text="wells"), 2))
    second = run(houses.url, lambda s: s.search(Query(text="wells"), 2, first.cursor))
    assert (first.total, first.cursor, second.cursor) == (3, "2", "")
    assert [r.id for r in (*first.records, *second.records)] == ["gov/p0", "gov/p1", "gov/p2"]
    tagged = run(houses.url, lambda s: s.search(Query(where={"keyword": ("region1", "region2")}), 9))
    assert [r.id for r in tagged.records] == ["gov/p1", "gov/p2"] and tagged.left == Query()
    left = run(houses.url, lambda s: s.search(Query(where={"sensitivity": ("Public",)}), 9)).left
    assert left == Query(where={"sensitivity": ("Public",)})
    with pytest.raises(ValueError, match="no cursor"):
        run(houses.url, lambda s: s.search(Query(), 2, "x"))


def test_what_is_sent_to_ckan_is_no_query_of_somebody_elses(houses: Houses) -> None:
    query = Query(text='a:b OR (c"', where={"keyword": ('x" OR *:*',)}, since=0.0, until=86_400.0)
    run(houses.url, lambda s: s.search(query, 1))
    sent = [r["params"] for r in houses.asked("") if r["path"].endswith("package_search")][-1]
    assert sent["q"] == r"a\:b or \(c\""
    fq = r'tags:("x\" OR *:*") metadata_modified:[1970-01-01T00:00:00Z TO 1970-01-02T00:00:00Z]'
    assert sent["fq"] == fq


def test_a_package_says_what_its_publisher_says_and_no_more(houses: Houses, tmp_path: Path) -> None:
    records = run(houses.url, lambda s: s.search(Query(), 9)).records
    assert [r.card.sensitivity for r in records] == ["Public", "", ""]
    assert [r.card.licence for r in records] == ["cc-by", "cc-by", ""]
    assert "Access: restricted public." in records[1].card.description
    assert "Access: non-public." in records[2].card.description
    card = records[0].card
    assert (card.publisher, card.contact) == ("Geological Survey", "wells@example.org")
    assert card.keywords == ("water", "region0")
    assert records[0].address == f"{houses.url}/dataset/wells-0" and records[0].created == 1_704_067_200.0
    record = run(houses.url, lambda s: s.fetch("gov/p0", tmp_path))
    assert [f.path for f in record.files] == ["w0.csv"] and record.digest == record.files[0].digest
    assert (tmp_path / "w0.csv").read_text() == "x,y\n1,w0.csv\n"
    with pytest.raises(LookupError):
        run(houses.url, lambda s: s.fetch("gov/p9", tmp_path))


def test_a_dead_link_among_others_is_told_and_a_dead_server_holds_up_no_file(houses: Houses, tmp_path: Path) -> None:
    record = run(houses.url, lambda s: s.fetch("gov/p1", tmp_path))
    assert [f.path for f in record.files] == ["w1.csv"]
    assert record.card.description.endswith(f"Not to be had when it was fetched: {houses.url}/small/gone.csv.")
    with pytest.raises(Unreachable, match="is busy"):
        run(houses.url, lambda s: s.fetch("gov/p2", tmp_path), tries=2)
    assert (tmp_path / "w2.csv").exists()


def test_a_catalogue_that_is_the_same_is_not_sent_again(houses: Houses) -> None:
    async def twice(source: Dcat) -> tuple[int | None, int | None]:
        return (await source.search(Query(), 1)).total, (await source.search(Query(), 1)).total

    assert run(f"{houses.url}/data.json?key=same", twice, kind="data.json") == (2, 2)
    assert [r["headers"].get("if-none-match") for r in houses.asked("same")] == [None, '"v1"']


def test_a_catalogue_in_a_file_is_searched_here(houses: Houses, tmp_path: Path) -> None:
    url = f"{houses.url}/data.json"
    both = run(url, lambda s: s.search(Query(text="water"), 1))
    assert both.total == 2 and both.cursor == "1"
    rain = run(url, lambda s: s.search(Query(text="rain"), 9)).records[0]
    assert rain.id == "gov/doi:10.5555/ABC" and rain.card.citation == "doi:10.5555/ABC"
    assert (
        rain.card.licence == "https://creativecommons.org/publicdomain/zero/1.0/" and rain.card.sensitivity == "Public"
    )
    assert rain.card.contact == "Ann <ann@example.org>" and rain.card.publisher == "Weather Office"
    valves = run(url, lambda s: s.search(Query(text="valves"), 9)).records[0]
    assert valves.card.sensitivity == "" and valves.card.licence == ""
    assert valves.card.description == "Where valves are.\n\nAccess: restricted public. Rights: Ask the office."
    assert run(url, lambda s: s.search(Query(until=1_700_000_000.0), 9)).total == 1
    record = run(url, lambda s: s.fetch(rain.id, tmp_path))
    assert [f.path for f in record.files] == ["rain.csv"]
    with pytest.raises(LookupError, match="no file to download"):
        run(url, lambda s: s.fetch(valves.id, tmp_path))
    with pytest.raises(LookupError, match="there is no"):
        run(url, lambda s: s.fetch("gov/x", tmp_path))


def test_dcat_us_3_says_what_is_controlled(houses: Houses, tmp_path: Path) -> None:
    url = f"{houses.url}/three.json"
    plans, maps = run(url, lambda s: s.search(Query(), 9)).records
    assert plans.id == "gov/https://example.org/d/1" and plans.card.sensitivity == "CUI"
    assert "CUI: CUI//SP-CTI." in plans.card.description and plans.card.licence == "https://example.org/terms"
    assert plans.digest == "sha256:" + "0" * 64 and plans.size == 12 and plans.card.contact == "Bo <bo@example.org>"
    assert maps.card.sensitivity == "Public" and maps.card.licence == ""
    with pytest.raises(Unreachable, match="and not sha256:0000"):
        run(url, lambda s: s.fetch(plans.id, tmp_path))


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("/junk.json", {}, "is no JSON"), ("/openapi.json", {}, "no catalogue of DCAT-US"),
        ("/nowhere.json", {}, "nothing at"),
        ("/data.json", {"kind": "ckan"}, "there is nothing"),
        ("/hang.json", {"timeout": 0.2, "tries": 1}, "cannot be reached"),
        ("/data.json", {"catalogue": 100}, "more than 100 bytes"),
    ],
)  # fmt: skip
def test_what_is_no_catalogue_is_said(houses: Houses, url: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises((Unreachable, LookupError), match=says):
        run(houses.url + url, lambda s: s.search(Query(), 9), **options)


@pytest.mark.parametrize(
    "about",
    [
        {}, {"title": 7, "keyword": "one", "distribution": {"downloadURL": "http://x/y"}},
        {"extras": [1, {"key": None}]},
        {"resources": [None, "x", {"url": None}, {"url": "file:///etc/passwd"}], "contactPoint": "Ann", "license": {}},
        {"publisher": [], "accessRights": [], "distribution": [{"checksum": "x", "byteSize": "many"}], "tags": [{}]},
    ],
)  # fmt: skip
def test_sloppy_entries_are_read_as_far_as_they_go(about: dict[str, Any]) -> None:
    record = record_of(about, "gov")
    assert record.id.startswith("gov/") and record.card.sensitivity == "" and record.card.licence == ""
    assert all(d.address.startswith("http") for d in distributions(about))


@pytest.mark.parametrize(
    ("about", "sensitivity"),
    [
        ({"accessLevel": "non-public", "accessRights": "http://x/PUBLIC"}, ""), ({"accessLevel": "Public"}, "Public"),
        ({"rights": "public for a fee"}, ""),
        ({"accessLevel": "public", "cuiRestriction": {"cuiBannerMarking": "CUI"}}, "CUI"),
    ],
)  # fmt: skip
def test_public_is_what_they_call_so(about: dict[str, Any], sensitivity: str) -> None:
    assert record_of(about, "gov").card.sensitivity == sensitivity
