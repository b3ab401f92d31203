"""Earlier campaigns: which helped, how much, and when."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from firstlight import core, reports

from .builder import measured, spec, subject
from .test_report import EVIL, data, without_plotly


def informed(
    *shares: dict[str, float] | None, earlier: Sequence[str] | None = ("old", "other"), slots: int = 1
) -> reports.Subject:
    """A campaign whose trials were chosen with these shares of earlier campaigns (None: without a surrogate)."""

    def decide(point: core.Point, i: int) -> core.Decision | None:
        if (given := shares[i]) is None:
            return None
        by = tuple(core.Influence(campaign=name, share=share, trials=40 + i) for name, share in given.items())
        return core.Decision(criterion="expected improvement", informed_by=by)

    points: list[core.Point] = [{"x": i / 10} for i in range(len(shares))]
    return subject(spec(), points, lambda p, i: measured(y=float(i)), decide=decide, earlier=earlier, slots=slots)


def test_the_mean_share_is_over_the_trials_that_a_surrogate_chose() -> None:
    mine = informed(None, {"old": 0.9, "other": 0.1}, {"old": 0.6}, {"old": 0.3, "other": 0.05}, slots=4)
    old, other = reports.summary(mine, [])["earlier"]
    assert old["campaign"] == "old"
    assert old["shares"] == [[2, 0.9], [3, 0.6], [4, 0.3]], "in the order they were proposed, whichever ended first"
    assert (old["mean"], old["first"], old["last"], old["rows"]) == (pytest.approx(0.6), 0.9, 0.3, 43)
    assert other["shares"] == [[2, 0.1], [3, 0.0], [4, 0.05]], "what a decision does not name had no share in it"
    assert other["mean"] == pytest.approx(0.05)


def test_the_report_says_in_words_figure_and_table_which_helped(tmp_path: Path) -> None:
    mine = informed(None, {"old": 0.9, "other": 0.02}, {"old": 0.5, "other": 0.0})
    page = reports.write_report(mine, [], tmp_path).html.read_text("utf-8")
    text = without_plotly(page)
    assert "<h2>Earlier campaigns</h2>" in text
    assert "came from earlier campaigns in part: old (70% on average, 50% in the end)." in text
    assert "1 other campaign hardly mattered (less than 5% on average)." in text
    assert "<td>old</td><td>70%</td><td>90%</td><td>50%</td><td>42</td>" in text
    (drawn,) = [f for f in data(page, "figures") if "trials proposed" in str(f["layout"])]
    assert [(d["name"], d["x"], d["y"]) for d in drawn["data"]] == [
        ("old", [2, 3], [0.9, 0.5]),
        ("other", [2, 3], [0.02, 0.0]),
    ]


@pytest.mark.parametrize(
    ("mine", "said"),
    [
        (informed(None, None, earlier=()), "there were none that overlap"),
        (informed(None, None), "could learn from 2 earlier campaigns; no trial was chosen by what they taught yet"),
        (informed({"old": 0.01, "other": 0.0}), "2 earlier campaigns hardly mattered"),
        (informed(), "could learn from 2 earlier campaigns"),
    ],
)
def test_little_or_no_help_is_said_too(mine: reports.Subject, said: str, tmp_path: Path) -> None:
    assert said in without_plotly(reports.write_report(mine, [], tmp_path).html.read_text("utf-8"))


def test_a_campaign_that_learns_from_none_has_no_such_section(tmp_path: Path) -> None:
    mine = informed(None, None, earlier=None)
    assert "Earlier campaigns" not in without_plotly(reports.write_report(mine, [], tmp_path).html.read_text("utf-8"))
    assert reports.summary(mine, [])["earlier"] == []


def test_a_name_is_never_markup(tmp_path: Path) -> None:
    mine = informed({EVIL: 0.5}, {EVIL: 0.5}, earlier=(EVIL,))
    text = without_plotly(reports.write_report(mine, [], tmp_path).html.read_text("utf-8"))
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "&lt;img" in text
