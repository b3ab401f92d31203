"""The catalog of a directory: no server, one line a trial, one Parquet file a dataset."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple, TypeVar
from urllib.parse import quote

import msgspec

from firstlight.core import Campaign, CampaignSpec, Row, Unavailable

from ._export import describe, parquet, replace
from ._shelf import Line, Shelf, line
from ._table import columns

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
    where given, are those of the software that made the data, and part of the dataset.
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
        if not (place / "dataset.json").exists():
            replace(place / "trials.parquet", content)
            whole = {"id": id, "digest": digest, **about}
            replace(place / "dataset.json", msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n")
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


def _tell(answers: Sequence[_Answer]) -> None:
    for kept, answer in answers:
        if kept.done():
            continue
        if isinstance(answer, Exception):
            kept.set_exception(answer)
        else:
            kept.set_result(answer)
