"""Arrays are read a part at a time, from HDF5 and Zarr, out of what is kept by its digest."""

import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from firstlight.catalog.adding import draft
from firstlight.catalog.arrays import read_array, variables_of, write_arrays
from firstlight.catalog.index import Record
from firstlight.catalog.library import Library

ARRAYS = {"counts": np.arange(60.0).reshape(3, 4, 5), "axes/energy": np.linspace(1, 2, 5), "scale": np.array(2.5)}
UNITS = {"axes/energy": "eV"}


def test_arrays_come_back_part_by_part(tmp_path: Path) -> None:
    write_arrays(tmp_path / "scan.h5", ARRAYS, UNITS)
    time.sleep(1.1)  # HDF5 would write the time of day, in seconds.
    write_arrays(tmp_path / "again.h5", dict(reversed(ARRAYS.items())), UNITS)
    assert (tmp_path / "scan.h5").read_bytes() == (tmp_path / "again.h5").read_bytes()
    with h5py.File(tmp_path / "scan.h5") as file:
        assert file["axes/energy"].attrs["units"] == "eV"
    with Library(tmp_path / "kept") as library:
        record = Record(id="", name="scan", digest="", variables=variables_of(ARRAYS, UNITS))
        found = library.add(record, {"scan.h5": tmp_path / "scan.h5"}).record
        assert {v.name: (v.shape, v.unit) for v in found.variables} == {
            "axes/energy": ((5,), "eV"), "counts": ((3, 4, 5), ""), "scale": ((), ""),
        }  # fmt: skip
        assert np.array_equal(read_array(library, found, "counts", (1, slice(1, 3))), ARRAYS["counts"][1, 1:3])
        assert np.array_equal(read_array(library, found, "scan.h5:axes/energy"), ARRAYS["axes/energy"])
        assert read_array(library, found, "scale") == 2.5
        for wrong in ("axes", "none", "other.h5:counts"):
            with pytest.raises(LookupError, match="has no array"):
                read_array(library, found, wrong)


def test_a_zarr_store_is_added_and_read(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "scan.zarr"), mode="w")
    array = group.create_array("counts", shape=(40, 30), chunks=(10, 10), dtype="int32")
    array[:] = np.arange(1200).reshape(40, 30)
    drafted = draft(tmp_path / "scan.zarr", tmp_path)
    with Library(tmp_path / "kept") as library:
        record = library.add(drafted.record, drafted.files).record
        assert {v.name: v.shape for v in record.variables} == {"counts": (40, 30)}
        part = read_array(library, record, "counts", (slice(5, 15), slice(0, 2)))
        assert np.array_equal(part, np.arange(1200).reshape(40, 30)[5:15, :2])
        assert np.array_equal(read_array(library, record, "scan.zarr:counts"), np.arange(1200).reshape(40, 30))
        with pytest.raises(LookupError):
            read_array(library, record, "none")
