"""The picture: what a scientist is to see is there, and it fits."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace
from rich.console import Console, RenderableType

from firstlight import core
from firstlight.cli import _live
from firstlight.cli._chart import Layer, chart, spark, stairs
from firstlight.cli._documents import campaign_document
from firstlight.cli._drive import trial_line
from firstlight.testing.world import a_spec

from .stories import Diary, board_of, told
from .test_board import TWO, two_peaks


def drawn(shown: RenderableType, width: int = 100) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(shown)
    return capture.get()


def a_diary() -> Diary:
    spec = a_spec(title="Where y peaks", goal=core.Goal(
        objectives=(core.Objective(observable="y", direction="maximize", unit="V", target=0.95),),
        budget=core.Budget(trials=12, seconds=3600, cost=50, cost_unit="USD"),
    ))  # fmt: skip
    diary = Diary(spec)
    diary.write(core.RunStarted(runner="ada"))
    diary.measure(1, 0.5)
    diary.measure(2, 0.8)
    diary.measure(3, 0.7)
    diary.fail(4, "did-not-converge", "too dilute")
    diary.send(5, x=0.25)
    action = diary.propose(6)
    return diary.write(core.ActionEscalated(action=action, to="owner", question="Is the hood closed?"))


def test_everything_a_person_asks_for_is_there() -> None:
    diary = a_diary()
    shown = drawn(_live.view(diary.board, diary.entries[-1].at + 60, "ada", 100, hint="Ctrl-C lays it down"))
    for expected in (
        "c1 running", "Where y peaks", "random", "seed 0", "maximize y", "4 of 12", "of 1 h 00 min", "0 of 50 USD",
        "y 0.800 ± 0.020", "trial 2", "target 0.95 V", "x 0.25", "waits for approval", "Is the hood closed?",
        "firstlight approve c1 6.evaluate", "did-not-converge  too dilute", "trials/min", "left", "Ctrl-C lays it down",
        "best so far",
    ):  # fmt: skip
        assert expected in shown, expected


def sated() -> Diary:
    """A campaign that stops for lack of gain, whose strategy has said three times what is left."""
    spec = a_diary().spec
    diary = Diary(replace(spec, goal=replace(spec.goal, regret=core.Regret(gain=0.02, chance=0.05))))
    diary.write(core.RunStarted(runner="ada"))
    for number, chance in enumerate((1.0, 0.5, 0.123), 1):
        diary.measure(number, 0.5, outlook=core.Outlook(gain=0.02, chance=chance))
    return diary


def test_what_is_left_to_gain_is_there_with_how_it_went_and_when_it_ends() -> None:
    diary = sated()
    said = "outlook  chance that more than 0.02 V is still to be gained: 12 %   stops at 5 %"
    assert f"{said}   █▅▁" in drawn(_live.view(diary.board, 2000.0, "ada", 110), 120)
    assert said in drawn(_live.summary(diary.board))
    assert "█" not in drawn(_live.view(diary.board, 2000.0, "ada", 110, braille=False), 120)
    assert "outlook" not in drawn(_live.view(a_diary().board, 2000.0, "ada", 100)), "nothing was said of it"
    diary.propose(4, outlook=core.Outlook(gain=0.02, chance=0.0001))
    shown = drawn(_live.view(diary.board, 2000.0, "ada", 110), 120)
    assert "below 0.1 %" in shown
    assert "ending: little left to gain" in shown


def test_a_spark_is_a_bar_a_share() -> None:
    assert spark([0.0, 0.13, 0.5, 0.99, 1.0]) == "▁▂▅██"


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("height", [20, 24, 30, 50])
@pytest.mark.parametrize("a_diary", [a_diary, sated])
def test_it_fits_the_screen(width: int, height: int, a_diary: Callable[[], Diary]) -> None:
    diary = a_diary()
    shown = drawn(_live.view(diary.board, 2000.0, "ada", width, height), width).splitlines()
    # Room for the "^C" that the terminal echoes.
    assert max(len(line) for line in shown) <= width - 3
    assert len(shown) <= max(height, 26)


def test_several_objectives_show_a_front() -> None:
    board = board_of(told(a_spec(seed=3, goal=TWO), two_peaks))
    shown = drawn(_live.view(board, board.campaign.last, "", 100))
    assert f"front    {len(board.front)} trials" in shown
    assert shown.count("●") >= 2
    assert drawn(_live.front_table(board)).count("\n") >= min(12, len(board.front))


def test_a_front_beyond_the_thresholds_comes_first() -> None:
    objectives = tuple(replace(o, threshold=t) for o, t in zip(TWO.objectives, (0.7, 0.5), strict=True))
    board = board_of(told(a_spec(seed=3, parallel=1, goal=replace(TWO, objectives=objectives)), two_peaks))
    kept = [row for _, row in board.worth]
    assert kept
    assert all(row.seen["y"].value >= 0.7 and row.seen["z"].value <= 0.5 for row in kept)
    assert len(kept) < len(board.front)
    assert len(board_of(told(a_spec(seed=3, parallel=1, goal=TWO), two_peaks)).worth) == len(board.front)


def test_a_summary_says_how_it_ended() -> None:
    board = board_of(told(a_spec(seed=3)))
    shown = drawn(_live.summary(board))
    assert board.campaign.closed in shown
    assert f"{board.ended} trial" in shown
    assert board.campaign.dataset in shown


def test_a_picture_of_nothing_is_no_error() -> None:
    assert "waiting for the first trial" in drawn(_live.view(Diary().board, 2000.0, "", 80))


def test_text_of_the_campaign_is_not_markup() -> None:
    diary = Diary(a_spec(title="[red]not red[/red]"))
    assert "[red]not red[/red]" in drawn(_live.view(diary.board, 2000.0, "", 80))


def test_a_chart_puts_points_where_they_belong() -> None:
    lines = chart([Layer([(0, 0), (1, 1)], "", "x")], (0, 1), (0, 1), 5, 3)
    assert [line.plain for line in lines] == ["    x", "     ", "x    "]


def test_braille_dots_share_a_character() -> None:
    (line,) = chart([Layer([(0, 0), (1, 1)], "")], (0, 1), (0, 1), 1, 1)
    assert line.plain == chr(0x2800 + 0x40 + 0x08)


def test_stairs_begin_with_the_first_good_trial() -> None:
    points = stairs([1.0, 2.0], 3, 4, (1.0, 4.0))
    assert min(x for x, _ in points) >= 3
    assert {y for _, y in points} == {1.0, 2.0}


def test_trials_are_counted_by_source_and_earlier_campaigns_are_named() -> None:
    by = core.Ordered(name="x", values=(0.25, 0.5))
    sources = tuple(core.Source(value=v, cost=10 * v) for v in (0.5, 0.25))
    aim = core.Goal(objectives=(core.Objective(observable="y", direction="maximize"),), budget=core.Budget(trials=9))
    fidelity = core.Fidelity(parameter="x", target=0.5, sources=sources)
    diary = Diary(replace(a_spec(goal=aim), parameters=(by,), fidelity=fidelity))
    earlier = (
        core.EarlierCampaign(campaign="films-2019", entries=40),
        core.EarlierCampaign(campaign="inks", entries=9),
    )
    diary.write(core.RunStarted(runner="ada"), core.EarlierChosen(campaigns=earlier))
    diary.measure(1, 0.9, x=0.25)
    assert "nothing good yet" in drawn(_live.view(diary.board, 2000.0, "ada", 100))
    diary.measure(2, 0.5)
    diary.measure(3, 0.8, x=0.25)
    shown = drawn(_live.view(diary.board, 2000.0, "ada", 100))
    for expected in ("0.25: 2 · 0.5: 1", "only 0.5 counts", "from films-2019, inks", "y 0.500", "by another source"):
        assert expected in shown
    assert "breaks a constraint" not in shown
    assert [dot.informs for dot in diary.board.dots] == [True, False, True]
    document = campaign_document(diary.board, "ada", 2000.0)
    assert document.sources == {"0.25": 2, "0.5": 1}
    assert document.earlier == earlier
    assert [t.trial for t in document.best] == ["c1.2"]
    assert trial_line(diary.board, diary.board.results.rows[0]).endswith("by 0.25  2.0 s")
    plain = a_diary()
    assert (campaign_document(plain.board, "", 2000.0).sources, plain.board.by_source.total()) == ({}, 0)
    assert "counts" not in drawn(_live.view(plain.board, 2000.0, "ada", 100))
