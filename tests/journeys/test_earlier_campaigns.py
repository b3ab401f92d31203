"""A strategy of another package learns from earlier campaigns: from Python, from the command line, after a crash."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HEIR = '''
import json, os, random
from firstlight import core

class Heir:
    """Random points, and a note of the earlier trials it was given each time."""

    def __init__(self, campaigns=()):
        self.campaigns = campaigns

    def earlier(self):
        return tuple(self.campaigns)

    def propose(self, spec, results, count, seed):
        given = {e.campaign: [[r.trial, r.ran["x"], r.seen["y"].value] for r in e.rows] for e in results.earlier}
        with open(os.environ["HEIR_NOTES"], "a") as notes:
            notes.write(json.dumps(given) + "\\n")
        by = tuple(core.Influence(campaign=name, share=0.5, trials=len(rows)) for name, rows in given.items())
        decision = core.Decision(criterion="none", informed_by=by)
        rng = random.Random(seed)
        x = spec.parameters[0]
        return [core.Proposal(point={"x": rng.uniform(x.low, x.high)}, decision=decision) for _ in range(count)]
'''
SCRIPT = """
import os, sys
import firstlight as fl

def measure(point):
    return {"y": point["x"] / 1000 if unit == "m" else point["x"]}

name, strategy, unit, trials, die = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
options = {"campaigns": sys.argv[6:]} if strategy == "heir" else {}
low, high = (0.0, 1.0) if unit == "m" else (0.0, 1000.0)
ended = []
with fl.Campaign(name, [fl.Continuous("x", low, high, unit)], [fl.maximize("y", unit="kg" if unit == "m" else "g")],
                 budget=fl.Budget(trials=trials), strategy=fl.StrategySpec(strategy, options)) as campaign:
    die_at = lambda row: ended.append(row) or len(ended) == die and os._exit(9)
    campaign.run(measure, workers="threads", on_trial=die_at)
    print(campaign.id, len(campaign.results))
"""
CAMPAIGN = """
id: new
parameters: {{x: {{low: 0, high: 1, unit: m}}}}
objectives: {{y: {{direction: maximize, unit: kg}}}}
budget: 4
strategy: {{name: heir, options: {{campaigns: {names}}}}}
evaluate: mine:look
"""


class Site:
    """A directory that is on the path of Python, with a strategy that is installed there, and a data directory."""

    def __init__(self, path: Path) -> None:
        self.path, self.notes = path, path / "notes.jsonl"
        (path / "heir.py").write_text(HEIR)
        installed = path / "heir-1.0.dist-info"
        installed.mkdir()
        (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: heir\nVersion: 1.0\n")
        (installed / "entry_points.txt").write_text("[firstlight.strategies]\nheir = heir:Heir\n")
        (path / "script.py").write_text(SCRIPT)
        (path / "mine.py").write_text("def look(point):\n    return {'y': point['x']}\n")
        before = os.environ.get("PYTHONPATH", "")
        self.environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, (str(path), before))),
            "FIRSTLIGHT_HOME": str(path / "home"), "HEIR_NOTES": str(self.notes),
        }  # fmt: skip

    def _do(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words], cwd=self.path, env=self.environment, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip

    def script(
        self, name: str, strategy: str, *names: str, unit: str = "m", trials: int = 5, die: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """A campaign from Python, which dies after so many trials."""
        return self._do("script.py", name, strategy, unit, str(trials), str(die), *names)

    def firstlight(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self._do("-c", "from firstlight.cli import main; main()", *words)

    def json(self, *words: str) -> Any:
        done = self.firstlight(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def given(self) -> list[dict[str, list[list[Any]]]]:
        """What the strategy was given, each time it was asked."""
        return [json.loads(line) for line in self.notes.read_text().splitlines()] if self.notes.exists() else []


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with two campaigns, in other units each."""
    site = Site(tmp_path_factory.mktemp("past"))
    for name, unit in (("metres", "m"), ("millimetres", "mm")):
        done = site.script(name, "random", unit=unit)
        assert done.returncode == 0, done.stderr
    return site.path / "home"


@pytest.fixture
def site(tmp_path: Path, past: Path) -> Site:
    shutil.copytree(past, tmp_path / "home")
    return Site(tmp_path)


def test_from_python_all_that_overlap_are_known_in_its_own_units(site: Site) -> None:
    done = site.script("new", "heir")
    assert done.stdout == "new 5\n", done.stderr
    given = site.given()
    assert all(one == given[0] for one in given)
    assert {name: len(rows) for name, rows in given[0].items()} == {"metres": 5, "millimetres": 5}
    for rows in given[0].values():
        assert all(0 <= x <= 1 for _, x, _ in rows)
    assert all(abs(y - x) < 1e-9 for _, x, y in given[0]["millimetres"]), "x in m and y in kg, as here"
    assert [c["campaign"] for c in site.json("show", "new")["earlier"]] == ["metres", "millimetres"]
    assert "learns from earlier campaigns: metres, millimetres" in site.firstlight("log", "new").stdout


def test_after_a_crash_the_same_trials_are_known_though_there_are_more_by_then(site: Site) -> None:
    assert site.script("new", "heir", "metres", trials=9, die=3).returncode == 9
    before = site.given()
    assert site.script("metres", "random").stdout == "metres-2 5\n"
    go_on = "import firstlight as fl\nfl.Campaign.load('new').run(lambda p: {'y': p['x']}, workers='threads')"
    done = site._do("-c", go_on)
    assert done.returncode == 0, done.stderr
    after = site.given()[len(before) :]
    assert after
    assert all(one == before[0] for one in (*before, *after))
    assert list(before[0]) == ["metres"]


def test_whoever_replays_knows_them_again(site: Site) -> None:
    assert site.script("new", "heir", "millimetres").returncode == 0
    replay = """
import asyncio, os
from pathlib import Path
from firstlight import app, config, core
async def story():
    async with app.App.open(config.load_settings(None, os.environ)) as here:
        async for entry in here.journal.read("new"):
            if isinstance(entry.fact, core.TrialProposed):
                asked = entry.fact.asked
                campaign, ledger = await here.known("new", asked.known)
                strategy = here.ports(campaign.spec, {}).strategy
                point = strategy.propose(campaign.spec, ledger.view(), asked.count, asked.seed)[asked.place].point
                print(point == entry.fact.point)
asyncio.run(story())
"""
    first = site.given()[0]
    done = site._do("-c", replay)
    assert done.stdout.split() == ["True"] * 5, done.stderr
    assert all(one == first for one in site.given())


def test_from_the_command_line_to_the_report(site: Site) -> None:
    (site.path / "new.yaml").write_text(CAMPAIGN.format(names="[metres]"))
    done = site.firstlight("run", "new.yaml")
    assert done.returncode == 0, done.stderr
    assert "from metres" in site.firstlight("show", "new").stdout
    report = (site.path / "home/reports/new/report.html").read_text("utf-8")
    assert "came from earlier campaigns in part: metres (50% on average, 50% in the end)." in report


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ("[lost]", "campaign new cannot learn from lost: there is no such campaign here"),
        ("[metres, angles]", "campaign new cannot learn from angles: they share no parameter"),
    ],
)
def test_a_campaign_that_cannot_inform_it_is_a_line_and_nothing_is_written(site: Site, names: str, why: str) -> None:
    other = (
        CAMPAIGN.replace("id: new", "id: angles").replace("unit: m", "unit: rad").replace("name: heir", "name: random")
    )
    (site.path / "angles.yaml").write_text(other.format(names="[]").replace(", options: {campaigns: []}", ""))
    assert site.firstlight("run", "angles.yaml", "--no-report").returncode == 0
    (site.path / "new.yaml").write_text(CAMPAIGN.format(names=names))
    done = site.firstlight("run", "new.yaml")
    assert (done.returncode, done.stderr.strip()) == (2, why)
    assert "new" not in [c["id"] for c in site.json("list")["campaigns"]]
    assert (
        site.script("new", "heir", "lost")
        .stderr.splitlines()[-1]
        .endswith("campaign new cannot learn from lost: there is no such campaign here")
    )


def test_a_wrong_option_of_the_strategy_is_said_before_anything_is_written(site: Site) -> None:
    (site.path / "new.yaml").write_text(CAMPAIGN.format(names="[metres]").replace("campaigns", "campains"))
    done = site.firstlight("run", "new.yaml")
    assert done.returncode == 2
    assert "campains" in done.stderr
    assert "new" not in [c["id"] for c in site.json("list")["campaigns"]]
