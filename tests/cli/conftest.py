"""A directory with a campaign file and its function, and the program to run there."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from firstlight.cli import cli

PROGRAM = [sys.executable, "-c", "from firstlight.cli import main; main()"]
FUNCTION = """
import os, time

def look(point):
    with open(os.path.join(os.path.dirname(__file__), "performed.txt"), "a") as file:
        file.write(repr(point["x"]) + "\\n")
    time.sleep(0.25)
    return {"y": 1 - abs(point["x"] - 0.6)}
"""
CAMPAIGN = """
id: slow
parameters:
  x: {low: 0, high: 1}
objectives:
  y: maximize
budget: {trials: 10}
strategy: random
evaluate: mine:look
parallel: 2
"""
PATIENCE = 30.0


class Bench:
    """One directory, one data directory in it, and the processes begun there."""

    def __init__(self, path: Path) -> None:
        self.path, self.begun = path, list[subprocess.Popen[str]]()
        self.environment = os.environ | {"FIRSTLIGHT_HOME": str(path / "home"), "PYTHONUNBUFFERED": "1"}
        (path / "mine.py").write_text(FUNCTION)
        (path / "slow.yaml").write_text(CAMPAIGN)

    def do(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the program to its end."""
        return subprocess.run(
            [*PROGRAM, *words], cwd=self.path, env=self.environment, capture_output=True, text=True, timeout=PATIENCE,
            check=False,
        )  # fmt: skip

    def here(self, *words: str) -> Result:
        """The same in the process of the test, which is another than that of a campaign, and need not begin."""
        with chdir(self.path):
            return CliRunner().invoke(cli, list(words), env={"FIRSTLIGHT_HOME": str(self.path / "home")})

    def read(self, *words: str) -> Any:
        """What a verb answers with --json, which is one document."""
        done = self.here(*words, "--json")
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    def facts(self, id: str = "slow") -> list[dict[str, Any]]:
        """The journal of a campaign."""
        return [json.loads(line) for line in self.here("log", id, "--json").stdout.splitlines()]

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        """Run it beside this process."""
        process = subprocess.Popen(
            [*PROGRAM, *words], cwd=self.path, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.begun.append(process)
        return process

    def performed(self) -> list[str]:
        """What the function was called with."""
        file = self.path / "performed.txt"
        return file.read_text().splitlines() if file.exists() else []

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until it does."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, "it never came about"
            time.sleep(0.05)

    def close(self) -> None:
        """End what still runs."""
        for process in self.begun:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.communicate()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()
