"""Modules that are imported when they are first used: naming a campaign loads no simulator."""

from importlib import import_module
from typing import Any

from firstlight.core import Failed


class _Later:
    def __init__(self, module: str, domain: str) -> None:
        self.__dict__["_module"], self.__dict__["_domain"] = module, domain

    def __getattr__(self, name: str) -> Any:
        try:
            found = import_module(self._module)
        except ModuleNotFoundError as error:
            if not self._domain:
                raise
            raise Failed("invalid-input", f"there is no module {error.name}: {how_to_install(self._domain)}") from None
        self.__dict__.update(vars(found))
        return getattr(found, name)


def later(module: str, domain: str = "") -> Any:
    """A stand-in for a module, imported at the first use of anything in it.

    `domain` names whose simulator it is: where the module is absent, its trials fail, saying what to install.
    """
    return _Later(module, domain)


def how_to_install(domain: str) -> str:
    """What to type to have a domain's simulator."""
    return f"pip install 'firstlight[{domain}]', or make setup-{domain} in a checkout"
