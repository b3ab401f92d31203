"""A released model of tables, used with numpy alone: a mean, a calibrated sigma, and whether it knows such points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firstlight.core import Observation, Scalar, Value

from ._prediction import Prediction
from ._release import read_release
from ._table_encode import Array, Input, encode
from ._weights import Weights

Flags = npt.NDArray[np.bool_]
CHUNK = 1024
"""Rows that go through the network together: so many stay in the processor's cache."""
LEAST = 1e-3
"""The smallest deviation that is ever said, in those of the values learned from."""
REFERENCES = 512


class Target(Value, frozen=True):
    """What is predicted, its unit, and its mean and deviation in what was learned from."""

    name: str
    unit: str = ""
    mean: float = 0.0
    deviation: float = 1.0


class TableConfig(Value, frozen=True):
    """What a model of tables is besides its weights. `near` is the distance at which a point is still like another."""

    inputs: tuple[Input, ...]
    targets: tuple[Target, ...]
    members: int
    stages: int
    near: float
    rows: int
    limits: tuple[str, ...] = ()


@dataclass
class TableModel:
    """A model in use. `version` is set by whoever loads it from the registry."""

    config: TableConfig
    weights: Weights
    version: str = ""

    @property
    def observables(self) -> tuple[str, ...]:
        """What it predicts."""
        return tuple(t.name for t in self.config.targets)

    @property
    def units(self) -> dict[str, str]:
        """Units of what it predicts and of what it is asked, by name."""
        return {v.name: v.unit for v in self.config.targets} | {i.name: i.unit for i in self.config.inputs}

    def predict(self, points: Sequence[Mapping[str, Scalar | None]]) -> list[Prediction]:
        """What is expected at each point, which may have more values than are asked for; None is a missing one.

        Raises ValueError where a value is not there at all, is no number or is not finite.
        """
        if not points:
            return []
        for point in points:
            if missing := next((i.name for i in self.config.inputs if i.name not in point), ""):
                encode([i for i in self.config.inputs if i.name == missing], dict.fromkeys(point, ()))
        columns = {i.name: [p[i.name] for p in points] for i in self.config.inputs}
        x, strange = encode(self.config.inputs, columns)
        mean, sigma = self._believed(x)
        apart = nearest(x, self.weights["references"])
        made = []
        for k in range(len(points)):
            why = [i.wrong(columns[i.name][k]) for i, odd in zip(self.config.inputs, strange[k], strict=True) if odd]
            if not why and apart[k] > self.config.near:
                why = [
                    f"it is {apart[k] / self.config.near:.2g} times as far as any should be from what was learned from"
                ]
            values = {
                t.name: Observation(t.name, float(mean[k, j]), t.unit, float(sigma[k, j]))
                for j, t in enumerate(self.config.targets)
            }
            made.append(Prediction(values=values, familiar=not why, why="; ".join(why)))
        return made

    def predict_table(self, columns: Mapping[str, Sequence[Any]]) -> tuple[Array, Array, Flags]:
        """Mean, sigma and whether it is familiar for every row of columns by name; NaN or None is a missing number.

        Shapes are (n,); mean and sigma are (n, t) where there are several targets. Raises ValueError as `predict`.
        """
        x, strange = encode(self.config.inputs, columns)
        mean, sigma = self._believed(x)
        familiar: Flags = np.logical_not(strange.any(1))
        familiar[familiar] = nearest(x[familiar], self.weights["references"]) <= self.config.near
        if len(self.config.targets) == 1:
            return mean[:, 0], sigma[:, 0], familiar
        return mean, sigma, familiar

    def believed(self, x: Array) -> tuple[Array, Array]:
        """Mean and calibrated deviation, (n, t) each, at features (n, D), in deviations of the targets."""
        mean, deviation = forward(self.weights, self.config.stages, x)
        return mean, deviation * self.weights["calibration"].astype(float)

    def _believed(self, x: Array) -> tuple[Array, Array]:
        mean, deviation = self.believed(x)
        scale = np.array([t.deviation for t in self.config.targets])
        return mean * scale + np.array([t.mean for t in self.config.targets]), deviation * scale


def load_table(folder: Path) -> TableModel:
    """A released model. Raises ValueError where its files do not go together, OSError where there are none."""
    config, weights = read_release(folder, TableConfig, "tables")
    width = sum(i.width for i in config.inputs)
    for k in range(config.stages):
        wanted = (config.members, width + (len(config.targets) if k else 0))
        if (w := weights.get(f"stages.{k}.weights.0")) is None or w.shape[:2] != wanted:
            raise ValueError(f"{folder}: weights and config.json do not go together (stage {k})")
    if not {"references", "calibration"} <= weights.keys() or weights["references"].shape[1] != width:
        raise ValueError(f"{folder}: weights and config.json do not go together (references)")
    return TableModel(config, weights)


def forward(weights: Weights, stages: int, x: Array) -> tuple[Array, Array]:
    """Mean and deviation (n, t) of the ensemble, not calibrated, in deviations of the targets.

    A stage after the first is given what the one before says, and adds to it.
    """
    means, deviations = [], []
    for first in range(0, len(x), CHUNK):
        part = x[first : first + CHUNK].astype(np.float32)
        mean, variance = _stage(weights, 0, part)
        for k in range(1, stages):
            before = mean
            mean, variance = _stage(weights, k, np.concatenate([part, before], 1), before)
        means.append(mean)
        deviations.append(np.sqrt(variance))
    if not means:
        count = weights["calibration"].shape[0]
        return np.zeros((0, count)), np.zeros((0, count))
    return np.concatenate(means).astype(float), np.concatenate(deviations).astype(float)


def _stage(weights: Weights, stage: int, x: Any, before: Any = 0.0) -> tuple[Any, Any]:
    """Mean and variance (n, t) of the mixture of the members of one stage."""
    depth, h = 0, x[None]
    while f"stages.{stage}.weights.{depth + 1}" in weights:
        h = h @ weights[f"stages.{stage}.weights.{depth}"] + weights[f"stages.{stage}.biases.{depth}"]
        with np.errstate(over="ignore"):
            h = h / (1.0 + np.exp(-h))
        depth += 1
    out = h @ weights[f"stages.{stage}.weights.{depth}"] + weights[f"stages.{stage}.biases.{depth}"]
    out = out + x[None] @ weights[f"stages.{stage}.skip"]
    count = out.shape[-1] // 2
    mean, variance = out[..., :count] + before, np.logaddexp(0.0, out[..., count:]) + LEAST**2
    middle = mean.mean(0)
    return middle, (variance + (mean - middle) ** 2).mean(0)


def nearest(x: Array, references: npt.NDArray[Any]) -> Array:
    """The distance (n,) of features (n, D) from the nearest of the references, a feature."""
    refs = references.astype(np.float32)
    square, out = (refs * refs).sum(1), np.empty(len(x))
    for first in range(0, len(x), 4 * CHUNK):
        part = x[first : first + 4 * CHUNK].astype(np.float32)
        apart = (square - 2.0 * (part @ refs.T)).min(1) + (part * part).sum(1)
        out[first : first + 4 * CHUNK] = np.sqrt(np.maximum(apart, 0.0) / max(x.shape[1], 1))
    return out


def spread_out(x: Array, count: int) -> npt.NDArray[np.intp]:
    """Numbers of rows that cover all of them: each the farthest from those before it (Gonzalez 1985)."""
    chosen = [int(np.argmin(((x - x.mean(0)) ** 2).sum(1)))]
    apart = ((x - x[chosen[0]]) ** 2).sum(1)
    while len(chosen) < min(count, len(x)) and apart.max() > 0:
        chosen.append(int(np.argmax(apart)))
        apart = np.minimum(apart, ((x - x[chosen[-1]]) ** 2).sum(1))
    return np.array(chosen)
