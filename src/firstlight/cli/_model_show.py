"""Verbs that show one version of a model, and hold two of them side by side."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from . import _parts as parts
from . import _words as words
from ._model import Alias, Model, known, sentence, version_document
from ._output import Here, columns
from ._verb import open_app

if TYPE_CHECKING:
    from ..models.registry import Entry, Gate, Lineage, Registry, State, Verdict, Version

First = Annotated[str, typer.Argument(metavar="A", help="A version, as for show.", show_default=False)]
Second = Annotated[str, typer.Argument(metavar="B", help="The other.", show_default=False)]

CARD = "card.md"
"""The model card in a release."""
_LATEST = 8
"""Entries of its history that a person is shown; `history` has all."""
_WIDTH = 16
"""Characters of the longest bar."""


async def show(here: Here, model: Model, alias: Alias = "production") -> None:
    """Show a version: its card, scores, what its gate says of promoting it, where it comes from and what used it."""
    async with open_app(here) as app:
        with app.models() as (_, registry):
            version = known(registry.resolve, model)
            state = registry.state(version.name)
            verdict, lineage = registry.verdict(version, alias), registry.lineage(version)
            entries = [e for e in registry.history(version.name) if _concerns(e, version)]
            card, why_not = card_of(registry, version)
    for why in (*filter(None, [why_not]), *lineage.hidden):
        here.warn(why)
    document = _document(version, state, verdict, lineage) | {
        "history": [msgspec.to_builtins(entry) for entry in entries], "card": card,
    }  # fmt: skip
    parts_shown: list[RenderableType] = [_facts(version, state), Text("")]
    parts_shown += [
        *card_shown(here, card),
        scores_table(version),
        Text(""),
        _gate(version, verdict, state, alias),
        Text(""),
        _came(lineage),
        Text(""),
    ]
    here.tell(document, Group(*parts_shown, _latest(entries)))


async def compare(here: Here, a: First, b: Second) -> None:
    """Hold the scores of two versions side by side, and say which is better."""
    async with open_app(here) as app:
        with app.models() as (_, registry):
            one, two = known(registry.resolve, a), known(registry.resolve, b)
    ours, theirs, same_test = _on_one_test(one, two)
    directions = _directions(one) | _directions(two)
    rows = [
        {"score": name, "a": ours.get(name), "b": theirs.get(name),
         "better": _better(one.id, ours.get(name), two.id, theirs.get(name), directions.get(name, 0))}
        for name in dict.fromkeys([one.made.metric, two.made.metric, *ours, *theirs])
    ]  # fmt: skip
    notes = list(_notes(one, two, same_test, rows))
    document = {"a": one.id, "b": two.id, "same_test": same_test, "scores": rows, "notes": notes}
    here.tell(document, _side_by_side(one, two, rows))
    for note in notes:
        here.warn(note)


# ------------------------------------------------------------------ one version


def scores_table(version: "Version") -> Table:
    """Its scores beside those of its parent and of the baselines, on the same test; * is what versions are compared
    by."""
    made = version.made
    table = columns("score", version.id, *(["parent"] if made.parent else []), *made.baselines)
    for name in dict.fromkeys([made.metric, *made.scores]):
        others = [made.parent_scores] if made.parent else []
        others += made.baselines.values()
        mark = f"{name} *" if name == made.metric else name
        table.add_row(mark, words.number(made.scores[name]), *(_number(scores.get(name)) for scores in others))
    for name, value in made.forgetting.items():
        table.add_row(f"{name} on what its parent could do", words.number(value))
    return table


def card_shown(here: Here, card: str) -> list[RenderableType]:
    """A card in the shapes that it asks for where there is a screen, and elsewhere as it was written."""
    if not card:
        return []
    if not here.live:
        return [Text(card), Text("")]
    from rich.markdown import Markdown  # noqa: PLC0415  It brings a parser, which few commands need.

    return [Markdown(card), Text("")]


def card_of(registry: "Registry", version: "Version") -> tuple[str, str]:
    """The model card ("" where the release has none), and why it cannot be read, if so."""
    if CARD not in version.made.files:
        return "", ""
    try:
        text = registry.shelf.files(version.made.record)[CARD].read_text(encoding="utf-8")
    except (LookupError, OSError, ValueError) as error:
        return "", f"the card of {version.id} cannot be read: {error}"
    return printable(text), ""


def printable(text: str) -> str:
    """Text of another site, without what would move the cursor of a terminal."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def _document(version: "Version", state: "State", verdict: "Verdict", lineage: "Lineage") -> dict[str, Any]:
    made = version.made
    more = ("scores", "parent", "parent_scores", "baselines", "forgetting", "files", "gate", "spec", "manifest")
    whole: dict[str, Any] = msgspec.to_builtins(made)
    return version_document(version, state) | {name: whole[name] for name in more} | {
        "verdict": msgspec.to_builtins(verdict) | {"passed": verdict.passed, "reasons": list(verdict.reasons)},
        "lineage": msgspec.to_builtins(lineage),
        "shadows": [msgspec.to_builtins(shadow) for shadow in version.shadows],
        "versions": [v.id for v in state.versions.values()],
    }  # fmt: skip


def _facts(version: "Version", state: "State") -> Table:
    made, spec = version.made, version.made.spec
    told = {
        "model": version.id, "title": spec.get("title"), "about": spec.get("description"),
        "stands for": ", ".join(parts.registry.standing(state.aliases, version.number)),
        "revoked": f"{version.revoked.reason} ({version.revoked.by}, {words.moment(version.revoked.at)})"
        if version.revoked else "",
        "family": made.family, "licence": made.licence or "not said", "record": made.record,
        "registered": f"{words.moment(version.at)} by {version.by}", "from": made.origin,
        "versions": ", ".join(f"{n}{' (revoked)' if v.revoked else ''}" for n, v in state.versions.items()),
    }  # fmt: skip
    return lines(told)


def _gate(version: "Version", verdict: "Verdict", state: "State", alias: str) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for check in verdict.checks:
        table.add_row(Text("yes" if check.passed else "no", style="green" if check.passed else "red"), Text(check.why))
    if verdict.ask:
        table.add_row(Text("asks", style="yellow"), Text(verdict.ask))
    if version.revoked is not None:
        said = f"{version.id} is revoked, and cannot be promoted"
    elif state.means(alias) == version.number:
        said = f"{version.id} is in {alias}{'' if verdict.passed else ', although not all of that holds'}"
    elif not verdict.passed:
        said = f"{version.id} may not be promoted"
    else:
        said = f"{version.id} may be promoted{', once that is answered' if verdict.ask else ''}"
    return Group(Text("what was asked of it before it was trained", style="grey58"), table, Text(said))


def _came(lineage: "Lineage") -> Table:
    more = len(lineage.trials)
    return lines({
        "learned from": ", ".join(lineage.data), "began with": " < ".join(lineage.parents), "order": lineage.order,
        "made from it": ", ".join(lineage.children), "used by campaigns": ", ".join(lineage.campaigns),
        "trials": words.plural(more, "trial") if more else "", "datasets": ", ".join(lineage.datasets),
    })  # fmt: skip


def _latest(entries: "list[Entry]") -> Table:
    table = columns("when", "who", "what")
    for entry in entries[-_LATEST:]:
        table.add_row(words.moment(entry.at), entry.by, Text(sentence(entry.fact)))
    return table


def _concerns(entry: "Entry", version: "Version") -> bool:
    fact = entry.fact
    left = isinstance(fact, parts.registry.RolledBack) and fact.left == version.number
    return left or fact.version == version.number


def lines(told: Mapping[str, object]) -> Table:
    """A line for each of these that is something."""
    table = Table.grid(padding=(0, 2))
    for name, value in told.items():
        if value:
            table.add_row(Text(name, style="grey58"), Text(str(value)))
    return table


# ------------------------------------------------------------------ two versions


def _on_one_test(one: "Version", two: "Version") -> tuple[Mapping[str, float], Mapping[str, float], bool]:
    """The scores of both, on the same test where there was one, and whether there was."""
    if two.made.parent == one.made.record and two.made.parent_scores:
        return two.made.parent_scores, two.made.scores, True
    if one.made.parent == two.made.record and one.made.parent_scores:
        return one.made.scores, one.made.parent_scores, True
    same = all(
        getattr(one.made, name) == getattr(two.made, name) for name in ("manifest", "family")
    ) and all(one.made.spec.get(name) == two.made.spec.get(name) for name in ("split", "options"))  # fmt: skip
    return one.made.scores, two.made.scores, same


def _directions(version: "Version") -> dict[str, int]:
    """Which way is better, of the scores of which that is known: -1 smaller, 1 larger."""
    gate: Gate = version.made.gate
    return dict.fromkeys(gate.at_least, 1) | dict.fromkeys(gate.at_most, -1) | {version.made.metric: -1}


def _better(a: str, ours: float | None, b: str, theirs: float | None, direction: int) -> str | None:
    """Which version is better, "same", or None where nobody can say."""
    if ours is None or theirs is None or not direction:
        return None
    if ours == theirs:
        return "same"
    return a if (ours > theirs) == (direction > 0) else b


def _notes(one: "Version", two: "Version", same_test: bool, rows: list[dict[str, Any]]) -> Iterator[str]:
    if one.made.metric != two.made.metric:
        yield f"{one.id} is judged by {one.made.metric}, and {two.id} by {two.made.metric}"
    if not same_test:
        yield "they were not judged on the same test: the figures need not tell which is better"
    if unknown := [r["score"] for r in rows if r["better"] is None and None not in (r["a"], r["b"])]:
        yield f"whether more or less is better of {', '.join(unknown)}, no gate says"
    for candidate, other in ((one, two), (two, one)):
        for shadow in candidate.shadows:
            if candidate.name == other.name and shadow.against == other.number:
                told = shadow.compared
                yield (
                    f"on {words.plural(told.trials, 'trial')} that {other.id} served: {told.metric} of {candidate.id} "
                    f"{words.number(told.candidate)}, of {other.id} {words.number(told.production)}"
                )
    for version in (one, two):
        if version.revoked is not None:
            yield f"{version.id} is revoked: {version.revoked.reason}"


def _side_by_side(one: "Version", two: "Version", rows: list[dict[str, Any]]) -> Table:
    table = columns("score", one.id, "", two.id, "", "better")
    metrics = {one.made.metric, two.made.metric}
    for row in rows:
        name, a, b = row["score"], row["a"], row["b"]
        most = max(abs(value) for value in (a, b, 0.0) if value is not None)
        mark = f"{name} *" if name in metrics else name
        table.add_row(mark, _number(a), _bar(a, most), _number(b), _bar(b, most), row["better"] or "")
    return table


def _bar(value: float | None, most: float) -> Text:
    """As long as a score is large, beside the other."""
    length = 0 if value is None or not most else round(_WIDTH * abs(value) / most)
    return Text("━" * length, style="cyan")


def _number(value: float | None) -> str:
    return "" if value is None else words.number(value)
