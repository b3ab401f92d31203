"""Earlier campaigns as examples: their points, what was read there, and what the archive as a whole has seen."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from firstlight.core import CampaignSpec, Categorical, Ordered, Parameter, Value

from ._embedding import WORD, Array, scattered, spelled
from ._family import Examples, Item
from ._parquet import read_columns

LEAST = 3
"""A campaign with fewer readings of an observable says next to nothing of it."""
SLACK = 0.05
"""By how much of the range learned from a number may lie outside what was seen, and still count as inside."""


Kind = Literal["gp", "transformer"]


class ExperimentOptions(Value, frozen=True):
    """What is learned, and by how large a network.

    `observable` names what to learn, "" all that was observed. `rows` is how many readings of a campaign are looked at
    together in one step. `kind` is "gp", a Gaussian process whose mean and kernel are learned, or "transformer", which
    learns in context; of this `depth` is the number of layers, and `synthetic` how much campaigns that are made up
    count in the loss beside those of the archive, from 0 to below 1.
    """

    kind: Kind = "gp"
    observable: str = ""
    width: int = 32
    rows: int = 48
    depth: int = 4
    synthetic: float = 0.3

    def __post_init__(self) -> None:
        if self.width < 4 or self.rows < LEAST:
            raise ValueError(f"width must be at least 4 and rows at least {LEAST}, not {self.width} and {self.rows}")
        if self.kind == "transformer" and (self.width % 4 or self.depth < 1 or not 0.0 <= self.synthetic < 1.0):
            raise ValueError(
                "of a transformer width must be a multiple of 4, depth at least 1 and synthetic from 0 to below 1, not "
                f"{self.width}, {self.depth} and {self.synthetic:g}"
            )


@dataclass(frozen=True)
class Told:
    """What one campaign read of one observable: `columns` are its points by parameter, (n,) values each."""

    parameters: tuple[Parameter, ...]
    observable: str
    unit: str
    columns: Mapping[str, Sequence[Any]]
    values: Array
    sigmas: Array


class Known(Value, frozen=True):
    """A parameter as the archive has it: the range that it is measured on, and the part that was tried.

    Numbers lie between `low` and `high` (their logarithms, where `log`), those tried between `least` and `most` of that
    range, 0 to 1. `words` are the values tried that are words, and `descriptors` mean and deviation of what describes
    them.
    """

    name: str
    unit: str = ""
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    least: float = 0.0
    most: float = 1.0
    words: tuple[str, ...] | None = None
    descriptors: dict[str, tuple[float, float]] = {}


class Level(Value, frozen=True):
    """What the archive read of an observable: the level and the spread of all readings, and in how many campaigns."""

    name: str
    unit: str
    level: float
    spread: float
    campaigns: int


def read_campaigns(options: ExperimentOptions, items: Sequence[Item], files: Sequence[Path]) -> Examples:
    """An example for every observable of every campaign among the files, in an order of their content.

    Trials that failed or that a person rejected are left out. Raises ValueError saying which file is wrong.
    """
    found: dict[str, tuple[Told, str]] = {}
    for item, path in zip(items, files, strict=True):
        for told, group in _of_file(options, item, path):
            found[_key(told)] = (told, group)
    if not found:
        what = f"of {options.observable!r} " if options.observable else ""
        raise ValueError(f"no campaign among {', '.join(i.path for i in items) or 'no files'} has {LEAST} readings "
                         f"{what}to learn from")  # fmt: skip
    keys = sorted(found)
    return Examples([found[k][0] for k in keys], [found[k][1] for k in keys], keys)


def _of_file(options: ExperimentOptions, item: Item, path: Path) -> Iterator[tuple[Told, str]]:
    where = f"{item.dataset}, {item.path}"
    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            raise ValueError(f"{where}: it is no Parquet file")
    columns, schema = read_columns(path, where)
    about = json.loads(schema.metadata_str.get("firstlight", "{}"))
    if not about.get("spec"):
        raise ValueError(f"{where}: it is no campaign's table: export one, which says what its parameters are")
    try:
        spec = msgspec.convert(about["spec"], CampaignSpec)
    except msgspec.ValidationError as error:
        raise ValueError(f"{where}: what it says of its campaign cannot be read ({error})") from error
    units = {name: schema.field(name).metadata_str.get("unit", "") for name in columns}
    roles = {c["name"]: c["role"] for c in about.get("columns", ())}
    kept = [i for i in range(len(next(iter(columns.values()), []))) if _counts(columns, i)]
    points = {p.name: _as_run(columns, roles, p.name, where) for p in spec.parameters}
    for name, role in roles.items():
        if role != "observable" or (options.observable and name != options.observable) or name not in columns:
            continue
        use = [i for i in kept if _number(columns[name][i]) and all(_fits(p, points[p.name][i])
                                                                   for p in spec.parameters)]  # fmt: skip
        if len(use) < LEAST:
            continue
        sigmas = columns.get(f"{name}.sigma") or [0.0] * len(columns[name])
        yield Told(
            spec.parameters, name, units[name], {n: [c[i] for i in use] for n, c in points.items()},
            np.array([float(columns[name][i]) for i in use]),
            np.array([float(sigmas[i]) if _number(sigmas[i]) else 0.0 for i in use]),
        ), spec.id  # fmt: skip


def _counts(columns: Mapping[str, Sequence[Any]], i: int) -> bool:
    failed = columns.get("failed")
    rejected = columns.get("rejected")
    return not (failed and failed[i]) and not (rejected and rejected[i])


def _as_run(columns: Mapping[str, list[Any]], roles: Mapping[str, str], name: str, where: str) -> list[Any]:
    own = name if roles.get(name) == "parameter" else f"{name} (parameter)"
    if own not in columns:
        raise ValueError(f"{where}: it has no column of the parameter {name!r}")
    ran = columns.get(f"{name}.as_run", [None] * len(columns[own]))
    return [asked if came is None else came for asked, came in zip(columns[own], ran, strict=True)]


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _fits(p: Parameter, value: object) -> bool:
    return value is not None if are_words(p) else _number(value)


def _key(told: Told) -> str:
    what = (
        [msgspec.json.encode(p).decode() for p in told.parameters], told.observable, told.unit,
        {n: list(c) for n, c in told.columns.items()}, told.values.tolist(),
    )  # fmt: skip
    return hashlib.sha256(repr(what).encode()).hexdigest()[:32]


# ------------------------------------------------------------------ what the archive has seen


def are_words(p: Parameter) -> bool:
    """Whether the values of a parameter are words."""
    return isinstance(p, Categorical) or (isinstance(p, Ordered) and any(isinstance(v, str) for v in p.values))


def seen_parameters(campaigns: Sequence[Told], before: Sequence[Known] = ()) -> tuple[Known, ...]:
    """Every parameter of some campaigns, on top of what a parent knows, whose scale stays.

    Raises ValueError where two campaigns have one name in two units, or for words and numbers.
    """
    own = {k.name: k for k in before}
    found = dict(own)
    for name in sorted({p.name for c in campaigns for p in c.parameters}):
        those = [(c, p) for c in campaigns for p in c.parameters if p.name == name]
        units = {getattr(p, "unit", "") for _, p in those} | ({own[name].unit} if name in own else set())
        if len(units) > 1:
            raise ValueError(f"{name!r} is in {' and in '.join(u or 'no unit' for u in sorted(units))}: convert it")
        kinds = {are_words(p) for _, p in those} | ({own[name].words is not None} if name in own else set())
        if len(kinds) > 1:
            raise ValueError(f"{name!r} has words in one campaign and numbers in another: rename one of them")
        make = _words if kinds.pop() else _numbers
        found[name] = make(name, units.pop(), those, own.get(name))
    return tuple(found[name] for name in sorted(found))


def _words(name: str, unit: str, those: Sequence[tuple[Told, Parameter]], own: Known | None) -> Known:
    tried = {str(v) for c, _ in those for v in c.columns[name]} | set(own.words or () if own else ())
    told: dict[str, dict[str, float]] = {}
    for _, p in those:
        told |= {w: d for w, d in getattr(p, "descriptors", {}).items()}
    keys = sorted({key for d in told.values() for key in d})
    values = {key: [d[key] for d in told.values() if key in d] for key in keys}
    descriptors = {key: (float(np.mean(v)), float(np.std(v)) or 1.0) for key, v in values.items()}
    return Known(name=name, unit=unit, words=tuple(sorted(tried)), descriptors=descriptors | (
        own.descriptors if own else {}))  # fmt: skip


def _numbers(name: str, unit: str, those: Sequence[tuple[Told, Parameter]], own: Known | None) -> Known:
    ends = [(float(min(p.values)), float(max(p.values))) if isinstance(p, Ordered) else (float(p.low), float(p.high))
            for _, p in those if not isinstance(p, Categorical)]  # fmt: skip
    low, high = min(a for a, _ in ends), max(b for _, b in ends)
    log = low > 0 and any(getattr(p, "scale", "") == "log" for _, p in those)
    if own is None:
        own = Known(name=name, unit=unit, low=math.log(low) if log else low, high=math.log(high) if log else high,
                    log=log, least=1.0, most=0.0)  # fmt: skip
    tried = on_scale(own, [v for c, _ in those for v in c.columns[name]])
    return msgspec.structs.replace(
        own, least=min(own.least, float(tried.min())), most=max(own.most, float(tried.max()))
    )


def seen_levels(campaigns: Sequence[Told], before: Sequence[Level] = ()) -> tuple[Level, ...]:
    """The level and spread of every observable of some campaigns; a parent's stay. Raises ValueError as above."""
    found = {level.name: level for level in before}
    for name in sorted({c.observable for c in campaigns}):
        those = [c for c in campaigns if c.observable == name]
        units = {c.unit for c in those} | ({found[name].unit} if name in found else set())
        if len(units) > 1:
            raise ValueError(f"{name!r} is in {' and in '.join(u or 'no unit' for u in sorted(units))}: convert it")
        if name in found:
            found[name] = msgspec.structs.replace(found[name], campaigns=found[name].campaigns + len(those))
            continue
        # Every campaign counts alike, however long it was.
        level = float(np.mean([c.values.mean() for c in those]))
        spread = float(np.sqrt(np.mean([((c.values - level) ** 2).mean() for c in those])))
        found[name] = Level(name=name, unit=units.pop(), level=level, spread=spread or 1.0, campaigns=len(those))
    return tuple(found[name] for name in sorted(found))


def on_scale(known: Known, values: Sequence[Any] | Array) -> Array:
    """Numbers (n,) on the range that the archive has them on: 0 to 1 inside it."""
    x = np.asarray(values, dtype=float)
    x = np.log(np.maximum(x, 1e-300)) if known.log else x
    return np.asarray((x - known.low) / ((known.high - known.low) or 1.0))


def of_words(known: Known, p: Parameter, values: Sequence[Any] | Array) -> Array:
    """Words as vectors (n, WORD): half by how they are spelled or described, and half by which they are.

    Of a word that was never tried there is only the first half: which it is tells nothing.
    """
    described = getattr(p, "descriptors", {})
    rows = {word: _of_word(known, word, described.get(word, {})) for word in {str(v) for v in values}}
    return np.array([rows[str(v)] for v in values]).reshape(len(values), WORD)


def _of_word(known: Known, word: str, described: Mapping[str, float]) -> Array:
    like = spelled(word, WORD)
    told = {key: x for key, x in described.items() if key in known.descriptors}
    if told:
        middle = known.descriptors
        parts = [(x - middle[key][0]) / middle[key][1] * scattered(key, WORD) for key, x in told.items()]
        like = np.asarray(sum(parts[1:], parts[0])) / math.sqrt(2.0 * len(told))
    own = scattered(word, WORD) if word in (known.words or ()) else np.zeros(WORD)
    return np.asarray((like + own) / 2.0)
