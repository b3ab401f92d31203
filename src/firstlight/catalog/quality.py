"""How good data are, before somebody learns from them: gaps, outliers, repeats, conflicts, leakage between splits.

All is computed by DuckDB over Parquet files, out of core: the memory that it takes is bounded, whatever their size.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from firstlight.core import Value

from ._duck import Data, connected, finite, named, quoted, relation
from ._records import Variable

_EXACT = 10_000_000
"""Rows up to which distinct values and quartiles are exact, which takes them all in memory; then they are estimates."""
_EXAMPLES = 5
_OUTLYING = 3.5
_GRID = 1e6
_ALIKE = 0.9999
_MOST_COMPARED = 60
"""Numeric columns that are compared with each other."""
_MOST_SPLITS = 10
_SPLITS = ("split", "fold", "set", "subset", "partition")
_NAMING = ("id", "uuid", "trial", "row", "index", "idx", "key", "sample", "sample_id", "record", "name", "identifier")
_ORDER = {
    "train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "dev": 1, "test": 2, "testing": 2, "holdout": 2,
    "eval": 2,
}  # fmt: skip


class Examined(Value, frozen=True):
    """One column. Rows are counted from 0, over all files in their order.

    `missing` rows have no value, or NaN; `infinite` ones an infinite number. `distinct` counts the values that differ,
    and a `constant` column has one only. Of the finite numbers: `low`, `high`, `mean`, `sd` (with n - 1) and
    `quartiles` (25, 50 and 75 %, linearly between neighbours); None where there are none.

    An outlier has a modified z-score 0.6745 |x - median| / MAD beyond 3.5, with the median absolute deviation MAD
    (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993). Where MAD is 0, as more than half of the values are
    the same, the score is |x - median| / (1.2533 times the mean of |x - median|). Columns of two values have no
    outliers. `outlying` are the rows of those that lie farthest.
    """

    name: str
    missing: int
    distinct: int
    constant: bool
    infinite: int = 0
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    sd: float | None = None
    quartiles: tuple[float, float, float] | None = None
    outliers: int = 0
    outlying: tuple[int, ...] = ()


class Conflict(Value, frozen=True):
    """Rows with the same parameters whose observable differs, and by how much, in its standard deviations."""

    rows: tuple[int, ...]
    observable: str
    spread: float


class Leak(Value, frozen=True):
    """Rows of the split `into` whose inputs occur in the split `out_of`, too: how many, and which share they are.

    `rows` are a few of them; they are counted within the file where splits are files.
    """

    out_of: str
    into: str
    count: int
    share: float
    rows: tuple[int, ...]


class Hint(Value, frozen=True):
    """A column that determines another one: each of its values goes with one value of the other, and Pearson's
    |r| > 0.9999. Such a column may be the target in other words; it may also be a law of nature."""

    column: str
    target: str
    r: float


class Quality(Value, frozen=True):
    """What was found.

    `repeated` rows are the same as an earlier one in every column, but for those that name rows (id, trial ...) and
    for the split; `repeats` are the first rows of a few, each with its repeats. `conflicting` counts the groups of
    rows whose parameters are the same to a millionth of their range and whose observables differ by more than that
    of theirs; `conflicts` are those that differ most. `leaks` are between the splits, `hints` within columns.
    `exact` is false where distinct values and quartiles are estimates. `problems` are sentences for people, the worst
    first.
    """

    rows: int
    columns: tuple[Examined, ...]
    repeated: int = 0
    repeats: tuple[tuple[int, ...], ...] = ()
    conflicting: int = 0
    conflicts: tuple[Conflict, ...] = ()
    leaks: tuple[Leak, ...] = ()
    hints: tuple[Hint, ...] = ()
    exact: bool = True
    problems: tuple[str, ...] = ()


def examine(parquet: Path | Sequence[Path], variables: Sequence[Variable], splits: Mapping[str, Path] = {}) -> Quality:
    """Examine a table in one or several Parquet files of the same columns.

    `variables` say which columns are parameters and which observables. Splits are either files of their own in
    `splits` (by name: train, validation, test) or the values of a column that is called split, fold, set, subset or
    partition, of ten at most. What leaks are inputs: the parameters, or else all columns that are no observables;
    never the split, nor columns that name rows, nor such as hold lists.

    Raises ValueError where the files cannot be read, or lack columns that the variables name.
    """
    paths = [parquet] if isinstance(parquet, Path) else list(parquet)
    if not paths:
        raise ValueError("there is no file to examine")
    with connected() as (db, place):
        data = relation(db, place, "data", paths)
        lacking = [v.name for v in variables if v.kind != "array" and v.name not in data.types]
        if lacking:
            raise ValueError(f"{paths[0]} has no column {lacking[0]!r}, which the variables name")
        exact = data.rows <= _EXACT
        columns = _columns(db, data, exact)
        split = next((name for name in data.plain() if name.lower() in _SPLITS), "")
        roles = {v.name: v.role for v in variables}
        known = [name for name in data.plain() if name != split and name.lower() not in _NAMING]
        repeated, repeats = _repeats(db, data, known)
        conflicting, conflicts = _conflicts(db, data, roles, {c.name: c for c in columns})
        inputs = [n for n in known if roles.get(n) == "parameter"]
        inputs = inputs or [n for n in known if roles.get(n) != "observable"] or known
        if splits:
            parts = [relation(db, place, f"split{n}", [path]) for n, path in enumerate(splits.values())]
            leaks = _leaks(db, dict(zip(splits, parts, strict=True)), inputs)
        else:
            leaks = _leaks(db, _parts(db, data, split), inputs)
        hints = _hints(db, data, roles, columns)
    found = Quality(
        rows=data.rows, columns=tuple(columns), repeated=repeated, repeats=repeats, conflicting=conflicting,
        conflicts=conflicts, leaks=leaks, hints=hints, exact=exact,
    )  # fmt: skip
    return Quality(**{n: getattr(found, n) for n in found.__struct_fields__ if n != "problems"}, problems=_told(found))


def _columns(db: Any, data: Data, exact: bool) -> list[Examined]:
    """Each column by itself: three passes over the data for all of them, and one for each with outliers."""
    distinct = "count(DISTINCT {})" if exact else "approx_count_distinct({})"
    quantiles = "quantile_cont({}, [0.25, 0.5, 0.75])" if exact else "approx_quantile({}, [0.25, 0.5, 0.75])"
    numeric = set(data.numeric())
    asked = list[str]()
    for name in data.plain():
        asked += [f"count({data.there(name)})", distinct.format(data.there(name))]
        if name in numeric:
            x = finite(name)
            centred = f"{x} - (SELECT avg({x}) FROM {data.relation})"
            asked += [
                f"count({x})",
                f"min({x})",
                f"max({x})",
                f"avg({x})",
                f"stddev_samp({centred})",
                quantiles.format(x),
            ]
    said = iter(db.execute(f"SELECT {', '.join(asked)} FROM {data.relation}").fetchone() if asked else ())
    made = list[Examined]()
    for name in data.plain():
        there, different = next(said), next(said)
        one = Examined(name=name, missing=data.rows - there, distinct=different, constant=different == 1)
        if name in numeric:
            number, low, high, mean, sd, quartiles = (next(said) for _ in range(6))
            one = Examined(
                name=name, missing=data.rows - there, distinct=different, constant=different == 1,
                infinite=there - number, low=low, high=high, mean=mean, sd=sd,
                quartiles=tuple(quartiles) if number else None,
            )  # fmt: skip
        made.append(one)
    return _with_outliers(db, data, made)


def _with_outliers(db: Any, data: Data, columns: Sequence[Examined]) -> list[Examined]:
    tried = [c for c in columns if c.quartiles and c.distinct > 2]
    if not tried:
        return list(columns)
    away = {c.name: f"abs({finite(c.name)} - ({c.quartiles[1]!r}::DOUBLE))" for c in tried if c.quartiles}
    middle = "median({0})" if data.rows <= _EXACT else "approx_quantile({0}, 0.5)"
    asked = ", ".join(f"{middle.format(away[c.name])}, avg({away[c.name]})" for c in tried)
    said = iter(db.execute(f"SELECT {asked} FROM {data.relation}").fetchone())
    ends = dict[str, float]()
    for column in tried:
        mad, mean = next(said), next(said)
        scale = mad / 0.6745 if mad else mean * 1.2533
        if scale:
            ends[column.name] = _OUTLYING * scale
    asked = ", ".join(f"count(*) FILTER ({away[name]} > {end!r})" for name, end in ends.items())
    counts = dict(zip(ends, db.execute(f"SELECT {asked} FROM {data.relation}").fetchone() if ends else (), strict=True))
    made = list[Examined]()
    for column in columns:
        count = counts.get(column.name, 0)
        rows = _rows(db, data, f"{away[column.name]} > {ends[column.name]!r}", away[column.name]) if count else ()
        fields = {n: getattr(column, n) for n in column.__struct_fields__}
        made.append(Examined(**{**fields, "outliers": count, "outlying": rows}))
    return made


def _repeats(db: Any, data: Data, known: Sequence[str]) -> tuple[int, tuple[tuple[int, ...], ...]]:
    if not known:
        return 0, ()
    row, names = named(data.row), ", ".join(map(named, known))
    # Groups are found by a hash of the row first: few rows are then compared as a whole.
    hashed = f"SELECT hash({names}) h FROM {data.relation} GROUP BY h HAVING count(*) > 1"
    groups = f"SELECT count(*) n, list({row} ORDER BY {row})[:{_EXAMPLES}] r FROM {data.relation} " \
             f"WHERE hash({names}) IN ({hashed}) GROUP BY {names} HAVING count(*) > 1"  # fmt: skip
    repeated, some = db.execute(
        f"SELECT coalesce(sum(n - 1), 0), list(r ORDER BY r[1])[:{_EXAMPLES}] FROM ({groups})"
    ).fetchone()
    return int(repeated), tuple(tuple(rows) for rows in some or ())


def _conflicts(
    db: Any, data: Data, roles: Mapping[str, str], columns: Mapping[str, Examined]
) -> tuple[int, tuple[Conflict, ...]]:
    """Groups of rows on a grid of a millionth of each parameter's range, with observables that differ by more."""
    numeric = set(data.numeric())
    parameters = [n for n in data.plain() if roles.get(n) == "parameter"]
    observables = [n for n in numeric if roles.get(n) == "observable" and not columns[n].constant and columns[n].sd]
    if not parameters or not observables:
        return 0, ()
    cells = list[str]()
    for name in parameters:
        one = columns[name]
        span = (one.high or 0) - (one.low or 0) if name in numeric and one.low is not None else 0
        cells.append(f"round(({finite(name)} - {one.low!r}) / {span!r} * {_GRID})" if span else named(name))
    row = named(data.row)
    made, count = list[Conflict](), 0
    spreads = ", ".join(
        f"(max({finite(n)}) - min({finite(n)})) / {columns[n].sd!r} s{i}" for i, n in enumerate(observables)
    )
    least = [((columns[n].high or 0) - (columns[n].low or 0)) / _GRID / (columns[n].sd or 1) for n in observables]
    differs = " OR ".join(f"s{i} > {end!r}" for i, end in enumerate(least))
    worst = f"greatest({', '.join(f'coalesce(s{i}, 0)' for i in range(len(observables)))})"
    groups = (
        f"SELECT list({row} ORDER BY {row})[:{_EXAMPLES}] r, {spreads} FROM {data.relation} "
        f"GROUP BY {', '.join(cells)} HAVING count(*) > 1"
    )
    found = db.execute(
        f"SELECT *, count(*) OVER () FROM ({groups}) WHERE {differs} ORDER BY {worst} DESC, r LIMIT {_EXAMPLES}"
    ).fetchall()
    for rows, *spread, count in found:  # noqa: B007 - the last one is what is asked
        most = max(range(len(observables)), key=lambda i: spread[i] or 0)
        made.append(Conflict(rows=tuple(rows), observable=observables[most], spread=spread[most]))
    return count, tuple(made)


def _parts(db: Any, data: Data, split: str) -> dict[str, Data]:
    """The splits that a column names, as relations."""
    if not split:
        return {}
    names = [r[0] for r in db.execute(
        f"SELECT DISTINCT {named(split)}::VARCHAR FROM {data.relation} WHERE {named(split)} IS NOT NULL "
        f"LIMIT {_MOST_SPLITS + 1}"
    ).fetchall()]  # fmt: skip
    if not 2 <= len(names) <= _MOST_SPLITS:
        return {}
    made = {}
    for n, name in enumerate(sorted(names)):
        where = f"{named(split)}::VARCHAR = {quoted(name)}"
        db.execute(f"CREATE VIEW part{n} AS SELECT * FROM {data.relation} WHERE {where}")
        count = db.execute(f"SELECT count(*) FROM part{n}").fetchone()[0]
        made[name] = data._replace(relation=f"part{n}", rows=count)
    return made


def _leaks(db: Any, parts: Mapping[str, Data], inputs: Sequence[str]) -> tuple[Leak, ...]:
    """Every two splits: what of the later one (train, validation, test) occurs in the earlier one."""
    made = list[Leak]()
    for (one, earlier), (other, later) in combinations(
        sorted(parts.items(), key=lambda p: (_ORDER.get(p[0].lower(), 3), p[0])), 2
    ):
        for name, part in ((one, earlier), (other, later)):
            lacking = [column for column in inputs if column not in part.types]
            if lacking:
                raise ValueError(f"the split {name!r} has no column {lacking[0]!r}, which the data have")
        same = " AND ".join(f"a.{named(c)} IS NOT DISTINCT FROM b.{named(c)}" for c in inputs)
        row = named(later.row)
        count, rows = db.execute(
            f"SELECT count(*), list(b.{row} ORDER BY b.{row})[:{_EXAMPLES}] FROM {later.relation} b "
            f"WHERE EXISTS (SELECT 1 FROM {earlier.relation} a WHERE {same})"
        ).fetchone()
        if count:
            made.append(Leak(out_of=one, into=other, count=count, share=count / later.rows, rows=tuple(rows)))
    return tuple(sorted(made, key=lambda leak: -leak.share))


def _hints(db: Any, data: Data, roles: Mapping[str, str], columns: Sequence[Examined]) -> tuple[Hint, ...]:
    """Columns that determine an observable or, where none is known, any other column."""
    numbers = [c for c in columns if c.sd and c.mean is not None and c.distinct > 2][:_MOST_COMPARED]
    scaled = {c.name: f"({finite(c.name)} - ({c.mean!r})) / {c.sd!r}" for c in numbers}
    seen = {name for name, role in roles.items() if role == "observable"}
    pairs = [(a, b) for a, b in combinations(scaled, 2) if not seen or a in seen or b in seen]
    if not pairs:
        return ()
    asked = ", ".join(f"corr({scaled[a]}, {scaled[b]})" for a, b in pairs)
    made = list[Hint]()
    for (a, b), r in zip(pairs, db.execute(f"SELECT {asked} FROM {data.relation}").fetchone(), strict=True):
        if r is None or not abs(r) > _ALIKE:
            continue
        x, y = finite(a), finite(b)
        ways, of_a, of_b = db.execute(
            f"SELECT count(*), count(DISTINCT x), count(DISTINCT y) FROM (SELECT DISTINCT {x} x, {y} y FROM "
            f"{data.relation} WHERE {x} IS NOT NULL AND {y} IS NOT NULL)"
        ).fetchone()
        for column, target, values in ((a, b, of_a), (b, a, of_b)):
            if values == ways and (target in seen or not seen):
                made.append(Hint(column=column, target=target, r=r))
                break
    return tuple(made)


def _told(found: Quality) -> tuple[str, ...]:
    """The problems in words, the worst first."""
    rows = found.rows
    if not rows:
        return ("there are no rows",)
    said = [
        f"{leak.count:,} of the rows of {leak.into} ({leak.share:.1%}) occur in {leak.out_of}, too: whoever learns "
        f"from {leak.out_of} has seen them (row {leak.rows[0]}, for example)"
        for leak in found.leaks
    ]
    if found.conflicts:
        worst = found.conflicts[0]
        said.append(
            f"{found.conflicting:,} points occur with different observables: {worst.observable} differs by up to "
            f"{worst.spread:.2g} standard deviations (rows {_listed(worst.rows)}); replicates may, errors should not"
        )
    if found.repeated:
        often = "twice" if all(len(some) == 2 for some in found.repeats) else "several times"
        said.append(
            f"{found.repeated:,} of {rows:,} rows occur {often} (rows {_listed(found.repeats[0])}, for example)"
        )
    said += [
        f"{h.column} determines {h.target} (r = {h.r:.5f}): it may be the same in other words, so look before you "
        f"learn one from the other" for h in found.hints
    ]  # fmt: skip
    by_gaps = sorted((c for c in found.columns if c.missing), key=lambda c: -c.missing)
    said += [f"{c.name} is missing in {c.missing:,} of {rows:,} rows ({c.missing / rows:.1%})" for c in by_gaps]
    said += [f"{c.name} is infinite in {c.infinite:,} of {rows:,} rows" for c in found.columns if c.infinite]
    said += [f"{c.name} is the same in all rows" for c in found.columns if c.constant and rows > 1]
    outlying = sorted((c for c in found.columns if c.outliers), key=lambda c: -c.outliers)
    told = "{} has {:,} outliers among {:,} rows (row {} is the farthest)"
    return (*said, *(told.format(c.name, c.outliers, rows, c.outlying[0]) for c in outlying))


def _listed(rows: Sequence[int]) -> str:
    return f"{', '.join(map(str, rows[:-1]))} and {rows[-1]}" if len(rows) > 1 else str(rows[0])


def _rows(db: Any, data: Data, where: str, order: str) -> tuple[int, ...]:
    row = named(data.row)
    found = db.execute(
        f"SELECT {row} FROM {data.relation} WHERE {where} ORDER BY {order} DESC, {row} LIMIT {_EXAMPLES}"
    )
    return tuple(r[0] for r in found.fetchall())
