"""Verbs that bring data in: files of people, what other facilities have, packages of other sites."""

import asyncio
import hashlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Group
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.prompt import Confirm, Prompt
from rich.text import Text

from . import _parts as parts
from . import _words as words
from ._data import Ranges, Where, read_query
from ._output import Exit, Here, Problem, columns
from ._verb import open_app

if TYPE_CHECKING:
    from ..catalog.adding import Draft
    from ..catalog.index import Card, Record
    from ..catalog.quality import Quality

Place = Annotated[
    str,
    typer.Argument(metavar="FILE|DIR|URL|SOURCE/ID", help="What is to be added.", show_default=False),
]
Name = Annotated[str, typer.Option(help="What it is called here (default: its file's name).", show_default=False)]
CardFile = Annotated[
    Path | None, typer.Option("--card", metavar="FILE", help="A data card, as YAML or JSON.", show_default=False)
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="A field of the card: licence=CC-BY-4.0.", show_default=False),
]
Roles = Annotated[
    list[str] | None,
    typer.Option(
        "--role", metavar="VARIABLE=ROLE", help="What a column is: parameter, observable or other.", show_default=False
    ),
]
Synthetic = Annotated[bool, typer.Option("--synthetic", help="The data were computed, and not measured.")]
AsIs = Annotated[bool, typer.Option("--as-is", help="Keep files that cannot be read as they are.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]
Check = Annotated[bool, typer.Option("--check", help="Say what it would be, and keep nothing.")]
Package = Annotated[Path, typer.Argument(metavar="PACKAGE", help="A RO-Crate or Croissant: a directory or .zip.")]
SourceName = Annotated[str, typer.Argument(metavar="SOURCE", help="Its name (`source list`).", show_default=False)]
Words = Annotated[list[str] | None, typer.Argument(metavar="[WORDS...]", show_default=False)]
_ASKED = (
    ("title", "Title"), ("description", "What are these data"), ("creators", "Who made them (names, with ;)"),
    ("licence", "Licence (SPDX, such as CC-BY-4.0)"), ("citation", "How are they cited (DOI)"),
    ("sensitivity", "Sensitivity"), ("export_control", "Export-controlled"), ("agreement", "Under which agreement"),
    ("training", "May models be trained on them"),
)  # fmt: skip
_SHOWN = 12
"""Notes and problems that a person is shown."""


async def add(
    here: Here, place: Place, name: Name = "", card: CardFile = None, set_: Set = None, role: Roles = None,
    synthetic: Synthetic = False, as_is: AsIs = False, check: Check = False, yes: Yes = False,
) -> None:  # fmt: skip
    """Add files as a dataset: they are read, judged, described with a data card, and kept with their digests.

    A person is asked for what the card does not say; nothing is kept before the end.
    """
    async with open_app(here) as app:
        with _incoming(app, place) as incoming, tempfile.TemporaryDirectory(dir=_beside(app)) as scratch:
            brought = await _brought(here, app, place, incoming)
            there = incoming if brought is not None else _here(place)
            drafted = await _drafted(here, there, Path(scratch), name, as_is, brought)
            try:
                drafted = parts.adding.with_roles(drafted, _roles(role or ()))
                whole = parts.data.card_of(_said(card, set_ or ()), drafted.record.card)
            except ValueError as error:
                raise Problem(Exit.BAD_INPUT, str(error)) from error
            quality = await asyncio.to_thread(parts.adding.judge, drafted)
            document = _document(drafted, quality)
            if check:
                here.tell(document, _shown(drafted, quality))
                return
            if here.live and sys.stdin.isatty() and not yes:
                here.say(_shown(drafted, quality))
                whole = _asked(here, whole)
            elif not here.as_json:
                here.say(_shown(drafted, quality))
            more: dict[str, Any] = {"synthetic": True} if synthetic else {}
            with _bar(here, "keeping", drafted_size(drafted)) as advance:
                found = await asyncio.to_thread(
                    lambda: parts.data.add(app, drafted, whole, parts.app.person(), advance, **more)
                )
            if brought is not None:
                _forget(incoming)
    missing = parts.adding.missing(found.record.card)
    here.tell(
        {**document, "id": found.record.id, "digest": found.record.digest, "version": found.version,
         "unsaid": missing},
        f"{found.record.id} is kept: {words.plural(len(found.record.files), 'file')}, version {found.version}",
    )  # fmt: skip
    if missing:
        here.warn(f"its card does not say yet: {', '.join(missing)}")


async def bring(here: Here, package: Package) -> None:
    """Take in a dataset or a campaign from a package of another site; every digest is verified first."""
    async with open_app(here) as app:
        try:
            found, campaign = await parts.data.bring(app, package, parts.app.person())
        except FileNotFoundError as error:
            raise Problem(Exit.BAD_INPUT, f"{package} is not there") from error
        except ValueError as error:
            raise Problem(Exit.BAD_INPUT, str(error)) from error
    record = found.record
    told = f"{record.id} is here: {words.plural(len(record.files), 'file')}, all as their digests say"
    here.tell(
        {"id": record.id, "digest": record.digest, "files": len(record.files), "campaign": campaign},
        f"{told}; and campaign {campaign}, with its journal" if campaign else told,
    )


async def harvest(
    here: Here, source: SourceName, text: Words = None, where: Where = None, ranges: Ranges = None, name: Name = "",
    set_: Set = None,
) -> None:  # fmt: skip
    """Bring all that a source finds here as one dataset, page by page; called again, it goes on where it stood."""
    query = read_query(text or (), where or (), ranges or ())
    async with open_app(here) as app:
        key = msgspec.json.encode([source, query], order="sorted")
        with _incoming(app, key.hex()) as incoming:
            with _bar(here, f"from {source}", 0, bytes_=False) as advance:
                try:
                    brought = await parts.data.harvest(app, source, query, incoming, _absolute(advance))
                except parts.sources.Unreachable as error:
                    hint = "What has come is kept: the same command goes on there."
                    raise Problem(Exit.UNAVAILABLE, str(error), hint=hint) from error
                except ValueError as error:
                    raise Problem(Exit.BAD_INPUT, str(error)) from error
            kept = parts.adding.kept(brought, incoming, name)
            try:
                card = parts.data.card_of(_said(None, set_ or ()), brought.card)
            except ValueError as error:
                raise Problem(Exit.BAD_INPUT, str(error)) from error
            found = await asyncio.to_thread(parts.data.add, app, kept, card, parts.app.person())
            _forget(incoming)
    record = found.record
    here.tell(
        {"id": record.id, "digest": record.digest, "rows": record.rows, "provider": record.provider,
         "licence": record.card.licence},
        f"{record.id} is kept: {record.rows:,} rows of {record.provider}, licence {record.card.licence or 'not said'}",
    )  # fmt: skip


# ------------------------------------------------------------------ where it comes from


def _beside(app: "parts.app.App") -> Path:
    place = app.settings.data_dir / "catalog"
    place.mkdir(parents=True, exist_ok=True)
    return place


@contextmanager
def _incoming(app: "parts.app.App", what: str) -> Iterator[Path]:
    """Where something that comes from elsewhere grows; it stays until all is kept, so that nothing comes twice."""
    place = _beside(app) / "incoming" / hashlib.sha256(what.encode()).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    try:
        yield place
    finally:
        if not any(place.iterdir()):
            place.rmdir()


def _forget(place: Path) -> None:
    for file in sorted(place.rglob("*"), reverse=True):
        if file.is_dir() and not file.is_symlink():
            file.rmdir()
        else:
            file.unlink()


async def _brought(here: Here, app: "parts.app.App", place: str, to: Path) -> "Record | None":
    """What an address or a source has, in the directory; None for a file of this machine."""
    name = place.partition("/")[0]
    web = place.startswith(("http://", "https://"))
    if not web and (name not in app.settings.sources or _is_here(place)):
        return None
    with _bar(here, "from elsewhere", 0) as advance:
        try:
            if not web:
                return await parts.data.fetch(app, name, place, to, _absolute(advance))
            return await parts.data.fetch_address(place, to, _absolute(advance))
        except parts.sources.Unreachable as error:
            hint = "What has come is kept: the same command goes on there."
            raise Problem(Exit.UNAVAILABLE, str(error), hint=hint) from error
        except (LookupError, ValueError) as error:
            raise Problem(Exit.BAD_INPUT, str(error)) from error


def _is_here(place: str) -> bool:
    return Path(place).expanduser().exists()


def _here(place: str) -> Path:
    path = Path(place).expanduser()
    if not path.exists():
        raise Problem(
            Exit.BAD_INPUT, f"{place} is not there", hint="Name a file, a directory, an address or SOURCE/ID."
        )
    return path


async def _drafted(
    here: Here, place: Path, scratch: Path, name: str, as_is: bool, brought: "Record | None"
) -> "Draft":  # fmt: skip
    with _bar(here, "reading", 0, bytes_=False) as advance:
        told = _absolute(advance)
        try:
            drafted = await asyncio.to_thread(
                parts.adding.draft, place, scratch, name, as_is, lambda _, done, total: told(done, total), brought
            )
        except parts.adding.Malformed as error:
            raise Problem(
                Exit.BAD_INPUT, str(error), problems=tuple(error.problems.values()),
                hint="Nothing was kept. Mend them, leave them out, or keep them unread with --as-is.",
            ) from error  # fmt: skip
        except (ValueError, FileNotFoundError) as error:
            raise Problem(Exit.BAD_INPUT, str(error)) from error
    return drafted


# ------------------------------------------------------------------ what is said of it


def _said(card: Path | None, given: "list[str] | tuple[()]") -> dict[str, Any]:
    said: dict[str, Any] = {}
    if card is not None:
        try:
            said = parts.config.read_document(card.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise Problem(Exit.BAD_INPUT, f"{card}: it cannot be read: {error}") from error
        except parts.config.BadCampaign as error:
            raise Problem(Exit.BAD_INPUT, f"{card}: {error}") from error
    for text in given:
        field, is_there, value = text.partition("=")
        if not is_there or not field.strip():
            raise Problem(Exit.BAD_INPUT, f"{text!r} is not FIELD=VALUE", hint="Write it as licence=CC-BY-4.0.")
        said[field.strip()] = _listed(field.strip(), value.strip())
    return said


def _listed(field: str, value: str) -> Any:
    lists = ("creators", "keywords", "uses")
    return [part.strip() for part in value.split(";") if part.strip()] if field in lists else value


def _roles(given: "list[str] | tuple[()]") -> dict[str, Any]:
    found = dict[str, Any]()
    for text in given:
        name, _, role = text.rpartition("=")
        if not name or role not in ("parameter", "observable", "other"):
            hint = "Write it as yield=observable; roles are parameter, observable and other."
            raise Problem(Exit.BAD_INPUT, f"{text!r} is not VARIABLE=ROLE", hint=hint)
        found[name] = role
    return found


def _asked(here: Here, card: "Card") -> "Card":
    """The card as a person completes it; the problem where it is not to be kept after all."""
    try:
        card = _ask(here, card)
        if Confirm.ask("Keep them", console=here.out, default=True):
            return card
    except EOFError:
        here.say("")
    raise Problem(Exit.REFUSED, "nothing was kept")


def _ask(here: Here, card: "Card") -> "Card":
    """Ask a person for what the card does not say; Enter leaves it unsaid."""
    here.say("\nThe data card (Enter: not said yet)")
    for field, question in _ASKED:
        if getattr(card, field):
            continue
        choices = parts.data.choices(field)
        shown = f"{question} [{' | '.join(choices)}]" if choices else question
        while True:
            said = Prompt.ask(Text(shown), console=here.out, default="", show_default=False).strip()
            try:
                card = parts.data.card_of({field: _listed(field, said)}, card) if said else card
                break
            except ValueError as error:
                here.say(str(error))
    return card


# ------------------------------------------------------------------ what is shown


def drafted_size(drafted: "Draft") -> int:
    """How many bytes are to be kept."""
    return sum(file.stat().st_size for file in drafted.files.values())


def _shown(drafted: "Draft", quality: "Quality | None") -> Group:
    record = drafted.record
    table = columns("variable", "role", "unit", "from", "to", "missing", "called")
    for v in record.variables:
        ends = ("" if end is None else words.number(end) for end in (v.low, v.high))
        shape = " x ".join(map(str, v.shape))
        table.add_row(v.name, v.role, v.unit, *ends, shape or str(v.missing or ""), v.called)
    lines = list[Any]()
    lines.append(f"{record.name}: {words.plural(len(drafted.files), 'file')}, {words.plural(record.rows, 'row')}")
    if record.variables:
        lines.append(table)
    lines += _few(drafted.notes, "note")
    if quality is not None:
        lines += _few(quality.problems, "quality") or ["quality: nothing was found wrong"]
    return Group(*(Text(line) if isinstance(line, str) else line for line in lines))


def _few(said: tuple[str, ...], what: str) -> list[str]:
    more = [f"{what}: and {len(said) - _SHOWN} more"] if len(said) > _SHOWN else []
    return [*(f"{what}: {line}" for line in said[:_SHOWN]), *more]


def _document(drafted: "Draft", quality: "Quality | None") -> dict[str, Any]:
    record = drafted.record
    return {
        "name": record.name, "rows": record.rows, "files": sorted(drafted.files), "notes": list(drafted.notes),
        "variables": msgspec.to_builtins(record.variables), "elements": list(record.elements),
        "quality": msgspec.to_builtins(quality),
    }  # fmt: skip


@contextmanager
def _bar(here: Here, what: str, total: int, bytes_: bool = True) -> Iterator[Callable[[int], None]]:
    """A progress bar on a screen; told how much more is done. `advance(-n)` says that n is all there is."""
    if not here.live:
        yield lambda more: None
        return
    counted = DownloadColumn() if bytes_ else TextColumn("{task.completed:,.0f}/{task.total}")
    with Progress(TextColumn("{task.description}"), BarColumn(), counted, console=here.out, transient=True) as bar:
        task = bar.add_task(what, total=total or None)

        def advance(more: int) -> None:
            if more < 0:
                bar.update(task, total=-more)
            else:
                bar.update(task, advance=more)

        yield advance


def _absolute(advance: Callable[[int], None]) -> Callable[[int, int], None]:
    """The same for whoever says how much is done in all."""
    last = 0

    def told(done: int, total: int) -> None:
        nonlocal last
        if total > 0:
            advance(-total)
        if done > last:
            advance(done - last)
            last = done

    return told
