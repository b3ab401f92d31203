"""The rest of Firstlight, loaded when it is first used: `--help` must not wait for it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .. import app, backtest, catalog, config, data, domains, factory, journal, models, plugins, reports, together
    from ..catalog import adding, analysis, index, packages, provenance, sources
    from ..facilities.lab import discovery
    from ..facilities.lab import facility as lab
    from ..facilities.lab.twin import up as twin
    from ..models import bundle, federated, registry, serve, site
    from ..models import together as together_spec

__all__ = [
    "adding",
    "analysis",
    "app",
    "backtest",
    "bundle",
    "catalog",
    "config",
    "data",
    "discovery",
    "domains",
    "factory",
    "federated",
    "index",
    "journal",
    "lab",
    "models",
    "packages",
    "plugins",
    "provenance",
    "registry",
    "reports",
    "serve",
    "site",
    "sources",
    "together",
    "together_spec",
    "twin",
]

_ELSEWHERE = {
    "adding": "catalog.adding",
    "analysis": "catalog.analysis",
    "bundle": "models.bundle",
    "discovery": "facilities.lab.discovery",
    "federated": "models.federated",
    "index": "catalog.index",
    "lab": "facilities.lab.facility",
    "packages": "catalog.packages",
    "provenance": "catalog.provenance",
    "registry": "models.registry",
    "serve": "models.serve",
    "site": "models.site",
    "sources": "catalog.sources",
    "together_spec": "models.together",
    "twin": "facilities.lab.twin.up",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module(f"firstlight.{_ELSEWHERE.get(name, name)}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
