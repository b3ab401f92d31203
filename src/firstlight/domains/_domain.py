"""What a domain is: a campaign ready to run, and what it needs installed."""

from collections.abc import Callable
from importlib.util import find_spec

from firstlight.core import CampaignSpec, Value


class Domain(Value, frozen=True):
    """A campaign of one priority area.

    `spec` makes its specification with defaults for trials, parallel and seed, to be changed with
    `msgspec.structs.replace`. `modules` are what its simulator imports, `requires` the extra of this
    package that installs them.
    """

    name: str
    title: str
    area: str
    summary: str
    spec: Callable[[], CampaignSpec]
    requires: str = ""
    modules: tuple[str, ...] = ()

    def missing(self) -> str:
        """What must be done before it can run, "" if nothing. Imports nothing."""
        absent = [name for name in self.modules if find_spec(name) is None]
        if not absent:
            return ""
        return f"{self.title} needs {', '.join(absent)}: pip install 'firstlight[{self.requires}]'"
