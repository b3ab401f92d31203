"""The index: what is added is found, by everything that is said of it, and nothing is ever lost or overwritten."""

import os
import random
import secrets
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from msgspec.structs import replace
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from firstlight.catalog import _bitmaps
from firstlight.catalog import index as module
from firstlight.catalog._database import Session, Sqlite
from firstlight.catalog.index import Card, Index, Page, Query, Range, Record, Variable
from firstlight.core import Unavailable
from firstlight.testing.journal import postgres_server
from firstlight.units import PintUnits


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with postgres_server() as address:
        yield {key: str(value) for key, value in conninfo_to_dict(address).items()}


@pytest.fixture
def address(server: dict[str, str], tmp_path: Path) -> str:
    """A database of its own, which would order words as people do, and not by their characters."""
    name = f"i{secrets.token_hex(6)}"
    try:
        query(server, f"CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
    except psycopg.Error:  # Before PostgreSQL 15, or built without it.
        query(server, f"CREATE DATABASE {name}")
    return f"postgresql://{server['user']}@/{name}?host={quote(server['host'], safe='')}"


def query(server: dict[str, str], sql: str) -> None:
    with psycopg.connect(make_conninfo(**server), dbname="postgres", autocommit=True) as connection:
        connection.execute(sql.encode())


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an index may be: in a file, or in a database of a server."""
    return str(request.getfixturevalue("address") if request.param == "postgres" else tmp_path / "index.db")


@pytest.fixture
def index(place: str) -> Iterator[Index]:
    with closing(Index(place)) as made:
        yield made


def record(name: str, version: int = 1, **said: object) -> Record:
    made = Record(id=f"{name}@{version}", name=name, digest=f"sha256:{name}{version}", created=float(version))
    return replace(made, **said)


def ids(page: Page) -> list[str]:
    return [found.record.id for found in page.found]


def test_what_is_added_again_changes_nothing_and_another_version_takes_its_place(index: Index) -> None:
    first, second = record("films"), record("films", 2)
    assert [f.version for f in index.add([first, first])] == [1, 1]
    assert [f.version for f in index.add([second, first])] == [2, 1]
    assert ids(index.search(Query())) == ["films@2"]
    assert ids(index.search(Query(every=True))) == ["films@2", "films@1"]
    assert [f.record for f in index.versions("films")] == [first, second]
    assert index.get("films").record == second
    assert index.get("films@1").record == first
    with pytest.raises(LookupError, match="no record 'steel'"):
        index.get("steel")


def test_nothing_is_overwritten_and_what_is_refused_leaves_no_trace(index: Index) -> None:
    index.add([record("films")])
    with pytest.raises(ValueError, match="films@1 is known as sha256:films1, and is not sha256:other"):
        index.add([record("steel"), replace(record("films"), digest="sha256:other")])
    assert ids(index.search(Query())) == ["films@1"]
    assert index.get("films@1").record.digest == "sha256:films1"


def some_records(count: int, seed: int) -> list[Record]:
    r = random.Random(seed)
    made = list[Record]()
    for i in range(count):
        at, width = r.uniform(0, 100), r.uniform(0, 20)
        made.append(
            record(
                f"d{r.randrange(count)}", i, created=r.uniform(0, 1000),
                card=Card(
                    title=" ".join(r.sample(["Thin", "films", "of", "perovskite", "Müller", "glass"], 3)),
                    keywords=tuple(r.sample(["solar", "cell", "anneal"], 2)), licence=r.choice(["", "MIT", "CC0-1.0"]),
                ),
                variables=(
                    Variable("temperature", "parameter", "K", at, at + width),
                    Variable(r.choice(["yield", "haze"]), "observable", "%", 0.0, at),
                ),
                elements=tuple(r.sample(["Li", "O", "Pb", "I"], 2)),
            )
        )  # fmt: skip
    return made


QUERIES = [
    Query(),
    Query(every=True),
    Query(where={"element": ("Li",), "licence": ("MIT", "CC0-1.0")}),
    Query(where={"element": ("Xe",)}),
    Query(where={"observable": ("haze",)}, ranges=(Range("temperature", 20.0, 40.0, "K"),)),
    Query(ranges=(Range("yield", 90.0, None, "%"),)),
    Query(ranges=(Range("yield", None, 1.0, "%"), Range("temperature", None, 50.0, "K"))),
    Query(ranges=(Range("temperature", 20.0, 40.0, "degC"),)),
    Query(since=900.0),
    Query(since=100.0, until=200.0, every=True),
    Query(text="muller FILMS "),
    Query(text="perov"),
    Query(text="solar perov", where={"element": ("Pb",)}),
    Query(text="nowhere"),
]


def holds(query: Query, known: Record) -> bool:
    """What a query asks, said once more and differently."""
    said = (
        f"{known.name} {known.card.title} {' '.join(known.card.keywords)} {' '.join(v.name for v in known.variables)}"
    )
    words = said.lower().replace("ü", "u").split()
    for i, wanted in enumerate(query.text.lower().split()):
        begins = i == len(query.text.split()) - 1 and not query.text.endswith(" ")
        if not any(w.startswith(wanted) if begins else w == wanted for w in words):
            return False
    values = {
        "element": known.elements, "licence": (known.card.licence,),
        "observable": tuple(v.name for v in known.variables if v.role == "observable"),
    }  # fmt: skip
    if any(not set(some) & set(values[facet]) for facet, some in query.where.items()):
        return False
    for asked in query.ranges:
        ends = [(v.low, v.high) for v in known.variables if (v.name, v.unit) == (asked.variable, asked.unit)]
        low = float("-inf") if asked.low is None else asked.low
        high = float("inf") if asked.high is None else asked.high
        if not any(a is not None and b is not None and a <= high and b >= low for a, b in ends):
            return False
    return (query.since is None or known.created >= query.since) and (
        query.until is None or known.created <= query.until
    )


@pytest.mark.parametrize("merged_after", [40, 1000, 10**9])
def test_what_is_found_and_counted_is_what_one_would_find_by_looking_at_all(
    index: Index, place: str, merged_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bitmaps, "_MERGED_AFTER", merged_after)
    monkeypatch.setattr(_bitmaps, "_BLOCK", 6)
    other = Index(place)  # As another process has it, which added none of them.
    records, retracted = some_records(400, merged_after), set[str]()
    for start in range(0, 400, 50):
        index.add(records[start : start + 50])
        index.retract(records[start].id, "a bubble", "ada")
        retracted.add(records[start].id)
        there = records[: start + 50]
        newest = {r.name: r.id for r in there}
        for query in QUERIES:
            wanted = [
                r for r in there
                if holds(query, r) and (query.every or (newest[r.name] == r.id and r.id not in retracted))
            ]  # fmt: skip
            page = other.search(query, limit=1000)
            assert sorted(ids(page)) == sorted(r.id for r in wanted), query
            assert page.total == len(wanted)
            counts = Counter(term for r in wanted for term in set(r.terms()))
            assert {(f, v): n for f, vs in page.facets.items() for v, n in vs.items()} == dict(counts)
    other.close()


def test_pages_have_everything_once(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.add(record(f"d{i}", card=Card(title="films")) for i in range(50))
    for query, ranked in ((Query(), 10**6), (Query(text="films"), 10**6), (Query(text="films"), 10)):
        monkeypatch.setattr(module, "_RANKED", ranked)
        seen, after = list[str](), 0
        while True:
            page = index.search(query, limit=7, after=after)
            assert page.total == 50
            seen += ids(page)
            after = page.after
            if not after:
                break
        assert seen == [f"d{i}@1" for i in range(49, -1, -1)]


def test_a_search_sees_one_state_whatever_is_added_and_written_anew_meanwhile(
    index: Index, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bitmaps, "_MERGED_AFTER", 1)
    index.add([record("films", card=Card(title="perovskite", licence="MIT"))])
    refresh, added = _bitmaps.Bitmaps.refresh, list[str]()

    def and_then(self: _bitmaps.Bitmaps, db: Session) -> _bitmaps.Stamp:
        stamp = refresh(self, db)
        with closing(Index(place)) as other:
            version = len(added) + 2
            added.extend(f.record.id for f in other.add([record("films", version, card=Card(title="perovskite"))]))
        return stamp

    monkeypatch.setattr(_bitmaps.Bitmaps, "refresh", and_then)
    page = index.search(Query(text="perovskite "))
    assert (ids(page), page.facets["licence"]) == (["films@1"], {"MIT": 1})
    assert ids(index.search(Query(text="perovskite "))) == ["films@2"]
    assert added == ["films@2", "films@3"]


def test_of_many_words_that_begin_alike_the_first_of_the_alphabet_are_meant(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_COMPLETED", 1)
    index.add([record("a", card=Card(title="perov_x")), record("b", card=Card(title="perov1"))])
    assert ids(index.search(Query(text="perov"))) == ["b@1"]


def test_what_is_in_a_title_comes_first(index: Index) -> None:
    index.add([
        record("a", card=Card(title="Annealing of perovskite")),
        record("b", card=Card(title="Glass", description="beside perovskite films")),
        record("c", card=Card(title="Perovskite films")),
    ])  # fmt: skip
    assert ids(index.search(Query(text="perovskite films"))) == ["c@1", "b@1"]
    assert ids(index.search(Query(text="perovskite "))) == ["c@1", "a@1", "b@1"]


@pytest.mark.parametrize("text", ["", "  ", '"', "AND", "a*b", "NEAR(", "-", "\x00", "' OR 1=1", "ﬁlms"])
def test_whatever_is_typed_is_words(index: Index, text: str) -> None:
    index.add([record("films")])
    assert index.search(Query(text=text)).total in (0, 1)


def test_a_range_is_found_in_any_unit_of_its_kind(place: str) -> None:
    index = Index(place, PintUnits().convert)
    for name, unit, low, high in (("a", "K", 300.0, 310.0), ("b", "degC", 30.0, 35.0), ("c", "Pa", 1.0, 400.0)):
        index.add([record(name, variables=(Variable("temperature", "parameter", unit, low, high),))])

    def found(low: float | None, high: float | None, unit: str) -> list[str]:
        return ids(index.search(Query(ranges=(Range("temperature", low, high, unit),))))

    assert found(302.0, 308.0, "K") == ["b@1", "a@1"]
    assert found(36.0, None, "degC") == ["a@1"]
    assert found(None, 301.0, "K") == ["a@1"]
    assert found(2.0, 3.0, "hPa") == ["c@1"]
    assert found(302.0, 308.0, "") == ["c@1", "a@1"]
    index.close()


def test_facets_are_counted_only_where_they_are_asked_for(index: Index) -> None:
    index.add([record("films", elements=("Li", "O"))])
    assert index.search(Query(), facets=("element",)).facets == {"element": {"Li": 1, "O": 1}}
    assert index.search(Query(), facets=()).facets == {}


def test_a_retracted_dataset_names_all_that_was_made_from_it(index: Index) -> None:
    index.add([
        record("raw"), record("clean", used=("raw@1", "lost@1")), record("model", used=("clean@1",), kind="model"),
        record("other", used=("model@1",)), record("loop", used=("loop@1", "raw@1")),
    ])  # fmt: skip
    names = {"clean", "model", "other", "loop"}
    assert {f.record.name for f in index.downstream("raw@1")} == names
    assert [f.record.name for f in index.upstream("other@1")] == ["model", "clean", "raw"]
    assert {f.record.name for f in index.retract("raw@1", "the scale was off", "ada")} == names
    found = index.get("raw@1")
    assert (found.retracted, found.by) == ("the scale was off", "ada")
    assert "raw@1" not in ids(index.search(Query()))
    assert "raw@1" in ids(index.search(Query(every=True)))
    index.retract("raw@1", "said again", "bob")
    assert index.get("raw@1").retracted == "the scale was off"
    with pytest.raises(ValueError, match="say why"):
        index.retract("clean@1", " ", "ada")
    with pytest.raises(LookupError, match="no record 'gold'"):
        index.retract("gold", "why", "ada")


ADDING = """
import sys
from firstlight.catalog.index import Card, Index, Record
index = Index(sys.argv[1])
for batch in range(int(sys.argv[3]), int(sys.argv[4])):
    names = [f"{batch}.{i}" for i in range(int(sys.argv[2]))]
    records = [Record(id=f"{n}@1", name=n, digest=f"sha256:{n}", card=Card(title=f"batch{batch}")) for n in names]
    records.append(Record(id=f"same@{batch}", name="same", digest=f"sha256:{batch}", used=(names[0],)))
    print(batch, "begun", flush=True)
    index.add(records)
    print(batch, "done", flush=True)
"""


def adding(place: str, size: int, first: int, end: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", ADDING, place, str(size), str(first), str(end)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_killed_in_the_middle_every_batch_is_whole_or_not_there(place: str) -> None:
    for attempt, (size, batches, part) in enumerate(((20, 20, 0.0), (2500, 1, 0.5), (2500, 1, 0.8))):
        first = 1000 * attempt
        with adding(place, size, first, first + 1000) as process:
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(2 * batches - 1)]
            began = time.perf_counter()
            said += [process.stdout.readline() for _ in range(2)]
            assert [line.split()[1] for line in said[-2:]] == ["done", "begun"]
            time.sleep(part * (time.perf_counter() - began))  # Some of it is written by then, and some is not.
            os.kill(process.pid, signal.SIGKILL)
            said += process.stdout.read().splitlines()
        with closing(Index(place)) as index:
            finished = {int(line.split()[0]) for line in said if line.split()[1:] == ["done"]}
            begun = {int(line.split()[0]) for line in said}
            for batch in begun:
                whole = {size} if batch in finished else {0, size}
                assert (found := index.search(Query(text=f"batch{batch} ")).total) in whole
                assert len(index.downstream(f"{batch}.0")) == (1 if found else 0)
            assert index.search(Query(text=f"batch{max(begun) + 1} ")).total == 0
            versions = [f.version for f in index.versions("same")]
            assert versions == list(range(1, len(versions) + 1))
            index.add([record(f"after{attempt}")])
            assert index.search(Query(text=f"after{attempt} ")).total == 1


def test_two_processes_that_add_at_once_lose_nothing_and_number_versions_without_a_gap(place: str) -> None:
    with adding(place, 5, 0, 40) as one, adding(place, 5, 40, 80) as other, closing(Index(place)) as index:
        seen = 0
        while one.poll() is None or other.poll() is None:
            page = index.search(Query(every=True), facets=("kind",))
            assert page.facets.get("kind", {}).get("dataset", 0) == page.total >= seen
            seen = page.total
        assert (one.returncode, other.returncode) == (0, 0)
        assert index.search(Query(every=True)).total == 80 * 6
        assert index.search(Query()).total == 80 * 5 + 1
        assert [f.version for f in index.versions("same")] == list(range(1, 81))
        assert {f.record.id for f in index.versions("same")} == {f"same@{batch}" for batch in range(80)}


def test_several_open_a_new_index_at_once(place: str, tmp_path: Path) -> None:
    places = [place] if place.startswith("postgresql:") else [str(tmp_path / f"{i}.db") for i in range(15)]
    for one in places:
        together = threading.Barrier(6)

        def opened(n: int, one: str = one, together: threading.Barrier = together) -> int:
            together.wait()
            with closing(Index(one)) as index:
                return index.add([record("films", n)])[0].version

        with ThreadPoolExecutor(6) as pool:
            assert sorted(pool.map(opened, range(6))) == [1, 2, 3, 4, 5, 6]


def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.db")
    index.add([record("films")])
    assert isinstance(index._database, Sqlite)
    (pages,) = index._database.connection.execute("PRAGMA page_count").fetchone()
    index._database.connection.execute(f"PRAGMA max_page_count={pages + 4}")
    with pytest.raises(Unavailable, match="full"):
        index.add(record(f"d{i}", card=Card(description="x" * 2000)) for i in range(200))
    index._database.connection.execute("PRAGMA max_page_count=1000000")
    assert ids(index.search(Query())) == ["films@1"]
    index.add([record("d0")])
    assert index.search(Query()).total == 2
    index.close()


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    file = tmp_path / "index.db"
    file.write_bytes(b"not a database at all" * 100)
    with pytest.raises(Unavailable, match=r"index\.db cannot be used"):
        Index(file)
    (tmp_path / "there").write_text("")
    with pytest.raises(Unavailable, match="cannot be used"):
        Index(tmp_path / "there" / "index.db")


def test_an_index_of_another_version_is_refused(tmp_path: Path, address: str, server: dict[str, str]) -> None:
    file = tmp_path / "index.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE stamp(one INTEGER PRIMARY KEY, merged INTEGER)")
    with pytest.raises(Unavailable, match=r"has schema 1, this version knows 2: .* remove it"):
        Index(file)
    Index(address).close()
    with psycopg.connect(address) as there:
        there.execute("UPDATE firstlight_catalog.stamp SET version = 99")
    with pytest.raises(Unavailable, match="has schema 99"):
        Index(address)


def test_a_connection_that_was_lost_is_made_anew_and_what_was_under_way_is_undone(
    address: str, server: dict[str, str]
) -> None:
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'firstlight'"
    with closing(Index(address)) as index:
        index.add([record("films")])
        query(server, kill)
        assert ids(index.search(Query())) == ["films@1"]
        query(server, kill)
        index.add([record("steel")])

        def cut() -> Iterator[Record]:
            yield from (record(f"d{i}") for i in range(1500))
            query(server, kill)
            yield record("last")

        with pytest.raises(Unavailable, match=r"postgresql://.* cannot be used"):
            index.add(cut())
        assert ids(index.search(Query())) == ["steel@1", "films@1"]
        assert len(index.add(record(f"d{i}") for i in range(1500))) == 1500
        assert index.search(Query()).total == 1502


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://ada:s%73cret-word@127.0.0.1:1/lab",
        "postgresql://ada:secret-word@127.0.0.1/lab?host=/nowhere",
        "postgresql://ada:secret-word/@host/lab",
        "postgresql://ada@127.0.0.1:1/lab?password=secret-word",
        "postgresql://ada:secret-word@host:port/lab",
    ],
)
def test_a_server_that_is_away_is_said_without_the_password(address: str) -> None:
    with pytest.raises(Unavailable, match="index") as caught:
        Index(address)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_what_a_database_cannot_hold_is_refused_and_nothing_is_written(address: str) -> None:
    with closing(Index(address)) as index:
        with pytest.raises(ValueError, match="cannot hold"):
            index.add([record("films"), record("nul\0")])
        assert index.search(Query()).total == 0
        with pytest.raises(LookupError):
            index.get("films")
