"""Archives from strangers: nothing leads out, nothing is a link, nothing is larger than it may be."""

import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ._package import Damaged, checked

_SWOLLEN = 200
"""How many times its archive's size what comes out of it may be: tables and text are 5 to 20, bombs 1,000 and more."""
_SMALL = 64 * 2**20
"""What may come out of any archive, in bytes."""
_FILES = 1_000_000


@contextmanager
def unpacked(path: Path, scratch: Path) -> Iterator[Path]:
    """A fresh directory below `scratch` with what is in the archive, removed again where the block fails.

    Raises ValueError for an archive that cannot be trusted, Damaged where it is torn.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=scratch, prefix="package-"))
    try:
        _unpack(path, place)
        yield place
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def _unpack(path: Path, place: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _trusted(path, entries, place)
            for entry in entries:
                if entry.is_dir():
                    continue
                to = place / checked(_name(entry))
                to.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, open(to, "xb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise Damaged(path.name, "an archive that can be unpacked", str(error)) from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ValueError(f"{path.name} has two things in one place: {error.filename}") from error


def _trusted(path: Path, entries: list[zipfile.ZipInfo], place: Path) -> None:
    for entry in entries:
        if name := _name(entry):
            checked(name)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ValueError(f"{path.name} has a link or a special file, {entry.filename}, and is not unpacked")
        if entry.flag_bits & 1:
            raise ValueError(f"{path.name} is encrypted: decrypt it first")
    whole = sum(entry.file_size for entry in entries)
    if len(entries) > _FILES or whole > max(_SMALL, _SWOLLEN * path.stat().st_size):
        raise ValueError(
            f"{path.name} would become {whole:,} bytes in {len(entries):,} files out of {path.stat().st_size:,}: "
            "that is no data package; unpack it yourself if you trust it, and read the directory"
        )
    if whole > (free := shutil.disk_usage(place).free):
        raise ValueError(f"{path.name} needs {whole:,} bytes, and {place.parent} has {free:,} left")


def _name(entry: zipfile.ZipInfo) -> str:
    return entry.filename.removeprefix("./").rstrip("/")
