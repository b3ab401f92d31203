"""What a campaign looks like from outside agrees with what it is."""

import pytest

from firstlight import core
from firstlight.testing.world import a_spec, peak

from .stories import Diary, board_of, told

TWO = core.Goal(
    objectives=(
        core.Objective(observable="y", direction="maximize"),
        core.Objective(observable="z", direction="minimize"),
    ),
    budget=core.Budget(trials=30),
)


def two_peaks(action: core.Action) -> core.Outcome:
    """y and z pull x to different places."""
    x = float(action.point["x"])
    values = (core.Observation(observable="y", value=1 - abs(x - 0.6)), core.Observation(observable="z", value=x**2))
    return core.Measured(observations=values)


@pytest.mark.parametrize(("goal", "perform"), [(None, peak), (TWO, two_peaks)], ids=["one objective", "two"])
def test_a_board_agrees_with_both_folds(goal: core.Goal | None, perform: object) -> None:
    spec = a_spec(seed=3, **({"goal": goal} if goal else {}))
    entries = told(spec, perform)  # type: ignore[arg-type]
    board, campaign, results = board_of(entries), core.replay(entries), core.Ledger(entries).view()
    assert board.campaign == campaign
    assert {r.trial for r in board.best} == {r.trial for r in results.best(spec)}
    assert board.ended == len(results.rows) == len(board.dots)
    assert sum(board.failures.values()) == campaign.failed
    assert board.standing("") == "closed"
    assert not board.sent


@pytest.mark.parametrize(("goal", "perform"), [(None, peak), (TWO, two_peaks)], ids=["one objective", "two"])
def test_a_board_follows_what_people_put_right(goal: core.Goal | None, perform: object) -> None:
    spec = a_spec(seed=3, **({"goal": goal} if goal else {}))
    entries = [e for e in told(spec, perform) if not isinstance(e.fact, core.CampaignClosed | core.RunEnded)]  # type: ignore[arg-type]
    board, ledger = board_of(entries), core.Ledger(entries)
    best = board.best[0]
    words: list[core.Fact] = [
        core.OutcomeRejected(trial=best.trial, reason="a bubble"),
        core.TrialCorrected(trial=board.results.rows[0].trial, as_run={"x": 0.61}),
        core.OutcomeRestored(trial=best.trial),
    ]
    for i, word in enumerate(words):
        entry = core.Entry(seq=board.seq + 1, at=9e9 + i, by="grace", fact=ledger.completed(word))
        ledger.add(entry)
        assert board.add(entry) == []
        assert {r.trial for r in board.best} == {r.trial for r in ledger.view().best(spec)}
        assert (best.trial in {r.trial for r in board.best}) == (i == 2)
        assert board.ended == ledger.ended == len(board.dots)
        assert not board.best_values or board.best_values[-1] == board.best[0].seen["y"].value


def test_the_best_so_far_never_falls() -> None:
    board = board_of(told(a_spec(seed=3)))
    assert board.best_values == sorted(board.best_values)
    assert len(board.best_values) == board.ended - board.first_good + 1


def test_the_standing_says_what_holds_it_up() -> None:
    diary = Diary()
    assert diary.board.standing("") == "new"
    diary.write(core.RunStarted(runner="ada"))
    action = diary.propose(1)
    assert diary.board.standing("ada") == "running"
    assert diary.board.standing("") == "interrupted"
    diary.write(core.ActionEscalated(action=action, to="owner", question="Is it safe?"))
    assert diary.board.standing("ada") == "waiting"
    diary.send(2)
    assert diary.board.standing("ada") == "running"
    diary.write(core.CampaignPaused())
    assert diary.board.standing("ada") == "paused"
    diary.write(core.CampaignResumed(), core.CampaignStopped(reason="enough"))
    assert diary.board.standing("ada") == "ending"


def test_time_left_follows_the_pace() -> None:
    diary = Diary()
    diary.write(core.RunStarted(runner="ada"))
    assert diary.board.time_left(2000.0, "ada") is None
    started = diary.entries[-1].at
    diary.measure(1, 0.5)
    diary.measure(2, 0.6)
    # Two of twelve trials took 20 s: ten more take 100 s.
    assert diary.board.time_left(started + 20.0, "ada") == pytest.approx(100.0)
