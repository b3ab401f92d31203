"""`firstlight model serve`: versions of the registry answer in a process of their own, until revoked or ended."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .test_model_train import Desk

pytest.importorskip("torch")
httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

PROGRAM = [sys.executable, "-c", "from firstlight.cli import main; main()"]
TOKEN = "a-token-that-is-long-enough"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """One model in production, and a file with a token."""
    made = Desk(tmp_path_factory.mktemp("serve"))
    made.add()
    made.do("model", "train", made.spec(steps=20, most=9.0))
    made.do("model", "promote", "hardness:1")
    (made.path / "token").write_text(TOKEN)
    (made.path / "token").chmod(0o600)
    return made


@pytest.fixture
def server(desk: Desk) -> Iterator[Any]:
    words = ["model", "serve", "--port", "0", "--token", str(desk.path / "token"), "--json"]
    environment = {k: v for k, v in os.environ.items() if k != "FIRSTLIGHT_TOKEN"} | {"FIRSTLIGHT_HOME": str(desk.home)}
    with subprocess.Popen([*PROGRAM, *words], env=environment, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_what_is_in_production_answers_until_it_is_revoked_and_the_server_ends_well(desk: Desk, server: Any) -> None:
    told = json.loads(server.stdout.readline())
    assert [m["version"] for m in told["models"]] == ["hardness:1"] and told["address"].startswith("http://127.0.0.1:")
    with httpx.Client(base_url=told["address"], trust_env=False, timeout=60) as client:
        assert client.get("/models").status_code == 401
        client.headers["authorization"] = f"Bearer {TOKEN}"
        shown = client.get("/models/hardness").json()
        assert set(shown["inputs"]) == {"temperature", "carbon"} and shown["card"].startswith("---")
        assert shown["licence"] == "CC-BY-4.0" and shown["limits"]
        asked = {"points": [{"temperature": 500.0, "carbon": 0.5}]}
        (said,) = client.post("/models/hardness/predict", json=asked).json()["predictions"]
        assert 2 < said["values"]["hardness"]["value"] < 5
        desk.do("model", "revoke", "hardness:1", "--reason", "a leak")
        refused = client.post("/models/hardness/predict", json=asked)
        assert (refused.status_code, refused.json()["detail"]) == (410, "the model was revoked: a leak")
        desk.do("model", "restore", "hardness:1", "--reason", "it was none")
        assert client.post("/models/hardness/predict", json=asked).status_code == 200
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0


def test_others_are_let_in_only_by_a_word_and_a_token(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIRSTLIGHT_TOKEN", raising=False)
    there = ("model", "serve", "--host", "0.0.0.0")
    assert "say so with --open" in desk.fails(*there)
    assert "say so with --open" in desk.fails(*there, "--token", str(desk.path / "token"))
    assert "give a token with --token" in desk.fails(*there, "--open")
    loose = desk.path / "loose"
    loose.write_text(TOKEN)
    loose.chmod(0o644)
    assert "can be read by others" in desk.fails("model", "serve", "--token", str(loose))
    assert "there is no model 'hardnes'" in desk.fails("model", "serve", "hardnes")
    monkeypatch.setenv("FIRSTLIGHT_TOKEN", "short")
    assert "must be at least 16" in desk.fails("model", "serve")
    empty = Path(desk.path / "empty")
    monkeypatch.delenv("FIRSTLIGHT_TOKEN")
    assert "no model is in production" in Desk(empty).fails("model", "serve")
