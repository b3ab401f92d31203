"""What is written comes back, to the bit; and it appears whole or not at all."""

import os
import shutil
from collections import UserDict
from collections.abc import ItemsView, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstlight.catalog.index import Card, Record, Variable, digest_of_files
from firstlight.catalog.packages import Damaged, Form, Package, read, write

from .conftest import file_of

Directory = Literal["rocrate", "croissant"]
LETTERS = st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=("Cc", "Cs"))
PARTS = st.text(LETTERS, min_size=1, max_size=12).filter(lambda part: part not in (".", ".."))
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join).filter(lambda path: path[1:2] != ":")
WORDS = st.text(st.characters(codec="utf-8"), max_size=30)
CARDS = st.just(Card()) | st.builds(
    Card, title=WORDS, description=WORDS, creators=st.lists(WORDS, max_size=3).map(tuple), contact=WORDS,
    publisher=WORDS, keywords=st.lists(WORDS, max_size=3).map(tuple), citation=WORDS, licence=WORDS, agreement=WORDS,
)  # fmt: skip
NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
VARIABLES = st.builds(Variable, WORDS, unit=WORDS, low=NUMBERS, high=NUMBERS, description=WORDS, called=WORDS)


def apart(paths: dict[str, bytes]) -> bool:
    """No file is where another has a directory, on this file system."""
    return not any(one != other and other.startswith(f"{one}/") for one in paths for other in paths) and all(
        len(part.encode()) < 200 for path in paths for part in path.split("/")
    )


@settings(max_examples=40, deadline=None)
@given(
    contents=st.dictionaries(PATHS, st.binary(max_size=40), max_size=6).filter(apart), card=CARDS, name=WORDS,
    variables=st.lists(VARIABLES, max_size=3), form=st.sampled_from(["rocrate", "croissant"]), zipped=st.booleans(),
    created=st.floats(0, 4e9),
)  # fmt: skip
def test_what_is_written_comes_back(
    contents: dict[str, bytes], card: Card, name: str, variables: list[Variable], form: Directory, zipped: bool,
    created: float,
) -> None:  # fmt: skip
    with TemporaryDirectory() as scratch:
        place, sources = Path(scratch), dict[str, Path]()
        for number, (path, content) in enumerate(contents.items()):
            sources[path] = place / f"source{number}"
            sources[path].write_bytes(content)
        files = tuple(file_of(path, source) for path, source in sources.items())
        record = Record(
            id=f"{name}@1", name=name, digest=digest_of_files(files), card=card, files=files, created=created,
            variables=tuple(variables),
        )  # fmt: skip
        made = write(Package(record, sources), form, place / "made")
        given_ = Path(shutil.make_archive(str(place / "made"), "zip", made)) if zipped else made
        package = read(given_, place / "scratch")
        assert package.record == record
        assert {path: file.read_bytes() for path, file in package.files.items()} == contents


@pytest.mark.parametrize("form", ["rocrate", "croissant"])
def test_many_files_in_many_places(tmp_path: Path, form: Directory) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 10)
    sources = {f"a{n % 7}/b{n % 11}/{n}.dat": source for n in range(500)}
    files = tuple(file_of(path, source) for path in sources)
    record = Record(id="x@1", name="x", digest=digest_of_files(files), files=files)
    assert read(write(Package(record, sources), form, tmp_path / "made"), tmp_path).record == record


def test_a_record_without_a_list_of_files_keeps_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    record = Record(id="x@1", name="x", digest="sha256:1")
    package = read(write(Package(record, {"a": tmp_path / "a"}), "rocrate", tmp_path / "made"), tmp_path)
    assert package.record == record and package.files == {"a": tmp_path / "made" / "data" / "a"}


def test_an_archive_with_one_directory_is_read(spectra: Package, tmp_path: Path) -> None:
    write(spectra, "rocrate", tmp_path / "top" / "inner")
    archive = shutil.make_archive(str(tmp_path / "made"), "zip", tmp_path / "top")
    package = read(Path(archive), tmp_path / "scratch")
    assert package.record == spectra.record and package.provenance is not None
    (unpacked,) = (tmp_path / "scratch").iterdir()
    assert all(path.is_relative_to(unpacked) for path in package.files.values())


def test_a_crate_that_was_unpacked_elsewhere_is_the_same(spectra: Package, tmp_path: Path) -> None:
    crate = write(spectra, "rocrate", tmp_path / "one")
    shutil.copytree(crate, tmp_path / "two")
    assert read(tmp_path / "two", tmp_path).record == spectra.record


# ---------------------------------------------------------------------- whole or not at all

FORMS: tuple[Form, ...] = ("rocrate", "croissant", "dcat-us", "datacite", "prov", "csv")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("there", ["file", "directory", "link"])
def test_what_is_there_stays(spectra: Package, tmp_path: Path, form: Form, there: str) -> None:
    to = tmp_path / "to"
    if there == "link":
        to.symlink_to(tmp_path / "nowhere")
    elif there == "directory":
        to.mkdir()
    else:
        to.touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileExistsError, match="is there already"):
        write(spectra, form, to)
    assert sorted(tmp_path.rglob("*")) == before


class Meanwhile(UserDict[str, Path]):
    """Files that are looked at while somebody else makes the same package."""

    def __init__(self, files: Mapping[str, Path], to: Path) -> None:
        super().__init__(files)
        self.to = to

    def items(self) -> ItemsView[str, Path]:
        self.to.write_text("theirs")
        return super().items()


@pytest.mark.parametrize("form", ["rocrate", "croissant", "csv"])
def test_what_came_to_be_meanwhile_stays(spectra: Package, tmp_path: Path, form: Form) -> None:
    to = tmp_path / "out" / "to"
    with pytest.raises(FileExistsError):
        write(spectra._replace(files=Meanwhile(spectra.files, to)), form, to)
    assert to.read_text() == "theirs" and list(to.parent.iterdir()) == [to]


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_left_beside_what_was_made(spectra: Package, tmp_path: Path, form: Form) -> None:
    made = write(spectra, form, tmp_path / "deep" / "er" / "made")
    assert list(made.parent.iterdir()) == [made]


@pytest.mark.parametrize("form", ["rocrate", "croissant"])
def test_a_disk_that_fails_leaves_nothing(spectra: Package, tmp_path: Path, form: Form) -> None:
    gone = {**spectra.files, "raw/empty": tmp_path / "nowhere"}
    with pytest.raises(FileNotFoundError):
        write(spectra._replace(files=gone), form, tmp_path / "out" / "made")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("form", ["rocrate", "croissant"])
def test_data_that_have_rotted_are_not_sent(spectra: Package, tmp_path: Path, form: Form) -> None:
    path = next(path for path in spectra.files if path.endswith(".txt"))
    spectra.files[path].write_text("1 2 4\n")
    with pytest.raises(Damaged, match="scan #1") as caught:
        write(spectra, form, tmp_path / "made")
    assert caught.value.file == path and caught.value.expected != caught.value.found
    assert not (tmp_path / "made").exists()


def test_the_files_are_those_of_the_record(spectra: Package, tmp_path: Path) -> None:
    fewer = {path: source for path, source in spectra.files.items() if path != "raw/empty"}
    with pytest.raises(ValueError, match="has a file raw/empty, and nobody says where"):
        write(spectra._replace(files=fewer), "rocrate", tmp_path / "made")
    with pytest.raises(ValueError, match="has no file more"):
        write(spectra._replace(files={**spectra.files, "more": tmp_path}), "rocrate", tmp_path / "made")
    other = msgspec.structs.replace(spectra.record, digest="sha256:0")
    with pytest.raises(Damaged, match="by its list of files"):
        write(spectra._replace(record=other), "rocrate", tmp_path / "made")


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "a/../../x", "a//b", "", ".", "C:x", "a\\b", "a\nb", "a/", "\ud800"]
)
def test_no_file_is_put_outside(tmp_path: Path, path: str) -> None:
    source = tmp_path / "source"
    source.touch()
    with pytest.raises(ValueError, match="is no place for a file"):
        write(Package(Record(id="x@1", name="x", digest="1"), {path: source}), "rocrate", tmp_path / "made")
    assert list(tmp_path.iterdir()) == [source]


def test_a_file_cannot_be_a_directory_too(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.touch()
    package = Package(Record(id="x@1", name="x", digest="1"), {"a": source, "a/b": source})
    with pytest.raises(ValueError, match="a is a file and a directory"):
        write(package, "rocrate", tmp_path / "made")


def test_a_form_that_is_none_is_refused(spectra: Package, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no form 'bagit': use one of rocrate"):
        write(spectra, "bagit", tmp_path / "made")  # type: ignore[arg-type]


def test_files_of_packages_can_be_read_by_others(spectra: Package, tmp_path: Path) -> None:
    made = write(spectra, "rocrate", tmp_path / "made")
    umask = os.umask(0)
    os.umask(umask)
    assert made.stat().st_mode & 0o777 == 0o777 & ~umask
