"""What every reader of a part of the file shares: units, a place to note problems, and a few small forms."""

import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from firstlight.core import Problem

from ._document import FLOAT, Items, Table, line_of
from ._problems import Checker, meant, shown

_QUANTITY = re.compile(rf"\s*({FLOAT.pattern}|[-+]?\d+)\s*(.*?)\s*")


class Border:
    """Notes what is wrong and goes on, so that everything is told at once."""

    def __init__(self, units: Checker, directory: Path | None) -> None:
        self.units, self.directory = units, directory
        self.noted: list[tuple[Problem, int]] = []

    def note(self, field: str, message: str, remedy: str, line: int = 0) -> None:
        if any(problem.field == field for problem, _ in self.noted):
            return  # What cannot be read has the wrong type besides, which is no news.
        self.noted.append((Problem(field, message, remedy), line))

    def only(self, table: Table, allowed: Collection[str], at: str) -> Table:
        """The table without empty entries, and without unknown ones, which are noted."""
        kept = Table(table.line)
        for key, value in table.items():
            if key not in allowed:
                field = f"{at}.{key}" if at else str(key)
                self.note(field, f"there is no field {str(key)!r} here", meant(key, allowed), line_of(table, key))
            elif value is not None:
                kept.put(key, value, line_of(table, key))
        return kept

    def number(self, value: Any, unit: str, at: str, line: int, difference: bool = False) -> Any:
        """A number written as text, with or without a unit, in `unit`; anything else as it is."""
        if not isinstance(value, str):
            return value
        if value.strip().lower() in ("nan", "inf", "-inf"):
            return float(value)
        try:
            number = self.units.parse_quantity(value, unit)
            # A difference of 1 degC is one of 1 K: the offset between the scales does not count.
            number -= self.units.parse_quantity(f"0 {split(value)[1]}", unit) if difference else 0.0
        except ValueError as error:
            self.note(at, str(error), f"Give a number{f', in {unit}' if unit else ''}.", line)
            return math.nan
        return number

    def quantities(self, table: Table, unit: str, at: str, names: tuple[str, ...], difference: str = "") -> None:
        """Make these entries of a table numbers in `unit`, in place."""
        for name in names:
            if name in table:
                table[name] = self.number(
                    table[name], unit, f"{at}.{name}", line_of(table, name), difference=name == difference
                )

    def unit_of(self, table: Table, names: tuple[str, ...]) -> str:
        """The unit given, else that of the first of these entries to have one; it is put in the table."""
        unit = table.get("unit")
        if unit is None:
            texts = (table[name] for name in names if isinstance(table.get(name), str))
            unit = next((found for text in texts if (found := split(text)[1])), "")
            if unit:
                table.put("unit", unit)
        return unit if isinstance(unit, str) else ""

    def table(self, value: Any, at: str, line: int, example: str) -> Table | None:
        """The value if it is a table; else it is noted."""
        if isinstance(value, Table):
            return value
        self.note(at, f"{shown(value)} is not a table", f"Write it as {example}.", line)
        return None

    def items(self, value: Any, at: str, line: int, example: str) -> Items:
        """The value if it is a list; else it is noted."""
        if isinstance(value, Items):
            return value
        self.note(at, f"{shown(value)} is not a list", f"Write it as {example}.", line)
        return Items(line)


def split(text: str) -> tuple[float, str]:
    """The number and the unit of "20 degC"; NaN and "" where there is no number."""
    match = _QUANTITY.fullmatch(text)
    return (float(match[1]), match[2]) if match else (math.nan, "")
