"""Readers of the sciences' files: what each holds, as typed columns with units, and what it says of itself.

Each format is read by the library of its field; nothing in a file is executed, and no link is followed out of it.
"""

import importlib
from pathlib import Path

import msgspec

from . import _media
from ._contents import Contents, Unreadable
from ._media import media_type_of

__all__ = ["Contents", "Unreadable", "media_type_of", "read"]

_READERS = {
    _media.CSV: "_text", _media.TSV: "_text", _media.JSON: "_json", _media.LINES: "_json", _media.XLSX: "_sheets",
    _media.XLS: "_sheets", _media.ODS: "_sheets", _media.HDF5: "_hdf5", _media.PARQUET: "_parquet",
    _media.ZARR: "_zarr", _media.CIF: "_cif", _media.XYZ: "_xyz", _media.FASTA: "_fasta", _media.JCAMP: "_jcamp",
}  # fmt: skip


def read(path: Path, media_type: str = "") -> Contents:
    """What a file (or a directory that is a Zarr store) holds. A file of another kind has no table, and a note.

    `media_type`, where given, is how it is read whatever it looks like. Raises Unreadable, which says what is wrong
    and where; so it does for a file that is not there.
    """
    path = Path(path)
    try:
        found = media_type.partition(";")[0].strip().lower() or media_type_of(path)
        if found not in _READERS:
            return Contents(media_type=found, notes=(f"no reader for {found}: it is kept as it is",))
        # Each reader is loaded when it is needed, as their libraries are large and may be missing.
        contents: Contents = importlib.import_module(f".{_READERS[found]}", __name__).read(path, found)
    except OSError as error:
        raise Unreadable(
            path, f"it cannot be read: {error.strerror or error}", "check the path and its rights"
        ) from error
    if not media_type and _media.named(path) not in ("", found):
        note = f"its name says {_media.named(path)}, and it is {found}"
        contents = msgspec.structs.replace(contents, notes=(note, *contents.notes))
    return contents
