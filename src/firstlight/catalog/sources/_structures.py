"""Crystals as OPTIMADE gives them, and their numbers as a table."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import msgspec
from arro3.core import Array, DataType, Field, RecordBatch, Schema, Table
from arro3.io import write_parquet

from .._records import VariableKind
from ..index import Variable
from ._optimade_filter import unit_of

_CHUNK = 20_000
"""Structures that are in memory at once."""
_CELL = (
    ("a", "angstrom"), ("b", "angstrom"), ("c", "angstrom"), ("alpha", "degree"), ("beta", "degree"),
    ("gamma", "degree"), ("volume", "angstrom^3"),
)  # fmt: skip
_TYPES: Mapping[str, VariableKind] = {"float": "float64", "integer": "int64", "boolean": "bool"}
_ARROW = {
    "float64": DataType.float64(), "int64": DataType.int64(), "bool": DataType.bool(), "string": DataType.string(),
    "time": DataType.int64(),
}  # fmt: skip
_TIME = DataType.timestamp("us", tz="UTC")


class Entry(msgspec.Struct):
    """One entry of OPTIMADE."""

    id: str
    attributes: dict[str, Any] = {}


class Column(msgspec.Struct):
    """A column that is to be, and the ends of its values so far."""

    name: str
    kind: VariableKind
    unit: str = ""
    called: str = ""
    description: str = ""
    low: float = math.inf
    high: float = -math.inf
    missing: int = 0

    def variable(self) -> Variable:
        seen = self.low <= self.high
        return Variable(
            name=self.name, unit=self.unit, kind=self.kind, missing=self.missing, description=self.description,
            low=self.low if seen else None, high=self.high if seen else None,
            role="observable" if self.name.startswith("_") else "other", called=self.called,
        )  # fmt: skip


class Tabled(msgspec.Struct):
    """Structures as a Parquet file, and what there is in it."""

    content: bytes
    rows: int
    variables: tuple[Variable, ...]
    elements: tuple[str, ...]
    created: float


def tabled(structures: Iterable[bytes], properties: Mapping[str, Mapping[str, Any]]) -> Tabled:
    """The numbers of structures: id, formula, elements, nsites, the cell (lengths in angstrom, angles in degrees) and
    the provider's own properties, lists and objects of them as JSON. Raises MsgspecError where one is no structure."""
    columns = [
        Column("id", "string"), Column("formula", "string", called="chemical_formula_reduced"),
        Column("elements", "string"), Column("nsites", "int64"),
        *(Column(name, "float64", unit, called="lattice_vectors") for name, unit in _CELL),
        Column("last_modified", "time"),
        *(Column(name, kind_of(about), unit_of(about), description=str(about.get("description") or ""))
          for name, about in properties.items()),
    ]  # fmt: skip
    # One key a field: the library writes several in a random order.
    schema = Schema(
        [Field(c.name, _TIME if c.kind == "time" else _ARROW[c.kind], metadata={"unit": c.unit}) for c in columns]
    )
    batches, rows, elements, created = list[RecordBatch](), 0, set[str](), 0.0
    entries = map(msgspec.json.Decoder(Entry).decode, structures)
    while chunk := list(islice(entries, _CHUNK)):
        lines = [_row(entry, properties) for entry in chunk]
        arrays = [_array(column, [line[n] for line in lines]) for n, column in enumerate(columns)]
        batches.append(RecordBatch.from_arrays(arrays, schema=schema))
        rows += len(chunk)
        listed = [entry.attributes.get("elements") for entry in chunk]
        elements.update(str(e) for some in listed if isinstance(some, list) for e in some)
        created = max([created, *(seconds_of(entry.attributes.get("last_modified")) or 0.0 for entry in chunk)])
    out = io.BytesIO()
    write_parquet(Table.from_batches(batches, schema=schema), out, compression="zstd(3)", created_by="firstlight")
    return Tabled(out.getvalue(), rows, tuple(c.variable() for c in columns), tuple(sorted(elements)), created)


def _row(entry: Entry, properties: Mapping[str, Mapping[str, Any]]) -> list[object]:
    said = entry.attributes
    elements = said.get("elements")
    joined = ",".join(map(str, elements)) if isinstance(elements, list) else None
    return [
        entry.id, said.get("chemical_formula_reduced"), joined,
        said.get("nsites"), *cell_of(said.get("lattice_vectors")).values(), seconds_of(said.get("last_modified")),
        *(said.get(name) for name in properties),
    ]  # fmt: skip


def _array(column: Column, values: Sequence[object]) -> Array:
    fitting = [_fitting(column.kind, value) for value in values]
    numbers = [v for v in fitting if isinstance(v, int | float) and column.kind in ("float64", "int64")]
    column.low, column.high = min([column.low, *numbers]), max([column.high, *numbers])
    column.missing += sum(v is None for v in fitting)
    array = Array(fitting, type=_ARROW[column.kind])
    return array.cast(_TIME) if column.kind == "time" else array


def _fitting(kind: VariableKind, value: object) -> Any:
    """A value as its column has it, None where it is of another kind."""
    if kind in ("float64", "int64", "time"):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        if kind == "time":
            return round(value * 1e6)
        if kind == "float64":
            return float(value)
        return int(value) if value == int(value) and abs(value) < 2**63 else None
    if kind == "bool":
        return value if isinstance(value, bool) else None
    return value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()


def kind_of(about: Mapping[str, Any]) -> VariableKind:
    """What values of a property are; lists and objects are text."""
    said = about.get("x-optimade-type") or about.get("type")
    return _TYPES.get(said, "string") if isinstance(said, str) else "string"


def cell_of(vectors: object) -> dict[tuple[str, str], float | None]:
    """Lengths (angstrom), angles (degrees) and volume (angstrom^3) of a cell, by name and unit; None without three
    vectors of three numbers."""
    try:
        a, b, c = ([float(x) for x in v] for v in vectors)  # type: ignore[attr-defined]
        lengths = [math.sqrt(sum(x * x for x in v)) for v in (a, b, c)]
        angles = [_angle(b, c), _angle(a, c), _angle(a, b)]
        volume = abs(
            a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0])
        )
        found: list[float | None] = [*lengths, *angles, volume]
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        found = [None] * len(_CELL)
    return dict(zip(_CELL, found, strict=True))


def _angle(u: Sequence[float], v: Sequence[float]) -> float:
    cosine = sum(x * y for x, y in zip(u, v, strict=True)) / (math.hypot(*u) * math.hypot(*v))
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def seconds_of(text: object) -> float | None:
    """Seconds since 1970 UTC of an ISO 8601 time; one without a zone is in UTC."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text.strip())
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
