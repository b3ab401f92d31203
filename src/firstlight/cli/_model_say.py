"""Verbs by which people say what a version of a model is good for: promoted, taken back, revoked, restored."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.prompt import Confirm

from . import _parts as parts
from ._model import Alias, Name, chosen, known, reached, tell_hidden, version_document
from ._output import Exit, Here, Problem
from ._verb import open_app

if TYPE_CHECKING:
    from ..models.registry import Registry, Verdict, Version

Chosen = Annotated[str, typer.Argument(metavar="VERSION", help="NAME:N, NAME@ALIAS or its record.", show_default=False)]
Why = Annotated[str, typer.Option(help="Why, for its history.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why; whoever used it will read it.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Against what its gate says, with --why; that is recorded.")]
Yes = Annotated[
    str | None,
    typer.Option(metavar="ANSWER", help="Say yes to what its gate asks, and why.", show_default=False),
]


async def promote(
    here: Here, version: Chosen, alias: Alias = "production", why: Why = "", force: Force = False, yes: Yes = None
) -> None:
    """Put a version in production, if it has reached what was asked of it before it was trained."""
    async with open_app(here) as app:
        with app.models() as (_, registry):
            found = chosen(registry, version)
            before = registry.production(found.name, alias)
            if before is not None and before.number == found.number and found.revoked is None:
                here.tell(_document(registry, found, alias), f"{found.id} is in {alias} already")
                return
            answered = ""
            if found.revoked is None:
                verdict = registry.verdict(found, alias)
                _check(found, verdict, why, force)
                answered = _answered(here, found, verdict, yes)
            try:
                after = registry.promote(
                    found, parts.app.person(), why.strip(), alias=alias, answered=answered, force=force
                )
            except parts.registry.Refused:
                raise
            except ValueError as error:
                raise Problem(Exit.BAD_INPUT, str(error)) from error
            document = _document(registry, after, alias) | {"before": None if before is None else before.id}
    was = f", where {before.id} was" if before is not None else ""
    here.tell(document, f"{after.id} is in {alias}{was}")


async def rollback(here: Here, name: Name, alias: Alias = "production", why: Why = "") -> None:
    """Put back what was in production before; what is revoked is left out."""
    async with open_app(here) as app:
        with app.models() as (_, registry):
            before = known(lambda text: registry.production(text, alias), name)
            after = registry.roll_back(name, parts.app.person(), why.strip(), alias)
            document = _document(registry, after, alias) | {"before": None if before is None else before.id}
    was = f", where {before.id} was" if before is not None else ""
    here.tell(document, f"{after.id} is in {alias} again{was}")


async def revoke(here: Here, version: Chosen, reason: Reason = "") -> Exit:
    """Say that a version is not to be loaded any more, and list what it has reached. Nothing is deleted."""
    _reason(reason)
    async with open_app(here) as app:
        with app.models() as (_, registry):
            found = registry.revoke(chosen(registry, version), reason.strip(), parts.app.person())
            document = version_document(found, registry.state(found.name))
            models, hidden = reached(registry, found.made.record)
            uses = list(registry.shelf.derived(found.made.record))
    touched = [one.version.id for one in models]
    campaigns = list(dict.fromkeys(use.campaign for use in uses if use.campaign))
    told = {"touched": touched, "hidden": hidden, "campaigns": campaigns}
    here.tell(document | told, f"{found.id} is revoked: {reason.strip()}")
    for alias in document["aliases"]:
        more = "" if alias == parts.registry.PRODUCTION else f" --alias {alias}"
        here.warn(f"it is still what {found.name}@{alias} means: firstlight model rollback {found.name}{more}")
    for id in touched:
        here.warn(f"{id} was made from it")
    for campaign in campaigns:
        here.warn(f"campaign {campaign} has used it")
    return tell_hidden(here, hidden)


async def restore(here: Here, version: Chosen, reason: Reason = "") -> None:
    """Say that a version that was revoked may be loaded again."""
    _reason(reason)
    async with open_app(here) as app:
        with app.models() as (_, registry):
            found = registry.restore(chosen(registry, version), reason.strip(), parts.app.person())
            document = version_document(found, registry.state(found.name))
    here.tell(document, f"{found.id} may be loaded again: {reason.strip()}")


def _check(version: "Version", verdict: "Verdict", why: str, force: bool) -> None:
    """Raises the problem that a version has not reached what was asked of it, with every reason."""
    if verdict.passed:
        return
    reasons = "; ".join(verdict.reasons)
    if not force:
        raise Problem(
            Exit.REFUSED, f"{version.id} is not promoted: {reasons}",
            problems=(f"{version.id} is not promoted:", *(f"  {reason}" for reason in verdict.reasons)),
            hint='--force --why "..." promotes it nevertheless; the history says so for ever.',
        )  # fmt: skip
    if not why.strip():
        raise Problem(Exit.BAD_INPUT, f'{version.id} is promoted although {reasons}: say why with --why "..."')


def _answered(here: Here, version: "Version", verdict: "Verdict", yes: str | None) -> str:
    """Who has said yes to what the gate asks, and in which words; "" where it asks nothing."""
    if not verdict.ask:
        if yes is not None:
            raise Problem(Exit.BAD_INPUT, f"the gate of {version.id} asks nothing: leave --yes out")
        return ""
    if yes is not None:
        if not yes.strip():
            raise Problem(Exit.BAD_INPUT, f"--yes wants an answer to: {verdict.ask}")
        return f"{parts.app.person()} ({yes.strip()})"
    if not (here.live and sys.stdin.isatty()):
        said = f"{version.id} waits for a person's word: {verdict.ask}"
        raise Problem(Exit.REFUSED, said, hint='Answer with --yes "...".')
    try:
        agreed = Confirm.ask(verdict.ask, console=here.out, default=False)
    except EOFError:
        agreed = False
    if not agreed:
        raise Problem(Exit.REFUSED, f"{version.id} is not promoted: {parts.app.person()} said no to {verdict.ask!r}")
    return parts.app.person()


def _reason(reason: str) -> None:
    if not reason.strip():
        said = "say why: whoever used it will read it"
        raise Problem(Exit.BAD_INPUT, said, hint='Say it with --reason "...".')


def _document(registry: "Registry", version: "Version", alias: str) -> dict[str, Any]:
    return version_document(version, registry.state(version.name)) | {"alias": alias}
