"""Files by their digests: what is kept stays as it is, what is wrong leaves no trace, and moving loses nothing."""

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from firstlight import core
from firstlight.facilities.assets import AssetStore, Corrupt
from firstlight.facilities.compute._perform import perform
from firstlight.facilities.compute._staging import bring

ACTION = core.Action(id="c1.1.a", trial="c1.1", facility="here", name="a", operation="command", point={"x": 1.0})


def a_file(path: Path, text: str = "1 2 3") -> Path:
    path.write_text(text)
    return path


def test_what_is_kept_cannot_be_written_to_by_mistake(tmp_path: Path) -> None:
    store = AssetStore(tmp_path / "store")
    kept = store.path(store.put(a_file(tmp_path / "mesh.dat")).digest)
    assert kept.stat().st_mode & 0o777 == 0o444


def test_what_is_not_what_it_should_be_leaves_nothing_behind(tmp_path: Path) -> None:
    source, target = AssetStore(tmp_path / "source"), AssetStore(tmp_path / "target")
    asset = source.put(a_file(tmp_path / "mesh.dat"))
    source.path(asset.digest).chmod(0o644)
    a_file(source.path(asset.digest), "1 2 4")
    with pytest.raises(Corrupt):
        target.fetch([asset], source)
    assert [p for p in target.root.rglob("*") if p.is_file()] == []


def test_an_input_that_is_nowhere_to_be_had_is_left_to_whoever_performs_it(tmp_path: Path) -> None:
    asset = AssetStore(tmp_path / "elsewhere").put(a_file(tmp_path / "mesh.dat"))
    action = replace(ACTION, inputs={"mesh": asset})
    assert bring(action, tmp_path / "root", tmp_path / "home") == 0
    attempt = tmp_path / "root/actions/c1.1.a/attempt-1"
    attempt.parent.mkdir(parents=True)
    outcome = perform(action, attempt)
    assert isinstance(outcome, core.Failure)
    assert outcome.cause == "invalid-input"


def test_an_input_that_matches_a_pattern_is_no_output_and_the_process_stays_where_it_was(tmp_path: Path) -> None:
    store = AssetStore(tmp_path / "assets")
    asset = store.put(a_file(tmp_path / "mesh.txt"))
    settings: dict[str, object] = {"argv": ["sh", "-c", "echo ok > made.txt; echo 1"]}
    action = replace(ACTION, inputs={"mesh.txt": asset}, outputs=("*.txt",), settings=settings)
    attempt = tmp_path / "actions/c1.1.a/attempt-1"
    attempt.parent.mkdir(parents=True)
    before = os.getcwd()
    outcome = perform(action, attempt)
    assert isinstance(outcome, core.Measured), outcome
    assert [asset.uri for asset in outcome.assets] == ["made.txt"]
    assert os.getcwd() == before
