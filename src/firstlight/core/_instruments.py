"""What an instrument can do and how far it has come: operations, their arguments and limits, signals, runs."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from ._nouns import Cause
from ._problem import Scalar, Value

Effect = Literal["read", "reversible", "consuming", "hazardous"]
"""What an operation does to the world: nothing; something that can be undone; something that cannot; or what may hurt.

In doubt of what came of it, only the first two are ever performed again without asking a person.
"""

RunState = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled", "unknown"]
"""How far a run of an operation has come; "unknown" is a state of its own, and never taken for failure."""

ENDED: tuple[RunState, ...] = ("succeeded", "failed", "cancelled", "unknown")
"""What a run does not come back from."""

ArgumentType = Literal["number", "integer", "string", "boolean", "array", "object"]


class Argument(Value, frozen=True):
    """What an operation takes or gives back, by its JSON type; numbers in `unit`, from `low` to `high` inclusive.

    An argument without `default` must be given. `schema` says more of an array or object, as JSON Schema.
    """

    name: str
    type: ArgumentType = "number"
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[Scalar, ...] = ()
    default: Scalar | None = None
    schema: dict[str, object] = {}
    description: str = ""

    def json_schema(self) -> dict[str, object]:
        """As JSON Schema (2020-12); `unit` is an annotation."""
        bounds = {"minimum": self.low, "maximum": self.high, "default": self.default}
        words = {"unit": self.unit, "description": self.description, "enum": list(self.choices)}
        made: dict[str, object] = {"type": self.type, **self.schema}
        made |= {key: value for key, value in bounds.items() if value is not None}
        return made | {key: word for key, word in words.items() if word}


class Operation(Value, frozen=True):
    """One thing that an instrument can be told to do, what it takes and gives back, and what it does to the world.

    `seconds` is how long it usually takes, None where nobody knows. Nobody having said what it does, it consumes.
    """

    name: str
    effect: Effect = "consuming"
    arguments: tuple[Argument, ...] = ()
    results: tuple[Argument, ...] = ()
    seconds: float | None = None
    description: str = ""

    @property
    def repeatable(self) -> bool:
        """Whether it may be performed again where nobody knows whether it was."""
        return self.effect in ("read", "reversible")

    def json_schema(self) -> dict[str, object]:
        """Of its arguments, as one object (JSON Schema 2020-12)."""
        return {
            "type": "object",
            "properties": {a.name: a.json_schema() for a in self.arguments},
            "required": [a.name for a in self.arguments if a.default is None],
            "additionalProperties": False,
        }


class Signal(Value, frozen=True):
    """A live value of an instrument, in `unit`; what it usually keeps within is from `low` to `high`."""

    name: str
    type: ArgumentType = "number"
    unit: str = ""
    low: float | None = None
    high: float | None = None
    description: str = ""


class InstrumentDescription(Value, frozen=True):
    """What an instrument says of itself. `slots` is how many runs it can have at once."""

    name: str
    protocol: str
    operations: tuple[Operation, ...] = ()
    signals: tuple[Signal, ...] = ()
    vendor: str = ""
    model: str = ""
    serial: str = ""
    version: str = ""
    slots: int = 1
    description: str = ""

    def operation(self, name: str) -> Operation | None:
        """The one of this name."""
        return next((o for o in self.operations if o.name == name), None)


class Run(Value, frozen=True):
    """One run of an operation as it stands. `progress` goes from 0 to 1, None where it is not told.

    `results` are there once it has succeeded; `cause` and `message` say why it has failed, or is unknown.
    `started` and `ended` are seconds since 1970 UTC by the instrument's clock or ours, 0 where unknown.
    """

    state: RunState
    progress: float | None = None
    message: str = ""
    results: dict[str, object] = {}
    cause: Cause = "instrument-fault"
    started: float = 0.0
    ended: float = 0.0


class Reading(Value, frozen=True):
    """A signal's value at a time (seconds since 1970 UTC), in the signal's unit; None where it cannot be read."""

    signal: str
    value: Scalar | None
    at: float


def check_arguments(
    operation: Operation, given: Mapping[str, object], convert: Callable[[str, str], float]
) -> tuple[dict[str, object], tuple[str, ...]]:
    """The arguments as the instrument takes them, and what is wrong with those given, each in a sentence.

    A text such as "0.5 mL" for a number is a quantity, which `convert(text, unit)` turns into the argument's unit
    (ValueError where it cannot). A bare number is in that unit already. Where anything is wrong, nothing may be sent.
    """
    taken, wrong = dict[str, object](), list[str]()
    known = {a.name: a for a in operation.arguments}
    for name in given:
        if name not in known:
            there = ", ".join(known) or "none"
            wrong.append(f"{operation.name} has no argument {name!r}; it has: {there}")
    for argument in operation.arguments:
        value = given.get(argument.name, argument.default)
        if value is None:
            wrong.append(f"{argument.name} is missing{f' (in {argument.unit})' if argument.unit else ''}")
            continue
        try:
            value = _typed(argument, value, convert)
        except ValueError as error:
            wrong.append(f"{argument.name}: {error}")
            continue
        wrong += [f"{argument.name}: {why}" for why in _outside(argument, value)]
        taken[argument.name] = value
    return taken, tuple(wrong)


def _typed(argument: Argument, value: object, convert: Callable[[str, str], float]) -> object:
    match argument.type:
        case "number" | "integer":
            if isinstance(value, str):
                value = convert(value, argument.unit)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{value!r} is not {_WORDS[argument.type]}")
            if argument.type == "integer":
                if value != int(value):
                    raise ValueError(f"{value:g} is not a whole number")
                return int(value)
            return float(value)
        case "string":
            wanted: type | tuple[type, ...] = str
        case "boolean":
            wanted = bool
        case "array":
            wanted = (list, tuple)
        case "object":
            wanted = dict
    if not isinstance(value, wanted):
        raise ValueError(f"{value!r} is not {_WORDS[argument.type]}")
    return value


_WORDS = {
    "number": "a number", "integer": "a whole number", "string": "a text", "boolean": "true or false",
    "array": "a list", "object": "a table",
}  # fmt: skip


def _outside(argument: Argument, value: object) -> Iterator[str]:
    unit = f" {argument.unit}" if argument.unit else ""
    if argument.choices and value not in argument.choices:
        yield f"{value!r} is none of {', '.join(map(str, argument.choices))}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if argument.low is not None and value < argument.low:
            yield f"{value:g}{unit} is below the lowest, {argument.low:g}{unit}"
        if argument.high is not None and value > argument.high:
            yield f"{value:g}{unit} is above the highest, {argument.high:g}{unit}"
