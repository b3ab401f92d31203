"""A page about one dataset: what it is, what is in it, how good it is, where it comes from and what was made of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from firstlight import core

from . import _plots
from ._shell import Figures, document, esc, note, rows_table, section, table
from ._words import number
from ._write import plotly

_FIGURES = 24
_BARS = 30
_WIDE, _HIGH, _GAP, _STEP = 250, 46, 90, 62


class Column(core.Value, frozen=True):
    """A column: its values in order (None where there is none), what they are, and what is to be said of it.

    One that is not `described` is not among the variables: it is there for whoever looks at rows.
    """

    name: str
    values: tuple[Any, ...]
    unit: str = ""
    role: Literal["parameter", "observable", "other"] = "other"
    low: float | None = None
    high: float | None = None
    missing: int = 0
    said: str = ""
    described: bool = True


class Node(core.Value, frozen=True):
    """Something in the lineage: `level` 0 is the dataset, below it what it is made from, above what is made of it."""

    id: str
    level: int
    kind: str = "dataset"
    note: str = ""


class Dataset(core.Value, frozen=True):
    """What is shown. `columns` may have some of the rows only: `rows` says how many there are.

    `facts` and `card` are lines of the page (name, text); `files` have a path, a digest, a size and a type; `edges`
    lead from what was used to what was made of it. `made` are those who made it: name, kind, version.
    """

    id: str
    title: str
    description: str = ""
    marks: tuple[str, ...] = ()
    rows: int = 0
    facts: tuple[tuple[str, str], ...] = ()
    card: tuple[tuple[str, str], ...] = ()
    columns: tuple[Column, ...] = ()
    files: tuple[tuple[str, str, str, str], ...] = ()
    quality: tuple[str, ...] | None = None
    nodes: tuple[Node, ...] = ()
    edges: tuple[tuple[str, str], ...] = ()
    made: tuple[tuple[str, str, str], ...] = ()


def write_dataset(dataset: Dataset, path: Path) -> None:
    """Write the page, which is one HTML file and needs nothing else. Raises MissingExtra, OSError."""
    library = plotly()
    figures = Figures()
    sections = [
        _values(dataset, figures), _schema(dataset), _card(dataset), _lineage(dataset), _quality(dataset),
        _files(dataset), _rows(dataset),
    ]  # fmt: skip
    data = {"figures": figures.all, "trials": _data(dataset)}
    text = document(dataset.title, _header(dataset), sections, "Written by Firstlight from its catalog.", data, library)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _header(dataset: Dataset) -> str:
    about = f'<p class="about">{esc(dataset.description)}</p>' if dataset.description else ""
    marks = "".join(f'<span class="state">{esc(mark)}</span> ' for mark in dataset.marks)
    tiles = "".join(f"<div><dt>{esc(name)}</dt><dd>{esc(text)}</dd></div>" for name, text in dataset.facts)
    return (
        f'<header><div><p class="kicker">Dataset · {esc(dataset.id)}</p><h1>{esc(dataset.title)}</h1>{about}{marks}'
        f'<dl class="tiles">{tiles}</dl></div></header>'
    )


def _values(dataset: Dataset, figures: Figures) -> str:
    """How the values of each variable are spread, and how the first observable goes with each parameter."""
    drawn = [c for c in dataset.columns if c.role != "other"] or [c for c in dataset.columns if c.described]
    spread = [figures.put(_spread(column)) for column in drawn[:_FIGURES] if _has_values(column)]
    target = next((c for c in dataset.columns if c.role == "observable" and _numeric(c)), None)
    against = [
        figures.put(_against(column, target))
        for column in dataset.columns
        if target is not None and column.role == "parameter" and _has_values(column)
    ][:_FIGURES]
    if not spread:
        return ""
    parts = [f'<div class="triple">{"".join(spread)}</div>']
    if against and target is not None:
        parts += [f"<h3>{esc(target.name)} and the parameters</h3>", f'<div class="triple">{"".join(against)}</div>']
    if dataset.columns and len(dataset.columns[0].values) < dataset.rows:
        shown = len(dataset.columns[0].values)
        parts.append(note(f"{shown:,} of {dataset.rows:,} rows, evenly spread, are drawn."))
    return section("Values", *parts)


def _spread(column: Column) -> _plots.Figure:
    values = [v for v in column.values if v is not None]
    axis = f"{column.name} ({column.unit})" if column.unit else column.name
    if _numeric(column):
        bars = {"type": "histogram", "x": [float(v) for v in values], "nbinsx": _BARS, "marker": {"color": "--own"}}
        return _plots.figure([bars], _plots.plain(axis), "rows", height=260, bargap=0.05)
    counts: dict[str, int] = {}
    for value in values:
        counts[str(value)] = counts.get(str(value), 0) + 1
    most = sorted(counts.items(), key=lambda item: -item[1])[:_BARS]
    bars = {
        "type": "bar", "x": [_plots.plain(word[:40]) for word, _ in most], "y": [count for _, count in most],
        "marker": {"color": "--own"},
    }  # fmt: skip
    return _plots.figure([bars], _plots.plain(axis), "rows", height=260)


def _against(column: Column, target: Column) -> _plots.Figure:
    pairs = [(x, y) for x, y in zip(column.values, target.values, strict=True) if x is not None and y is not None]
    pairs = [pairs[i] for i in _plots.every(len(pairs))]
    marks = {
        "type": "scattergl", "mode": "markers", "marker": {"color": "--own-soft", "size": 6},
        "x": [x if _numeric(column) else _plots.plain(str(x)[:40]) for x, _ in pairs], "y": [y for _, y in pairs],
    }  # fmt: skip
    x = f"{column.name} ({column.unit})" if column.unit else column.name
    y = f"{target.name} ({target.unit})" if target.unit else target.name
    return _plots.figure([marks], _plots.plain(x), _plots.plain(y), height=280)


def _numeric(column: Column) -> bool:
    return any(isinstance(v, int | float) and not isinstance(v, bool) for v in column.values)


def _has_values(column: Column) -> bool:
    return any(v is not None for v in column.values)


def _schema(dataset: Dataset) -> str:
    if not dataset.columns:
        return ""
    head = ("variable", "role", "unit", "from", "to", "missing", "")
    rows = [
        (c.name, c.role, c.unit, *("" if end is None else number(end) for end in (c.low, c.high)),
         f"{c.missing:,}" if c.missing else "", c.said)
        for c in dataset.columns if c.described
    ]  # fmt: skip
    return section("Variables", table(head, rows))


def _card(dataset: Dataset) -> str:
    return section("Data card", table(("field", ""), dataset.card)) if dataset.card else ""


def _quality(dataset: Dataset) -> str:
    if dataset.quality is None:
        return ""
    said = "".join(f"<li>{esc(line)}</li>" for line in dataset.quality)
    return section("Quality", f"<ul>{said}</ul>" if said else note("Nothing was found wrong."))


def _files(dataset: Dataset) -> str:
    if not dataset.files:
        return ""
    return section("Files", table(("file", "digest", "size", "type"), dataset.files))


def _rows(dataset: Dataset) -> str:
    if not dataset.columns:
        return ""
    heads = [(f"{c.name} ({c.unit})" if c.unit else c.name, "n" if _numeric(c) else "") for c in dataset.columns]
    return section("Rows", rows_table(heads, "Filter rows"))


def _data(dataset: Dataset) -> Mapping[str, Any]:
    """The rows for the page's script."""
    count = len(dataset.columns[0].values) if dataset.columns else 0
    kept = _plots.every(count)
    rows = [[_cell(column.values[i]) for column in dataset.columns] for i in kept]
    return {"rows": rows, "failed": [], "kinds": ["n" if _numeric(c) else "" for c in dataset.columns]}


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value if value is None else value[:200]
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)[:200]


# ------------------------------------------------------------------ lineage


def _lineage(dataset: Dataset) -> str:
    if not dataset.nodes:
        return ""
    made = table(("who and what made it", "kind", "version"), dataset.made) if dataset.made else ""
    return section("Where it comes from, and what was made of it", _graph(dataset.nodes, dataset.edges), made)


def _graph(nodes: Sequence[Node], edges: Sequence[tuple[str, str]]) -> str:
    """What was used stands left of what was made of it, in columns by level."""
    levels = sorted({node.level for node in nodes})
    columns = {level: [node for node in nodes if node.level == level] for level in levels}
    tall = max(len(column) for column in columns.values())
    width, height = len(levels) * (_WIDE + _GAP) - _GAP + 4, tall * _STEP + 4
    at = dict[str, tuple[float, float]]()
    for i, level in enumerate(levels):
        shift = (tall - len(columns[level])) / 2
        for j, node in enumerate(columns[level]):
            at[node.id] = (2 + i * (_WIDE + _GAP), 2 + (j + shift) * _STEP)
    lines = "".join(_line(at[one], at[other]) for one, other in edges if one in at and other in at)
    boxes = "".join(_box(node, *at[node.id]) for node in nodes)
    return (
        f'<div class="scroll"><svg class="lineage" role="img" aria-label="Lineage" width="{width}" '
        f'height="{height:.0f}" viewBox="0 0 {width} {height:.0f}">{lines}{boxes}</svg></div>'
    )


def _line(one: tuple[float, float], other: tuple[float, float]) -> str:
    x, y, to, down = one[0] + _WIDE, one[1] + _HIGH / 2, other[0], other[1] + _HIGH / 2
    bend = (x + to) / 2
    return f'<path d="M{x:.0f} {y:.0f} C{bend:.0f} {y:.0f} {bend:.0f} {down:.0f} {to:.0f} {down:.0f}"/>'


def _box(node: Node, x: float, y: float) -> str:
    shown = node.id if len(node.id) <= 32 else f"{node.id[:30]}\u2026"
    below = ", ".join(part for part in (node.kind, node.note) if part)
    kind = "own" if node.level == 0 else "bad" if node.note.startswith("retracted") else ""
    return (
        f'<g class="{kind}"><title>{esc(node.id)}: {esc(below)}</title>'
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{_WIDE}" height="{_HIGH}" rx="7"/>'
        f'<text x="{x + 12:.0f}" y="{y + 20:.0f}">{esc(shown)}</text>'
        f'<text class="soft" x="{x + 12:.0f}" y="{y + 37:.0f}">{esc(below[:38])}</text></g>'
    )
