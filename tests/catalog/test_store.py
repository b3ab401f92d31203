"""Bytes are what their digest says, wherever they are kept: a directory, and a real S3 server in its own process."""

import hashlib
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from firstlight.catalog.store import Damaged, Store, digest_of
from firstlight.core import Unavailable


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "directory":
        return Store(tmp_path / "kept")
    endpoint = request.getfixturevalue("s3")
    return at(endpoint, secrets.token_hex(8))


def at(endpoint: str, prefix: str) -> Store:
    options = {"endpoint": endpoint, "region": "us-east-1", "access_key_id": "me", "secret_access_key": "hidden"}
    return Store(f"s3://bucket/{prefix}", options)


def some(tmp_path: Path, content: bytes = b"spectrum" * 1000) -> Path:
    file = tmp_path / "measured.bin"
    file.write_bytes(content)
    return file


def test_a_file_comes_back_as_it_was(store: Store, tmp_path: Path) -> None:
    file = some(tmp_path, os.urandom(11_000_000))
    passed = list[int]()
    digest, size = store.put(file, passed.append)
    assert digest == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    assert (size, sum(passed)) == (11_000_000, 11_000_000)
    assert store.holds(digest)
    assert store.check(digest) == size
    store.fetch(digest, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
    with closing(store.open(digest)) as opened:
        assert opened.read(8) == file.read_bytes()[:8]


def test_the_same_bytes_are_kept_once(store: Store, tmp_path: Path) -> None:
    digest, _ = store.put(some(tmp_path))
    assert store.put_bytes(some(tmp_path).read_bytes()) == digest
    assert len(store.names("sha256")) == 1


def test_documents_are_found_by_name(store: Store) -> None:
    store.write("records/films@1.json", b"one")
    store.write("records/films@1.json", b"two")
    store.write("records/inks@1.json", b"three")
    assert store.names("records") == ["records/films@1.json", "records/inks@1.json"]
    assert store.read("records/films@1.json") == b"two"
    assert store.names("nothing") == []
    with pytest.raises(FileNotFoundError):
        store.read("records/none.json")
    for name in ("../outside", "/etc/passwd", "a//b", "", ".hidden", "a/../../b"):
        with pytest.raises(ValueError, match="name of a document"):
            store.write(name, b"")


def test_a_document_is_created_once(store: Store) -> None:
    assert store.create("models/inks/1.json", b"first")
    assert not store.create("models/inks/1.json", b"second")
    assert store.read("models/inks/1.json") == b"first"
    assert store.names("models") == ["models/inks/1.json"]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: store.create("models/inks/2.json", b"%d" % n), range(8)))
    assert sum(made) == 1
    assert store.read("models/inks/2.json") == b"%d" % made.index(True)


def test_what_is_not_there_is_said(store: Store, tmp_path: Path) -> None:
    digest = f"sha256:{hashlib.sha256(b'').hexdigest()}"
    assert not store.holds(digest)
    with pytest.raises(FileNotFoundError):
        store.open(digest)
    with pytest.raises(FileNotFoundError):
        store.fetch(digest, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    for wrong in ("md5:12", "sha256:../../etc/passwd", "sha256:" + "A" * 64, ""):
        with pytest.raises(ValueError, match="digest"):
            store.holds(wrong)


def test_damage_is_found_and_nothing_is_left_of_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "kept")
    digest, _ = store.put(some(tmp_path))
    path = store.path(digest)
    assert path is not None
    path.write_bytes(b"x" + path.read_bytes()[1:])
    with pytest.raises(Damaged, match=digest):
        store.check(digest)
    with pytest.raises(Damaged, match=digest):
        store.fetch(digest, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert list(tmp_path.glob(".back*")) == []


def test_a_file_that_changes_while_it_is_taken_in_is_refused(store: Store, tmp_path: Path) -> None:
    file = some(tmp_path, os.urandom(12_000_000))
    before, _ = digest_of(file)

    def change(_: int) -> None:
        with open(file, "r+b") as other:
            other.seek(11_999_999)
            other.write(b"!" if file.read_bytes()[-1:] != b"!" else b"?")

    with pytest.raises(Damaged, match="changed"):
        store.put(file, change)
    assert not store.holds(before)
    assert store.names("sha256") == []


def test_no_document_is_kept_before_the_bytes(store: Store, tmp_path: Path) -> None:
    file = some(tmp_path)
    digest, _ = digest_of(file)
    file.write_bytes(b"other bytes by now")
    with pytest.raises(Damaged):
        store.put_all({digest: file}, {"records/films@1.json": b"{}"})
    assert store.names("records") == []
    assert not store.holds(digest)


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    file = some(tmp_path, bytes(3_000_000))
    code = (
        "import resource, signal, sys; from pathlib import Path; from firstlight.catalog.store import Store;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000));"
        "Store(sys.argv[1]).put(Path(sys.argv[2]))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "kept", file], capture_output=True, text=True)
    assert "File too large" in done.stderr
    assert [p for p in (tmp_path / "kept").rglob("*") if p.is_file()] == []


def test_memory_does_not_grow_with_a_file(tmp_path: Path) -> None:
    file = tmp_path / "large.bin"
    with open(file, "wb") as out:
        out.truncate(500_000_000)
    code = (
        "import resource, sys; from pathlib import Path; from firstlight.catalog.store import Store;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; Store(sys.argv[1]).put(Path(sys.argv[2]));"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "kept", file], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 30_000 * (1 if resource.getpagesize() <= 4096 else 4)


def test_kill_9_leaves_all_or_nothing(tmp_path: Path) -> None:
    file = some(tmp_path, os.urandom(30_000_000))
    digest, _ = digest_of(file)
    code = (
        "import sys; from pathlib import Path; from firstlight.catalog.store import Store;"
        "Store(sys.argv[1]).put(Path(sys.argv[2]), lambda n: print(n, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "kept", file], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout
        for _ in range(10):
            writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
    store = Store(tmp_path / "kept")
    assert not store.holds(digest)
    assert store.put(file) == (digest, 30_000_000)
    assert store.check(digest) == 30_000_000


def test_a_store_that_is_gone_is_unavailable_and_tells_no_secret(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        gone = at(f"http://127.0.0.1:{nobody.getsockname()[1]}", "x")
        with pytest.raises(Unavailable, match="s3://bucket/x cannot be used") as said:
            gone.put(some(tmp_path))
    assert "hidden" not in str(said.value)
    with pytest.raises(Unavailable, match="use a directory, or s3"):
        Store("ftp://somewhere/else")
