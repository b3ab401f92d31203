"""Verbs that find data, here and elsewhere, show them, and say that they are not to be used any more."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from msgspec.structs import replace
from rich.console import Group
from rich.table import Table
from rich.text import Text

from .. import core
from . import _parts as parts
from . import _words as words
from ._model import reached, tell_hidden
from ._output import Exit, Here, Problem, columns
from ._verb import open_app

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..catalog.index import Found, Index, Query, Record, Variable
    from ..catalog.sources import Heard

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
Everywhere = Annotated[bool, typer.Option("--everywhere", "-e", help="Other people's sources, too (`source list`).")]
Sources = Annotated[
    list[str] | None,
    typer.Option("--source", metavar="NAME", help="Only this source; once more: this, too.", show_default=False),
]
Patience = Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="How long to wait for sources.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many.")]
After = Annotated[int, typer.Option(min=0, help="Where the page before this ended.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why; whoever used it will read it.", show_default=False)]
_SHOWN = 8
"""Values of a facet that a person is shown."""


async def search(
    here: Here, text: Words = None, where: Where = None, ranges: Ranges = None, since: Since = "", until: Until = "",
    trials: Trials = False, every: Every = False, everywhere: Everywhere = False, source: Sources = None,
    patience: Patience = 15.0, limit: Limit = 20, after: After = 0,
) -> None:  # fmt: skip
    """Find datasets (or trials) by words, facets, ranges of their variables and time; without any, the newest."""
    query = read_query(text or (), where or (), ranges or (), since, until)
    async with open_app(here) as app:
        if everywhere or source:
            await _search_everywhere(here, app, query, source or (), patience, limit)
            return
        kinds = {"kind": ("trial",) if trials else ("dataset", "model", "asset")}
        with app.library() as library:
            page = library.index.search(replace(query, where=kinds | query.where, every=every), limit, after)
    table = columns("dataset", "title", "rows", "made", "version", "variables")
    for found in page.found:
        r = found.record
        shown = Text(r.id, style="strike") if found.retracted else r.id
        named = ", ".join(f"{v.name} {_value(v)}".rstrip() if trials else v.name for v in r.variables)
        table.add_row(shown, r.card.title, str(r.rows), _moment(r), str(found.version), named)
    more = f"; the next: --after {page.after}" if page.after else ""
    document = {
        "total": page.total, "found": [_document(f) for f in page.found], "facets": page.facets, "after": page.after,
    }  # fmt: skip
    what = "trial" if trials else "dataset"
    here.tell(document, Group(table, Text(f"{words.plural(page.total, what)}{more}"), _facets(page.facets)))


async def _search_everywhere(
    here: Here, app: "parts.app.App", query: "Query", names: "Sequence[str]", patience: float, limit: int
) -> None:  # fmt: skip
    """Ask our own catalog and others' the same, and show what came as one answer: whose it is, and its licence."""
    heard = list["Heard"]()
    with here.out.status("asking") if here.live else nullcontext() as spinner:
        async for one in parts.data.search(app, query, limit, patience, names):
            heard.append(one)
            if spinner is not None:
                spinner.update(f"{', '.join(h.provider for h in heard)} answered")
    order = list(names or (parts.data.OURS, *app.settings.sources))
    merged = parts.sources.merge(sorted(heard, key=lambda h: order.index(h.provider)), query)
    table = columns("dataset", "title", "from", "licence", "made", "variables")
    for hit in merged.hits:
        r = hit.record
        table.add_row(
            r.id, r.card.title, ", ".join(hit.origins), r.card.licence or "not said", _moment(r),
            ", ".join(v.name for v in r.variables[:8]),
        )  # fmt: skip
    totals = ", ".join(f"{name} {'?' if count is None else f'{count:,}'}" for name, count in merged.totals.items())
    here.tell(msgspec.to_builtins(merged), Group(table, Text(f"in all: {totals}" if totals else "")))
    for note in merged.notes:
        here.warn(note)
    for name, why in merged.failed.items():
        here.warn(f"no answer of {name}: {why}" if name not in merged.totals else f"{name}: {why}")
    if merged.hits and any(hit.record.provider != parts.data.OURS for hit in merged.hits):
        here.say("`firstlight data add ID` brings one here")


async def show(here: Here, id: Id) -> None:
    """Show what is known of a dataset: its card, variables and versions, what it was made from and what from it."""
    async with open_app(here) as app:
        with app.library() as library:
            index = library.index
            found = get(index, id)
            up, down = index.upstream(found.record.id), index.downstream(found.record.id)
            versions = index.versions(found.record.name)
    r = found.record
    lines = Table.grid(padding=(0, 2))
    told = {
        "dataset": r.id, "title": r.card.title, "rows": str(r.rows),
        "made": _moment(r),
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


async def retract(here: Here, id: Id, reason: Reason = "") -> Exit:
    """Say that a dataset is not to be used any more, and list all that was made from it. Nothing is deleted."""
    async with open_app(here) as app:
        with app.models() as (library, registry):
            try:
                version = library.index.get(id).record.id
                down = library.retract(version, reason, parts.app.person())
            except (LookupError, ValueError) as error:
                hint = 'Say it with --reason "...".' if isinstance(error, ValueError) else ""
                raise Problem(Exit.BAD_INPUT, str(error), hint=hint) from error
            models, hidden = reached(registry, version)
    affected = f"; made from it: {_names(down)}" if down else "; nothing known was made from it"
    here.tell(
        {"retracted": version, **_downstream(down), "models": [one.version.id for one in models], "hidden": hidden},
        f"{version} is retracted{affected}",
    )  # fmt: skip
    for one in models:
        if one.version.revoked is None:
            model = one.version.id
            here.warn(f"model {model} has learned from it: firstlight model revoke {model} --reason ...")
    return tell_hidden(here, hidden)


def earlier(
    here: Here, app: "parts.app.App", spec: core.CampaignSpec, queries: list[str]
) -> tuple[core.TrialAdded, ...]:  # fmt: skip
    """What earlier data tell a campaign; a person is told of each dataset, and of what was left out."""
    try:
        found = parts.data.earlier(app, spec, queries)
    except ValueError as error:
        raise Problem(
            Exit.BAD_INPUT, f"--with-data: {error}",
            hint="`firstlight data search` finds datasets, `firstlight data show` tells what one has.",
        ) from error  # fmt: skip
    here.say(f"begins with {words.plural(len(found.trials), 'trial')} of {', '.join(found.used)}")
    for why, count in found.left_out.items():
        here.warn(f"{words.plural(count, 'row')} left out: {why}")
    return found.trials


def read_query(*given: Any, **more: Any) -> "Query":
    """What is looked for, as it is typed, or the problem with it."""
    try:
        return parts.data.read_query(*given, **more)
    except ValueError as error:
        raise Problem(Exit.BAD_INPUT, str(error)) from error


def get(index: "Index", id: str) -> "Found":
    """A record by its id or its name, or the problem that there is none."""
    try:
        return index.get(id)
    except LookupError as error:
        raise Problem(Exit.BAD_INPUT, str(error), hint="`firstlight data search` lists what there is.") from error


# ------------------------------------------------------------------ what is shown


def _facets(facets: dict[str, dict[str, int]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for facet, values in facets.items():
        some = [f"{value} {count}" for value, count in list(values.items())[:_SHOWN]]
        more = [f"and {len(values) - _SHOWN} more"] if len(values) > _SHOWN else []
        table.add_row(Text(facet, style="grey58"), Text(" · ".join([*some, *more])))
    return table


def _value(variable: "Variable") -> str:
    return "" if variable.low is None else f"{words.number(variable.low)} {variable.unit}".rstrip()


def _moment(record: "Record") -> str:
    return words.moment(record.created) if record.created else ""


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
