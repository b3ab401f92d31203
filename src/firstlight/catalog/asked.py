"""What is looked for, as people write it."""

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from msgspec.structs import replace

from .index import Index, Query, Range


def read_query(
    text: Sequence[str] = (), where: Sequence[str] = (), ranges: Sequence[str] = (), since: str = "", until: str = ""
) -> Query:  # fmt: skip
    """A query of words, FACET=VALUE, VARIABLE=LOW..HIGH and dates. Raises ValueError saying how it is written."""
    return Query(
        text=" ".join(text), where=_where(where), ranges=tuple(map(_range, ranges)), since=_date(since),
        until=_date(until),
    )  # fmt: skip


def one_line(index: Index, text: str) -> Query:
    """What one line asks for: the id or the name of a dataset, or a query ("films observable=yield").

    Raises ValueError saying how it is written.
    """
    with suppress(LookupError):
        id = index.get(text.strip()).record.id
        return Query(ids=(id,), where={"kind": ("dataset",)}, every=True)
    try:
        said = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}; close what is quoted") from error
    ranges = [word for word in said if "=" in word and ".." in word]
    facets = [word for word in said if "=" in word and word not in ranges]
    query = read_query([word for word in said if "=" not in word], facets, ranges)
    return replace(query, where=query.where | {"kind": ("dataset",)})


def _where(given: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found = dict[str, tuple[str, ...]]()
    for text in given:
        facet, is_there, value = text.partition("=")
        if not is_there or not facet.strip() or not value.strip():
            raise ValueError(f"{text!r} is not FACET=VALUE; write it as observable=yield")
        found[facet.strip()] = (*found.get(facet.strip(), ()), value.strip())
    return found


def _range(text: str) -> Range:
    name, _, ends = text.partition("=")
    number = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
    read = re.fullmatch(rf"\s*({number})?\s*\.\.\s*({number})?\s*(.*)", ends.strip())
    if not name.strip() or read is None or read[1] is read[2] is None:
        raise ValueError(
            f'{text!r} is not VARIABLE=LOW..HIGH; write it as "temperature=300..400 K" (an end may be left out)'
        )
    low, high = (None if end is None else float(end) for end in (read[1], read[2]))
    if low is not None and high is not None and low > high:
        raise ValueError(f"{text!r}: nothing is from {low:g} to {high:g}; the lower end comes first")
    return Range(name.strip(), low, high, read[3].strip())


def _date(text: str) -> float | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise ValueError(f"{text!r} is no date; write it as 2026-11-26") from error
