"""The rest of Firstlight, loaded when it is first used: `--help` must not wait for it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .. import app, backtest, catalog, config, domains, journal, plugins, reports

__all__ = ["app", "backtest", "catalog", "config", "domains", "journal", "plugins", "reports"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module(f"firstlight.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
