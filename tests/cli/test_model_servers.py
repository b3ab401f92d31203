"""Verbs that answer over HTTP, in processes of their own: sites that train one model, each behind its own gate, and a
server of what is in production."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from firstlight import config
from firstlight.app import App

from .test_model_train import Desk

pytest.importorskip("torch")
httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

from firstlight import together  # noqa: E402
from firstlight.models.site import Ask  # noqa: E402

PROGRAM = [sys.executable, "-c", "from firstlight.cli import main; main()"]
TOKEN = "a-token-that-is-long-enough"
TERMS = """
run: hardness-2026
family: table
rounds: 3
options: {target: hardness, inputs: [temperature, carbon], group: campaign, members: 2, width: 8, depth: 1}
"""
START = """
name: start
family: table
data: [steels]
options: {target: hardness, inputs: [temperature, carbon], group: campaign, members: 2, width: 8, depth: 1}
training: {steps: 4, validate: 2, learning_rate: 0.01}
gate: {baselines: false}
"""


class Site(Desk):
    """An organisation with data, in twelve campaigns, and what it starts."""

    def __init__(self, path: Path, name: str, seed: int, question: str = "") -> None:
        path.mkdir()
        super().__init__(path)
        self.name = name
        rng = np.random.default_rng(seed)
        t, c = rng.uniform(300, 900, 96), rng.uniform(0, 1, 96)
        rows = [f"kestrel-{name}-{k // 8},{a},{b},{2 + b + a / 500}" for k, (a, b) in enumerate(zip(t, c, strict=True))]
        (path / "steels.csv").write_text("campaign,temperature [K],carbon,hardness [GPa]\n" + "\n".join(rows))
        self.do("data", "add", str(path / "steels.csv"), "--set", "training=Yes", "--set", "licence=CC-BY-4.0")
        (path / "token").write_text(TOKEN)
        (path / "token").chmod(0o600)
        (path / "terms.yaml").write_text(TERMS)
        (path / "site.yaml").write_text(
            f"name: {name}\ndata: [steels]\nruns: [terms.yaml]\naddress: 127.0.0.1:0\ntoken: token\n"
            f"privacy: {{least_groups: 3}}\n" + (f"approval: {question}\n" if question else "")
        )

    def begin(self) -> "subprocess.Popen[str]":
        environment = os.environ | {"FIRSTLIGHT_HOME": str(self.home), "OMP_NUM_THREADS": "1"}
        words = [*PROGRAM, "model", "site", str(self.path / "site.yaml"), "--json"]
        return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)

    def log(self) -> list[dict[str, Any]]:
        lines = (self.home / "together" / self.name / "site.log").read_text().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Site], dict[str, Any]]]:
    """Two that run, of which birch asks a person first; and what they said when they began."""
    folder = tmp_path_factory.mktemp("together")
    made = {
        "aspen": Site(folder / "aspen", "aspen", 1),
        "birch": Site(folder / "birch", "birch", 2, "May birch learn together with aspen?"),
    }
    with ExitStack() as stack:
        begun = {name: stack.enter_context(site.begin()) for name, site in made.items()}
        said = {name: json.loads(p.stdout.readline()) | {"process": p} for name, p in begun.items() if p.stdout}
        yield made, said
        for process in begun.values():
            process.kill()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The coordinator's, with a model to begin with in production."""
    made = Site(tmp_path_factory.mktemp("desk") / "desk", "desk", 3)
    (made.path / "start.yaml").write_text(START)
    made.do("model", "train", str(made.path / "start.yaml"))
    made.do("model", "promote", "start:1")
    return made


def test_sites_train_one_model_each_behind_its_own_gate(sites: Any, desk: Site) -> None:
    made, said = sites
    (id,) = (run["campaign"] for run in said["birch"]["runs"])
    assert said["birch"]["runs"][0]["waits"] == "May birch learn together with aspen?"
    assert said["aspen"]["runs"][0]["waits"] == ""
    places = "".join(f"  {name}: {{url: '{told['address']}', token: token}}\n" for name, told in said.items())
    spec = desk.path / "run.yaml"
    judged = "name: hardness\ndata: [steels]\ngate: {baselines: false, at_most: {rmse: 9}}\nlicence: CC-BY-4.0\n"
    steps = "validate: 3\nsteps: {learning_rate: 0.02}\n"
    spec.write_text(f"terms: terms.yaml\nstart: start:1\n{judged}{steps}sites:\n{places}")
    run = ("model", "together", str(spec), str(desk.path / "run"))
    # Nothing leaves birch before somebody has said yes, and with aspen alone there is no step.
    told = desk.fails(*run, code=6)
    assert "birch: a person of this site has not said yes yet: May birch learn together with aspen?" in told
    assert all(not entry["answered"] for entry in made["birch"].log())
    made["birch"].do("approve", id, "contribute")
    made["aspen"].do("pause", said["aspen"]["runs"][0]["campaign"])
    assert "this site's part in 'hardness-2026' is paused" in desk.fails(*run, code=6)
    made["aspen"].do("resume", said["aspen"]["runs"][0]["campaign"])
    lines = [json.loads(line) for line in desk.do(*run, "--json").splitlines()]
    assert [line["progress"]["round"] for line in lines[:-1]] == [1, 2, 3]
    assert lines[-1]["sites"]["birch"] == {
        "rounds": 3,
        "examples": lines[-1]["sites"]["birch"]["examples"],
        "withdrew": "",
    }
    assert (Path(lines[-1]["release"]) / "model.safetensors").exists()
    # It is a version like any other, judged on what the coordinator has, and whom it has learned from can be followed.
    shown = desk.read("model", "show", lines[-1]["version"])
    assert (shown["version"], shown["licence"], shown["parent_scores"].keys()) == (
        "hardness:1", "CC-BY-4.0", shown["scores"].keys(),
    )  # fmt: skip
    assert shown["lineage"]["data"] == ["together/hardness-2026/aspen", "together/hardness-2026/birch"]
    (touched,) = desk.read("model", "touched", "together/hardness-2026/birch")["touched"]
    assert touched["version"] == "hardness:1"
    assert json.loads(desk.do(*run, "--json").splitlines()[-1])["version"] == "hardness:1", "the same again"
    for name, site in made.items():
        answered = [e for e in site.log() if e["what"] == "gradient" and e["answered"] and not e["again"]]
        part = said[name]["runs"][0]["campaign"]
        assert [e["round"] for e in answered] == [1, 2, 3]
        assert all(e["allowed"].startswith(part) and "owner/within-budget" in e["allowed"] for e in answered)
        said[name]["process"].send_signal(signal.SIGTERM)
        assert said[name]["process"].wait(30) == 0
        shown = site.read("show", part)
        assert (shown["state"], shown["succeeded"], shown["waiting"]) == ("closed", 1, [])
        assert [f["kind"] for f in site.read("data", "search")["found"]] == ["dataset"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("least_groups: 3", "least_group: 3"), "did you mean 'least_groups'?"),
        (("[terms.yaml]", "[other.yaml]"), "other.yaml"),
        (("name: aspen", "name: a/b"), "a site cannot be called 'a/b'"),
        (("127.0.0.1:0", "0.0.0.0:0"), "say so with --open"),
        (("[steels]", "[steals]"), "'steals' finds nothing"),
        (("127.0.0.1:0", "here"), "must be HOST:PORT"),
        (("token: token", "token: nothing"), "cannot be read from"),
        (("token: token\n", ""), "what the coordinator must show"),
    ],
)
def test_what_is_wrong_with_a_site_is_said_before_it_begins(sites: Any, change: tuple[str, str], said: str) -> None:
    aspen = sites[0]["aspen"]
    file = aspen.path / "wrong.yaml"
    file.write_text((aspen.path / "site.yaml").read_text().replace(*change))
    assert said in aspen.fails("model", "site", str(file)).replace("\n", " ")


# ------------------------------------------------------------------ what is in production


@pytest.fixture
def server(desk: Site) -> Iterator[Any]:
    words = ["model", "serve", "--port", "0", "--token", str(desk.path / "token"), "--json"]
    environment = {k: v for k, v in os.environ.items() if k != "FIRSTLIGHT_TOKEN"} | {"FIRSTLIGHT_HOME": str(desk.home)}
    with subprocess.Popen([*PROGRAM, *words], env=environment, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_what_is_in_production_answers_until_it_is_revoked_and_the_server_ends_well(desk: Site, server: Any) -> None:
    told = json.loads(server.stdout.readline())
    assert [m["version"] for m in told["models"]] == ["start:1"] and told["address"].startswith("http://127.0.0.1:")
    with httpx.Client(base_url=told["address"], trust_env=False, timeout=60) as client:
        assert client.get("/models").status_code == 401
        client.headers["authorization"] = f"Bearer {TOKEN}"
        shown = client.get("/models/start").json()
        assert set(shown["inputs"]) == {"temperature", "carbon"} and shown["card"].startswith("---")
        assert shown["licence"] == "CC-BY-4.0" and shown["limits"]
        asked = {"points": [{"temperature": 500.0, "carbon": 0.5}]}
        (said,) = client.post("/models/start/predict", json=asked).json()["predictions"]
        assert said["values"]["hardness"]["sigma"] > 0
        desk.do("model", "revoke", "start:1", "--reason", "a leak")
        refused = client.post("/models/start/predict", json=asked)
        assert (refused.status_code, refused.json()["detail"]) == (410, "the model was revoked: a leak")
        desk.do("model", "restore", "start:1", "--reason", "it was none")
        assert client.post("/models/start/predict", json=asked).status_code == 200
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0


def test_others_are_let_in_only_by_a_word_and_a_token(desk: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIRSTLIGHT_TOKEN", raising=False)
    there = ("model", "serve", "--host", "0.0.0.0")
    assert "say so with --open" in desk.fails(*there)
    assert "say so with --open" in desk.fails(*there, "--token", str(desk.path / "token"))
    assert "give a token with --token" in desk.fails(*there, "--open")
    loose = desk.path / "loose"
    loose.write_text(TOKEN)
    loose.chmod(0o644)
    assert "can be read by others" in desk.fails("model", "serve", "--token", str(loose))
    assert "there is no model 'strat'" in desk.fails("model", "serve", "strat")
    monkeypatch.setenv("FIRSTLIGHT_TOKEN", "short")
    assert "must be at least 16" in desk.fails("model", "serve")
    monkeypatch.delenv("FIRSTLIGHT_TOKEN")
    assert "no model is in production" in Desk(desk.path / "empty").fails("model", "serve")


def test_a_part_that_is_refused_or_stopped_or_on_other_terms_gives_nothing(tmp_path: Path) -> None:
    oak = Site(tmp_path / "oak", "oak", 4, "May oak?")
    told = config.load_settings(oak.home, {})

    def enrolled() -> tuple[str, together.Gate, Ask]:
        spec = together.read_site(oak.path / "site.yaml", config.read_document)

        async def enrol() -> dict[str, str]:
            async with App.open(told) as app:
                return (await together.enrol(app, spec))[2]

        (id,) = asyncio.run(enrol()).values()
        return id, together.Gate(told, spec, {spec.runs[0].run: id}), Ask(what="gradient", terms=spec.runs[0], round=1)

    id, gate, ask = enrolled()
    assert enrolled()[0] == id, "the same site, terms and data are the same campaign"
    assert gate(ask) == (False, "a person of this site has not said yes yet: May oak?")
    assert "not those that this site agreed to" in gate(replace(ask, terms=replace(ask.terms, rounds=4)))[1]
    oak.do("refuse", id, "contribute", "--reason", "not these data")
    allowed, why = gate(ask)
    assert not allowed and why.startswith("this site's part in 'hardness-2026' has ended") and "not these data" in why
    # Another question is another part, judged anew.
    file = oak.path / "site.yaml"
    file.write_text(file.read_text().replace("May oak?", "May oak now?"))
    other, gate, ask = enrolled()
    assert other != id and not gate(ask)[0]
    oak.do("approve", other, "contribute")
    assert gate(ask)[0]
    oak.do("stop", other)
    assert gate(ask) == (False, "this site's part in 'hardness-2026' is stopped")
