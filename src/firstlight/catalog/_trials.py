"""Every trial of every campaign as a record, so that it can be found."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from socket import gethostname
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from firstlight.core import CampaignSpec, Categorical, Row, Value

from ._records import Card, File, Record, Role, Variable, cited
from ._shelf import read_from
from ._table import Column
from .index import Index
from .store import write_file

_BATCH = 1_000


class Heading(Value, frozen=True):
    """What the rows of a campaign are, beside them: what it was asked, and which of its facilities only compute."""

    spec: CampaignSpec
    computing: tuple[str, ...] = ()


class Shelves:
    """The rows of all campaigns below a directory, a file each, and what they are."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def rows(self, campaign: str) -> Path:
        """The file of a campaign's rows."""
        return self.root / f"{quote(campaign, safe='')}.jsonl"

    def write_heading(self, heading: Heading) -> None:
        """Say what a campaign's rows are. Raises OSError."""
        content = msgspec.json.encode(heading, order="deterministic")
        write_file(self.rows(heading.spec.id).with_suffix(".json"), [content])

    def heading(self, campaign: str) -> Heading | None:
        """What a campaign's rows are, None where nobody has said."""
        try:
            return msgspec.json.decode(self.rows(campaign).with_suffix(".json").read_bytes(), type=Heading)
        except FileNotFoundError:
            return None

    def catch_up(self, index: Index) -> None:
        """Bring the index what has been kept since it last was.

        Trials are not brought one by one as they end: a campaign need not wait for an index that is only for looking.
        """
        for file in self.root.glob("*.jsonl"):
            # Several sites may share an index, and each has rows of its own.
            mark, size = f"{gethostname()}:{file.absolute()}", file.stat().st_size
            if (at := index.mark(mark)) >= size:
                continue
            heading = self.heading(unquote(file.stem))
            if heading is None:
                continue
            batch = list[Record]()
            for digest, row, end in read_from(file, at):
                batch.append(trial_record(heading, row, digest))
                if len(batch) == _BATCH:
                    index.add(batch, marks={mark: end})
                    batch = []
                at = end
            index.add(batch, marks={mark: at})


def is_synthetic(heading: Heading, row: Row) -> bool:
    """Whether a trial was computed: it has actions, and none of them was performed where something is measured."""
    return bool(row.spans) and all(span.facility in heading.computing for span in row.spans)


def trial_record(heading: Heading, row: Row, digest: str) -> Record:
    """A trial as a record: its point as run and what was observed are variables, words of it are tags."""
    spec, ran = heading.spec, row.ran
    variables, tags = list[Variable](), dict[str, str]()
    for parameter in spec.parameters:
        value = ran.get(parameter.name)
        unit = "" if isinstance(parameter, Categorical) else parameter.unit
        if isinstance(value, str):
            tags[parameter.name] = value
        number = float(value) if isinstance(value, int | float) else None
        variables.append(Variable(parameter.name, "parameter", unit, number, number))
    units = {o.name: o.unit for o in spec.observables} | {o.observable: o.unit for o in spec.goal.objectives}
    for name, seen in row.seen.items():
        unit = seen.unit or units.get(name, "")
        variables.append(Variable(name, "observable", unit, seen.value, seen.value))
    tags["outcome"] = row.failure.cause if row.failure else "rejected" if row.rejected else "succeeded"
    known = cited(row.source)
    return Record(
        id=f"{row.trial}@{digest.removeprefix('sha256:')[:12]}", name=row.trial, digest=digest, kind="trial",
        created=row.ended, rows=1, variables=tuple(variables), campaign=spec.id, tags=tags,
        facilities=tuple(dict.fromkeys(span.facility for span in row.spans)),
        instruments=tuple(dict.fromkeys(span.instrument for span in row.spans if span.instrument)),
        models=(row.decision.model,) if row.decision and row.decision.model else (), used=(known[0],) if known else (),
        synthetic=is_synthetic(heading, row),
    )  # fmt: skip


def dataset_record(about: Mapping[str, Any], table: Sequence[Column], rows: Sequence[Row]) -> Record:
    """The trials of a campaign as a record, from their description, their columns and themselves."""
    spans = [span for row in rows for span in row.spans]
    spec: Mapping[str, Any] = about["spec"]
    card = Card(title=about["title"], description=spec.get("description", ""), agreement=spec.get("agreement", ""))
    return Record(
        id="", name=about["campaign"], digest="", rows=len(rows), card=card,
        created=datetime.fromisoformat(about["created"]).timestamp(),
        variables=tuple(_variable(column) for column in table if column.role in _ROLES),
        campaign=about["campaign"], software=about["versions"], synthetic=bool(about.get("synthetic")),
        used=tuple(sorted({known[0] for row in rows if (known := cited(row.source))})),
        files=(File("trials.parquet", "", 0, "application/vnd.apache.parquet"),),
        facilities=tuple(sorted({span.facility for span in spans})),
        instruments=tuple(sorted({span.instrument for span in spans if span.instrument})),
        models=tuple(sorted({row.decision.model for row in rows if row.decision and row.decision.model})),
    )  # fmt: skip


_ROLES: Mapping[str, Role] = {"parameter": "parameter", "observable": "observable"}


def _variable(column: Column) -> Variable:
    numbers = [v for v in column.values if isinstance(v, int | float) and column.kind in ("int64", "float64")]
    low, high = (float(min(numbers)), float(max(numbers))) if numbers else (None, None)
    return Variable(
        column.name, _ROLES[column.role], column.unit, low, high, kind=column.kind,
        missing=sum(v is None for v in column.values),
    )  # fmt: skip
