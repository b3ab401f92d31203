"""Columns of values whose type is found while they pass by, chunk by chunk, and then made into Arrow arrays."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import NamedTuple, cast

import msgspec
import numpy as np
from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader, Schema

from .._records import Role, Variable, VariableKind
from ._contents import CELLS
from ._names import Label
from ._plain import MISSING, Cells

_TIME = DataType.timestamp("us", tz="UTC")
_TYPES: dict[str, DataType] = {"int64": DataType.int64(), "float64": DataType.float64(), "bool": DataType.bool()}
_BOOLS = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}
_ISO = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?")
_ZONED = re.compile(r".*(?:Z|[+-]\d\d:?\d\d)").fullmatch
_CODE = re.compile(r"^[-+]?0\d", re.MULTILINE)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INT64 = 2**63

Values = Sequence[object]
Chunk = Sequence[Values]
"""Some rows of a table: for each column its values, None where there is none."""


class Column:
    """One column: what its values have in common, so far.

    With `text`, all values are strings without blanks around them, and are to be understood; without, they have
    types of their own, and of strings only times in ISO 8601 are understood. With `comma`, that is the decimal sign.
    """

    def __init__(self, *, text: bool, comma: bool = False) -> None:
        self.kind: VariableKind = ""
        self.missing, self.low, self.high = 0, math.inf, -math.inf
        self.zoneless = self.mixed = False
        self._text, self._comma = text, comma

    def see(self, values: Values) -> None:
        """Take some more values into account."""
        if isinstance(values, Cells):
            if self._saw(values):
                return
            values = values.texts
        there = self._there(values)
        self.missing += len(values) - len(there)
        if not there:
            return
        for kind in _after(self.kind):
            with suppress(ValueError, OverflowError):
                parsed = self._parse(kind, there)
                if kind == "int64" and self._text and _CODE.search("\n".join(map(str, there))):
                    break  # "0012" is the name of a sample, and not twelve.
                self._measure(kind, parsed)
                self.mixed |= kind == "string" and (self.kind not in ("", "string") or len(set(map(type, there))) > 1)
                self.kind = kind
                return
        self.mixed |= self.kind not in ("", "string")
        self.kind = "string"

    def array(self, values: Values) -> Array:
        """The values as an array of the type that all of them have. Raises ValueError where they have not."""
        kind = self.kind or "string"
        if isinstance(values, Cells):
            if (quick := self._quick(kind, values)) is not None:
                return quick
            values = values.texts
        there = self._there(values)
        if kind == "time" and self._text and (quick := _moments([None if _gone(v) else v for v in values])) is not None:
            return quick
        parsed = self._parse(kind, there)
        if kind == "float64" and len(there) == len(values):
            return Array.from_numpy(np.array(parsed, np.float64))
        if len(there) < len(values):
            left = iter(parsed)
            parsed = [None if _gone(v) else next(left) for v in values]
        if kind == "time":
            return Array(parsed, type=DataType.int64()).cast(_TIME)
        return Array(parsed, type=type_of(kind))

    def variable(self, label: Label, role: Role = "other") -> Variable:
        """What is known of the column once all its values were seen."""
        numeric = self.kind in ("int64", "float64") and self.low <= self.high
        return Variable(
            name=label.name, role=role, unit=label.unit, kind=self.kind or "string", called=label.called,
            missing=self.missing, low=self.low if numeric else None, high=self.high if numeric else None,
        )  # fmt: skip

    def _saw(self, cells: Cells) -> bool:
        """Take cells into account that are numbers or words, as `see` does. False where it is for `see` to say."""
        kind = self.kind
        if cells.missing < len(cells) and kind != "string":
            if (found := self._numeric(cells)) is None:
                return False
            kind = found
        self.missing += cells.missing
        self.mixed |= kind == "string" and self.kind not in ("", "string")
        self.kind = kind
        return True

    def _numeric(self, cells: Cells) -> VariableKind | None:
        """What cells, of which there are some, make of the column: numbers, whose ends are taken into account, or
        words; None where it may be something else.
        """
        for kind in _after(self.kind):
            if kind in ("int64", "float64") and (made := self._quick(kind, cells)) is not None:
                if kind == "int64" and cells.coded():
                    return "string"
                self.see_numbers(cells.numbers(made))
                return kind
        # What one of them is not, all of them are not.
        odd = cells.odd(_TYPES["float64"])
        return None if odd is None or not self._denied(odd) else "string"

    def _quick(self, kind: VariableKind, cells: Cells) -> Array | None:
        """The cells as an array, None where that is not for Rust to make."""
        if kind == "string":
            return cells.strings
        if kind == "bool" or (kind == "float64" and self._comma):
            return None
        made = cells.cast(type_of(kind))
        # Of words that are no numbers, "NAN" is a missing value, and "Nan" is a word.
        return None if made is None or (kind == "float64" and np.isnan(cells.numbers(made)).any()) else made

    def _denied(self, value: str) -> bool:
        """Whether a value has none of the types that the column may have but for text."""
        for kind in _after(self.kind):
            if kind != "string":
                with suppress(ValueError, OverflowError):
                    self._parse(kind, [value])
                    return False
        return True

    def _there(self, values: Values) -> Values:
        if self._text and MISSING.isdisjoint(values):
            return values
        return [v for v in values if not _gone(v)]

    def _parse(self, kind: VariableKind, there: Values) -> list[object]:
        if kind == "string":
            return [v if isinstance(v, str) else _as_text(v) for v in there]
        if kind == "time":
            return self._times(there)
        types = {str} if self._text else set(map(type, there))
        if kind == "bool":
            if self._text and _BOOLS.keys() >= set(there):
                return [_BOOLS[str(v)] for v in there]
            return list(_only(there, types == {bool}))
        if self._text:
            return _numbers(kind, cast("Sequence[str]", there), self._comma)
        if kind == "int64":
            return list(_within(_only(there, types == {int})))
        return [float(cast("float", v)) for v in _only(there, types <= {int, float})]

    def _times(self, there: Values) -> list[object]:
        made = list[object]()
        if self._text and _moments(there) is not None:
            self.zoneless |= not all(map(_ZONED, cast("Sequence[str]", there)))
            return made  # Of which only the type is asked: arrays of them are made in the same way.
        for value in there:
            if isinstance(value, str):
                if not _ISO.fullmatch(value):
                    raise ValueError(value)
                at = datetime.fromisoformat(value)
            elif isinstance(value, datetime):
                at = value
            elif isinstance(value, date):
                at = datetime(value.year, value.month, value.day)
            else:
                raise ValueError(value)
            if at.tzinfo is None:
                self.zoneless = True
                at = at.replace(tzinfo=UTC)
            made.append((at - _EPOCH) // _MICROSECOND)
        return made

    def see_numbers(self, numbers: "np.typing.NDArray[np.generic]") -> None:
        """Take numbers into account, of which those that are not finite are no ends, and NaN is none at all."""
        finite = numbers[np.isfinite(numbers)]
        self.missing += int(np.isnan(numbers).sum())
        if len(finite):
            low, high = finite.min(), finite.max()
            if low == 0 or high == 0:  # Which zero that is, of 0.0 and -0.0, depends on the processor: take the first.
                zero = finite[finite == 0][0]
                low, high = (zero if end == 0 else end for end in (low, high))
            self.measure(low.item(), high.item())

    def measure(self, low: float, high: float) -> None:
        """Take two ends into account."""
        self.low, self.high = min(self.low, low), max(self.high, high)

    def _measure(self, kind: VariableKind, parsed: list[object]) -> None:
        if kind in ("int64", "float64"):
            numbers = cast("list[float]", parsed)
            low, high = min(numbers), max(numbers)
            if not (math.isfinite(low) and math.isfinite(high)):
                finite = [n for n in numbers if math.isfinite(n)]
                low, high = min(finite, default=math.inf), max(finite, default=-math.inf)
            self.measure(low, high)


def type_of(kind: VariableKind) -> DataType:
    """The Arrow type of a column."""
    return _TIME if kind == "time" else _TYPES.get(kind, DataType.string())


def schema_of(variables: Iterable[Variable]) -> Schema:
    """The schema of a table of these columns, each with its unit."""
    return Schema([Field(v.name, type_of(v.kind), metadata={"unit": v.unit}) for v in variables])


class Table(NamedTuple):
    """A table that was seen from end to end, and can be read again."""

    variables: tuple[Variable, ...]
    rows: int
    batches: Callable[[], RecordBatchReader]


def table(
    labels: Sequence[Label], chunks: Callable[[], Iterator[Chunk]], notes: list[str], *, text: bool = False,
    comma: bool = False, kinds: Mapping[str, VariableKind] | None = None, roles: Mapping[str, Role] | None = None,
) -> Table:  # fmt: skip
    """Read all chunks once to find the types, ends and gaps of the columns; what is told is put into the notes.

    `chunks` starts anew with each call. `kinds` are types that are known, used where a column has no values.
    """
    columns = [Column(text=text, comma=comma) for _ in labels]
    rows = 0
    for chunk in chunks():
        rows += len(chunk[0]) if chunk else 0
        for column, values in zip(columns, chunk, strict=True):
            column.see(values)
    for label, column in zip(labels, columns, strict=True):
        column.kind = column.kind or (kinds or {}).get(label.name, "string")
        if column.zoneless and column.kind == "time":
            notes.append(f"the times in {label.name} have no zone: they are taken to be in UTC")
        if column.mixed:
            notes.append(f"column {label.name} mixes types: all its values are read as text")
    variables = tuple(
        column.variable(label, (roles or {}).get(label.name, "other"))
        for label, column in zip(labels, columns, strict=True)
    )
    schema = schema_of(variables)

    def read() -> Iterator[RecordBatch]:
        for chunk in chunks():
            arrays = [column.array(values) for column, values in zip(columns, chunk, strict=True)]
            yield RecordBatch.from_arrays(arrays, schema=schema)

    return Table(variables, rows, lambda: RecordBatchReader.from_batches(schema, read()))


def chunked(rows: Iterator[Sequence[object]], columns: int) -> Iterator[Chunk]:
    """Rows of equal length as chunks of columns."""
    at_once = max(1, CELLS // max(1, columns))
    while some := list(islice(rows, at_once)):
        yield list(zip(*some, strict=True))


def records(names: Sequence[str], every: Iterator[Mapping[str, object]], at_once: int = 5_000) -> Iterator[Chunk]:
    """Records, of which each may lack some columns, as chunks of columns."""
    while some := list(islice(every, at_once)):
        yield [[record.get(name) for record in some] for name in names]


def _after(kind: VariableKind) -> Sequence[VariableKind]:
    """The types that a column of this one may turn out to have, most special first."""
    match kind:
        case "":
            return ("int64", "float64", "time", "bool", "string")
        case "int64":
            return ("int64", "float64", "string")
        case "string":
            return ("string",)
        case _:
            return (kind, "string")


def _gone(value: object) -> bool:
    if isinstance(value, str):
        return value in MISSING
    return value is None or value != value


def _moments(texts: Values) -> Array | None:
    """Texts in RFC 3339 as timestamps, None where one of them is something else."""
    made = Array(texts, type=DataType.string()).cast(_TIME)
    return made if made.null_count == texts.count(None) else None


def _as_text(value: object) -> str:
    if isinstance(value, list | dict):
        return msgspec.json.encode(value).decode()
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _only(values: Values, right: bool) -> Values:
    if not right:
        raise ValueError("not all of one type")
    return values


def _within(values: Values) -> Values:
    numbers = cast("Sequence[int]", values)
    if min(numbers, default=0) < -_INT64 or max(numbers, default=0) >= _INT64:
        raise OverflowError("more than 64 bits")
    return values


def _numbers(kind: VariableKind, there: Sequence[str], comma: bool) -> list[object]:
    joined = "\n".join(there)
    if "_" in joined or not joined.isascii():
        raise ValueError("python would read 1_000 as a number, and digits of other scripts")
    if kind == "int64":
        return list(_within([int(v) for v in there]))
    if comma:
        if "." in joined:
            raise ValueError("a point among decimal commas")
        return [float(v.replace(",", ".")) for v in there]
    found = list(map(float, there))
    if math.isnan(sum(found)) and any(v != v for v in found):
        raise ValueError("not a number")
    return list[object](found)
