"""A campaign's trials as a file that other programs read."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, get_args

import msgspec
from arro3.core import Array, ChunkedArray, DataType, Field, Schema, Table
from arro3.io import write_parquet

from firstlight.core import CampaignSpec, Row

from ._table import Column, Kind, columns
from .store import write_file

Format = Literal["csv", "parquet", "json"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = DataType.timestamp("us", tz="UTC")
_TYPES: Mapping[Kind, DataType] = {
    "int64": DataType.int64(),
    "float64": DataType.float64(),
    "string": DataType.string(),
    "bool": DataType.bool(),
    "time": DataType.int64(),
}


def export(
    spec: CampaignSpec, rows: Sequence[Row], to: Format, path: Path, versions: Mapping[str, str] | None = None
) -> None:
    """Write the rows to `path`, which is replaced whole or not at all. Raises ValueError for an unknown format.

    csv: one header row of `name [unit]`, so that pandas.read_csv needs no options and no unit is lost;
    times in ISO 8601. json: what the data are, `units` by column, and `records`. parquet: typed columns,
    the unit in each field's metadata, and what the data are as JSON under the file's key "firstlight".
    """
    if to not in get_args(Format):
        raise ValueError(f"cannot export to {to!r}: use one of {', '.join(get_args(Format))}")
    table = columns(spec, rows)
    about = describe(spec, rows, table, versions or {})
    content = {"csv": _csv, "json": _json, "parquet": parquet}[to](table, about)
    write_file(Path(path), [content])


def describe(
    spec: CampaignSpec, rows: Sequence[Row], table: Sequence[Column], versions: Mapping[str, str]
) -> dict[str, object]:
    """What the data are. `created` is when the last trial in them ended: the same rows, the same description."""
    return {
        "campaign": spec.id,
        "title": spec.title,
        "rows": len(rows),
        "created": _iso(max((r.ended for r in rows), default=0.0)),
        "versions": dict(versions),
        "columns": [{"name": c.name, "type": c.kind, "unit": c.unit, "role": c.role} for c in table],
        "spec": msgspec.to_builtins(spec, order="deterministic"),
    }


def parquet(table: Sequence[Column], about: Mapping[str, object]) -> bytes:
    """The same bytes for the same content (and the same version of the Parquet library)."""
    arrays, fields = [], []
    for column in table:
        timed = column.kind == "time"
        values = [v if v is None else round(float(str(v)) * 1e6) for v in column.values] if timed else column.values
        array = Array(values, type=_TYPES[column.kind])
        arrays.append(ChunkedArray([array.cast(_TIME) if timed else array]))
        # One key a field and one in the file: the library writes several in a random order.
        fields.append(Field(column.name, _TIME if timed else array.type, metadata={"unit": column.unit}))
    out = io.BytesIO()
    write_parquet(
        Table.from_arrays(arrays, schema=Schema(fields)), out, compression="zstd(3)", created_by="firstlight",
        key_value_metadata={"firstlight": msgspec.json.encode(about).decode()},
    )  # fmt: skip
    return out.getvalue()


def _csv(table: Sequence[Column], about: Mapping[str, object]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([f"{c.name} [{c.unit}]" if c.unit else c.name for c in table])
    writer.writerows(zip(*([_plain(c.kind, v) for v in c.values] for c in table), strict=True))
    return out.getvalue().encode()


def _json(table: Sequence[Column], about: Mapping[str, object]) -> bytes:
    names = [c.name for c in table]
    rows = zip(*([_plain(c.kind, v) for v in c.values] for c in table), strict=True)
    content = {
        **about,
        "units": {c.name: c.unit for c in table if c.unit},
        "records": [dict(zip(names, row, strict=True)) for row in rows],
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n"


def _plain(kind: Kind, value: object) -> object:
    return _iso(value) if kind == "time" and isinstance(value, float) else value


def _iso(at: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, to the microsecond."""
    return (_EPOCH + timedelta(microseconds=round(at * 1e6))).isoformat(timespec="microseconds").replace("+00:00", "Z")
