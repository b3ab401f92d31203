"""Perform an action by running a command."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ...core import Action, Failure, Outcome
from ._interpret import interpret
from ._processes import cause_of_death, kill_family, oom_kills

# "${x}" belongs to a shell, "{ x }" and JSON to whoever reads them.
_PLACEHOLDER = re.compile(r"(?<!\$)\{([A-Za-z_]\w*)\}")


class BadCommand(Exception):
    """The settings do not say what to run."""


CONTINUED = 75
"""The exit code of a command that is to be continued later: EX_TEMPFAIL of sysexits.h."""
WARNING = signal.SIGUSR1
"""What a batch system's job is sent before its time is over, and passes on."""


def run_command(action: Action, attempt: Path, launcher: Sequence[str] = ()) -> Outcome | None:
    """Run `settings["argv"]` in the directory `attempt`; its stderr goes to this process's.

    The point is in `point.json` there. The result is `outputs.json` if the command leaves one, else the last line
    of its standard output that is JSON. An exit code other than 0 is a failure, and 75 is None: it wants to be
    continued. `launcher` goes before it.
    """
    attempt.mkdir(exist_ok=True)
    point, printed = attempt / "point.json", attempt.with_suffix(".stdout")
    point.write_text(json.dumps(action.point))
    kills = oom_kills()
    try:
        argv = [*launcher, *arguments(action)]
        environment = {**os.environ, **_extra(action), "FIRSTLIGHT_ACTION": action.id, "FIRSTLIGHT_POINT": str(point)}
        with open(printed, "wb") as stdout:
            # A process group of its own: whatever it leaves running can be ended with it.
            process = subprocess.Popen(
                argv, cwd=attempt, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, process_group=0
            )
    except BadCommand as error:
        return Failure(cause="invalid-input", message=str(error))
    except (OSError, ValueError) as error:
        return Failure(cause="invalid-input", message=f"cannot start {argv[0]!r}: {error}")
    code = _wait(process, action.limits.seconds)
    if code == CONTINUED:
        return None
    if code in (-WARNING, 128 + WARNING):
        message = (
            f"{Path(argv[0]).name} was ended by {WARNING.name}, which says that its job's time is nearly over: "
            f"have it save to FIRSTLIGHT_CHECKPOINT and exit with code {CONTINUED} then, or give it more time"
        )
        return Failure(cause="timed-out", message=message)
    if code:
        cause, how = cause_of_death(code, oom_kills() > kills)
        return Failure(cause=cause, message=f"{Path(argv[0]).name} {how}")
    return _result(attempt / "outputs.json", printed)


def arguments(action: Action) -> list[str]:
    """The command with every {parameter}, and {directory}, filled in. Raises BadCommand."""
    argv = action.settings.get("argv")
    if not isinstance(argv, list | tuple) or not argv or not all(isinstance(a, str | int | float) for a in argv):
        raise BadCommand(f"settings need argv, a list of the program and its arguments, not {argv!r}")
    files = {name: name for name in action.inputs}
    known = {"directory": action.settings.get("directory") or os.getcwd(), **files, **action.point}

    def fill(match: re.Match[str]) -> str:
        if match[1] not in known:
            near = get_close_matches(match[1], known, 1)
            hint = f"did you mean {{{near[0]}}}?" if near else f"there are {', '.join(sorted(known))}"
            raise BadCommand(f"argv names {match[0]}, which is no parameter or input; {hint}")
        return str(known[match[1]])

    return [_PLACEHOLDER.sub(fill, str(item)) for item in argv]


def _extra(action: Action) -> dict[str, str]:
    extra = action.settings.get("env", {})
    if not isinstance(extra, dict):
        raise BadCommand(f"env must be a table of names and values, not {extra!r}")
    return {str(name): str(value) for name, value in extra.items()}


def _wait(process: subprocess.Popen[bytes], seconds: float | None) -> int:
    """Wait for the end. The supervisor enforces the limit; this is for when it has died."""
    try:
        return process.wait(None if seconds is None else seconds + 5)
    finally:
        kill_group(process)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End whatever a command has left running."""
    if process.poll() is None:
        kill_family(process.pid)
        process.wait()
    try:
        os.killpg(process.pid, 9)
    except (ProcessLookupError, PermissionError):
        return  # Nothing was left, which is the usual case.


def _result(outputs: Path, stdout: Path) -> Outcome:
    if outputs.exists():
        try:
            return interpret(json.loads(outputs.read_bytes()))
        except ValueError as error:
            return Failure(cause="invalid-output", message=f"outputs.json is not JSON: {error}")
    found, value = last_json(stdout.read_text(errors="replace"))
    if not found:
        return Failure(
            cause="invalid-output", message="the command left no outputs.json and printed no line that is JSON"
        )
    return interpret(value)


def last_json(text: str) -> tuple[bool, Any]:
    """The last line that is JSON, and whether there is one."""
    for line in reversed(text.splitlines()):
        try:
            return True, json.loads(line)
        except ValueError:
            continue
    return False, None
