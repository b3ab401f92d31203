"""The verbs for models, all in one place."""

import typer

from . import _model_train
from ._verb import verb


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    model = typer.Typer(no_args_is_help=True)
    model.callback()(_model_verbs)
    verb(model, "Make")(_model_train.train)
    app.add_typer(model, name="model", rich_help_panel="Results")


def _model_verbs() -> None:
    """Models: trained from datasets, judged, kept in versions, and used in the loop."""
