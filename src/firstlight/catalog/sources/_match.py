"""Whether a record is what is looked for, as far as what is known of it tells."""

import re
import unicodedata
from collections.abc import Iterator
from math import inf

from ..index import Query, Range, Record


def unmet(record: Record, query: Query) -> bool:
    """Whether something of the query certainly does not hold of it."""
    return any(holds is False for _, holds in _verdicts(record, query))


def unknown(record: Record, query: Query) -> tuple[str, ...]:
    """The parts of the query of which nobody can tell whether they hold: "range x", "where licence", "date"."""
    return tuple(part for part, holds in _verdicts(record, query) if holds is None)


def words(text: str) -> list[str]:
    """The words of a text, without case and accents."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return re.findall(r"\w+", plain)


def _verdicts(record: Record, query: Query) -> Iterator[tuple[str, bool | None]]:
    if query.text:
        said = set(words(record.words()))
        # The last word may be a beginning, as in the index.
        *whole, last = words(query.text) or [""]
        yield "text", said.issuperset(whole) and any(word.startswith(last) for word in said | {""})
    terms = dict[str, set[str]]()
    for facet, value in record.terms():
        terms.setdefault(facet, set()).add(value)
    for facet, values in query.where.items():
        yield f"where {facet}", None if facet not in terms else not terms[facet].isdisjoint(values)
    yield from ((f"range {wanted.variable}", _within(record, wanted)) for wanted in query.ranges)
    if query.since is not None or query.until is not None:
        low, high = -inf if query.since is None else query.since, inf if query.until is None else query.until
        yield "date", None if not record.created else low <= record.created <= high


def _within(record: Record, wanted: Range) -> bool | None:
    """False only where the variable is known to have no value there; another unit is not compared."""
    for variable in record.variables:
        if variable.name != wanted.variable or variable.low is None or variable.high is None:
            continue
        if wanted.unit and variable.unit != wanted.unit:
            continue
        low, high = -inf if wanted.low is None else wanted.low, inf if wanted.high is None else wanted.high
        return variable.low <= high and variable.high >= low
    return None
