"""A simulator in an environment of its own, run as a command: the same campaign, the same outcomes."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from firstlight import app, config, core
from firstlight.domains import Domain
from firstlight.domains import critical_materials as cm

POINT: core.Point = {"pH1": 6.5, "pH2": 7.0, "bicarbonate": 1.5, "temperature": 25.0}


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Domain:
    """A domain whose simulator is not importable here, and an environment where it is."""
    pytest.importorskip("phreeqc")
    python = tmp_path / "simulators" / "critical-materials" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("FIRSTLIGHT_SIMULATORS", str(tmp_path / "simulators"))
    return replace(cm.DOMAIN, modules=("surely_not_installed",), apart=True)


def perform(point: core.Point, directory: Path) -> object:
    directory.mkdir()
    (directory / "point.json").write_text(json.dumps(point))
    subprocess.run(
        [sys.executable, "-m", "firstlight.domains", "firstlight.domains.critical_materials:evaluate"],
        cwd=directory, env={**os.environ, "FIRSTLIGHT_POINT": str(directory / "point.json")}, check=True,
    )  # fmt: skip
    return json.loads((directory / "outputs.json").read_bytes())


def test_the_command_gives_what_the_function_gives(tmp_path: Path) -> None:
    pytest.importorskip("phreeqc")
    assert perform(POINT, tmp_path / "good") == cm.evaluate(POINT)
    bad = perform({**POINT, "pH2": 5.6, "bicarbonate": 5.0}, tmp_path / "bad")
    assert isinstance(bad, dict)
    assert bad["failure"]["cause"] == "invalid-input"
    assert "out of reach" in bad["failure"]["message"]


def test_it_runs_by_command_only_where_it_must(apart: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    assert apart.missing() == ""
    (step,) = apart.campaign().procedure.steps
    assert step.operation == "command"
    assert replace(cm.DOMAIN, apart=True).campaign() == cm.spec()
    monkeypatch.setenv("FIRSTLIGHT_SIMULATORS", "/nowhere")
    assert "surely_not_installed" in apart.missing()
    assert apart.campaign() == cm.spec()


def test_settings_reach_the_function(apart: Domain) -> None:
    spec = cm.spec()
    step = replace(spec.procedure.steps[0], settings={"histories": 100})
    withal = replace(apart, spec=lambda: replace(spec, procedure=replace(spec.procedure, steps=(step,))))
    argv = withal.campaign().procedure.steps[0].settings["argv"]
    assert isinstance(argv, list)
    assert json.loads(argv[-1]) == {"histories": 100}


def test_a_campaign_through_the_command_runner(apart: Domain, tmp_path: Path) -> None:
    spec = replace(apart.campaign(), parallel=2, strategy=core.StrategySpec(name="sobol"))
    spec = replace(spec, goal=replace(spec.goal, budget=core.Budget(trials=6)))

    async def run() -> core.Results:
        settings = config.load_settings(tmp_path / "home", {})
        async with app.App.open(settings) as here:
            made = await here.create(here.check_spec(spec), "test")
            await here.run(made.id, "test")
            return (await here.state(made.id))[1].view()

    rows = asyncio.run(run()).rows
    assert len(rows) == 6
    for row in rows:
        try:
            expected = cm.evaluate(row.point)
        except core.Failed as failed:
            assert row.failure is not None
            assert (row.failure.cause, row.failure.message) == (failed.cause, failed.message)
            continue
        assert row.failure is None, row.failure
        assert {name: seen.value for name, seen in row.seen.items()} == pytest.approx(expected)
