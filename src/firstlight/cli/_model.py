"""Verbs that look at models: which there are, what was in production when, and what a dataset has reached."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import typer
from rich.text import Text

from . import _parts as parts
from . import _words as words
from ._output import Exit, Here, Problem, columns
from ._verb import open_app

if TYPE_CHECKING:
    from ..models.registry import Entry, Fact, Promoted, Registry, RolledBack, State, Touched, Version

Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="NAME:N, NAME@ALIAS or its record; a NAME alone: what is in production.",
                   show_default=False),
]  # fmt: skip
Name = Annotated[str, typer.Argument(metavar="NAME", help="What the model is called.", show_default=False)]
OptionalName = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="Every version of this model.", show_default=False)
]
Id = Annotated[str, typer.Argument(metavar="ID", help="A dataset or a model.", show_default=False)]
At = Annotated[
    str, typer.Option(metavar="DATE", help="Only what was in production then: a day or a moment.", show_default=False)
]
Alias = Annotated[str, typer.Option(help="In place of production.")]

_T = TypeVar("_T")


async def list_(here: Here, name: OptionalName = None) -> Exit | None:
    """List models: their versions, what is in production, how good it is, and what is revoked."""
    whole = True
    shown, documents = _table("model" if name is None else "version"), list[dict[str, Any]]()
    async with open_app(here) as app:
        with app.models() as (_, registry):
            for one in registry.names() if name is None else [name]:
                try:
                    state = known(registry.state, one)
                except parts.registry.Damaged as error:
                    if name is not None:
                        raise
                    # The others are as good as before: they are shown.
                    here.warn(str(error))
                    whole = False
                    continue
                documents.append(_model(one, state))
                for row in [_in_short(one, state)] if name is None else _each(state):
                    shown.add_row(*row)
    here.tell({"models": documents}, shown if documents or not whole else "there is no model yet")
    return Exit.DONE if whole else Exit.DAMAGED


async def history(here: Here, name: Name, at: At = "", alias: Alias = "production") -> None:
    """Tell all that has happened to a model, or with --at which version was in production then."""
    if alias != parts.registry.PRODUCTION and not at:
        raise Problem(Exit.BAD_INPUT, f"--alias {alias} asks what it meant at some time: say when with --at DATE")
    async with open_app(here) as app:
        with app.models() as (_, registry):
            entries = known(registry.history, name)
            state = registry.state(name)
    if at:
        start, end = _when(at)
        _tell_then(here, state, name, alias, at, list(_stood(entries, alias, start, end)))
        return
    table = columns("when", "who", "what")
    for entry in entries:
        table.add_row(words.moment(entry.at), entry.by, sentence(entry.fact))
    here.tell({"model": name, "history": [msgspec.to_builtins(entry) for entry in entries]}, table)


async def touched(here: Here, id: Id) -> Exit:
    """List the models that a dataset or a model has reached, however long the chain, and the way to each."""
    async with open_app(here) as app:
        with app.models() as (library, registry):
            source = _source(registry, library.index.get, id)
            found, hidden = reached(registry, source)
            states = {one.version.name: registry.state(one.version.name) for one in found}
    table = columns("version", "stands for", "revoked", "over")
    for one in found:
        aliases = ", ".join(parts.registry.standing(states[one.version.name].aliases, one.version.number))
        table.add_row(one.version.id, aliases, _revoked(one.version), " > ".join(one.way))
    documents = [version_document(o.version, states[o.version.name]) | {"way": list(o.way)} for o in found]
    nothing = f"{source} has reached no model{' whose history can be read' if hidden else ''}"
    here.tell({"id": source, "touched": documents, "hidden": hidden}, table if found else nothing)
    for one in found:
        if one.version.revoked is None:
            here.say(f"{one.version.id} may still be loaded; firstlight model revoke {one.version.id} --reason ...")
    return tell_hidden(here, hidden)


# ------------------------------------------------------------------ what is meant


def known(ask: Callable[[str], _T], text: str) -> _T:
    """What a registry says of a model or a version, or the problem that there is none."""
    try:
        return ask(text)
    except LookupError as error:
        raise Problem(Exit.BAD_INPUT, str(error), hint="`firstlight model list` lists what there is.") from error


def chosen(registry: "Registry", text: str) -> "Version":
    """The version that is meant where a name alone will not do, because what is said of it stays."""
    if not set(text) & {":", "@"}:
        there = ", ".join(v.id for v in known(registry.versions, text))
        raise Problem(Exit.BAD_INPUT, f"say which version of {text}; there are: {there}")
    return known(registry.resolve, text)


def reached(registry: "Registry", record: str) -> tuple[list["Touched"], list[str]]:
    """The versions that something has reached, itself left out; and why that cannot be told of models whose history is
    damaged."""
    found = [one for one in registry.touched(record) if one.version.made.record != record]
    return found, list(registry.readable()[1].values())


def tell_hidden(here: Here, hidden: Sequence[str]) -> Exit:
    """Say of which models it cannot be told whether something has reached them; how the verb ends."""
    for why in hidden:
        here.warn(f"whether it has reached others cannot be told: {why}")
    return Exit.DAMAGED if hidden else Exit.DONE


def _source(registry: "Registry", record: Callable[[str], Any], id: str) -> str:
    """The id of a record that is meant: of a version, of a dataset, or one that only models know of."""
    try:
        return registry.resolve(id).made.record
    except LookupError:
        pass  # It is no model, then.
    try:
        found: str = record(id).record.id
    except LookupError as error:
        if any(id in version.made.data for version in registry.readable()[0]):
            return id
        hint = "`firstlight data search` and `firstlight model list` list what there is."
        raise Problem(Exit.BAD_INPUT, f"there is no dataset and no model {id!r}", hint=hint) from error
    return found


# ------------------------------------------------------------------ what is shown


def version_document(version: "Version", state: "State") -> dict[str, Any]:
    """A version in short, as every verb tells it."""
    made = version.made
    return {
        "version": version.id, "record": made.record, "family": made.family, "metric": made.metric,
        "score": made.scores[made.metric], "passed": made.verdict.passed, "licence": made.licence,
        "aliases": parts.registry.standing(state.aliases, version.number), "at": version.at, "by": version.by,
        "origin": made.origin, "revoked": msgspec.to_builtins(version.revoked),
    }  # fmt: skip


def sentence(fact: "Fact") -> str:
    """What has happened to a model, in a line."""
    r = parts.registry
    match fact:
        case r.Registered(version=number, metric=metric, scores=scores, verdict=verdict, origin=origin):
            gate = "reached what its gate asks" if verdict.passed else "did not reach what its gate asks"
            whose = f", from {origin}" if origin else ""
            return f"version {number} registered{whose}: {metric} {words.number(scores[metric])}; it {gate}"
        case r.Promoted(version=number, alias=alias, why=why, forced=forced, answered=answered):
            against = f" although {'; '.join(fact.evidence.reasons)}" if forced else ""
            word = f"; {answered} said yes to {fact.evidence.ask!r}" if answered else ""
            return f"version {number} is in {alias}{against}{word}{_because(why)}"
        case r.RolledBack(version=number, left=left, alias=alias, why=why):
            return f"{alias} goes back from version {left} to {number}{_because(why)}"
        case r.Shadowed(version=number, against=against_, compared=c):
            told = f"{c.metric} {words.number(c.candidate)} against {words.number(c.production)}"
            return f"version {number} held against {against_} on {words.plural(c.trials, 'trial')}: {told}"
        case r.Withdrawn(version=number, reason=reason, said=said):
            return f"version {number} revoked{f' by {said}' if said else ''}: {reason}"
        case r.Restored(version=number, reason=reason):
            return f"version {number} may be used again: {reason}"
    raise AssertionError(fact)


def _because(why: str) -> str:
    return f": {why}" if why else ""


def _table(first: str) -> Any:
    middle = ("versions", "in production") if first == "model" else ("made", "stands for")
    return columns(first, *middle, "family", "metric", "score", "licence", "revoked")


def _model(name: str, state: "State") -> dict[str, Any]:
    number = state.means(parts.registry.PRODUCTION)
    return {
        "model": name, "production": None if number is None else state.versions[number].id,
        "versions": [version_document(version, state) for version in state.versions.values()],
    }  # fmt: skip


def _in_short(name: str, state: "State") -> Sequence[str]:
    """A model in a row: that of what is in production, or of its newest version while nothing is."""
    number = state.means(parts.registry.PRODUCTION)
    version = state.versions[number or max(state.versions)]
    made = version.made
    revoked = ", ".join(str(v.number) for v in state.versions.values() if v.revoked is not None)
    stands = "none" if number is None else f"{number}{' (revoked)' if version.revoked else ''}"
    score = words.number(made.scores[made.metric])
    return name, str(len(state.versions)), stands, made.family, made.metric, score, made.licence or "not said", revoked


def _each(state: "State") -> Iterator[Sequence[str]]:
    for version in state.versions.values():
        made = version.made
        aliases = ", ".join(parts.registry.standing(state.aliases, version.number))
        yield (
            version.id, words.moment(version.at), aliases, made.family, made.metric,
            words.number(made.scores[made.metric]), made.licence or "not said", _revoked(version),
        )  # fmt: skip


def _revoked(version: "Version") -> str:
    return "" if version.revoked is None else f"{version.revoked.reason} ({version.revoked.by})"


# ------------------------------------------------------------------ what was in production when


def _when(text: str) -> tuple[float, float]:
    """The first and the last moment of a day, or twice the same moment, in seconds since 1970."""
    try:
        try:
            day = date.fromisoformat(text)
        except ValueError:
            start = end = datetime.fromisoformat(text).timestamp()
        else:
            begins = datetime(day.year, day.month, day.day)
            start, end = begins.timestamp(), (begins + timedelta(days=1)).timestamp() - 1e-6
    except (ValueError, OverflowError) as error:
        said = f"{text!r} is no date; write it as 2026-11-26 or 2026-11-26T14:30"
        raise Problem(Exit.BAD_INPUT, said) from error
    if start > datetime.now().timestamp():
        raise Problem(Exit.BAD_INPUT, f"{text} is yet to come: nobody knows what will be in production then")
    return start, end


def _stood(
    entries: Sequence["Entry"], alias: str, start: float, end: float
) -> Iterator[tuple["Entry", "Promoted | RolledBack", float | None]]:  # fmt: skip
    """What an alias meant from one moment to another: how it came to, by which fact, and until when (None: it still
    does)."""
    r = parts.registry
    changes = [
        (e, e.fact) for e in entries if isinstance(e.fact, r.Promoted | r.RolledBack) and e.fact.alias == alias
    ]  # fmt: skip
    untils = [*(entry.at for entry, _ in changes[1:]), None]
    for (entry, fact), until in zip(changes, untils, strict=False):
        if entry.at <= end and (until is None or until > start):
            yield entry, fact, until


def _tell_then(
    here: Here, state: "State", name: str, alias: str, at: str,
    stood: Sequence[tuple["Entry", "Promoted | RolledBack", float | None]],
) -> None:  # fmt: skip
    table = columns("version", "since", "until", "by", "why", "revoked since")
    documents = list[dict[str, Any]]()
    for entry, fact, until in stood:
        version = state.versions[fact.version]
        table.add_row(
            version.id, words.moment(entry.at), "" if until is None else words.moment(until), entry.by, fact.why,
            "" if version.revoked is None else f"{words.moment(version.revoked.at)}: {_revoked(version)}",
        )  # fmt: skip
        documents.append(
            {"version": version.id, "record": version.made.record, "since": entry.at, "until": until, "by": entry.by,
             "why": fact.why, "forced": isinstance(fact, parts.registry.Promoted) and fact.forced,
             "revoked": msgspec.to_builtins(version.revoked)}
        )  # fmt: skip
    nothing = Text(f"no version of {name} was in {alias} at {at}")
    here.tell({"model": name, "alias": alias, "at": at, "versions": documents}, table if documents else nothing)
