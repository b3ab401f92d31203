"""One query over many sources: nobody holds up the others, and nothing is said that nobody knows."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from firstlight.catalog.index import Card, Query, Range, Record, Variable
from firstlight.catalog.sources import Answer, Cache, Heard, Merged, Source, Unreachable, answers, search
from firstlight.catalog.sources._answer import Progress, silent
from firstlight.catalog.sources.dcat import Dcat
from firstlight.catalog.sources.web import Web

from .conftest import Houses


class Says:
    """A source that answers what it is given, after a while."""

    def __init__(self, *records: Record, after: float = 0.0, left: Query | None = None, page: int = 99) -> None:
        self.address = "memory:"
        self.records, self.after, self.left, self.page = records, after, left or Query(), page
        self.asked = 0
        self.down: Exception | None = None

    async def search(self, query: Query, limit: int, cursor: str = "") -> Answer:
        self.asked += 1
        await asyncio.sleep(self.after)
        if self.down is not None:
            raise self.down
        at, size = int(cursor or 0), min(limit, self.page)
        end = at + size
        more = str(end) if end < len(self.records) else ""
        return Answer(records=self.records[at:end], cursor=more, total=len(self.records), left=self.left)

    async def fetch(self, id: str, to: Path, progress: Progress = silent) -> Record:
        raise LookupError(id)

    async def close(self) -> None:
        pass


class Stubborn(Says):
    """Does not end when it is told to."""

    async def search(self, query: Query, limit: int, cursor: str = "") -> Answer:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(2)
        return Answer()


def record(provider: str, name: str, digest: str = "", **more: object) -> Record:
    card = Card(title=name, citation=str(more.pop("doi", "")), licence=str(more.pop("licence", "")))
    return Record(id=f"{provider}/{name}", name=name, digest=digest, provider=provider, card=card, **more)  # type: ignore[arg-type]


def found(sources: Mapping[str, Source], query: Query | None = None, patience: float = 5.0, **more: object) -> Merged:
    return asyncio.run(search(sources, query or Query(), 10, patience, **more))  # type: ignore[arg-type]


def ids(merged: Merged) -> list[str]:
    return [hit.record.id for hit in merged.hits]


def test_answers_are_interleaved_by_rank_in_the_order_of_the_sources() -> None:
    one, two = Says(*(record("a", f"{n}") for n in range(3)), after=0.05), Says(record("b", "x"))
    assert ids(found({"a": one, "b": two})) == ["a/0", "b/x", "a/1", "a/2"]


def test_the_same_data_are_one_hit_with_all_origins() -> None:
    merged = found({
        "a": Says(record("a", "x", "sha256:1"), record("a", "y", doi="10.1/Y"), record("a", "z", doi="10.1/y")),
        "b": Says(record("b", "other", "sha256:1"), record("b", "Y", doi="https://doi.org/10.1/y")),
        "c": Says(record("c", "y", doi="doi:10.1/Y"), record("c", "n", "")),
    })  # fmt: skip
    assert [(hit.record.id, hit.origins) for hit in merged.hits] == [
        ("a/x", ("a", "b")), ("c/y", ("c", "a", "b")), ("c/n", ("c",)), ("a/z", ("a",)),
    ]  # fmt: skip


def test_what_hangs_and_what_fails_is_named_and_holds_up_nobody() -> None:
    down = Says()
    down.down = Unreachable("down", "it burns", "wait")
    bug = Says()
    bug.down = KeyError()
    sources = {"quick": Says(record("quick", "x")), "slow": Says(after=30), "down": down, "bug": bug}
    began = time.monotonic()
    merged = found(sources, patience=0.3)
    assert time.monotonic() - began < 1.0
    assert ids(merged) == ["quick/x"]
    assert merged.failed == {
        "slow": "slow has not answered within 0.3 s", "down": "down: it burns; wait", "bug": "bug: KeyError",
    }  # fmt: skip
    assert merged.totals == {"quick": 1}


def test_what_does_not_end_when_told_to_is_left_behind() -> None:
    async def timed() -> tuple[Merged, float]:
        began = time.monotonic()
        merged = await search({"s": Stubborn(), "q": Says(record("q", "x"))}, Query(), 10, 0.2, None)
        return merged, time.monotonic() - began

    merged, took = asyncio.run(timed())
    assert took < 1.0 and "s" in merged.failed and ids(merged) == ["q/x"]


def test_each_is_heard_as_it_answers() -> None:
    async def order() -> list[str]:
        sources = {"c": Says(after=0.2), "a": Says(), "b": Says(after=0.1), "d": Says(after=9)}
        return [heard.provider async for heard in answers(sources, Query(), 10, 0.4)]

    assert asyncio.run(order()) == ["a", "b", "c", "d"]


def test_whoever_listens_slowly_does_not_keep_others_from_their_work(tmp_path: Path) -> None:
    async def slowly() -> list[Heard]:
        cache = Cache(tmp_path)
        await search({"a": Says()}, Query(), 10, 1.0, cache)
        found = list[Heard]()
        async for heard in answers({"a": Says(), "b": Says(after=0.1)}, Query(), 10, 0.3, cache, age=99.0):
            found.append(heard)
            await asyncio.sleep(0.5)
        return found

    assert [(h.provider, h.failed) for h in asyncio.run(slowly())] == [("a", ""), ("b", "")]


def test_who_stops_listening_leaves_nothing_behind() -> None:
    async def first() -> int:
        stream = answers({"a": Says(), "b": Says(after=9)}, Query(), 10, 9)
        async for _ in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]
        return len(asyncio.all_tasks())

    assert asyncio.run(first()) == 1


def test_what_a_source_could_not_apply_is_applied_here_or_said() -> None:
    gap = Range(variable="gap", low=1.0, high=2.0, unit="eV")
    query = Query(text="iron", ranges=(gap,), since=5.0, where={"element": ("Fe",)})
    within = (Variable(name="gap", unit="eV", low=1.5, high=1.6),)
    beyond = (Variable(name="gap", unit="eV", low=2.5, high=2.6),)
    elsewhere = (Variable(name="gap", unit="meV", low=2.5, high=2.6),)
    source = Says(
        record("x", "iron a", variables=within, created=6.0, elements=("Fe",)),
        record("x", "iron b", variables=beyond, created=6.0, elements=("Fe",)),
        record("x", "iron c", variables=elsewhere, elements=("Fe", "O")),
        record("x", "copper", variables=within, created=6.0, elements=("Fe",)),
        record("x", "iron d", variables=within, created=4.0, elements=("Fe",)),
        record("x", "iron e", variables=within, created=6.0, elements=("O",)),
        record("x", "iron f", variables=within, created=6.0),
        left=query,
    )  # fmt: skip
    merged = found({"x": source}, query)
    assert ids(merged) == ["x/iron a", "x/iron c", "x/iron f"]
    assert sorted(merged.notes) == [
        "x cannot search by date: 1 answers unchecked", "x cannot search by range gap: 1 answers unchecked",
        "x cannot search by where element: 1 answers unchecked",
    ]  # fmt: skip


def test_a_named_provider_is_asked_alone_and_pages_go_on() -> None:
    a, b = Says(*(record("a", f"{n}") for n in range(5)), page=2), Says(record("b", "x"))
    merged = found({"a": a, "b": b}, Query(where={"provider": ("a",)}))
    assert ids(merged) == ["a/0", "a/1"] and b.asked == 0
    merged = found({"a": a, "b": b}, cursors=merged.cursors)
    assert ids(merged) == ["a/2", "a/3"] and b.asked == 0
    merged = found({"a": a, "b": b}, cursors=merged.cursors)
    assert ids(merged) == ["a/4"] and merged.cursors == {}


def test_the_cache_stands_in_with_its_date_and_spares_asking(tmp_path: Path) -> None:
    now = [1_795_600_000.0]
    cache, source = Cache(tmp_path, clock=lambda: now[0]), Says(record("a", "x"))
    assert found({"a": source}, cache=cache).dates == {}
    now[0] += 100_000
    source.down = Unreachable("a", "it is down")
    merged = found({"a": source}, cache=cache)
    assert ids(merged) == ["a/x"] and merged.dates == {"a": 1_795_600_000.0}
    assert merged.failed == {"a": "a: it is down; try again later"} and merged.notes == ("a: as of 2026-11-25",)
    assert source.asked == 2
    assert ids(found({"a": source}, cache=cache, age=200_000.0)) == ["a/x"] and source.asked == 2
    assert found({"a": source}, cache=cache, age=50_000.0).failed and source.asked == 3
    assert found({"a": source}, Query(text="else"), cache=cache).hits == ()
    now[0] -= 200_000
    assert found({"a": source}, cache=cache, age=9e9).failed, "an answer of the future is not younger than anything"


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b'{"key":"k","date":1,"answer":{"records":"?"}}'])
def test_damaged_entries_are_ignored_and_replaced(tmp_path: Path, damage: bytes) -> None:
    cache, source = Cache(tmp_path, clock=lambda: 5.0), Says(record("a", "x"))
    found({"a": source}, cache=cache)
    (file,) = tmp_path.rglob("*.json")
    good = file.read_bytes()
    file.write_bytes(damage or good.replace(b'"key":"', b'"key":"0'))
    source.down = Unreachable("a", "it is down")
    assert found({"a": source}, cache=cache).hits == ()
    source.down = None
    assert ids(found({"a": source}, cache=cache, age=99.0)) == ["a/x"]
    assert file.read_bytes() == good


def test_a_cache_is_its_owners(tmp_path: Path) -> None:
    found({"a": Says(record("a", "x"))}, cache=Cache(tmp_path / "cache"))
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    merged = found({"a": Says(record("a", "x"))}, cache=Cache(tmp_path / "taken" / "cache"))
    assert ids(merged) == ["a/x"] and "could not be kept" in merged.notes[0]


def test_five_facilities_of_which_one_hangs_and_one_talks_junk(houses: Houses, tmp_path: Path) -> None:
    async def whole() -> tuple[Merged, float]:
        sources: dict[str, Source] = {
            "ckan": Dcat("ckan", houses.url), "data": Dcat("data", f"{houses.url}/data.json"),
            "files": Web("files", f"{houses.url}/listing.json"), "hangs": Dcat("hangs", f"{houses.url}/hang.json"),
            "junk": Dcat("junk", f"{houses.url}/junk.json"),
        }  # fmt: skip
        try:
            began = time.monotonic()
            return await search(sources, Query(), 10, 1.0, Cache(tmp_path)), time.monotonic() - began
        finally:
            for source in sources.values():
                await source.close()

    merged, took = asyncio.run(whole())
    assert took < 2.0
    assert set(merged.failed) == {"hangs", "junk"} and "no JSON" in merged.failed["junk"]
    assert {hit.record.provider for hit in merged.hits} == {"ckan", "data", "files"}
    assert merged.totals == {"ckan": 3, "data": 2, "files": 3}
