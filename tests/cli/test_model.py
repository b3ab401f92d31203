"""Verbs for models: what there is, what is in production and was, what may be promoted, and what must not be used."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from firstlight.catalog.library import Library
from firstlight.cli import cli
from firstlight.factory import CatalogShelf
from firstlight.models import Gate, Item, Split, TrainSpec
from firstlight.models import registry as r

PROGRAM = [sys.executable, "-c", "from firstlight.cli import main; main()"]
FILMS = "films@0123456789ab"


class Desk:
    """A data directory, and a person at the keyboard."""

    def __init__(self, path: Path) -> None:
        self.path, self.home, self.made, self.now = path, path / "home", 0, 0.0

    def done(self, *words: str) -> Any:
        return CliRunner().invoke(cli, [*words, "--data-dir", str(self.home)])

    def do(self, *words: str) -> str:
        done = self.done(*words)
        assert done.exit_code == 0, done.output
        return str(done.output)

    def read(self, *words: str) -> Any:
        done = self.done(*words, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def fails(self, code: int, *words: str) -> str:
        done = self.done(*words)
        assert done.exit_code == code, done.output
        assert "Traceback" not in done.output
        assert done.stdout == ""
        return str(done.stderr)

    @contextmanager
    def registry(self) -> Iterator[r.Registry]:
        """The one that the verbs see, at the time that it is by `now`."""
        with Library(self.home / "catalog") as library:
            yield r.Registry(library.store, CatalogShelf(library), library.root / "releases", lambda: self.now)

    def train(
        self, error: float = 1.0, gate: Gate | None = None, name: str = "hardness", card: str = "", seed: int = 0,
        **more: Any,
    ) -> str:  # fmt: skip
        """What training would leave, registered: the id of the version."""
        self.made += 1
        folder = self.path / f"release-{self.made}"
        folder.mkdir()
        header = json.dumps({"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
        content = len(header).to_bytes(8, "little") + header + self.made.to_bytes(4, "big")
        (folder / "model.safetensors").write_bytes(content)
        (folder / "config.json").write_text('{"family": "table"}')
        if card:
            (folder / "card.md").write_text(card)
        used = more.pop("data", FILMS)
        report = r.Report(
            name=name, family="table", metric="rmse", scores={"rmse": error, "coverage": 0.9, "bias": 0.1},
            data=(Item(dataset=used, path="a.parquet", digest="sha256:" + "0" * 64, size=1),),
            curve=r.Curve(steps=10, best_step=9, first=3.0, best=1.0, last=1.1),
            compute=r.Compute(device="cpu", seconds=1.0, device_hours=1 / 3600), parameters=r.Parameters(changed=4),
            baselines={"mean": {"rmse": 2.0}}, **more,
        )  # fmt: skip
        r.write_report(folder, report)
        spec = TrainSpec(
            name=name, family="table", data=("films",), gate=gate or Gate(), licence="MIT", split=Split(seed=seed)
        )
        with self.registry() as registry:
            return registry.register(folder, spec, "ann").id


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """One model of one version, to which nothing happens."""
    made = Desk(tmp_path_factory.mktemp("still"))
    made.train()
    return made


def test_models_are_listed(desk: Desk) -> None:
    assert "there is no model yet" in desk.do("model", "list")
    assert desk.read("model", "list") == {"models": []}
    desk.train()
    desk.train(0.5)
    desk.train(0.7, name="softness")
    desk.do("model", "promote", "hardness:2")
    desk.do("model", "revoke", "hardness:1", "--reason", "a leak")
    hardness, softness = desk.read("model", "list")["models"]
    assert (hardness["model"], hardness["production"], softness["production"]) == ("hardness", "hardness:2", None)
    one, two = hardness["versions"]
    assert (one["score"], two["score"], two["aliases"], two["licence"]) == (1.0, 0.5, ["production"], "MIT")
    assert (one["revoked"]["reason"], two["revoked"]) == ("a leak", None)
    assert desk.read("model", "list", "softness")["models"] == [softness]
    lines = desk.do("model", "list").splitlines()
    assert [line.split() for line in lines if line.startswith("hardness")] == [
        ["hardness", "2", "2", "table", "rmse", "0.5", "MIT", "1"]
    ]
    assert "none" in next(line for line in lines if line.startswith("softness")).split()
    assert "a leak" in desk.do("model", "list", "hardness")
    assert "softness:1 may be promoted" in desk.do("model", "show", "softness")


def test_a_damaged_history_hides_no_other_model(desk: Desk) -> None:
    desk.train()
    desk.train(name="softness")
    entry = desk.home / "catalog" / "models" / "hardness" / "00000001.json"
    entry.chmod(0o600)
    entry.write_bytes(entry.read_bytes()[:-4])
    done = desk.done("model", "list", "--json")
    assert done.exit_code == 7
    assert [m["model"] for m in json.loads(done.stdout)["models"]] == ["softness"]
    assert "entry 1 of model hardness cannot be read" in done.stderr
    # The other is shown, promoted, and told of; what cannot be told of the damaged one is said.
    done = desk.done("model", "show", "softness", "--json")
    assert done.exit_code == 0
    (hidden,) = json.loads(done.stdout)["lineage"]["hidden"]
    assert hidden.startswith("entry 1 of model hardness") and hidden in done.stderr
    assert desk.read("model", "promote", "softness:1")["aliases"] == ["production"]
    done = desk.done("model", "touched", FILMS, "--json")
    assert (done.exit_code, json.loads(done.stdout)["hidden"]) == (7, [hidden])
    assert [one["version"] for one in json.loads(done.stdout)["touched"]] == ["softness:1"]
    # What must not be used any more is said to be so nevertheless.
    done = desk.done("model", "revoke", "softness:1", "--reason", "a leak", "--json")
    assert (done.exit_code, json.loads(done.stdout)["touched"]) == (7, [])
    assert "whether it has reached others cannot be told: entry 1 of model hardness" in done.stderr
    for words in (("list", "hardness"), ("show", "hardness"), ("promote", "hardness:1"), ("history", "hardness")):
        assert "entry 1 of model hardness cannot be read" in desk.fails(7, "model", *words)


def test_a_version_is_shown_with_all_that_speaks_for_and_against_it(desk: Desk) -> None:
    first = desk.train(card="# Hardness\n\nFor \x1b[31mfilms only.\n")
    desk.do("model", "promote", first, "--why", "the first")
    gate = Gate(at_most={"rmse": 0.1}, forgetting={"rmse": 0.05}, ask="Is the film stable?")
    second = desk.train(1.5, gate, parent=first, parent_scores={"rmse": 1.0}, forgetting={"rmse": 0.4})
    shown = desk.read("model", "show", second)
    assert shown["verdict"]["reasons"] == [
        "rmse on the test is 1.5, and must be at most 0.1",
        "rmse is 1.5, and must be better than 1 of its parent hardness:1",
        "rmse on what the parent could do is 0.4, and must be at most 0.05",
    ]
    assert (shown["verdict"]["passed"], shown["verdict"]["ask"]) == (False, "Is the film stable?")
    assert (shown["baselines"], shown["parent_scores"]) == ({"mean": {"rmse": 2.0}}, {"rmse": 1.0})
    assert shown["lineage"]["data"] == [FILMS]
    said = desk.do("model", "show", second)
    for reason in [*shown["verdict"]["reasons"], "Is the film stable?", "hardness:2 may not be promoted", FILMS]:
        assert reason in said
    assert [line.split() for line in said.splitlines() if "rmse *" in line] == [["rmse", "*", "1.5", "1", "2"]]
    said = desk.do("model", "show", first)
    assert "For [31mfilms only." in said
    for word in ("version 1 is in production: the first", "hardness:1 is in production", "made from it", "hardness:2"):
        assert word in said
    assert [entry["fact"]["type"] for entry in desk.read("model", "show", first)["history"]] == [
        "registered", "promoted",
    ]  # fmt: skip


def test_a_card_that_is_not_there_any_more_is_said(desk: Desk) -> None:
    desk.train(card="# Hardness\n")
    (kept,) = (f for f in (desk.home / "catalog").rglob("*") if f.is_file() and f.read_bytes() == b"# Hardness\n")
    kept.unlink()
    done = desk.done("model", "show", "hardness")
    assert done.exit_code == 0
    assert "the card of hardness:1 cannot be read" in done.stderr


def test_two_versions_side_by_side(desk: Desk) -> None:
    one = desk.train(gate=Gate(at_least={"coverage": 0.5}))
    two = desk.train(0.5)
    told = desk.read("model", "compare", one, two)
    assert [(row["score"], row["a"], row["b"], row["better"]) for row in told["scores"]] == [
        ("rmse", 1.0, 0.5, two), ("bias", 0.1, 0.1, None), ("coverage", 0.9, 0.9, "same"),
    ]  # fmt: skip
    assert (told["same_test"], told["notes"]) == (True, ["whether more or less is better of bias, no gate says"])
    (line,) = (line for line in desk.do("model", "compare", one, two).splitlines() if line.startswith("rmse"))
    assert [line.count("━"), line.split()[-1]] == [24, two]
    # Its parent's scores on its own test, and not those on the parent's.
    three = desk.train(0.8, parent=two, parent_scores={"rmse": 0.9})
    (row, *_) = desk.read("model", "compare", three, two)["scores"]
    assert (row["a"], row["b"], row["better"]) == (0.8, 0.9, three)
    other = desk.train(0.1, name="softness", seed=1)
    assert "not judged on the same test" in desk.read("model", "compare", one, other)["notes"][0]
    desk.do("model", "revoke", one, "--reason", "a leak")
    assert f"{one} is revoked: a leak" in desk.read("model", "compare", one, two)["notes"]
    assert "there is no version 9 of hardness; there are: 1, 2, 3" in desk.fails(
        2, "model", "compare", "hardness:9", two
    )


def test_what_is_good_enough_is_promoted_and_what_is_not_is_refused_with_every_reason(desk: Desk) -> None:
    one = desk.train()
    told = desk.read("model", "promote", one)
    assert (told["version"], told["alias"], told["before"], told["aliases"]) == (
        one,
        "production",
        None,
        ["production"],
    )
    assert "already" in desk.do("model", "promote", one)
    two = desk.train(3.0, Gate(at_most={"rmse": 0.1, "crps": 1.0}))
    said = desk.fails(5, "model", "promote", two)
    for reason in ("must be at most 0.1", "nobody has measured it", "the baseline mean", "--force"):
        assert reason in said
    error = json.loads(desk.fails(5, "model", "promote", two, "--json"))["error"]
    assert (error["code"], error["kind"], len(error["problems"])) == (5, "refused", 4)
    assert "say why" in desk.fails(2, "model", "promote", two, "--force", "--why", " ")
    assert f"{two} is in production, where {one} was" in desk.do(
        "model", "promote", two, "--force", "--why", "for the demonstration"
    )
    assert "although rmse on the test is 3" in desk.do("model", "history", "hardness")
    assert "say which version of hardness; there are: hardness:1, hardness:2" in desk.fails(
        2, "model", "promote", "hardness"
    )
    assert "cannot be an alias" in desk.fails(2, "model", "promote", one, "--alias", "Champion!")
    desk.do("model", "promote", one, "--alias", "champion")
    assert desk.read("model", "show", "hardness@champion")["version"] == one


def test_a_question_is_answered_by_a_person(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firstlight.app.person", lambda: "ann")
    one = desk.train(gate=Gate(ask="Is the film stable?"))
    said = desk.fails(5, "model", "promote", one)
    assert "waits for a person's word: Is the film stable?" in said
    assert "--yes" in said
    assert "wants an answer" in desk.fails(2, "model", "promote", one, "--yes", "")
    desk.do("model", "promote", one, "--yes", "for weeks")
    fact = desk.read("model", "history", "hardness")["history"][-1]["fact"]
    assert fact["answered"] == "ann (for weeks)"
    assert "asks nothing" in desk.fails(2, "model", "promote", desk.train(), "--yes", "for weeks")


@pytest.mark.parametrize(("typed", "code"), [(b"y\n", 0), (b"\n", 5), (b"\x04", 5)])
def test_a_question_is_put_on_a_terminal(desk: Desk, typed: bytes, code: int) -> None:
    one = desk.train(gate=Gate(ask="Is the film stable?"))
    master, terminal = os.openpty()
    with subprocess.Popen(
        [*PROGRAM, "model", "promote", one, "--data-dir", str(desk.home)],
        stdin=terminal, stdout=terminal, stderr=terminal, close_fds=True,
    ) as asked:  # fmt: skip
        os.close(terminal)
        os.write(master, typed)
        said = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(master, 65536):
                said += chunk
        assert asked.wait(60) == code, said.decode()
    os.close(master)
    assert b"Is the film stable?" in said
    assert b"Traceback" not in said
    assert (desk.read("model", "list")["models"][0]["production"] == one) == (code == 0)


def test_what_was_in_production_when(desk: Desk) -> None:
    day = {number: datetime(2026, 3, number, 12).timestamp() for number in range(9, 14)}
    desk.now = day[9]
    one, two = desk.train(), desk.train(0.5)
    with desk.registry() as registry:
        version = {id: registry.resolve(id) for id in (one, two)}
        desk.now = day[10]
        registry.promote(version[one], "ann", "the first")
        desk.now = day[11]
        registry.promote(version[two], "ann")
        desk.now = day[12]
        registry.roll_back("hardness", "bob", "drift")
        desk.now = day[13]
        registry.revoke(version[two], "a leak", "bob")

    def stood(at: str) -> list[str]:
        return [v["version"] for v in desk.read("model", "history", "hardness", "--at", at)["versions"]]

    assert [stood(f"2026-03-{number:02}") for number in day] == [[], [one], [one, two], [two, one], [one]]
    for moment in ("2026-03-10T11:59", "2026-03-10T12:00", "2026-03-11T12:00", "2026-03-12T12:00", "2026-03-12T11:00"):
        with desk.registry() as registry:
            then = registry.at("hardness", datetime.fromisoformat(moment).timestamp())
        assert stood(moment) == ([] if then is None else [then.id])
    (told,) = desk.read("model", "history", "hardness", "--at", "2026-03-10")["versions"]
    assert (told["since"], told["until"], told["why"], told["revoked"]) == (day[10], day[11], "the first", None)
    said = desk.do("model", "history", "hardness", "--at", "2026-03-11T18:00")
    assert two in said
    assert "a leak" in said
    assert "no version of hardness was in production at 2026-03-09" in desk.do(
        "model", "history", "hardness", "--at", "2026-03-09"
    )
    assert "production goes back from version 2 to 1: drift" in desk.do("model", "history", "hardness")


def test_what_was_in_production_is_put_back(desk: Desk) -> None:
    one, two, three = desk.train(), desk.train(0.5), desk.train(0.4)
    for id in (one, two, three):
        desk.do("model", "promote", id)
    done = desk.done("model", "revoke", three, "--reason", "a leak")
    assert "firstlight model rollback hardness" in done.stderr
    desk.do("model", "revoke", two, "--reason", "the same leak")
    assert [v["revoked"]["reason"] for v in desk.read("model", "list", "hardness")["models"][0]["versions"][1:]] == [
        "the same leak", "a leak",
    ]  # fmt: skip
    told = desk.read("model", "rollback", "hardness", "--why", "a leak")
    assert (told["version"], told["before"]) == (one, three)
    assert "nothing to go back to" in desk.fails(5, "model", "rollback", "hardness")
    assert "nothing to go back to" in desk.fails(5, "model", "rollback", "hardness", "--alias", "champion")
    assert "is revoked (the same leak), and cannot be promoted" in desk.fails(5, "model", "promote", two)
    assert "is revoked already" in desk.fails(5, "model", "revoke", two, "--reason", "again")
    assert desk.read("model", "restore", two, "--reason", "it was none")["revoked"] is None
    assert "is not revoked" in desk.fails(5, "model", "restore", two, "--reason", "again")
    desk.do("model", "promote", two)


def test_a_withdrawn_dataset_names_the_models_it_has_reached(desk: Desk) -> None:
    (desk.path / "films.csv").write_text("x,y\n1,2\n3,4\n")
    films = desk.read("data", "add", str(desk.path / "films.csv"), "--yes", "--json")["id"]
    one = desk.train(data=films)
    two = desk.train(0.5, data=FILMS, name="softness", parent=one, parent_scores={"rmse": 1.0})
    desk.train(name="colour")
    told = desk.read("model", "touched", "films")
    record = told["touched"][0]["record"]
    assert (told["id"], [(t["version"], t["way"]) for t in told["touched"]]) == (
        films, [(one, [films, one]), (two, [films, record, two])]
    )  # fmt: skip
    assert [t["version"] for t in desk.read("model", "touched", one)["touched"]] == [two]
    assert [t["version"] for t in desk.read("model", "touched", FILMS)["touched"]] == ["colour:1", two]
    assert "has reached no model" in desk.do("model", "touched", "colour")
    said = desk.do("model", "touched", films)
    assert f"firstlight model revoke {two}" in said
    done = desk.done("data", "retract", "films", "--reason", "poisoned", "--json")
    assert json.loads(done.stdout)["models"] == [one, two]
    assert f"model {one} has learned from it" in done.stderr
    done = desk.done("model", "revoke", one, "--reason", "poisoned", "--json")
    assert json.loads(done.stdout)["touched"] == [two]
    assert f"{two} was made from it" in done.stderr
    lost = "it was made from hardness:1, which is revoked: poisoned"
    assert lost in desk.fails(5, "model", "promote", two) and lost in desk.do("model", "show", two)
    desk.do("model", "promote", two, "--force", "--why", "it saw none of those")
    said = desk.do("model", "show", two)
    assert lost in said and f"{two} is in production, although not all of that holds" in said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("show", "hardnes"), "there is no model 'hardnes'; did you mean 'hardness'?"),
        (("show", ""), "a model cannot be called ''"),
        (("show", "../x"), "a model cannot be called '../x'"),
        (("show", "hardness:x"), "there is no version x of hardness; there are: 1"),
        (("show", "hardness@champion"), "no version of hardness is in champion; there are: none"),
        (("show", "hardness@0123456789ab"), "has the record"),
        (("list", "gold"), "there is no model 'gold'"),
        (("compare", "hardness", "gold"), "there is no model 'gold'"),
        (("promote", "gold"), "there is no model 'gold'"),
        (("rollback", "hardness:1"), "a model cannot be called 'hardness:1'"),
        (("revoke", "hardness:1"), "say why"),
        (("revoke", "hardness", "--reason", "x"), "say which version of hardness"),
        (("restore", "hardness:1", "--reason", " "), "say why"),
        (("history", "gold"), "there is no model 'gold'"),
        (("history", "hardness", "--at", "yesterday"), "'yesterday' is no date"),
        (("history", "hardness", "--at", "9999-12-31"), "'9999-12-31' is no date"),
        (("history", "hardness", "--at", "2999-01-01"), "is yet to come"),
        (("history", "hardness", "--alias", "champion"), "say when with --at"),
        (("touched", "gold"), "there is no dataset and no model 'gold'"),
    ],
)
def test_what_cannot_be_is_said(still: Desk, words: tuple[str, ...], why: str) -> None:
    assert why in still.fails(2, "model", *words)
