"""The verbs for data, all in one place."""

import typer

from . import _data, _data_in, _data_out
from ._verb import verb


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    data = typer.Typer(no_args_is_help=True)
    data.callback()(_data_verbs)
    for looks in (_data.search, _data.show, _data_out.trace, _data_out.query, _data_out.page):
        verb(data, "Find and look")(looks)
    verb(data, "Bring in")(_data_in.add)
    verb(data, "Bring in", "import")(_data_in.bring)
    verb(data, "Bring in")(_data_in.harvest)
    for gives in (_data_out.export, _data_out.publish):
        verb(data, "Give out")(gives)
    verb(data, "Look after")(_data.retract)
    verb(data, "Look after")(_data_out.verify)
    app.add_typer(data, name="data", rich_help_panel="Results")


def _data_verbs() -> None:
    """Datasets: those of campaigns, of people, and of other facilities."""
