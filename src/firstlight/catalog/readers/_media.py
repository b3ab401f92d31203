"""What kind of file a file is: by what it holds where that can be told, else by its name."""

import lzma
import re
import zipfile
import zlib
from pathlib import Path

OTHER = "application/octet-stream"
CSV, TSV, TEXT = "text/csv", "text/tab-separated-values", "text/plain"
JSON, LINES = "application/json", "application/x-ndjson"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
XLS, ODS = "application/vnd.ms-excel", "application/vnd.oasis.opendocument.spreadsheet"
HDF5, PARQUET, ZARR, ZIP = (
    "application/x-hdf5",
    "application/vnd.apache.parquet",
    "application/vnd.zarr",
    "application/zip",
)
CIF, XYZ, FASTA, JCAMP = "chemical/x-cif", "chemical/x-xyz", "text/x-fasta", "chemical/x-jcamp-dx"

_NAMED = {
    "csv": CSV, "tsv": TSV, "tab": TSV, "json": JSON, "jsonl": LINES, "ndjson": LINES, "txt": TEXT, "md": TEXT,
    "xlsx": XLSX, "xlsm": XLSX, "xls": XLS, "ods": ODS, "h5": HDF5, "hdf5": HDF5, "hdf": HDF5, "he5": HDF5, "nxs": HDF5,
    "nx5": HDF5, "parquet": PARQUET, "pq": PARQUET, "zarr": ZARR, "zip": ZIP, "cif": CIF, "mcif": CIF, "mmcif": CIF,
    "xyz": XYZ, "extxyz": XYZ, "fasta": FASTA, "fa": FASTA, "fna": FASTA, "faa": FASTA, "ffn": FASTA, "jdx": JCAMP,
    "dx": JCAMP, "jcamp": JCAMP, "pdf": "application/pdf", "png": "image/png", "tif": "image/tiff",
    "tiff": "image/tiff", "py": "text/x-python", "yaml": "application/yaml", "yml": "application/yaml",
    "gz": "application/gzip",
}  # fmt: skip
_BEGINNINGS = (
    (b"PAR1", PARQUET), (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", XLS), (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"), (b"II*\0", "image/tiff"), (b"MM\0*", "image/tiff"),
    (b"\x1f\x8b", "application/gzip"),
)  # fmt: skip
_HDF5 = b"\x89HDF\r\n\x1a\n"
_LOOKED_AT = 4096
_DAMAGED = (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError, KeyError,
            zlib.error, lzma.LZMAError)  # fmt: skip
"""What a ZIP archive raises that is none, or no whole one."""
_TOLD = (
    (re.compile(r"\s*##(?:TITLE|JCAMP-?DX)\s*=", re.IGNORECASE), JCAMP),
    (re.compile(r"(?:\s*#[^\n]*\n|\s*\n)*data_\S*\s+(?:#[^\n]*\n|\s)*(?:_\S|loop_|save_)", re.IGNORECASE), CIF),
    (re.compile(r">\S[^\n]*\n[A-Za-z*\-\s]+(?:\n|$)"), FASTA),
    (re.compile(r"\s*\d+[ \t]*\n[^\n]*\n\s*[A-Z][a-z]?(?:[ \t]+[-+.\dEe]+){3}"), XYZ),
    (re.compile(r'\s*\{.*\}\s*\n\s*\{"'), LINES),
    (re.compile(r'\s*(?:\{\s*(?:"|\})|\[\s*[\[\{\]"\d\-])'), JSON),
)


def media_type_of(path: Path) -> str:
    """The media type of a file, or of a directory that is a Zarr store; "application/octet-stream" for any other.

    A signature at the beginning counts before the name, and the name before what a text looks like. Raises OSError.
    """
    if path.is_dir():
        return ZARR if any((path / one).exists() for one in ("zarr.json", ".zgroup", ".zarray")) else OTHER
    with path.open("rb") as file:
        start = file.read(_LOOKED_AT)
        # The superblock of HDF5 may stand behind a block of the user's: at 512, 1024, 2048 ... bytes.
        if start.startswith(_HDF5) or any(start[at : at + 8] == _HDF5 for at in (512, 1024, 2048)):
            return HDF5
    for beginning, found in _BEGINNINGS:
        if start.startswith(beginning):
            return found
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zipped(path) or named(path) or ZIP
    return named(path) or _text(start)


def named(path: Path) -> str:
    """The media type that a file's name says, "" where it says none."""
    return _NAMED.get(path.name.lower().rpartition(".")[2], "") if "." in path.name else ""


def _zipped(path: Path) -> str:
    """What a ZIP archive is the container of, "" where that cannot be told."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "xl/workbook.xml" in names:
                return XLSX
            if "mimetype" in names and archive.getinfo("mimetype").file_size < 200:
                return archive.read("mimetype").decode("ascii", "replace").strip()
    except _DAMAGED:
        return ""
    return ZARR if any(name.rpartition("/")[2] in ("zarr.json", ".zgroup", ".zarray") for name in names) else ""


def _text(start: bytes) -> str:
    if b"\0" in start or not start:
        return OTHER
    text = start.decode("utf-8-sig", "replace").replace("\r\n", "\n")
    if text.count("\ufffd") > 1 + len(text) // 100:
        return OTHER
    return next((found for pattern, found in _TOLD if pattern.match(text)), TEXT)
