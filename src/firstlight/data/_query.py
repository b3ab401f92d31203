"""What is looked for, as people write it, and what earlier data tell a new campaign."""

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from msgspec.structs import replace

from firstlight.app import App
from firstlight.catalog.index import Index, Query, Range
from firstlight.catalog.warm import Earlier, earlier_trials
from firstlight.core import CampaignSpec

_MOST = 1_000
"""Datasets that one query may bring to a campaign."""


def read_query(
    text: Sequence[str] = (), where: Sequence[str] = (), ranges: Sequence[str] = (), since: str = "", until: str = ""
) -> Query:  # fmt: skip
    """A query of words, FACET=VALUE, VARIABLE=LOW..HIGH and dates. Raises ValueError saying how it is written."""
    return Query(
        text=" ".join(text), where=_where(where), ranges=tuple(map(_range, ranges)), since=_date(since),
        until=_date(until),
    )  # fmt: skip


def earlier(app: App, spec: CampaignSpec, texts: Sequence[str]) -> Earlier:
    """What datasets tell a campaign, in its units: each text is the id or name of one, or a query in one line ("films
    observable=yield temperature=300..400 K"). Raises ValueError where that is nothing, or is no query."""
    with app.library() as library:
        queries = [_one_line(library.index, text) for text in texts]
        found = [f for query in queries for f in library.index.search(query, _MOST, facets=()).found]
        return earlier_trials(library, found, spec, app.units.convert)


def _one_line(index: Index, text: str) -> Query:
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
