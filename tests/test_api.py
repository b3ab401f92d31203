"""Campaigns from Python, as a scientist's script or notebook makes them."""

import ctypes
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import firstlight as fl

X = [fl.Continuous("x", -1.0, 2.0)]


def parabola(point: dict[str, float]) -> float:
    return (point["x"] - 0.5) ** 2


def test_any_function_runs_in_worker_processes_and_is_remembered(tmp_path: Path) -> None:
    offset = 0.25  # A closure: workers must be able to run it all the same.
    with fl.Campaign("bowl", X, [fl.minimize("y")], budget=fl.Budget(trials=12), data_dir=tmp_path) as campaign:
        best = campaign.run(lambda point: (point["x"] - offset) ** 2, parallel=2)
        assert best is not None
        assert abs(float(best.point["x"]) - offset) < 0.3
        id = campaign.id
    with fl.Campaign.load(id, data_dir=tmp_path) as again:
        assert again.state.closed == "trials spent"
        assert len(again.results) == 12
        assert again.best == best


def test_a_second_campaign_of_the_same_name_gets_a_number(tmp_path: Path) -> None:
    for expected in ("bowl", "bowl-2"):
        with fl.Campaign("bowl", X, [fl.minimize("y")], budget=fl.Budget(trials=2), data_dir=tmp_path) as campaign:
            campaign.run(parabola, workers="threads")
            assert campaign.id == expected


def test_ask_and_tell_in_any_order_and_results_nobody_asked_for() -> None:
    with fl.Campaign("by-hand", X, [fl.minimize("y")], budget=fl.Budget(trials=6), durable=False) as campaign:
        campaign.tell({"x": 1.9}, 1.96)
        first = campaign.ask(3)
        campaign.tell(first[2], fl.Failed("instrument-fault", "the needle clogged"))
        campaign.tell(dict(first[0]), {"y": (0.4, 0.1)}, as_run={"x": 0.51})
        campaign.tell(first[1].trial, parabola(first[1]))  # type: ignore[arg-type]
        for point in campaign.ask(10):
            campaign.tell(point, 0.2)
        assert campaign.state.closed == "trials spent"
        assert campaign.ask() == []
        records = campaign.results.to_records()
        assert len(records) == 7
        assert [r["failure"] for r in records if r["failure"]] == ["instrument-fault"]
        as_run = next(r for r in records if r.get("y.sigma") == 0.1)
        assert as_run["x"] == 0.51
        assert list(campaign.results.to_pandas()["trial"]) == [r["trial"] for r in records]


def test_what_is_told_comes_in_the_declared_unit_asked_for_or_not() -> None:
    objectives = [fl.minimize("y", unit="Pa")]
    with fl.Campaign("units", X, objectives, budget=fl.Budget(trials=2), durable=False) as campaign:
        campaign.tell({"x": 1.0}, {"y": {"value": 2.0, "unit": "kPa"}})
        campaign.tell(campaign.ask()[0], {"y": {"value": 3.0, "unit": "kPa"}})
        assert [r.seen["y"].value for r in campaign.results] == [2000.0, 3000.0]


def test_what_is_not_waiting_and_what_cannot_be_are_said() -> None:
    with fl.Campaign("by-hand", X, [fl.minimize("y")], budget=fl.Budget(trials=6), durable=False) as campaign:
        with pytest.raises(LookupError, match="trial nine is not waiting"):
            campaign.tell("nine", 1.0)
        with pytest.raises(ValueError, match=r"x is 7, outside -1\.0 to 2\.0"):
            campaign.tell({"x": 7}, 1.0)
        with pytest.raises(ValueError, match="ask and tell"):
            campaign.ask()
            campaign.run(parabola)


def test_a_bad_problem_is_refused_at_once_with_every_reason() -> None:
    with pytest.raises(ValueError, match="low") as told:
        fl.Campaign("bad", [fl.Continuous("x", 2, 1), fl.Continuous("x", 0, 1)], [fl.maximize("y")], durable=False)
    assert "parameters[0]" in str(told.value)
    assert "parameters[1]" in str(told.value)


def test_a_function_that_kills_its_process_is_a_failed_trial() -> None:
    def deadly(point: dict[str, float]) -> float:
        if point["x"] > 0.5:
            ctypes.string_at(0)
        return point["x"]

    spec = {"budget": fl.Budget(trials=8), "strategy": "sobol", "durable": False}
    with fl.Campaign("deadly", X, [fl.maximize("y")], **spec) as campaign:  # type: ignore[arg-type]
        best = campaign.run(deadly, parallel=2)
        causes = {r.failure.cause for r in campaign.results if r.failure}
        assert causes == {"crashed"}
        assert best is not None
        assert float(best.point["x"]) <= 0.5


def test_several_objectives_give_a_front_and_its_most_balanced_trial() -> None:
    objectives = [fl.maximize("a"), fl.minimize("b")]
    with fl.Campaign("two", X, objectives, budget=fl.Budget(trials=12), strategy="sobol", durable=False) as campaign:
        best = campaign.run(lambda p: {"a": p["x"], "b": p["x"] ** 2}, workers="threads")
        front = campaign.front
        assert len(front) > 2
        assert best in front
        lowest, highest = (f(r.seen["a"].value for r in front) for f in (min, max))
        assert best is not None
        assert lowest < best.seen["a"].value < highest


def test_a_pool_is_tried_row_by_row() -> None:
    pool = [{"x": float(i)} for i in (-1, 0, 1, 2)]
    with fl.Campaign("pool", X, [fl.minimize("y")], pool=pool, durable=False) as campaign:
        campaign.run(parabola, workers="threads")
        assert sorted(r.point["x"] for r in campaign.results) == [-1, 0, 1, 2]


def test_on_trial_is_told_of_each() -> None:
    told: list[str] = []
    with fl.Campaign("bowl", X, [fl.minimize("y")], budget=fl.Budget(trials=5), durable=False) as campaign:
        campaign.run(parabola, workers="threads", on_trial=lambda row: told.append(row.trial))
        assert sorted(told) == [f"bowl.{i}" for i in range(1, 6)]


def test_a_script_killed_midway_is_gone_on_with(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys, time\n"
        "import firstlight as fl\n"
        "def slow(point):\n"
        "    time.sleep(0.15)\n"
        "    return point['x']\n"
        "home = sys.argv[1]\n"
        "if len(sys.argv) > 2:\n"
        "    campaign = fl.Campaign.load('script', data_dir=home)\n"
        "    told = []\n"
        "    campaign.run(slow, parallel=2, on_trial=told.append)\n"
        "    assert 0 < len(told) < 10, told\n"
        "    print(len(campaign.results), campaign.state.closed)\n"
        "else:\n"
        "    campaign = fl.Campaign('script', [fl.Continuous('x', 0, 1)], [fl.maximize('y')],\n"
        "                           budget=fl.Budget(trials=10), strategy='random', data_dir=home)\n"
        "    seen = []\n"
        "    campaign.run(slow, parallel=2, on_trial=lambda row: seen.append(row) or len(seen) > 2 and os._exit(9))\n"
    )
    command = [sys.executable, str(script), str(tmp_path / "home")]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 9
    done = subprocess.run([*command, "again"], capture_output=True, text=True, timeout=60)
    assert done.stdout.split(maxsplit=1) == ["10", "trials spent\n"], done.stderr


def test_ctrl_c_lays_the_campaign_down_at_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time\n"
        "import firstlight as fl\n"
        "def slow(point):\n"
        "    time.sleep(0.3)\n"
        "    return point['x']\n"
        "campaign = fl.Campaign('script', [fl.Continuous('x', 0, 1)], [fl.maximize('y')],\n"
        "                       budget=fl.Budget(trials=100), strategy='random', data_dir=sys.argv[1])\n"
        "campaign.run(slow, parallel=2, on_trial=lambda row: print(row.trial, flush=True))\n"
    )
    command = [sys.executable, str(script), str(tmp_path / "home")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith("script.")
        start = time.monotonic()
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=30)
        assert time.monotonic() - start < 5
        assert "KeyboardInterrupt" in said
    with fl.Campaign.load("script", data_dir=tmp_path / "home") as campaign:
        assert campaign.state.runner == "", "the run was ended in good order"
        assert not campaign.state.closed


@pytest.mark.parametrize("strategy", ["bayes", "random", "sobol", "grid", "portfolio"])
def test_every_choice_of_a_parallel_campaign_is_made_again(strategy: str, tmp_path: Path) -> None:
    def rough(point: dict[str, Any]) -> float:
        if point["x"] > 1.7:
            raise fl.Failed("crashed")
        return parabola(point) + (0.1 if point["s"] == "b" else 0.0)

    space: list[Any] = [*X, fl.Categorical("s", ("a", "b"))]
    with fl.Campaign(
        "again", space, [fl.minimize("y")], budget=fl.Budget(trials=16), strategy=strategy, parallel=4,
        data_dir=tmp_path,
    ) as campaign:  # fmt: skip
        campaign.run(rough, workers="threads")
    with fl.Campaign.load("again", data_dir=tmp_path) as campaign:
        assert len(campaign.results) >= 10
        for row in campaign.results:
            why = campaign.explain(row)
            assert why.row == row
            replay = why.replay()
            assert replay.same, (row.trial, replay.differences)
            assert replay.now is not None and replay.now.point == row.point


def test_a_regret_is_part_of_the_goal() -> None:
    rule = fl.Regret(gain=0.1)
    with fl.Campaign(
        "sated", X, [fl.minimize("y")], budget=fl.Budget(trials=5), regret=rule, durable=False
    ) as campaign:  # fmt: skip
        assert campaign.spec.goal.regret == rule
        assert rule.chance == 0.05
    with pytest.raises(ValueError, match=r"goal\.regret: a regret needs exactly one objective"):
        fl.Campaign("two", X, [fl.minimize("y"), fl.maximize("z")], budget=fl.Budget(trials=5), regret=rule)


def test_choices_among_asking_and_telling_are_made_again(tmp_path: Path) -> None:
    fl.Campaign("by-hand", X, [fl.minimize("y")], budget=fl.Budget(trials=30), data_dir=tmp_path).ask(1)
    for _ in range(2):  # The campaign is taken up where another left it.
        with fl.Campaign.load("by-hand", data_dir=tmp_path) as campaign:
            for n in range(5):
                asked = campaign.ask(2)
                campaign.tell({"x": 0.1 + n / 100}, 0.3)
                campaign.tell(asked[1], (parabola(asked[1]), 0.1), as_run={"x": asked[1]["x"]})  # type: ignore[arg-type]
                why = campaign.explain(asked[0])
                assert why.status == "pending"
                assert why.replay().same
                campaign.tell(asked[0], fl.Failed("instrument-fault"))
                assert campaign.explain().row.source != "bayes"
    with fl.Campaign.load("by-hand", data_dir=tmp_path) as campaign:
        trials = [campaign.explain(str(n)) for n in range(1, campaign.state.numbered + 1)]
        assert sum(not why.unasked for why in trials) == 21
        assert all(why.replay().same for why in trials if not why.unasked)
        with pytest.raises(ValueError, match=r"no strategy chose trial by-hand\.4"):
            campaign.explain("4").replay()
        with pytest.raises(LookupError, match=r"has no trial by-hand\.77"):
            campaign.explain("77")


def test_people_steer_a_campaign_that_they_ask_and_tell() -> None:
    t: list[fl.Continuous | fl.Categorical] = [
        fl.Continuous("t", 20.0, 120.0, unit="degC"),
        fl.Categorical("solvent", ("DMF", "THF")),
    ]
    with fl.Campaign("steered", t, [fl.maximize("y")], budget=fl.Budget(trials=4), durable=False) as campaign:
        for point in campaign.ask(2):
            campaign.tell(point, float(point["t"]))
        first, second = campaign.results
        campaign.reject(second, reason="a bubble")
        assert [r.trial for r in campaign.results] == [first.trial]
        assert [r.rejected for r in campaign.results.rejected] == ["a bubble"]
        assert campaign.best == campaign.results[0]
        campaign.correct(1, {"t": "353.15 K", "y": (81.0, 0.5)}, note="the thermometer was off")
        assert campaign.results[0].ran["t"] == pytest.approx(80.0)
        assert campaign.best is not None
        assert (campaign.best.seen["y"].value, campaign.best.seen["y"].sigma) == (81.0, 0.5)
        campaign.restore(second.trial)
        assert len(campaign.results) == 2

        campaign.budget(trials=12)
        campaign.forbid({"t": (60, 120), "solvent": "THF"}, reason="it boils")
        campaign.inject({"t": "373.15 K", "solvent": "DMF"}, note="a hunch")
        hunch, *others = campaign.ask(6)
        assert hunch == {"t": pytest.approx(100.0), "solvent": "DMF"}
        assert len(others) == 5
        assert not [p for p in others if p["solvent"] == "THF" and float(p["t"]) >= 60.0]
        campaign.allow({"t": (60, 120), "solvent": "THF"})
        with pytest.raises(RuntimeError, match="nobody forbade"):
            campaign.allow({"t": (60, 120), "solvent": "THF"})
        with pytest.raises(ValueError, match="solvent: it is missing"):
            campaign.inject({"t": 30.0})
        with pytest.raises(ValueError, match="leaves no point"):
            campaign.forbid({"t": (0, 200)})
        for asked in (hunch, *others, *campaign.ask(9)):
            campaign.tell(asked, 1.0)
        assert campaign.state.closed == "trials spent"
        with pytest.raises(RuntimeError, match=r"closed \(trials spent\): nothing of it changes any more"):
            campaign.budget(trials=20)


def test_people_steer_a_campaign_that_runs(tmp_path: Path) -> None:
    said: list[str] = []

    def slow(point: dict[str, float]) -> float:
        time.sleep(0.05)
        return parabola(point)

    with fl.Campaign("bowl", X, [fl.minimize("y")], budget=fl.Budget(trials=8), data_dir=tmp_path) as campaign:

        def steer(row: object) -> None:
            if not said:
                said.append("once")
                threading.Thread(target=lambda: campaign.inject({"x": 1.75}, note="mine")).start()

        campaign.run(slow, workers="threads", on_trial=steer)
        mine = [r for r in campaign.results if r.reason == "mine"]
        assert [r.point for r in mine] == [{"x": 1.75}]
        assert campaign.state.counted == 8
