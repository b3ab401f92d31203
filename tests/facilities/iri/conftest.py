"""A server of its own for every test that wants one, and all that is said to it held against the specification."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the test server needs starlette and uvicorn")
pytest.importorskip("httpx", reason="the iri facility needs httpx")

from firstlight.testing.iri import IriServer

from .held import load


@pytest.fixture(scope="session")
def specification() -> Any:
    """The OpenAPI document of the IRI Facility API, version 2."""
    if (document := load()) is None:
        pytest.skip("iri/iri-facility-api-v2.yaml is not in $FIRSTLIGHT_DATA, or openapi-core is not installed")
    return document


@pytest.fixture
def server(tmp_path: Path) -> Iterator[IriServer]:
    with IriServer(tmp_path / "iri", nodes=4) as started:
        yield started
