"""Tables as examples: which columns are asked for, which may answer, and what must stay together."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstlight.core import Value

from ._family import Examples, Item
from ._options import nearest
from ._parquet import read_columns

Cell = float | str | None
FEW_GROUPS = 8
"""With fewer campaigns than this a split by campaign would judge by one or two of them: rows are split instead."""
MOST_WORDS = 64
"""A column with more different words than this names things rather than kinds of things."""
_TELLING = (".sigma", ".unit", ".all", ".as_run")
_OF_TRIALS = frozenset(
    ["trial", "source", "cost", "proposed", "started", "ended", "failed", "cause", "message", "rejected", "assets"]
)


class TableOptions(Value, frozen=True):
    """What is learned from what, and by how large a network.

    `target`: the column or columns to predict (the objective of a campaign, where there is one). `inputs`: the columns
    to predict from (a campaign's parameters; else all numbers and kinds that do not give the target away). `only` keeps
    rows that have these values. `group`: a column whose rows are never torn apart; by default campaigns, where there
    are at least eight, else rows with the same inputs. `log`: inputs that are felt by their logarithm. `finetune`, with
    a parent: "all" goes on training all of it, "correction" freezes it and learns what must be added to what it says.
    """

    target: str | tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    only: dict[str, float | str] = {}
    group: str = ""
    log: tuple[str, ...] = ()
    members: int = 5
    width: int = 64
    depth: int = 2
    finetune: str = ""

    def __post_init__(self) -> None:
        for name in ("members", "width", "depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.finetune not in ("", "all", "correction"):
            raise ValueError(f"finetune must be 'all' or 'correction', not {self.finetune!r}")

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns to predict, as a tuple; () where none is named."""
        return (self.target,) if isinstance(self.target, str) else self.target


@dataclass(frozen=True)
class Sheet:
    """What the columns of all rows are: which are predicted, from which (and if they are words), and in what units."""

    targets: tuple[str, ...]
    inputs: tuple[str, ...]
    words: frozenset[str]
    units: Mapping[str, str]
    log: frozenset[str]


@dataclass(frozen=True, slots=True)
class Line:
    """One row: its cells by column (inputs, then targets), and the sheet that it stands on."""

    cells: tuple[Cell, ...]
    sheet: Sheet


@dataclass
class _Table:
    """A file as it was read: columns by name, units, roles, and what a campaign says of it."""

    item: Item
    columns: dict[str, list[Any]]
    units: dict[str, str]
    roles: dict[str, str]
    spec: Mapping[str, Any]


def read_tables(options: TableOptions, items: Sequence[Item], files: Sequence[Path]) -> Examples:
    """The rows of all tables among the files, in an order that depends on their content alone.

    Rows that failed, that a person rejected, or that have none of the targets are left out. Raises ValueError saying
    which file, or which column, is wrong.
    """
    found = (_table(item, path) for item, path in zip(items, files, strict=True))
    tables = [t for t in found if t is not None]
    if not tables:
        raise ValueError(f"there is no Parquet table among {', '.join(i.path for i in items) or 'no files'}")
    sheet = _sheet(options, tables)
    rows = sorted(row for table in tables for row in _rows(options, sheet, table))
    if not rows:
        raise ValueError(
            f"no row of {', '.join(t.item.path for t in tables)} has a value of {', '.join(sheet.targets)}"
        )
    campaigns = {campaign for _, _, campaign, _ in rows}
    by_campaign = len(campaigns) >= FEW_GROUPS
    groups = [own or (campaign if by_campaign else asked) for _, own, campaign, (asked, _) in rows]
    return Examples([Line(row[3][1], sheet) for row in rows], groups, [row[0] for row in rows])


def _table(item: Item, path: Path) -> _Table | None:
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(max(path.stat().st_size - 4, 0))
        tail = file.read(4)
    if head != b"PAR1" or tail != b"PAR1":
        if item.path.endswith(".parquet") or head == b"PAR1":
            raise ValueError(f"{item.dataset}, {item.path}: it is no whole Parquet file")
        return None
    columns, schema = read_columns(path, f"{item.dataset}, {item.path}")
    said = {c.name: c for c in item.columns}
    spec = json.loads(schema.metadata_str.get("firstlight", "{}")).get("spec") or {}
    return _Table(
        item, columns,
        {n: schema.field(n).metadata_str.get("unit") or (said[n].unit if n in said else "") for n in columns},
        {n: said[n].role for n in columns if n in said}, spec,
    )  # fmt: skip


def _sheet(options: TableOptions, tables: Sequence[_Table]) -> Sheet:
    shared = [n for n in tables[0].columns if all(n in t.columns for t in tables)]
    targets = options.targets or _objective(tables)
    inputs = options.inputs or _asked(options, tables, shared, targets)
    for name in (*targets, *inputs, *options.only, *filter(None, [options.group]), *options.log):
        for table in tables:
            if name not in table.columns:
                hint = nearest(name, table.columns, 20)
                raise ValueError(f"{table.item.dataset}, {table.item.path}: there is no column {name!r}; {hint}")
    for name in inputs:
        if name in targets or any(name == f"{t}{end}" for t in targets for end in _TELLING):
            raise ValueError(f"inputs: {name!r} gives away what is to be predicted")
    units = {}
    for name in (*targets, *inputs):
        different = {t.units[name] for t in tables}
        if len(different) > 1:
            raise ValueError(
                f"{name!r} is in {' and in '.join(u or 'no unit' for u in sorted(different))}: convert it first"
            )
        units[name] = different.pop()
    words = frozenset(n for n in inputs if any(isinstance(v, str) for t in tables for v in t.columns[n]))
    for name in words:
        if len({v for t in tables for v in t.columns[name]}) > MOST_WORDS:
            raise ValueError(f"inputs: {name!r} has more than {MOST_WORDS} different words")
    told = {p["name"] for t in tables for p in t.spec.get("parameters", ()) if p.get("scale") == "log"}
    log = frozenset(options.log or (told & set(inputs))) - words
    if strange := set(options.log) - set(inputs) | set(options.log) & words:
        raise ValueError(f"log: {', '.join(sorted(strange))} is no input that is a number")
    return Sheet(tuple(targets), tuple(inputs), words, units, log)


def _objective(tables: Sequence[_Table]) -> tuple[str, ...]:
    """What the campaigns are after, or the only observable."""
    wanted = {o["observable"] for t in tables for o in t.spec.get("goal", {}).get("objectives", ())}
    wanted = wanted or {n for t in tables for n, role in t.roles.items() if role in ("observable", "target")}
    if len(wanted) != 1:
        there = ", ".join(sorted(wanted)) or "nothing says what was observed"
        raise ValueError(f"target: say which column is to be predicted ({there})")
    return tuple(wanted)


def _asked(
    options: TableOptions, tables: Sequence[_Table], shared: Sequence[str], targets: Sequence[str]
) -> tuple[str, ...]:
    """The columns that a prediction is made from, where nobody has said."""
    parameters = {p["name"] for t in tables for p in t.spec.get("parameters", ())}
    parameters = parameters or {n for t in tables for n, role in t.roles.items() if role == "parameter"}
    if parameters:
        return tuple(n for n in shared if n in parameters and n not in targets)
    out = {*targets, *options.only, options.group}
    # Only what was exported from a campaign has columns of trials: elsewhere `cost` may be a quantity like any other.
    exported = any("trial" in t.columns and "failed" in t.columns for t in tables)
    chosen = [
        n for n in shared
        if n not in out and not n.endswith(_TELLING) and not (exported and n in _OF_TRIALS) and _fit(tables, n)
    ]  # fmt: skip
    if not chosen:
        raise ValueError("inputs: there is no column of numbers or kinds to predict from")
    return tuple(chosen)


def _fit(tables: Sequence[_Table], name: str) -> bool:
    values = {v for t in tables for v in t.columns[name] if v is not None and isinstance(v, int | float | str)}
    words = [v for v in values if isinstance(v, str)]
    return bool(values) and (not words or (len(words) == len(values) and len(words) <= MOST_WORDS))


def _rows(
    options: TableOptions, sheet: Sheet, table: _Table
) -> Iterator[tuple[str, str, str, tuple[str, tuple[Cell, ...]]]]:
    """Key, own group, campaign, and (digest of the inputs, cells) of every row that is of use."""
    columns, count = table.columns, len(next(iter(table.columns.values()), []))
    campaign = str(table.spec.get("id") or table.item.group or table.item.dataset)
    for i in range(count):
        row = {name: column[i] for name, column in columns.items()}
        if row.get("rejected") or row.get("failed") is True:
            continue
        if any(row[name] != value for name, value in options.only.items()):
            continue
        asked = tuple(_cell(sheet, name, _as_run(row, name), table) for name in sheet.inputs)
        answers = tuple(_cell(sheet, name, row[name], table) for name in sheet.targets)
        if all(a is None for a in answers):
            continue
        own = f"{options.group}={row[options.group]}" if options.group else ""
        yield _digest((*asked, *answers)), own, campaign, (_digest(asked), (*asked, *answers))


def _as_run(row: Mapping[str, Any], name: str) -> Any:
    ran = row.get(f"{name}.as_run")
    return row[name] if ran is None else ran


def _cell(sheet: Sheet, name: str, value: Any, table: _Table) -> Cell:
    if value is None:
        return None
    if name in sheet.words:
        return str(value)
    if not isinstance(value, int | float):
        raise ValueError(f"{table.item.dataset}, {table.item.path}: {name!r} must be a number, not {value!r}")
    return float(value) if math.isfinite(value) else None


def _digest(cells: Sequence[Cell]) -> str:
    return hashlib.sha256(repr(tuple(cells)).encode()).hexdigest()[:32]
