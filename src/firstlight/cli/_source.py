"""Verbs for sources: other people's data facilities, named so that they can be searched with ours."""

from typing import Annotated, Any

import typer

from . import _parts as parts
from ._facility import Options, read_options
from ._output import Here, columns
from ._verb import open_app, settings, verb

Name = Annotated[str, typer.Argument(metavar="NAME", help="What it is called here.", show_default=False)]
Kind = Annotated[
    str, typer.Argument(metavar="KIND", help="What it is: optimade, tiled, web, dcat or openapi.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    source = typer.Typer(no_args_is_help=True)
    source.callback()(_source)
    verb(source, "Sources")(add)
    verb(source, "Sources", "list")(list_sources)
    app.add_typer(source, name="source", rich_help_panel="Results")


def _source() -> None:
    """Other people's data facilities, searched together with ours."""


async def add(here: Here, name: Name, kind: Kind, options: Options = None) -> None:
    """Add a source to the data directory's firstlight.toml."""
    told = settings(here)
    table = {"kind": kind} | read_options(options or [])
    own = {key: value for key, value in table.items() if key != "kind"}
    # It is made once before it is written down: a wrong option leaves no trace.
    await parts.plugins.make("sources", kind, {"name": name, **own}).close()
    file = parts.config.add_source(told, name, table)
    here.tell(
        {"source": name, "kind": kind, "file": str(file)},
        f"{name} is in {file}\n`firstlight data search --source {name} WORDS` asks it",
    )


async def list_sources(here: Here) -> None:
    """List the sources, and where they are."""
    async with open_app(here) as app:
        told = [(name, str(o.get("kind", name)), _address(o)) for name, o in app.settings.sources.items()]
    table = columns("source", "kind", "address")
    for row in told:
        table.add_row(*row)
    here.tell({"sources": [{"source": n, "kind": k, "address": a} for n, k, a in told]}, table)


def _address(options: Any) -> str:
    return next((str(options[key]) for key in ("base_url", "url", "document") if key in options), "")
