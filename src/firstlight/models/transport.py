"""The family `transport`: turbulent fluxes in a tokamak, learned from a cheap code and corrected by few dear points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firstlight.core import Failed, Scalar

from .table import Table

INPUTS = ("Ati", "Ate", "Ane", "Ani", "q", "smag", "x", "Ti_Te", "LogNuStar", "normni")
"""What QLKNN_7_11 is asked, in its order; all without a unit."""
FLUXES = ("efeITG", "efiITG", "pfeITG", "efeTEM", "efiTEM", "pfeTEM", "efeETG", "gamma_max")
"""What it answers: heat and particle fluxes in gyro-Bohm units by mode, and the greatest growth rate."""
RANGES = {
    "Ati": (0.0, 16.0), "Ate": (0.0, 16.0), "Ane": (-5.0, 5.0), "Ani": (-15.0, 15.0), "q": (0.66, 10.0),
    "smag": (-1.0, 4.0), "x": (0.1, 0.95), "Ti_Te": (0.25, 2.5), "LogNuStar": (-5.0, 0.0), "normni": (0.7, 1.0),
}  # fmt: skip
"""Where its core data set (QLKNN11D) lies, as its own documentation has it."""


class Transport(Table):
    """A model of tables whose columns are those of QLKNN, by default for all of its fluxes.

    Several fidelities stand in one dataset, told apart by a column (`only={"fidelity": "low"}`). A model of the low one
    is the parent of that of the high one (`finetune="correction"`), which then needs few points. Options are those of
    `TableOptions`.
    """

    def __init__(self, **options: object) -> None:
        super().__init__(**{"target": FLUXES, "inputs": INPUTS, **options})


def teach(point: Mapping[str, Scalar]) -> dict[str, float]:
    """The fluxes at a point, by QLKNN_7_11 (van de Plassche et al. 2020; wheel `fusion-surrogates`), an operation.

    Raises Failed ("invalid-input") where a value is missing or beyond what it was made for.
    """
    for name in INPUTS:
        low, high = RANGES[name]
        value = point.get(name)
        if not isinstance(value, int | float) or not low <= value <= high:
            raise Failed("invalid-input", f"{name} must lie from {low:g} to {high:g}, and is {value!r}")
    row = np.array([[point[name] for name in INPUTS]], np.float32)
    return {name: float(value) for name, value in zip(FLUXES, fluxes(row)[0], strict=True)}


def fluxes(x: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The fluxes (n, 8) at inputs (n, 10), in the orders of FLUXES and INPUTS. It needs onnxruntime, and no JAX.

    Raises ModuleNotFoundError without onnxruntime or fusion-surrogates.
    """
    said: Sequence[Any] = _session().run(list(FLUXES), {"input": np.asarray(x, np.float32)})
    return np.concatenate(said, 1).astype(float)


@cache
def _session() -> Any:
    import onnxruntime  # noqa: PLC0415

    # Its file is looked up, not imported: the package itself wants JAX.
    found = find_spec("fusion_surrogates")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("the teacher is in the package fusion-surrogates, which is not installed")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = Path(found.origin).parent / "qlknn" / "models" / "qlknn_7_11.onnx"
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
