"""Faults on demand in a running twin laboratory, and what it has really done, for tests, benchmarks and people.

python -m firstlight.facilities.lab.twin.control DIRECTORY state
python -m firstlight.facilities.lab.twin.control DIRECTORY executions
python -m firstlight.facilities.lab.twin.control DIRECTORY clear [DEVICE]
python -m firstlight.facilities.lab.twin.control DIRECTORY fault handler clog --now
python -m firstlight.facilities.lab.twin.control DIRECTORY fault mover hang --probability 0.1 --times 0
"""

import argparse
import itertools
import json
import socket
from pathlib import Path
from typing import Any

from ._device import Fault

_numbers = itertools.count(1)


def ask(directory: Path, do: str, **said: object) -> Any:
    """One question to the world of the laboratory whose files are in a directory.

    Raises OSError where it does not run, and ValueError where the question is nonsense.
    """
    known = json.loads((directory / "twin.json").read_text())
    with socket.create_connection(("127.0.0.1", known["world"]), 10.0) as link, link.makefile("rwb") as lines:
        lines.write(known["token"].encode() + b"\n")
        lines.write(json.dumps({"id": next(_numbers), "do": do, **said}).encode() + b"\n")
        lines.flush()
        line = json.loads(lines.readline() or b'{"error": "the world did not answer"}')
    if "fault" in line:
        raise Fault(line["fault"], line["cause"])
    if "result" not in line:
        raise ValueError(line.get("error", "cancelled"))
    return line["result"]


def fault(
    directory: Path, device: str, name: str, *, probability: float = 1.0, times: int = 1, size: float | None = None,
    seconds: float = 2.0, after: float = 0.0, now: bool = False,
) -> None:  # fmt: skip
    """Let a fault befall a device at its next `times` operations (0: for ever) with a probability, or at once.

    What there is, see `_faults.FAULTS`. `seconds` is how long a freeze or dropped replies last and `after` how long
    after an operation's begin it strikes, both wall time. `size` is of a drift: K, or a share of the lamp's light.
    Raises ValueError where this device has no such fault.
    """
    made: dict[str, object] = {
        "device": device, "fault": name, "probability": probability, "times": times, "seconds": seconds,
        "after": after, "now": now,
    }  # fmt: skip
    ask(directory, "fault", fault=made | ({} if size is None else {"size": size}))


def clear(directory: Path, device: str | None = None, name: str | None = None) -> None:
    """End faults, those armed and those that have struck, of one device or all."""
    ask(directory, "clear", device=device, fault=name)


def executions(directory: Path, after: int = 0) -> list[dict[str, Any]]:
    """The ledger: every operation that physically began, in order, with arguments and outcome."""
    return list(ask(directory, "executions", after=after))


def state(directory: Path) -> dict[str, Any]:
    """What is where, how much and how hot; whether matter is missing; how often each operation was begun."""
    return dict(ask(directory, "state"))


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m firstlight.facilities.lab.twin.control")
    parser.add_argument("directory", type=Path)
    does = parser.add_subparsers(dest="do", required=True)
    does.add_parser("state")
    does.add_parser("executions")
    cleared = does.add_parser("clear")
    cleared.add_argument("device", nargs="?")
    struck = does.add_parser("fault")
    struck.add_argument("device")
    struck.add_argument("name")
    struck.add_argument("--probability", type=float, default=1.0)
    struck.add_argument("--times", type=int, default=1, help="at how many operations; 0 for all")
    struck.add_argument("--size", type=float)
    struck.add_argument("--seconds", type=float, default=2.0)
    struck.add_argument("--after", type=float, default=0.0)
    struck.add_argument("--now", action="store_true")
    given = vars(parser.parse_args(arguments))
    directory, do = given.pop("directory"), given.pop("do")
    match do:
        case "state" | "executions":
            print(json.dumps(ask(directory, do), indent=2))
        case "clear":
            clear(directory, given["device"])
        case _:
            fault(directory, given.pop("device"), given.pop("name"), **given)


if __name__ == "__main__":
    main()
