"""What a function or a command gave back, read as an outcome. Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from msgspec.structs import replace

from ...core import Cause, Failed, Failure, Measured, Observation, Outcome, Point, Scalar

RESERVED = ("as_run", "cost", "failure")
"""Keys of a mapping that are not observables."""


def interpret(value: object) -> Outcome:
    """An outcome from whatever was given back; never raises.

    A number (its observable is named "": whoever knows the goal fills it in), `[value, sigma]`, an `Observation`,
    a `Measured`, or a mapping of observables to any of these or to {"value", "sigma", "unit"}. A mapping may hold
    "as_run" (parameter values that came out otherwise) and "cost" (in the unit of the budget) besides; with
    "failure": {"cause", "message"} it tells of a failure, as a command can that cannot raise `Failed`.
    A `Failed` or `Failure` is the failure it tells of; anything else one with the cause "invalid-output".
    """
    try:
        return _outcome(value)
    except _Unfit as error:
        return Failure(cause="invalid-output", message=str(error))


class _Unfit(Exception):
    pass


def _outcome(value: object) -> Outcome:
    match value:
        case Failure():
            return value
        case Failed():
            return Failure(cause=value.cause, message=value.message)
        case Measured():
            seen = tuple(_observation(o.observable, o) for o in value.observations)
            return replace(value, observations=seen, as_run=_as_run(value.as_run), cost=_cost(value.cost))
        case Observation():
            return Measured(observations=(_observation(value.observable, value),))
        case Mapping():
            for name in value:
                if not isinstance(name, str) or not name:
                    raise _Unfit(f"observables are named by text, not by {name!r}")
            if "failure" in value:
                return _failure(value)
            return Measured(
                observations=tuple(_observation(n, v) for n, v in value.items() if n not in RESERVED),
                as_run=_as_run(value.get("as_run", {})),
                cost=_cost(value.get("cost", 0.0)),
            )
        case _:
            return Measured(observations=(_observation("", value),))


def _failure(value: Mapping[str, object]) -> Failure:
    told = value["failure"]
    if not isinstance(told, Mapping) or set(told) - {"cause", "message"} or told.get("cause") not in get_args(Cause):
        raise _Unfit(f"failure must be {{cause, message}} with one of {', '.join(get_args(Cause))}, not {_shown(told)}")
    return Failure(
        cause=told["cause"], message=str(told.get("message", "")),
        as_run=_as_run(value.get("as_run", {})), cost=_cost(value.get("cost", 0.0)),
    )  # fmt: skip


def _observation(name: str, value: object) -> Observation:
    what = f"observable {name!r}" if name else "the value given back"
    match value:
        case Observation():
            if value.observable not in ("", name):
                raise _Unfit(f"{what} was given an observation of {value.observable!r}")
            return _made(what, name, value.value, value.sigma, value.unit)
        case Mapping():
            if "value" not in value or set(value) - {"value", "sigma", "unit"}:
                raise _Unfit(f"{what} must be {{value, sigma, unit}}, not {_shown(value)}")
            return _made(what, name, value["value"], value.get("sigma", 0.0), value.get("unit", ""))
        case str() | bytes():
            raise _Unfit(f"{what} must be a number, not the text {_shown(value)}")
        case Sequence():
            if len(value) != 2:
                raise _Unfit(f"{what} must be a number or [value, sigma], not {_shown(value)}")
            return _made(what, name, value[0], value[1], "")
        case _:
            return _made(what, name, value, 0.0, "")


def _made(what: str, name: str, value: object, sigma: object, unit: object) -> Observation:
    if not isinstance(unit, str):
        raise _Unfit(f"the unit of {what} must be text, not {_shown(unit)}")
    spread = _number(f"sigma of {what}", sigma)
    if spread < 0:
        raise _Unfit(f"sigma of {what} must be zero or more, not {spread:g}")
    return Observation(observable=name, value=_number(what, value), sigma=spread, unit=unit)


def _number(what: str, value: Any) -> float:
    """A finite number, from Python's own or from a scalar of an array library."""
    is_truth = isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b"
    if value is None or is_truth or isinstance(value, str | bytes) or getattr(value, "ndim", 0):
        raise _Unfit(f"{what} must be a number, not {_shown(value)}")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise _Unfit(f"{what} must be a number, not {_shown(value)}") from None
    if not math.isfinite(number):
        raise _Unfit(f"{what} must be a finite number, not {number}")
    return number


def _cost(value: object) -> float:
    number = _number("cost", value)
    if number < 0:
        raise _Unfit(f"cost must be zero or more, not {number:g}")
    return number


def _as_run(value: object) -> Point:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise _Unfit(f"as_run must be a mapping of parameters to values, not {_shown(value)}")
    return {name: _scalar(name, given) for name, given in value.items()}


def _scalar(name: str, value: Any) -> Scalar:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    number = _number(f"as_run of {name!r}", value)
    return int(number) if getattr(getattr(value, "dtype", None), "kind", "") in ("i", "u") else number


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"
