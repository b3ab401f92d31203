"""The verb `explain`: a decision as a person reads it, as JSON, and asked again."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from firstlight import app, config, core, engine
from firstlight.cli import Exit
from firstlight.testing.world import Room, a_spec, a_world

from .conftest import Bench
from .test_verbs import do


class Frank:
    """Says all there is to say of its one point. Its campaign says it is `random`, which would choose another."""

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        rival = core.Alternative(point={"x": 0.125}, score=0.021, predicted=(_y(0.72, 0.07),))
        decision = core.Decision(
            criterion="log expected improvement", score=0.034, trials=7, runners_up=(rival,),
            informed_by=(core.Influence(campaign="last-year", share=0.62, trials=40),),
            learned={"y": {"length-scale x": 0.41, "noise": 0.05}}, model="m3",
            outlook=core.Outlook(gain=0.1, chance=0.25),
        )  # fmt: skip
        return [
            core.Proposal(point={"x": 0.5}, predicted=(_y(0.8, 0.03),), reason="it may be better", decision=decision)
        ]


def _y(value: float, sigma: float = 0.0) -> core.Observation:
    return core.Observation(observable="y", value=value, sigma=sigma, unit="V")


def look(action: core.Action) -> core.Outcome:
    return core.Measured(observations=(_y(0.9, 0.04),), as_run={"x": 0.51})


@pytest.fixture
def told(tmp_path: Path) -> Bench:
    """A data directory with a campaign of two trials that Frank chose, and one that a person told of."""
    bench = Bench(tmp_path)
    goal = core.Goal(
        objectives=(core.Objective(observable="y", direction="maximize", unit="V"),), budget=core.Budget(trials=2)
    )
    spec = a_spec(goal=goal, parallel=1)

    async def story() -> None:
        async with app.App.open(config.load_settings(bench.path / "home", {})) as home:
            ports = a_world(Room(look), home.journal, strategy=Frank())
            await engine.create(spec, home.journal, ports.clock, "ada")
            fact = core.TrialAdded(
                trial="", point={"x": 0.1}, outcome=core.Failure(cause="crashed", message="bang"), source="grace"
            )
            await engine.request("c1", fact, home.journal, ports.clock, by="grace")
            await engine.run("c1", ports, by="ada@lab pid 7", versions={"firstlight": "0.0.9", "numpy": "1.0"})
            await engine.create(replace(spec, id="c2"), home.journal, ports.clock, "ada")

    asyncio.run(story())
    return bench


def test_a_person_reads_the_whole_decision(told: Bench) -> None:
    done = do(told, "explain", "c1.2")
    assert done.exit_code == Exit.DONE, done.output
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for expected in (
        "trial c1.2 ended", "x 0.5", "as run: x 0.51", "chosen by random it may be better",
        "criterion: log expected improvement, 0.034 here; learned from 7 trials; model m3",
        "y V 0.800 ± 0.030 0.900 ± 0.040 +2.0 sigma", "0.021 0.720 ± 0.070 V x 0.125", "length-scale x 0.41",
        "noise 0.05", "last-year 62 % 40", "chance that more than 0.1 V is still to be gained: 25 %",
        "with firstlight 0.0.9, numpy 1.0",
    ):  # fmt: skip
        assert expected in lines, (expected, done.stdout)
    assert "asked for 1 point, when it knew entry" in done.stdout
    assert "by ada@lab pid 7" in done.stdout
    assert "trial c1.3" in do(told, "explain", "c1").stdout, "the latest"


def test_json_says_the_same(told: Bench) -> None:
    found = json.loads(do(told, "explain", "c1.2", "--json").stdout)
    assert (found["trial"], found["status"], found["point"], found["as_run"]) == (
        "c1.2",
        "ended",
        {"x": 0.5},
        {"x": 0.51},
    )
    assert found["predicted"]["y"] == {"value": 0.8, "unit": "V", "sigma": 0.03}
    assert found["z"]["y"] == pytest.approx(2.0)
    assert found["decision"]["runners_up"][0]["point"] == {"x": 0.125}
    assert found["decision"]["informed_by"] == [{"campaign": "last-year", "share": 0.62, "trials": 40}]
    assert (found["asked"]["count"], found["asked"]["place"], found["replay"]) == (1, 0, None)
    assert found["versions"] == {"firstlight": "0.0.9", "numpy": "1.0"}


def test_a_replay_that_differs_shows_both_and_the_versions(told: Bench) -> None:
    done = do(told, "explain", "c1.2", "--replay")
    assert (done.exit_code, int(Exit.DIFFERENT)) == (8, 8)
    assert "replay: different" in done.stdout
    for field in ("point.x", "predicted", "reason", "decision", "firstlight", "numpy"):
        assert any(line.startswith(field) for line in done.stdout.splitlines()), field
    replay = json.loads(do(told, "explain", "c1.2", "--replay", "--json").stdout)["replay"]
    assert replay["same"] is False
    by_field = {d["field"]: d for d in replay["differences"]}
    assert by_field["point.x"] == {"field": "point.x", "then": 0.5, "now": replay["point"]["x"]}
    assert replay["versions"]["firstlight"] != "0.0.9"


@pytest.mark.parametrize("strategy", ["random", "sobol", "bayes", "portfolio"])
def test_a_replay_of_a_campaign_run_here_is_the_same(bench: Bench, strategy: str) -> None:
    (bench.path / "mine.py").write_text("def look(point):\n    return {'y': 1 - abs(point['x'] - 0.6)}\n")
    done = do(bench, "run", str(bench.path / "slow.yaml"), "--trials", "9", "--strategy", strategy, "--no-report")
    assert done.exit_code == 0, done.output
    for number in range(1, 10):
        again = do(bench, "explain", f"slow.{number}", "--replay", "--json")
        assert again.exit_code == Exit.DONE, again.output
        replay = json.loads(again.stdout)["replay"]
        assert replay["same"] and replay["point"]
    assert "replay: the same" in do(bench, "explain", "slow.9", "--replay").stdout


def test_what_cannot_be_explained_or_asked_again_is_said(told: Bench) -> None:
    added = do(told, "explain", "c1.1")
    assert "given by grace" in added.stdout
    assert "failed: crashed, bang" in added.stdout
    refused = do(told, "explain", "c1.1", "--replay")
    assert refused.exit_code == Exit.REFUSED
    assert "no strategy chose trial c1.1: it came from grace" in refused.stderr
    unknown = do(told, "explain", "c1.77")
    assert unknown.exit_code == Exit.BAD_INPUT
    assert unknown.stderr.splitlines() == ["campaign c1 has no trial c1.77", "Its trials are c1.1 to c1.3."]
    empty = do(told, "explain", "c2")
    assert (empty.exit_code, empty.stderr.strip()) == (Exit.BAD_INPUT, "campaign c2 has no trial yet")
