"""The report in a real browser: its figures are drawn, and nothing is said on the console."""

import shutil
import subprocess
from pathlib import Path

import pytest

from firstlight import core, reports

from .builder import goal, measured, spec, subject

CHROMIUM = shutil.which("chromium")


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
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-webgl",
        f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--virtual-time-budget=8000",
        "--dump-dom", written.html.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.count('class="main-svg"') >= 6, done.stderr[-2000:]
    # Two drawings a figure, in all those that are not folded away.
    assert done.stdout.count("js-plotly-plot") >= drawn - 2 > 8
    assert "<script>alert(1)" not in done.stdout
    errors = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "WebGL" not in line]
    assert errors == []
