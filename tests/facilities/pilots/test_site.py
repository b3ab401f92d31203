"""What is said of a site: bad options and files are refused in clear words, good ones become what Parsl takes."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("parsl", reason="pilots need Parsl")

from firstlight import core, plugins
from firstlight.facilities.compute.parsl import ParslFacility
from firstlight.facilities.compute.parsl._build import build
from firstlight.facilities.compute.parsl._site import Site

from .bench import Bench, value

SITE = """
from parsl.config import Config
from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor
from parsl.providers import LocalProvider

config = Config(
    executors=[
        ThreadPoolExecutor(label="threads"),
        HighThroughputExecutor(
            label="one", max_workers_per_node=1, address="127.0.0.1", encrypted=False, heartbeat_period=1,
            heartbeat_threshold=4, provider=LocalProvider(init_blocks=1, max_blocks=1),
        ),
        HighThroughputExecutor(label="two", address="127.0.0.1", provider=LocalProvider(init_blocks=0)),
    ],
    retries=3, strategy="none",
)
"""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"provider": "slrum"}, "no provider 'slrum': there are local, slurm"),
        ({"provider": "slurm"}, "workers"),
        ({"provider": "slurm", "workers": 2, "max_blocks": 1, "init_blocks": 2}, "init_blocks must be between"),
        ({"provider": "pbs", "workers": 2, "nodes": 2}, "needs a block_launcher"),
        ({"provider": "grid-engine", "workers": 2, "account": "me"}, "has no option account"),
        ({"workers": 2, "queue": "debug"}, "'local' has no option queue"),
        ({"workers": 2, "block_launcher": "srn"}, "no block_launcher 'srn'"),
        ({"workers": 2, "heartbeat": 0}, "heartbeat must be at least 1"),
        ({"executor": "one"}, "option config"),
        ({"config": "/nowhere/site.py"}, "/nowhere/site.py cannot be read"),
        ({"wokers": 2}, "did you mean 'workers'"),
        ({"tries": 0}, "tries at least 1"),
    ],
)
def test_options_that_are_wrong_are_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(plugins.BrokenPart, match=words):
        plugins.make("facilities", "parsl", {"root": tmp_path, **options})


def test_a_file_that_is_no_python_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "site.py"
    file.write_text("config = (")
    with pytest.raises(plugins.BrokenPart, match=r"site\.py is not Python"):
        plugins.make("facilities", "parsl", {"root": tmp_path, "config": file})


@pytest.mark.parametrize(
    ("text", "executor", "words"),
    [
        ("import nowhere_to_be", "", "fails: ModuleNotFoundError"),
        ("config = 3", "", "must define `config`, a parsl.Config"),
        ("from parsl.config import Config\nconfig = Config()", "", "no HighThroughputExecutor"),
        (SITE, "three", "no HighThroughputExecutor 'three': there are one, two"),
    ],
)
def test_a_file_that_describes_no_site_is_found_by_whoever_looks(
    tmp_path: Path, text: str, executor: str, words: str
) -> None:
    file = tmp_path / "site.py"
    file.write_text(text)
    facility = ParslFacility(tmp_path / "facility", config=file, executor=executor)
    wrong = [finding for finding in asyncio.run(facility.examine()) if not finding.right]
    assert [finding.what for finding in wrong] == ["its file of Parsl's own"]
    assert words in wrong[0].seen


def test_a_file_of_parsls_own_is_used_as_it_is(pilots: Bench, tmp_path: Path) -> None:
    file = tmp_path / "site.py"
    file.write_text(SITE)
    pilots.options = {"config": str(file)}
    assert "executor one" in str(asyncio.run(pilots.facility().examine()))

    async def test(facility: ParslFacility) -> core.Outcome:
        return await facility.outcome(await facility.submit(pilots.permit()))

    assert value(pilots.run(test)) == 9.0


@pytest.mark.parametrize("name", ["pbs", "torque", "lsf", "grid-engine", "condor"])
def test_every_provider_takes_what_is_said_of_it(name: str) -> None:
    """They are not run here: that Parsl takes the options is all that is known of them."""
    named: dict[str, Any] = {"account": "m1", "queue": "debug"} if name in ("pbs", "torque", "lsf") else {}
    named |= {"scheduler_options": "#X", "setup": "module load python", "walltime": 5400.0}
    site = Site(provider=name, workers=4, address="127.0.0.1", **named)
    provider = build(site, sys.executable, "/somewhere").executor.provider
    assert provider.walltime == "01:30:00"
    assert "module load python" in provider.worker_init
    assert "export PYTHONPATH=/somewhere" in provider.worker_init


def test_several_nodes_are_for_others(tmp_path: Path) -> None:
    facility = ParslFacility(tmp_path, workers=2)
    action = Bench(tmp_path).permit(resources=core.Resources(nodes=2)).action
    assert "use a batch facility such as slurm" in asyncio.run(facility.status(action)).unfit


def test_parsl_is_loaded_by_the_keeper_only() -> None:
    code = "import sys, firstlight.facilities.compute.parsl; print('parsl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
