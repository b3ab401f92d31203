"""The verbs for models, all in one place."""

import typer

from . import (
    _model,
    _model_bundle,
    _model_choose,
    _model_say,
    _model_serve,
    _model_shadow,
    _model_show,
    _model_together,
    _model_train,
)
from ._verb import verb


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    model = typer.Typer(no_args_is_help=True)
    model.callback()(_model_verbs)
    verb(model, "Make")(_model_train.train)
    verb(model, "Make")(_model_together.together)
    verb(model, "Make")(_model_together.site)
    verb(model, "Make")(_model_choose.choose)
    verb(model, "Look", "list")(_model.list_)
    for looks in (_model_show.show, _model_show.compare, _model.history, _model.touched):
        verb(model, "Look")(looks)
    verb(model, "Decide")(_model_shadow.shadow)
    for says in (_model_say.promote, _model_say.rollback, _model_say.revoke, _model_say.restore):
        verb(model, "Decide")(says)
    verb(model, "Hand on")(_model_bundle.key)
    verb(model, "Hand on")(_model_bundle.export)
    verb(model, "Hand on", "import")(_model_bundle.bring)
    verb(model, "Hand on")(_model_serve.serve)
    app.add_typer(model, name="model", rich_help_panel="Results")


def _model_verbs() -> None:
    """Models: trained from datasets, judged, kept in versions, and used in the loop."""
