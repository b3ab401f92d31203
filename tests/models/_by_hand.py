"""A model of tables made by hand, which needs no training: a line through numbers."""

import json
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from firstlight.models import TrainSpec
from firstlight.models import registry as r
from firstlight.models._table_encode import Input
from firstlight.models._table_use import TableConfig, Target
from firstlight.models._weights import write_weights


def table(
    folder: Path, slopes: Mapping[str, float], ranges: Mapping[str, tuple[float, float]], target: str = "y",
    units: Mapping[str, str] | None = None, sigma: float = 0.1,
) -> Path:  # fmt: skip
    """A release: the target is the sum of slope x value, give or take `sigma`, within these ranges and no further."""
    units = units or {}
    inputs = tuple(
        Input(name=n, unit=units.get(n, ""), mean=0.0, deviation=1.0, low=low, high=high)
        for n, (low, high) in ranges.items()
    )
    config = TableConfig(
        inputs=inputs, targets=(Target(name=target, unit=units.get(target, "")),), members=1, stages=1, near=1e6, rows=9
    )
    folder.mkdir(parents=True)
    skip = np.array([[[slopes.get(i.name, 0.0), 0.0] for i in inputs]])
    weights = {
        "stages.0.weights.0": np.zeros_like(skip), "stages.0.skip": skip,
        "stages.0.biases.0": np.array([[[0.0, np.log(np.expm1(sigma**2))]]]),
        "references": np.zeros((1, len(inputs))), "calibration": np.ones(1),
    }  # fmt: skip
    write_weights(folder / "model.safetensors", {n: w.astype(np.float32) for n, w in weights.items()})
    told = {"family": "table", "config": msgspec.to_builtins(config)}
    (folder / "config.json").write_text(json.dumps(told))
    return folder


def registered(registry: r.Registry, folder: Path, name: str) -> r.Version:
    """That release as the next version of a model."""
    report = r.Report(
        name=name, family="table", metric="crps", scores={"crps": 0.1}, data=(),
        curve=r.Curve(steps=1, best_step=1, first=2.0, best=1.0, last=1.0),
        compute=r.Compute(device="cpu", seconds=1.0, device_hours=0.0), parameters=r.Parameters(changed=4),
    )  # fmt: skip
    r.write_report(folder, report)
    spec = TrainSpec(name=name, family="table", data=("films",), licence="CC0-1.0")
    return registry.register(folder, spec, "ada")
