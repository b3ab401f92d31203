"""Why a point was tried: the verb `explain`, and what it says."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .. import core
from . import _parts as parts
from . import _words as words
from ._documents import ExplanationDocument, explanation_document
from ._find import find
from ._live import BRIGHT, DIM, LABEL
from ._output import Exit, Here, Problem
from ._verb import open_app, verb

if TYPE_CHECKING:
    from .. import engine

Which = Annotated[
    str, typer.Argument(metavar="TRIAL", help="A trial, or a campaign: its latest trial.", show_default=False)
]
WithReplay = Annotated[bool, typer.Option("--replay", help="Ask the strategy again, and say whether it says the same.")]

OF_THE_CHOICE = ("python", "platform", "firstlight", "numpy", "scipy")
"""The software that always takes part in a choice; simulators do not."""


def register(app: typer.Typer) -> None:
    """Add this verb."""
    verb(app, "Look")(explain)


async def explain(here: Here, trial: Which, replay: WithReplay = False) -> Exit:
    """Say why a trial's point was chosen, and what came of it."""
    campaign, _, number = trial.partition(".")
    async with open_app(here) as app:
        board = await find(app, campaign)
        try:
            why = await app.explain(campaign, f"{campaign}.{number}" if number else "")
        except LookupError as error:
            numbered = board.campaign.numbered
            hint = f"Its trials are {campaign}.1 to {campaign}.{numbered}." if numbered else ""
            raise Problem(Exit.BAD_INPUT, str(error), hint=hint) from error
        if replay and why.unasked:
            raise Problem(Exit.REFUSED, why.unasked)
        again = await app.ask_again(why) if replay else None
    now = parts.app.versions_for(why.spec) if replay else {}
    told = explanation_document(why, again, now)
    replayed = [] if again is None else _replayed(why, again, now)
    here.tell(told, Group(*_shown(why, told), *replayed))
    return Exit.DONE if again is None or again.same else Exit.DIFFERENT


# ------------------------------------------------------------------ what a person reads


def _shown(why: "engine.Explanation", told: ExplanationDocument) -> Iterator[RenderableType]:
    row, spec, decision = why.row, why.spec, why.row.decision
    yield Text.assemble((f"trial {row.trial}", LABEL), f"  {_standing(why)}")
    yield Text(words.point(spec, row.point))
    if row.as_run:
        yield Text(f"as run: {words.point(spec, row.as_run)}")
    yield Text()
    how = "chosen" if row.source == spec.strategy.name else "given"
    yield Text.assemble((f"{how} by {row.source or why.by}", LABEL), f"  {row.reason}")
    if decision is not None:
        yield Text(_weighed(decision))
    yield from _titled("expected, and what came of it", _outcome(told))
    if decision is not None:
        yield from _titled("what it preferred it to", _rivals(spec, decision))
        yield from _titled("what it had learned", _learned(decision))
        yield from _titled("earlier campaigns that informed it", _influences(decision))
        if decision.outlook is not None:
            yield from (Text(), Text(words.outlook(spec, decision.outlook)))
    yield Text()
    yield Text("\n".join(_provenance(why)), DIM)


def _standing(why: "engine.Explanation") -> str:
    if why.withdrawn:
        return f"withdrawn: {why.withdrawn}"
    failure = why.row.failure
    if failure is not None:
        return f"failed: {failure.cause}" + (f", {failure.message}" if failure.message else "")
    return why.status


def _weighed(decision: core.Decision) -> str:
    """As in "criterion: log expected improvement, 0.34 here; it knew 12 trials; model m7"."""
    said = f"criterion: {decision.criterion}"
    if decision.score is not None:
        said += f", {words.number(decision.score)} here"
    said += f"; learned from {words.plural(decision.trials, 'trial')}" if decision.trials else ""
    return said + (f"; model {decision.model}" if decision.model else "")


def _titled(title: str, shown: Table | None) -> Iterator[RenderableType]:
    if shown is not None:
        yield from (Text(), Text(title, LABEL), shown)


def _outcome(told: ExplanationDocument) -> Table | None:
    names = list(dict.fromkeys([*told.predicted, *told.observed]))
    if not names:
        return None
    table = _table("", "expected", "came out", "off by")
    for name in names:
        sides = (told.predicted.get(name), told.observed.get(name))
        cells = [words.number(o.value, o.sigma) if o else "" for o in sides]
        unit = next(o.unit for o in sides if o)
        z = told.z.get(name)
        table.add_row(f"{name} {unit}".rstrip(), *cells, "" if z is None else Text(f"{z:+.1f} sigma", BRIGHT))
    return table


def _rivals(spec: core.CampaignSpec, decision: core.Decision) -> Table | None:
    if not decision.runners_up:
        return None
    names = list(dict.fromkeys(o.observable for rival in decision.runners_up for o in rival.predicted))
    table = _table("score", *(f"{name} expected" for name in names), "point")
    for rival in decision.runners_up:
        expected = core.latest(rival.predicted)
        cells = [words.quantity(expected[name]) if name in expected else "" for name in names]
        score = "" if rival.score is None else words.number(rival.score)
        table.add_row(score, *cells, words.point(spec, rival.point))
    return table


def _learned(decision: core.Decision) -> Table | None:
    if not decision.learned:
        return None
    names = list(dict.fromkeys(name for numbers in decision.learned.values() for name in numbers))
    table = _table("", *decision.learned)
    for name in names:
        cells = [words.number(n[name]) if name in n else "" for n in decision.learned.values()]
        table.add_row(name, *cells)
    return table


def _influences(decision: core.Decision) -> Table | None:
    if not decision.informed_by:
        return None
    table = _table("campaign", "share", "trials")
    for one in sorted(decision.informed_by, key=lambda i: -i.share):
        table.add_row(one.campaign, words.percent(one.share), str(one.trials or ""))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=DIM)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _provenance(why: "engine.Explanation") -> Iterator[str]:
    if why.asked is not None:
        a = why.asked
        count = words.plural(a.count, "point")
        place = "" if a.count == 1 else f", of which this was number {a.place + 1}"
        yield f"asked for {count}{place}, when it knew entry {a.known} of the journal, with seed {a.seed}"
    yield f"recorded {words.moment(why.row.proposed)} by {why.by}" if why.row.proposed else f"recorded by {why.by}"
    if used := _of_the_choice(why.versions, why.spec):
        yield "with " + ", ".join(f"{name} {version}" for name, version in used.items())


def _of_the_choice(versions: dict[str, str], spec: core.CampaignSpec) -> dict[str, str]:
    of_strategy = parts.plugins.origin("strategies", spec.strategy.name)
    return {name: version for name, version in versions.items() if name in OF_THE_CHOICE or name in of_strategy}


# ------------------------------------------------------------------ asked again


def _replayed(why: "engine.Explanation", again: "engine.Replay", now: dict[str, str]) -> Iterator[RenderableType]:
    yield Text()
    name = why.spec.strategy.name
    if again.same:
        yield Text.assemble(
            ("replay: the same", BRIGHT), f"  {name}, asked again, chooses it again, for the same reasons"
        )
        return
    if again.now is None:
        yield Text.assemble(("replay: different", "bold red"), f"  {name}, asked again, has no such point to offer")
    else:
        yield Text.assemble(("replay: different", "bold red"), f"  {name}, asked again, says otherwise")
        table = _table("", "then", "now")
        for one in again.differences:
            table.add_row(one.field, _cell(one.then), _cell(one.now))
        yield table
    changed = {n: (why.versions.get(n, "not there"), now.get(n, "not there")) for n in {**why.versions, **now}}
    changed = {n: pair for n, pair in changed.items() if pair[0] != pair[1]}
    if changed:
        table = _table("software", "then", "now")
        for n, pair in changed.items():
            table.add_row(n, *pair)
        yield from (Text(), table)
    else:
        yield Text("with the same versions of all software that is recorded", DIM)


def _cell(value: Any) -> str:
    return "nothing" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()
