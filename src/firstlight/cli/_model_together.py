"""Verbs for models that sites train together: a site's side, behind its own gate, and the coordinator's."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import _parts as parts
from . import _words as words
from ._model import known
from ._model_serve import Open, admission, loaded
from ._model_train import advice
from ._output import Exit, Here, Problem, columns
from ._verb import open_app, settings

if TYPE_CHECKING:
    from ..models.federated import Round
    from ..models.registry import Version
    from ..models.together import RunSpec, SiteSpec

SiteFile = Annotated[
    Path, typer.Argument(metavar="SITE", help="The site's side, in YAML or JSON.", show_default=False)
]  # fmt: skip
RunFile = Annotated[
    Path, typer.Argument(metavar="RUN", help="The coordinator's side, in YAML or JSON.", show_default=False)
]
Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Where the run is kept, and its release.", show_default=False)
]


def site(here: Here, spec: SiteFile, open_: Open = False) -> None:
    """Take part in training together: answer the coordinator with sums of gradients, as this site's policy allows."""
    loaded("site", "models,serve,federated")
    with _read_well():
        told = parts.together.read_site(spec, parts.config.read_document)
        secret = admission(told.host, open_, _beside(spec, told.token))
        if not secret:
            # Behind a proxy of this machine is the world.
            said = f"{spec}: token: name a file with what the coordinator must show"
            raise Problem(Exit.BAD_INPUT, said, hint="umask 077; openssl rand -hex 32 > coordinator-token")
        owner = parts.serve.read_token(_beside(spec, told.owner), variable="FIRSTLIGHT_OWNER_TOKEN")
        items, files, campaigns, waiting = asyncio.run(_enrolled(here, told))
        gate = parts.together.Gate(settings(here), told, campaigns)
        folder = _beside(spec, told.log) or settings(here).data_dir / "together" / told.name
        families = {told.runs[0].family: lambda **options: parts.models.family(told.runs[0].family, options)}
        made = parts.together.opened(told, folder, items, files, families, gate)
    table = columns("run", "campaign", "waits for")
    runs = [{"run": run, "campaign": id, "waits": waiting.get(id, "")} for run, id in campaigns.items()]
    for one in runs:
        table.add_row(*one.values())

    def started(address: str) -> None:
        here.tell({"site": told.name, "address": address, "log": str(folder / "site.log"), "runs": runs}, table)
        for id in waiting:
            here.warn(f"nothing leaves before somebody says yes: firstlight approve {id} contribute")
        here.say(f"{told.name} answers at {address}, and says in {folder / 'site.log'} what left; Ctrl-C ends it")

    try:
        asyncio.run(_concluded(here, made, told, campaigns))
        parts.site.serve(made, told.host, int(told.port), token=secret, owner_token=owner, started=started)
        asyncio.run(_concluded(here, made, told, campaigns))
    finally:
        made.close()


async def _enrolled(here: Here, told: "SiteSpec") -> tuple[Any, Any, dict[str, str], dict[str, str]]:
    """What the site lends, its campaigns by run, and by campaign what a person is asked."""
    async with open_app(here) as app:
        items, files, campaigns = await parts.together.enrol(app, told)
        waiting = dict[str, str]()
        for id in campaigns.values():
            campaign, _ = await app.state(id)
            asked = [a.question for t in campaign.open.values() for a in t.actions.values() if a.status == "escalated"]
            waiting |= dict.fromkeys([id] if asked else (), "; ".join(asked))
    return items, files, campaigns, waiting


async def _concluded(here: Here, made: Any, told: "SiteSpec", campaigns: dict[str, str]) -> None:
    async with open_app(here) as app:
        await parts.together.conclude(app, made, told, campaigns)


def together(here: Here, spec: RunFile, folder: Folder) -> None:
    """Train a model with sites that keep their data. The same again goes on where it was; at the end it is released."""
    federated = loaded("federated", "federated")
    with _read_well():
        told = parts.together_spec.read_run(spec, parts.config.read_document)
        partners = [
            federated.Partner(name, place.url, federated.read_token(_beside(spec, place.token)) if place.token else "")
            for name, place in told.sites.items()
        ]
        start, version = asyncio.run(_start(here, told))

    def report(done: "Round") -> None:
        here.say(_line(done, told))
        if here.as_json:
            progress = {
                "round": done.number, "rounds": told.terms.rounds, "sites": done.sites, "examples": done.examples,
                "loss": done.loss, "validation": done.validation, "away": dict(done.away),
            }  # fmt: skip
            here.write({"run": told.terms.run, "progress": progress})

    try:
        federated.train(
            told.terms, told.steps, start, partners, folder, least_sites=told.least_sites, seconds=told.seconds,
            validate=told.validate, report=report,
        )  # fmt: skip
        out = federated.release(folder, start, folder / "release")
        gave = federated.contributions(folder)
        made = asyncio.run(_registered(here, told, folder, start, version)) if told.data else None
    except federated.TooFew as error:
        hint = f"The same again goes on with this round: firstlight model together {spec} {folder}"
        raise Problem(Exit.UNAVAILABLE, str(error), hint=hint) from error
    except parts.registry.Refused:
        raise
    except ValueError as error:
        raise Problem(Exit.BAD_INPUT, str(error)) from error
    table = columns("site", "rounds", "examples", "withdrew")
    for name, one in gave.items():
        table.add_row(name, str(len(one.rounds)), f"{one.examples:,}", one.withdrew)
    sites = {
        name: {"rounds": len(one.rounds), "examples": one.examples, "withdrew": one.withdrew}
        for name, one in gave.items()
    }
    document = {"run": told.terms.run, "start": version, "release": str(out), "sites": sites}
    here.tell(document | {"version": made and made.id, "passed": made and made.made.verdict.passed}, table)
    here.say(f"{out} is what came of {told.terms.run}")
    if made is not None:
        here.say(advice(made))


async def _start(here: Here, told: "RunSpec") -> tuple[Path, str]:
    async with open_app(here) as app:
        with app.models() as (_, registry):
            version = known(registry.resolve, told.start)
            return registry.load_checked(version), version.id


async def _registered(here: Here, told: "RunSpec", folder: Path, start: Path, parent: str) -> "Version":
    async with open_app(here) as app:
        return await parts.together.register(app, told, folder, start, parent)


def _line(done: "Round", told: "RunSpec") -> str:
    loss = "" if done.loss is None else f"  loss {done.loss:.4g}"
    validation = "" if done.validation is None else f"  validation {done.validation:.4g}"
    away = "".join(f"  without {name}: {why}" for name, why in done.away.items())
    who = f"{words.plural(len(done.sites), 'site')}, {words.plural(done.examples, 'example')}"
    return f"round {done.number}/{told.terms.rounds}{loss}{validation}  {who}{away}"


def _beside(spec: Path, file: str) -> Path | None:
    """A file that a specification names, from its own folder on; None where it names none."""
    return spec.parent / file if file else None


@contextmanager
def _read_well() -> Iterator[None]:
    try:
        yield
    except Problem:
        raise
    except (parts.registry.Refused, parts.registry.Damaged):
        raise
    except (ValueError, LookupError) as error:
        raise Problem(Exit.BAD_INPUT, str(error), problems=tuple(str(error).splitlines())) from error
