"""The local facility: commands."""

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from firstlight import core


def sh(script: str, **settings: object) -> dict[str, object]:
    return {"argv": ["sh", "-c", script], **settings}


def observed(outcome: core.Outcome) -> dict[str, float]:
    assert isinstance(outcome, core.Measured), outcome
    return {o.observable: o.value for o in outcome.observations}


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 2.5", {"": 2.5}),
        ('echo starting; echo \'{"y": [1, 0.1], "z": 2}\'; echo done', {"y": 1.0, "z": 2.0}),
        ("echo 1; echo '{\"y\": 4}' > outputs.json", {"y": 4.0}),
        ("echo '{\"y\": '$(grep -c temperature point.json)'}'", {"y": 1.0}),
        ('cmp "$FIRSTLIGHT_POINT" point.json && echo 3', {"": 3.0}),
        ('test "$FIRSTLIGHT_ACTION" = c1.1.evaluate && echo 5', {"": 5.0}),
        ("echo ${HOME} > /dev/null; echo {temperature}", {"": 300.5}),
    ],
)
def test_a_result_comes_from_outputs_or_the_last_line(bench: Any, script: str, expected: dict[str, float]) -> None:
    permit = bench.permit("command", point={"temperature": 300.5}, settings=sh(script))
    assert observed(bench.outcome(permit)) == expected


def test_arguments_name_parameters_and_the_directory(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "simulate.py").write_text("import sys, os; print(float(sys.argv[1]) * int(os.environ['FACTOR']))")
    settings = {
        "argv": [sys.executable, "{directory}/simulate.py", "{x}"], "env": {"FACTOR": 2}, "directory": str(tmp_path),
    }  # fmt: skip
    assert observed(bench.outcome(bench.permit("command", settings=settings))) == {"": 6.0}


@pytest.mark.parametrize(
    ("settings", "cause", "message", "log"),
    [
        (sh("echo to stderr >&2; echo to stdout; exit 3"), "crashed", "with exit code 3", "to stdout\nto stderr"),
        (sh("kill -SEGV $$"), "crashed", "SIGSEGV", ""),
        (sh("exit 139"), "crashed", "128 + SIGSEGV", ""),
        (sh("echo nothing of note"), "invalid-output", "no outputs.json", "nothing of note"),
        (sh("echo '{' > outputs.json"), "invalid-output", "outputs.json is not JSON", ""),
        (sh("echo '{\"y\": NaN}'"), "invalid-output", "'y'", ""),
        (sh('echo \'{"failure": {"cause": "did-not-converge", "message": "no"}}\''), "did-not-converge", "no", ""),
        (sh('echo \'{"failure": {"cause": "bad luck"}}\''), "invalid-output", "with one of did-not-converge", ""),
        ({"argv": ["no-such-program-here"]}, "invalid-input", "cannot start 'no-such-program-here'", ""),
        ({"argv": ["echo", "{temprature}"]}, "invalid-input", "did you mean {temperature}?", ""),
        ({"argv": []}, "invalid-input", "argv", ""),
        ({}, "invalid-input", "argv", ""),
        (sh("echo 1", env=3), "invalid-input", "env", ""),
    ],
)
def test_a_failure_says_why(bench: Any, settings: dict[str, object], cause: str, message: str, log: str) -> None:
    failure = bench.failure("command", point={"temperature": 300.5}, settings=settings)
    assert failure.cause == cause
    assert message in failure.message
    assert log in failure.log


def test_the_time_limit_ends_the_command_and_its_children(bench: Any, tmp_path: Path) -> None:
    script = f"sleep 300 & echo $! > {tmp_path}/child; wait"
    failure = bench.failure("command", settings=sh(script), limits=core.Limits(seconds=0.5))
    assert failure.cause == "timed-out"
    assert ended(tmp_path / "child")


def test_what_a_command_leaves_running_is_ended(bench: Any, tmp_path: Path) -> None:
    script = f"sleep 300 & echo $! > {tmp_path}/child; echo 1"
    assert observed(bench.outcome(bench.permit("command", settings=sh(script)))) == {"": 1.0}
    assert ended(tmp_path / "child")


def ended(child: Path) -> bool:
    state = Path(f"/proc/{child.read_text().strip()}/stat")
    for _ in range(50):
        if not state.exists() or state.read_text().split()[2] == "Z":
            return True
        time.sleep(0.02)
    return False
