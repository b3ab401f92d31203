"""What the journal says of how a campaign was run."""

from pathlib import Path

import msgspec
import pytest

from firstlight import core, reports

from .builder import START, curve, journal, measured, spec


def test_it_gathers_versions_runs_and_trials() -> None:
    subject = curve([1.0, None, 3.0])
    assert subject.versions["firstlight"] == "0.1.0"
    assert [(r.runner, r.started, r.reason) for r in subject.runs] == [("node 7", START, "done")]
    assert (len(subject.own), subject.entries, subject.opened) == (3, 2 + 3 * 6 + 2, START)
    assert subject.campaign.closed == "trials spent"


def test_trials_told_to_it_are_not_its_own_and_people_are_counted() -> None:
    entries = list(journal(spec(), [{"x": 0.5}], lambda point, i: measured(y=1.0), close=""))
    extra: list[core.Fact] = [
        core.TrialAdded(trial="demo.2", point={"x": 0.1}, outcome=measured(y=9.0), source="archive"),
        core.CampaignPaused(),
        core.CampaignResumed(),
    ]
    entries += [core.Entry(seq=len(entries) + 1 + i, at=START + 99, by="ada", fact=f) for i, f in enumerate(extra)]
    subject = reports.gather(entries)
    assert [row.trial for row in subject.own] == ["demo.1"]
    assert subject.told == {"demo.2"}
    assert subject.people == 2
    found = reports.summary(subject, [])
    assert found["trials"]["ended"] == 1
    assert found["trials"]["told"] == 1
    assert found["best"][0]["trial"] == "demo.2", "the best is the best, whoever tried it"


def test_an_empty_history_is_refused() -> None:
    with pytest.raises(core.InconsistentError, match="empty history"):
        reports.gather([])


def test_what_people_changed_is_told_and_a_bad_outcome_counts_as_a_trial_that_showed_nothing(
    tmp_path: Path,
) -> None:
    entries = list(journal(spec(), [{"x": 0.5}, {"x": 0.6}], lambda point, i: measured(y=1.0 + i), close=""))
    ledger = core.Ledger(entries)
    words: list[core.Fact] = [
        core.OutcomeRejected(trial="demo.2", reason="a bubble"),
        core.PointRequested(point={"x": 0.25}, note="a hunch"),
        core.RegionForbidden(region=core.Forbid(ranges={"x": (0.7, 1.0)}), reason="it foams"),
        core.BudgetChanged(budget=core.Budget(trials=9, seconds=7200.0)),
    ]
    for fact in words:
        last = entries[-1]
        entries.append(core.Entry(seq=last.seq + 1, at=last.at + 1, by="ada", fact=ledger.completed(fact)))
        ledger.add(entries[-1])
    subject = reports.gather(entries)
    assert (subject.people, [w.by for w in subject.words]) == (4, ["ada"] * 4)
    found = reports.summary(subject, [])
    assert (found["trials"]["ended"], found["trials"]["good"], found["trials"]["rejected"]) == (2, 1, 1)
    assert found["best"][0]["trial"] == "demo.1"
    assert "marked the outcome of 1 trial as bad" in found["summary"]
    page = reports.write_report(subject, [], tmp_path).html.read_text()
    for said in ("marked the outcome of trial demo.2 as bad (a bubble)", "asked for a trial at x 0.25 (a hunch)",
                 "forbade x 0.7 to 1 (it foams)", "changed the budget to 9 trials, 2 h"):  # fmt: skip
        assert said in page


def test_what_facilities_took_and_how_often_one_went_away_is_told(tmp_path: Path) -> None:
    whole = list(journal(spec(), [{"x": 0.5}], lambda point, i: measured(y=1.0, sigma=0.1), close=""))
    proposed = whole[2].fact
    assert isinstance(proposed, core.TrialProposed)
    action = msgspec.structs.replace(proposed.actions[0], facility="")
    at = msgspec.structs.replace(proposed, actions=(action,))
    sent: list[core.Fact] = [
        core.ActionPermitted(action=action.id, policies=()),
        core.ActionDispatched(action=action.id),
    ]
    took = core.Measured(used={"node-hours": 2.5}, started=START + 1, ended=START + 5)
    facts: list[core.Fact] = [
        at, core.ActionPlaced(action=action.id, facility="polaris", reason="free now"), *sent,
        core.ActionPlaced(action=action.id, facility="local", reason="polaris has gone away"), *sent,
        core.ActionAccepted(action=action.id, job="1"), core.ActionSucceeded(action=action.id, measured=took),
    ]  # fmt: skip
    entries = whole[:2]
    entries += [core.Entry(seq=3 + i, at=START + 3 + i, by="ada", fact=fact) for i, fact in enumerate(facts)]
    subject = reports.gather(entries)
    found = reports.summary(subject, [])
    assert (found["used"], found["moved"]) == ({"node-hours": 2.5}, 1)
    page = reports.write_report(subject, [], tmp_path / "report").html.read_text("utf-8")
    assert "It used 2.5 node-hours. 1 time an action went to another facility" in page
