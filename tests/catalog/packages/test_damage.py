"""A package is believed only as far as its bytes bear it out; what is wrong is named, and leaves nothing behind."""

import json
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from firstlight.catalog.packages import Damaged, Package, read, write

from .test_rocrate import foreign

Change = Callable[[Path], object]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def altered(crate: Path, *pairs: tuple[str, str]) -> None:
    """Metadata that say something else."""
    for file in crate.glob("*.json"):
        if file.name in ("ro-crate-metadata.json", "croissant.json"):
            text = file.read_text()
            for old, new in pairs:
                assert old in text
                text = text.replace(old, new)
            file.write_text(text)


def linked(path: Path, to: str) -> None:
    path.unlink()
    path.symlink_to(to)


def linked_directory(crate: Path) -> None:
    shutil.move(crate / "data" / "tables", crate.parent / "elsewhere")
    (crate / "data" / "tables").symlink_to(crate.parent / "elsewhere")


HARM: dict[str, tuple[Change, str]] = {
    "a flipped byte": (lambda c: flip(c / "data/tables/peaks.csv"), r"peaks.csv is damaged: sha256:\w+ was expected"),
    "a missing file": (lambda c: (c / "data/raw/empty").unlink(), "raw/empty is damaged: .* nothing was found"),
    "a file that is too long": (lambda c: (c / "data/raw/empty").write_text("x"), "0 bytes was expected, and 1 bytes"),
    "a file that is too short": (lambda c: (c / "data/tables/peaks.csv").write_text("x"), "bytes was expected"),
    "a flipped byte of the record": (lambda c: flip(c / "firstlight-record.json"), "firstlight-record.json is damaged"),
    "a flipped byte of the provenance": (lambda c: flip(c / "provenance.json"), "provenance.json is damaged"),
    "a link": (lambda c: linked(c / "data/tables/peaks.csv", "/etc/passwd"), "a link or something else"),
    "a link to a directory": (linked_directory, "leads through a link"),
    "a path that leads out": (lambda c: altered(c, ("data/raw/empty", "data/../../secret")), "is no place for a file"),
    "an absolute path": (lambda c: altered(c, ("data/raw/empty", "/etc/passwd")), "is no place for a file"),
    "a file of the record that is not described": (
        lambda c: altered(c, ("data/raw/empty", "https://x.example/empty")), "raw/empty .* nothing in the metadata",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", ["rocrate", "croissant"])
@pytest.mark.parametrize(
    ("what", "zipped"),
    [(what, zipped) for what in HARM for zipped in (False, True) if "link" not in what or not zipped],
)
def test_harm_is_found(spectra: Package, tmp_path: Path, form: str, what: str, zipped: bool) -> None:
    harm, said = HARM[what]
    crate = write(spectra, "rocrate" if form == "rocrate" else "croissant", tmp_path / "crate")
    harm(crate)
    given = Path(shutil.make_archive(str(tmp_path / "crate"), "zip", crate)) if zipped else crate
    with pytest.raises(ValueError, match=said):
        read(given, tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists() or list((tmp_path / "scratch").iterdir()) == []


def test_a_record_that_was_changed_with_its_digest_is_found_by_its_own(spectra: Package, tmp_path: Path) -> None:
    crate = write(spectra, "rocrate", tmp_path / "crate")
    (old,) = (f.digest[7:] for f in spectra.record.files if f.path == "raw/empty")
    (crate / "data" / "raw" / "empty").write_text("x")
    new = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    altered(crate, (old, new), ('"contentSize": "0"', '"contentSize": "1"'))
    with pytest.raises(Damaged, match="data/raw/empty") as caught:
        read(crate, tmp_path)
    assert caught.value.expected == f"sha256:{old} (0 bytes)" and caught.value.found == f"sha256:{new} (1 bytes)"


NO_PACKAGE: dict[str, tuple[str, str]] = {
    "no JSON": ("{", "is no JSON"), "a list": ("[]", "is no JSON-LD"), "no graph": ('{"@graph": 1}', "is no RO-Crate"),
    "no descriptor": ('{"@graph": [{"@id": "./"}]}', "no '@graph' with a descriptor"),
    "no root": ('{"@graph": [{"@id": "ro-crate-metadata.json", "about": {"@id": "./"}}]}', "describes no root"),
    "no words": ("\ufffe\x00", "is no JSON"), "a deep nest": ("[" * 100_000, "is no JSON"),
    "nothing": ("", "is no JSON"),
    "odd nodes": ('{"@graph": [1, null, {"@id": 5}, "x"]}', "is no RO-Crate"),
}  # fmt: skip


@pytest.mark.parametrize("what", NO_PACKAGE)
def test_json_that_is_no_crate_is_refused(tmp_path: Path, what: str) -> None:
    content, said = NO_PACKAGE[what]
    (tmp_path / "ro-crate-metadata.json").write_text(content)
    with pytest.raises(ValueError, match=said):
        read(tmp_path, tmp_path)


def test_json_that_is_no_croissant_is_refused(tmp_path: Path) -> None:
    (tmp_path / "croissant.json").write_text('{"name": "x"}')
    with pytest.raises(ValueError, match="is no Croissant dataset"):
        read(tmp_path, tmp_path)


def test_metadata_behind_a_link_are_not_read(tmp_path: Path) -> None:
    real = foreign(tmp_path / "real")
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "ro-crate-metadata.json").symlink_to(real / "ro-crate-metadata.json")
    with pytest.raises(ValueError, match="is a link or no file"):
        read(tmp_path / "fake", tmp_path)


def test_a_link_in_a_crate_of_others_is_not_followed(tmp_path: Path) -> None:
    crate = foreign(tmp_path / "theirs")
    (crate / "notes").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="notes is a link"):
        read(crate, tmp_path)


def test_a_size_that_others_said_is_checked(tmp_path: Path) -> None:
    crate = foreign(tmp_path / "theirs")
    (crate / "sub" / "a b.csv").write_text("x\n100\n")
    with pytest.raises(Damaged, match=r"sub/a b\.csv is damaged: 4 bytes was expected, and 6 bytes was found"):
        read(crate, tmp_path)


def test_what_is_no_package_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match="is no package: it has neither"):
        read(tmp_path / "empty", tmp_path)
    with pytest.raises(ValueError, match=r"neither a directory nor a \.zip"):
        read(tmp_path / "a.txt", tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no"):
        read(tmp_path / "nowhere", tmp_path)


# ---------------------------------------------------------------------- archives


def entry(name: str, mode: int = 0o100644) -> zipfile.ZipInfo:
    found = zipfile.ZipInfo(name)
    found.external_attr, found.compress_type = mode << 16, zipfile.ZIP_DEFLATED
    return found


def bomb(archive: zipfile.ZipFile) -> None:
    with archive.open(entry("zeros"), "w", force_zip64=True) as out:
        for _ in range(80):
            out.write(bytes(2**20))


def twice(archive: zipfile.ZipFile) -> None:
    archive.writestr("a", "1")
    archive.writestr("a/b", "2")


ARCHIVES: dict[str, tuple[Callable[[zipfile.ZipFile], object], str]] = {
    "a path that leads out": (lambda z: z.writestr(entry("../evil"), "x"), "is no place for a file"),
    "a path that leads out of a directory": (lambda z: z.writestr(entry("a/../../evil"), "x"), "is no place"),
    "an absolute path": (lambda z: z.writestr(entry("/evil"), "x"), "is no place for a file"),
    "a path of another system": (lambda z: z.writestr(entry("..\\evil"), "x"), "is no place for a file"),
    "a link": (lambda z: z.writestr(entry("evil", stat.S_IFLNK | 0o777), "/etc/passwd"), "has a link"),
    "a pipe": (lambda z: z.writestr(entry("evil", stat.S_IFIFO | 0o777), ""), "has a link or a special file"),
    "a bomb": (bomb, "would become 83,886,080 bytes"),
    "a file that is a directory": (twice, "has two things in one place"),
    "no metadata": (lambda z: z.writestr("a", "x"), r"x\.zip is no package"),
    "nothing": (lambda z: None, r"x\.zip is no package"),
}  # fmt: skip


@pytest.mark.parametrize("what", ARCHIVES)
def test_archives_that_mean_harm_are_not_unpacked(tmp_path: Path, what: str) -> None:
    make, said = ARCHIVES[what]
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        make(archive)
    with pytest.raises(ValueError, match=said):
        read(tmp_path / "x.zip", tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == [] and not (tmp_path / "evil").exists()


def torn(content: bytes) -> bytes:
    at = content.index(b"peaks.csv") + 40
    return content[:at] + bytes(8) + content[at + 8 :]


def overstated(content: bytes) -> bytes:
    """An archive whose directory says that a file is smaller than what comes out."""
    at = content.rindex(b"data/tables/peaks.csv") - 46 + 24
    return content[:at] + (3).to_bytes(4, "little") + content[at + 4 :]


def locked(content: bytes) -> bytes:
    at = content.index(b"PK\x01\x02") + 8
    return content[:at] + b"\x01" + content[at + 1 :]


@pytest.mark.parametrize(
    ("harm", "said"),
    [(torn, "damaged"), (overstated, "damaged"), (locked, "is encrypted"), (lambda c: c[: len(c) // 2], "neither")],
)  # fmt: skip
def test_torn_archives_are_told(spectra: Package, tmp_path: Path, harm: Callable[[bytes], bytes], said: str) -> None:
    crate = write(spectra, "rocrate", tmp_path / "crate")
    archive = Path(shutil.make_archive(str(tmp_path / "crate"), "zip", crate))
    archive.write_bytes(harm(archive.read_bytes()))
    with pytest.raises(ValueError, match=said):
        read(archive, tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists() or list((tmp_path / "scratch").iterdir()) == []


def test_a_record_of_a_later_version_is_told(spectra: Package, tmp_path: Path) -> None:
    crate = write(spectra, "rocrate", tmp_path / "crate")
    record = crate / "firstlight-record.json"
    said = json.loads(record.read_text()) | {"mood": "good"}
    record.write_text(json.dumps(said))
    metadata = json.loads((crate / "ro-crate-metadata.json").read_text())
    for node in metadata["@graph"]:
        if node["@id"] == record.name:
            del node["sha256"], node["contentSize"]
    (crate / "ro-crate-metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match=r"is no record that this version can read: .*mood"):
        read(crate, tmp_path)
