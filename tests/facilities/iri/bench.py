"""A server of its own for every test that wants one, and all that is said to it held against the specification."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from firstlight import core
from firstlight.facilities.compute.iri import IriFacility
from firstlight.testing.iri import IriServer

from .held import Held, load

HERE = "firstlight.testing.facility"
T = TypeVar("T")


class Bench:
    """A server, facilities that see it, and short words for tests."""

    def __init__(self, place: Path, server: IriServer) -> None:
        self.place, self.server = place, server
        self.root, self.home = place / "root", place / "home"

    def facility(self, **more: Any) -> IriFacility:
        options = {
            "url": self.server.url, "resource": "hpc", "token": str(self.server.token_file), "project": "m0001",
            "workdir": str(self.server.workdir), "python": sys.executable, "poll": 0.1, "grace": 0.5,
            "assets": self.home, "transport": Held(), **more,
        }  # fmt: skip
        return IriFacility(options.pop("root", self.root), 4, **options)

    def run(self, test: Callable[[IriFacility], Awaitable[T]], **more: Any) -> T:
        async def run() -> T:
            facility = self.facility(**more)
            try:
                return await asyncio.wait_for(test(facility), 30)
            finally:
                await facility.close()

        return asyncio.run(run())

    def permit(self, operation: str = "value", id: str = "c1.1.evaluate", x: float = 3.0, **more: Any) -> core.Permit:
        settings = more.pop("settings", {"tally": str(self.place / f"{id}.tally")})
        known = operation if operation == "command" else f"{HERE}:{operation}"
        action = core.Action(
            id=id, trial="c1.1", facility="iri", name="evaluate", operation=known, point={"x": x}, settings=settings,
            **more,
        )  # fmt: skip
        return core.Permit(action=action, policies=("test@1",))

    def outcome(self, permit: core.Permit, **more: Any) -> core.Outcome:
        async def test(facility: IriFacility) -> core.Outcome:
            return await facility.outcome(await facility.submit(permit))

        return self.run(test, **more)

    def performed(self, id: str = "c1.1.evaluate") -> int:
        tally = self.place / f"{id}.tally"
        return len(tally.read_text().splitlines()) if tally.exists() else 0

    def jobs(self) -> int:
        """How many jobs the server has ever made."""
        return len(list(self.server.directory.glob("jobs/*")))


@pytest.fixture(scope="session")
def specification() -> Any:
    """The OpenAPI document of the IRI Facility API, version 2."""
    if (document := load()) is None:
        pytest.skip("iri/iri-facility-api-v2.yaml is not in $FIRSTLIGHT_DATA, or openapi-core is not installed")
    return document


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with IriServer(tmp_path / "iri", nodes=4) as server:
        yield Bench(tmp_path, server)
