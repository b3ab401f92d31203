"""Arrays of a dataset: written as HDF5, and read from HDF5 or Zarr, a part at a time."""

from collections.abc import Mapping
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from firstlight.core import Unavailable

from ._records import Record, Variable
from .library import Library

if TYPE_CHECKING:
    import numpy as np

Where = int | slice | EllipsisType | tuple[int | slice | EllipsisType, ...]
"""Which part of an array: what stands between brackets in numpy."""
_ZARR = ("zarr.json", ".zgroup", ".zarray")


def write_arrays(path: Path, arrays: Mapping[str, "np.ndarray[Any, Any]"], units: Mapping[str, str]) -> None:
    """Write arrays into one HDF5 file, compressed, with their units: the same arrays make the same bytes.

    Names may have "/", for groups. Raises Unavailable without h5py, OSError, FileExistsError.
    """
    h5py = _library("h5py")
    with h5py.File(path, "x", libver=("v110", "v110")) as file:
        for name, array in sorted(arrays.items()):
            # Bytes that had the time of day in them would be another dataset every time.
            how = {"compression": "gzip", "shuffle": True, "chunks": True} if array.ndim and array.size else {}
            made = file.create_dataset(name, data=array, track_times=False, **how)
            if units.get(name):
                made.attrs["units"] = units[name]


def variables_of(arrays: Mapping[str, "np.ndarray[Any, Any]"], units: Mapping[str, str]) -> tuple[Variable, ...]:
    """What a record says of arrays that are not read from a file."""
    return tuple(
        Variable(name, unit=units.get(name, ""), kind="array", shape=tuple(array.shape))
        for name, array in sorted(arrays.items())
    )


def read_array(library: Library, record: Record, name: str, where: Where = ...) -> "np.ndarray[Any, Any]":
    """A part of an array of a dataset; no more of it is read. `name` is that in its file, or "<file>:<name>" where
    several files have one of it.

    Raises LookupError where there is none, Unavailable without the library that reads it, OSError.
    """
    inside, _, called = name.rpartition(":")
    for file in record.files:
        if file.path.endswith((".h5", ".hdf5", ".nxs", ".nx5")) and inside in ("", file.path):
            with _library("h5py").File(library.file(file), "r") as opened:
                if called in opened and hasattr(opened[called], "shape"):
                    found: np.ndarray[Any, Any] = opened[called][where]
                    return found
    for store in _zarr_stores(record):
        if inside in ("", store):
            node = _zarr(library, record, store)
            if called in node if called else hasattr(node, "shape"):
                part: np.ndarray[Any, Any] = (node[called] if called else node)[where]
                return part
    raise LookupError(f"{record.id} has no array {name!r}; `firstlight data show {record.id}` lists its variables")


def _zarr_stores(record: Record) -> list[str]:
    """Directories of the dataset that are Zarr stores, the outermost ones."""
    found = sorted({file.path.rpartition("/")[0] for file in record.files if file.path.rpartition("/")[2] in _ZARR})
    return [place for place in found if not any(place.startswith(f"{other}/") for other in found if other != place)]


def _zarr(library: Library, record: Record, place: str) -> Any:
    """A store, made of links to where its files are: their names are digests there."""
    zarr = _library("zarr")
    root = library.root / "arrays" / record.digest.removeprefix("sha256:") / place
    for file in record.files:
        if file.path.startswith(f"{place}/"):
            link = root / file.path.removeprefix(f"{place}/")
            if not link.is_symlink():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(library.file(file).absolute())
    return zarr.open(str(root), mode="r")


def _library(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise Unavailable(f"arrays of this kind want {name}: pip install 'firstlight[data]'") from error
