"""Small pictures in a terminal: marks, and curves in Braille, eight points to a character."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

Pair = tuple[float, float]
_BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""The dot of a Braille character at (column, row)."""


class Layer(NamedTuple):
    """Points of one style, drawn over the layers before it: with this mark, or where it is "" in Braille."""

    points: Sequence[Pair]
    style: str
    mark: str = ""


def chart(layers: Sequence[Layer], x: Pair, y: Pair, width: int, height: int) -> list[Text]:
    """`height` lines of `width` characters: x from left to right, y upwards; what lies outside is at the edge."""
    cells: dict[tuple[int, int], tuple[Layer, int]] = {}
    for layer in layers:
        across, down = (1, 1) if layer.mark else (2, 4)
        for px, py in layer.points:
            column, row = _place(px, x, width * across), height * down - 1 - _place(py, y, height * down)
            cell = (column // across, row // down)
            before, bits = cells.get(cell, (layer, 0))
            cells[cell] = (layer, (bits if before is layer else 0) | _BITS[column % 2][row % 4])
    return [Text.assemble(*(_drawn(cells.get((i, row))) for i in range(width))) for row in range(height)]


def _drawn(cell: tuple[Layer, int] | None) -> tuple[str, str]:
    if cell is None:
        return " ", ""
    layer, bits = cell
    return layer.mark or chr(0x2800 + bits), layer.style


def stairs(values: Sequence[float], start: int, width: int, span: Pair) -> list[Pair]:
    """A curve that keeps its value until the next trial, as points close enough to look like a line."""
    if not values:
        return []
    low, high = span
    steps = 2 * width
    placed = []
    for step in range(steps + 1):
        trial = low + (high - low) * step / steps
        if trial >= start:
            placed.append((trial, values[min(len(values) - 1, int(trial) - start)]))
    return placed


def _place(value: float, span: Pair, cells: int) -> int:
    low, high = span
    share = (value - low) / (high - low) if high > low else 0.5
    return min(cells - 1, max(0, round(share * (cells - 1))))


def spark(shares: Sequence[float]) -> str:
    """A bar a share from 0 to 1, side by side in one line."""
    return "".join("▁▂▃▄▅▆▇█"[min(7, max(0, int(8 * share)))] for share in shares)
