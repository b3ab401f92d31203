"""The contract of a facility, kept on a real Slurm."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from firstlight import core
from firstlight.facilities.compute.slurm import SlurmFacility
from firstlight.testing import facility as contract

from .bench import Bench


@pytest.fixture(autouse=True)
def _box(bench: Bench) -> Iterator[None]:
    yield


class TestSlurm(contract.FacilityContract):
    def make(self, root: Path) -> core.Facility:
        return SlurmFacility(root, 3, poll=0.1, grace=2.0)

    def unreachable(self, root: Path) -> core.Facility | None:
        root.parent.joinpath("file").write_text("in the way")
        return SlurmFacility(root.parent / "file")
