"""Chemical elements, as they stand in formulas."""

import re
from collections.abc import Iterable

_ALL = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts "
    "Og"
)
SYMBOLS = frozenset(_ALL.split())
"""All that IUPAC has named."""
_FORMULA = re.compile(r"(?:[A-Z][a-z]?|[\d.,()\[\]{}\s·*+\-]|xyz?)+")


def of_formula(formula: str) -> tuple[str, ...]:
    """The elements of a formula such as "La0.8 Sr0.2 MnO3", sorted; () where it is none. D and T are hydrogen."""
    if not _FORMULA.fullmatch(formula):
        return ()
    return elements(re.findall("[A-Z][a-z]?", formula), strict=True)


def elements(symbols: Iterable[str], *, strict: bool = False) -> tuple[str, ...]:
    """Those of the symbols that are elements, each once, sorted; with `strict` none where one of them is not."""
    found = {"H" if symbol in ("D", "T") else symbol for symbol in symbols}
    return () if strict and not found <= SYMBOLS else tuple(sorted(found & SYMBOLS))
