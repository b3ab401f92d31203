"""The contract of a facility, kept over HTTP with nothing shared; every word held against the specification."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

for needed in ("httpx", "starlette", "uvicorn", "multipart"):
    pytest.importorskip(needed, reason=f"the IRI facility and its test server need {needed}")

from firstlight import core  # noqa: E402
from firstlight.facilities.compute.iri import IriFacility  # noqa: E402
from firstlight.testing import facility as contract  # noqa: E402
from firstlight.testing.iri import IriServer  # noqa: E402

from .held import Held  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def _server() -> Iterator[None]:
    """One for all: what it performs is below a directory of each test's own."""
    with tempfile.TemporaryDirectory() as place, IriServer(Path(place) / "iri", nodes=4) as server:
        TestIri.server = server
        yield


class TestIri(contract.FacilityContract):
    server: IriServer

    def make(self, root: Path) -> core.Facility:
        return IriFacility(
            root, 3, url=self.server.url, resource="hpc", token=str(self.server.token_file), project="m0001",
            workdir=str(self.server.workdir / root.parent.name), python=sys.executable, poll=0.1, grace=1.0,
            transport=Held(),
        )  # fmt: skip

    def unreachable(self, root: Path) -> core.Facility | None:
        root.parent.joinpath("file").write_text("in the way")
        return IriFacility(
            root.parent / "file", url="http://127.0.0.1:9", resource="hpc", token=str(self.server.token_file),
            workdir="/nowhere",
        )  # fmt: skip
