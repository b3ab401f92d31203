"""Harvests of providers that are not as they should be."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from arro3.io import read_parquet

from firstlight.catalog.index import Card, Record
from firstlight.catalog.sources import Unreachable
from firstlight.catalog.sources._harvest import Harvest, PageOfStructures, brought

HEAD = Harvest(
    provider="p", address="https://x/v1", filter="", sorted=False, properties={}, card=Card(licence="CC0-1.0")
)


def page(*ids: str, following: str = "", total: int = 0, space: bool = False) -> PageOfStructures:
    said = {
        "data": [{"id": i, "attributes": {"elements": ["O"], "nsites": len(i)}} for i in ids],
        "links": {"next": {"href": following} if space else following or None}, "meta": {"data_returned": total},
    }  # fmt: skip
    return msgspec.json.decode(json.dumps(said, indent=2 if space else None).encode(), type=PageOfStructures)


def harvested(to: Path, pages: dict[str, PageOfStructures | Exception], asked: list[str] | None = None) -> Record:
    async def give(address: str) -> PageOfStructures:
        if asked is not None:
            asked.append(address)
        found = pages[address]
        if isinstance(found, Exception):
            raise found
        return found

    def fails(what: str, remedy: str) -> Unreachable:
        return Unreachable("p", what, remedy)

    return asyncio.run(brought(HEAD, to, give, fails, lambda done, total: None))


def ids(to: Path) -> list[str]:
    return [json.loads(line)["id"] for line in (to / "structures.jsonl").read_text().splitlines()]


def test_what_comes_twice_is_kept_once_and_what_does_not_come_is_told(tmp_path: Path) -> None:
    record = harvested(tmp_path, {"": page("a", "b", following="2", total=4), "2": page("b", "c", total=4)})
    assert ids(tmp_path) == ["a", "b", "c"]
    assert record.rows == 3 and record.card.licence == "CC0-1.0"
    assert record.card.description.endswith("The provider says that there are 4; 3 came.")


def test_structures_on_many_lines_are_one_line_each(tmp_path: Path) -> None:
    harvested(tmp_path, {"": page("a", "b", following="2", space=True), "2": page("c", space=True)})
    assert ids(tmp_path) == ["a", "b", "c"]
    assert read_parquet(tmp_path / "structures.parquet").read_all()["nsites"].to_pylist() == [1, 1, 1]


def test_pages_that_lead_in_circles_end(tmp_path: Path) -> None:
    pages: dict[str, PageOfStructures | Exception] = {"": page("a", following="2"), "2": page("b", following="2")}
    with pytest.raises(Unreachable, match="circles"):
        harvested(tmp_path, pages)


def test_what_is_no_structure_is_said_and_what_came_stays(tmp_path: Path) -> None:
    bad = PageOfStructures(data=[msgspec.Raw(b'{"no":"id"}')])
    with pytest.raises(Unreachable, match="no structure"):
        harvested(tmp_path, {"": page("a", following="2"), "2": bad})
    asked = list[str]()
    assert harvested(tmp_path, {"2": page("b")}, asked).rows == 2 and asked == ["2"]


def test_a_page_that_is_damaged_on_disk_is_asked_for_again_with_all_that_follow(tmp_path: Path) -> None:
    pages: dict[str, PageOfStructures | Exception] = {
        "": page("a", following="2"), "2": page("b", following="3"), "3": Unreachable("p", "gone"),
    }  # fmt: skip
    with pytest.raises(Unreachable, match="gone"):
        harvested(tmp_path, pages)
    head, first, second = (tmp_path / "pages.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "pages.jsonl").write_bytes(head + first[:-9] + b"\n" + second)
    asked = list[str]()
    assert harvested(tmp_path, {**pages, "3": page("c")}, asked).rows == 3 and asked == ["", "2", "3"]


def test_nothing_at_all_is_a_harvest_too(tmp_path: Path) -> None:
    record = harvested(tmp_path, {"": page()})
    assert record.rows == 0 and read_parquet(tmp_path / "structures.parquet").read_all().num_rows == 0


@pytest.mark.parametrize("spoil", ["structures.jsonl", "record.json"])
def test_a_finished_harvest_that_was_changed_is_not_taken_for_one(tmp_path: Path, spoil: str) -> None:
    harvested(tmp_path, {"": page("a")})
    (tmp_path / spoil).write_text("changed")
    with pytest.raises(ValueError, match="another directory"):
        harvested(tmp_path, {"": page("a")})
