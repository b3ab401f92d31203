"""A strategy that asks models: their versions are named once in the journal, and are those that it is given."""

import asyncio
import logging
from collections.abc import Sequence

import pytest
from tests.engine.test_earlier import aimless, ran, recorded_in

from firstlight import core, engine
from firstlight.testing.world import PaperJournal, RandomPoints, a_world


class Asking(RandomPoints):
    """Random points, and a note of the versions it was given each time."""

    def __init__(self, *names: str) -> None:
        self.names, self.given = names, list[dict[str, str]]()

    def models(self) -> Sequence[str]:
        return self.names

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        self.given.append({name: loaded.version for name, loaded in results.models.items()})
        return super().propose(spec, results, count, seed)


class Shelf:
    """Models of which some are revoked."""

    def __init__(self, **newest: int) -> None:
        self.newest, self.revoked, self.loads = newest, set[str](), 0

    async def choose(self, name: str) -> str:
        if name not in self.newest:
            raise core.Unusable(f"there is no model {name!r}")
        return f"{name}:{self.newest[name]}"

    async def load(self, version: str) -> core.LoadedModel:
        self.loads += 1
        if version in self.revoked:
            raise core.Unusable(f"{version} was revoked")
        return core.LoadedModel(version=version, of=object())


def world(journal: PaperJournal, strategy: core.Strategy, shelf: Shelf | None) -> core.Ports:
    return a_world(None, journal, strategy=strategy, models=shelf)


def test_versions_are_named_once_before_the_first_design() -> None:
    journal, asking, shelf = PaperJournal(), Asking("films"), Shelf(films=3)
    campaign = asyncio.run(ran(aimless("c1", trials=9), world(journal, asking, shelf)))
    recorded = asyncio.run(recorded_in(journal))
    (chosen,) = [f for f in recorded if isinstance(f, core.ModelsChosen)]
    assert campaign.models == chosen.versions == {"films": "films:3"}
    assert recorded.index(chosen) < next(i for i, f in enumerate(recorded) if isinstance(f, core.TrialProposed))
    assert len(asking.given) > 1 and all(given == {"films": "films:3"} for given in asking.given)
    assert shelf.loads == 1


def test_a_newer_version_changes_no_campaign_and_no_replay() -> None:
    journal, asking, shelf = PaperJournal(), Asking("films"), Shelf(films=3)
    ports = world(journal, asking, shelf)
    asyncio.run(ran(aimless("c1"), ports))
    shelf.newest["films"] = 4
    recorded = asyncio.run(engine.explain("c1", "", journal))
    asking.given.clear()
    replay = asyncio.run(engine.ask_again(recorded, journal, asking, None, shelf))
    assert replay.same and asking.given == [{"films": "films:3"}]


def test_a_revoked_version_is_not_there_any_more_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    journal, asking, shelf = PaperJournal(), Asking("films", "glass"), Shelf(films=3, glass=1)
    shelf.revoked.add("glass:1")
    with caplog.at_level(logging.WARNING):
        asyncio.run(ran(aimless("c1"), world(journal, asking, shelf)))
    assert all(given == {"films": "films:3"} for given in asking.given)
    assert "goes on without model glass: glass:1 was revoked" in caplog.text


def test_who_asks_no_model_needs_none() -> None:
    journal = PaperJournal()
    campaign = asyncio.run(ran(aimless("c1"), world(journal, RandomPoints(), None)))
    assert campaign.models is None
    with pytest.raises(LookupError, match="asks models, and there are none here"):
        asyncio.run(ran(aimless("c2"), world(journal, Asking("films"), None)))
