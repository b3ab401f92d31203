"""Rows of a table as numbers that a network can be given, and what of them is strange."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt

from firstlight.core import Value

from ._table_read import Cell, Line, Sheet

Array = npt.NDArray[np.float64]
MARGIN = 0.05
"""How far beyond what was seen (in widths of it) a number is not strange yet."""


class Input(Value, frozen=True):
    """One column that is asked: a number (centred by `mean`, in widths of `deviation`) or one of several `values`."""

    name: str
    unit: str = ""
    log: bool = False
    mean: float = 0.0
    deviation: float = 1.0
    low: float = 0.0
    high: float = 0.0
    gaps: bool = False
    values: tuple[str, ...] = ()
    words: bool = False

    @property
    def width(self) -> int:
        """How many features it becomes: a number (and whether it is missing), or one a word."""
        return len(self.values) if self.words else 1 + self.gaps

    def features(self, cells: Sequence[Any]) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Features (n, width), and which cells (n,) are strange. Missing numbers are at the mean."""
        if self.words:
            place = {value: i for i, value in enumerate(self.values)}
            at = np.array([place.get(str(cell), -1) if cell is not None else -1 for cell in cells], int)
            made = np.zeros((len(at), len(self.values)))
            made[np.flatnonzero(at >= 0), at[at >= 0]] = 1.0
            return made, at < 0
        x = _numbers(self.name, cells)
        if self.log:
            x = np.log10(np.where(x > 0, x, np.nan))
        gap = np.isnan(x)
        room = MARGIN * (self.high - self.low)
        strange = ~gap & ((x < self.low - room) | (x > self.high + room)) | (gap & (not self.gaps))
        x = np.where(gap, 0.0, (x - self.mean) / self.deviation)
        return (np.stack([x, gap.astype(float)], 1) if self.gaps else x[:, None]), strange

    def wrong(self, cell: Cell) -> str:
        """Why this cell is strange, in words."""
        if cell is None or (isinstance(cell, float) and np.isnan(cell)):
            return f"{self.name} is missing, and was never missing before"
        if self.words:
            return f"{self.name} is {cell!r}, of which nothing was learned"
        low, high = (10.0**v if self.log else v for v in (self.low, self.high))
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.name} is {float(cell):g}{unit}, and was from {low:g} to {high:g}{unit} in what was learned from"


def fit_inputs(lines: Sequence[Line]) -> tuple[Input, ...]:
    """How the inputs of these rows become features. Raises ValueError where one has no value at all."""
    sheet = lines[0].sheet
    return tuple(_fit(sheet, name, [line.cells[j] for line in lines]) for j, name in enumerate(sheet.inputs))


def _fit(sheet: Sheet, name: str, cells: Sequence[Cell]) -> Input:
    unit = sheet.units.get(name, "")
    if name in sheet.words:
        return Input(name=name, unit=unit, words=True, values=tuple(sorted({str(c) for c in cells if c is not None})))
    x = _numbers(name, cells)
    log = name in sheet.log
    if log:
        x = np.log10(np.where(x > 0, x, np.nan))
    seen = x[~np.isnan(x)]
    if not len(seen):
        raise ValueError(f"inputs: {name!r} has no value in the part that is learned from")
    return Input(
        name=name, unit=unit, log=log, mean=float(seen.mean()), deviation=float(seen.std()) or 1.0,
        low=float(seen.min()), high=float(seen.max()), gaps=len(seen) < len(x),
    )  # fmt: skip


def encode(inputs: Sequence[Input], columns: Mapping[str, Sequence[Any]]) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Features (n, D) of columns by name, and which cells (n, inputs) are strange.

    Raises ValueError for a column that is not there, for columns of different lengths, and for what is no number.
    """
    for given in inputs:
        if given.name not in columns:
            near = get_close_matches(given.name, columns, 1)
            raise ValueError(f"there is no {given.name!r}{f'; is it {near[0]!r}?' if near else ''}")
    lengths = {given.name: len(columns[given.name]) for given in inputs}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns have different lengths: {lengths}")
    made = [given.features(columns[given.name]) for given in inputs]
    return np.concatenate([x for x, _ in made], 1), np.stack([s for _, s in made], 1)


def lines_encoded(inputs: Sequence[Input], lines: Sequence[Line]) -> Array:
    """Features (n, D) of rows."""
    names = lines[0].sheet.inputs
    return encode(inputs, {name: [line.cells[j] for line in lines] for j, name in enumerate(names)})[0]


def answers(lines: Sequence[Line]) -> Array:
    """The targets of rows, (n, t), NaN where there is none."""
    first = len(lines[0].sheet.inputs)
    return np.array([[np.nan if c is None else float(c) for c in line.cells[first:]] for line in lines])


def _numbers(name: str, cells: Any) -> Array:
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiub":
        x = cells.astype(float)
    else:
        if wrong := next((c for c in cells if c is not None and not isinstance(c, int | float | np.number)), None):
            raise ValueError(f"{name!r} must be a number, not {wrong!r}")
        x = np.array([np.nan if c is None else c for c in cells], float)
    if np.isinf(x).any():
        raise ValueError(f"{name!r} must be a finite number, not {x[np.isinf(x)][0]}")
    return x
