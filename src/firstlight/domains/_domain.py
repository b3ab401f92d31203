"""What a domain is: a campaign ready to run, what it needs installed, and what its best is known to be."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from firstlight.core import CampaignSpec, Value

from ._apart import by_command, interpreter
from ._later import how_to_install


class Reference(Value, frozen=True):
    """The best value of the first objective that is known, in its unit, and who says so.

    `proven` where nothing can be better, as after an enumeration.
    """

    value: float
    source: str
    proven: bool = False


class Domain(Value, frozen=True):
    """A campaign of one priority area.

    `spec` makes its specification with defaults for trials, parallel and seed, to be changed with
    `msgspec.structs.replace`. `modules` are what its simulator imports and `programs` what it runs; `extra` of this
    package (by default that of the domain's name) installs the modules. A domain that stands `apart` has a simulator
    that does not go together with ours: where it is not importable here, it is run in an environment of its own.
    One with a `laboratory` is performed by the facility of that name.
    `values` computes the first objective at every row of the pool, nan where a trial fails or breaks a bound: what
    is needed to know random search, and the optimum, exactly.
    """

    name: str
    title: str
    area: str
    summary: str
    spec: Callable[[], CampaignSpec]
    extra: str = ""
    modules: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    apart: bool = False
    best: Reference | None = None
    values: Callable[[], Sequence[float]] | None = None
    laboratory: str = ""

    def missing(self) -> str:
        """What must be done before it can run, "" if nothing. Imports nothing."""
        absent = [] if self._interpreter() else self._absent()
        absent += [f"the program {name}" for name in self.programs if which(name) is None]
        return f"{self.title} needs {', '.join(absent)}: {how_to_install(self.extra or self.name)}" if absent else ""

    def campaign(self) -> CampaignSpec:
        """Its specification as it runs on this machine: here, or in the simulator's own environment."""
        python = self._interpreter() if self._absent() else None
        return self.spec() if python is None else by_command(self.spec(), python)

    def _interpreter(self) -> Path | None:
        return interpreter(self.extra or self.name) if self.apart else None

    def _absent(self) -> list[str]:
        return [name for name in self.modules if find_spec(name) is None]
