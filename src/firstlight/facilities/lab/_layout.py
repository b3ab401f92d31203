"""A laboratory as its file describes it: instruments, places, labware, materials and interlocks."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec.structs import replace

from ...core import Argument, Effect, InstrumentDescription, Operation, Scalar, Value


class BadLaboratory(ValueError):
    """The file of a laboratory cannot be used; the message says what is wrong, where, and what to do."""


class Draw(Value, frozen=True, forbid_unknown_fields=True):
    """An amount that an operation takes from a material and gives to a sample, by the names of its arguments.

    Each is the name of an argument, or the value itself. `amount` is in the unit of its argument.
    """

    source: str = msgspec.field(name="from")
    amount: str
    to: str = ""


class Move(Value, frozen=True, forbid_unknown_fields=True):
    """What an operation carries from one place to another, by the names of its arguments."""

    what: str
    to: str
    origin: str = msgspec.field(name="from", default="")


class Limit(Value, frozen=True, forbid_unknown_fields=True):
    """What may be asked of an argument, where the instrument does not say, or allows more than the laboratory does."""

    low: float | None = None
    high: float | None = None
    unit: str | None = None
    choices: tuple[Scalar, ...] | None = None
    default: Scalar | None = None


class Form(Value, frozen=True, forbid_unknown_fields=True):
    """What the laboratory knows of an operation and its instrument does not say.

    `samples` are the arguments that name a sample (by its well, for the instrument), `labware` those that name a
    piece of labware. It works `at` a place, where the labware must be. With `whole` it is done to all of a piece of
    labware, as it is where an argument names one or it `moves` one: once for all samples on it that want the same.
    `observe` says under which names results are observed (default: their own), `sigma` how uncertain they are.
    """

    effect: Effect | None = None
    seconds: float | None = None
    limits: dict[str, Limit] = {}
    draws: tuple[Draw, ...] = ()
    moves: Move | None = None
    samples: tuple[str, ...] = ()
    labware: tuple[str, ...] = ()
    at: str = ""
    whole: bool = False
    observe: dict[str, str] = {}
    sigma: dict[str, float] = {}


class Instrument(Value, frozen=True, forbid_unknown_fields=True):
    """How an instrument is reached, and what the laboratory knows of its operations."""

    protocol: str
    address: str = ""
    options: dict[str, Any] = {}
    operations: dict[str, Form] = {}


class Labware(Value, frozen=True, forbid_unknown_fields=True):
    """A plate or rack with so many wells, named A1, A2 ... in rows of `columns`, and where it stands."""

    wells: int
    place: str
    columns: int = 0

    def names(self) -> list[str]:
        """Its wells, in order."""
        columns = self.columns or self.wells
        return [f"{_row(i // columns)}{i % columns + 1}" for i in range(self.wells)]


class Material(Value, frozen=True, forbid_unknown_fields=True):
    """What there is of a consumable. Below `reserve` nothing is drawn: the dead volume of a bottle. Above `capacity`
    nothing is filled in."""

    amount: str
    reserve: str = ""
    capacity: str = ""


class Interlock(Value, frozen=True, forbid_unknown_fields=True):
    """What must hold before an action and throughout: a signal between two bounds, or equal to a value.

    Where it does not, the instruments named are brought to a safe stop (without names, the one whose signal it is).
    A signal that cannot be read for `blind` seconds counts as broken.
    """

    instrument: str
    signal: str
    low: float | None = None
    high: float | None = None
    equals: Scalar | None = None
    unit: str = ""
    stop: tuple[str, ...] = ()
    blind: float = 10.0
    message: str = ""

    def broken(self, value: Scalar | None) -> str:
        """What is wrong with a reading, in words; "" where it is right."""
        what, unit = f"{self.instrument}.{self.signal}", f" {self.unit}" if self.unit else ""
        if value is None:
            return f"{what} cannot be read"
        if self.equals is not None and value != self.equals:
            return self.message or f"{what} is {value}, and must be {self.equals}"
        if isinstance(value, int | float):
            if self.high is not None and value > self.high:
                return f"{what} is {value:.4g}{unit}, above {self.high:g}{unit}"
            if self.low is not None and value < self.low:
                return f"{what} is {value:.4g}{unit}, below {self.low:g}{unit}"
        return ""


class Layout(Value, frozen=True, forbid_unknown_fields=True):
    """The whole file. `places` are the places of labware, and how many pieces each holds."""

    instruments: dict[str, Instrument]
    name: str = "lab"
    places: dict[str, int] = {}
    labware: dict[str, Labware] = {}
    materials: dict[str, Material] = {}
    interlocks: tuple[Interlock, ...] = ()


def read_layout(file: Path) -> Layout:
    """A laboratory from its file (YAML). Raises BadLaboratory."""
    try:
        plain = yaml.safe_load(file.read_text())
    except OSError as error:
        raise BadLaboratory(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadLaboratory(f"{file} is not YAML: {error}") from error
    try:
        layout = msgspec.convert(plain, Layout)
    except msgspec.ValidationError as error:
        raise BadLaboratory(f"{file}: {error}") from error
    if wrong := list(_wrong(layout)):
        raise BadLaboratory(f"{file}: {'; '.join(wrong)}")
    return layout


def _wrong(layout: Layout) -> list[str]:
    found = []
    for name, piece in layout.labware.items():
        if piece.place not in layout.places:
            found.append(f"labware {name} stands at {piece.place!r}, which is no place")
        if piece.wells < 1:
            found.append(f"labware {name} has no wells")
    for place, holds in layout.places.items():
        there = sum(piece.place == place for piece in layout.labware.values())
        if there > holds:
            found.append(f"place {place} holds {holds}, and {there} pieces of labware stand there")
    for lock in layout.interlocks:
        found += [f"an interlock names {n!r}, which is no instrument" for n in (lock.instrument, *lock.stop)
                  if n not in layout.instruments]  # fmt: skip
    for name, instrument in layout.instruments.items():
        if not re.fullmatch(r"[A-Za-z][\w-]*", name):
            found.append(f"instrument {name!r} must have a name of letters, digits, _ and -")
        for operation, form in instrument.operations.items():
            if form.at and form.at not in layout.places:
                found.append(f"{name}.{operation} works at {form.at!r}, which is no place")
    return found


def overlaid(
    description: InstrumentDescription, forms: Mapping[str, Form], convert: Callable[[float, str, str], float]
) -> InstrumentDescription:
    """The description with what the laboratory knows besides. Limits only ever become narrower.

    Raises BadLaboratory where the laboratory names an operation or argument that the instrument does not have.
    """
    for name, form in forms.items():
        operation = description.operation(name)
        if operation is None:
            there = ", ".join(o.name for o in description.operations) or "none"
            raise BadLaboratory(f"instrument {description.name} has no operation {name!r}; it has: {there}")
        known = {a.name for a in operation.arguments}
        named = {*form.limits, *form.samples, *form.labware}
        if missing := sorted(named - known):
            raise BadLaboratory(f"{description.name}.{name} has no argument {missing[0]!r}; it has: {', '.join(known)}")
    operations = tuple(_overlaid(o, forms[o.name], convert) if o.name in forms else o for o in description.operations)
    return replace(description, operations=operations)


def _overlaid(operation: Operation, form: Form, convert: Callable[[float, str, str], float]) -> Operation:
    arguments = tuple(
        _narrowed(a, form.limits[a.name], convert) if a.name in form.limits else a for a in operation.arguments
    )
    if form.moves and form.moves.origin:
        # Where a piece of labware is now, the laboratory knows.
        arguments = tuple(replace(a, default="") if a.name == form.moves.origin else a for a in arguments)
    return replace(
        operation,
        effect=form.effect or operation.effect,
        seconds=operation.seconds if form.seconds is None else form.seconds,
        arguments=arguments,
    )


def _narrowed(argument: Argument, limit: Limit, convert: Callable[[float, str, str], float]) -> Argument:
    def mine(value: float | None) -> float | None:
        if value is None or limit.unit is None or not argument.unit:
            return value
        return convert(value, limit.unit, argument.unit)

    lows = [v for v in (argument.low, mine(limit.low)) if v is not None]
    highs = [v for v in (argument.high, mine(limit.high)) if v is not None]
    return replace(
        argument,
        low=max(lows, default=None), high=min(highs, default=None),
        unit=argument.unit or limit.unit or "",
        choices=argument.choices if limit.choices is None else limit.choices,
        default=argument.default if limit.default is None else limit.default,
    )  # fmt: skip


def _row(index: int) -> str:
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
