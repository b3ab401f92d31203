"""Strategies as they are written on a command line: `bayes`, `bayes{initial: 3}`, `cold=bayes{initial: 3}`."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from ._run import Contender

EXAMPLE = "bayes,cold=bayes{initial: 3},sobol"
_ONE = re.compile(r"(?:(?P<label>[^={}]+)=)?(?P<name>[A-Za-z0-9_.-]+)\s*(?P<options>\{.*\})?", re.DOTALL)


def contenders(text: str, read: Callable[[str], Mapping[str, Any]]) -> list[Contender]:
    """The strategies in a list with commas; `read` makes values of `{initial: 3}`. Raises ValueError."""
    found: dict[str, Contender] = {}
    for part in filter(None, map(str.strip, _parts(text))):
        match = _ONE.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is not a strategy: write it as in {EXAMPLE}")
        options = dict(read(match["options"])) if match["options"] and match["options"][1:-1].strip() else {}
        label = (match["label"] or part).strip()
        if label in found:
            raise ValueError(f"there are two strategies called {label}: name one of them, as in mine={match['name']}")
        found[label] = Contender(label=label, strategy=match["name"], options=options)
    return list(found.values())


def _parts(text: str) -> list[str]:
    """Cut at the commas that stand in no brackets."""
    parts, depth, start = [], 0, 0
    for i, letter in enumerate(text):
        depth += (letter in "{[") - (letter in "}]")
        if letter == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]
