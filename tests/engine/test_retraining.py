"""A campaign's model is trained anew as trials come in: begun once, through any crash, and used once it is better."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import pytest
from msgspec.structs import replace
from tests.engine.test_earlier import aimless, recorded_in
from tests.engine.test_models import Asking, Shelf, world

from firstlight import core, engine
from firstlight.testing.world import Crash, PaperJournal

F = TypeVar("F")


class Factory:
    """Learner: every training makes the next version, and `better` says which of them is promoted."""

    def __init__(self, shelf: Shelf, better: Callable[[int], bool] = lambda version: True) -> None:
        self.shelf, self.better, self.takes = shelf, better, 0.0
        self.opened, self.trained = list[str](), Counter[str]()
        self.refuses, self.stopped = "", asyncio.Event()

    async def prepare(self, campaign: core.CampaignSpec, dataset: str) -> str:
        if self.refuses:
            raise core.Unusable(self.refuses)
        if dataset not in self.opened:
            self.opened.append(dataset)
        return f"train-{campaign.model}-{self.opened.index(dataset) + 1}"

    async def train(self, training: str) -> core.Learned:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopped.wait(), self.takes)
            return core.Learned(version=await self.production("films"), reason="it was stopped")
        self.trained[training] += 1
        number = int(training.rpartition("-")[2]) + 1
        if not self.better(number):
            return core.Learned(version=await self.production("films"), reason=f"films:{number} is no better")
        self.shelf.newest["films"] = number
        return core.Learned(version=f"films:{number}")

    async def stop(self, training: str) -> None:
        self.stopped.set()

    async def production(self, model: str) -> str:
        return await self.shelf.choose(model)


class Versioned:
    """Catalog: the rows that the campaign knows to be kept, each edition named by how many there are to learn from."""

    def __init__(self) -> None:
        self.rows = set[str]()

    async def ingest(self, campaign: core.Campaign, row: core.Row) -> str:
        if not row.failure:
            self.rows.add(row.trial)
        return f"sha256:{row.trial}"

    async def publish(self, campaign: core.Campaign) -> tuple[str, str, int]:
        rows = len(self.rows - campaign.open.keys())
        return f"{campaign.spec.id}@{rows}", "sha256:0", rows


def spec(trials: int = 40, after: int = 3) -> core.CampaignSpec:
    return replace(aimless("c1", trials), model="films", retrain_after=after)


def made(journal: PaperJournal, factory: Factory, asking: Asking | None = None) -> core.Ports:
    ports = world(journal, asking or Asking("films"), factory.shelf)
    return replace(ports, learner=factory, catalog=Versioned())


async def ran(spec: core.CampaignSpec, ports: core.Ports) -> core.Campaign:
    await engine.create(spec, ports.journal, ports.clock, "ada")
    return await engine.run(spec.id, ports, by="ada")


def kinds(journal: PaperJournal, wanted: type[F]) -> list[F]:
    return [f for f in asyncio.run(recorded_in(journal)) if isinstance(f, wanted)]


def test_it_is_trained_after_so_many_new_trials_and_decides_from_then_on() -> None:
    journal, asking, factory = PaperJournal(), Asking("films"), Factory(Shelf(films=1))
    campaign = asyncio.run(ran(spec(), made(journal, factory, asking)))
    begun = kinds(journal, core.TrainingBegun)
    assert [f.training for f in begun] == [f"train-films-{n}" for n in range(1, len(begun) + 1)] and len(begun) >= 2
    learned = [t for f in begun for t in f.trials]
    assert len(learned) == len(set(learned)) == campaign.succeeded - len(campaign.fresh) and all(
        len(f.trials) >= 3 for f in begun
    )
    updates = kinds(journal, core.ModelUpdated)
    assert [(u.training, u.trials) for u in updates] == [(b.training, b.trials) for b in begun]
    assert campaign.model == f"films:{len(begun) + 1}" and campaign.models == {"films": campaign.model}
    numbers = [int(given["films"].rpartition(":")[2]) for given in asking.given]
    assert numbers == sorted(numbers) and len(set(numbers)) >= 2 and len(campaign.fresh) < 3


class SlowJournal(PaperJournal):
    """A journal whose disk takes its time, while trials go on."""

    async def append(self, lease: core.Lease, entry: core.Entry, mail: str = "") -> None:
        await asyncio.sleep(0.002)
        await super().append(lease, entry, mail)


def test_what_came_in_while_a_training_was_opened_is_learned_from_once() -> None:
    journal, factory = SlowJournal(), Factory(Shelf(films=1))
    campaign = asyncio.run(ran(spec(after=1), made(journal, factory)))
    begun = kinds(journal, core.TrainingBegun)
    learned = [t for f in begun for t in f.trials]
    assert len(begun) >= 2 and len(learned) == len(set(learned)) == campaign.succeeded - len(campaign.fresh)
    # What counts as learned is what is in the dataset, no more and no less.
    whole = [sum(len(f.trials) for f in begun[: n + 1]) for n in range(len(begun))]
    assert factory.opened == [f"c1@{rows}" for rows in whole]


def test_a_replay_is_given_the_version_that_was_used_then() -> None:
    journal, asking, factory = PaperJournal(), Asking("films"), Factory(Shelf(films=1))
    ports = made(journal, factory, asking)
    asyncio.run(ran(spec(), ports))
    for trial, version in (("c1.1", "films:1"), ("c1.40", None)):
        asking.given.clear()
        recorded = asyncio.run(engine.explain("c1", trial, journal))
        assert asyncio.run(engine.ask_again(recorded, journal, asking, None, factory.shelf)).same
        (given,) = asking.given
        assert given["films"] == version if version else given["films"] != "films:1"


def test_what_is_no_better_changes_nothing_and_that_is_said() -> None:
    journal, asking, factory = PaperJournal(), Asking("films"), Factory(Shelf(films=1), better=lambda version: False)
    campaign = asyncio.run(ran(spec(), made(journal, factory, asking)))
    assert {u.reason for u in kinds(journal, core.ModelUpdated)} >= {"films:2 is no better"}
    assert campaign.model == "films:1" and {given["films"] for given in asking.given} == {"films:1"}


def test_where_nothing_can_be_trained_the_campaign_goes_on_and_says_why() -> None:
    journal, factory = PaperJournal(), Factory(Shelf(films=1))
    factory.refuses = "the card of c0 says no"
    campaign = asyncio.run(ran(spec(), made(journal, factory)))
    assert campaign.closed == "trials spent" and not kinds(journal, core.TrainingBegun)
    assert {u.reason for u in kinds(journal, core.ModelUpdated)} == {"the card of c0 says no"}


def test_a_campaign_that_is_cancelled_has_its_training_end() -> None:
    journal, factory = PaperJournal(), Factory(Shelf(films=1))
    factory.takes = 30.0

    async def test() -> core.Campaign:
        ports = made(journal, factory)
        await engine.create(spec(trials=3), journal, ports.clock, "ada")
        running = asyncio.create_task(engine.run("c1", ports, by="ada"))
        while not any(isinstance(f, core.TrainingBegun) for f in await recorded_in(journal)):
            await asyncio.sleep(0.01)
        await engine.request("c1", core.CampaignStopped(reason="enough", cancel=True), journal, ports.clock, by="ada")
        return await asyncio.wait_for(running, 5.0)

    assert asyncio.run(test()).closed == "enough"
    assert [u.reason for u in kinds(journal, core.ModelUpdated)] == ["it was stopped"]


def test_through_any_crash_no_trial_is_learned_from_twice_and_none_is_left_out() -> None:
    journal = PaperJournal()
    asyncio.run(ran(spec(trials=4, after=4), made(journal, Factory(Shelf(films=1)))))
    length = len(journal.lines["c1"])
    for crash_after in range(2, length):
        journal, factory = PaperJournal(crash_after), Factory(Shelf(films=1))
        ports = made(journal, factory)

        async def crashing(ports: core.Ports = ports) -> None:
            with contextlib.suppress(Crash, core.Conflict):
                await ran(spec(trials=4, after=4), ports)

        asyncio.run(crashing())
        journal.crash_after = None
        journal.leases.clear()
        campaign = asyncio.run(engine.run("c1", ports, by="ada"))
        begun, updated = kinds(journal, core.TrainingBegun), kinds(journal, core.ModelUpdated)
        assert len(begun) == len(updated) == 1, crash_after
        assert sorted(begun[0].trials) == sorted(updated[0].trials) == ["c1.1", "c1.2", "c1.3", "c1.4"]
        assert campaign.closed == "trials spent" and campaign.model == "films:2"


def test_a_training_is_begun_once_at_a_time_and_ended_by_itself() -> None:
    async def folded(*facts: core.Fact) -> core.Campaign:
        campaign = core.open_campaign(core.Entry(seq=1, at=0.0, by="ada", fact=core.CampaignOpened(spec=spec())))
        campaign = replace(campaign, fresh=("c1.1", "c1.2"))
        for number, fact in enumerate(facts, 2):
            campaign = core.reduce(campaign, core.Entry(seq=number, at=0.0, by="ada", fact=fact))
        return campaign

    begun = core.TrainingBegun(training="t1", trials=("c1.1",))
    assert asyncio.run(folded(begun)).fresh == ("c1.2",)
    for facts, why in (
        ((begun, core.TrainingBegun(training="t2", trials=("c1.2",))), "t1 trains the model of c1 already"),
        ((core.TrainingBegun(training="t1", trials=("c1.7",)),), r"no model to train from c1\.7"),
        ((core.ModelUpdated(model="m:2", trials=(), training="t1"),), "t1 does not train"),
        ((begun, core.ModelUpdated(model="m:2", trials=())), "nobody does not train"),
    ):
        with pytest.raises(core.InconsistentError, match=why):
            asyncio.run(folded(*facts))
