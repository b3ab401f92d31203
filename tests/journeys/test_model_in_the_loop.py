"""From campaigns to a model and back: what earlier campaigns taught chooses the points of the next one."""

import json
from pathlib import Path

import pytest

from ._desk import Desk

pytest.importorskip("torch")

FUNCTION = """
import math

def look(point):
    return 3 * math.exp(-8 * ((point["temperature"] - 420) / 200) ** 2) - (point["carbon"] - 0.4) ** 2
"""
CAMPAIGN = """
id: {id}
parameters:
  temperature: {{low: 300, high: 600, unit: K}}
  carbon: {{low: 0, high: 1}}
objectives: {{hardness: maximize}}
budget: {{trials: {trials}}}
strategy: {strategy}
parallel: {parallel}
seed: {seed}
evaluate: mine:look
"""
SPEC = """
name: steels
family: experiment
data: ["observable=hardness"]
options: {width: 16}
split: {validation: 0.2, test: 0.2}
training: {steps: 120, batch: 8, learning_rate: 0.01, validate: 20}
"""
PRETRAINED = "{name: pretrained, options: {model: steels}}"


class Lab(Desk):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        (path / "mine.py").write_text(FUNCTION)

    def campaign(self, id: str, strategy: str = "random", trials: int = 16, parallel: int = 4, seed: int = 0) -> str:
        file = self.path / f"{id}.yaml"
        file.write_text(CAMPAIGN.format(id=id, strategy=strategy, trials=trials, parallel=parallel, seed=seed))
        return str(file)


def test_a_model_of_earlier_campaigns_chooses_points_and_is_named_until_it_is_revoked(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    for n in range(6):
        lab.do("run", lab.campaign(f"steel-{n}", seed=n), "--no-report")
    (tmp_path / "spec.yaml").write_text(SPEC)
    made = lab.do("model", "train", str(tmp_path / "spec.yaml"))[-1]
    assert made["scores"]["nll"] < min(b["nll"] for b in made["baselines"].values())
    lab.do("model", "promote", "steels:1")
    (tmp_path / "spec.yaml").write_text(
        SPEC.replace("steps: 120", "steps: 20") + "gate: {shadow: 4, baselines: false}\n"
    )
    lab.do("model", "train", str(tmp_path / "spec.yaml"))
    assert "it has predicted 0 trials that steels:1 served, of 4" in lab.done("model", "promote", "steels:2").stderr
    nothing = lab.done("model", "shadow", "steels:2")
    assert nothing.exit_code == 5 and "no campaign that steels:1 served has ended" in nothing.stderr

    told = lab.do("run", lab.campaign("next", PRETRAINED, trials=4, parallel=1), "--no-report")
    lineage = lab.do("model", "show", "steels:1")[-1]["lineage"]
    assert lineage["campaigns"] == ["next"] and len(lineage["trials"]) == 4
    shadow = lab.do("model", "shadow", "steels:2")[-1]
    assert (shadow["compared"]["trials"], shadow["compared"]["campaigns"]) == (4, ["next"])
    assert shadow["passed"] == (shadow["compared"]["candidate"] <= shadow["compared"]["production"])
    assert lab.done("model", "shadow", "steels:2").exit_code == 5, "each campaign counts once"
    assert [f["versions"] for f in told if f["kind"] == "ModelsChosen"] == [{"steels": "steels:1"}]
    why = lab.do("explain", "next.1")[-1]
    assert "by the model steels, right with chance" in json.dumps(why)
    asked = lab.done("explain", "next.2", "--replay")
    assert asked.exit_code == 0 and "the same" in asked.stdout
    # The best is 3, where temperature is 420 K: nobody has looked there yet, and it knows.
    best = max(o["value"] for f in told for o in f.get("measured", {}).get("observations", ()))
    assert best > 2.8

    lab.do("model", "revoke", "steels:1", "--reason", "poisoned")
    refused = lab.done("run", lab.campaign("after", PRETRAINED), "--no-report")
    assert refused.exit_code == 2 and "steels:1 was revoked by" in refused.stderr


def test_a_campaign_trains_its_model_anew_and_only_a_better_one_decides(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    for n in range(6):
        lab.do("run", lab.campaign(f"steel-{n}", seed=n), "--no-report")
    # The first one has hardly been trained, and going on makes it better.
    (tmp_path / "spec.yaml").write_text(SPEC.replace("steps: 120", "steps: 20") + "gate: {baselines: false}\n")
    made = lab.do("model", "train", str(tmp_path / "spec.yaml"))[-1]
    lab.do("model", "promote", "steels:1")
    file = Path(lab.campaign("next", PRETRAINED, trials=9, parallel=1))
    file.write_text(file.read_text() + "model: steels\nretrain_after: 4\n")
    told = lab.do("run", str(file), "--no-report")
    begun = [f for f in told if f["kind"] == "TrainingBegun"]
    updated = [f for f in told if f["kind"] == "ModelUpdated"]
    assert [len(f["trials"]) for f in begun][:1] == [4]
    assert [f["training"] for f in updated] == [f["training"] for f in begun]
    assert any(not f["reason"] for f in updated)
    # Each has been judged against the one that was in production, on what neither has seen.
    before = made["record"]
    for f in updated:
        shown = lab.do("model", "show", f["model"])[-1]
        assert (shown["record"] if f["reason"] else shown["parent"]) == before, f
        before = shown["record"]
    assert lab.do("show", begun[0]["training"])[-1]["state"] == "closed"
    # The first training knew of four trials, and what came of it is said to have been made from them.
    (known,) = [f["dataset"] for f in told if f["kind"] == "DatasetPublished" and f["seq"] < begun[0]["seq"]]
    touched = {t["version"] for t in lab.do("model", "touched", known)[-1]["touched"]}
    assert touched >= {f["model"] for f in updated if not f["reason"]}
