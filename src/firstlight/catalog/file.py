"""The catalog of a directory: no server, one line a trial, one Parquet file a dataset."""

import asyncio
import hashlib
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec
from arro3.io import read_parquet

from firstlight.core import Campaign, CampaignSpec, Row, Unavailable

from ._export import describe, parquet, replace
from ._records import Card, Record, Role, Variable
from ._shelf import Line, Shelf, line
from ._table import Column, columns
from .index import Index

T = TypeVar("T")


class _Waiting(NamedTuple):
    """A row to be written, and who waits for it."""

    campaign: str
    text: Line
    loop: asyncio.AbstractEventLoop
    kept: asyncio.Future[str]


_Answer = tuple[asyncio.Future[str], str | Exception]


class FileCatalog:
    """Keeps rows in `root/rows/<campaign>.jsonl` and datasets in `root/datasets/<digest>/`.

    A row counts as ingested once it is on disk. The journal could rebuild it, but nothing would ask for
    that: a trial once recorded as ingested is never ingested again. Rows that arrive together share one
    sync, and one thread of the catalog's own does all writing, so that no instrument waits for a disk.

    A dataset is `trials.parquet` and `dataset.json`; its digest is that of the Parquet bytes, and its id
    is "<campaign>@<the first 12 digits of the digest>": the same rows make the same dataset. `versions`,
    where given, are those of the software that made the data, and part of the dataset. What is published
    is found through the index of the same root.
    """

    def __init__(self, root: str | Path, versions: Mapping[str, str] | None = None) -> None:
        self.root, self.versions = Path(root), dict(versions or {})
        self._shelves: dict[str, Shelf] = {}
        self._waiting: SimpleQueue[_Waiting] = SimpleQueue()
        self._sending: set[asyncio.AbstractEventLoop] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="catalog")

    async def ingest(self, campaign: Campaign, row: Row) -> str:
        """Raises ValueError where the trial is kept with other content, Unavailable where the disk refuses."""
        loop = asyncio.get_running_loop()
        kept: asyncio.Future[str] = loop.create_future()
        self._waiting.put(_Waiting(campaign.spec.id, line(row), loop, kept))
        if loop not in self._sending:
            # After all that the loop has to do at this moment, which may be more rows.
            self._sending.add(loop)
            loop.call_soon(self._send, loop)
        return await kept

    async def publish(self, campaign: Campaign) -> tuple[str, str, int]:
        """The rows kept so far as a dataset: id, digest, number of rows. Raises as `ingest` does."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._try, partial(self._publish, campaign.spec))

    def dataset(self, id: str) -> Path:
        """The Parquet file of a published dataset, with its description beside it. Raises LookupError."""
        campaign, _, digits = id.rpartition("@")
        found = [p for p in (self.root / "datasets").glob(f"{digits}*/trials.parquet")] if digits.isalnum() else []
        for path in found:
            if msgspec.json.decode(path.with_name("dataset.json").read_bytes())["id"] == id:
                return path
        raise LookupError(f"there is no dataset {id!r} of {campaign or 'any campaign'} in {self.root}")

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sending.discard(loop)
        self._thread.submit(self._write_waiting)

    def _write_waiting(self) -> None:
        """Write all rows that wait, not only those this call was made for: they share one sync a campaign."""
        batches: dict[str, list[_Waiting]] = {}
        with suppress(Empty):
            while True:
                waiting = self._waiting.get_nowait()
                batches.setdefault(waiting.campaign, []).append(waiting)
        answers: dict[asyncio.AbstractEventLoop, list[_Answer]] = {}
        for campaign, batch in batches.items():
            said: Sequence[str | Exception]
            try:
                said = self._try(partial(self._shelf(campaign).keep, [waiting.text for waiting in batch]))
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
                said = [error] * len(batch)
            for waiting, answer in zip(batch, said, strict=True):
                answers.setdefault(waiting.loop, []).append((waiting.kept, answer))
        for loop, mine in answers.items():
            # A loop that was closed meanwhile has nobody left to tell.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_tell, mine)

    def _publish(self, spec: CampaignSpec) -> tuple[str, str, int]:
        rows = self._shelf(spec.id).rows()
        table = columns(spec, rows)
        about = describe(spec, rows, table, self.versions)
        content = parquet(table, about)
        digits = hashlib.sha256(content).hexdigest()
        id, digest = f"{spec.id}@{digits[:12]}", f"sha256:{digits}"
        place = self.root / "datasets" / digits
        whole: dict[str, Any] = {"id": id, "digest": digest, **about}
        if not (place / "dataset.json").exists():
            replace(place / "trials.parquet", content)
            replace(place / "dataset.json", msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n")
        with closing(open_index(self.root)) as index:
            index.add([_record(whole, table, len(content))])
        return id, digest, len(rows)

    def _shelf(self, campaign: str) -> Shelf:
        if campaign not in self._shelves:
            self._shelves[campaign] = Shelf(self.root / "rows" / f"{quote(campaign, safe='')}.jsonl")
        return self._shelves[campaign]

    def _try(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except OSError as error:
            raise Unavailable(f"the catalog in {self.root} cannot be used: {error}") from error


def open_index(root: Path, convert: Callable[[float, str, str], float] | None = None) -> Index:
    """The index of a catalog's root; whoever opens it closes it. One that is not there yet is made of the datasets that
    are. Raises Unavailable."""
    file = root / "index.db"
    made = Index(file.with_name(f".index-{secrets.token_hex(6)}.db") if not file.exists() else file, convert)
    if made.file == file:
        return made
    try:
        with closing(made):
            records = [_read(place) for place in (root / "datasets").glob("*/dataset.json")]
            made.add(sorted(records, key=lambda r: (r.created, r.id)))
        with suppress(FileExistsError):  # Whoever was quicker has made the same.
            os.link(made.file, file)
    finally:
        made.file.unlink()
    return Index(file, convert)


def _read(description: Path) -> Record:
    """The record of a dataset that has been published, from its files."""
    parquet_ = description.with_name("trials.parquet")
    whole = msgspec.json.decode(description.read_bytes())
    data = read_parquet(parquet_).read_all()
    table = [
        Column(name=c["name"], kind=c["type"], values=list(data[c["name"]].to_pylist()), unit=c["unit"], role=c["role"])
        for c in whole["columns"] if c["role"] in ("parameter", "observable")
    ]  # fmt: skip
    return _record(whole, table, parquet_.stat().st_size)


def _record(whole: Mapping[str, Any], table: Sequence[Column], size: int) -> Record:
    """A dataset as it can be found, from its description and its columns."""
    roles: dict[str, Role] = {"parameter": "parameter", "observable": "observable"}
    variables = list[Variable]()
    for column in table:
        if column.role in roles:
            numbers = [v for v in column.values if isinstance(v, int | float)]
            low, high = (min(numbers), max(numbers)) if numbers else (None, None)
            variables.append(Variable(column.name, roles[column.role], column.unit, low, high))
    return Record(
        id=whole["id"], name=whole["campaign"], digest=whole["digest"], rows=whole["rows"], size=size,
        created=datetime.fromisoformat(whole["created"]).timestamp(), card=Card(title=whole["title"]),
        variables=tuple(variables), campaign=whole["campaign"], software=whole["versions"],
    )  # fmt: skip


def _tell(answers: Sequence[_Answer]) -> None:
    for kept, answer in answers:
        if kept.done():
            continue
        if isinstance(answer, Exception):
            kept.set_exception(answer)
        else:
            kept.set_result(answer)
