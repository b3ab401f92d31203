"""Models kept up to date by the campaigns that they serve: each training is a campaign of its own."""

import asyncio
from contextlib import AbstractContextManager, suppress
from typing import Protocol

import msgspec
from msgspec.structs import replace

from firstlight.catalog.library import Library
from firstlight.core import Campaign, CampaignSpec, CampaignStopped, Fact, Held, InconsistentError, Learned, Unusable
from firstlight.models import TrainSpec
from firstlight.models.registry import Refused, Registry, Version
from firstlight.models.shadow import Nothing

from ._registry import told
from ._training import NothingTrained, spec_of

PATIENCE = 1.0
"""Seconds after which it is looked again whether somebody else still runs a training."""


class Trains(Protocol):
    """Whoever opens campaigns and runs them."""

    def models(self) -> AbstractContextManager[tuple[Library, Registry]]: ...
    async def training(self, asked: TrainSpec, by: str) -> str: ...
    async def spec(self, id: str) -> CampaignSpec: ...
    async def run(self, id: str, by: str) -> Campaign: ...
    async def request(self, id: str, fact: Fact, by: str) -> None: ...
    async def register(self, id: str, by: str) -> Version: ...
    async def shadow(self, version: str, by: str) -> Version: ...


class Retraining:
    """Trains what is in production anew, as it was trained, from what the same queries find now and the campaign's
    trials besides; see `firstlight.core.Learner`. It is promoted where its gate lets it be, and asks no person."""

    def __init__(self, app: Trains, by: str) -> None:
        self._app, self._by = app, by

    async def prepare(self, campaign: CampaignSpec, dataset: str) -> str:
        """The training of the campaign's model with this dataset among its data, opened if it was not."""
        try:
            before = await asyncio.to_thread(self._in_production, campaign.model)
            asked = msgspec.convert(before.made.spec, TrainSpec)
            asked = replace(
                asked, parent=before.id, data=tuple(dict.fromkeys((*asked.data, dataset))),
                title=f"Training of {campaign.model} with what {campaign.id} has learned",
            )  # fmt: skip
            return await self._app.training(asked, self._by)
        except (LookupError, ValueError, OSError) as error:
            raise Unusable(f"{campaign.model} cannot be trained: {error}") from error

    async def train(self, training: str) -> Learned:
        """The version in production once this training has ended and has been judged."""
        while True:
            try:
                await self._app.run(training, self._by)
                break
            except Held:
                await asyncio.sleep(PATIENCE)
        name, reason = spec_of(await self._app.spec(training)).name, ""
        try:
            version = await self._app.register(training, self._by)
            if version.made.gate.shadow:
                with suppress(Nothing):  # What it lacks, the gate says.
                    version = await self._app.shadow(version.id, self._by)
            await asyncio.to_thread(self._promote, version, training)
        except (NothingTrained, Refused) as error:
            reason = str(error)
        try:
            return Learned(version=await self.production(name), reason=reason)
        except Unusable as error:
            return Learned(version="", reason=reason or str(error))

    async def stop(self, training: str) -> None:
        """Have a training end, whoever runs it."""
        try:
            stopped = CampaignStopped(reason="the campaign that wanted it was cancelled", cancel=True)
            await self._app.request(training, stopped, self._by)
        except InconsistentError:
            return  # It has ended by itself.

    async def production(self, model: str) -> str:
        """The version in production. Raises Unusable."""
        with told():
            return (await asyncio.to_thread(self._in_production, model)).id

    def _in_production(self, model: str) -> Version:
        with self._app.models() as (_, registry):
            if (found := registry.production(model)) is None:
                raise LookupError(f"no version of {model} is in production: firstlight model promote {model}:1")
            return found

    def _promote(self, version: Version, training: str) -> None:
        """Raises Refused where its gate does not let it be, or asks a person."""
        with self._app.models() as (_, registry):
            registry.promote(version, self._by, why=f"better than the one before, by {training}")
