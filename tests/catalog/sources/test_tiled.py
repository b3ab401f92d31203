"""A real Tiled server, filled by its own client: searched, read, and published to."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest
from arro3.core import Array, DataType, Field, Schema, Table
from arro3.io import read_parquet, write_parquet

from firstlight.catalog.index import Card, File, Query, Range, Record, Variable
from firstlight.catalog.sources import Unreachable, _tiled_publish
from firstlight.catalog.sources.tiled import Tiled

from .servers import free_port, program, running

T = TypeVar("T")
KEYS = {"temperature": "sample.temperature", "element": "elements", "created": "created"}
WARM = Range(variable="temperature", low=22.0, high=24.0, unit="degC")
FILLING = str(Path(__file__).with_name("tiled_filling.py"))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home, port = tmp_path_factory.mktemp("tiled"), free_port()
    command = [
        program("tiled"), "serve", "catalog", str(home / "catalog.db"), "-w", str(home / "data"), "--init",
        "--api-key", "secret", "--port", str(port),
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    # It waits for the server, as both are slow to start.
    with subprocess.Popen([program("python"), FILLING, url, "fill"]) as filling:
        try:
            with running(command, home / "log", port):
                assert filling.wait(timeout=60) == 0
                yield url
        finally:
            filling.kill()


def client(url: str, *words: str) -> str:
    """What Tiled's own client says."""
    said = subprocess.run([program("python"), FILLING, url, *words], capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stderr[-2000:]
    return said.stdout


def run(url: str, what: Callable[[Tiled], Awaitable[T]], **options: Any) -> T:
    async def asked() -> T:
        source = Tiled("tl", url, **{"api_key": "secret", "keys": KEYS, "units": {"temperature": "degC"}, **options})
        try:
            return await asyncio.wait_for(what(source), 30)
        finally:
            await source.close()

    return asyncio.run(asked())


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        (Query(text="SCAN 7"), {"scan 7"}),
        (Query(text="image"), {"detector image"}),
        (Query(text="a-b OR (c"), set()),
        (Query(where={"element": ("Ti",)}), {f"scan {n}" for n in range(0, 12, 2)}),
        (Query(ranges=(WARM,)), {"scan 2", "scan 3", "scan 4"}),
        (Query(text="scan", since=1.7e9 + 10), {"scan 10", "scan 11"}),
    ],
)  # fmt: skip
def test_what_is_asked_is_found(url: str, query: Query, titles: set[str]) -> None:
    answer = run(url, lambda s: s.search(query, 50))
    assert {r.card.title for r in answer.records} == titles
    assert answer.total == len(titles) and answer.left == Query()


def test_what_it_cannot_search_by_is_left(url: str) -> None:
    kelvin = Range(variable="temperature", low=295.0, unit="K")
    query = Query(where={"element": ("Ti", "Fe"), "licence": ("x",)}, ranges=(kelvin, Range(variable="z")))
    answer = run(url, lambda s: s.search(query, 1))
    assert answer.left == query
    assert run(url, lambda s: s.search(Query(since=1.0), 1), keys={}).left == Query(since=1.0)


def test_pages_lead_to_all_of_it(url: str) -> None:
    async def all_of_it(source: Tiled) -> list[str]:
        found, cursor = list[str](), ""
        while True:
            answer = await source.search(Query(text="scan"), 5, cursor)
            found += (r.id for r in answer.records)
            if not (cursor := answer.cursor):
                return found

    assert sorted(run(url, all_of_it)) == sorted(f"tl/t{n}" for n in range(12))


def test_a_record_says_what_its_metadata_say(url: str) -> None:
    (record,) = run(url, lambda s: s.search(Query(text="scan 7"), 5)).records
    assert (record.id, record.created, record.elements) == ("tl/t7", 1.7e9 + 7, ("Fe", "O"))
    card = record.card
    assert (card.licence, card.creators, card.keywords) == ("CC-BY-4.0", ("Ann", "Bo"), ("operando",))
    assert record.address == f"{url}/api/v1/metadata/t7"
    units = {v.name: (v.low, v.unit) for v in record.variables}
    assert units == {"temperature": (27.0, "degC"), "x": (None, ""), "n": (None, "")}
    box = run(url, lambda s: s.search(Query(text="detector"), 5), under="box")
    assert [(r.id, r.size, r.card.licence) for r in box.records] == [("tl/box/image", 240_000, "")]


def test_tables_are_fetched_as_parquet(url: str, tmp_path: Path) -> None:
    record = run(url, lambda s: s.fetch("tl/t3", tmp_path))
    table = read_parquet(tmp_path / "data.parquet").read_all()
    assert table["x"].to_pylist() == [3.0, 1.5] and table["n"].to_pylist() == [3, 2]
    assert {f.path for f in record.files} == {"data.parquet", "metadata.json"}
    assert json.loads((tmp_path / "metadata.json").read_text())["sample"] == {"temperature": 23.0}
    for file in record.files:
        content = (tmp_path / file.path).read_bytes()
        assert (file.digest, file.size) == (f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))


def test_containers_are_fetched_whole_and_arrays_block_by_block(url: str, tmp_path: Path) -> None:
    told = list[int]()
    record = run(url, lambda s: s.fetch("tl/box", tmp_path, lambda done, total: told.append(done)))
    image = np.load(tmp_path / "image" / "data.npy")
    assert np.array_equal(image, np.arange(60_000, dtype="<f4").reshape(300, 200)) and image.dtype == np.dtype("<f4")
    assert 40_000 in told and 240_000 in told, "blocks of 100 by 100 numbers"
    assert np.load(tmp_path / "names" / "data.npy").tolist() == ["a", "béta"]
    assert read_parquet(tmp_path / "inner" / "table" / "data.parquet").read_all()["y"].to_pylist() == [1, 2, 3]
    assert "inner/table/data.parquet" in {f.path for f in record.files}


def test_an_array_that_was_killed_halfway_goes_on(url: str, tmp_path: Path) -> None:
    code = f"""
import asyncio, os, signal
from pathlib import Path
from firstlight.catalog.sources.tiled import Tiled
def die(done, total):
    if done >= 80_000: os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(Tiled("tl", {url!r}, api_key="secret").fetch("tl/box/image", Path({str(tmp_path)!r}), die))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == -signal.SIGKILL
    assert (tmp_path / ".data.npy.blocks").read_text().split("\n")[1:] == ["0,0", "0,1", ""]
    part = np.lib.format.open_memmap(tmp_path / ".data.npy.part", "r+")
    part[0, 0] = 77.0  # What is here already is not asked for again: this mark stays.
    part.flush()
    run(url, lambda s: s.fetch("tl/box/image", tmp_path))
    image = np.load(tmp_path / "data.npy")
    assert image[0, 0] == 77.0 and np.array_equal(image.ravel()[1:], np.arange(1, 60_000, dtype="<f4"))
    assert not (tmp_path / ".data.npy.blocks").exists()


def dataset(to: Path, rows: int = 3, mark: str = "") -> tuple[Record, dict[str, Path]]:
    """A dataset in a file, with a column whose name Tiled does not allow."""
    to.mkdir(exist_ok=True)
    columns = {
        "x": Array([n / 2 for n in range(rows)], DataType.float64()),
        "_gx_gap": Array([None if n == 1 else n * 0.1 for n in range(rows)], DataType.float64()),
        "n": Array(list(range(rows)), DataType.int64()),
        "phase": Array([f"β{mark}" for _ in range(rows)], DataType.string()),
    }  # fmt: skip
    schema = Schema([Field(name, column.type, metadata={"unit": "eV"}) for name, column in columns.items()])
    write_parquet(Table.from_arrays(list(columns.values()), schema=schema), to / "table.parquet")
    content = (to / "table.parquet").read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    record = Record(
        id=f"alloys@{digest[7:19]}", name="alloys", digest=digest, rows=rows, created=1.75e9, elements=("Al", "Cu"),
        files=(File(path="table.parquet", digest=digest, size=len(content)),), used=("ores@000000000000",),
        card=Card(title="Alloys of one campaign", licence="CC0-1.0", creators=("Ann",)), campaign="c1",
        variables=(Variable(name="x", role="parameter", unit="mm", low=0.0, high=1.0),), synthetic=True,
    )  # fmt: skip
    return record, {"table.parquet": to / "table.parquet"}


def test_a_dataset_is_published_once_and_read_back_equal(url: str, tmp_path: Path) -> None:
    record, files = dataset(tmp_path)
    address = run(url, lambda s: s.publish(record, files, "alloys"))
    assert address == f"{url}/api/v1/metadata/alloys"
    assert run(url, lambda s: s.publish(record, files, "alloys")) == address
    assert run(url, lambda s: s.publish(record, files, "another-key")) == address
    answer = run(url, lambda s: s.search(Query(text="campaign"), 9))
    assert answer.total == 1
    (found,) = answer.records
    own = {"id": "tl/alloys", "name": "tl/alloys", "provider": "tl", "address": address, "retrieved": found.retrieved}
    assert found == msgspec.structs.replace(record, **own)
    run(url, lambda s: s.fetch("tl/alloys", tmp_path / "back"))
    back, sent = (read_parquet(p).read_all() for p in (tmp_path / "back" / "data.parquet", files["table.parquet"]))
    assert back.column_names == ["x", "_gx_gap", "n", "phase"]
    assert [back[n].to_pylist() for n in range(4)] == [sent[n].to_pylist() for n in range(4)]
    assert json.loads((tmp_path / "back" / "metadata.json").read_text())["renamed"] == {"gx_gap": "_gx_gap"}
    assert json.loads(client(url, "read", "alloys"))["phase"] == ["β"] * 3, "others read it with their own client"


def test_a_key_of_another_dataset_is_refused(url: str, tmp_path: Path) -> None:
    record, files = dataset(tmp_path, mark="other")
    with pytest.raises(ValueError, match="another dataset at t1"):
        run(url, lambda s: s.publish(record, files, "t1"))
    with pytest.raises(ValueError, match="cannot be a key"):
        run(url, lambda s: s.publish(record, files, "../x"))


def test_what_was_left_halfway_is_completed(url: str, tmp_path: Path) -> None:
    record, files = dataset(tmp_path, mark="half")
    record = msgspec.structs.replace(record, card=Card(title="Left halfway"))
    code = f"""
import asyncio, os, signal, sys
from pathlib import Path
import msgspec
from firstlight.catalog.index import Record
from firstlight.catalog.sources import _tiled_publish
from firstlight.catalog.sources.tiled import Tiled
async def die(*args): os.kill(os.getpid(), signal.SIGKILL)
_tiled_publish._filled = die
record = msgspec.json.decode(sys.stdin.buffer.read(), type=Record)
files = {{"table.parquet": Path({str(files["table.parquet"])!r})}}
asyncio.run(Tiled("tl", {url!r}, api_key="secret").publish(record, files, "half"))
"""
    killed = subprocess.run([sys.executable, "-c", code], input=msgspec.json.encode(record), timeout=30)
    assert killed.returncode == -signal.SIGKILL
    assert run(url, lambda s: s.search(Query(text="left halfway"), 9)).records == ()
    with pytest.raises(Unreachable, match="publish it again"):
        run(url, lambda s: s.fetch("tl/half", tmp_path / "early"))
    assert run(url, lambda s: s.publish(record, files, "half")) == f"{url}/api/v1/metadata/half"
    assert [r.id for r in run(url, lambda s: s.search(Query(text="left halfway"), 9)).records] == ["tl/half"]
    run(url, lambda s: s.fetch("tl/half", tmp_path / "back"))
    assert read_parquet(tmp_path / "back" / "data.parquet").read_all()["phase"].to_pylist() == ["βhalf"] * 3
    assert json.loads((tmp_path / "back" / "metadata.json").read_text())["complete"] is True


def test_many_rows_go_in_parts_and_several_tables_in_a_container(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tiled_publish, "_ROWS", 40)
    record, files = dataset(tmp_path / "long", rows=100)
    run(url, lambda s: s.publish(record, files, "long"))
    fetched = run(url, lambda s: s.fetch("tl/long", tmp_path / "back"))
    parts = [read_parquet(tmp_path / "back" / f"data-0000{n}.parquet").read_all()["n"].to_pylist() for n in range(3)]
    assert [n for part in parts for n in part] == list(range(100)) and len(fetched.files) == 4
    _, more = dataset(tmp_path / "more", mark="more")
    both = {"a.parquet": files["table.parquet"], "b/c.parquet": more["table.parquet"], "notes.txt": tmp_path}
    run(url, lambda s: s.publish(msgspec.structs.replace(record, digest="sha256:2", files=()), both, "several"))
    fetched = run(url, lambda s: s.fetch("tl/several", tmp_path / "several"))
    assert {"a/data-00000.parquet", "b-c/data.parquet"} <= {f.path for f in fetched.files}
    assert run(url, lambda s: s.search(Query(text="campaign long"), 9)).total == 0


@pytest.mark.parametrize("content", [b"", b"junk", b"PAR1" + b"\0" * 40 + b"PAR1"])
def test_what_is_no_table_is_not_published(url: str, tmp_path: Path, content: bytes) -> None:
    record, files = dataset(tmp_path)
    with pytest.raises(ValueError, match="no Parquet file"):
        run(url, lambda s: s.publish(record, {"notes.txt": tmp_path / "notes.txt"}, "k"))
    files["table.parquet"].write_bytes(content)
    with pytest.raises(ValueError, match="as the record says"):
        run(url, lambda s: s.publish(record, files, "k"))
    with pytest.raises(ValueError, match="Parquet"):
        run(url, lambda s: s.publish(msgspec.structs.replace(record, files=()), files, "k"))
    os.remove(files["table.parquet"])
    with pytest.raises(ValueError, match="cannot be read"):
        run(url, lambda s: s.publish(record, files, "k"))


def test_who_may_not_is_told_so(url: str, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"401.*option token"):
        run(url, lambda s: s.search(Query(), 1), api_key="wrong")
    with pytest.raises(LookupError):
        run(url, lambda s: s.fetch("tl/nope", tmp_path))
