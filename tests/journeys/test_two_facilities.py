"""A campaign over two facilities of this machine, of which one goes away in the middle."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from firstlight import core
from firstlight.app import App
from firstlight.config import Settings
from firstlight.facilities.compute import LocalFacility
from firstlight.testing.world import a_spec

FUNCTION = """
import time

def look(point, tally):
    with open(tally, "a") as file:
        file.write("begun\\n")
    time.sleep(0.4)
    return {"y": 1 - abs(point["x"] - 0.6)}
"""


class Two:
    """A data directory with the facilities near and far, which is less liked."""

    def __init__(self, path: Path) -> None:
        self.path, self.near, self.far = path, path / "near", path / "far"
        (path / "mine.py").write_text(FUNCTION)
        tables = {name: {"kind": "local", "root": str(path / name), "slots": 2} for name in ("near", "far")}
        self.settings = Settings(data_dir=path / "home", facilities=tables)

    def spec(self, trials: int = 8, **step: object) -> core.CampaignSpec:
        spec = a_spec()
        made = core.StepSpec(
            operation="mine:look", facility="", facilities=("near", "far"),
            settings={"directory": str(self.path), "tally": str(self.path / "tally.txt")},
        )  # fmt: skip
        goal = replace(
            spec.goal, objectives=(core.Objective(observable="y", direction="maximize"),),
            budget=core.Budget(trials=trials),
        )  # fmt: skip
        return replace(spec, goal=goal, procedure=core.ProcedureSpec(steps=(replace(made, **step),)), parallel=2)

    def supervisors(self, root: Path) -> list[int]:
        """The processes that look after the actions of a root."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            except OSError:
                continue
            if str(root) in words and any(word.endswith("._supervisor") for word in words):
                found.append(int(pid))
        return found

    def cut_off(self, root: Path) -> None:
        """Nobody speaks for it any more, and its directory is gone."""
        for pid in self.supervisors(root):
            os.kill(pid, signal.SIGKILL)
        root.rename(root.with_suffix(".away"))
        root.write_text("the file system is not mounted")

    def bring_back(self, root: Path) -> None:
        root.unlink()
        root.with_suffix(".away").rename(root)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    made = Two(tmp_path)
    yield made
    for root in (made.near, made.far):
        if root.is_file():
            made.bring_back(root)
        if root.exists():
            asyncio.run(LocalFacility(root).shutdown())


@asynccontextmanager
async def opened(two: Two, patience: float = 0.5) -> AsyncIterator[App]:
    async with App.open(two.settings) as app:
        app.patience = patience
        yield app


async def facts(app: App, id: str) -> list[core.Fact]:
    return [entry.fact async for entry in app.journal.read(id)]


async def until_accepted(app: App, id: str) -> None:
    async with asyncio.timeout(20):
        while not any((await app.state(id))[0].actions("accepted")):
            await asyncio.sleep(0.02)


def test_one_goes_away_in_the_middle_and_comes_back(two: Two) -> None:
    async def story() -> tuple[core.Campaign, core.Ledger, list[core.Fact]]:
        async with opened(two) as app:
            spec = await app.create(two.spec(), "ada")
            running = asyncio.create_task(app.run(spec.id, "ada"))
            await until_accepted(app, spec.id)
            two.cut_off(two.near)
            async with asyncio.timeout(30):
                while not any(
                    isinstance(f, core.ActionPlaced) and "gone away" in f.reason for f in await facts(app, spec.id)
                ):
                    await asyncio.sleep(0.05)
                two.bring_back(two.near)
                await running
            return *(await app.state(spec.id)), await facts(app, spec.id)

    campaign, ledger, history = asyncio.run(story())
    assert (campaign.closed, campaign.succeeded, ledger.ended) == ("trials spent", 8, 8)
    moved = [f for f in history if isinstance(f, core.ActionPlaced) and "gone away" in f.reason]
    assert {f.facility for f in moved} == {"far"}
    assert "near has gone away" in moved[0].reason
    ended = [f.action for f in history if isinstance(f, core.ActionSucceeded)]
    assert sorted(ended) == sorted(set(ended))
    at = {span.action: span.facility for row in ledger.view().rows for span in row.spans}
    assert all(at[f.action] == "far" for f in moved)
    # What was moved was begun at both, and nothing else was begun twice.
    begun = len((two.path / "tally.txt").read_text().splitlines())
    assert 8 <= begun <= 8 + len(moved)


def test_one_that_cannot_be_made_fails_nobody(two: Two) -> None:
    tables = {
        "broken": {"kind": "no-such-kind"},
        "wrong": {"kind": "local", "colour": "red"},
        **two.settings.facilities,
    }
    two.settings = Settings(data_dir=two.settings.data_dir, facilities=tables)

    async def story() -> tuple[core.Campaign, list[core.Fact]]:
        async with opened(two) as app:
            spec = await app.create(two.spec(trials=2, facilities=("broken", "wrong", "far")), "ada")
            async with asyncio.timeout(30):
                return await app.run(spec.id, "ada"), await facts(app, spec.id)

    campaign, history = asyncio.run(story())
    assert campaign.succeeded == 2
    placed = next(f for f in history if isinstance(f, core.ActionPlaced))
    assert placed.facility == "far"
    assert "there is no 'no-such-kind' among the facilities" in placed.others["broken"]
    assert "colour" in placed.others["wrong"]


def test_any_is_all_of_them_and_the_local_one_last(two: Two) -> None:
    async def story() -> tuple[list[str], core.Placement]:
        async with opened(two) as app:
            action = core.Action(id="c1.1.e", trial="c1.1", facility="", name="e", operation="mine:look", point={})
            return list(app.facilities), await app.coordinator.place(action, lambda name: 0)

    names, placed = asyncio.run(story())
    assert names == ["near", "far", "local"]
    assert (placed.facility, sorted(placed.others)) == ("near", ["far", "local"])
    assert not two.near.exists(), "looking starts nothing"


def test_two_campaigns_of_one_directory_use_both_facilities(two: Two) -> None:
    async def story() -> list[core.Campaign]:
        async with opened(two) as app:
            specs = [await app.create(replace(two.spec(trials=6), id=id), "ada") for id in ("one", "other")]
            async with asyncio.timeout(40):
                return await asyncio.gather(*(app.run(spec.id, "ada") for spec in specs))

    began = time.monotonic()
    campaigns = asyncio.run(story())
    assert [c.succeeded for c in campaigns] == [6, 6]
    assert all((root / "actions").exists() for root in (two.near, two.far))
    assert time.monotonic() - began < 30
