"""Houses to ask, one server for all tests of a file."""

import json
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .servers import free_port, running

collect_ignore = ["tiled_filling.py"]
"""Programs that run in other people's environments are not for this one to import."""


class Houses:
    """The address of the houses, and what they have been asked."""

    def __init__(self, url: str) -> None:
        self.url = url

    def asked(self, key: str) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}/log?of={key}") as answer:
            return list(json.load(answer))


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Houses]:
    port = free_port()
    log = tmp_path_factory.mktemp("houses") / "log"
    with running([sys.executable, str(Path(__file__).with_name("houses.py")), str(port)], log, port):
        yield Houses(f"http://127.0.0.1:{port}")
