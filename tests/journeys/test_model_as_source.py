"""A registered model as a cheap source: its version is settled once, it says where it knows nothing, and revoked it is
asked no more."""

from pathlib import Path
from typing import Any

import pytest
from tests.models import _by_hand

from firstlight.catalog.library import Library
from firstlight.factory import open_registry

from ._desk import Desk

FUNCTION = """
import pathlib
from firstlight.catalog.library import Library
from firstlight.factory import open_registry

def look(point):
    here = pathlib.Path(__file__).parent
    if (here / "poisoned").exists():
        (here / "poisoned").unlink()
        with Library(here / "home/catalog") as library:
            registry = open_registry(library)
            registry.revoke(registry.resolve("lines:1"), "poisoned", "ada")
    return {"y": 2.0 * point["a"] - (point["b"] - 0.3) ** 2}
"""
CAMPAIGN = """
id: {id}
parameters:
  a: {{low: 0, high: 1, unit: K}}
  b: {{low: 0, high: 1}}
  by: [model, lab]
objectives: {{y: maximize}}
fidelity: {{parameter: by, target: lab, costs: {{model: 1, lab: 10}}}}
budget: {{cost: {cost} USD}}
strategy: {{name: bayes, options: {{initial: 4}}}}
parallel: 1
procedure:
  name: source
  steps:
    - {{name: model, model: {model}}}
    - {{name: lab, function: "mine:look"}}
"""


class Bench(Desk):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        (path / "mine.py").write_text(FUNCTION)

    def campaign(self, id: str, model: str = "lines", cost: float = 60) -> str:
        file = self.path / f"{id}.yaml"
        file.write_text(CAMPAIGN.format(id=id, model=model, cost=cost))
        return str(file)

    def register(self, slope: float = 2.0, most: float = 1.0, unit: str = "K") -> None:
        folder = self.path / f"release-{slope}-{most}-{unit}"
        _by_hand.table(folder, {"a": slope}, {"a": (0.0, most), "b": (0.0, 1.0)}, units={"a": unit})
        with Library(self.home / "catalog") as library:
            _by_hand.registered(open_registry(library), folder, "lines")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def of(told: list[Any], kind: str) -> list[Any]:
    return [f for f in told if f["kind"] == kind]


def by(told: list[Any], trial: str) -> str:
    return next(str(f["point"]["by"]) for f in of(told, "TrialProposed") if f["trial"] == trial)


def test_a_step_asks_the_version_that_was_meant_when_the_campaign_was_opened(bench: Bench) -> None:
    bench.register()
    told = bench.do("run", bench.campaign("first"), "--no-report")
    (opened,) = of(told, "CampaignOpened")
    step = opened["spec"]["procedure"]["steps"][0]
    assert step["settings"] == {"model": "lines:1"} and set(step["inputs"]) == {"config", "weights"}
    actions = [a for f in of(told, "TrialProposed") for a in f["actions"] if a["name"] == "model"]
    assert actions and all(a["settings"]["model"] == "lines:1" for a in actions)
    assert of(told, "CampaignClosed")


def test_where_the_model_knows_nothing_that_source_fails_and_the_others_go_on(bench: Bench) -> None:
    bench.register(most=0.5)
    told = bench.do("run", bench.campaign("narrow", cost=120), "--no-report")
    failed = [f for f in of(told, "ActionFailed")]
    assert 1 <= len(failed) <= 3 and {f["failure"]["cause"] for f in failed} == {"invalid-input"}
    assert all(by(told, f["action"].rpartition(".")[0]) == "model" for f in failed)
    assert "lines:1 does not know such points: a is 0." in failed[0]["failure"]["message"]
    # That the model knows nothing there tells nothing of the point: the best lies where a is 1.
    best = max(o["value"] for f in of(told, "ActionSucceeded") for o in f["measured"]["observations"])
    assert best > 1.9


def test_a_version_that_is_revoked_meanwhile_is_refused_and_then_left_alone(bench: Bench) -> None:
    bench.register()
    (bench.path / "poisoned").touch()
    told = bench.do("run", bench.campaign("next"), "--no-report")
    refused = of(told, "ActionRefused")
    assert 1 <= len(refused) <= 3 and all(f["reasons"][0].startswith("lines:1 was revoked by ada") for f in refused)
    first = told.index(refused[0])
    assert not [f for f in told[first:] if f["kind"] == "ActionDispatched" and f["action"].endswith(".model")]
    assert of(told, "CampaignClosed")[0]["reason"] == "cost spent"


def test_a_model_that_cannot_answer_is_refused_before_anything_is_written(bench: Bench) -> None:
    def refused(id: str, model: str) -> str:
        done = bench.done("run", bench.campaign(id, model), "--no-report")
        assert done.exit_code == 2, done.output
        return str(done.stderr)

    bench.register()
    bench.register(slope=3.0, unit="degC")
    assert "did you mean 'lines'?" in refused("c1", "line")
    assert "there is no version 7 of lines" in refused("c1", "'lines:7'")
    assert "a is in K here, and it has learned it in degC" in refused("c1", "'lines:2'")
    bench.do("model", "revoke", "lines:1", "--reason", "poisoned")
    assert "lines:1 was revoked by" in refused("c1", "'lines:1'")
    assert bench.do("list") == [{"campaigns": []}]
