"""A version travels to a site without network, whole, or not at all, and only from those who are trusted there."""

import json
import os
import signal
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from firstlight.catalog.index import Query
from firstlight.catalog.library import Library
from firstlight.factory import CatalogShelf
from firstlight.models import registry as r
from firstlight.models._bundle_sign import encoded, signed
from firstlight.models._bundle_zip import Writer, central, end, local
from firstlight.models._family import Item
from firstlight.models._spec import TrainSpec
from firstlight.models.bundle import (
    MODEL,
    Bundle,
    Untrusted,
    bring,
    bring_revocations,
    export,
    export_revocations,
    look,
    make_key,
)


class Site:
    """A catalog with its models and its key."""

    def __init__(self, root: Path) -> None:
        self.root, self.library = root, Library(root / "catalog")
        self.registry = r.Registry(self.library.store, CatalogShelf(self.library), root / "releases", lambda: 1.5)
        self.key = root / "key"
        self.public = make_key(self.key).rename(root / f"{root.name}.pub")

    def train(self, value: int, parent: str = "", licence: str = "", of_data: str = "CC-BY-4.0") -> r.Version:
        folder = self.root / f"release-{value}"
        folder.mkdir()
        header = json.dumps({"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
        weights = len(header).to_bytes(8, "little") + header + value.to_bytes(4, "big")
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "config.json").write_text('{"family": "table"}')
        (folder / "card.md").write_text("# Hardness\n")
        item = Item(dataset="films@0123456789ab", path="a.csv", digest="sha256:0", size=1, licence=of_data)
        report = r.Report(
            name="hardness", family="table", metric="rmse", scores={"rmse": 1.0}, parent=parent, data=(item,),
            curve=r.Curve(steps=1, best_step=1, first=1.0, best=1.0, last=1.0), baselines={"mean": {"rmse": 2.0}},
            compute=r.Compute(device="cpu", seconds=1.0, device_hours=0.1), parameters=r.Parameters(changed=4),
            parent_scores={"rmse": 1.5} if parent else {},
        )  # fmt: skip
        r.write_report(folder, report)
        spec = TrainSpec(name="hardness", family="table", data=("films",), title="Hardness of films", licence=licence)
        return self.registry.register(folder, spec, "ann")

    def empty(self) -> bool:
        return self.registry.names() == [] and not self.library.index.search(Query()).found


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    site = Site(_made(tmp_path / "here"))
    with site.library:
        yield site


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Site]:
    site = Site(_made(tmp_path / "there"))
    with site.library:
        yield site


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hardness.bundle.zip"


def test_a_version_travels_whole_and_once(here: Site, there: Site, path: Path) -> None:
    version = here.registry.promote(here.train(7), "ann")
    bundle = export(here.registry, version, path, here.key)
    brought = bring(there.registry, path, [here.public], "zoe")
    assert (brought.id, brought.by, brought.made.origin) == ("hardness:1", "zoe", "here")
    assert brought.made.record == version.made.record
    assert (brought.made.scores, brought.made.verdict) == (version.made.scores, version.made.verdict)
    folders = there.registry.load_checked(brought), here.registry.load_checked(version)
    for name in version.made.files:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    assert there.registry.production("hardness") is None, "whether it is used is decided here"
    assert [type(entry.fact) for entry in bundle.history] == [r.Registered, r.Promoted]
    assert look(path, [here.public]) == (bundle, "here")
    record = there.library.index.get(brought.made.record).record
    assert (record.card.title, record.card.licence, record.provider) == ("Hardness of films", "CC-BY-4.0", "here")
    before = there.registry.history("hardness")
    assert bring(there.registry, path, [there.public, here.public], "yan") == brought
    assert there.registry.history("hardness") == before


def test_it_goes_on_from_site_to_site(here: Site, there: Site, path: Path, tmp_path: Path) -> None:
    export(here.registry, here.train(7), path, here.key)
    brought = bring(there.registry, path, [here.public], "zoe")
    export(there.registry, brought, path, there.key)
    third = Site(_made(tmp_path / "third"))
    with third.library:
        with pytest.raises(Untrusted):
            bring(third.registry, path, [here.public], "bob")
        assert bring(third.registry, path, [there.public], "bob").made.origin == "there"


def test_the_same_version_is_the_same_bytes_and_any_tool_opens_them(here: Site, path: Path) -> None:
    version = here.train(7)
    export(here.registry, version, path, here.key)
    once = path.read_bytes()
    export(here.registry, version, path, here.key)
    assert path.read_bytes() == once
    assert list(path.parent.glob(".*")) == []
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = [f"release/{name}" for name in sorted(version.made.files)]
        assert archive.namelist() == ["bundle.json", "signature.json", *names]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("release/card.md") == b"# Hardness\n"


def test_entries_beyond_4_gb_are_what_others_write(tmp_path: Path) -> None:
    # Only the headers: what stands between them is a hole in the file.
    size, name = (4 << 30) + 5, "release/model.safetensors"
    file = tmp_path / "large.zip"
    heads = [local(name, 0, size), local("b", 0, 0)]
    directory = central(name, 0, size, 0) + central("b", 0, 0, len(heads[0]) + size)
    with open(file, "wb") as to:
        to.write(heads[0])
        to.seek(len(heads[0]) + size)
        to.write(heads[1] + directory + end(2, len(directory), len(heads[0]) + size + len(heads[1])))
    with zipfile.ZipFile(file) as archive:
        assert [(i.filename, i.file_size) for i in archive.infolist()] == [(name, size), ("b", 0)]
        assert archive.read("b") == b""
        with archive.open(name) as entry:
            assert entry.read(10) == bytes(10)


def test_a_changed_byte_anywhere_is_refused(here: Site, there: Site, path: Path) -> None:
    export(here.registry, here.train(7), path, here.key)
    good = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        starts = [info.header_offset for info in archive.infolist()]
    places = {*range(0, len(good), 61), *range(len(good) - 22, len(good), 2)}
    places |= {start + n for start in starts for n in range(0, 40, 3)}
    for place in sorted(places):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises((Untrusted, r.Damaged)):
            bring(there.registry, path, [here.public], "zoe")
    for other in (b"", good[:100], good[:-1], good + b"x", b"x" + good, b"PK\3\4" * 100):
        path.write_bytes(other)
        with pytest.raises((Untrusted, r.Damaged)):
            bring(there.registry, path, [here.public], "zoe")
    assert there.empty()
    path.write_bytes(good)
    bring(there.registry, path, [here.public], "zoe")


def test_only_who_is_trusted_is_believed(here: Site, there: Site, path: Path) -> None:
    export(here.registry, here.train(7), path, here.key)
    for trusted in ([], [there.public]):
        with pytest.raises(Untrusted, match="none of those that are trusted here"):
            bring(there.registry, path, trusted, "zoe")
        with pytest.raises(Untrusted):
            look(path, trusted)
    with zipfile.ZipFile(path) as archive:
        manifest, signature = archive.read("bundle.json"), archive.read("signature.json")
    forged = json.loads(signature)
    forged["signatures"][0]["sig"] = json.loads(signed(MODEL, manifest, there.key))["signatures"][0]["sig"]
    for wrong in (b"", b"{}", b"[]", msgspec.json.encode(forged), b" " + signature, signed("x", manifest, here.key)):
        _write(path, manifest, wrong)
        with pytest.raises(Untrusted):
            bring(there.registry, path, [here.public], "zoe")
    with open(path, "wb") as to:
        Writer(to).document("bundle.json", manifest)
    with pytest.raises(r.Damaged, match=r"signature\.json"):
        bring(there.registry, path, [here.public], "zoe")
    assert there.empty()


def test_a_file_that_was_exchanged_in_a_zip_that_is_whole_is_refused(here: Site, there: Site, path: Path) -> None:
    bundle = export(here.registry, here.train(7), path, here.key)
    with zipfile.ZipFile(path) as archive:
        manifest, signature = archive.read("bundle.json"), archive.read("signature.json")
        files = {name: archive.read(f"release/{name}") for name in sorted(bundle.files)}
    for name, content in files.items():
        _write(path, manifest, signature, files | {name: content[:-1] + bytes([content[-1] ^ 1])})
        with pytest.raises(r.Damaged, match=f"{name} is not what its signed manifest promises"):
            bring(there.registry, path, [here.public], "zoe")
    assert there.empty()


def test_what_is_signed_is_the_kind_and_the_document_with_their_lengths() -> None:
    assert encoded("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert encoded("a", b" 1 b") != encoded("a 4", b"b")


def _write(path: Path, manifest: bytes, signature: bytes, files: dict[str, bytes] | None = None) -> None:
    with open(path, "wb") as to:
        writer = Writer(to)
        writer.document("bundle.json", manifest)
        writer.document("signature.json", signature)
        for name, content in (files or {}).items():
            writer.document(f"release/{name}", content)
        writer.close()


Change = Callable[[Bundle], Bundle]


def _files(bundle: Bundle, **names: str) -> Bundle:
    """The bundle with files of other names."""
    files = {names.get(name.split(".")[0], name): file for name, file in bundle.files.items()}
    made = replace(bundle.made, files={name: file.digest for name, file in files.items()})
    return replace(bundle, files=files, made=made)


def _sized(bundle: Bundle, size: int) -> Bundle:
    return replace(bundle, files=bundle.files | {"card.md": replace(bundle.files["card.md"], size=size)})


REFUSED: dict[str, tuple[Change, str]] = {
    "out": (lambda b: _files(b, card="../../card.md"), "cannot be the path"),
    "absolute": (lambda b: _files(b, card="/tmp/card.md"), "cannot be the path"),
    "backslash": (lambda b: _files(b, card="..\\card.md"), "cannot be the path"),
    "pickle": (lambda b: _files(b, card="card.pkl"), "no business"),
    "no weights": (lambda b: _files(b, model="other.safetensors"), "not those that were registered"),
    "other digests": (lambda b: replace(b, made=replace(b.made, files={})), "not those that were registered"),
    "too large": (lambda b: _sized(b, 1 << 50), "more than it has itself"),
    "negative": (lambda b: _sized(b, -1), "cannot have -1 bytes"),
    "family": (lambda b: replace(b, made=replace(b.made, family="tabel")), "no package here offers"),
    "another family": (lambda b: replace(b, made=replace(b.made, family="sequence")), "config.json says table"),
    "name": (lambda b: replace(b, told=replace(b.told, name="../x")), "cannot be called"),
    "history": (lambda b: replace(b, made=replace(b.made, version=2)), "history"),
    "scores": (lambda b: replace(b, made=replace(b.made, scores={"rmse": 0.1})), "says other things"),
    "licence": (lambda b: replace(b, licences={"x": "CC-BY-NC-4.0"}), "commercial"),
    "no licence": (lambda b: replace(b, told=replace(b.told, licence="")), "not what follows"),
    "format": (lambda b: replace(b, format=2), "format 2"),
}


def test_what_is_signed_must_still_be_a_release(here: Site, there: Site, path: Path) -> None:
    bundle = export(here.registry, here.train(7), path, here.key)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(f"release/{name}") for name in bundle.files}
    assert there.empty()
    for case, (change, said) in REFUSED.items():
        told = change(bundle)
        manifest = msgspec.json.encode(told, order="deterministic")
        content = dict(zip(told.files, files.values(), strict=True))
        _write(path, manifest, signed(MODEL, manifest, here.key), dict(sorted(content.items())))
        before = set(path.parent.rglob("*"))
        with pytest.raises(ValueError, match=said):
            bring(there.registry, path, [here.public], "zoe", there.root)
        assert set(path.parent.rglob("*")) == before, f"{case} has left something"
    assert there.empty()
    manifest = msgspec.json.encode(bundle, order="deterministic")
    _write(path, manifest, signed(MODEL, manifest, here.key), dict(sorted(files.items())))
    bring(there.registry, path, [here.public], "zoe", there.root)


def test_a_manifest_of_another_kind_is_refused(here: Site, there: Site, path: Path) -> None:
    for content, said in ((b"[]", "cannot be read"), (b'{"format": 1, "x": 2}', "cannot be read"), (b"\xff", "read")):
        _write(path, content, signed(MODEL, content, here.key))
        with pytest.raises(ValueError, match=said):
            bring(there.registry, path, [here.public], "zoe")


def test_what_is_revoked_does_not_travel(here: Site, there: Site, path: Path) -> None:
    first = here.train(7)
    second = here.train(8, parent=first.id)
    here.registry.revoke(first, "poisoned", "bob")
    with pytest.raises(r.Revoked, match="poisoned"):
        export(here.registry, first, path, here.key)
    with pytest.raises(r.Refused, match="made from hardness:1, which is revoked"):
        export(here.registry, second, path, here.key)
    assert not path.exists()


def test_what_is_revoked_there_does_not_come_in(here: Site, there: Site, path: Path) -> None:
    first = here.train(7)
    export(here.registry, here.train(8, parent=first.id), path, here.key)
    there.registry.shun(
        r.Shunned(record=first.made.record, weights="sha256:x", reason="leak", by="eve", at=1.0), "zoe"
    )  # fmt: skip
    with pytest.raises(r.Refused, match="which eve has revoked: leak"):
        bring(there.registry, path, [here.public], "zoe")
    export(here.registry, first, path, here.key)
    with pytest.raises(r.Refused, match="eve"):
        bring(there.registry, path, [here.public], "zoe")
    assert there.registry.names() == []


def test_revocations_travel_too(here: Site, there: Site, path: Path, tmp_path: Path) -> None:
    version, list_ = here.train(7), tmp_path / "revocations.zip"
    export(here.registry, version, path, here.key)
    brought = bring(there.registry, path, [here.public], "zoe")
    assert export_revocations(here.registry, list_, here.key) == ()
    assert bring_revocations(there.registry, list_, [here.public], "zoe") == []
    here.registry.revoke(version, "poisoned", "bob")
    assert [one.reason for one in export_revocations(here.registry, list_, here.key)] == ["poisoned"]
    with pytest.raises(Untrusted):
        bring_revocations(there.registry, list_, [there.public], "zoe")
    there.registry.load_checked(brought)
    assert [v.id for v in bring_revocations(there.registry, list_, [here.public], "zoe")] == ["hardness:1"]
    with pytest.raises(r.Revoked, match="revoked by bob"):
        there.registry.load_checked(brought)
    assert bring_revocations(there.registry, list_, [here.public], "zoe") == []
    # Neither is taken for the other, nor is its signature good for the other.
    with pytest.raises(Untrusted, match="of another kind"):
        bring_revocations(there.registry, path, [here.public], "zoe")
    with pytest.raises(Untrusted, match="of another kind"):
        bring(there.registry, list_, [here.public], "zoe")
    good = list_.read_bytes()
    for place in range(0, len(good), 11):
        list_.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        with pytest.raises((Untrusted, r.Damaged)):
            bring_revocations(there.registry, list_, [here.public], "zoe")


def test_what_is_revoked_long_before_and_elsewhere_stops_a_child_whose_parents_never_came(
    here: Site, there: Site, path: Path, tmp_path: Path
) -> None:
    first, list_ = here.train(7), tmp_path / "revocations.zip"
    second = here.train(8, parent=first.id)
    export(here.registry, here.train(9, parent=second.id), path, here.key)
    third = bring(there.registry, path, [here.public], "zoe")
    assert there.registry.lineage(third).parents == (second.made.record, first.made.record)
    assert there.registry.verdict(third).passed
    here.registry.revoke(first, "poisoned", "bob")
    export_revocations(here.registry, list_, here.key)
    assert bring_revocations(there.registry, list_, [here.public], "zoe") == []
    said = f"it was made from {first.made.record}, which is revoked: poisoned"
    with pytest.raises(r.Refused, match=said):
        there.registry.promote(third, "zoe")
    with pytest.raises(r.Refused, match=said):
        export(there.registry, third, path, there.key)
    there.registry.promote(third, "zoe", "nothing of that is left in it", force=True)
    assert there.registry.production("hardness") is not None


def test_the_licence_is_carried_along(here: Site, there: Site, path: Path, tmp_path: Path) -> None:
    first = here.train(7, licence="Apache-2.0")
    export(here.registry, first, path, here.key)
    assert bring(there.registry, path, [here.public], "zoe").made.licence == "Apache-2.0"
    second = here.train(8, parent=first.id, of_data="CC-BY-NC-4.0")
    export(here.registry, second, path, here.key)
    brought = bring(there.registry, path, [here.public], "zoe")
    assert brought.made.licence == "other: CC-BY-NC-4.0; Apache-2.0"
    with pytest.raises(ValueError, match="commercial"):
        here.train(9, licence="MIT", of_data="CC-BY-NC-4.0")


def test_a_key_is_for_its_owner_and_is_not_overwritten(tmp_path: Path, here: Site) -> None:
    key = tmp_path / "mine"
    public = make_key(key)
    assert public.name == "mine.pub"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    for missing in (None, key):
        if missing:
            missing.rename(tmp_path / "away")
        with pytest.raises(FileExistsError, match="not overwritten"):
            make_key(key)
    assert (tmp_path / "away").read_bytes() == before
    version, path = here.train(7), tmp_path / "b.zip"
    os.chmod(here.key, 0o640)
    with pytest.raises(PermissionError, match="chmod 600"):
        export(here.registry, version, path, here.key)
    os.chmod(here.key, 0o600)
    other = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    for wrong in (b"", public.read_bytes(), other.private_bytes(*pem)):
        here.key.write_bytes(wrong)
        with pytest.raises(ValueError, match="key to sign with"):
            export(here.registry, version, path, here.key)
    assert not path.exists()
    shown = other.public_key().public_bytes(pem[0], serialization.PublicFormat.SubjectPublicKeyInfo)
    for wrong in (b"", before, shown):
        public.write_bytes(wrong)
        path.write_bytes(b"")
        _write(path, b"{}", b"{}")
        with pytest.raises(ValueError, match=r"mine\.pub is no public"):
            look(path, [public])


KILLED = """
import os, signal, sys
from pathlib import Path
from firstlight.catalog.library import Library
from firstlight.factory import CatalogShelf
from firstlight.models.bundle import bring
from firstlight.models.registry import Registry

root, path, public, place = map(Path, sys.argv[1:])

class Dies(CatalogShelf):
    def keep(self, told, files):
        if place.name == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        super().keep(told, files)
        os.kill(os.getpid(), signal.SIGKILL)

with Library(root / "catalog") as library:
    bring(Registry(library.store, Dies(library), root / "releases"), path, [public], "zoe")
"""


@pytest.mark.parametrize("place", ["before", "after"])
def test_killed_in_the_middle_nothing_is_there_and_the_next_attempt_succeeds(
    place: str, here: Site, there: Site, path: Path
) -> None:
    version = here.train(7)
    export(here.registry, version, path, here.key)
    command = [sys.executable, "-c", KILLED, str(there.root), str(path), str(here.public), place]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert there.registry.names() == []
    brought = bring(there.registry, path, [here.public], "zoe")
    assert (brought.id, brought.made.record) == ("hardness:1", version.made.record)
    there.registry.load_checked(brought)


def test_what_was_changed_in_the_catalog_is_not_exported(here: Site, path: Path) -> None:
    version = here.train(7)
    kept = here.library.store.path(version.made.files["card.md"])
    assert kept is not None
    kept.write_bytes(b"# Softness\n")
    with pytest.raises(r.Damaged, match=r"card\.md"):
        export(here.registry, version, path, here.key)
    assert list(path.parent.glob("*.zip*")) == []
