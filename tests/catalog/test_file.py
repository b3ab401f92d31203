"""Rows survive whatever happens to the process, and datasets are what they say."""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from arro3.io import read_parquet

from firstlight import core
from firstlight.catalog import FileCatalog
from firstlight.catalog.library import Library
from firstlight.testing.catalog import campaign_of, row_of, some_spec

CAMPAIGN = campaign_of(some_spec())


def ingest(root: Path, *numbers: int) -> list[str]:
    async def body() -> list[str]:
        catalog = FileCatalog(root)
        return [await catalog.ingest(CAMPAIGN, row_of(n)) for n in numbers]

    return asyncio.run(body())


def publish(root: Path) -> tuple[str, str, int]:
    return asyncio.run(FileCatalog(root).publish(CAMPAIGN))


def dataset(root: Path, id: str) -> Path:
    """The file of a published dataset."""
    with Library(root) as library:
        (path,) = library.tables(library.index.get(id).record)
    return path


def described(parquet: Path) -> dict[str, Any]:
    """What a dataset's file says of itself."""
    ((_, about),) = read_parquet(parquet).schema.metadata_str.items()
    found: dict[str, Any] = msgspec.json.decode(about)
    return found


def rows_file(root: Path) -> Path:
    return root / "rows" / "films.jsonl"


@pytest.mark.parametrize("tail", [b'{"digest":"sha256:12', b"\x00" * 300, b'{"digest":"x","row":{}}\n', b"\n"])
def test_a_torn_tail_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    ingest(tmp_path, 1, 2)
    whole = rows_file(tmp_path).read_bytes()
    rows_file(tmp_path).write_bytes(whole + tail)
    assert publish(tmp_path)[2] == 2
    assert rows_file(tmp_path).read_bytes() == whole
    ingest(tmp_path, 2, 3)
    assert publish(tmp_path)[2] == 3


def test_a_row_torn_in_the_middle_is_ingested_again(tmp_path: Path) -> None:
    first = ingest(tmp_path, 1, 2)
    content = rows_file(tmp_path).read_bytes()
    rows_file(tmp_path).write_bytes(content[:-20])
    assert ingest(tmp_path, 1, 2) == first
    assert rows_file(tmp_path).read_bytes() == content


def test_damage_before_the_tail_is_not_hidden(tmp_path: Path) -> None:
    ingest(tmp_path, 1, 2, 3)
    content = rows_file(tmp_path).read_bytes()
    rows_file(tmp_path).write_bytes(content.replace(b'"cycles":3', b'"cycles":4'))
    with pytest.raises(ValueError, match=r"line 2 of .* is damaged"):
        publish(tmp_path)
    with pytest.raises(ValueError, match=r"line 2 of .* is damaged"):
        ingest(tmp_path, 4)


WRITER = """
import asyncio, sys
from firstlight.catalog import FileCatalog
from firstlight.testing.catalog import campaign_of, row_of, some_spec

async def main():
    catalog, campaign = FileCatalog(sys.argv[1]), campaign_of(some_spec())
    for number in range(1, 100_000):
        await catalog.ingest(campaign, row_of(number))
        print(number, flush=True)

asyncio.run(main())
"""


def test_no_ingested_row_is_lost_to_kill_9(tmp_path: Path) -> None:
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            said = [process.stdout.readline() for _ in range(40)]
            os.kill(process.pid, signal.SIGKILL)
            said += process.stdout.readlines()
        acknowledged = len([line for line in said if line.endswith("\n")])
        assert acknowledged <= publish(tmp_path)[2]
        kept = {msgspec.json.decode(line)["row"]["trial"] for line in rows_file(tmp_path).read_bytes().splitlines()}
        assert {f"films.{n}" for n in range(1, acknowledged + 1)} <= kept


def test_two_catalogs_on_one_file_see_each_other_s_rows(tmp_path: Path) -> None:
    async def body() -> None:
        one, two = FileCatalog(tmp_path), FileCatalog(tmp_path)
        await one.ingest(CAMPAIGN, row_of(1))
        await two.ingest(CAMPAIGN, row_of(2))
        with pytest.raises(ValueError, match=r"films\.2"):
            await one.ingest(CAMPAIGN, row_of(2, cost=99.0))
        assert (await one.publish(CAMPAIGN))[2] == 2

    asyncio.run(body())


@pytest.mark.parametrize("id", ["../../outside", "/tmp/outside", "..", "a/b"])
def test_no_campaign_id_leads_out_of_the_catalog(tmp_path: Path, id: str) -> None:
    campaign = campaign_of(some_spec(id))
    asyncio.run(FileCatalog(tmp_path / "catalog").ingest(campaign, row_of(1, id)))
    (kept,) = tmp_path.rglob("*.jsonl")
    assert kept.parent == tmp_path / "catalog" / "rows"


def test_a_disk_that_refuses_makes_it_unavailable(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("a file where the directory should be")

    async def body() -> None:
        catalog = FileCatalog(tmp_path)
        with pytest.raises(core.Unavailable, match="cannot be used"):
            await catalog.ingest(CAMPAIGN, row_of(1))
        (tmp_path / "rows").unlink()
        assert await catalog.ingest(CAMPAIGN, row_of(1))

    asyncio.run(body())


def test_a_row_nobody_waits_for_any_more_stops_no_other(tmp_path: Path) -> None:
    async def body() -> None:
        catalog = FileCatalog(tmp_path)
        gone = [asyncio.create_task(catalog.ingest(CAMPAIGN, row_of(n))) for n in range(1, 20)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        assert await catalog.ingest(CAMPAIGN, row_of(50))

    asyncio.run(body())


def test_a_dataset_is_found_by_its_id_and_is_what_its_digest_says(tmp_path: Path) -> None:
    ingest(tmp_path, 1, 2, 3)
    id, digest, rows = publish(tmp_path)
    path = dataset(tmp_path, id)
    assert digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    about = described(path)
    assert (about["rows"], rows, id) == (3, 3, f"films@{digest[7:19]}")
    assert msgspec.convert(about["spec"], core.CampaignSpec) == CAMPAIGN.spec
    for unknown in ("films@000000000000", "other@" + id.partition("@")[2], "films@", "inks", "films@../x"):
        with pytest.raises(LookupError, match="there is no record"):
            dataset(tmp_path, unknown)


def test_versions_are_part_of_the_dataset(tmp_path: Path) -> None:
    ingest(tmp_path, 1)
    catalog = FileCatalog(tmp_path, versions={"phreeqc": "1.1.1"})
    id, _, _ = asyncio.run(catalog.publish(CAMPAIGN))
    assert id != publish(tmp_path)[0]
    about = described(dataset(tmp_path, id))
    assert about["versions"] == {"phreeqc": "1.1.1"}


def test_other_processes_make_the_same_bytes(tmp_path: Path) -> None:
    ingest(tmp_path, *range(1, 10))
    code = (
        "import asyncio, sys; from firstlight.catalog import FileCatalog;"
        "from firstlight.testing.catalog import campaign_of, some_spec;"
        "print(asyncio.run(FileCatalog(sys.argv[1]).publish(campaign_of(some_spec())))[1])"
    )
    digests = {publish(tmp_path)[1]}
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
        digests.add(done.stdout.strip())
    assert len(digests) == 1


def test_20_000_rows(tmp_path: Path) -> None:
    """The cost of a row does not grow with the rows before it, and publishing takes seconds."""

    async def body() -> None:
        catalog = FileCatalog(tmp_path)
        taken = []
        for start in range(1, 20_000, 2_000):
            rows = [row_of(n) for n in range(start, start + 2_000)]
            began = time.process_time()
            await asyncio.gather(*(catalog.ingest(CAMPAIGN, r) for r in rows))
            taken.append(time.process_time() - began)
        # The middle of three: a collection of everybody's garbage falls into one of them.
        assert sorted(taken[-3:])[1] < 4 * sorted(taken[:3])[1]
        began = time.process_time()
        assert (await catalog.publish(CAMPAIGN))[2] == 20_000
        assert time.process_time() - began < 5

    asyncio.run(body())
