"""A cascade: a model of earlier campaigns screens, a simulator computes, a robot behind its own protocol measures."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from firstlight import config, core
from firstlight.app import App
from firstlight.models import read_spec
from firstlight.strategies.designs import Random
from firstlight.testing import couplings

for module in ("torch", "sklearn", "httpx"):
    pytest.importorskip(module)

LABORATORY = """
name: bench
instruments:
  robot: {{protocol: openapi, address: {address}, operations: {{Couple: {{sigma: {{worth: 1}}}}}}}}
"""
CAMPAIGN = """
id: {id}
parameters:
  ligand: {ligands}
  solvent: {solvents}
  base: {bases}
  temperature: {{low: 40, high: 140, unit: degC}}
  time: {{low: 0.25, high: 24, unit: h, scale: log}}
  loading: {{low: 0.2, high: 5, unit: mol%, scale: log}}
  by: [simulation, robot]
objectives: {{worth: {goal}}}
fidelity: {{parameter: by, target: robot, costs: {{simulation: 1, robot: 20}}}}
budget: {{cost: {cost}}}
strategy: {strategy}
procedure:
  name: source
  steps:
    - {{name: simulation, function: "firstlight.testing.couplings:simulate", settings: {{substrate: {substrate}}}}}
    - name: robot
      facility: bench
      operation: robot.Couple
      settings: {{substrate: {substrate}, ligand: "{{ligand}}", solvent: "{{solvent}}", base: "{{base}}",
                  temperature: "{{temperature}}", time: "{{time}}", loading: "{{loading}}"}}
"""
MODEL = {
    "name": "couplings", "family": "table", "data": ["observable=worth"], "options": {"members": 2, "width": 32},
    "split": {"validation": 0.15, "test": 0.15}, "licence": "CC0-1.0",
    "training": {"steps": 500, "batch": 64, "learning_rate": 0.005, "validate": 50, "average": 0.98},
}  # fmt: skip


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Path]:
    """A twin in a process of its own."""
    words = [sys.executable, "-m", "firstlight.testing.couplings", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        file = tmp_path / "lab.yaml"
        file.write_text(LABORATORY.format(address=process.stdout.readline().strip()))
        yield file
        process.terminate()


def read(app: App, path: Path, id: str, substrate: int, strategy: str, goal: str, cost: int) -> core.CampaignSpec:
    file = path / f"{id}.yaml"
    words = {"ligands": list(couplings.LIGANDS[:12]), "solvents": list(couplings.SOLVENTS[:5]),
             "bases": list(couplings.BASES[:4])}  # fmt: skip
    file.write_text(CAMPAIGN.format(id=id, substrate=substrate, strategy=strategy, goal=goal, cost=cost, **words))
    return app.read_spec(file)


def looked_up(spec: core.CampaignSpec, substrate: int, count: int) -> tuple[list[core.Point], np.ndarray]:
    """Points at random, and what they are worth to the robot."""
    points = [{**p.point, "by": "robot"} for p in Random().propose(spec, core.Results(), count, substrate)]
    return points, couplings.worth(substrate, {p.name: [q[p.name] for q in points] for p in couplings.PARAMETERS})


async def sibling(app: App, path: Path, substrate: int, trials: int = 60) -> None:
    """An earlier campaign on another substrate: what was measured there before it was opened here, and little more."""
    spec = read(app, path, f"sibling-{substrate}", substrate, "random", "maximize", 20)
    added = [
        core.TrialAdded(trial="", point=point, outcome=core.Measured(
            observations=(core.Observation(observable="worth", value=float(value)),), cost=20.0))
        for point, value in zip(*looked_up(spec, substrate, trials), strict=True)
    ]  # fmt: skip
    await app.create(spec, "ada", added)
    await app.run(spec.id, "ada")


async def cascade(path: Path, lab: Path) -> tuple[list[core.Fact], float]:
    facilities = {"bench": {"kind": "lab", "file": str(lab)}}
    async with App.open(config.Settings(data_dir=path / "home", facilities=facilities)) as app:
        for substrate in range(100, 104):
            await sibling(app, path, substrate)
        training = await app.training(read_spec(MODEL), "ada")
        await app.run(training, "ada")
        await app.register(training, "ada")
        spec = read(app, path, "any", 1, "random", "maximize", 400)
        target = float(np.quantile(looked_up(spec, 1, 5_000)[1], 0.998))
        goal = f"{{direction: maximize, target: {target:.1f}}}"
        spec = read(app, path, "next", 1, "{name: screened, options: {model: couplings, keep: 60}}", goal, 1000)
        await app.create(spec, "ada")
        await app.run("next", "ada")
        return [entry.fact async for entry in app.journal.read("next")], target


def test_a_cascade_reaches_its_target_and_its_journal_says_how(tmp_path: Path, lab: Path) -> None:
    facts, target = asyncio.run(cascade(tmp_path, lab))
    kinds = [type(fact) for fact in facts]
    (chosen,) = [f for f in facts if isinstance(f, core.ModelsChosen)]
    assert chosen.versions == {"couplings": "couplings:1"}
    assert kinds.index(core.ModelsChosen) < kinds.index(core.TrialProposed)
    proposed = {f.trial: f for f in facts if isinstance(f, core.TrialProposed)}
    first = next(iter(proposed.values()))
    assert "that the model couplings kept of 100,000" in first.reason or "does not know such points" in first.reason
    assert {f.decision.model for f in proposed.values() if f.decision} == {"couplings:1"}
    actions = {a.id: a for f in proposed.values() for a in f.actions}
    assert {(a.facility, a.operation) for a in actions.values()} == {
        ("local", "firstlight.testing.couplings:simulate"), ("bench", "robot.Couple"),
    }  # fmt: skip
    read = [f for f in facts if isinstance(f, core.ActionSucceeded)]
    computed = [f for f in read if actions[f.action].facility == "local"]
    assert 0 < len(computed) < len(read)
    # The last thing measured is what was wanted, and only the robot's word counts.
    assert actions[read[-1].action].facility == "bench" and read[-1].measured.observations[0].value > target - 0.1
    assert core.CampaignClosed(reason="goal met") in facts
