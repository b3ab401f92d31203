"""The contract of an instrument, kept by the hob behind a server in a process of its own."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from firstlight.core import Instrument
from firstlight.testing.instrument import InstrumentContract

from .servers import free_port, running

ROOT = Path(__file__).parents[3]


class Served(InstrumentContract):
    """Subclasses say how the hob is served, and how it is reached. One server serves all tests of a class."""

    port: ClassVar[int]
    folder: ClassVar[Path]
    servers: ClassVar[contextlib.ExitStack]

    @classmethod
    def command(cls, port: int) -> list[str]:
        raise NotImplementedError

    @classmethod
    def at(cls, port: int) -> Instrument:
        raise NotImplementedError

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def served(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        cls.port, cls.folder, cls.servers = free_port(), tmp_path_factory.mktemp("contract"), contextlib.ExitStack()
        with cls.servers:
            cls.begin()
            yield

    @pytest.fixture(autouse=True)
    def counted(self, served: None) -> None:
        """What was performed is counted from the beginning of each test."""
        (self.folder / "done").write_text("")

    @classmethod
    def begin(cls) -> None:
        paths = f"{ROOT}{os.pathsep}{ROOT / 'src'}"
        env = {"HOB_LOG": str(cls.folder / "done"), "PYTHONPATH": paths}
        cls.servers.enter_context(running(cls.command(cls.port), cls.folder / "log", cls.port, env))

    def make(self, root: Path) -> Instrument:
        return self.at(self.port)

    def unreachable(self, root: Path) -> Instrument:
        return self.at(free_port())

    def kill(self, root: Path) -> bool:
        self.servers.close()
        self.begin()
        return True

    def performed(self, root: Path, operation: str) -> int:
        return (self.folder / "done").read_text().split().count(operation)
