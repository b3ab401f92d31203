"""Verbs for data: what a campaign has published is found, shown and retracted."""

import hashlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from firstlight.cli import cli

CAMPAIGN = """
id: {id}
title: {title}
parameters:
  x: {{low: 10, high: {high}, unit: degC}}
objectives:
  y: maximize
budget: {{trials: 3}}
strategy: random
evaluate: shore:look
"""


class Shore:
    def __init__(self, home: Path) -> None:
        self.home, self.runner = home, CliRunner()

    def do(self, *words: str, code: int = 0) -> str:
        done = self.runner.invoke(cli, [*words, "--data-dir", str(self.home)])
        assert done.exit_code == code, done.output
        return done.output

    def read(self, *words: str) -> Any:
        return json.loads(self.do(*words, "--json"))


@pytest.fixture(scope="module")
def shore(tmp_path_factory: pytest.TempPathFactory) -> Shore:
    path = tmp_path_factory.mktemp("shore")
    (path / "shore.py").write_text("def look(point):\n    return {'y': point['x'] / 100}\n")
    made = Shore(path / "home")
    for id, title, high in (("films", "Thin films", 20), ("steel", "Hard steel", 90)):
        (path / f"{id}.yaml").write_text(CAMPAIGN.format(id=id, title=title, high=high))
        made.do("run", str(path / f"{id}.yaml"), "--no-report")
    return made


def found(document: Any) -> list[str]:
    return [one["name"] for one in document["found"]]


def test_what_campaigns_have_published_is_found(shore: Shore) -> None:
    everything = shore.read("data", "search")
    assert (everything["total"], sorted(found(everything))) == (2, ["films", "steel"])
    assert everything["facets"]["observable"] == {"y": 2}
    assert found(shore.read("data", "search", "thin", "fil")) == ["films"]
    assert found(shore.read("data", "search", "--where", "campaign=steel")) == ["steel"]
    assert found(shore.read("data", "search", "--range", "x=250..283.1 K", "films")) == []
    assert sorted(found(shore.read("data", "search", "--range", "x=270..400 K"))) == ["films", "steel"]
    assert found(shore.read("data", "search", "--until", "2001-01-01")) == []
    first = shore.read("data", "search", "--limit", "1")
    second = shore.read("data", "search", "--limit", "1", "--after", str(first["after"]))
    assert sorted(found(first) + found(second)) == ["films", "steel"]
    assert second["after"] == 0
    said = shore.do("data", "search")
    assert "Thin films" in said
    assert "2 datasets" in said
    assert "observable" in said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("search", "--where", "yield"), "'yield' is not FACET=VALUE"),
        (("search", "--range", "x"), "'x' is not VARIABLE=LOW..HIGH"),
        (("search", "--range", "x=.."), "is not VARIABLE=LOW..HIGH"),
        (("search", "--range", "x=3..1"), "nothing is from 3 to 1"),
        (("search", "--since", "yesterday"), "'yesterday' is no date"),
        (("show", "gold"), "there is no record 'gold'"),
        (("retract", "gold", "--reason", "x"), "there is no record 'gold'"),
        (("retract", "films"), "say why it is retracted"),
    ],
)
def test_what_cannot_be_is_said(shore: Shore, words: tuple[str, ...], why: str) -> None:
    done = shore.runner.invoke(cli, ["data", *words, "--data-dir", str(shore.home)])
    assert done.exit_code == 2
    assert why in done.stderr


def test_a_dataset_is_shown_and_retracted(shore: Shore, tmp_path: Path) -> None:
    mine = Shore(tmp_path / "home")
    shutil.copytree(shore.home, mine.home, ignore=shutil.ignore_patterns("facilities"))
    shown = mine.read("data", "show", "films")
    assert (shown["rows"], shown["version"], shown["retracted"]) == (3, 1, "")
    x, y = shown["variables"]
    assert (x["name"], x["role"], x["unit"], x["low"] >= 10, x["high"] <= 20) == ("x", "parameter", "degC", True, True)
    assert (y["name"], y["role"]) == ("y", "observable")
    assert shown["versions"] == [shown["id"]]
    assert shown["software"]["firstlight"] == version("firstlight")
    assert (shown["facilities"], shown["synthetic"]) == (["local"], True)
    assert "Thin films" in mine.do("data", "show", shown["id"])
    assert mine.read("data", "retract", "films", "--reason", "the scale was off") == {
        "retracted": shown["id"], "downstream": [], "campaigns": [], "models": [], "hidden": [],
    }  # fmt: skip
    assert found(mine.read("data", "search")) == ["steel"]
    assert sorted(found(mine.read("data", "search", "--every"))) == ["films", "steel"]
    mine.do("data", "retract", "films", "--reason", "said again")
    for file in (mine.home / "catalog").glob("index.db*"):
        file.unlink()
    assert found(mine.read("data", "search")) == ["steel"]
    assert "the scale was off" in mine.do("data", "show", "films")


def test_an_index_that_is_not_there_is_made_of_what_is(shore: Shore, tmp_path: Path) -> None:
    mine = Shore(tmp_path / "home")
    shutil.copytree(shore.home, mine.home, ignore=shutil.ignore_patterns("facilities"))
    before = mine.read("data", "search")
    for file in (mine.home / "catalog").glob("index.db*"):
        file.unlink()
    after = mine.read("data", "search")
    for document in (before, after):
        for one in document["found"]:
            del one["added"]
    assert sorted(after["found"], key=str) == sorted(before["found"], key=str)
    assert after["facets"] == before["facets"]
    assert [file.name for file in (mine.home / "catalog").glob(".index*")] == []


def test_a_directory_without_data_has_none(tmp_path: Path) -> None:
    assert Shore(tmp_path / "new").read("data", "search")["total"] == 0


WARM = """
id: next
parameters:
  x: {low: 280, high: 300, unit: K}
objectives:
  y: maximize
budget: {trials: 2}
strategy: random
evaluate: shore:look
"""


def test_a_campaign_begins_with_earlier_data(shore: Shore, tmp_path: Path) -> None:
    mine = Shore(tmp_path / "home")
    shutil.copytree(shore.home, mine.home, ignore=shutil.ignore_patterns("facilities"))
    (tmp_path / "shore.py").write_text("def look(point):\n    return {'y': point['x'] / 100}\n")
    (tmp_path / "next.yaml").write_text(WARM)
    said = mine.do(
        "run", str(tmp_path / "next.yaml"), "--no-report", "--with-data", "thin observable=y", "--with-data", "films"
    )
    films = mine.read("data", "show", "films")
    assert f"begins with 3 trials of {films['id']}" in said
    rows = mine.read("export", "next", "--as", "json", "--output", str(tmp_path / "next.json"))
    rows = json.loads((tmp_path / "next.json").read_text())["records"]
    assert len(rows) == 5
    assert [row["source"] for row in rows[:3]] == [f"{films['id']}#films.{n}" for n in (1, 2, 3)]
    assert all(283.15 <= row["x"] <= 293.15 for row in rows[:3])
    made = mine.read("data", "show", "next")
    assert (made["used"], made["upstream"], made["synthetic"]) == ([films["id"]], [films["id"]], True)
    told = mine.read("data", "trace", "next")["provenance"]
    origin = next(name for name, entity in told["entity"].items() if entity.get("prov:label") == films["id"])
    derived = [r for r in told["wasDerivedFrom"].values() if r["prov:usedEntity"] == origin]
    assert len(derived) >= 3
    down = {"downstream": [made["id"]], "campaigns": ["next"]}
    assert {key: mine.read("data", "show", "films")[key] for key in down} == down
    assert f"{made['id']}, campaign next" in mine.do("data", "show", "films")
    said = mine.read("data", "retract", "films", "--reason", "the scale was off")
    assert said == {"retracted": films["id"], "models": [], "hidden": []} | down
    done = mine.runner.invoke(
        cli, ["run", str(tmp_path / "next.yaml"), "--with-data", films["id"], "--data-dir", str(mine.home)]
    )
    assert (done.exit_code, "is retracted: the scale was off" in done.stderr) == (2, True)
    assert "next-2" not in mine.do("list")


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("steel", "3: their x is beyond the bounds"),
        ("gold", "no row of nothing that was found"),
        ('"films', "No closing quotation"),
        ("x=3..1", "nothing is from 3 to 1"),
    ],
)
def test_data_that_tell_a_campaign_nothing_are_said(shore: Shore, tmp_path: Path, query: str, why: str) -> None:
    (tmp_path / "shore.py").write_text("def look(point):\n    return {'y': point['x'] / 100}\n")
    (tmp_path / "next.yaml").write_text(WARM.replace("high: 300", "high: 281"))
    words = ["run", str(tmp_path / "next.yaml"), "--with-data", query, "--data-dir", str(shore.home)]
    done = shore.runner.invoke(cli, words)
    assert (done.exit_code, why in done.stderr) == (2, True), done.output


def test_trials_are_found_one_by_one(shore: Shore) -> None:
    page = shore.read("data", "search", "--trials", "--where", "campaign=films", "--range", "x=10..20 degC")
    assert sorted(found(page)) == ["films.1", "films.2", "films.3"]
    one = page["found"][0]
    assert {v["name"]: v["low"] for v in one["variables"]}["y"] == pytest.approx(one["variables"][0]["low"] / 100)
    assert page["facets"]["outcome"] == {"succeeded": 3}


def test_a_campaign_comes_with_its_journal_once_it_is_closed(shore: Shore, tmp_path: Path) -> None:
    crate = shore.read("data", "export", "films", "--output", str(tmp_path / "crate"))["path"]
    other = Shore(tmp_path / "other")
    brought = other.read("data", "import", crate)
    assert brought["campaign"] == "films"
    assert other.read("show", "films")["succeeded"] == 3
    tables = [tmp_path / "one.csv", tmp_path / "two.csv"]
    for site, table in zip((shore, other), tables, strict=True):
        site.do("export", "films", "--as", "csv", "--output", str(table))
    rows = [table.read_bytes() for table in tables]
    assert rows[0] == rows[1]
    assert other.read("data", "import", crate) == brought | {"campaign": ""}
    # A campaign that may still be run elsewhere is not to be run here, too.
    journal = next(Path(crate).rglob("journal.jsonl"))
    metadata = Path(crate) / "ro-crate-metadata.json"
    whole = journal.read_bytes()
    open_ = b"".join(line for line in whole.splitlines(keepends=True)[:-2])
    assert b"CampaignClosed" not in open_
    before, after = (hashlib.sha256(content).hexdigest() for content in (whole, open_))
    text = metadata.read_text().replace(before, after)
    metadata.write_text(text.replace(f'"{len(whole)}"', f'"{len(open_)}"'))
    journal.write_bytes(open_)
    third = Shore(tmp_path / "third")
    assert third.read("data", "import", crate)["campaign"] == ""
    assert third.read("list")["campaigns"] == []
