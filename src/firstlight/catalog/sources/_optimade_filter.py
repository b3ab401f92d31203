"""A query in the filter language of OPTIMADE 1.2 (https://specification.optimade.org, section 5.2)."""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from ..index import Query, Range

_SYMBOLS = """
    H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo
    Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl
    Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""
ELEMENTS = frozenset(_SYMBOLS.split())
_COUNTS = {"unary": 1, "binary": 2, "ternary": 3, "quaternary": 4, "quinary": 5}
_PART = re.compile(r"([A-Z][a-z]?)([1-9]\d*)?")


def filter_of(query: Query, properties: Mapping[str, Any]) -> tuple[str, Query]:
    """The filter, "" for everything, and what of the query it does not say. `properties` are those of the provider's
    structures, by name.

    Words that are symbols of elements are elements that a structure has all of ("Li Fe O"), others that are formulae
    are its reduced formula ("Fe2O3"), and "binary", "ternary" ... count its elements.
    """
    clauses, rest = list[str](), list[str]()
    symbols = list[str]()
    for word in query.text.split():
        if word in ELEMENTS:
            symbols.append(word)
        elif word.lower() in _COUNTS:
            clauses.append(f"nelements={_COUNTS[word.lower()]}")
        elif formula := reduced(word):
            clauses.append(f"chemical_formula_reduced={_quoted(formula)}")
        else:
            rest.append(word)
    if symbols:
        clauses.append(f"elements HAS ALL {', '.join(map(_quoted, dict.fromkeys(symbols)))}")
    where = dict[str, tuple[str, ...]]()
    for facet, values in query.where.items():
        known = [value for value in values if value in properties]
        if facet == "element" and values:
            clauses.append(f"elements HAS ANY {', '.join(map(_quoted, values))}")
        elif facet in ("observable", "variable") and known and len(known) == len(values):
            clauses.append(_any_of([f"{value} IS KNOWN" for value in values]))
        else:
            where[facet] = values
    ranges = tuple(wanted for wanted in query.ranges if not _comparable(wanted, properties))
    clauses += (clause for wanted in query.ranges if wanted not in ranges for clause in _between(wanted))
    dated = "last_modified" in properties
    if dated:
        clauses += _dates(query)
    left = msgspec.structs.replace(
        query, text=" ".join(rest), where=where, ranges=ranges,
        since=None if dated else query.since, until=None if dated else query.until,
    )  # fmt: skip
    return " AND ".join(clauses), left


def reduced(formula: str) -> str:
    """A formula in the alphabet's order and the smallest whole numbers ("O4Fe2" is "FeO2"), "" where it is none."""
    counts = dict[str, int]()
    at = 0
    while at < len(formula):
        part = _PART.match(formula, at)
        if part is None or part[1] not in ELEMENTS:
            return ""
        counts[part[1]] = counts.get(part[1], 0) + int(part[2] or 1)
        at = part.end()
    if not counts:
        return ""
    divisor = math.gcd(*counts.values())
    return "".join(f"{e}{n // divisor if n > divisor else ''}" for e, n in sorted(counts.items()))


def _comparable(wanted: Range, properties: Mapping[str, Any]) -> bool:
    """Only numbers in the unit that is asked for: a server compares them as they are."""
    about = properties.get(wanted.variable)
    if not isinstance(about, dict) or about.get("type") not in ("integer", "float"):
        return False
    return not wanted.unit or wanted.unit == unit_of(about)


def unit_of(about: Mapping[str, Any]) -> str:
    """The unit of a property, "" where it has none."""
    unit = about.get("unit") or about.get("x-optimade-unit") or ""
    return "" if unit in ("dimensionless", "inapplicable") else str(unit)


def _between(wanted: Range) -> Iterator[str]:
    if wanted.low is not None:
        yield f"{wanted.variable}>={_number(wanted.low)}"
    if wanted.high is not None:
        yield f"{wanted.variable}<={_number(wanted.high)}"
    if wanted.low is None and wanted.high is None:
        yield f"{wanted.variable} IS KNOWN"


def _dates(query: Query) -> Iterator[str]:
    for sign, at in ((">=", query.since), ("<=", query.until)):
        if at is not None:
            yield f'last_modified{sign}"{datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}"'


def _any_of(clauses: list[str]) -> str:
    return clauses[0] if len(clauses) == 1 else f"({' OR '.join(clauses)})"


def _number(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError("the end of a range must be a number, or none")
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
