"""A data directory, and a person who types commands."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from firstlight.cli import cli


class Desk:
    def __init__(self, path: Path) -> None:
        self.path, self.home = path, path / "home"

    def done(self, *words: str) -> Any:
        return CliRunner().invoke(cli, [*words, "--data-dir", str(self.home)])

    def do(self, *words: str) -> list[Any]:
        """The documents that a command tells, a line each."""
        done = self.done(*words, "--json")
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]
