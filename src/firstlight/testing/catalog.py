"""The contract of a catalog as a suite to subclass, and a catalog in memory.

class TestMyCatalog(CatalogContract):
    def make(self, place):
        return MyCatalog(place)
"""

import asyncio
import hashlib
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from msgspec.structs import replace

from firstlight import core

__all__ = ["CatalogContract", "MemoryCatalog", "campaign_of", "row_of", "some_spec"]

_encoder = msgspec.json.Encoder(order="deterministic")


def some_spec(id: str = "films", **changes: object) -> core.CampaignSpec:
    """A campaign with a parameter of every kind."""
    spec = core.CampaignSpec(
        id=id,
        title="Thin films, \u00b5m scale",
        parameters=(
            core.Continuous(name="temperature", low=300.0, high=400.0, unit="K"),
            core.Integer(name="cycles", low=1, high=9),
            core.Ordered(name="speed", values=(1, 2, 5), unit="rpm"),
            core.Categorical(name="solvent", values=("DMF", "DMSO")),
        ),
        goal=core.Goal(
            objectives=(core.Objective(observable="yield", direction="maximize", unit="%"),),
            budget=core.Budget(cost_unit="USD"),
        ),
        observables=(core.Observable(name="haze", unit="1/m"),),
        procedure=core.ProcedureSpec(steps=(core.StepSpec(operation="lab:make", facility="lab"),)),
    )
    return msgspec.structs.replace(spec, **changes)


def campaign_of(spec: core.CampaignSpec) -> core.Campaign:
    """A campaign just opened."""
    return core.open_campaign(core.Entry(seq=1, at=0.0, by="test", fact=core.CampaignOpened(spec=spec)))


def row_of(number: int, campaign: str = "films", **changes: object) -> core.Row:
    """A row for `some_spec`; every seventh failed, every fifth ran otherwise than asked."""
    at = 1_700_000_000.25 + 10 * number
    failed = number % 7 == 0
    row = core.Row(
        trial=f"{campaign}.{number}",
        point={"temperature": 300.0 + number / 1000, "cycles": 1 + number % 9, "speed": 2, "solvent": "DMF"},
        as_run={"temperature": 301.5} if number % 5 == 0 else {},
        observations=()
        if failed
        else (
            core.Observation(observable="yield", value=0.1 * number, unit="%", sigma=0.5),
            core.Observation(observable="haze", value=1e-9 * number, unit="1/m"),
        ),
        failure=core.Failure(cause="instrument-fault", message='needle "2", clogged') if failed else None,
        cost=1.5,
        source="sobol",
        proposed=at,
        ended=at + 9.5,
        spans=(core.Span(action=f"{campaign}.{number}.make", facility="lab", dispatched=at + 1, started=at + 2,
                         ended=at + 9.5),),
    )  # fmt: skip
    return msgspec.structs.replace(row, **changes)


class MemoryCatalog:
    """Keeps rows and datasets in dictionaries, for tests."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, core.Row]] = {}
        self.datasets: dict[str, list[core.Row]] = {}

    async def ingest(self, campaign: core.Campaign, row: core.Row) -> str:
        rows = self.rows.setdefault(campaign.spec.id, {})
        kept = rows.setdefault(row.trial, row)
        if row.revision > kept.revision:
            rows[row.trial] = kept = row
        if _digest(kept) != _digest(row):
            raise ValueError(f"trial {row.trial} is kept with other content")
        return _digest(row)

    async def publish(self, campaign: core.Campaign) -> tuple[str, str, int]:
        kept = self.rows.get(campaign.spec.id, {})
        rows = [kept[trial] for trial in sorted(kept, key=lambda t: (len(t), t))]
        digest = _digest(rows)
        id = f"{campaign.spec.id}@{digest[7:19]}"
        self.datasets[id] = rows
        return id, digest, len(rows)


def _digest(content: object) -> str:
    return f"sha256:{hashlib.sha256(_encoder.encode(content)).hexdigest()}"


class CatalogContract:
    """What every catalog keeps. `lasting` says that a second catalog made at the same place has the same rows."""

    lasting: ClassVar[bool] = True

    def make(self, place: Path) -> core.Catalog:
        """A catalog at this empty directory, or one more at the same."""
        raise NotImplementedError

    def test_a_row_has_a_digest_that_ingesting_it_again_repeats(self, tmp_path: Path) -> None:
        catalog, campaign = self.make(tmp_path), campaign_of(some_spec())

        async def body() -> None:
            first = await catalog.ingest(campaign, row_of(1))
            assert first.startswith("sha256:") and len(first) == 71
            again = replace(row_of(1), point=dict(reversed(row_of(1).point.items())))
            assert await catalog.ingest(campaign, again) == first
            assert await catalog.ingest(campaign, row_of(2)) != first
            assert (await catalog.publish(campaign))[2] == 2

        asyncio.run(body())

    def test_other_content_for_the_same_trial_is_refused(self, tmp_path: Path) -> None:
        catalog, campaign = self.make(tmp_path), campaign_of(some_spec())

        async def body() -> None:
            kept = await catalog.ingest(campaign, row_of(1))
            with pytest.raises(ValueError, match=r"films\.1"):
                await catalog.ingest(campaign, row_of(1, cost=99.0))
            assert await catalog.ingest(campaign, row_of(1)) == kept
            assert (await catalog.publish(campaign))[2] == 1

        asyncio.run(body())

    def test_a_row_is_replaced_only_by_a_revision_of_it(self, tmp_path: Path) -> None:
        catalog, campaign = self.make(tmp_path), campaign_of(some_spec())
        marked = replace(row_of(1), rejected="the needle was bent", revision=9)

        async def body() -> None:
            first = await catalog.ingest(campaign, row_of(1))
            second = await catalog.ingest(campaign, marked)
            assert second != first
            assert await catalog.ingest(campaign, marked) == second
            with pytest.raises(ValueError, match=r"films\.1"):
                await catalog.ingest(campaign, replace(marked, rejected="", revision=8))
            assert (await catalog.publish(campaign))[2] == 1

        asyncio.run(body())

    def test_rows_that_arrive_together_are_all_kept(self, tmp_path: Path) -> None:
        catalog, campaign = self.make(tmp_path), campaign_of(some_spec())

        async def body() -> None:
            rows = [row_of(n) for n in range(1, 51)]
            digests = await asyncio.gather(*(catalog.ingest(campaign, r) for r in [*rows, *rows]))
            assert digests[:50] == digests[50:]
            assert len(set(digests)) == 50
            assert (await catalog.publish(campaign))[2] == 50

        asyncio.run(body())

    def test_campaigns_do_not_mix(self, tmp_path: Path) -> None:
        catalog = self.make(tmp_path)
        ids = ("films", "Films/2", "..", "f\u00f6hn 3")

        async def body() -> None:
            campaigns = [campaign_of(some_spec(id)) for id in ids]
            for count, campaign in enumerate(campaigns, start=1):
                for number in range(1, count + 1):
                    await catalog.ingest(campaign, row_of(number, campaign.spec.id))
            published = [await catalog.publish(c) for c in campaigns]
            assert [rows for _, _, rows in published] == [1, 2, 3, 4]
            assert len({id for id, _, _ in published}) == 4

        asyncio.run(body())

    def test_the_same_rows_make_the_same_dataset_in_whatever_order_they_came(self, tmp_path: Path) -> None:
        campaign = campaign_of(some_spec())

        async def body(catalog: core.Catalog, rows: list[core.Row]) -> tuple[str, str, int]:
            for row in rows:
                await catalog.ingest(campaign, row)
            return await catalog.publish(campaign)

        rows = [row_of(n) for n in range(1, 13)]
        backwards = [replace(r, point=dict(reversed(r.point.items()))) for r in reversed(rows)]
        one = asyncio.run(body(self.make(tmp_path / "one"), rows))
        two = asyncio.run(body(self.make(tmp_path / "two"), backwards))
        assert one == two
        assert one[1].startswith("sha256:")

    def test_publishing_again_changes_nothing_and_a_new_row_makes_a_new_dataset(self, tmp_path: Path) -> None:
        catalog, campaign = self.make(tmp_path), campaign_of(some_spec())

        async def body() -> None:
            await catalog.ingest(campaign, row_of(1))
            first = await catalog.publish(campaign)
            assert await catalog.publish(campaign) == first
            await catalog.ingest(campaign, row_of(2))
            second = await catalog.publish(campaign)
            assert second[2] == 2
            assert second[0] != first[0] and second[1] != first[1]

        asyncio.run(body())

    def test_a_campaign_without_rows_can_be_published(self, tmp_path: Path) -> None:
        catalog = self.make(tmp_path)
        assert asyncio.run(catalog.publish(campaign_of(some_spec())))[2] == 0

    def test_a_second_catalog_at_the_same_place_has_the_same_rows(self, tmp_path: Path) -> None:
        if not self.lasting:
            pytest.skip("does not last")
        campaign = campaign_of(some_spec())

        async def body() -> None:
            kept = await self.make(tmp_path).ingest(campaign, row_of(1))
            again = self.make(tmp_path)
            assert await again.ingest(campaign, row_of(1)) == kept
            with pytest.raises(ValueError, match=r"films\.1"):
                await again.ingest(campaign, row_of(1, cost=99.0))
            assert (await again.publish(campaign))[2] == 1

        asyncio.run(body())
