"""A server of models for the tests, in a process of its own: _served.py FOLDER [TOKEN]."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from firstlight.core import Observation
from firstlight.models._prediction import Prediction
from firstlight.models.serve import Batching, Served, serve

_INPUTS = {"x": "kg", "where": ""}


class Doubles:
    """It says twice x, and how many rows came to it in the same call. 666 is one that it cannot answer for."""

    def predict(self, points: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        time.sleep(0.002)
        if any(p["x"] == 666 for p in points):
            raise ValueError("x: 666 cannot be answered for")
        if any(p["x"] == 667 for p in points):
            raise RuntimeError("a secret of the inside")
        if any(p["x"] == 668 for p in points):
            time.sleep(1.0)
        return [
            Prediction(
                {"y": Observation("y", 2.0 * p["x"], "kg", 0.5), "together": Observation("together", len(points))},
                familiar=p["x"] < 100, why="" if p["x"] < 100 else "x is more than 100",
            )
            for p in points
        ]  # fmt: skip


class Lengths:
    """It embeds."""

    def embed(self, sequences: Sequence[str]) -> Any:
        return np.array([[len(s), 1.0] for s in sequences])


if __name__ == "__main__":
    folder = Path(sys.argv[1])

    def revoked(version: str) -> str:
        if (folder / "broken").exists():
            raise OSError("the registry is away")
        path = folder / f"{version}.revoked"
        return path.read_text() if path.exists() else ""

    serve(
        [
            Served("doubles", "doubles-1", Doubles(), "CC0-1.0", "# Doubles", ("x below 100",), _INPUTS),
            Served("lengths", "lengths-1", Lengths()),
        ],
        token=sys.argv[2] if len(sys.argv) > 2 else "", revoked=revoked,
        batching=Batching(rows=64, wait=0.02, queue=300, longest=200), most_bytes=20_000,
        started=lambda url: print(url, flush=True),
    )  # fmt: skip
