"""Facilities from the command line: added, listed, examined and tried, with what is wrong said in words."""

import json
import tomllib
from typing import Any

CAMPAIGN = """
id: files
parameters:
  x: {low: 0, high: 1}
objectives:
  y: maximize
budget: {trials: 3}
strategy: random
evaluate:
  command: [sh, -c, 'wc -w < {words} > count.txt; echo "{\\"y\\": $(cat count.txt)}"']
  inputs: {words: words.txt}
  outputs: count.txt
"""


def test_one_is_added_and_a_probe_goes_there_and_back(bench: Any) -> None:
    done = bench.do("facility", "add", "near", "local", "slots=3", 'launcher="mpirun -n {processes}"')
    assert done.returncode == 0, done.stderr
    table = tomllib.loads((bench.path / "home/firstlight.toml").read_text())
    assert table == {
        "facilities": {"near": {"kind": "local", "slots": 3, "launcher": "mpirun -n {processes}"}}
    }  # fmt: skip
    report = bench.read("facility", "check", "near")
    assert report["right"] is True
    assert report["probe"]["note"] == "from here to there and back"
    assert str(bench.path / "home/facilities/near") in report["probe"]["directory"]
    listed = bench.read("facility", "list")["facilities"]
    assert [(f["facility"], f["kind"], f["slots"]) for f in listed[1:]] == [("near", "local", 3)]


def test_what_is_there_already_in_the_settings_stays_as_it_is(bench: Any) -> None:
    file = bench.path / "home/firstlight.toml"
    file.parent.mkdir()
    file.write_text('# ours\njournal = "sqlite"')
    assert bench.do("facility", "add", "near", "local", "fsync=false").returncode == 0
    assert file.read_text() == '# ours\njournal = "sqlite"\n\n[facilities.near]\nkind = "local"\nfsync = false\n'
    again = bench.do("facility", "add", "near", "local")
    assert again.returncode == 2
    assert "there is a facility near already" in again.stderr


def test_what_is_wrong_is_said_and_nothing_is_written(bench: Any) -> None:
    for words, said in [
        (("far", "nothing"), "there is no 'nothing' among the facilities"),
        (("far", "local", "slot=3"), "there is no option 'slot'; did you mean 'slots'?"),
        (("far", "local", "slots"), "is not OPTION=VALUE"),
        (("far", "local", "slots=-1"), "must be at least 1"),
        (("any", "local"), "cannot name a facility"),
        (("Far", "local"), "cannot name a facility"),
    ]:
        done = bench.do("facility", "add", *words)
        assert done.returncode == 2, words
        assert said in done.stderr, done.stderr
        assert not (bench.path / "home/firstlight.toml").exists()
    done = bench.do("facility", "check", "nowhere")
    assert done.returncode == 2
    assert "there are: local" in done.stderr


def test_a_probe_that_fails_says_why(bench: Any) -> None:
    (bench.path / "home").mkdir()
    (bench.path / "home/facilities").write_text("a file where a directory must be")
    done = bench.do("facility", "check", "local", "--json")
    assert done.returncode == 6
    told = json.loads(done.stdout)
    assert told["right"] is False
    assert told["failure"]["message"]


def test_files_go_in_and_come_out_of_a_campaign(bench: Any) -> None:
    (bench.path / "words.txt").write_text("one two three")
    (bench.path / "files.yaml").write_text(CAMPAIGN)
    done = bench.do("run", "files.yaml", "--no-report")
    assert done.returncode == 0, done.stderr
    log = [json.loads(line) for line in bench.do("log", "files", "--json").stdout.splitlines()]
    ended = [e["measured"] for e in log if e["kind"] == "ActionSucceeded"]
    assert [m["observations"][0]["value"] for m in ended] == [3.0] * 3
    (digest,) = {m["assets"][0]["digest"] for m in ended}
    kept = bench.path / "home/assets/sha256" / digest[7:9] / digest[7:]
    assert kept.read_text() == "3\n"
