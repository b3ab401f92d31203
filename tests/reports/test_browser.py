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

    written = reports.write_report(subject(two, points, respond), [], tmp_path)
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-webgl",
        f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--virtual-time-budget=8000",
        "--dump-dom", written.html.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.count('class="main-svg"') >= 6, done.stderr[-2000:]
    assert "<script>alert(1)" not in done.stdout
    errors = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "WebGL" not in line]
    assert errors == []
