"""The command line: run campaigns, look at them, and decide what waits for a person."""

from importlib.metadata import version as installed
from typing import Annotated

import typer

from . import (
    _attend,
    _backtest,
    _campaigns,
    _datasets,
    _explain,
    _facility,
    _lab,
    _looking,
    _models,
    _people,
    _source,
    _steer,
)
from ._output import MEANING, Exit
from ._verb import DataDir, Debug, Json, before_the_verb

__all__ = ["Exit", "cli", "main"]

_EPILOG = "Exit codes: " + "; ".join(f"{int(code)} {meaning}" for code, meaning in MEANING.items()) + "."

cli = typer.Typer(
    name="firstlight", no_args_is_help=True, pretty_exceptions_enable=False, epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
"""The command line as a Typer application."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"firstlight {installed('firstlight')}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")]


@cli.callback()
def _everywhere(
    ctx: typer.Context,
    as_json: Json = False,
    data_dir: DataDir = None,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """Closed-loop experimentation: state a goal, and run the loop until it is met."""
    before_the_verb(ctx, as_json, data_dir, debug)


for _room in (
    _campaigns,
    _steer,
    _people,
    _attend,
    _looking,
    _explain,
    _facility,
    _lab,
    _backtest,
    _datasets,
    _models,
    _source,
):
    _room.register(cli)


def main() -> None:
    """The `firstlight` program."""
    cli(prog_name="firstlight")
