"""People in the loop, from another terminal."""

import json
import signal
from typing import Any

import pytest

from firstlight.cli import Exit

from .conftest import PATIENCE, Bench

CAMPAIGN = """
id: slow
parameters:
  x: {low: 0, high: 1, unit: m}
  solvent: [DMF, THF]
objectives:
  y: {direction: maximize, unit: g}
budget: {trials: 1000, cost: 100 USD}
strategy: random
evaluate: mine:look
parallel: 2
"""


def proposed(known: list[dict[str, Any]], since: str) -> list[dict[str, Any]]:
    """The trials proposed after the last fact of a kind."""
    last = max(i for i, f in enumerate(known) if f["kind"] == since)
    return [f for f in known[last:] if f["kind"] == "TrialProposed"]


@pytest.fixture
def steered(bench: Bench) -> Bench:
    (bench.path / "slow.yaml").write_text(CAMPAIGN)
    return bench


def test_a_campaign_that_runs_is_steered_from_another_terminal(steered: Bench) -> None:
    run = steered.begin("run", "slow.yaml", "--no-report")
    steered.until(lambda: len(steered.performed()) >= 3)
    assert steered.read("forbid", "slow", "x=20 cm..", "solvent=THF", "--reason", "it foams") == {
        "campaign": "slow", "word": "forbidden",
    }  # fmt: skip
    assert steered.read("inject", "slow", "x=900 mm", "solvent=DMF", "--note", "a hunch")["word"] == "requested"
    assert steered.read("correct", "slow", "1", "x=51 cm", "y=0.7")["word"] == "corrected"
    assert steered.read("reject", "slow", "2", "--reason", "a bubble")["word"] == "rejected"
    last = steered.read("show", "slow")["spent"]["trials"] + 60  # More than are performed until the next word is heard.
    assert (
        steered.read("budget", "slow", "--trials", str(last), "--cost", "120 USD", "--time", "1 h")["word"] == "changed"
    )
    shown = steered.read("show", "slow")
    assert shown["forbidden"] == [{"type": "forbid", "ranges": {"x": [0.2, 1.0]}, "values": {"solvent": ["THF"]}}]
    assert shown["rejected"] == [{"trial": "slow.2", "reason": "a bubble"}]
    assert (shown["spent"]["trials_limit"], shown["spent"]["cost_limit"]) == (last, 120.0)
    assert "x 0.2 to 1, solvent THF" in steered.here("show", "slow").stdout
    out, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, err
    for line in ("forbidden: x 0.2 to 1, solvent THF (it foams)", "requested: x=0.9, solvent=DMF (a hunch)",
                 "trial 2 marked as bad: a bubble", f"changed: {last} trials, cost 120 USD, 1 h 00 min"):  # fmt: skip
        assert line in out

    known = steered.facts()
    later = proposed(known, "RegionForbidden")
    assert later
    assert not [f["point"] for f in later if f["point"]["x"] >= 0.2 and f["point"]["solvent"] == "THF"]
    (hunch,) = [f for f in known if f["kind"] == "TrialProposed" and f["reason"] == "a hunch"]
    assert hunch["point"] == {"x": 0.9, "solvent": "DMF"}
    assert "@" in hunch["source"]
    assert next(f for f in proposed(known, "PointRequested")) == hunch, "the next suggestion is theirs"
    assert known[-1]["kind"] == "RunEnded"
    shown = steered.read("show", "slow")
    assert (shown["state"], shown["spent"]["trials"], shown["trials"]) == ("closed", last, last)

    refused = steered.here("budget", "slow", "--trials", "2000", "--json")
    assert refused.exit_code == Exit.REFUSED
    assert "slow is closed (trials spent)" in json.loads(refused.stderr)["error"]["message"]
    # The dataset has all that was performed, with the mark and the correction.
    exported = steered.read("export", "slow", "--as", "json", "-o", str(steered.path / "out.json"))
    assert exported["rows"] == last
    records = {r["trial"]: r for r in json.loads((steered.path / "out.json").read_text())["records"]}
    assert records["slow.2"]["rejected"] == "a bubble"
    assert records["slow.1"]["rejected"] is None
    assert (records["slow.1"]["x.as_run"], records["slow.1"]["y"]) == (0.51, 0.7)
    report = steered.here("report", "slow", "--json")
    assert report.exit_code == 0, report.stderr


def test_a_campaign_that_nobody_runs_is_steered_too_and_every_slip_is_told(steered: Bench) -> None:
    run = steered.begin("run", "slow.yaml", "--no-report")
    steered.until(lambda: len(steered.performed()) >= 4)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=PATIENCE)

    def slip(code: Exit, said: str, *words: str) -> None:
        done = steered.here(*words)
        assert (done.exit_code, done.stdout) == (code, ""), done.stderr
        assert said in done.stderr, done.stderr
        assert json.loads(steered.here(*words, "--json").stderr)["error"]["code"] == code

    bad, refused = Exit.BAD_INPUT, Exit.REFUSED
    slip(bad, "name every parameter and its value", "inject", "slow")
    slip(bad, "solvent: it is missing", "inject", "slow", "x=0.5")
    slip(bad, "x: g cannot be turned into m", "inject", "slow", "x=3 g", "solvent=DMF")
    slip(bad, "'x' is not NAME=VALUE", "inject", "slow", "x")
    slip(bad, "x is there twice", "inject", "slow", "x=1", "x=2")
    slip(refused, "x is 2.0, outside 0.0 to 1.0", "inject", "slow", "x=2", "solvent=DMF")
    slip(bad, "solvent: 'water' is none of its values", "forbid", "slow", "solvent=water")
    slip(bad, "leaves no point", "forbid", "slow", "x=0..1")
    slip(bad, "forbidden are: none", "allow", "slow")
    slip(refused, "nobody forbade the region (x 0 to 0.1)", "allow", "slow", "x=0..0.1")
    slip(bad, "there is no trial '99'", "reject", "slow", "99", "--reason", "why")
    slip(refused, "is not marked as bad", "restore", "slow", "1")
    slip(bad, "there is no parameter or observable 'z'", "correct", "slow", "1", "z=3")
    slip(bad, "the budget is 1000 trials, cost 100 USD", "budget", "slow")
    slip(bad, "trials: 'many' is not a number", "budget", "slow", "--trials", "many")
    slip(refused, "counted in USD, not in EUR", "budget", "slow", "--cost", "5 EUR")
    slip(bad, "did you mean 'slow'?", "forbid", "slwo", "x=0..1")

    assert "firstlight resume slow" in steered.here("forbid", "slow", "x=..0.5").stdout
    assert steered.here("reject", "slow", "1", "--reason", "a leak").exit_code == 0
    assert steered.here("restore", "slow", "1", "--reason", "no leak").exit_code == 0
    assert steered.here("allow", "slow", "x=..0.5").exit_code == 0
    assert steered.here("forbid", "slow", "x=0.5..").exit_code == 0
    last = steered.read("show", "slow")["spent"]["trials"] + 6
    assert steered.here("budget", "slow", "--trials", str(last), "--cost", "none").exit_code == 0
    resumed = steered.do("resume", "slow", "--no-report")
    assert resumed.returncode == 0, resumed.stderr
    known = steered.facts()
    later = proposed(known, "RegionForbidden")
    assert later
    assert all(f["point"]["x"] < 0.5 for f in later)
    assert steered.read("show", "slow")["spent"]["trials"] == last
