"""Models of tables: learned, calibrated, used without torch, and honest about what they do not know."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arro3.core import Array, ChunkedArray, DataType, Field, Schema
from arro3.core import Table as Arrow
from arro3.io import write_parquet

from firstlight.core import Failed, Scalar
from firstlight.models._family import Examples, Item
from firstlight.models._table_use import REFERENCES, nearest
from firstlight.models._weights import write_weights
from firstlight.models.predict import predict
from firstlight.models.table import Table, _references

pytest.importorskip("torch")

from ._fit import fit

ROWS = 240


def _write(path: Path, columns: Mapping[str, Any], units: Mapping[str, str]) -> None:
    arrays, fields = [], []
    for name, values in columns.items():
        kind = DataType.string() if isinstance(values[0], str) else DataType.float64()
        arrays.append(ChunkedArray([Array(list(values), type=kind)]))
        fields.append(Field(name, kind, metadata={"unit": units.get(name, "")}))
    write_parquet(Arrow.from_arrays(arrays, schema=Schema(fields)), path)


def _columns(seed: int, shift: float = 0.0) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    t, p = draw.uniform(300, 500, ROWS), draw.uniform(0, 1, ROWS)
    solvent = draw.choice(["DMF", "water"], ROWS)
    y = 5 * np.sin(t / 40) + 4 * p * p + 2 * (solvent == "water") + shift * p + draw.normal(0, 0.2, ROWS)
    return {"t": t.tolist(), "p": p.tolist(), "solvent": solvent.tolist(), "y": y.tolist(), "y.sigma": y.tolist()}


def _examples(folder: Path, table: Table, seed: int = 0, shift: float = 0.0) -> Examples:
    path = folder / f"{seed}.parquet"
    _write(path, _columns(seed, shift), {"t": "K", "y": "MPa"})
    return table.read([Item(dataset="d", path="t.parquet", digest="", size=0, group="d")], [path])


def _fit(
    table: Table, folder: Path, train: Examples, held: Examples, parent: Path | None = None, steps: int = 150
) -> Path:
    return fit(table, folder, train, held, parent, steps, 25, {"family": "table", "options": {"target": "y"}})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Examples, Examples]:
    folder, table = tmp_path_factory.mktemp("table"), Table(target="y")
    train, held, test = (_examples(folder, table, seed) for seed in range(3))
    return _fit(table, folder / "release", train, held), train, test


def test_unknown_options_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'target'"):
        Table(targets="y")


def test_what_gives_the_target_away_is_no_input(made: tuple[Path, Examples, Examples]) -> None:
    assert made[1].items[0].sheet.inputs == ("t", "p", "solvent")
    assert made[1].items[0].sheet.units == {"y": "MPa", "t": "K", "p": "", "solvent": ""}


def test_it_beats_the_mean_and_ridge_and_is_calibrated(made: tuple[Path, Examples, Examples]) -> None:
    pytest.importorskip("sklearn")
    folder, train, test = made
    scores, others = Table(target="y").evaluate(folder, test), Table(target="y").baselines(train, test)
    assert set(others) == {"mean", "ridge", "forest", "gp"}
    assert scores["crps"] < 0.7 * min(others["mean"]["crps"], others["ridge"]["crps"])
    assert 0.8 <= scores["coverage_90"] <= 0.98
    assert scores["familiar"] > 0.9


def test_what_is_unlike_the_data_is_said_to_be(made: tuple[Path, Examples, Examples]) -> None:
    model = Table().load(made[0])
    known: dict[str, Scalar | None] = {"t": 400.0, "p": 0.5, "solvent": "DMF"}
    good, hot, other, gap = model.predict(
        [known, known | {"t": 900.0}, known | {"solvent": "THF"}, {**known, "p": None}]
    )
    assert good.familiar and good.values["y"].unit == "MPa" and good.values["y"].sigma > 0
    assert not hot.familiar and "t is 900 K, and was from" in hot.why
    assert not other.familiar and "'THF'" in other.why
    assert not gap.familiar and "p is missing" in gap.why
    with pytest.raises(ValueError, match="there is no 'solvent'; is it 'solvnt'"):
        model.predict([{"t": 400.0, "p": 0.5, "solvnt": "DMF"}])


@pytest.mark.parametrize("rows", [REFERENCES - 1, REFERENCES + 3, 3 * REFERENCES])
def test_what_lies_between_the_rows_is_familiar_however_many_there_are(rows: int) -> None:
    draw = np.random.default_rng(0)
    references, near = _references(draw.random((rows, 3)), None)
    assert float((nearest(draw.random((200, 3)), references) <= near).mean()) > 0.9


def test_many_rows_take_no_time_and_say_the_same(made: tuple[Path, Examples, Examples]) -> None:
    model, count = Table().load(made[0]), 20_000
    draw = np.random.default_rng(1)
    columns: dict[str, Any] = {
        "t": draw.uniform(300, 500, count),
        "p": draw.uniform(0, 1, count),
        "solvent": ["DMF"] * count,
    }
    began = time.process_time()
    mean, sigma, familiar = model.predict_table(columns)
    assert time.process_time() - began < 2.0
    assert mean.shape == sigma.shape == familiar.shape == (count,)
    one = model.predict([{name: column[7] for name, column in columns.items()}])[0]
    assert one.values["y"].value == pytest.approx(mean[7], abs=1e-4) and one.familiar == familiar[7]


def test_a_correction_keeps_what_the_parent_knew_and_needs_fewer_points(
    made: tuple[Path, Examples, Examples], tmp_path: Path
) -> None:
    fine, scratch = Table(target="y", finetune="correction", width=16), Table(target="y", width=16)
    everything = _examples(tmp_path, scratch, 5, shift=3.0)
    few, held, test = everything.only(range(20)), everything.only(range(20, 30)), everything.only(range(30, ROWS))
    corrected = _fit(fine, tmp_path / "corrected", few, held, made[0], 100)
    alone = _fit(scratch, tmp_path / "alone", few, held, None, 100)
    assert fine.evaluate(corrected, test)["rmse"] < 0.6 * fine.evaluate(alone, test)["rmse"]
    assert fine.evaluate(corrected, test)["rmse"] < fine.evaluate(made[0], test)["rmse"]
    assert fine.forgetting(corrected, made[0])["change"] > 0
    learner = fine.begin(few, held, made[0], 0)
    assert learner.frozen == {n for n, _ in learner.module.named_parameters() if n.startswith("stages.0.")}
    again = _fit(fine, tmp_path / "again", few, held, corrected, 25)
    assert Table().load(again).config.stages == 3


def test_it_is_an_operation_that_fails_where_it_does_not_know(
    made: tuple[Path, Examples, Examples], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer = tmp_path / "offer-1.dist-info"
    offer.mkdir()
    (offer / "METADATA").write_text("Name: offer\nVersion: 1\n")
    (offer / "entry_points.txt").write_text("[firstlight.models]\ntable = firstlight.models.table:Table\n")
    monkeypatch.syspath_prepend(tmp_path)
    files: dict[str, Any] = {"config": str(made[0] / "config.json"), "weights": str(made[0] / "model.safetensors")}
    said = predict({"t": 400.0, "p": 0.5, "solvent": "DMF"}, **files)
    assert said["y"]["unit"] == "MPa"
    with pytest.raises(Failed, match="does not know such points"):
        predict({"t": 900.0, "p": 0.5, "solvent": "DMF"}, **files)
    strange = tmp_path / "strange"
    strange.mkdir()
    write_weights(strange / "model.safetensors", {})
    (strange / "config.json").write_text('{"family": "os:system"}')
    with pytest.raises(Failed, match="no installed package offers a family 'os:system'"):
        predict({}, config=str(strange / "config.json"), weights=str(strange / "model.safetensors"))
