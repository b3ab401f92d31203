"""Units as people write them, in the words that pint understands."""
# ruff: noqa: RUF001 - the letters of units and quantities are meant

import re
import tokenize
from functools import cache, lru_cache

import pint

_RAISED = (pint.PintError, AttributeError, ValueError, SyntaxError, TypeError, KeyError, ArithmeticError,
           AssertionError, tokenize.TokenError)  # fmt: skip

_WRITTEN = {
    "°C": "degC", "ºC": "degC", "℃": "degC", "°F": "degF", "ºF": "degF", "℉": "degF", "°": "degree", "º": "degree",
    "µ": "u", "μ": "u", "Å": "angstrom", "\u212b": "angstrom", "Ω": "ohm", "\u2126": "ohm", "%": "percent",
    "·": "*", "⋅": "*", "×": "*", "−": "-", "\u2013": "-", "**": "^",
}  # fmt: skip
_RAISED_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_WORDS = {"deg C": "degC", "deg. C": "degC", "Celsius": "degC", "celsius": "degC", "degrees C": "degC",
          "deg_C": "degC", "deg F": "degF", "Kelvin": "K", "kelvin": "K", "deg": "degree", "degrees": "degree",
          "percentage": "percent", "pct": "percent", "Sec": "s", "sec": "s", "ohms": "ohm", "Ohm": "ohm"}  # fmt: skip
NONE = frozenset({"", "1", "-", "\u2013", "none", "None", "unitless", "dimensionless", "n/a", "N/A"})
"""Ways to say that something has no unit."""
UNKNOWN = frozenset({"a.u.", "a.u", "a. u.", "arb", "arb.", "arb. u.", "arb. units", "arb.units", "arbitrary units",
                     "wt%", "at%", "mol%", "vol%", "wt.%", "at.%", "wt percent", "normalized", "norm."})  # fmt: skip
"""What stands where a unit would, and says no quantity: never what pint would take the letters for."""

_TERM = r"(?:[A-Za-z_ΔΩ]+\d?|\d{1,6}(?:\.\d{1,6})?)(?:\^\(?-?\d{1,2}(?:[./]\d)?\)?)?"
_SANE = re.compile(rf"\(?{_TERM}\)?(?:\s*[*/ ]\s*\(?{_TERM}\)?)*")
"""Terms with small exponents: a parser that works out 9^9^9 is not given it."""


@cache
def _registry() -> "pint.UnitRegistry[float]":
    return pint.UnitRegistry()


@lru_cache(10_000)
def normal(unit: str) -> str | None:
    """The unit as pint understands it ("°C" is degC, "kJ mol⁻¹" is kJ*mol^-1), "" for none; None for an unknown one."""
    text = unit.strip()
    if text in NONE:
        return ""
    if text in UNKNOWN or len(text) > 60:
        return None
    text = _WORDS.get(text, text)
    for written, plain in _WRITTEN.items():
        text = text.replace(written, plain)
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+", lambda found: "^" + found[0].translate(_RAISED_DIGITS), text).replace("^+", "^")
    text = re.sub(r"(?<=[A-Za-z])(-?\d{1,2})(?![\d.])", r"^\1", text)
    text = re.sub(r"(?<=[\w)])\.(?=[A-Za-z])| +(?=[A-Za-z(])", "*", re.sub(r"\s*([*/])\s*", r"\1", text))
    for candidate in dict.fromkeys((text, unit.strip())):
        if _dimension(candidate) is not None:
            return candidate
    return None


def same_dimension(unit: str, other: str) -> bool:
    """Whether both are units that pint understands, of one dimension."""
    one = _dimension(unit)
    return one is not None and one == _dimension(other)


@lru_cache(10_000)
def _dimension(unit: str) -> str | None:
    if not _SANE.fullmatch(unit) or unit.count("(") != unit.count(")"):
        return None
    try:
        return str(_registry().Unit(unit).dimensionality)
    except _RAISED:
        return None
