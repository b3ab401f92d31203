"""The report itself: whole, offline, and harmless whatever is in the data."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from firstlight import core, reports

from .builder import curve, goal, measured, spec, subject

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>"


def data(page: str, id: str) -> Any:
    found = re.search(rf'<script type="application/json" id="{id}">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def without_plotly(page: str) -> str:
    """The page but for the library's own source, by far its longest script."""
    longest = max(re.findall(r"<script>.*?</script>", page, re.DOTALL), key=len)
    return page.replace(longest, "")


def size(png: Path) -> tuple[int, int]:
    head = png.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])


def evil() -> reports.Subject:
    parameters = (core.Continuous(name=f"x{EVIL}", low=0, high=1, unit=EVIL, description=EVIL),
                  core.Categorical(name="s", values=(EVIL, "plain")))  # fmt: skip
    aims = goal(core.Objective(observable=f"y{EVIL}", direction="maximize", unit=EVIL))
    problem = spec(id=f"c{EVIL}", title=EVIL, description=EVIL, parameters=parameters, goal=aims)
    bad = core.Failure(cause="crashed", message=EVIL, log=EVIL)
    points: list[core.Point] = [{f"x{EVIL}": i / 20, "s": (EVIL, "plain")[i % 2]} for i in range(20)]
    return subject(
        problem,
        points,
        lambda point, i: bad if i == 3 else measured(0.0, {}, **{f"y{EVIL}": float(i * i)}),
        source=EVIL,
        predict=lambda point, i: (core.Observation(observable=f"y{EVIL}", value=float(i), sigma=1.0),),
        decide=lambda point, i: core.Decision(
            criterion=EVIL, runners_up=(core.Alternative(point={f"x{EVIL}": 0.5, "s": EVIL}),), model=EVIL,
            informed_by=(core.Influence(campaign=EVIL, share=0.5),), outlook=core.Outlook(gain=1.0, chance=0.5),
        ),
    )  # fmt: skip


def test_what_users_wrote_is_never_markup(tmp_path: Path) -> None:
    page = without_plotly(reports.write_report(evil(), [], tmp_path).html.read_text("utf-8"))
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert" in page
    assert page.count("<script") == 3, "two of data, and the page's own"
    assert EVIL in json.dumps(data(page, "trials")), "the table shows it as it is, as text"
    # A figure's labels go through Plotly, which reads a little markup: there it is escaped once more.
    figures = data(page, "figures")
    drawn = json.dumps([[d for d in f["data"] if d.get("type") != "parcoords"] for f in figures])
    assert "<img" not in drawn
    assert "&lt;img" in drawn
    assert "<img" not in json.dumps([f["layout"] for f in figures])


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    page = reports.write_report(curve([1.0, 2.0, 3.0]), [], tmp_path).html.read_text("utf-8")
    assert "default-src 'none'" in page
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=", without_plotly(page))
    assert "sendChartToCloud" not in without_plotly(page)
    assert "Plotly.react" in page


def test_it_says_what_happened(tmp_path: Path) -> None:
    mine = curve([1.0, 5.0, None, 2.0], goal=goal(core.Objective(observable="y", direction="maximize", unit="mV")))
    written = reports.write_report(mine, [curve([0.0, 1.0, 4.0, 5.0]).results], tmp_path / "new")
    page = without_plotly(written.html.read_text("utf-8"))
    assert "It performed 4 trials" in page
    assert "y = 5 mV" in page
    assert "an acceleration factor of 2, against 1 random campaign (4 trials)" in page
    assert data(page, "trials")["rows"][1][:3] == ["demo.2", "good", 5.0]
    assert size(written.png) == (1600, 900)


AIMS = goal(
    core.Objective(observable="y", direction="maximize"),
    core.Objective(observable="z", direction="minimize"),
    core.Objective(observable="w", direction="match", target=1.0, tolerance=0.1),
)


@pytest.mark.parametrize("count", [0, 1, 15])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("beside", [0, 2])
def test_a_report_can_be_made_of_anything(count: int, several: bool, fails: bool, beside: int, tmp_path: Path) -> None:
    problem = spec(goal=AIMS) if several else spec()

    def respond(point: core.Point, i: int) -> core.Measured | core.Failure:
        return core.Failure(cause="lost") if fails else measured(y=i % 4, z=i % 3, w=i / 7)

    points: list[core.Point] = [{"x": i / 15} for i in range(count)]
    mine = subject(problem, points, respond, slots=2)
    others = [subject(problem, points[::-1], respond).results for _ in range(beside)]
    written = reports.write_report(mine, others, tmp_path)
    assert len(data(written.html.read_text("utf-8"), "trials")["rows"]) == count
    assert size(written.png) == (1600, 900)


def test_twenty_thousand_trials_still_make_a_file_that_opens(tmp_path: Path) -> None:
    values = [None if i % 50 == 7 else (i * 7919 % 20011) / 20011 for i in range(20_000)]
    mine = curve(values)
    begun = time.monotonic()
    written = reports.write_report(mine, [curve(values[:500]).results], tmp_path)
    assert time.monotonic() - begun < 30
    assert written.html.stat().st_size < 40e6
    page = written.html.read_text("utf-8")
    assert "3,000 of 20,000 trials are drawn" in page
    assert len(data(page, "trials")["rows"]) == 20_000


@pytest.mark.parametrize("library", ["plotly", "matplotlib"])
def test_a_missing_library_is_named_with_its_remedy_and_metrics_do_without(library: str, tmp_path: Path) -> None:
    script = f"""
import sys
sys.modules[{library!r}] = None
from pathlib import Path
from firstlight import core, reports
spec = core.CampaignSpec(id="c", parameters=(core.Continuous(name="x", low=0, high=1),),
    goal=core.Goal(objectives=(core.Objective(observable="y", direction="maximize"),)),
    procedure=core.ProcedureSpec(steps=(core.StepSpec(operation="none"),)))
subject = reports.gather([core.Entry(seq=1, at=1.0, by="me", fact=core.CampaignOpened(spec=spec))])
reports.summary(subject, [])
try:
    reports.write_report(subject, [], Path({str(tmp_path / "r")!r}))
except reports.MissingExtra as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("pip install 'firstlight[report]'")
    assert library in done.stdout
    assert not (tmp_path / "r").exists()


def test_the_public_face_loads_no_drawing_library() -> None:
    script = "import sys, firstlight.reports; print([m for m in ('plotly', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
