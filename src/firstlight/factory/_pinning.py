"""Models as sources of trials: which version is meant is settled when a campaign is opened."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from msgspec.structs import replace

from firstlight.catalog.library import Library
from firstlight.core import (
    PREDICT,
    Action,
    Campaign,
    CampaignSpec,
    Policy,
    Refused,
    StepSpec,
    Unusable,
    Verdict,
    unanswered,
)
from firstlight.models import family_at
from firstlight.models.registry import Registry, Revoked

from ._registry import told
from ._training import release_assets


def pinned(registry: Registry, spec: CampaignSpec) -> CampaignSpec:
    """The specification, every step that asks a model by name with the version that it means now: its id among the
    settings, its files by their digests among the inputs.

    Raises core.Unusable where there is no such model, it may not be used, or it does not answer what is asked here.
    """
    steps = tuple(_step(registry, spec, step) for step in spec.procedure.steps)
    return replace(spec, procedure=replace(spec.procedure, steps=steps))


def _step(registry: Registry, spec: CampaignSpec, step: StepSpec) -> StepSpec:
    name = step.settings.get("model")
    if step.operation != PREDICT or not isinstance(name, str):
        return step
    with told():
        version = registry.resolve(name)
        inputs = release_assets(registry, version)
        folder = registry.load_checked(version)
        model = family_at(folder).load(folder)
    if other := [
        key for key, asset in inputs.items() if key in step.inputs and step.inputs[key].digest != asset.digest
    ]:
        raise Unusable(f"step {step.name}: {', '.join(other)} of {version.id} is another here than the one it names")
    if why := _unfit(spec, model):
        raise Unusable(f"step {step.name}: {version.id} cannot be a source of this campaign: {why}")
    settings: dict[str, object] = {**step.settings, "model": version.id}
    if spec.fidelity and spec.fidelity.parameter in model.units:
        # It has learned from several sources, and stands for the one that counts.
        settings["instead"] = {spec.fidelity.parameter: spec.fidelity.target}
    return replace(step, settings=settings, inputs=inputs)


def _unfit(spec: CampaignSpec, model: Any) -> str:
    """Why a model says nothing of this campaign's points; "" where it does."""
    if not hasattr(model, "predict"):
        return "its family does not predict points"
    return unanswered(spec, model.observables, model.units)


class UsableOnly:
    """A policy before which no action asks a version that was revoked: that is looked up for each. Others judge on."""

    def __init__(
        self, policy: Policy, opened: Callable[[], AbstractContextManager[tuple[Library, Registry]]]
    ) -> None:  # fmt: skip
        self._policy, self._opened = policy, opened

    async def judge(self, action: Action, campaign: Campaign) -> Verdict:
        """Refused with the reason, or what the other policy says."""
        name = action.settings.get("model")
        if action.operation == PREDICT and isinstance(name, str) and (why := await asyncio.to_thread(self._why, name)):
            return Refused(reasons=(why,))
        return await self._policy.judge(action, campaign)

    def _why(self, name: str) -> str:
        try:
            with self._opened() as (_, registry):
                version = registry.resolve(name)
                return str(Revoked(version, version.revoked)) if version.revoked else ""
        except (LookupError, OSError) as error:
            return str(error)
