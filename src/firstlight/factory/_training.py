"""Training as a campaign: one trial, which the gate judges and a facility performs, and a version that comes of it."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from firstlight.catalog.library import Library
from firstlight.core import (
    Asset,
    Budget,
    CampaignSpec,
    Goal,
    Limits,
    Objective,
    Observable,
    Ordered,
    ProcedureSpec,
    Row,
    StepSpec,
    StrategySpec,
)
from firstlight.models import Order, TrainSpec, family, inherited_by
from firstlight.models.card import licence
from firstlight.models.registry import CONFIG, WEIGHTS, Registry, Version
from firstlight.models.work import OUTPUTS, observed_as

from ._manifest import frozen
from ._together import CONTRIBUTE

OPERATION = "firstlight.models.work:train"


class NothingTrained(ValueError):
    """A training campaign that has no model to show; the message says why."""


def prepared(library: Library, registry: Registry, spec: TrainSpec) -> CampaignSpec:
    """The campaign that trains what is asked for: with the same specification and the same data, the same campaign.

    Everything that the facility needs stands in its one action, the specification and its gate included, so that what
    the model must reach is in the journal before it is trained. Raises ValueError saying what is wrong with the
    specification, LookupError, Revoked, NotForTraining, OSError.
    """
    made = family(spec.family, spec.options)
    chosen = frozen(library, spec.data, made.suffixes, spec.approval)
    parent = registry.resolve(spec.parent) if spec.parent else None
    # What it may be shared under is settled before anything is spent on it.
    try:
        others = () if parent else inherited_by(made)
    except ValueError:
        others = ()  # They may be where it is trained: then it is settled when it is registered.
    licence(
        spec.licence, [*(item.licence for item, _ in chosen), *(one.licence for one in others)],
        parent.made.licence if parent else "",
    )  # fmt: skip
    order = Order(
        name=spec.name, family=spec.family, options=spec.options, split=spec.split, training=spec.training,
        items=tuple(item for item, _ in chosen), parent=parent.id if parent else "",
    )  # fmt: skip
    inputs = {f"data_{n}": asset for n, (_, asset) in enumerate(chosen)}
    if parent is not None:
        inputs |= release_assets(registry, parent, "parent_")
    settings: dict[str, object] = {"order": msgspec.to_builtins(order), "asked": msgspec.to_builtins(spec)}
    step = StepSpec(
        operation=OPERATION, name="train", facility=spec.facility, resources=spec.resources, inputs=inputs,
        outputs=OUTPUTS, settings=settings, limits=Limits(seconds=spec.seconds), approval=spec.approval,
    )  # fmt: skip
    told = msgspec.json.encode((spec, order), order="deterministic")
    return CampaignSpec(
        id=f"train-{spec.name}-{hashlib.sha256(told).hexdigest()[:8]}",
        title=spec.title or f"Training of {spec.name}",
        description=spec.description,
        parameters=(Ordered(name="seed", values=(spec.training.seed,)),),
        goal=Goal(objectives=(Objective(observable="validation", direction="minimize"),), budget=Budget(trials=1)),
        observables=tuple(Observable(name=name) for name in dict.fromkeys((observed_as(made.metric), "device-hours"))),
        procedure=ProcedureSpec(steps=(step,)), strategy=StrategySpec(name="grid"), seed=spec.training.seed,
    )  # fmt: skip


def trains(campaign: CampaignSpec) -> bool:
    """Whether a campaign trains a model, or is a site's part in that."""
    return any(step.operation in (OPERATION, CONTRIBUTE) for step in campaign.procedure.steps)


def spec_of(campaign: CampaignSpec) -> TrainSpec:
    """What was asked of a training campaign. Raises ValueError where it is none."""
    step = next((s for s in campaign.procedure.steps if s.operation == OPERATION), None)
    if step is None:
        raise ValueError(f"{campaign.id} trains no model")
    return msgspec.convert(step.settings["asked"], TrainSpec)


def register(
    registry: Registry, campaign: CampaignSpec, rows: Sequence[Row], path: Callable[[str], Path], by: str
) -> Version:  # fmt: skip
    """Make what a training campaign left the next version; again, it is the version that it was. `path` says where the
    bytes of a digest are. Raises NothingTrained, ValueError, Refused."""
    row = next((r for r in rows if not r.failure and not r.rejected), None)
    if row is None:
        failed = next((r.failure for r in rows if r.failure), None)
        raise NothingTrained(
            f"{campaign.id}: {failed.cause}: {failed.message}" if failed else f"{campaign.id} has no result"
        )
    left = {asset.uri: asset for asset in row.assets}
    if missing := [name for name in OUTPUTS if name not in left]:
        raise NothingTrained(f"{campaign.id}: its trial left no {', '.join(missing)}")
    with tempfile.TemporaryDirectory() as folder:
        for name in OUTPUTS:
            shutil.copyfile(path(left[name].digest), Path(folder, name))
        return registry.register(Path(folder), spec_of(campaign), by)


def release_assets(registry: Registry, version: Version, prefix: str = "") -> dict[str, Asset]:
    """The two files of a version as inputs of an action. Raises Revoked, Damaged, OSError."""
    folder = registry.load_checked(version)
    names = {f"{prefix}config": CONFIG, f"{prefix}weights": WEIGHTS}
    return {
        own: Asset(
            uri=(folder / name).resolve().as_uri(), digest=version.made.files[name],
            size=(folder / name).stat().st_size,
        )
        for own, name in names.items()
    }  # fmt: skip
