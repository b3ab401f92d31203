"""What became of the samples: every one once, and the sum comes out."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from firstlight import core, reports
from firstlight.reports._samples import account, histories, line

from .builder import goal, measured, spec, subject


def sample(id: str, state: str = "", *uses: core.Use, location: str = "store") -> core.Sample:
    return core.Sample(id=id, kind="film", location=location, uses=uses, state=state)


def row(trial: str, *samples: core.Sample, failure: core.Failure | None = None, ended: float = 1.0) -> core.Row:
    spans = tuple(
        core.Span(action=f"{trial}.{name}", facility="lab", dispatched=0, started=at, ended=at + 1, instrument=name)
        for at, name in enumerate(("handler", "mover", "heater", "heater", "mover"), start=1)
    )
    return core.Row(trial=trial, point={}, samples=samples, failure=failure, ended=ended, spans=spans)


CLOG = core.Failure(cause="instrument-fault", message="clogged")


def test_every_sample_is_counted_once_where_it_ended() -> None:
    rows = [
        row("c.1", sample("s1", "measured"), sample("standard", "")),
        row("c.2", sample("s2", "failed"), failure=CLOG),
        row("c.3", sample("s3", "failed"), failure=core.Failure(cause="lost")),
        row("c.4", sample("s4", "discarded"), failure=CLOG),
        row("c.5", sample("s5", "measured"), sample("standard", "measured"), ended=2.0),
    ]
    bad = replace(row("c.6", sample("s6", "measured"), ended=3.0), rejected="misread")
    under_way = {"c.7": row("c.7", sample("s7"))}
    found = histories(core.Results(rows=rows, rejected=(bad,), pending=under_way))
    assert account(found) == (
        "8 planned = 4 measured + 2 failed (1 instrument-fault, 1 lost) + 1 discarded"
        " + 1 of which nothing has become yet."
    )
    assert next(h.trials for h in found if h.sample.id == "standard") == ("c.1", "c.5")
    assert account(histories(core.Results(rows=[rows[0]]))).startswith(
        "2 planned = 1 measured + 0 failed + 0 discarded"
    )


def test_a_history_says_what_went_in_and_where_it_went() -> None:
    acid = core.Use(material="acid", amount=20.0, unit="uL", action="c.1.handler", at=3723.0)
    seed = core.Use(material="seed")
    cells = line(histories(core.Results(rows=[row("c.1", sample("s1", "failed", acid, seed), failure=CLOG)]))[0])
    assert cells == (
        "s1", "film", "c.1", "20 uL of acid at 01:02:03", "seed",
        "handler → mover → heater → mover", "store", "failed: instrument-fault",
    )  # fmt: skip
    # Of two samples of one trial, only those actions that name one are known to have had it.
    both = histories(core.Results(rows=[row("c.1", sample("s1", "", acid), sample("s2"))]))
    assert [h.went for h in both] == [("handler",), ()]


def test_the_report_has_them_and_shows_no_markup_in_them(tmp_path: Path) -> None:
    evil = sample("<img src=x>", "measured", core.Use(material="<b>salt</b>"))

    def respond(point: core.Point, i: int) -> core.Measured | core.Failure:
        if i == 2:
            return replace(CLOG, samples=(sample("s2", "failed"),))
        return replace(measured(y=float(i)), samples=(evil if i == 1 else sample(f"s{i}", "measured"),))

    mine = subject(spec(goal=goal()), [{"x": i / 4} for i in range(4)], respond)
    page = reports.write_report(mine, [], tmp_path).html.read_text("utf-8")
    assert "4 planned = 3 measured + 1 failed (1 instrument-fault) + 0 discarded." in page
    assert "&lt;b&gt;salt&lt;/b&gt;" in page
    assert "<b>salt" not in page
    without = reports.write_report(
        subject(spec(goal=goal()), [{"x": 0.5}], lambda point, i: measured(y=1.0)), [], tmp_path / "without"
    )
    assert "<h2>Samples</h2>" not in without.html.read_text("utf-8")


@pytest.mark.parametrize(
    ("operation", "instrument"),
    [("handler.Dispense", "handler"), ("package.module:function", ""), ("mixing", ""), ("lab:make", ""),
     ("./run.sh", ""), ("spectrometer.Scan.Full", "spectrometer")],
)  # fmt: skip
def test_a_span_knows_its_instrument_by_the_operation(operation: str, instrument: str) -> None:
    steps = core.ProcedureSpec(steps=(core.StepSpec(operation=operation, name="evaluate"),))
    problem = spec(procedure=steps)
    ledger = core.Ledger()
    action = core.Action(id="demo.1.evaluate", trial="demo.1", facility="lab", name="evaluate", operation=operation,
                         point={"x": 0.5})  # fmt: skip
    facts: list[core.Fact] = [
        core.CampaignOpened(spec=problem),
        core.TrialProposed(trial="demo.1", point={"x": 0.5}, actions=(action,), source="bayes"),
        core.ActionPermitted(action=action.id, policies=()), core.ActionDispatched(action=action.id),
        core.ActionAccepted(action=action.id, job="1"),
        core.ActionSucceeded(action=action.id, measured=measured(y=1.0)),
    ]  # fmt: skip
    for seq, fact in enumerate(facts, start=1):
        ledger.add(core.Entry(seq=seq, at=float(seq), by="me", fact=fact))
    assert [s.instrument for s in ledger.view().rows[0].spans] == [instrument]
