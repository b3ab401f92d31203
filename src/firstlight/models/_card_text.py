"""Markdown and YAML for cards: what people or other sites have called things cannot become markup."""

import re
from collections.abc import Mapping, Sequence

import msgspec

_MARKUP = str.maketrans({"<": "&lt;", ">": "&gt;", "|": "\\|", "`": "'", "[": "\\[", "]": "\\]"})


def text(said: str) -> str:
    """Words in one line, which Markdown shows as they are."""
    return re.sub(r"^([#+-]|\d+[.)])(?=\s)", r"\\\1", " ".join(said.split()).translate(_MARKUP))


def number(value: float | None) -> str:
    """A score; a dash where nobody has measured it."""
    return "-" if value is None else f"{value:.4g}"


def plural(count: int, one: str, many: str = "") -> str:
    """So many of something."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def size(count: int) -> str:
    """So many bytes."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; its cells are Markdown already."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def front_matter(told: Mapping[str, object]) -> str:
    """A document of YAML between its two lines of dashes. Every text is quoted, as JSON has it, which YAML reads."""
    return "\n".join(["---", *_lines(told, ""), "---"])


def _lines(value: object, indent: str) -> list[str]:
    if isinstance(value, Mapping) and value:
        found = list[str]()
        for name, inner in value.items():
            if isinstance(inner, Mapping | list) and inner:
                found += [f"{indent}{name}:", *_lines(inner, indent + "  ")]
            else:
                found.append(f"{indent}{name}: {_scalar(inner)}")
        return found
    if isinstance(value, list):
        found = []
        for inner in value:
            first, *rest = _lines(inner, indent + "  ")
            found += [f"{indent}- {first.lstrip()}", *rest]
        return found
    return [f"{indent}{_scalar(value)}"]


def _scalar(value: object) -> str:
    said = msgspec.json.encode(value).decode()
    if not isinstance(value, float):
        return said
    # YAML 1.1 takes 1e22 for a word: it wants a point before the exponent, and a sign in it.
    return re.sub(r"e(\d)", r"e+\1", re.sub(r"^(-?\d+)e", r"\1.0e", said))
