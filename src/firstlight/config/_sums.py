"""Constraints written as text: "a + 2*b <= 10", "0.2 <= a + b <= 0.8", "a == 3*b"."""

import re
from typing import Literal, NamedTuple

Relation = Literal["<=", ">=", "=="]
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<name>[^\W\d]\w*|`[^`]+`)|(?P<mark><=|>=|==|[-+*/()<>=]))"
)
_TURNED: dict[Relation, Relation] = {"<=": ">=", ">=": "<=", "==": "=="}
MOST_CHARACTERS, DEEPEST = 2_000, 40


class Sum(NamedTuple):
    """A linear form: coefficients by name, and what stands alone."""

    terms: dict[str, float]
    alone: float

    def plus(self, other: "Sum", factor: float = 1.0) -> "Sum":
        terms = dict(self.terms)
        for name, k in other.terms.items():
            terms[name] = terms.get(name, 0.0) + factor * k
        return Sum(terms, self.alone + factor * other.alone)

    def times(self, factor: float) -> "Sum":
        return Sum({name: k * factor for name, k in self.terms.items()}, self.alone * factor)


class Relations(NamedTuple):
    terms: dict[str, float]
    relation: Relation
    bound: float


def parse_constraint(text: str) -> list[Relations]:
    """What the text asks for: one relation, or two where it is a chain. Raises ValueError, fit to show."""
    parser = _Parser(_tokens(text))
    sides, relations = [parser.sum()], list[Relation]()
    while (mark := parser.peek()) in ("<=", ">=", "==", "<", ">", "="):
        if mark in ("<", ">"):
            raise ValueError(f"{mark!r} cannot be kept exactly: write {mark}=")
        parser.take()
        relations.append("<=" if mark == "<=" else ">=" if mark == ">=" else "==")
        sides.append(parser.sum())
    if parser.peek():
        raise ValueError(f"{parser.peek()!r} is not expected there; names with blanks go in `backquotes`")
    if not relations:
        raise ValueError("it compares nothing: write <=, >= or ==")
    return [_moved(sides[i], relation, sides[i + 1]) for i, relation in enumerate(relations)]


def _moved(left: Sum, relation: Relation, right: Sum) -> Relations:
    """Names to the left, numbers to the right."""
    if not left.terms:
        left, right, relation = right, left, _TURNED[relation]
    whole = left.plus(right, -1.0)
    terms = {name: k for name, k in whole.terms.items() if k}
    if not terms:
        raise ValueError("no parameter is left in it")
    return Relations(terms, relation, 0.0 - whole.alone)


def _tokens(text: str) -> list[str]:
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"it is longer than {MOST_CHARACTERS} characters: write its terms as a table")
    found, at, text = list[str](), 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"{text[at:].strip()[:20]!r} is not part of a sum")
        found.append(match[0].strip())
        at = match.end()
    return found


class _Parser:
    """Recursive descent over sums, products with numbers, and parentheses."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.at, self.depth = tokens, 0, 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def sum(self) -> Sum:
        total = self.product()
        while self.peek() in ("+", "-"):
            sign = 1.0 if self.take() == "+" else -1.0
            total = total.plus(self.product(), sign)
        return total

    def product(self) -> Sum:
        found = self.factor()
        while self.peek() in ("*", "/"):
            mark, other = self.take(), self.factor()
            if mark == "/":
                if other.terms or not other.alone:
                    raise ValueError("it divides by a parameter or by 0: only linear constraints can be kept")
                found = found.times(1.0 / other.alone)
            elif found.terms and other.terms:
                raise ValueError("it multiplies parameters: only linear constraints can be kept")
            else:
                found = found.times(other.alone) if found.terms else other.times(found.alone)
        return found

    def factor(self) -> Sum:
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError("it is nested too deeply")
        try:
            token = self.take()
            if token in ("+", "-"):
                return self.factor().times(1.0 if token == "+" else -1.0)
            if token == "(":
                inside = self.sum()
                if self.take() != ")":
                    raise ValueError("a parenthesis is not closed")
                return inside
        finally:
            self.depth -= 1
        if not token:
            raise ValueError("it ends too early")
        if token[0].isdigit() or token[0] == ".":
            return Sum({}, float(token))
        if token[0] == "`" or token[0] == "_" or token[0].isalpha():
            return Sum({token.strip("`"): 1.0}, 0.0)
        raise ValueError(f"{token!r} is not expected there")
