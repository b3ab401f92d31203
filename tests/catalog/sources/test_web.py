"""Files at addresses: whole, safe, and going on where it broke off."""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import pytest

from firstlight.catalog.index import Query, Record
from firstlight.catalog.sources import Unreachable
from firstlight.catalog.sources._download import safe_name
from firstlight.catalog.sources.web import Web

from .conftest import Houses
from .houses import CONTENT, ETAG

T = TypeVar("T")
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


def run(source: Web, what: Callable[[Web], Awaitable[T]]) -> T:
    async def whole() -> T:
        try:
            return await asyncio.wait_for(what(source), 20)
        finally:
            await source.close()

    return asyncio.run(whole())


def fetched(url: str, to: Path, **options: str | int) -> Record:
    return run(Web("w", url, **options), lambda s: s.fetch(f"w/{url}", to))  # type: ignore[arg-type]


def test_a_file_comes_whole_with_its_digest_and_its_progress(houses: Houses, tmp_path: Path) -> None:
    told = list[tuple[int, int]]()
    url = f"{houses.url}/file?key=whole"
    record = run(Web("w", url), lambda s: s.fetch(f"w/{url}", tmp_path, lambda d, n: told.append((d, n))))
    (file,) = record.files
    assert (file.path, file.digest, file.size, file.media_type) == ("file", DIGEST, len(CONTENT), "text/csv")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT)) and told == sorted(told)
    assert (record.provider, record.address, record.digest) == ("w", url, DIGEST)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".fetched.json", "file"]


def test_what_broke_off_goes_on_where_it_stood(houses: Houses, tmp_path: Path) -> None:
    url = f"{houses.url}/file?key=cut&cut=1000000"
    assert fetched(url, tmp_path).digest == DIGEST
    first, second = (asked["headers"] for asked in houses.asked("cut"))
    assert "range" not in first
    at = int(second["range"].removeprefix("bytes=").rstrip("-"))
    assert 0 < at <= 1_000_000 and second["if-range"] == ETAG


def test_a_part_that_was_not_asked_for_is_not_mixed_in(houses: Houses, tmp_path: Path) -> None:
    fetched(f"{houses.url}/file?key=lie&lie&cut=1000000", tmp_path)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_without_parts_gives_all_again(houses: Houses, tmp_path: Path) -> None:
    url = f"{houses.url}/file?key=plain&plain&cut=1000000"
    assert fetched(url, tmp_path).digest == DIGEST
    assert all("range" not in asked["headers"] for asked in houses.asked("plain"))


def test_a_file_that_has_changed_meanwhile_is_not_mixed(houses: Houses, tmp_path: Path) -> None:
    fetched(f"{houses.url}/file?key=new&new&cut=1000000", tmp_path)
    assert (tmp_path / "file").read_bytes() == CONTENT[::-1]


def test_a_server_that_always_breaks_off_is_given_up_and_what_came_stays(houses: Houses, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="goes on where it stands"):
        fetched(f"{houses.url}/file?key=never&plain&cut=0&times=99", tmp_path)
    url = f"{houses.url}/file?key=stays&cut=1000000"
    with pytest.raises(Unreachable, match="most"):
        fetched(url, tmp_path, most=1_500_000)


def test_a_fetch_that_is_killed_goes_on(houses: Houses, tmp_path: Path) -> None:
    url = f"{houses.url}/file?key=kill&cut=2000000&times=1"
    code = f"""
import asyncio, os, signal
from pathlib import Path
from firstlight.catalog.sources.web import Web
def die(done, total):
    if done > 900_000: os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(Web("w", {url!r}).fetch("w/" + {url!r}, Path({str(tmp_path)!r}), die))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=20).returncode == -signal.SIGKILL
    assert fetched(url, tmp_path).digest == DIGEST
    assert int(houses.asked("kill")[1]["headers"]["range"].removeprefix("bytes=").rstrip("-")) > 900_000


def test_a_fetched_file_is_not_brought_twice_while_it_is_the_newest(houses: Houses, tmp_path: Path) -> None:
    url = f"{houses.url}/file?key=twice"
    one = fetched(url, tmp_path)
    assert fetched(url, tmp_path).files == one.files
    assert "if-none-match" in houses.asked("twice")[1]["headers"]
    (tmp_path / "file").write_bytes(b"damaged")
    assert fetched(url, tmp_path).files == one.files
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_another_digest_than_was_promised_is_refused(houses: Houses, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="and not sha256:0000"):
        fetched(f"{houses.url}/file?key=digest", tmp_path, digest="sha256:" + "0" * 64)
    assert not (tmp_path / "file").exists()
    assert fetched(f"{houses.url}/file?key=digest", tmp_path, digest=DIGEST).digest == DIGEST


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("attachment; filename=table.csv", "table.csv"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ("attachment; filename=..%5C..%5Cevil.bat", "..%5C..%5Cevil.bat".replace("%", "_").strip(".")),
        ('attachment; filename=".bashrc"', "bashrc"),
        ("attachment; filename*=UTF-8''%C3%A9t%C3%A9.csv", "été.csv"),
        ('attachment; filename="a\x07b|c.csv"', "a_b_c.csv"),
    ],
)
def test_names_that_servers_give_are_made_safe(houses: Houses, tmp_path: Path, said: str, name: str) -> None:
    assert safe_name("") == "data" and safe_name("..") == "data" and safe_name("x\0/\0y") == "y"
    assert len(safe_name("é" * 400 + ".parquet").encode()) <= 150 and safe_name("é" * 400 + ".csv").endswith(".csv")
    url = f"{houses.url}/file?key=named&named={quote(said)}"
    if "\x07" in said:
        assert safe_name("a\x07b|c.csv") == name
    else:
        assert fetched(url, tmp_path).files[0].path == name


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/x", "data:,x", "http://", "http://u:p@h/x"])
def test_only_http_is_fetched(url: str, houses: Houses, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="http"):
        Web("w", url)
    with pytest.raises(LookupError):
        run(Web("w", f"{houses.url}/listing.json"), lambda s: s.fetch(f"w/{url}", tmp_path))
    with pytest.raises(Unreachable, match=r"neither|no address|leads on|not known"):
        fetched(f"{houses.url}/away?key=bad&to={url}", tmp_path)


def test_a_listing_is_searched_and_its_files_fetched(houses: Houses, tmp_path: Path) -> None:
    url = f"{houses.url}/listing.json"
    answer = run(Web("w", url), lambda s: s.search(Query(text="scan"), 1))
    assert (answer.total, answer.cursor, [r.card.title for r in answer.records]) == (2, "1", ["Alpha scan"])
    assert answer.records[0].card.licence == "CC0-1.0" and answer.records[0].card.citation == "10.5555/alpha"
    second = run(Web("w", url), lambda s: s.search(Query(text="scan"), 5, answer.cursor))
    assert [(r.card.title, r.card.licence, r.size) for r in second.records] == [("Beta scan", "", 7)]
    record = run(Web("w", url), lambda s: s.fetch(second.records[0].id, tmp_path))
    assert (tmp_path / record.files[0].path).read_text() == "x,y\n1,b.csv\n"
    with pytest.raises(LookupError, match="does not list"):
        run(Web("w", url), lambda s: s.fetch(f"w/{houses.url}/small/z.csv", tmp_path))


def test_a_page_of_links_and_one_file_are_listings_too(houses: Houses) -> None:
    answer = run(Web("w", f"{houses.url}/page"), lambda s: s.search(Query(), 9))
    assert [r.card.title for r in answer.records] == ["a.csv", "b.csv"]
    one = run(Web("w", f"{houses.url}/data/big.csv"), lambda s: s.search(Query(), 9))
    assert [(r.card.title, r.size) for r in one.records] == [("big.csv", len(CONTENT))]
    with pytest.raises(Unreachable, match="nothing at"):
        run(Web("w", f"{houses.url}/nowhere"), lambda s: s.search(Query(), 9))


def test_a_directory_that_cannot_be_used_is_said(houses: Houses, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(Unreachable, match="choose another directory"):
        fetched(f"{houses.url}/file?key=dir", tmp_path / "taken")
    (tmp_path / ".fetched.json").write_text("{junk")
    assert fetched(f"{houses.url}/file?key=dir", tmp_path).digest == DIGEST
    assert os.path.getsize(tmp_path / "file") == len(CONTENT) and time.time() > 0
