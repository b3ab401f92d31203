"""Verbs for data: find what has been published, look at it, and say that it is not to be used any more."""

import re
import shlex
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from .. import core
from . import _parts as parts
from . import _words as words
from ._output import Exit, Here, Problem, columns
from ._verb import open_app, verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..catalog.index import Found, Index, Query

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[WORDS...]", help="All of them; the last may be a beginning.", show_default=False),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="A version, or a name: then its newest.", show_default=False)]
Where = Annotated[
    list[str] | None,
    typer.Option(metavar="FACET=VALUE", help="Such as observable=yield; one facet again: either.", show_default=False),
]
Ranges = Annotated[
    list[str] | None,
    typer.Option(
        "--range", metavar="VARIABLE=LOW..HIGH", help='Such as "temperature=300..400 K"; an end may be left out.',
        show_default=False,
    ),
]  # fmt: skip
Since = Annotated[str, typer.Option(metavar="DATE", help="Made since then.", show_default=False)]
Until = Annotated[str, typer.Option(metavar="DATE", help="Made before then.", show_default=False)]
Trials = Annotated[bool, typer.Option("--trials", help="Single trials of campaigns, those that run included.")]
Every = Annotated[bool, typer.Option("--every", help="Earlier versions and what was retracted, too.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many.")]
After = Annotated[int, typer.Option(min=0, help="Where the page before this ended.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why; whoever used it will read it.", show_default=False)]
_SHOWN = 8
"""Values of a facet that a person is shown."""


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    data = typer.Typer(no_args_is_help=True)
    data.callback()(_data)
    for looks in (search, show, retract):
        verb(data, "Data")(looks)
    app.add_typer(data, name="data", rich_help_panel="Results")


def _data() -> None:
    """Datasets that campaigns have published."""


async def search(
    here: Here, text: Words = None, where: Where = None, ranges: Ranges = None, since: Since = "", until: Until = "",
    trials: Trials = False, every: Every = False, limit: Limit = 20, after: After = 0,
) -> None:  # fmt: skip
    """Find datasets (or trials) by words, facets, ranges of their variables and time; without any, the newest."""
    kinds = {"kind": ("trial",) if trials else ("dataset", "model", "asset")}
    query = parts.index.Query(
        text=" ".join(text or ()), where=kinds | _where(where or ()), ranges=tuple(map(_range, ranges or ())),
        since=_date(since), until=_date(until), every=every,
    )  # fmt: skip
    async with open_app(here) as app:
        with app.library() as library:
            index = library.index
            page = index.search(query, limit, after)
    table = columns("dataset", "title", "rows", "made", "version", "variables")
    for found in page.found:
        r = found.record
        made = words.moment(r.created) if r.created else ""
        shown = Text(r.id, style="strike") if found.retracted else r.id
        table.add_row(
            shown, r.card.title, str(r.rows), made, str(found.version), ", ".join(v.name for v in r.variables)
        )
    more = f"; the next: --after {page.after}" if page.after else ""
    document = {
        "total": page.total, "found": [_document(f) for f in page.found], "facets": page.facets, "after": page.after,
    }  # fmt: skip
    here.tell(document, Group(table, Text(f"{words.plural(page.total, 'dataset')}{more}"), _facets(page.facets)))


async def show(here: Here, id: Id) -> None:
    """Show what is known of a dataset: its card, variables and versions, what it was made from and what from it."""
    async with open_app(here) as app:
        with app.library() as library:
            index = library.index
            try:
                found = index.get(id)
            except LookupError as error:
                raise Problem(
                    Exit.BAD_INPUT, str(error), hint="`firstlight data search` lists what there is."
                ) from error
            up, down = index.upstream(found.record.id), index.downstream(found.record.id)
            versions = index.versions(found.record.name)
    r = found.record
    lines = Table.grid(padding=(0, 2))
    told = {
        "dataset": r.id, "title": r.card.title, "rows": str(r.rows),
        "made": words.moment(r.created) if r.created else "",
        "campaign": r.campaign, "digest": r.digest, "licence": r.card.licence, "sensitivity": r.card.sensitivity,
        "retracted": f"{found.retracted} ({found.by})" if found.retracted else "",
        "versions": ", ".join(f"{f.version}: {f.record.id}{' (retracted)' if f.retracted else ''}" for f in versions),
        "made from": _names(up), "used by": _names(down),
    }  # fmt: skip
    for name, value in told.items():
        if value:
            lines.add_row(Text(name, style="grey58"), Text(value))
    table = columns("variable", "role", "unit", "from", "to")
    for v in r.variables:
        ends = ("" if end is None else words.number(end) for end in (v.low, v.high))
        table.add_row(v.name, v.role, v.unit, *ends)
    document = _document(found) | {
        "versions": [f.record.id for f in versions], "upstream": [f.record.id for f in up],
        **_downstream(down),
    }  # fmt: skip
    here.tell(document, Group(lines, Text(""), table))


async def retract(here: Here, id: Id, reason: Reason = "") -> None:
    """Say that a dataset is not to be used any more, and list all that was made from it. Nothing is deleted."""
    async with open_app(here) as app:
        with app.library() as library:
            index = library.index
            try:
                version = index.get(id).record.id
                down = index.retract(version, reason, parts.app.person())
            except (LookupError, ValueError) as error:
                hint = 'Say it with --reason "...".' if isinstance(error, ValueError) else ""
                raise Problem(Exit.BAD_INPUT, str(error), hint=hint) from error
    affected = f"; made from it: {_names(down)}" if down else "; nothing known was made from it"
    here.tell({"retracted": version, **_downstream(down)}, f"{version} is retracted{affected}")


def earlier(
    here: Here, app: "parts.app.App", spec: core.CampaignSpec, queries: list[str]
) -> tuple[core.TrialAdded, ...]:  # fmt: skip
    """What earlier data tell a campaign; a person is told of each dataset, and of what was left out."""
    with app.library() as library:
        asked = [_query(library.index, text) for text in queries]
    try:
        found = app.earlier(spec, asked)
    except ValueError as error:
        raise Problem(
            Exit.BAD_INPUT, f"--with-data: {error}",
            hint="`firstlight data search` finds datasets, `firstlight data show` tells what one has.",
        ) from error  # fmt: skip
    here.say(f"begins with {words.plural(len(found.trials), 'trial')} of {', '.join(found.used)}")
    for why, count in found.left_out.items():
        here.warn(f"{words.plural(count, 'row')} left out: {why}")
    return found.trials


# ------------------------------------------------------------------ what is typed


def _query(index: "Index", text: str) -> "Query":
    """A query in one line: the id or name of a dataset, or words, FACET=VALUE and VARIABLE=LOW..HIGH."""
    with suppress(LookupError):
        id = index.get(text.strip()).record.id
        return parts.index.Query(ids=(id,), where={"kind": ("dataset",)}, every=True)
    try:
        said = shlex.split(text)
    except ValueError as error:
        raise Problem(Exit.BAD_INPUT, f"{text!r}: {error}", hint="Close what is quoted.") from error
    ranges = [word for word in said if "=" in word and ".." in word]
    facets = [word for word in said if "=" in word and word not in ranges]
    return parts.index.Query(
        text=" ".join(word for word in said if "=" not in word), ranges=tuple(map(_range, ranges)),
        where=_where(facets) | {"kind": ("dataset",)},
    )  # fmt: skip


def _where(given: "list[str] | tuple[()]") -> dict[str, tuple[str, ...]]:
    found = dict[str, tuple[str, ...]]()
    for text in given:
        facet, is_there, value = text.partition("=")
        if not is_there or not facet.strip() or not value.strip():
            raise Problem(Exit.BAD_INPUT, f"{text!r} is not FACET=VALUE", hint="Write it as observable=yield.")
        found[facet.strip()] = (*found.get(facet.strip(), ()), value.strip())
    return found


def _range(text: str) -> Any:
    name, _, ends = text.partition("=")
    number = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
    read = re.fullmatch(rf"\s*({number})?\s*\.\.\s*({number})?\s*(.*)", ends.strip())
    if not name.strip() or read is None or read[1] is read[2] is None:
        hint = 'Write it as "temperature=300..400 K"; an end may be left out.'
        raise Problem(Exit.BAD_INPUT, f"{text!r} is not VARIABLE=LOW..HIGH", hint=hint)
    low, high = (None if end is None else float(end) for end in (read[1], read[2]))
    if low is not None and high is not None and low > high:
        raise Problem(
            Exit.BAD_INPUT, f"{text!r}: nothing is from {low:g} to {high:g}", hint="The lower end comes first."
        )
    return parts.index.Range(name.strip(), low, high, read[3].strip())


def _date(text: str) -> float | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise Problem(Exit.BAD_INPUT, f"{text!r} is no date", hint="Write it as 2026-11-26.") from error


# ------------------------------------------------------------------ what is shown


def _facets(facets: dict[str, dict[str, int]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for facet, values in facets.items():
        some = [f"{value} {count}" for value, count in list(values.items())[:_SHOWN]]
        more = [f"and {len(values) - _SHOWN} more"] if len(values) > _SHOWN else []
        table.add_row(Text(facet, style="grey58"), Text(" · ".join([*some, *more])))
    return table


def _name(found: "Found") -> str:
    return f"{found.record.id}{f' (retracted: {found.retracted})' if found.retracted else ''}"


def _names(found: "Sequence[Found]") -> str:
    campaigns = [f"campaign {id}" for id in _downstream(found)["campaigns"]]
    return ", ".join([_name(f) for f in found if f.record.kind != "trial"] + campaigns)


def _downstream(found: "Sequence[Found]") -> dict[str, list[str]]:
    """What was made from something, and the campaigns that began with it: their trials are too many to be told."""
    campaigns = dict.fromkeys(f.record.campaign for f in found if f.record.campaign)
    return {"downstream": [f.record.id for f in found if f.record.kind != "trial"], "campaigns": list(campaigns)}


def _document(found: "Found") -> dict[str, Any]:
    made: dict[str, Any] = msgspec.to_builtins(found)
    record: dict[str, Any] = made.pop("record")
    return record | made
