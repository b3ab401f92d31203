"""Every facility of this package keeps the contract."""

import asyncio
from pathlib import Path
from typing import cast

from firstlight import core
from firstlight.facilities.compute import LocalFacility, ThreadFacility
from firstlight.testing import facility as contract


class TestLocal(contract.FacilityContract):
    def make(self, root: Path) -> core.Facility:
        return LocalFacility(root, 2)

    def unreachable(self, root: Path) -> core.Facility | None:
        root.parent.joinpath("file").write_text("in the way")
        return LocalFacility(root.parent / "file" / "facility", 2)

    async def end(self, facility: core.Facility) -> None:
        await cast("LocalFacility", facility).shutdown()


class TestThreads(contract.FacilityContract):
    long = 1.0

    def setup_method(self) -> None:
        self.made: dict[Path, ThreadFacility] = {}

    def make(self, root: Path) -> core.Facility:
        def evaluate(point: core.Point, tally: str, **settings: object) -> object:
            return getattr(contract, str(settings["function"]))(point, tally)

        return self.made.setdefault(root, ThreadFacility(evaluate, 2))

    value = (f"{contract.HERE}:value", {"function": "value"})
    failure = (f"{contract.HERE}:failure", {"function": "failure"})
    slow = (f"{contract.HERE}:slow", {"function": "slow"})


class TestFake(contract.FacilityContract):
    def setup_method(self) -> None:
        self.made: dict[Path, contract.FakeFacility] = {}

    def make(self, root: Path) -> core.Facility:
        return self.made.setdefault(root, contract.FakeFacility(_perform, 2, _seconds))

    def unreachable(self, root: Path) -> core.Facility | None:
        fake = contract.FakeFacility(_perform)
        fake.unavailable = 2
        return fake

    def performed(self, root: Path, action: str) -> int:
        return self.made[root].performed[action]


def _perform(action: core.Action) -> core.Outcome:
    if action.operation.endswith(":failure"):
        return core.Failure(cause="did-not-converge", message="too dilute")
    return core.Measured(observations=(core.Observation(observable="y", value=float(action.point["x"]) ** 2),))


def _seconds(action: core.Action) -> float:
    return float(action.point["x"]) if action.operation.endswith(":slow") else 0.0


def test_a_fake_can_forget(tmp_path: Path) -> None:
    async def test() -> None:
        fake = contract.FakeFacility(_perform)
        permit = TestFake().permit(tmp_path, TestFake.value, "c1.1.evaluate")
        await fake.outcome(await fake.submit(permit))
        fake.forget()
        assert await fake.find("c1.1.evaluate") is None
        await fake.outcome(await fake.submit(permit))
        assert fake.performed["c1.1.evaluate"] == 2

    asyncio.run(test())
