"""The same campaign on every kind of computer: nothing of it changes but where its actions are performed."""

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from firstlight import config, core
from firstlight.app import App
from firstlight.testing.iri import IriServer
from firstlight.testing.slurm import SlurmBox, available

PLUGIN = Path(__file__).parents[1] / "models" / "plugin"
PROGRAM = [sys.executable, "-c", "from firstlight.cli import main; main()"]
NEEDS = {"critical-materials": "phreeqc", "fusion": "vmecpp", "batch": "", "pilots": "parsl", "site": "httpx"}
TRIALS = 4
SETTINGS = """
[facilities.batch]
kind = "slurm"
python = "{python}"
poll = 0.2
duration = 300
root = "{root}"
setup = "{setup}"

[facilities.pilots]
kind = "parsl"
provider = "slurm"
workers = 2
setup = "{setup}"

[facilities.site]
kind = "iri"
url = "{url}"
resource = "hpc"
project = "m0001"
token = "{token}"
workdir = "{workdir}"
python = "{python}"
poll = 0.1
setup = "{setup}"
"""


class World:
    """A data directory, with a Slurm and an IRI facility that it knows."""

    def __init__(self, path: Path, box: SlurmBox, server: IriServer) -> None:
        self.home, self.box, self.environment = path / "home", box, os.environ | box.environment
        self.home.mkdir()
        (self.home / "firstlight.toml").write_text(
            SETTINGS.format(
                python=sys.executable,
                url=server.url,
                token=server.token_file,
                workdir=server.workdir,
                root=path / "scratch",
                setup=f"export PYTHONPATH={PLUGIN}:$PYTHONPATH",
            )
        )
        self._seen: dict[tuple[str, str], dict[str, Any]] = {}

    def run(self, domain: str, facility: str) -> dict[str, Any]:
        """What the trials of a domain's campaign brought there, by trial; a campaign is run once."""
        if (domain, facility) not in self._seen:
            words = ["run", domain, "--trials", str(TRIALS), "--seed", "3", "--strategy", "sobol", "--parallel", "2"]
            done = subprocess.run(
                [*PROGRAM, *words, "--facility", facility, "--name", f"{domain}-{facility}", "--no-report", "--json",
                 "--data-dir", str(self.home)],
                env=self.environment, capture_output=True, text=True, timeout=200, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr + done.stdout[-2000:]
            summary = json.loads(done.stdout.splitlines()[-1])["standing"]
            assert summary["trials"] == TRIALS
            self._seen[domain, facility] = asyncio.run(self._rows(f"{domain}-{facility}", facility))
        return self._seen[domain, facility]

    def check(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Have a probe performed as jobs of Slurm."""
        return subprocess.run(
            [*PROGRAM, "facility", "check", "batch", *words, "--data-dir", str(self.home)],
            env=self.environment, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip

    async def _rows(self, id: str, facility: str) -> dict[str, Any]:
        async with App.open(config.load_settings(self.home, {})) as app:
            _, ledger = await app.state(id)
        found = {}
        for row in ledger.view().rows:
            assert {span.facility for span in row.spans} == {facility}
            cause = row.failure.cause if row.failure else ""
            found[row.trial.rpartition(".")[2]] = (row.point, _values(row), cause)
        return found


def _values(row: core.Row) -> dict[str, float]:
    return {name: o.value for name, o in row.seen.items()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if missing := available():
        pytest.skip(f"not installed: {missing}")
    path = tmp_path_factory.mktemp("anywhere")
    with SlurmBox() as box, IriServer(path / "iri") as server:
        yield World(path, box, server)


@pytest.mark.parametrize("domain", ["critical-materials", "fusion"])
@pytest.mark.parametrize("facility", ["batch", "pilots", "site"])
def test_a_campaign_runs_unchanged_elsewhere(world: World, domain: str, facility: str) -> None:
    for need in (NEEDS[domain], NEEDS[facility]):
        if need and importlib.util.find_spec(need) is None:
            pytest.skip(f"{need} is not installed")
    here, there = world.run(domain, "local"), world.run(domain, facility)
    assert there == here
    assert len(here) == TRIALS
    assert any(values for _, values, _ in here.values())


def test_a_probe_asks_for_what_it_is_told_to_ask_for(world: World) -> None:
    done = world.check("--nodes", "2", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["right"] is True
    assert "2" in world.box.run("squeue", "--noheader", "--states=all", "--format=%D").split()
    said = world.check("--queue", "nowhere")
    assert said.returncode == 6
    assert "refused: Slurm refused it: invalid partition specified: nowhere" in " ".join(said.stdout.split())


# ------------------------------------------------------------------ models


@pytest.fixture
def home(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its data directory, for whoever runs campaigns in this very process."""
    pytest.importorskip("torch")
    for name, value in world.box.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(PLUGIN)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return world.home


@pytest.fixture(scope="module")
def weights(world: World, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], bytes]:
    """Those that this process makes."""

    @cache
    def made() -> bytes:
        from ..models.plugin import lines  # noqa: PLC0415 (it wants torch)
        from ._training import here  # noqa: PLC0415

        folder = tmp_path_factory.mktemp("here")
        return here(world.home, folder, lines.write(folder / "lines.csv"))

    return made


@pytest.mark.parametrize("facility", ["pilots", "site"])
def test_a_model_is_trained_elsewhere_as_it_is_here(
    home: Path, weights: Callable[[], bytes], facility: str
) -> None:  # fmt: skip
    if importlib.util.find_spec(NEEDS[facility]) is None:
        pytest.skip(f"{NEEDS[facility]} is not installed")
    from ._training import there  # noqa: PLC0415

    expected, seen = weights(), list[int]()
    slow = {"pause": 0.3}  # So long that one comes to look.
    made, _ = there(home, facility, lambda said: seen.extend(line["step"] for line in said), options=slow)
    assert made == expected
    assert set(seen) & {10, 20, 30}, "how far it has come is seen while it runs"


def test_a_job_whose_time_is_over_is_continued_by_another_as_if_nothing_had_been(
    world: World, home: Path, weights: Callable[[], bytes]
) -> None:  # fmt: skip
    from ._training import there  # noqa: PLC0415

    expected, scratch, told = weights(), home.parent / "scratch", list[int]()

    def warn(said: list[dict[str, Any]]) -> None:
        if said and not told:
            told.append(said[-1]["step"])
            for job in world.box.run("squeue", "--noheader", "--states=RUNNING", "--format=%i").split():
                world.box.run("scancel", "--batch", "--signal=USR1", job)

    made, report = there(home, "batch", warn, options={"pause": 0.1})
    assert made == expected
    assert told == [10], "how far it has come is seen while it runs, also where a facility works elsewhere"
    (run,) = (scratch / "actions").glob("train-line-*")
    assert len(list(run.glob("attempt-*.left"))) == 1 and len(list(run.glob("attempt-*.log"))) == 2
    steps = [json.loads(line)["step"] for line in (run / "checkpoint" / "progress.jsonl").read_text().splitlines()]
    assert steps == [10, 20, 30, 40], "nothing was done twice"
    assert report.compute.tokens == 40 * 16


def test_two_processes_of_a_job_train_one_model(home: Path, weights: Callable[[], bytes]) -> None:
    from ._training import there  # noqa: PLC0415

    weights()
    _, report = there(home, "batch", resources={"processes": 2})
    assert report.compute.world == 2 and report.compute.tokens == 40 * 16
    assert report.curve.best < 0.1 * report.curve.first
