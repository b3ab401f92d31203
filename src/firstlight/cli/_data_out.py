"""Verbs that give data out: packages, pages, questions in SQL, other people's servers; and where data come from."""

import asyncio
import shutil
import webbrowser
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import track
from rich.tree import Tree

from . import _parts as parts
from . import _words as words
from ._data import Id, get
from ._data_in import SourceName
from ._output import Exit, Here, Problem, columns
from ._verb import open_app

if TYPE_CHECKING:
    from ..catalog.index import Found, Index


class Form(StrEnum):
    """What a dataset can be given out as."""

    rocrate = "rocrate"
    croissant = "croissant"
    dcat_us = "dcat-us"
    datacite = "datacite"
    prov = "prov"
    csv = "csv"
    parquet = "parquet"


_ENDS = {
    "dcat-us": ".dcat-us.json", "datacite": ".datacite.json", "prov": ".prov.json", "csv": ".csv",
    "parquet": ".parquet",
}  # fmt: skip
As = Annotated[Form, typer.Option("--as", help="The standard, or the table alone.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Where it is written (default: here, under its id).", show_default=False),
]
Zip = Annotated[bool, typer.Option("--zip", help="One .zip file instead of a directory.")]
Open = Annotated[bool, typer.Option("--open", help="Show it in a browser.")]
Sql = Annotated[str, typer.Argument(metavar="SQL", help="One SELECT.", show_default=False)]
Datasets = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID...]", help="Of which datasets (default: all that have tables).", show_default=False),
]
Limit = Annotated[int, typer.Option(min=1, max=1_000_000, help="How many rows.")]
All = Annotated[list[str] | None, typer.Argument(metavar="[ID...]", show_default=False)]
_MOST = 10_000


async def export(here: Here, id: Id, as_: As = Form.rocrate, output: Output = None, zip_: Zip = False) -> None:
    """Write a dataset as a package that others read: RO-Crate, Croissant, DCAT-US 3, DataCite, W3C PROV, or a table."""
    form: Any = as_.value
    async with open_app(here) as app:
        with app.library() as library:
            record = get(library.index, id).record
        default = Path(f"{record.id.replace('/', '-')}{_ENDS.get(form, '-' + form)}")
        to = output or default
        target = to.with_name(f".{to.name}.package") if zip_ else to
        try:
            made = await parts.data.export(app, record.id, form, target)
        except FileExistsError as error:
            raise Problem(Exit.BAD_INPUT, f"{to} is there already", hint="Give --output another name.") from error
        except (ValueError, FileNotFoundError) as error:
            raise Problem(Exit.BAD_INPUT, str(error)) from error
        if zip_:
            made = await asyncio.to_thread(_zipped, target, to)
    here.tell({"id": record.id, "digest": record.digest, "as": form, "path": str(made)}, f"{record.id} is in {made}")


def _zipped(made: Path, to: Path) -> Path:
    if not made.is_dir():
        made.unlink()
        raise Problem(Exit.BAD_INPUT, "--zip is for packages that are directories", hint="Leave it out.")
    try:
        return Path(shutil.make_archive(str(to.with_suffix("")), "zip", made))
    finally:
        shutil.rmtree(made)


async def page(here: Here, id: Id, output: Output = None, open_: Open = False) -> None:
    """Write a page about a dataset: figures, variables, card, where it comes from and what was made of it."""
    async with open_app(here) as app:
        with app.library() as library:
            record = get(library.index, id).record
        to = output or Path(f"{record.id.replace('/', '-')}.html")
        try:
            await parts.data.page(app, record.id, to)
        except (FileNotFoundError, ImportError) as error:
            raise Problem(Exit.UNAVAILABLE, str(error)) from error
    here.tell({"id": record.id, "page": str(to)}, f"{record.id} is shown in {to}")
    if open_:
        webbrowser.open(to.absolute().as_uri())


async def query(here: Here, sql: Sql, ids: Datasets = None, limit: Limit = 100) -> None:
    """Ask all datasets (or some) one question in SQL: each is a view of its name, and so is `everything` in them, and
    the `observations` of all trials."""
    async with open_app(here) as app:
        with app.library() as library:
            index = library.index
            if ids:
                found = [get(index, id) for id in ids]
            else:
                wanted = parts.index.Query(where={"kind": ("dataset",)})
                found = list(index.search(wanted, _MOST, facets=()).found)
            tables = {f.record.name: paths for f in found if (paths := library.tables(f.record))}
            if not tables:
                raise Problem(Exit.BAD_INPUT, "no dataset has a table", hint="`firstlight data search` shows all.")
            try:
                with parts.analysis.Analysis(tables, scratch=library.root) as analysis:
                    answer = await asyncio.to_thread(analysis.query, sql, limit=limit)
                    views = dict(analysis.views)
            except ValueError as error:
                hint = f"Views: everything, observations, {', '.join(list(tables)[:6])}"
                raise Problem(Exit.BAD_INPUT, str(error), hint=hint) from error
    table = columns(*answer.names)
    for row in answer.rows:
        table.add_row(*("" if v is None else words.number(v) if isinstance(v, float) else str(v) for v in row))
    here.tell(
        {"columns": list(answer.names), "types": list(answer.types), "rows": answer.rows, "more": answer.more,
         "views": views},
        table,
    )  # fmt: skip
    if answer.more:
        here.warn(f"there are more rows; --limit {limit} are shown")


async def trace(here: Here, id: Id) -> None:
    """Show where a dataset comes from and what was made of it: its lineage both ways, and who and what made it."""
    async with open_app(here) as app:
        with app.library() as library:
            index = library.index
            found = get(index, id)
            tree = Tree(_label(found))
            _branch(tree.add("made from"), index, found.record.used, up=True)
            _branch(tree.add("used by"), index, _next(index, found.record.id), up=False)
            up, down = index.upstream(found.record.id), index.downstream(found.record.id)
            told = await parts.data.trace(app, library, found.record)
    agents = columns("who and what", "kind", "version")
    for agent in told.agents:
        agents.add_row(agent.name, agent.kind, agent.version)
    kinds: dict[str, int] = {}
    for activity in told.activities:
        kinds[activity.kind] = kinds.get(activity.kind, 0) + 1
    document = {
        "id": found.record.id, "upstream": [f.record.id for f in up],
        "downstream": [f.record.id for f in down if f.record.kind != "trial"],
        "provenance": parts.provenance.prov_json(told),
    }  # fmt: skip
    if here.as_json:
        here.write(document)
        return
    here.say(tree)
    here.say(agents)
    here.say(", ".join(words.plural(count, kind) for kind, count in kinds.items()))


def _label(found: "Found") -> str:
    r = found.record
    marks = [f"retracted: {found.retracted}"] * bool(found.retracted) + ["synthetic"] * r.synthetic
    return f"{r.id} ({', '.join([r.kind, *marks])})"


def _next(index: "Index", id: str) -> list[str]:
    down = [f.record for f in index.downstream(id)]
    campaigns = dict.fromkeys(r.campaign for r in down if r.kind == "trial" and id in r.used)
    return [r.id for r in down if r.kind != "trial" and id in r.used] + [f"campaign {c}" for c in campaigns]


def _branch(tree: Tree, index: "Index", ids: Any, up: bool, depth: int = 6) -> None:
    for id in ids:
        try:
            found = index.get(id)
        except LookupError:
            tree.add(id if id.startswith("campaign ") else f"{id} (not in this catalog)")
            continue
        below = tree.add(_label(found))
        if depth:
            _branch(below, index, found.record.used if up else _next(index, found.record.id), up, depth - 1)


async def verify(here: Here, ids: All = None) -> Exit:
    """Read all bytes of datasets (of all, if none is named), and compare them with their digests."""
    wrong = dict[str, str]()
    async with open_app(here) as app:
        with app.library() as library:
            query = parts.index.Query(where={"kind": ("dataset", "model", "asset")}, every=True)
            found = [get(library.index, id) for id in ids] if ids else library.index.search(query, 1_000_000).found
            for f in track(found, "verifying", console=here.out, transient=True, disable=not here.live):
                try:
                    await asyncio.to_thread(library.verify, f.record)
                except OSError as error:
                    wrong[f.record.id] = str(error)
    here.tell(
        {"verified": len(found), "wrong": wrong},
        f"{words.plural(len(found) - len(wrong), 'dataset')} as their digests say"
        + "".join(f"\n{id}: {why}" for id, why in wrong.items()),
    )
    return Exit.DAMAGED if wrong else Exit.DONE


async def publish(here: Here, id: Id, source: SourceName) -> None:
    """Publish a dataset at somebody else's server (Tiled); what is there already is not published twice."""
    async with open_app(here) as app:
        with app.library() as library:
            record = get(library.index, id).record
        try:
            address = await parts.data.publish(app, source, record.id)
        except parts.sources.Unreachable as error:
            raise Problem(Exit.UNAVAILABLE, str(error)) from error
        except (ValueError, FileNotFoundError) as error:
            raise Problem(Exit.BAD_INPUT, str(error)) from error
    here.tell({"id": record.id, "address": address}, f"{record.id} is at {address}")
