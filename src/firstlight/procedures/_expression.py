"""Texts with sums in braces: "{200 - acid - base} uL"."""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping

from firstlight.core import Point, Scalar

_BRACES = re.compile(r"\{([^{}]*)\}")
_BINARY: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., float]] = {"min": min, "max": max, "abs": abs, "round": round}


class Template:
    """A text with sums of parameters in braces: + - * / ( ), numbers, min, max, abs, round."""

    def __init__(self, text: str) -> None:
        self.text = text
        if "{" in _BRACES.sub("", text) or "}" in _BRACES.sub("", text):
            raise ValueError(f"{text!r} has a brace without its other")

    def filled(self, point: Point, units: Mapping[str, str]) -> Scalar:
        """The text at a point; the value itself where one sum is all there is, without a unit.

        A lone parameter brings its unit along. What names no parameter alone is left as it stands. Raises ValueError.
        """
        whole = _BRACES.fullmatch(self.text)
        if whole is not None and not self._foreign(whole[1], point):
            name, found = whole[1].strip(), self._value(whole[1], point)
            unit = units.get(name, "")
            return f"{found!r} {unit}" if unit and isinstance(found, int | float) else found
        return _BRACES.sub(
            lambda m: m[0] if self._foreign(m[1], point) else _written(self._value(m[1], point)), self.text
        )

    def _foreign(self, inner: str, point: Point) -> bool:
        """Whether it is a name of something else than a parameter: "sample", "weigh.Mass"."""
        word = inner.strip()
        return word not in point and re.fullmatch(r"[A-Za-z_][\w-]*(\.\w+)?", word) is not None

    def _value(self, inner: str, point: Point) -> Scalar:
        word = inner.strip()
        if word in point:
            return point[word]
        try:
            found = _worked_out(ast.parse(word, mode="eval").body, point)
        except (SyntaxError, ZeroDivisionError, RecursionError, TypeError) as error:
            raise ValueError(f"{inner!r} cannot be worked out: {error}") from error
        if not math.isfinite(found):
            raise ValueError(f"{inner!r} comes to {found}")
        return found


def filled(value: object, point: Point, units: Mapping[str, str], step: str, key: str) -> object:
    """A setting of a step with every text in it filled in. Raises ValueError naming both."""
    if isinstance(value, str) and "{" in value:
        try:
            return Template(value).filled(point, units)
        except ValueError as error:
            raise ValueError(f"setting {key} of step {step}: {error}") from error
    if isinstance(value, list | tuple):
        return [filled(item, point, units, step, key) for item in value]
    if isinstance(value, dict):
        return {name: filled(item, point, units, step, key) for name, item in value.items()}
    return value


def _worked_out(node: ast.AST, point: Point) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.Name(id=name) if name in point:
            value = point[name]
            if not isinstance(value, int | float):
                raise ValueError(f"{name} is {value!r}, not a number")
            return value
        case ast.Name(id=name):
            raise ValueError(f"there is no parameter {name!r}; there are: {', '.join(point)}")
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_worked_out(inner, point)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_worked_out(left, point), _worked_out(right, point))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_worked_out(arg, point) for arg in args))
        case _:
            raise ValueError("a sum has numbers, parameters, + - * / ( ), min, max, abs and round")


def _written(value: Scalar) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)
