"""Verbs by which versions go from site to site: signed, whole or not at all, and only from who is trusted."""

import stat
from pathlib import Path

import pytest

from .test_model import Desk

pytest.importorskip("cryptography")


@pytest.fixture
def here(tmp_path: Path) -> Desk:
    return _desk(tmp_path / "here")


@pytest.fixture
def there(tmp_path: Path) -> Desk:
    return _desk(tmp_path / "there")


def _desk(path: Path) -> Desk:
    path.mkdir()
    return Desk(path)


def _trusting(there: Desk, here: Desk, name: str = "aspen") -> str:
    """A site that trusts the other, whose key is made; what that is called."""
    made = here.read("model", "key", name)
    there.do("model", "key", "--trust", made["public"])
    return str(made["key"])


def _bundle(here: Desk, id: str) -> Path:
    file = here.path / f"{id.replace(':', '-')}.zip"
    here.do("model", "export", id, str(file))
    return file


def test_a_version_goes_to_another_site_whole_and_is_shown_before_it_is_kept(here: Desk, there: Desk) -> None:
    version = here.train(card="# Hardness\n\nFor films only.\n")
    _trusting(there, here)
    file = here.path / "hardness.zip"
    told = here.read("model", "export", "hardness", str(file))
    assert (told["version"], told["signed_by"], told["bytes"]) == (version, "aspen", file.stat().st_size)
    seen = there.read("model", "import", str(file), "--check")
    assert (seen["signed_by"], seen["licence"], seen["model"], seen["kept"]) == ("aspen", "MIT", "hardness", None)
    assert seen["card"].startswith("# Hardness") and there.read("model", "list")["models"] == []
    said = there.do("model", "import", str(file))
    for word in ("For films only.", "signed by", "aspen", "MIT", "films@0123456789ab", "firstlight model promote"):
        assert word in said
    again = there.read("model", "import", str(file))["kept"]
    assert (again["version"], again["origin"], again["aliases"]) == ("hardness:1", "aspen", [])
    assert len(there.read("model", "history", "hardness")["history"]) == 1, "the same again changes nothing"
    ours, theirs = (desk.read("model", "show", "hardness") for desk in (here, there))
    assert (ours["files"], ours["record"]) == (theirs["files"], theirs["record"])
    assert "is there already" in here.fails(2, "model", "export", version, str(file))


def test_who_is_not_trusted_is_not_believed_and_what_to_do_is_said(here: Desk, there: Desk) -> None:
    here.train()
    assert "`firstlight model key` makes one" in here.fails(2, "model", "export", "hardness", str(here.path / "x.zip"))
    here.do("model", "key", "aspen")
    file = _bundle(here, "hardness")
    for words in ([], ["--check"]):
        said = there.fails(5, "model", "import", str(file), *words)
        assert "none of those that are trusted here" in said and "firstlight model key --trust FILE.pub" in said
    there.do("model", "key", "--trust", str(here.home / "keys" / "aspen.pub"))
    good = file.read_bytes()
    damaged = {
        "cut off": good[: len(good) // 2], "changed": good[:-200] + bytes([good[-200] ^ 1]) + good[-199:],
        "no bundle": b"PK\3\4", "empty": b"", "changed early": good[:300] + bytes([good[300] ^ 1]) + good[301:],
    }  # fmt: skip
    for case, content in damaged.items():
        file.write_bytes(content)
        done = there.done("model", "import", str(file))
        assert done.exit_code in (5, 7) and "Traceback" not in done.output and str(done.stderr).strip(), case
    assert there.read("model", "list")["models"] == [] and there.read("data", "search")["found"] == []
    assert not [f for f in (there.home / "catalog").rglob("*") if f.is_dir() and f.name.startswith("firstlight-")]
    assert "is not there" in there.fails(2, "model", "import", str(file) + "x")


def test_keys_are_for_their_owners_and_are_listed(here: Desk, there: Desk) -> None:
    assert "there is no key yet" in here.do("model", "key", "--list")
    key = _trusting(there, here)
    assert stat.S_IMODE((here.home / "keys" / "aspen").stat().st_mode) == 0o600
    assert [(k["name"], k["whose"], k["key"]) for k in there.read("model", "key", "--list")["keys"]] == [
        ("aspen", "trusted", key)
    ]  # fmt: skip
    assert "is not overwritten" in here.fails(5, "model", "key", "aspen")
    assert "cannot be called" in here.fails(2, "model", "key", "../x")
    # The same key under another name is the same, and another one under its name is not.
    other = here.read("model", "key", "birch")
    renamed = here.path / "aspen.pub"
    renamed.write_bytes(Path(other["public"]).read_bytes())
    assert "another key is trusted as aspen" in there.fails(5, "model", "key", "--trust", str(renamed))
    assert there.read("model", "key", "--trust", str(here.home / "keys" / "aspen.pub"))["key"] == key
    assert "no public key" in there.fails(2, "model", "key", "--trust", str(here.home / "keys" / "aspen"))
    here.train()
    file = str(here.path / "x.zip")
    assert "say which key signs, with --key" in here.fails(2, "model", "export", "hardness", file)
    assert here.read("model", "export", "hardness", file, "--key", other["private"])["signed_by"] == "birch"
    Path(other["private"]).chmod(0o644)
    assert "chmod 600" in here.fails(6, "model", "export", "hardness", file + "2", "--key", other["private"])


def test_what_is_revoked_goes_nowhere_and_revocations_travel_too(here: Desk, there: Desk) -> None:
    one = here.train()
    two = here.train(0.5, parent=one, parent_scores={"rmse": 1.0})
    _trusting(there, here)
    for id in (one, two):
        there.do("model", "import", str(_bundle(here, id)))
    there.do("model", "promote", "hardness:2")
    here.do("model", "revoke", one, "--reason", "a leak")
    file = here.path / "no.zip"
    assert "revoked" in here.fails(2, "model", "export", one, str(file))
    assert "made from hardness:1, which is revoked: a leak" in here.fails(5, "model", "export", two, str(file))
    assert not file.exists()
    list_ = here.path / "revocations.zip"
    assert here.read("model", "export", "--revocations", str(list_))["revoked"][0]["reason"] == "a leak"
    assert "name the file" in here.fails(2, "model", "export", one, str(file), "--revocations")
    assert there.read("model", "import", str(list_), "--check")["hit"] == []
    told = there.read("model", "import", str(list_))
    assert (told["signed_by"], told["hit"]) == ("aspen", ["hardness:1"])
    assert there.read("model", "import", str(list_))["hit"] == []
    shown = there.read("model", "show", "hardness:2")["verdict"]
    assert shown["reasons"] == ["it was made from hardness:1, which is revoked: a leak"]
    assert "none of those that are trusted here" in _desk(here.path / "third").fails(5, "model", "import", str(list_))
