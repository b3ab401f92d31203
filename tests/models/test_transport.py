"""Fluxes of a plasma: the teacher, and a model of it that few dear points correct."""

from pathlib import Path

import numpy as np
import pytest
from arro3.core import Array, ChunkedArray, DataType, Field, Schema, Table
from arro3.io import write_parquet

from firstlight.core import Failed
from firstlight.models._family import Examples, Item
from firstlight.models.transport import FLUXES, INPUTS, RANGES, Transport, fluxes, teach

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("fusion_surrogates")

from ._fit import fit

LOW, FEW, TEST = 1000, 40, 200


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Low: the teacher. High: its fluxes 1.3 times as great, beyond a threshold that is lower by a tenth of Ati."""
    count = LOW + FEW + TEST
    low, high = np.array([RANGES[n] for n in INPUTS]).T
    # Half the box, in which most points are unstable.
    x = np.random.default_rng(0).uniform(low + 0.25 * (high - low), high - 0.25 * (high - low), (count, len(INPUTS)))
    dear = np.arange(count) >= LOW
    moved = x.copy()
    moved[dear, 0] *= 1.1
    y = fluxes(moved) * np.where(dear, 1.3, 1.0)[:, None]
    columns = dict(zip((*INPUTS, *FLUXES), np.concatenate([x, y], 1).T, strict=True))
    arrays = [ChunkedArray([Array(v.tolist(), type=DataType.float64())]) for v in columns.values()]
    arrays.append(ChunkedArray([Array(["high" if d else "low" for d in dear], type=DataType.string())]))
    fields = [*(Field(n, DataType.float64()) for n in columns), Field("fidelity", DataType.string())]
    path = tmp_path_factory.mktemp("transport") / "fluxes.parquet"
    write_parquet(Table.from_arrays(arrays, schema=Schema(fields)), path)
    return path


def test_the_teacher_answers_and_refuses_what_is_beyond_it() -> None:
    middle = {name: (low + high) / 2 for name, (low, high) in RANGES.items()}
    said = teach(middle)
    assert set(said) == set(FLUXES) and said["efiITG"] > 0
    with pytest.raises(Failed, match="Ati must lie"):
        teach({**middle, "Ati": 99.0})


def _fit(family: Transport, folder: Path, train: Examples, held: Examples, parent: Path | None, steps: int) -> Path:
    return fit(family, folder, train, held, parent, steps, 20, {})


def test_few_dear_points_go_farther_on_top_of_many_cheap_ones(data: Path, tmp_path: Path) -> None:
    item = Item(dataset="fluxes", path="fluxes.parquet", digest="", size=0)
    wanted = ("efiITG", "efeITG")
    small = {"target": wanted, "members": 3, "width": 32}
    cheap = Transport(only={"fidelity": "low"}, **small)
    fine = Transport(only={"fidelity": "high"}, finetune="correction", **small)
    alone = Transport(only={"fidelity": "high"}, **small)
    many, dear = cheap.read([item], [data]), fine.read([item], [data])
    assert len(many) == LOW and len(dear) == FEW + TEST
    few, held, test = dear.only(range(30)), dear.only(range(30, FEW)), dear.only(range(FEW, FEW + TEST))
    parent = _fit(cheap, tmp_path / "low", many.only(range(850)), many.only(range(850, LOW)), None, 200)
    corrected = _fit(fine, tmp_path / "both", few, held, parent, 100)
    scratch = _fit(alone, tmp_path / "alone", few, held, None, 100)
    errors = {n: fine.evaluate(f, test)["rmse"] for n, f in (("low", parent), ("both", corrected), ("high", scratch))}
    print(errors)
    assert errors["both"] < 0.75 * errors["high"]
    assert errors["both"] < errors["low"]
