"""A journal says who and what made every row of a dataset, and so does the graph that is read out of it."""

import json
import resource
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from firstlight import core
from firstlight.catalog.index import Record
from firstlight.catalog.provenance import (
    Activity,
    Agent,
    Entity,
    Provenance,
    from_prov_json,
    of_import,
    prov_json,
    trace,
)
from firstlight.testing._examples import EXAMPLES

RUNNER = "anna@host pid 123"
SPEC = core.CampaignSpec(
    id="c", title="Films", parameters=(core.Continuous(name="t", low=0.0, high=1.0),),
    goal=core.Goal(objectives=(core.Objective(observable="yield", direction="maximize"),)),
    procedure=core.ProcedureSpec(steps=(core.StepSpec(operation="m:f"),)), strategy=core.StrategySpec(name="bayes"),
)  # fmt: skip
RECORD = Record(id="c@1", name="c", digest="sha256:01", campaign="c", used=("powders@7",))
RUN = core.RunStarted(runner=RUNNER, versions={"firstlight": "1.0", "numpy": "2.4"})
SCAN = core.Asset(uri="file:///data/scan.h5", digest="sha256:ab", size=3)


def journal(*facts: core.Fact | tuple[str, core.Fact]) -> list[core.Entry]:
    """Facts as entries, one a second; with a name, a person's, else the runner's."""
    said = [fact if isinstance(fact, tuple) else (RUNNER, fact) for fact in facts]
    return [core.Entry(seq=n, at=1000.0 + n, by=by, fact=fact) for n, (by, fact) in enumerate(said, start=1)]


def proposed(number: int, operation: str = "handler.Dispense", **more: Any) -> core.TrialProposed:
    action = core.Action(
        id=f"c.{number}.mix", trial=f"c.{number}", facility="lab", name="mix", operation=operation, point={"t": 0.5},
        settings={"speed": 300}, inputs=more.pop("inputs", {}),
    )  # fmt: skip
    return core.TrialProposed(
        trial=f"c.{number}", point={"t": 0.5}, actions=(action,), source=more.pop("source", "bayes"), reason="why",
        **more,
    )  # fmt: skip


def measured(value: float = 1.0, **more: Any) -> core.Measured:
    return core.Measured(
        observations=(core.Observation(observable="yield", value=value, unit="%"),), started=900.0, ended=950.0, **more
    )


def done(number: int, *between: core.Fact | tuple[str, core.Fact], **more: Any) -> list[Any]:
    id = f"c.{number}.mix"
    return [
        core.ActionDispatched(action=id), *between, core.ActionSucceeded(action=id, measured=measured(**more)),
        core.TrialIngested(trial=f"c.{number}", digest=f"sha256:row{number}"),
    ]  # fmt: skip


PUBLISHED = core.DatasetPublished(dataset="c@1", digest="sha256:01", rows=1)
OPENED = ("anna@host", core.CampaignOpened(spec=SPEC))


def activity(p: Provenance, id: str) -> Activity:
    return next(a for a in p.activities if a.id == id)


def entity(p: Provenance, id: str) -> Entity:
    return next(e for e in p.entities if e.id == id)


def agent(p: Provenance, id: str) -> Agent:
    return next(a for a in p.agents if a.id == id)


def test_a_row_is_traced_to_what_made_it() -> None:
    permitted = core.ActionPermitted(action="c.1.mix", policies=("hazard@1",), agreement="crada-17")
    p = trace(journal(OPENED, RUN, proposed(1), permitted, *done(1, assets=(SCAN,)), PUBLISHED), RECORD)
    dataset = entity(p, "dataset/c@1")
    assert dataset.derived_from == ("row/c.1", "dataset/powders@7")
    row = entity(p, "row/c.1")
    assert (row.digest, row.derived_from) == ("sha256:row1", ("observation/c.1.mix", "asset/c.1.mix/1"))
    assert entity(p, "asset/c.1.mix/1") == Entity(
        id="asset/c.1.mix/1", name="scan.h5", kind="asset", digest="sha256:ab"
    )
    action = activity(p, "action/c.1.mix")
    assert action.generated == ("observation/c.1.mix", "asset/c.1.mix/1")
    assert (action.started, action.ended, action.status) == (900.0, 950.0, "succeeded")
    assert action.settings == {
        "operation": "handler.Dispense", "point": {"t": 0.5}, "settings": {"speed": 300}, "policies": ["hazard@1"],
        "agreement": "crada-17",
    }  # fmt: skip
    assert action.agents == ("facility/lab", "instrument/lab/handler", f"software/{RUNNER}")
    assert agent(p, "instrument/lab/handler").acted_for == "facility/lab"
    assert agent(p, f"software/{RUNNER}").acted_for == "person/anna@host"
    assert action.informed_by == ("decision/c.1", "run/1")
    assert activity(p, "run/1").agents == (f"software/{RUNNER}", "software/firstlight@1.0", "software/numpy@2.4")
    chosen = activity(p, "decision/c.1")
    assert chosen.agents == ("software/strategy bayes@1.0",) and chosen.settings["reason"] == "why"
    assert activity(p, "trial/c.1").generated == ("row/c.1",)
    assert activity(p, "campaign/c").generated == ("dataset/c@1",)


def test_a_computation_has_no_instrument_and_a_failure_is_told() -> None:
    failed = core.ActionFailed(
        action="c.1.mix", failure=core.Failure(cause="did-not-converge", message="NaN", as_run={"t": 0.4})
    )
    entries = journal(
        OPENED, RUN, proposed(1, operation="pack.mod:f"), core.ActionDispatched(action="c.1.mix"), failed,
        core.TrialIngested(trial="c.1", digest="sha256:row1"), PUBLISHED,
    )  # fmt: skip
    p = trace(entries, RECORD)
    action = activity(p, "action/c.1.mix")
    assert action.agents == ("facility/lab", f"software/{RUNNER}")
    assert action.status == "failed: did-not-converge: NaN" and action.settings["point"] == {"t": 0.4}
    assert (action.started, action.ended) == (1004.0, 1005.0)
    assert activity(p, "trial/c.1").status == "failed: did-not-converge: NaN"


def test_people_are_named_for_what_they_did() -> None:
    sample = core.Sample(id="vial", kind="vial")
    entries = journal(
        OPENED, RUN, ("ben", core.PointRequested(point={"t": 0.5})),
        proposed(1, source="ben"), core.ActionEscalated(action="c.1.mix", to="safety", question="Hood?"),
        ("cleo", core.ActionApproved(action="c.1.mix", note="seen")), core.ActionDispatched(action="c.1.mix"),
        core.ActionLost(action="c.1.mix", reason="silence"),
        ("dora", core.ActionAttested(action="c.1.mix", measured=measured(samples=(sample,)), note="full")),
        core.TrialIngested(trial="c.1", digest="sha256:row1"),
        ("emil", core.TrialAdded(trial="c.2", point={"t": 0.1}, outcome=measured(), source="notebook")),
        core.TrialIngested(trial="c.2", digest="sha256:row2"),
        ("fay", core.TrialCorrected(trial="c.1", as_run={"t": 0.6}, note="typo")),
        core.TrialRevised(trial="c.1", digest="sha256:row1b", revision=13), PUBLISHED,
    )  # fmt: skip
    p = trace(entries, RECORD)
    assert activity(p, "decision/c.1").agents == ("person/ben",)
    approval = activity(p, "approval/6")
    assert approval.agents == ("person/cleo",)
    assert approval.settings == {"asked": "safety", "question": "Hood?", "note": "seen"}
    action = activity(p, "action/c.1.mix")
    assert (action.status, action.generated) == ("attested", ()) and "approval/6" in action.informed_by
    word = activity(p, "attestation/9")
    assert word.agents == ("person/dora",) and word.informed_by == ("action/c.1.mix",)
    assert word.generated == ("observation/c.1.mix", "sample/vial")
    added = activity(p, "import/c.2")
    assert added.agents == ("person/emil",) and added.settings["source"] == "notebook"
    assert entity(p, "row/c.2").digest == "sha256:row2"
    put_right = activity(p, "correction/13")
    assert (put_right.agents, put_right.used) == (("person/fay",), ("row/c.1",))
    assert entity(p, "row/c.1/13") == Entity(
        id="row/c.1/13", name="row of c.1, put right", kind="observation", digest="sha256:row1b",
        derived_from=("row/c.1",),
    )  # fmt: skip
    assert set(entity(p, "dataset/c@1").derived_from) == {"row/c.1/13", "row/c.2", "dataset/powders@7"}
    prov_json(p)


def test_a_trial_that_was_corrected_before_it_was_kept_is_traced_so() -> None:
    entries = journal(
        OPENED, RUN, proposed(1), *done(1)[:-1], ("fay", core.OutcomeRejected(trial="c.1", reason="a bubble")),
        core.TrialIngested(trial="c.1", digest="sha256:bad"), PUBLISHED,
    )  # fmt: skip
    p = trace(entries, RECORD)
    assert entity(p, "row/c.1/6").digest == "sha256:bad"
    assert activity(p, "correction/6").status == "rejected"


def test_models_and_earlier_campaigns_inform() -> None:
    decision = core.Decision(
        criterion="EI", score=0.5, trials=3, model="film:3",
        informed_by=(core.Influence(campaign="films-2019", share=0.5),),
    )  # fmt: skip
    earlier = core.EarlierChosen(campaigns=(core.EarlierCampaign(campaign="films-2019", entries=412),))
    entries = journal(
        OPENED, RUN, earlier, proposed(1), *done(1), core.ModelUpdated(model="film:3", trials=("c.1",)),
        proposed(2, decision=decision), *done(2), PUBLISHED,
    )  # fmt: skip
    p = trace(entries, RECORD)
    chosen = activity(p, "decision/c.2")
    assert chosen.used == ("plan/c", "campaign-data/films-2019/412", "model-version/film:3")
    assert "model/film:3" in chosen.agents and chosen.settings["score"] == 0.5
    assert entity(p, "model-version/film:3").derived_from == ("row/c.1",)
    assert activity(p, "learning/film:3").generated == ("model-version/film:3",)
    prov_json(p)


def test_what_one_action_leaves_another_takes_up() -> None:
    entries = journal(
        OPENED, RUN, proposed(1), *done(1, assets=(SCAN,)),
        proposed(2, inputs={"scan": SCAN, "mask": msgspec.structs.replace(SCAN, digest="sha256:cd")}), *done(2),
        PUBLISHED,
    )  # fmt: skip
    assert activity(trace(entries, RECORD), "action/c.2.mix").used == ("asset/c.1.mix/1", "asset/sha256:cd")


def test_what_a_trial_leaves_that_is_not_in_the_dataset_is_known_to_those_that_used_it() -> None:
    """Its trial has not ended when the dataset is published, and another has taken up what it left by then."""
    vial = core.Sample(id="vial", kind="vial")
    first = proposed(1)
    second_step = msgspec.structs.replace(first.actions[0], id="c.1.scan", name="scan", after=("c.1.mix",))
    entries = journal(
        OPENED, RUN, msgspec.structs.replace(first, actions=(*first.actions, second_step)),
        *done(1, assets=(SCAN,), samples=(vial,))[:-1], proposed(2, inputs={"scan": SCAN}), *done(2, samples=(vial,)),
        PUBLISHED,
    )  # fmt: skip
    p = trace(entries, RECORD)
    assert activity(p, "action/c.2.mix").used == ("asset/c.1.mix/1", "sample/vial")
    assert not [a.id for a in p.activities if "c.1" in a.id]
    check_ends(prov_json(p))


def test_samples_are_made_once_and_come_of_others() -> None:
    acid = core.Sample(id="acid", kind="bottle")
    mixed = core.Sample(id="mixture", uses=(core.Use(material="acid"), core.Use(material="water")))
    entries = journal(
        OPENED, RUN, proposed(1), *done(1, samples=(acid,)), proposed(2), *done(2, samples=(mixed, acid)), PUBLISHED
    )
    p = trace(entries, RECORD)
    assert activity(p, "action/c.1.mix").generated == ("observation/c.1.mix", "sample/acid")
    second = activity(p, "action/c.2.mix")
    assert second.generated == ("observation/c.2.mix", "sample/mixture") and second.used == ("sample/acid",)
    assert entity(p, "sample/mixture").derived_from == ("sample/acid",)


def test_an_action_that_moved_is_told_where_it_was_performed() -> None:
    placed = core.ActionPlaced(action="c.1.mix", facility="annex", reason="free now", others={"lab": "down"})
    p = trace(journal(OPENED, RUN, proposed(1), placed, *done(1), PUBLISHED), RECORD)
    action = activity(p, "action/c.1.mix")
    assert action.agents[:2] == ("facility/annex", "instrument/annex/handler")
    assert action.settings["placed"] == "free now"


def test_each_run_has_its_own_versions() -> None:
    later = core.RunStarted(runner="ben@host pid 9", versions={"firstlight": "2.0"})
    p = trace(journal(OPENED, RUN, proposed(1), *done(1), later, proposed(2), *done(2), PUBLISHED), RECORD)
    assert activity(p, "action/c.2.mix").informed_by == ("decision/c.2", "run/2")
    assert activity(p, "run/2").agents == ("software/ben@host pid 9", "software/firstlight@2.0")
    assert activity(p, "decision/c.2").agents == ("software/strategy bayes@2.0",)
    assert agent(p, "software/ben@host pid 9").acted_for == "person/ben@host"


def test_refusals_are_told_of_people_only() -> None:
    """A policy's refusal is the runner's entry: nobody gave an approval."""
    entries = journal(
        OPENED, RUN, proposed(1), core.ActionRefused(action="c.1.mix", reasons=("too hot",)),
        core.TrialIngested(trial="c.1", digest="sha256:row1"), proposed(2),
        ("cleo", core.ActionRefused(action="c.2.mix", reasons=("not today",))),
        core.TrialIngested(trial="c.2", digest="sha256:row2"), PUBLISHED,
    )  # fmt: skip
    p = trace(entries, RECORD)
    assert [(a.agents, a.status) for a in p.activities if a.kind == "approval"] == [(("person/cleo",), "refused")]
    assert activity(p, "action/c.1.mix").status == "failed: refused: too hot"


def test_only_what_is_in_the_dataset_counts() -> None:
    entries = journal(
        OPENED, RUN, proposed(1), proposed(2), *done(1), PUBLISHED, *done(2),
        ("fay", core.OutcomeRejected(trial="c.1", reason="later")), core.CampaignClosed(reason="goal met"),
    )  # fmt: skip
    p = trace(entries, RECORD)
    assert not [a.id for a in p.activities if "c.2" in a.id or a.kind == "correction"]
    assert entity(p, "dataset/c@1").derived_from == ("row/c.1", "dataset/powders@7")
    assert activity(p, "campaign/c").status == "goal met"


@pytest.mark.parametrize(
    ("entries", "record", "said"),
    [
        (journal(OPENED, PUBLISHED), msgspec.structs.replace(RECORD, id="c@2"), "published c@1, and never c@2"),
        (journal(OPENED), msgspec.structs.replace(RECORD, campaign="other"), "of campaign other"),
    ],
)
def test_a_journal_of_something_else_is_refused(entries: list[core.Entry], record: Record, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        trace(entries, record)


def test_every_fact_can_be_read() -> None:
    record = Record(id="c/1", name="c", digest="sha256:ef56")
    kept = [fact for fact in EXAMPLES if not isinstance(fact, core.DatasetPublished | core.CampaignClosed)]
    known = {"c.1", "c.3"}
    sound = [f for f in kept if not isinstance(f, core.Amendment) or f.trial in known]
    p = trace(journal(*sound), record)
    prov_json(p)
    assert "import/c.3" in [a.id for a in p.activities]


# ---------------------------------------------------------------------- imports


def test_an_import_tells_who_brought_it_and_who_made_it() -> None:
    record = Record(
        id="x@1", name="x", digest="sha256:9", provider="mp", address="https://mp.example/x", retrieved=50.0,
        created=10.0, people=("Ada",), instruments=("beamline",), used=("y@1",), software={"vasp": "6"}, synthetic=True,
    )  # fmt: skip
    p = of_import(record, "ben", {"firstlight": "1.0"})
    assert entity(p, "dataset/x@1").derived_from == ("dataset/y@1", "source")
    brought, made = activity(p, "import"), activity(p, "making")
    assert brought.agents == ("person/ben", "software/firstlight@1.0") and brought.used == ("source",)
    assert (brought.started, brought.generated) == (50.0, ("dataset/x@1",))
    assert made.agents == ("person/Ada", "instrument/beamline", "software/vasp@6", "organization/mp")
    assert made.settings == {"synthetic": True} and made.generated == ("source",)
    prov_json(p)


@pytest.mark.parametrize("record", [
    Record(id="x@1", name="x", digest="sha256:9"),
    Record(id="x@1", name="x", digest="sha256:9", people=("Ada",)),
    Record(id="x@1", name="x", digest="sha256:9", address="file:x.csv"),
])  # fmt: skip
def test_what_is_not_known_of_an_import_is_not_said(record: Record) -> None:
    p = of_import(record, "", {})
    made = [id for a in p.activities for id in a.generated]
    assert made.count("dataset/x@1") == 1, "made once, by one of them"
    prov_json(p)


# ---------------------------------------------------------------------- PROV-JSON


def test_prov_json_is_as_the_submission_has_it() -> None:
    found = prov_json(trace(journal(OPENED, RUN, proposed(1), *done(1), PUBLISHED), RECORD))
    assert json.loads(json.dumps(found)) == found
    assert found["prefix"] == {"fl": "urn:firstlight:"}
    assert found["agent"]["fl:person/anna@host"]["prov:type"] == {"$": "prov:Person", "type": "prov:QUALIFIED_NAME"}
    assert found["agent"]["fl:software/anna@host%20pid%20123"]["prov:label"] == RUNNER
    assert found["activity"]["fl:action/c.1.mix"]["prov:startTime"] == "1970-01-01T00:15:00.000000+00:00"
    assert {"prov:entity": "fl:row/c.1", "prov:activity": "fl:trial/c.1"} in found["wasGeneratedBy"].values()
    assert {"prov:informed": "fl:action/c.1.mix", "prov:informant": "fl:run/1"} in found["wasInformedBy"].values()
    check_ends(found)


ENDS = {
    "wasDerivedFrom": {"prov:generatedEntity": "entity", "prov:usedEntity": "entity"},
    "used": {"prov:activity": "activity", "prov:entity": "entity"},
    "wasGeneratedBy": {"prov:activity": "activity", "prov:entity": "entity"},
    "wasAssociatedWith": {"prov:activity": "activity", "prov:agent": "agent"},
    "wasInformedBy": {"prov:informed": "activity", "prov:informant": "activity"},
    "actedOnBehalfOf": {"prov:delegate": "agent", "prov:responsible": "agent"},
}


def check_ends(found: dict[str, Any]) -> None:
    """Every relation of PROV-JSON is one we know, with ends that are there, of the right kind."""
    assert found.keys() <= {"prefix", "entity", "agent", "activity", *ENDS}
    for relation in ENDS.keys() & found.keys():
        for ends in found[relation].values():
            assert ends.keys() == ENDS[relation].keys()
            assert all(end in found[ENDS[relation][role]] for role, end in ends.items())


def test_prov_json_can_be_read_again() -> None:
    entries = journal(
        OPENED, RUN, proposed(1), *done(1, assets=(SCAN,)),
        ("fay", core.TrialCorrected(trial="c.1", as_run={"t": 0.6}, note="a \N{DEGREE SIGN} % : / typo.")), PUBLISHED,
    )  # fmt: skip
    p = trace(entries, RECORD)
    assert from_prov_json(json.loads(json.dumps(prov_json(p)))) == p


@pytest.mark.parametrize("said", [
    {"agent": {"a": {}}}, {"activity": {"a": {"prov:label": "a", "prov:type": {"$": "fl:dance"}}}},
    {"used": {"_:1": {}}}, {"entity": []}, {"agent": {"a": {"prov:label": 5, "prov:type": {"$": "prov:Person"}}}},
])  # fmt: skip
def test_prov_json_of_others_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no provenance that Firstlight wrote"):
        from_prov_json(said)


def test_a_loose_end_is_refused() -> None:
    with pytest.raises(ValueError, match="names agent 'nobody', and has none"):
        prov_json(Provenance(activities=(Activity(id="a", name="a", kind="action", agents=("nobody",)),)))


# ---------------------------------------------------------------------- size


def many(trials: int) -> Iterator[core.Entry]:
    seq = 0

    def entry(by: str, fact: core.Fact) -> core.Entry:
        nonlocal seq
        seq += 1
        return core.Entry(seq=seq, at=1000.0 + seq, by=by, fact=fact)

    yield entry("anna@host", core.CampaignOpened(spec=SPEC))
    yield entry(RUNNER, RUN)
    for n in range(trials):
        log = core.Failure(cause="crashed", log=f"{n}" * 4000)
        yield entry(RUNNER, proposed(n))
        yield entry(RUNNER, core.ActionDispatched(action=f"c.{n}.mix"))
        ended = core.ActionFailed(action=f"c.{n}.mix", failure=log) if n % 2 else None
        yield entry(RUNNER, ended or core.ActionSucceeded(action=f"c.{n}.mix", measured=measured()))
        yield entry(RUNNER, core.TrialIngested(trial=f"c.{n}", digest=f"sha256:{n}"))
    yield entry(RUNNER, PUBLISHED)


def test_twenty_thousand_trials_are_traced_in_seconds() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    p = trace(many(20_000), RECORD)
    took = time.monotonic() - started
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert len(p.activities) == 2 + 3 * 20_000
    assert took < 10.0
    # Half of the trials have a log, of 20 kB mostly and 200 MB in all: nothing of it is kept.
    assert grown < 150_000
