"""The catalog of a directory: no server, one line a trial, one Parquet file a dataset."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar
from urllib.parse import quote

import msgspec

from firstlight.core import Campaign, CampaignSpec, Row, Unavailable

from ._export import describe, parquet, replace
from ._shelf import Line, Shelf, line
from ._table import columns

T = TypeVar("T")


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
        self._waiting: SimpleQueue[tuple[str, Line, Future[str]]] = SimpleQueue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="catalog")

    async def ingest(self, campaign: Campaign, row: Row) -> str:
        """Raises ValueError where the trial is kept with other content, Unavailable where the disk refuses."""
        kept: Future[str] = Future()
        self._waiting.put((campaign.spec.id, line(row), kept))
        self._thread.submit(self._write_waiting)
        return await asyncio.wrap_future(kept)

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

    def _write_waiting(self) -> None:
        """Write all rows that wait, not only the one this call was made for: they share one sync a campaign."""
        batches: dict[str, list[tuple[Line, Future[str]]]] = {}
        with suppress(Empty):
            while True:
                campaign, text, kept = self._waiting.get_nowait()
                if kept.set_running_or_notify_cancel():
                    batches.setdefault(campaign, []).append((text, kept))
        for campaign, batch in batches.items():
            said: Sequence[str | Exception]
            try:
                said = self._try(partial(self._shelf(campaign).keep, [text for text, _ in batch]))
            except (Unavailable, ValueError) as error:
                said = [error] * len(batch)
            for (_, kept), answer in zip(batch, said, strict=True):
                if isinstance(answer, Exception):
                    kept.set_exception(answer)
                else:
                    kept.set_result(answer)

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
