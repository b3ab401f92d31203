"""Weights in files: what is written is read, also by others; what is damaged is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from firstlight.models._weights import LONGEST_HEADER, read_metadata, read_weights, write_weights

TENSORS = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array(2.5),
    "empty": np.zeros((0, 4), np.float32),
    "counts": np.array([1, -2, 3], np.int64),
    "flags": np.array([True, False]),
    "half": np.array([0.5, 1.5], np.float16),
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_weights(tmp_path / "m.safetensors", TENSORS, {"about": "ä test"})
    read = read_weights(tmp_path / "m.safetensors")
    assert set(read) == set(TENSORS)
    for name, array in TENSORS.items():
        assert read[name].dtype == array.dtype and read[name].shape == array.shape
        np.testing.assert_array_equal(read[name], array)
    assert read_metadata(tmp_path / "m.safetensors") == {"about": "ä test"}


def test_same_tensors_same_bytes_and_nothing_left_beside(tmp_path: Path) -> None:
    write_weights(tmp_path / "a", TENSORS)
    write_weights(tmp_path / "b", dict(reversed(TENSORS.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_turned_and_foreign_orders_are_put_right(tmp_path: Path) -> None:
    turned = np.arange(6, dtype=">f4").reshape(2, 3).T
    write_weights(tmp_path / "m", {"t": turned})
    np.testing.assert_array_equal(read_weights(tmp_path / "m")["t"], turned)


def test_a_kind_it_has_no_word_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'words'.*cannot be kept"):
        write_weights(tmp_path / "m", {"words": np.array(["a"])})
    assert not list(tmp_path.iterdir())


def test_it_is_the_format_that_others_read_and_write(tmp_path: Path) -> None:
    theirs = pytest.importorskip("safetensors.numpy")
    write_weights(tmp_path / "ours", TENSORS)
    for name, array in theirs.load_file(tmp_path / "ours").items():
        np.testing.assert_array_equal(array, TENSORS[name])
    theirs.save_file({k: np.ascontiguousarray(v) for k, v in TENSORS.items()}, tmp_path / "theirs")
    for name, array in read_weights(tmp_path / "theirs").items():
        np.testing.assert_array_equal(array, TENSORS[name])


def test_bfloat16_comes_as_float32(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(
        _file({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, b"\x80\x3f\x20\xc0")
    )
    np.testing.assert_array_equal(read_weights(tmp_path / "m")["x"], np.array([1.0, -2.5], np.float32))


def _file(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"short", "shorter than eight"),
        ((LONGEST_HEADER + 1).to_bytes(8, "little") + b"{}", "are allowed"),
        ((100).to_bytes(8, "little") + b"{}", "ends within its header"),
        (_file(b"{nonsense"), "no JSON"),
        (_file(b"[" * 100_000), "no JSON"),
        (_file([1, 2]), "has no names"),
        (_file(b'{"a":1,"a":2}'), "twice"),
        (_file({"__metadata__": {"a": 1}}), "metadata"),
        (_file({"x": {"dtype": "F32"}}), "must have dtype"),
        (_file({"x": ONE | {"dtype": "Q4"}}, b"0000"), "'Q4'"),
        (_file({"x": ONE | {"shape": [-1]}}, b"0000"), "no such thing"),
        (_file({"x": ONE | {"shape": [True]}}, b"0000"), "no such thing"),
        (_file({"x": ONE | {"data_offsets": [4, 0]}}, b"0000"), "no such thing"),
        (_file({"x": ONE}, b"00"), "not as many as"),
        (_file({"x": ONE | {"shape": [2]}}, b"0000"), "not as many as"),
        (_file({"x": ONE, "y": ONE}, b"0000"), "not where"),
        (_file({"x": ONE | {"data_offsets": [4, 8]}}, b"00000000"), "not where"),
        (_file({"x": ONE}, b"000000"), "belong to no tensor"),
    ],
)
def test_what_is_damaged_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(ValueError, match=why):
        read_weights(tmp_path / "m")
