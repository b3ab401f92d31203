"""Data in and out: files with a card, packages of other sites, and how all of it came to be."""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from firstlight import core, engine
from firstlight.app import App, versions
from firstlight.catalog import adding, packages, provenance
from firstlight.catalog.index import Card, Found, Record
from firstlight.catalog.library import Library
from firstlight.catalog.store import Progress

# ------------------------------------------------------------------ what comes in


def add(
    app: App, drafted: adding.Draft, card: Card, by: str, progress: Progress | None = None, **said: Any
) -> Found:  # fmt: skip
    """Keep a draft with its card; `said` are further fields of the record (synthetic, used, provider ...)."""
    record = replace(drafted.record, card=card, people=drafted.record.people or (by,), **said)
    software = {"firstlight": versions()["firstlight"]}

    def describe(whole: Record) -> dict[str, Any]:
        return provenance.prov_json(provenance.of_import(whole, by, software))

    with app.library() as library:
        return library.add(record, drafted.files, describe, progress)


async def bring(app: App, path: Path, by: str) -> tuple[Found, str]:
    """Take in a package: what it has, and the campaign that came with it ("" where none did, or it was here already).

    Raises packages.Damaged and ValueError; then nothing of it can be found.
    """
    with _scratch(app) as scratch, app.library() as library:
        package = await asyncio.to_thread(packages.read, path, scratch)
        record, files = package.record, package.files
        # What is put by its digest is read and compared once more, as it is copied.
        contents = {file.digest: files[file.path] for file in record.files}
        await asyncio.to_thread(library.store.put_all, contents)
        entries = _entries(package.journal) if package.journal is not None else []
        told = package.provenance or provenance.of_import(record, by, {"firstlight": versions()["firstlight"]})
        found = library.admit(record, provenance.prov_json(told))
        return found, await _restore(app, entries)


async def _restore(app: App, entries: Sequence[core.Entry]) -> str:
    """A campaign's journal, as it was elsewhere. One that is not closed would be two campaigns: it is left out."""
    if not entries or not any(isinstance(entry.fact, core.CampaignClosed) for entry in entries):
        return ""
    opened = entries[0].fact
    if not isinstance(opened, core.CampaignOpened) or opened.spec.id in await app.journal.campaigns():
        return ""
    await engine.restore(entries, app.journal)
    return opened.spec.id


def _entries(journal: Path) -> list[core.Entry]:
    """The entries of a journal that are one history. Raises ValueError."""
    try:
        with open(journal, "rb") as lines:
            entries = [core.decode(line) for line in lines if line.strip()]
        campaign = core.open_campaign(entries[0]) if entries else None
        for entry in entries[1:]:
            campaign = core.reduce(campaign, entry) if campaign is not None else None
    except (core.UnreadableEntry, core.InconsistentError) as error:
        raise ValueError(f"the journal in the package cannot be followed: {error}") from error
    return entries


# ------------------------------------------------------------------ what goes out


async def trace(app: App, library: Library, record: Record) -> provenance.Provenance:
    """How a dataset came to be: as was kept with it, or else out of the journal of the campaign that made it."""
    kept = _kept(library, record)
    return kept if kept is not None else await _traced(record, await _history(app, record))


def _kept(library: Library, record: Record) -> provenance.Provenance | None:
    kept = library.provenance(record.id)
    return None if kept is None else provenance.from_prov_json(kept)


async def _history(app: App, record: Record) -> list[core.Entry]:
    """The journal of the campaign that made a dataset, as far as it is here."""
    return [entry async for entry in app.journal.read(record.campaign)] if record.campaign else []


async def _traced(record: Record, entries: Sequence[core.Entry]) -> provenance.Provenance:
    if entries:
        # A version that was kept and, for a crash, never recorded as published, is in no journal.
        with suppress(ValueError):
            return await asyncio.to_thread(provenance.trace, entries, record)
    return provenance.of_import(record, "", {})


async def export(app: App, id: str, form: packages.Form, to: Path) -> Path:
    """Write a dataset as a package. Raises LookupError, ValueError for what a form cannot say, FileExistsError."""
    with _scratch(app) as scratch, app.library() as library:
        record = library.index.get(id).record
        entries = await _history(app, record)
        journal: Path | None = None
        if entries:
            journal = scratch / "journal.jsonl"
            await asyncio.to_thread(journal.write_bytes, b"".join(core.encode(entry) + b"\n" for entry in entries))
        told = _kept(library, record)
        told = told if told is not None else await _traced(record, entries)
        package = packages.Package(record, library.files(record), told, journal)
        return await asyncio.to_thread(packages.write, package, form, to)


@contextmanager
def _scratch(app: App) -> Iterator[Path]:
    """A directory beside the data, where what is large may be written and moved from."""
    place = app.settings.data_dir / "catalog"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".scratch-", dir=place) as made:
        yield Path(made)
