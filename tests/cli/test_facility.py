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

LONG = """
id: long
parameters:
  x: {low: 0, high: 1}
objectives:
  y: maximize
budget: {trials: 1}
strategy: random
evaluate: {command: [sh, -c, "touch {directory}/busy; sleep 20; echo 1"]}
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
    file.chmod(0o600)
    assert bench.do("facility", "add", "near", "local", "fsync=false").returncode == 0
    assert file.read_text() == '# ours\njournal = "sqlite"\n\n[facilities.near]\nkind = "local"\nfsync = false\n'
    assert file.stat().st_mode & 0o777 == 0o600
    again = bench.here("facility", "add", "near", "local")
    assert again.exit_code == 2
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
        done = bench.here("facility", "add", *words)
        assert done.exit_code == 2, words
        assert said in done.stderr, done.stderr
        assert not (bench.path / "home/firstlight.toml").exists()
    done = bench.here("facility", "check", "nowhere")
    assert done.exit_code == 2
    assert "there are: local" in done.stderr


def test_a_probe_that_fails_says_why(bench: Any) -> None:
    (bench.path / "home").mkdir()
    (bench.path / "home/facilities").write_text("a file where a directory must be")
    done = bench.do("facility", "check", "local", "--json")
    assert done.returncode == 6
    told = json.loads(done.stdout)
    assert told["right"] is False
    assert told["failure"]["message"]
    read = bench.here("facility", "check", "local")
    assert "the probe was not performed" in read.stdout
    # What is wrong comes with advice, and what is right is left out.
    assert "Free it, correct its permissions" in " ".join((read.stdout + read.stderr).split())
    assert "this machine" not in read.stdout + read.stderr


def test_the_doctor_says_what_is_wrong_and_the_list_that_it_is_down(bench: Any) -> None:
    assert bench.here("facility", "doctor", "local").exit_code == 0
    (bench.path / "home").mkdir(exist_ok=True)
    (bench.path / "home/facilities").write_text("a file where a directory must be")
    done = bench.do("facility", "doctor", "local", "--json")
    assert done.returncode == 6
    wrong = [f for f in json.loads(done.stdout)["findings"] if not f["right"]]
    assert [f["what"] for f in wrong] == ["its directory"]
    assert "is in the way" in wrong[0]["seen"]
    (listed,) = bench.read("facility", "list")["facilities"]
    assert listed["state"] == "down"
    assert "is in the way" in listed["message"]


def test_a_probe_that_does_not_come_to_its_turn_is_cancelled(bench: Any) -> None:
    assert bench.here("facility", "add", "near", "local", "slots=1").exit_code == 0
    (bench.path / "long.yaml").write_text(LONG)
    bench.begin("run", "long.yaml", "--facility", "near", "--no-report")
    bench.until(lambda: (bench.path / "busy").exists())
    done = bench.do("facility", "check", "near", "--wait", "1", "--json")
    assert done.returncode == 6
    failure = json.loads(done.stdout)["failure"]
    assert failure["cause"] == "timed-out"
    assert "it is queued" in failure["message"]
    (probe,) = (bench.path / "home/facilities/near/actions").glob("probe-*")
    bench.until(lambda: (probe / "result.json").exists())
    assert json.loads((probe / "result.json").read_text())["cause"] == "cancelled"


def test_files_go_in_and_come_out_of_a_campaign(bench: Any) -> None:
    (bench.path / "words.txt").write_text("one two three")
    (bench.path / "files.yaml").write_text(CAMPAIGN)
    done = bench.do("run", "files.yaml", "--no-report")
    assert done.returncode == 0, done.stderr
    ended = [e["measured"] for e in bench.facts("files") if e["kind"] == "ActionSucceeded"]
    assert [m["observations"][0]["value"] for m in ended] == [3.0] * 3
    (digest,) = {m["assets"][0]["digest"] for m in ended}
    kept = bench.path / "home/assets/sha256" / digest[7:9] / digest[7:]
    assert kept.read_text() == "3\n"
