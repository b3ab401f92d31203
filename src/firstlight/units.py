"""Units: the border where a number with one unit becomes a number with another (by pint)."""

import importlib
import re
import threading
import tokenize
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pint

_COMMON = (
    "s ms us ns min hour day K degC degF m cm mm um nm angstrom kg g mg ug L mL uL mol mmol umol M mM uM nM mol/L "
    "mmol/L umol/L g/L mg/L ug/L g/mL mol/kg mmol/kg mL/min uL/min L/min mol/s Pa kPa MPa GPa hPa bar mbar atm torr "
    "psi N kN J kJ MJ eV keV MeV kJ/mol kcal/mol W kW MW V mV kV A mA uA ohm S S/m S/cm Hz kHz MHz GHz T mT rpm % "
    "ppm ppb rad degree m/s m/s**2 mm/s m**2 cm**2 m**3 kg/m**3 g/cm**3 Pa*s mPa*s cP W/m/K J/g/K degC/min K/min "
    "1/s 1/min 1/cm byte kB MB GB TB MiB GiB count USD EUR USD/kg USD/t kWh"
)
COMMON = tuple(_COMMON.split())
"""What a misspelt unit is compared with."""

CURRENCIES = ("USD", "EUR", "GBP", "JPY", "CHF")
"""Every currency is a dimension of its own: none converts into another."""

_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*", re.DOTALL)
_EXPONENT = re.compile(r"(?:\*\*|\^)\s*\(?\s*[-+]?\s*\d{1,2}(?:[./]\d{1,2})?")
_LETTERS = re.compile(r"[^\W\d]\w*|[%°Δ]\w*")
_PINT_RAISES = (AttributeError, ValueError, SyntaxError, TypeError, KeyError, ArithmeticError, AssertionError,
                tokenize.TokenError)  # fmt: skip


# What pint knows takes a good part of a second to read: all in a process use one registry, one after the other.
_lock = threading.Lock()
_known: dict[str, Any] = {}


@cache
def _pint() -> Any:
    # It takes longer to import than all the rest together, and a campaign in one unit never needs it.
    return importlib.import_module("pint")


@cache
def _registry() -> "pint.UnitRegistry[Any]":
    registry: pint.UnitRegistry[Any] = _pint().UnitRegistry()
    for name in CURRENCIES:
        registry.define(f"{name} = [currency_{name}]")
    registry.define("ppb = 1e-9")
    return registry


class PintUnits:
    """`core.Units`, and the checks made when a campaign file is read. Safe to use from several threads.

    A bare temperature ("degC", "degF") is an absolute one: 20 degC is 293.15 K. The dimensionless unit is "",
    of which "%" is a hundredth. Every method raises ValueError with a reason fit to show.
    """

    def check(self, unit: str) -> None:
        """Nothing where the unit is known; else ValueError, with a suggestion."""
        self._unit(unit)

    def convert(self, value: float, unit: str, to: str) -> float:
        """The value in the other unit."""
        if unit == to:
            return value
        source, target = self._unit(unit), self._unit(to)
        with _lock:
            try:
                return float(_registry().convert(value, source, target))
            except (*_PINT_RAISES, _pint().PintError) as error:
                one, other = unit or "a plain number", to or "a plain number"
                raise ValueError(f"{one} cannot be turned into {other}") from error

    def parse_quantity(self, text: str, to: str) -> float:
        """The number in a text such as "2 h", in the unit `to`; a text without a unit is in it already."""
        number, unit = split_quantity(text)
        return self.convert(number, unit, to) if unit else number

    def _unit(self, unit: str) -> Any:
        found = _known.get(unit)
        if found is None:
            with _lock:
                found = _known[unit] = self._parsed(unit)
        return found

    def _parsed(self, unit: str) -> Any:
        if unit.strip() == "1":
            unit = ""
        if not _sane(unit):
            raise ValueError(f"{unit[:40]!r} is not a unit: write names, * and /, and small exponents, as in kg/m**3")
        try:
            return _registry().parse_units(unit)
        except (*_PINT_RAISES, _pint().PintError) as error:
            near = get_close_matches(unit, COMMON, 1, 0.5) or [c for c in COMMON if c.lower() == unit.lower()]
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{unit!r} is not a unit that is known{hint}") from error


def split_quantity(text: str) -> tuple[float, str]:
    """The number and the unit of a text such as "20 degC"; "" where it has no unit. Raises ValueError."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a number with a unit, such as '20 degC'")
    return float(match[1]), match[2]


def _sane(unit: str) -> bool:
    """Whether the text may be given to a parser that would also work out 9**9**9."""
    if len(unit) > 60 or re.search(r"[^\w%°Δ*/^()., +·\-]", unit) or unit.count("(") != unit.count(")"):
        return False
    rest = _EXPONENT.sub("#", unit)
    rest = _LETTERS.sub("u", re.sub(r"^\s*1\s*/", "u/", rest))
    return not re.search(r"\d|\*\*|\^|#[\s()]*#|[.,](?!\s*u)", rest.replace("µ", "u"))
