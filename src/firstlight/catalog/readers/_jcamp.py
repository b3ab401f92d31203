"""Spectra in JCAMP-DX (McDonald and Wilks, Appl. Spectrosc. 42 (1988) 151), through jcamp."""

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from datetime import datetime
from pathlib import Path

import numpy as np

from . import _columns, _elements, _units
from ._contents import CELLS, Contents, Unreadable, library, short, trouble
from ._names import Label, identifier

_LARGEST = 256 * 2**20
"""Bytes of a file, and points of a spectrum."""
_AXES = {
    "1/cm": ("wavenumber", "1/cm"), "cm-1": ("wavenumber", "1/cm"), "cm^-1": ("wavenumber", "1/cm"),
    "micrometers": ("wavelength", "um"), "nanometers": ("wavelength", "nm"), "seconds": ("time", "s"),
    "hz": ("frequency", "Hz"), "ppm": ("chemical_shift", "ppm"), "m/z": ("m_z", ""), "absorbance": ("absorbance", ""),
    "transmittance": ("transmittance", ""), "reflectance": ("reflectance", ""), "kubelka-munk": ("kubelka_munk", ""),
    "% transmittance": ("transmittance", "percent"), "percent transmittance": ("transmittance", "percent"),
    "relative abundance": ("relative_abundance", ""), "counts": ("counts", "count"), "2theta": ("two_theta", "degree"),
}  # fmt: skip
"""Units as the standard spells them (its table of XUNITS and YUNITS), with the quantities that they imply."""
_SAID = {"title": "title", "data type": "data_type", "origin": "origin", "owner": "owner", "date": "date",
         "longdate": "date", "spectrometer/data system": "instrument", "instrument": "instrument",
         "cas registry no": "cas", "molform": "formula", "molecular formula": "formula", "jcamp-dx": "version",
         "sampling procedure": "sampling", "state": "state", "names": "names"}  # fmt: skip
_CODES = re.compile(rb"^##", re.MULTILINE)


def read(path: Path, media_type: str) -> Contents:
    """A spectrum as a table of two columns. Of a compound file the first block that has data is read, and noted."""
    _check(path)
    notes = list[str]()
    block, others = _block(path, _spectrum(path, notes))
    with trouble(path, "its data are no numbers", "check its data"):
        x, y = np.asarray(block.get("x", ()), np.float64), np.asarray(block.get("y", ()), np.float64)
    promised = block.get("npoints")
    if (isinstance(promised, int) and promised != len(y)) or len(x) != len(y):
        raise Unreadable(
            path, f"it promises {promised if isinstance(promised, int) else len(x)} points and has {len(y)}",
            "it was cut short or changed: get it again",
        )  # fmt: skip
    if others:
        notes.append(f"it has {others + 1} blocks: the first with data is read")
    labels = [_axis(block, "x", notes), _axis(block, "y", notes)]
    said = {name: value for key, name in _SAID.items() if (value := _value(block.get(key))) not in (None, "")}
    if not len(y):
        notes.append("it has no data of a kind that can be read (XYDATA, XYPOINTS or PEAK TABLE)")
        return Contents(media_type=media_type, metadata=said, notes=tuple(notes))

    def chunks() -> Iterator[_columns.Chunk]:
        for start in range(0, len(y), CELLS):
            yield [x[start : start + CELLS].tolist(), y[start : start + CELLS].tolist()]

    made = _columns.table(labels, chunks, notes, roles={labels[0].name: "parameter", labels[1].name: "observable"})
    return Contents(
        media_type=media_type, variables=made.variables, rows=made.rows, batches=made.batches, metadata=said,
        elements=_elements.of_formula(str(said.get("formula", ""))), notes=tuple(notes),
    )  # fmt: skip


def _check(path: Path) -> None:
    """Raises Unreadable for what the library would misread: other files, huge promises, and an end that is missing."""
    if path.stat().st_size > _LARGEST:
        raise Unreadable(path, f"it has more than {_LARGEST >> 20} MiB", "split it")
    content = path.read_bytes()
    if not re.match(rb"(?:\xef\xbb\xbf)?(?:\s*\$\$[^\n]*\n)*\s*##[^\n=]*=", content):
        raise Unreadable(path, "line 1 is no label such as ##TITLE=", "check that it is JCAMP-DX")
    if not re.search(rb"^##TITLE\s*=", content, re.MULTILINE | re.IGNORECASE):
        raise Unreadable(path, "it has no line ##TITLE=", "check that it is JCAMP-DX")
    for match in re.finditer(rb"^##[^\n]*", content, re.MULTILINE):
        line = content.count(b"\n", 0, match.start()) + 1 if b"=" not in match[0] else 0
        if line:
            raise Unreadable(path, f"line {line} begins with ## and has no '='", "mend the line")
    for match in re.finditer(rb"^##NPOINTS\s*=\s*([^\r\n]*)", content, re.MULTILINE | re.IGNORECASE):
        said = match[1].split(b"$$")[0].strip()
        if not re.fullmatch(rb"\d{1,9}(?:\.0*)?", said) or not 0 < float(said) <= _LARGEST:
            raise Unreadable(path, f"its NPOINTS is {said.decode('latin-1')[:40]!r}", "give the number of points")
    if not re.search(rb"^##END\s*=", content, re.MULTILINE | re.IGNORECASE):
        raise Unreadable(path, "it has no line ##END=", "it was cut short: get it again")


def _spectrum(path: Path, notes: list[str]) -> Mapping[str, object]:
    jcamp = library("jcamp", path)
    said = io.StringIO()
    # The library prints what it finds wrong with a line, and goes on.
    told = trouble(path, "it is not JCAMP-DX as the library jcamp knows it", "check its data and labels")
    with told, redirect_stdout(said), np.errstate(all="ignore"):
        found: Mapping[str, object] = jcamp.readfile(str(path))
    if warned := said.getvalue().splitlines():
        notes.append(f"{len(warned)} checks of its lines failed: {short(ValueError(warned[0]))}")
    return found


def _block(path: Path, whole: Mapping[str, object]) -> tuple[Mapping[str, object], int]:
    """The first block with data, and how many there are besides."""
    children = whole.get("children")
    if not isinstance(children, list) or not children:
        return whole, 0
    with_data = [child for child in children if len(child.get("y", ()))]
    return (with_data or children)[0], len(children) - 1


def _axis(block: Mapping[str, object], axis: str, notes: list[str]) -> Label:
    said = str(block.get(f"{axis}units", "")).strip()
    told = str(block.get(f"{axis}label", "")).strip()
    if said.lower() in _AXES:
        name, unit = _AXES[said.lower()]
        return Label(name, unit, said)
    known = _units.normal(said)
    if known is None:
        notes.append(f"the unit {said!r} of its {axis} axis is not one that is known: it is kept as it is")
    return Label(identifier(told) or ("intensity" if axis == "y" else "x"), said if known is None else known, told)


def _value(value: object) -> str | int | float | None:
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, int | float) else value[:1000] if isinstance(value, str) else None
