"""What is added stays as it is, trials are found as they end, and what is synthetic stays so."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from msgspec.structs import replace
from psycopg.conninfo import conninfo_to_dict

from firstlight import core
from firstlight.catalog import FileCatalog
from firstlight.catalog._trials import Shelves
from firstlight.catalog.index import Card, File, Index, Page, Query, Range, Record, digest_of_files
from firstlight.catalog.library import Library
from firstlight.catalog.store import Damaged, Store
from firstlight.core import Row, Span
from firstlight.testing.catalog import campaign_of, row_of, some_spec
from firstlight.testing.journal import postgres_server

CAMPAIGN = campaign_of(some_spec())


def trials(library: Library, **where: tuple[str, ...]) -> Page:
    return library.index.search(Query(where={"kind": ("trial",), **where}), 100)


def added(library: Library, name: str = "inks", used: tuple[str, ...] = (), synthetic: bool = False) -> Record:
    record = Record(id="", name=name, digest="", card=Card(title="Inks"), used=used, synthetic=synthetic)
    return library.add(record, {"a.csv": f"x\n{name}\n".encode(), "more/b.csv": b"y\n2\n"}).record


async def ingest(catalog: FileCatalog, *rows: Row) -> None:
    await asyncio.gather(*(catalog.ingest(CAMPAIGN, row) for row in rows))


def by(row: Row, *facilities: str) -> Row:
    spans = tuple(Span(f"{row.trial}.{f}", f, 1.0, 2.0, 3.0, "sampler" if f == "hall" else "") for f in facilities)
    return replace(row, spans=spans)


def test_a_dataset_is_what_its_files_are(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        record = added(library)
        assert [file.path for file in record.files] == ["a.csv", "more/b.csv"]
        assert record.digest == digest_of_files(record.files)
        assert record.id == f"inks@{record.digest[7:19]}"
        assert record.size == sum(len(p.read_bytes()) for p in library.files(record).values())
        assert added(library) == record
        assert library.index.count() == 1
        library.verify(record)


def test_the_digest_of_several_files_is_that_of_sha256sum(tmp_path: Path) -> None:
    with Library(tmp_path / "kept") as library:
        record = added(library)
        for path, file in library.files(record).items():
            (tmp_path / "out" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "out" / path).write_bytes(file.read_bytes())
    command = "sha256sum a.csv more/b.csv | sha256sum"
    said = subprocess.run(command, shell=True, cwd=tmp_path / "out", capture_output=True, text=True, check=True)
    assert record.digest == f"sha256:{said.stdout.split()[0]}"


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../b", "", "a//b"])
def test_no_file_leads_out_of_a_dataset(tmp_path: Path, path: str) -> None:
    with Library(tmp_path / "kept") as library, pytest.raises(ValueError, match="leads out"):
        library.add(Record(id="", name="x", digest=""), {path: b"1"})
    assert not (tmp_path / "outside").exists()


def test_damage_is_told(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        record = added(library)
        library.file(record.files[0]).write_bytes(b"changed")
        with pytest.raises(Damaged, match=record.files[0].digest):
            library.verify(record)


def test_trials_are_found_once_they_have_ended(tmp_path: Path) -> None:
    catalog = FileCatalog(tmp_path)
    asyncio.run(ingest(catalog, *(row_of(n) for n in range(1, 6))))
    with Library(tmp_path) as library:
        page = trials(library)
        assert page.total == 5
        one = next(f.record for f in page.found if f.record.name == "films.3")
        assert {v.name: (v.low, v.role) for v in one.variables if v.role == "parameter" and v.low is not None} == {
            name: (float(value), "parameter") for name, value in row_of(3).ran.items() if not isinstance(value, str)
        }
        assert {v.name: v.low for v in one.variables if v.role == "observable"} == {
            name: o.value for name, o in row_of(3).seen.items()
        }
        asyncio.run(ingest(catalog, *(row_of(n) for n in range(4, 9))))
        assert trials(library).total == 8
        words = {n: v for n, v in row_of(1).ran.items() if isinstance(v, str)}
        for name, value in words.items():
            assert trials(library, **{name: (value,)}).total == sum(row_of(n).ran[name] == value for n in range(1, 9))
        found = library.index.search(Query(ranges=(Range("haze", None, row_of(1).seen["haze"].value),)), 100)
        assert "films.1" in {f.record.name for f in found.found}


def test_a_correction_is_a_version(tmp_path: Path) -> None:
    catalog = FileCatalog(tmp_path)
    asyncio.run(ingest(catalog, row_of(1)))
    with Library(tmp_path) as library:
        assert trials(library).total == 1
        asyncio.run(ingest(catalog, row_of(1, cost=9.0, revision=7)))
        assert trials(library).total == 1
        assert [f.version for f in library.index.versions("films.1")] == [1, 2]


def test_a_torn_row_is_not_found_and_the_next_ones_are(tmp_path: Path) -> None:
    catalog = FileCatalog(tmp_path)
    asyncio.run(ingest(catalog, row_of(1)))
    rows = tmp_path / "rows" / "films.jsonl"
    whole = rows.read_bytes()
    rows.write_bytes(whole + b'{"digest":"sha256:12')
    with Library(tmp_path) as library:
        assert trials(library).total == 1
        asyncio.run(ingest(FileCatalog(tmp_path), row_of(2)))
        assert trials(library).total == 2


class Halting:
    """An index that takes so many batches, and then none."""

    def __init__(self, index: Index, batches: int) -> None:
        self.index, self.left, self.taken = index, batches, list[int]()

    def mark(self, name: str) -> int:
        return self.index.mark(name)

    def add(self, records: list[Record], marks: dict[str, int]) -> None:
        if not self.left:
            raise core.Unavailable("killed")
        self.left -= 1
        self.taken.append(len(records))
        self.index.add(records, marks)


def test_trials_are_brought_once_and_what_broke_off_goes_on(tmp_path: Path) -> None:
    asyncio.run(ingest(FileCatalog(tmp_path), *(row_of(n) for n in range(1, 2501))))
    shelves = Shelves(tmp_path / "rows")
    with closing(Index(tmp_path / "index.db")) as index:
        halting: Any = Halting(index, 1)
        with pytest.raises(core.Unavailable):
            shelves.catch_up(halting)
        going: Any = Halting(index, 9)
        shelves.catch_up(going)
        shelves.catch_up(going)
        assert (halting.taken, going.taken) == ([1000], [1000, 500])
        assert index.search(Query(where={"kind": ("trial",)})).total == 2500


def test_an_index_is_made_anew_with_all_that_was_said(tmp_path: Path) -> None:
    asyncio.run(ingest(FileCatalog(tmp_path), row_of(1)))
    with Library(tmp_path) as library:
        record = added(library)
        made = added(library, "derived", used=(record.id,))
        assert [f.record.id for f in library.retract(record.id, "wrong scale", "ada")] == [made.id]
        assert trials(library).total == 1
    for file in tmp_path.glob("index.db*"):
        file.unlink()
    with Library(tmp_path) as library:
        found = library.index.get(record.id)
        assert (found.record, found.retracted, found.by) == (record, "wrong scale", "ada")
        assert [f.record.id for f in library.index.downstream(record.id)] == [made.id]
        assert trials(library).total == 1


def test_what_is_computed_is_synthetic_for_ever(tmp_path: Path) -> None:
    def published(rows: list[Row], place: str) -> Record:
        catalog = FileCatalog(tmp_path / place, computing=("cluster",))
        asyncio.run(ingest(catalog, *rows))
        id, _, _ = asyncio.run(catalog.publish(CAMPAIGN))
        with Library(tmp_path / place) as library:
            return library.index.get(id).record

    measured = published([by(row_of(1), "hall"), by(row_of(2), "hall", "cluster")], "measured")
    assert not measured.synthetic
    assert (measured.facilities, measured.instruments) == (("cluster", "hall"), ("sampler",))
    computed = published([by(row_of(1), "hall"), by(row_of(2), "cluster")], "computed")
    assert computed.synthetic
    with Library(tmp_path / "computed") as library:
        derived = added(library, "derived", used=(computed.id,))
        assert derived.synthetic
        assert added(library, "further", used=(derived.id,)).synthetic
        assert not added(library, "other").synthetic
        assert library.index.search(Query(where={"synthetic": ("yes",), "kind": ("dataset",)})).total == 3


def test_a_dataset_has_the_assets_of_its_trials(tmp_path: Path) -> None:
    lent = Store(tmp_path / "assets")
    digest = lent.put_bytes(b"a spectrum")
    asset = core.Asset(uri="../../etc/weird name.csv", digest=digest, media_type="text/csv", size=10)
    gone = core.Asset(uri="gone.csv", digest="sha256:" + "0" * 64)
    row = replace(row_of(1), assets=(asset, gone))
    catalog = FileCatalog(tmp_path / "kept", library=lambda: Library(tmp_path / "kept", lent=[lent]))
    asyncio.run(ingest(catalog, row))
    id, _, _ = asyncio.run(catalog.publish(CAMPAIGN))
    with Library(tmp_path / "kept", lent=[lent]) as library:
        record = library.index.get(id).record
        first, table = record.files
        assert first == File(f"assets/{digest[7:23]}-weird_name.csv", digest, 10, "text/csv")
        assert table.path == "trials.parquet"
        assert library.file(first).read_bytes() == b"a spectrum"


WRITER = """
import sys
from pathlib import Path
from firstlight.catalog.index import Record
from firstlight.catalog.library import Library
with Library(sys.argv[1]) as library:
    for n in range(100_000):
        library.add(Record(id="", name=f"d{n}", digest=""), {"a.bin": b"%d" % n * 100_000, "b.bin": b"b"})
        print(n, flush=True)
"""


def test_kill_9_leaves_whole_datasets(tmp_path: Path) -> None:
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            said = [process.stdout.readline() for _ in range(15)]
            os.kill(process.pid, signal.SIGKILL)
            said += process.stdout.readlines()
        acknowledged = len([line for line in said if line.endswith("\n")])
        with Library(tmp_path) as library:
            page = library.index.search(Query(), 1000)
            assert page.total >= acknowledged
            for found in page.found:
                library.verify(found.record)


def test_many_are_added_together_as_one_by_one(tmp_path: Path) -> None:
    datasets = [
        (
            Record(id="", name=f"d{n % 40}", digest="", used=(("d0@x",) if n else ())),
            {"a.txt": b"%d" % (n % 60), "b": b"b"},
        )
        for n in range(80)
    ]
    with Library(tmp_path / "one") as one, Library(tmp_path / "all") as all_:
        alone = [one.add(record, files).record for record, files in datasets]
        found = all_.add_all(datasets, lambda record: {"of": record.id})
        assert [f.record for f in found] == alone
        assert all_.index.count() == one.index.count() == 80
        assert all_.provenance(found[3].record.id) == {"of": found[3].record.id}
        for f in found:
            all_.verify(f.record)
        with pytest.raises(ValueError, match="leads out"):
            all_.add_all([(Record(id="", name="e", digest=""), {"a": b"1"}),
                          (Record(id="", name="f", digest=""), {"../a": b"1"})])  # fmt: skip
        assert all_.index.search(Query(text="e "), 5).total == 0


def test_two_sites_share_an_index_and_each_has_its_own_rows(tmp_path: Path) -> None:
    """In a real PostgreSQL: what one adds the other finds, and trials of both are there."""
    with postgres_server() as said:
        server = conninfo_to_dict(said)
        address = f"postgresql://{server['user']}@/postgres?host={quote(str(server['host']), safe='')}"
        store = Store(tmp_path / "shared")
        for site in ("here", "there"):
            campaign = campaign_of(some_spec(site))
            catalog = FileCatalog(tmp_path / site)
            asyncio.run(catalog.ingest(campaign, row_of(1, site)))
        with Library(tmp_path / "here", store, address) as one, Library(tmp_path / "there", store, address) as two:
            record = added(one)
            assert two.index.get(record.id).record == record
            assert two.file(record.files[0]).read_bytes() == b"x\ninks\n"
            assert [f.record.id for f in two.retract(record.id, "wrong scale", "ben")] == []
            assert one.index.get("inks").retracted == "wrong scale"
            assert {f.record.name for f in trials(one).found} | {f.record.name for f in trials(two).found} == {
                "here.1", "there.1",
            }  # fmt: skip
            assert trials(one).total == 2
