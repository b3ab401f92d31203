"""One real Slurm for all tests of this folder; whoever breaks it mends it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from firstlight.testing.slurm import SlurmBox, available

from .bench import Bench


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmBox]:
    if missing := available():
        pytest.skip(f"not installed: {missing}")
    partitions = {"short": "Nodes=n1 MaxTime=1"}
    with SlurmBox(nodes=2, cpus=4, partitions=partitions, settings={"MaxArraySize": "11"}) as box:
        yield box


@pytest.fixture
def bench(slurm: SlurmBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    slurm.ready()
    yield Bench(tmp_path, slurm)
    slurm.run("scancel", "--state=PENDING", "--me")
    slurm.run("scancel", "--me")
