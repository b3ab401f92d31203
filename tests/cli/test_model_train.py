"""`firstlight model train`: from datasets to a version, through the gate and a facility; and what it refuses."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from firstlight.cli import cli

pytest.importorskip("torch")

SPEC = """
name: hardness
family: table
data: [{data}]
options: {{target: hardness, inputs: [temperature, carbon]}}
split: {{validation: 0.2, test: 0.2}}
training: {{steps: {steps}, batch: 32, validate: 20, learning_rate: 0.01}}
gate: {{at_most: {{rmse: {most}}}, baselines: false}}
"""


class Desk:
    def __init__(self, path: Path) -> None:
        self.path, self.home = path, path / "home"

    def done(self, *words: str) -> Any:
        return CliRunner().invoke(cli, [*words, "--data-dir", str(self.home)])

    def do(self, *words: str) -> str:
        done = self.done(*words)
        assert done.exit_code == 0, done.output
        return str(done.stdout)

    def read(self, *words: str) -> Any:
        return json.loads(self.do(*words, "--json").splitlines()[-1])

    def fails(self, *words: str, code: int = 2) -> str:
        done = self.done(*words)
        assert done.exit_code == code, done.output
        assert "Traceback" not in done.output
        return str(done.stderr)

    def add(self, name: str = "steels", rows: int = 120, training: str = "Yes", seed: int = 0) -> str:
        rng = np.random.default_rng(seed)
        t, c = rng.uniform(300, 900, rows), rng.uniform(0, 1, rows)
        lines = [f"{a},{b},{2 + b + a / 500 + 0.01 * n}" for a, b, n in zip(t, c, rng.normal(size=rows), strict=True)]
        (self.path / f"{name}.csv").write_text("temperature [K],carbon,hardness [GPa]\n" + "\n".join(lines))
        told = ["--set", f"training={training}", "--set", "licence=CC-BY-4.0"]
        return str(self.read("data", "add", str(self.path / f"{name}.csv"), *told)["id"])

    def spec(self, data: str = "steels", steps: int = 60, most: float = 1.0, more: str = "") -> str:
        file = self.path / "spec.yaml"
        file.write_text(SPEC.format(data=data, steps=steps, most=most) + more)
        return str(file)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_version_comes_of_data_and_its_child_of_it(desk: Desk) -> None:
    data = desk.add()
    said = desk.do("model", "train", desk.spec())
    assert "step 60/60" in said and "firstlight model promote hardness:1" in said
    first = desk.read("model", "train", desk.spec())
    assert first["version"] == "hardness:1" and first["passed"], "the same specification and data are the same version"
    assert first["scores"]["rmse"] < first["baselines"]["mean"]["rmse"]
    # What its campaign left is no data that anybody looks for, but it is kept.
    found = desk.read("data", "search")["found"]
    assert sorted(f["kind"] for f in found) == ["dataset", "model"] and found[0]["campaign"] == ""
    (left,) = [f for f in desk.read("data", "search", "--where", "kind=training")["found"]]
    assert left["campaign"] == first["campaign"]
    # A poisoned dataset names the models that have learned from it.
    more = desk.add("more", seed=1)
    child = desk.read("model", "train", desk.spec("steels, more", most=1e-9, more="parent: hardness:1\n"))
    assert child["version"] == "hardness:2" and child["parent_scores"]["crps"] > 0
    assert not child["passed"] and any("rmse" in reason for reason in child["reasons"])
    hit = desk.read("data", "retract", data, "--reason", "the scale was off")
    assert {first["record"], child["record"]} <= {d["id"] if isinstance(d, dict) else d for d in hit["downstream"]}
    assert "is retracted: the scale was off" in desk.fails("model", "train", desk.spec(data, steps=40))
    assert more not in str(hit["retracted"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("family: table", "family: tabel"), "did you mean 'table'"),
        (("target: hardness", "tagret: hardness"), "tagret"),
        (("steps: 60", "stepz: 60"), "did you mean 'steps'"),
        (("data: [steels]", "data: [steals]"), "'steals' finds nothing"),
        (("name: hardness", "name: 'a:b'"), "a model cannot be called 'a:b'"),
        (("validation: 0.2", "validation: 0.9"), "together less than 1"),
        (("gate:", "parent: nothing:3\ngate:"), "there is no model 'nothing'"),
        (("name: hardness", "name: [hardness"), "spec.yaml"),
    ],
)
def test_what_is_wrong_with_a_specification_is_said_before_anything_begins(
    desk: Desk, change: tuple[str, str], said: str
) -> None:
    desk.add()
    file = Path(desk.spec())
    file.write_text(file.read_text().replace(*change))
    assert said in desk.fails("model", "train", str(file)).replace("\n", " ")
    assert not desk.read("list")["campaigns"]


def test_data_that_no_model_may_learn_from_are_refused_and_conditions_want_a_person(desk: Desk) -> None:
    desk.add("secret", training="No")
    assert "says that no model may be trained on it" in desk.fails("model", "train", desk.spec("secret"))
    desk.add("lent", training="Conditional")
    assert "let the specification ask a person" in desk.fails("model", "train", desk.spec("lent"))


def test_killed_in_the_middle_it_goes_on_where_it_was_and_a_person_is_asked_first(desk: Desk) -> None:
    desk.add("lent", training="Conditional")
    file = desk.spec("lent", steps=600, more="approval: May this model learn from lent data?\n")
    program = [sys.executable, "-c", "from firstlight.cli import main; main()", "model", "train", file]
    environment = os.environ | {"FIRSTLIGHT_HOME": str(desk.home), "OMP_NUM_THREADS": "1"}

    def begun() -> subprocess.Popen[str]:
        return subprocess.Popen(
            program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def until(word: str, process: subprocess.Popen[str]) -> list[str]:
        assert process.stdout is not None
        lines = list[str]()
        for line in process.stdout:
            lines.append(line)
            if word in line:
                return lines
        raise AssertionError(f"{word!r} was never said: {lines} {process.stderr and process.stderr.read()}")

    first = begun()
    asked = until("firstlight approve", first)
    assert any("May this model learn from lent data?" in line for line in asked)
    words = asked[-1].split()
    desk.do("approve", *words[words.index("approve") + 1 :])
    until("step 100/", first)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()  # What it had still to say is read, and its pipes are closed.
    again = begun()
    out, wrong = again.communicate(timeout=120)
    assert again.returncode == 0, wrong
    steps = [line.split()[1] for line in out.splitlines() if line.startswith("step ")]
    assert "step 600/600" in out and "hardness:1" in out
    assert len(steps) == len(set(steps)), "no step was judged twice"
