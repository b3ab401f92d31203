"""Training as a facility performs it: releases, crashes, warnings, several processes, and what is refused."""

import json
import multiprocessing
import multiprocessing.process
import signal
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("torch")

from safetensors.numpy import load_file

from firstlight.core import Failed
from firstlight.models import work
from firstlight.models._family import Inherited, Item
from firstlight.models._release import inherited_of
from firstlight.models._report import read_report
from firstlight.models._spec import Order, Split, Training

from .plugin import lines

HERE = Path(__file__).parent / "plugin"
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["firstlight.models._loop"])  # So that torch is loaded once for all of them.
PROGRAM = """
import os, sys, torch
torch.set_num_threads(1)
os.chdir(folder)
os.environ.update(environment)
sys.path.insert(0, here)
from firstlight.models.work import train
train({}, order=order, **files)
"""
RELEASE = ("model.safetensors", "config.json", "report.json", "curve.json")


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package that offers the family of the tests."""
    monkeypatch.syspath_prepend(HERE)


def _order(**told: Any) -> dict[str, Any]:
    training = {"steps": 40, "batch": 16, "learning_rate": 0.02, "validate": 10, "average": 0.9}
    training |= told.pop("training", {})
    item = Item(dataset="lines@0", path="lines.csv", digest="sha256:0", size=0)
    order = Order(
        name="line", family="lines", options=told.pop("options", {}), split=Split(),
        training=msgspec.convert(training, Training), items=(item,), **told,
    )  # fmt: skip
    made: dict[str, Any] = msgspec.to_builtins(order)
    return made


def _parent(folder: Path) -> dict[str, Any]:
    return {"parent_config": str(folder / "config.json"), "parent_weights": str(folder / "model.safetensors")}


def _started(
    folder: Path, order: Mapping[str, Any], environment: Mapping[str, str], **files: str
) -> "multiprocessing.process.BaseProcess":  # fmt: skip
    """In a process of its own, as a facility calls it; the checkpoint folder stays from attempt to attempt."""
    (folder / "checkpoint").mkdir(parents=True, exist_ok=True)
    told = {
        "folder": str(folder), "here": str(HERE), "order": order,
        "files": {"data_0": str(lines.write(folder / "data_0"))} | files,
        "environment": {"FIRSTLIGHT_CHECKPOINT": str(folder / "checkpoint"), **environment},
    }  # fmt: skip
    process = PROCESSES.Process(target=exec, args=(PROGRAM, told))
    process.start()
    return process


def _ended(process: "multiprocessing.process.BaseProcess") -> int | None:
    process.join(120)
    return process.exitcode


def _train(
    folder: Path, monkeypatch: pytest.MonkeyPatch, order: Mapping[str, Any], warn: int = 0, **files: str
) -> dict[str, Any]:  # fmt: skip
    """In this process; the checkpoint folder stays from attempt to attempt."""
    folder.mkdir(exist_ok=True)
    (folder / "checkpoint").mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FIRSTLIGHT_CHECKPOINT", str(folder / "checkpoint"))
    monkeypatch.setenv("LINES_WARN", str(warn or ""))
    data = folder / "data_0"
    if not data.exists():
        lines.write(data)
    return work.train({}, order=order, **({"data_0": str(data)} | files))


def _curve(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "curve.json").read_text())
    return found


def test_killed_and_taken_up_again_it_is_the_same_run_to_the_last_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    order, whole, killed = _order(), tmp_path / "whole", tmp_path / "killed"
    _train(whole, monkeypatch, order)
    for step in ("25", "33"):  # Between two checkpoints, and twice.
        assert _ended(_started(killed, order, {"LINES_KILL": step})) == -signal.SIGKILL
    _train(killed, monkeypatch, order)
    assert _curve(killed) == _curve(whole)
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    report = read_report(killed)
    assert report.scores == read_report(whole).scores
    # What the killed attempts did before their last checkpoint is counted, too.
    assert report.compute.tokens == 40 * 16


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_warned_that_its_time_is_nearly_over_it_saves_and_asks_to_be_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    order, whole, warned = _order(training={"precision": precision}), tmp_path / "whole", tmp_path / "warned"
    _train(whole, monkeypatch, order)
    with pytest.raises(SystemExit) as stopped:
        _train(warned, monkeypatch, order, warn=17)
    assert stopped.value.code == work.CONTINUED
    kept = sorted(f.name for f in (warned / "checkpoint").glob("step-*"))
    assert kept[-1] == "step-000000000018.safetensors"
    _train(warned, monkeypatch, order)
    assert _curve(warned) == _curve(whole)
    assert read_report(warned).compute.precision == precision


def test_a_checkpoint_of_another_order_is_not_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        _train(tmp_path / "a", monkeypatch, _order(), warn=25)
    other = _order(training={"seed": 3})
    _train(tmp_path / "a", monkeypatch, other)
    _train(tmp_path / "b", monkeypatch, other)
    assert _curve(tmp_path / "a") == _curve(tmp_path / "b")


def test_two_processes_train_as_one_does_and_go_on_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order, one, two = _order(), tmp_path / "one", tmp_path / "two"
    _train(one, monkeypatch, order)
    started = [
        _started(two, order, {"RANK": str(rank), "WORLD_SIZE": "2", "LINES_WARN": "17"}, data_0="data_0")
        for rank in (0, 1)
    ]
    assert [_ended(process) for process in started] == [work.CONTINUED, work.CONTINUED]
    # The next attempt has one process: another size of the world, the same run.
    _train(two, monkeypatch, order)
    for a, b in zip(_curve(two), _curve(one), strict=True):
        # Sums of floats in another order, and dropout of two processes, are all that differs.
        assert b["validation"] == pytest.approx(a["validation"], rel=0.2)


def test_a_release_says_all_and_is_what_the_registry_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _train(tmp_path / "a", monkeypatch, _order())
    report = read_report(tmp_path / "a")
    assert all((tmp_path / "a" / name).exists() for name in RELEASE)
    assert seen["error"] == report.scores["error"] < report.baselines["mean"]["error"]
    assert seen["validation"] == report.curve.best < report.curve.first
    assert report.parts["train"] + report.parts["validation"] + report.parts["test"] == 200
    assert report.parameters.changed == 8 + 8 + 8 + 1 and report.parameters.frozen == 0
    assert report.compute.device_hours > 0 and report.compute.energy_joules and report.compute.energy_source
    assert report.limits == ("It knows lines only.",)


def test_a_child_begins_where_its_parent_ended_and_is_judged_by_what_neither_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _train(tmp_path / "a", monkeypatch, _order())
    # Weights of others that the parent began with are in its child, too.
    begun = Inherited(name="old lines", version="lines 1.0", licence="MIT", digest="sha256:ab")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    (tmp_path / "a" / "config.json").write_text(json.dumps(config | {"inherited": [msgspec.to_builtins(begun)]}))
    (tmp_path / "b").mkdir()
    lines.write(tmp_path / "b" / "data_0", groups=30)
    _train(tmp_path / "b", monkeypatch, _order(parent="line:1"), **_parent(tmp_path / "a"))
    assert read_report(tmp_path / "a").inherited == () and read_report(tmp_path / "b").inherited == (begun,)
    assert inherited_of(tmp_path / "b") == (begun,)
    first, then = read_report(tmp_path / "a"), read_report(tmp_path / "b")
    assert then.parent == "line:1" and then.curve.first < first.curve.first
    assert then.parent_scores["n"] == then.scores["n"] == then.parts["test"]
    assert then.forgetting["moved"] > 0
    mine, theirs = (json.loads((tmp_path / f / "config.json").read_text())["parts"] for f in ("b", "a"))
    for part, groups in theirs.items():
        assert set(groups) <= set(mine[part])


def test_frozen_layers_stay_and_the_others_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _train(tmp_path / "a", monkeypatch, _order())
    (tmp_path / "b").mkdir()
    lines.write(tmp_path / "b" / "data_0", slope=3.0)
    frozen = ["first.weight", "first.bias"]
    _train(tmp_path / "b", monkeypatch, _order(parent="line:1", options={"freeze": frozen}), **_parent(tmp_path / "a"))
    before, after = (load_file(tmp_path / f / "model.safetensors") for f in ("a", "b"))
    assert (before["first.weight"] == after["first.weight"]).all()
    assert (before["last.weight"] != after["last.weight"]).any()
    assert read_report(tmp_path / "b").parameters.frozen == 16


@pytest.mark.parametrize(
    ("told", "cause", "said"),
    [
        ({"options": {"widht": 3}}, "invalid-input", "widht"),
        ({"options": {"freeze": ["frist.weight"]}}, "invalid-output", "no parameters frist.weight"),
        (
            {"options": {"freeze": ["first.weight", "first.bias", "last.weight", "last.bias"]}},
            "invalid-output", "nothing to train",
        ),
        ({"training": {"learning_rate": 1e30, "clip": 1e30, "average": 0.0}}, "did-not-converge", "is (nan|inf)"),
        ({"training": {"steps": 1, "learning_rate": 1e3, "average": 0.0}}, "did-not-converge", "no step"),
    ],
)  # fmt: skip
def test_what_would_silently_come_to_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, Any], cause: str, said: str
) -> None:
    with pytest.raises(Failed, match=said) as refused:
        _train(tmp_path / "a", monkeypatch, _order(**told))
    assert refused.value.cause == cause


def test_a_layer_that_nothing_depends_on_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_module("lines")
    whole = sys.modules["lines"].Net.forward
    monkeypatch.setattr(sys.modules["lines"].Net, "forward", lambda self, x: whole(self, x * 0) + x * 0)
    with pytest.raises(Failed, match=r"first.weight did not change in \d+ steps"):
        _train(tmp_path / "a", monkeypatch, _order(training={"average": 0.0}))


def test_a_point_may_choose_how_it_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    lines.write(tmp_path / "a" / "data_0")
    monkeypatch.chdir(tmp_path / "a")
    monkeypatch.delenv("FIRSTLIGHT_CHECKPOINT", raising=False)
    files = {"data_0": "data_0"}
    work.train({"training.steps": 20, "options.width": 3, "seed": 5}, order=_order(), **files)
    report = read_report(tmp_path / "a")
    assert (report.curve.steps, report.parameters.changed, report.seed) == (20, 10, 5)
    with pytest.raises(Failed, match=r"'training.stepz' is nothing of an order"):
        work.train({"training.stepz": 20}, order=_order(), **files)
