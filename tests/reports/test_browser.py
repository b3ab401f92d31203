"""The report in a real browser: its figures are drawn, and nothing is said on the console."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from firstlight import core, reports

from .builder import goal, measured, spec, subject

CHROMIUM = shutil.which("chromium")


def shown(page: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """The page as the browser has it, and what it says on its console."""
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-webgl",
        f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--virtual-time-budget=8000",
        "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_without_a_network_draws_every_figure(tmp_path: Path) -> None:
    two = spec(
        title="<script>alert(1)</script>",
        goal=goal(
            core.Objective(observable="a", direction="maximize"), core.Objective(observable="b", direction="minimize")
        ),
    )
    points: list[core.Point] = [{"x": i / 20} for i in range(21)]

    def respond(point: core.Point, number: int) -> core.Measured | core.Failure:
        x = float(point["x"])
        if number % 7 == 0:
            return core.Failure(cause="did-not-converge", message="<b>no</b>")
        return measured(a=x, b=(x - 0.3) ** 2)

    def predict(point: core.Point, number: int) -> tuple[core.Observation, ...]:
        return (core.Observation(observable="a", value=float(point["x"]) + 0.05 * (-1) ** number, sigma=0.1),)

    def decide(point: core.Point, number: int) -> core.Decision:
        shared = (core.Influence(campaign="last-year", share=1 / (number + 1)),)
        return core.Decision(criterion="whim", informed_by=shared, outlook=core.Outlook(gain=1.0, chance=0.5))

    told = subject(two, points, respond, predict=predict, decide=decide)
    written = reports.write_report(told, [], tmp_path)
    drawn = written.html.read_text("utf-8").count("data-figure=")
    done = shown(written.html, tmp_path)
    assert done.stdout.count('class="main-svg"') >= 6, done.stderr[-2000:]
    # Two drawings a figure, in all those that are not folded away.
    assert done.stdout.count("js-plotly-plot") >= drawn - 2 > 8
    assert "<script>alert(1)" not in done.stdout
    errors = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "WebGL" not in line]
    assert errors == []


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_page_of_a_dataset_is_drawn_with_its_lineage(tmp_path: Path) -> None:
    columns = (
        reports.Column("t", (1.0, 2.0, None, 4.0), "K", "parameter", 1.0, 4.0, 1),
        reports.Column("solvent", ("<b>DMF</b>", "water", "water", None), role="parameter"),
        reports.Column("yield", (10, 20, 30, 40), "%", "observable", 10.0, 40.0, said="called Yield (%)"),
        reports.Column("note", ("a", "b", "c", "d"), described=False),
    )
    nodes = (
        reports.Node("films@1", 0), reports.Node("ores@1", -1, note="retracted: wrong <i>scale</i>"),
        reports.Node("campaign next", 1, "campaign"),
    )  # fmt: skip
    dataset = reports.Dataset(
        id="films@1", title="<script>alert(1)</script>", marks=("synthetic",), rows=4, columns=columns, nodes=nodes,
        edges=(("ores@1", "films@1"), ("films@1", "campaign next"), ("films@1", "nowhere")),
        quality=("2 of 4 rows occur twice",), card=(("licence", "MIT"),), facts=(("rows", "4"),),
        files=(("films.csv", "sha256:12", "4 B", "text/csv"),), made=(("ada", "person", ""),),
    )  # fmt: skip
    page = tmp_path / "page.html"
    reports.write_dataset(dataset, page)
    done = shown(page, tmp_path)
    # Three variables by themselves, two parameters against the observable.
    assert len(re.findall(r'class="plot[^"]*js-plotly-plot', done.stdout)) == 5, done.stderr[-2000:]
    lineage = done.stdout.partition('class="lineage"')[2].partition("</svg>")[0]
    assert (lineage.count("<rect"), lineage.count("<path")) == (3, 2)
    assert 'class="bad"' in lineage
    assert "<td" in done.stdout.partition('id="rows"')[2]
    for raw in ("<script>alert(1)", "<b>DMF", "<i>scale"):
        assert raw not in done.stdout
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line and "WebGL" not in line] == []
