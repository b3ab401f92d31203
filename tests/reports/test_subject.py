"""What the journal says of how a campaign was run."""

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
