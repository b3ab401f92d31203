"""The catalog of a directory: no server, one line a trial, one Parquet file a dataset."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple, TypeVar

import msgspec

from firstlight.core import (
    BY_PERSON,
    Asset,
    Campaign,
    CampaignOpened,
    CampaignSpec,
    Entry,
    Row,
    RunStarted,
    Unavailable,
)

from ._export import describe, parquet
from ._records import File
from ._shelf import Line, Shelf, line
from ._table import columns
from ._trials import Heading, Shelves, dataset_record, is_synthetic
from .library import Library

T = TypeVar("T")


class _Waiting(NamedTuple):
    """A row to be written, and who waits for it."""

    spec: CampaignSpec
    text: Line
    loop: asyncio.AbstractEventLoop
    kept: asyncio.Future[str]


_Answer = tuple[asyncio.Future[str], str | Exception]


class FileCatalog:
    """Keeps rows in `root/rows/<campaign>.jsonl` and datasets in a library.

    A row counts as ingested once it is on disk. The journal could rebuild it, but nothing would ask for
    that: a trial once recorded as ingested is never ingested again. Rows that arrive together share one
    sync, and one thread of the catalog's own does all writing, so that no instrument waits for a disk.

    A dataset is `trials.parquet` and the assets of its trials; its id is "<campaign>@<the first 12 digits of the
    digest>": the same rows make the same dataset. `versions`, where given, are those of the software that made the
    data, and part of the dataset. `library` opens the library (by default that of the root), `computing` are the
    facilities that only compute: what comes from nowhere else is synthetic. `history` reads a campaign's journal, which
    has the people who took part and the software that ran. `trains` says of a campaign whether it trains a model: its
    one row is no data that anybody looks for.
    """

    def __init__(
        self, root: str | Path, versions: Mapping[str, str] | None = None,
        library: Callable[[], Library] | None = None, computing: Collection[str] = (),
        history: Callable[[str], AsyncIterator[Entry]] | None = None,
        trains: Callable[[CampaignSpec], bool] = lambda spec: False,
    ) -> None:  # fmt: skip
        self.root, self.versions = Path(root), dict(versions or {})
        self._library = library or partial(Library, self.root)
        self._computing, self._history, self._trains = tuple(computing), history, trains
        self._rows = Shelves(self.root / "rows")
        self._shelves: dict[str, Shelf] = {}
        self._waiting: SimpleQueue[_Waiting] = SimpleQueue()
        self._sending: set[asyncio.AbstractEventLoop] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="catalog")

    async def ingest(self, campaign: Campaign, row: Row) -> str:
        """Raises ValueError where the trial is kept with other content, Unavailable where the disk refuses."""
        loop = asyncio.get_running_loop()
        kept: asyncio.Future[str] = loop.create_future()
        self._waiting.put(_Waiting(campaign.spec, line(row), loop, kept))
        if loop not in self._sending:
            # After all that the loop has to do at this moment, which may be more rows.
            self._sending.add(loop)
            loop.call_soon(self._send, loop)
        return await kept

    async def publish(self, campaign: Campaign) -> tuple[str, str, int]:
        """The rows kept so far as a dataset: id, digest, number of rows. Raises as `ingest` does."""
        people, software = dict[str, None](), dict(self.versions)
        if self._history is not None:
            async for entry in self._history(campaign.spec.id):
                if isinstance(entry.fact, (CampaignOpened, *BY_PERSON)):
                    people[entry.by] = None
                elif isinstance(entry.fact, RunStarted):
                    software |= entry.fact.versions
        work = partial(self._publish, campaign, tuple(people), software)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._try, work)

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sending.discard(loop)
        self._thread.submit(self._write_waiting)

    def _write_waiting(self) -> None:
        """Write all rows that wait, not only those this call was made for: they share one sync a campaign."""
        batches: dict[str, list[_Waiting]] = {}
        with suppress(Empty):
            while True:
                waiting = self._waiting.get_nowait()
                batches.setdefault(waiting.spec.id, []).append(waiting)
        answers: dict[asyncio.AbstractEventLoop, list[_Answer]] = {}
        for batch in batches.values():
            said: Sequence[str | Exception]
            try:
                said = self._try(partial(self._keep, batch[0].spec, [waiting.text for waiting in batch]))
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
                said = [error] * len(batch)
            for waiting, answer in zip(batch, said, strict=True):
                answers.setdefault(waiting.loop, []).append((waiting.kept, answer))
        for loop, mine in answers.items():
            # A loop that was closed meanwhile has nobody left to tell.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_tell, mine)

    def _keep(self, spec: CampaignSpec, lines: Sequence[Line]) -> list[str | Exception]:
        if spec.id not in self._shelves and self._rows.heading(spec.id) is None:
            self._rows.write_heading(Heading(spec, self._computing))
        return self._shelf(spec.id).keep(lines)

    def _publish(
        self, campaign: Campaign, people: Sequence[str], software: Mapping[str, str]
    ) -> tuple[str, str, int]:  # fmt: skip
        spec = campaign.spec
        rows = self._shelf(spec.id).rows()
        heading, table = Heading(spec, self._computing), columns(spec, rows)
        about = describe(spec, rows, table, self.versions)
        if any(is_synthetic(heading, row) for row in rows):
            about["synthetic"] = True
        with self._library() as library:
            record = dataset_record(about, table, rows)
            used = {*record.used, *library.newest(earlier.campaign for earlier in campaign.earlier or ())}
            record = msgspec.structs.replace(
                record, people=tuple(people), used=tuple(sorted(used)), software=dict(software),
                kind="training" if self._trains(spec) else "dataset",
            )  # fmt: skip
            assets = {_path(asset): asset for row in rows for asset in row.assets if library.holds(asset.digest)}
            files = {path: File(path, a.digest, a.size, a.media_type) for path, a in assets.items()}
            found = library.add(record, {"trials.parquet": parquet(table, about), **files})
        return found.record.id, found.record.digest, len(rows)

    def _shelf(self, campaign: str) -> Shelf:
        if campaign not in self._shelves:
            self._shelves[campaign] = Shelf(self._rows.rows(campaign))
        return self._shelves[campaign]

    def _try(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except OSError as error:
            raise Unavailable(f"the catalog in {self.root} cannot be used: {error}") from error


def _path(asset: Asset) -> str:
    """Where a trial's asset is in the dataset: its name, and what keeps it apart from others of that name."""
    name = "".join(c if c.isalnum() or c in "._-" else "_" for c in asset.uri.rpartition("/")[2])[-80:].lstrip(".")
    return f"assets/{asset.digest.removeprefix('sha256:')[:16]}-{name or 'asset'}"


def _tell(answers: Sequence[_Answer]) -> None:
    for kept, answer in answers:
        if kept.done():
            continue
        if isinstance(answer, Exception):
            kept.set_exception(answer)
        else:
            kept.set_result(answer)
