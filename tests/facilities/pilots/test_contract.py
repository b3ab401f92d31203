"""The contract of a facility, kept by pilots on this machine."""

from pathlib import Path
from typing import cast

import pytest

pytest.importorskip("parsl", reason="pilots need Parsl")

from firstlight import core
from firstlight.facilities.compute.parsl import ParslFacility
from firstlight.testing import facility as contract


class TestParsl(contract.FacilityContract):
    def make(self, root: Path) -> core.Facility:
        return ParslFacility(root, workers=2, heartbeat=1, poll=1.0)

    def unreachable(self, root: Path) -> core.Facility | None:
        root.parent.joinpath("file").write_text("in the way")
        return ParslFacility(root.parent / "file" / "facility", workers=2)

    async def end(self, facility: core.Facility) -> None:
        await cast("ParslFacility", facility).shutdown()
