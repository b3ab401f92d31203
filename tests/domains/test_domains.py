"""Listing domains is light, says what is missing, and every one of them is a sound campaign."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from firstlight import app, core, plugins
from firstlight.domains import Domain
from firstlight.domains.critical_materials import DOMAIN

DOCS = Path(__file__).parents[2] / "docs" / "domains"
NAMES = plugins.names("domains")


@pytest.fixture(params=NAMES)
def domain(request: pytest.FixtureRequest) -> Domain:
    found = plugins.load("domains", request.param)
    assert isinstance(found, Domain)
    return found


def test_listing_loads_no_simulator() -> None:
    code = (
        "import json, sys; from firstlight import plugins\n"
        "found = [plugins.load('domains', name) for name in plugins.names('domains')]\n"
        "print(json.dumps([[d.spec().id for d in found], [m for d in found for m in d.modules if m in sys.modules]]))\n"
        "assert 'numpy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [list(NAMES), []]


def test_missing_names_the_extra_to_install() -> None:
    absent: Domain = replace(DOMAIN, modules=("surely_not_installed",))
    assert "surely_not_installed" in absent.missing()
    assert "pip install 'firstlight[critical-materials]'" in absent.missing()
    assert "firstlight[other]" in replace(absent, extra="other").missing()
    assert "the program surely-not-there" in replace(DOMAIN, programs=("surely-not-there",)).missing()
    assert replace(DOMAIN, modules=("json",)).missing() == ""


def test_the_specification_is_sound(domain: Domain) -> None:
    spec = app.check_spec(domain.spec(), filter(None, [domain.laboratory]))
    assert spec.id == domain.name
    entry = core.Entry(seq=1, at=0.0, by="test", fact=core.CampaignOpened(spec=spec))
    assert core.decode(core.encode(entry)).fact == entry.fact
    if len(spec.goal.objectives) > 1:
        assert all(o.threshold is not None for o in spec.goal.objectives)
    if domain.values is not None:
        assert spec.pool is not None
    for step in spec.procedure.steps:
        assert step.operation.startswith("firstlight.domains.") or domain.laboratory


def test_it_has_a_page_that_names_everything_it_varies_and_wants(domain: Domain) -> None:
    page = (DOCS / f"{domain.name if domain.laboratory else domain.extra or domain.name}.md").read_text()
    assert f"firstlight run {domain.name}" in page
    wanted = [o.observable for o in domain.spec().goal.objectives]
    assert [name for name in wanted if f"`{name}`" not in page] == []
    for image in re.findall(r"\]\((\.\./images/[^)]+)\)", page):
        assert (DOCS / image).exists(), image


@pytest.mark.parametrize(
    "name", [n for n in NAMES if plugins.load("domains", n).modules and not plugins.load("domains", n).laboratory]
)
def test_a_worker_without_the_simulator_says_what_to_install(name: str) -> None:
    code = (
        "import sys; from firstlight import plugins, core\n"
        f"domain = plugins.load('domains', {name!r})\n"
        "from importlib.machinery import PathFinder\n"
        "real = PathFinder.find_spec\n"
        "hidden = lambda name: name.partition('.')[0] in domain.modules\n"
        "PathFinder.find_spec = staticmethod(lambda name, *more: None if hidden(name) else real(name, *more))\n"
        "spec = domain.spec()\n"
        "from firstlight.strategies.designs import Random\n"
        "point = Random().propose(spec, core.Results(), 1, 1)[0].point\n"
        "from firstlight.facilities.compute._call import load, call\n"
        "step = spec.procedure.steps[0]\n"
        "action = core.Action(id='a', trial='t', facility='', name='', operation='', point=point, "
        "settings=step.settings)\n"
        "print(call(load(step.operation, ''), action).message)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    domain = plugins.load("domains", name)
    assert f"pip install 'firstlight[{domain.extra or domain.name}]'" in done.stdout


def test_a_domain_that_cannot_be_loaded_says_why_and_hides_no_other(tmp_path: Path) -> None:
    metadata = tmp_path / "broken-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[firstlight.domains]\nabsent = nowhere:DOMAIN\nhalf = json:DOMAIN\n")
    done = subprocess.run(
        [sys.executable, "-c", "from firstlight.cli import main; main()", "domains", "--json"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = {d["name"]: d for d in json.loads(done.stdout)["domains"]}
    assert "No module named 'nowhere'" in found["absent"]["about"]
    assert "has no attribute 'DOMAIN'" in found["half"]["about"]
    assert found["critical-materials"]["area"] == "Critical materials"
