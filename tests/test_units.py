"""Units: absolute temperatures, plain numbers, suggestions, and the price of a conversion."""

import subprocess
import sys
import timeit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstlight.units import COMMON, PintUnits, split_quantity

UNITS = PintUnits()


@pytest.mark.parametrize(
    ("value", "unit", "to", "expected"),
    [
        (20, "degC", "K", 293.15),
        (293.15, "K", "°C", 20),
        (68, "degF", "degC", 20),
        (5, "degC/min", "K/min", 5),
        (50, "%", "", 0.5),
        (0.5, "", "%", 50),
        (3, "1", "", 3),
        (2, "h", "s", 7200),
        (2, "GB", "byte", 2e9),
        (1, "mmol/L", "mol/m**3", 1),
        (1, "µm", "nm", 1000),
        (1, "m²", "cm**2", 1e4),
        (1, "mL min^-1", "L/min", 1e-3),
        (3, "USD/kg", "USD/t", 3000),
        (2, "ppb", "ppm", 2e-3),
    ],
)
def test_a_value_in_another_unit(value: float, unit: str, to: str, expected: float) -> None:
    assert UNITS.convert(value, unit, to) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("unit", "to", "message"),
    [
        ("K", "m", "K cannot be turned into m"),
        ("kg", "", "kg cannot be turned into a plain number"),
        ("USD", "EUR", "USD cannot be turned into EUR"),
        ("mmol/LL", "mol/L", "did you mean 'mmol/L'"),
        ("K", "Mpa", "did you mean 'MPa'"),
    ],
)
def test_what_cannot_be_converted_says_why(unit: str, to: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNITS.convert(1.0, unit, to)


@pytest.mark.parametrize("unit", COMMON)
def test_every_unit_that_is_suggested_is_known(unit: str) -> None:
    UNITS.check(unit)


@pytest.mark.parametrize(
    "unit", ["m**9**9**9", "m**(9**(9**9))", "(9*9)**(9**9)", "9" * 50, "m;", "(", ")(", "'", "\0", "nan", "5 m"]
)
def test_what_is_no_unit_is_refused_at_once(unit: str) -> None:
    with pytest.raises(ValueError, match="is not a unit"):
        UNITS.check(unit)


@settings(max_examples=500, deadline=1000)
@given(st.one_of(st.text(max_size=20), st.text("mkgsKL%°/*^()-+. 0123456789", max_size=20)))
def test_any_text_is_a_unit_or_a_value_error(text: str) -> None:
    try:
        UNITS.convert(1.0, text, "kg")
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "to", "expected"),
    [("2 h", "s", 7200), ("2h", "s", 7200), ("-5 degC", "K", 268.15), ("1e-3", "m", 1e-3), (" .5 % ", "", 0.005)],
)
def test_a_quantity_is_a_number_with_a_unit(text: str, to: str, expected: float) -> None:
    assert UNITS.parse_quantity(text, to) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "h", "two h", "1 2 h", "1,5 h", "1e999999999 h2"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        UNITS.parse_quantity(text, "s")


def test_a_quantity_keeps_its_unit() -> None:
    assert split_quantity("20 degC") == (20.0, "degC")


def test_a_value_in_its_own_unit_costs_next_to_nothing() -> None:
    best = min(timeit.repeat(lambda: UNITS.convert(1.0, "mmol/L", "mmol/L"), number=10_000, repeat=5)) / 10_000
    assert best < 1e-6


def test_nothing_heavy_is_loaded_before_the_first_conversion() -> None:
    code = "import sys, firstlight.units as u; u.PintUnits().convert(1, 'K', 'K'); print('pint' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
