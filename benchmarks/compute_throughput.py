"""Tasks a second that do nothing: through our whole loop, and through other people's engines, in one run.

    make setup-engines && .venv/engines/bin/python benchmarks/compute_throughput.py [--tasks 1000] [--workers 2]
        [--repeats 3] [--facility parsl] [--only NAME ...] [--json]

Contenders take turns, each in a process of its own, and are timed from the first submission to the last result, with
their workers up and warm; medians count. Raw Parsl and Colmena are given all their tasks at once, libEnsemble always
has a point in store for every worker: what is most favourable to each. Ours is the whole campaign with --depth trials
under way at once: random points, the gate, the journal, the facility, the dataset and its publication. What each has
on disk when a task has ended, and so would still have after a power cut, is said beside its figure. Everybody writes
below --scratch: a file system without a free place for inodes near a directory takes ten times as long to make one.
"""

import argparse
import json
import statistics
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import engines


class Contender(NamedTuple):
    """Who takes part, and what it keeps."""

    title: str
    who: str
    keeps: str
    durable: bool = True


CONTENDERS = {
    "parsl": Contender("Parsl, HTEX", "parsl", "nothing"),
    "parsl-checkpoint": Contender(
        "Parsl, HTEX, checkpoint task_exit", "parsl-checkpoint", "results, written without fsync"
    ),
    "colmena": Contender("Colmena, pipes, Parsl HTEX", "colmena", "nothing"),
    "libensemble": Contender("libEnsemble, local comms", "libensemble", "nothing before the end"),
    "firstlight": Contender("firstlight, SQLite", "firstlight", "every fact and every result, fsynced"),
    "firstlight-memory": Contender(
        "firstlight, memory, no fsync", "firstlight", "results, written without fsync", False
    ),
}
MODULES = {"parsl": "parsl", "parsl-checkpoint": "parsl", "colmena": "colmena", "libensemble": "libensemble"}


def goals(rates: dict[str, float]) -> dict[str, bool]:
    """What is to be shown, of those who took part."""
    found = {}
    if {"firstlight", "parsl"} <= rates.keys():
        found["at least 80 % of raw Parsl, durable"] = rates["firstlight"] >= 0.8 * rates["parsl"]
    if {"firstlight", "colmena"} <= rates.keys():
        found["more than Colmena, durable"] = rates["firstlight"] > rates["colmena"]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--facility", default="parsl", help="where our own tasks are performed: parsl or local")
    parser.add_argument("--depth", type=int, default=128, help="trials of ours that are under way at once")
    parser.add_argument("--scratch", type=Path, default=Path("/var/tmp"), help="a directory on a disk, for everybody")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    absent = [name for name in given.only if name in MODULES and find_spec(MODULES[name]) is None]
    if absent:
        print(f"not installed, and left out: {', '.join(absent)} (make setup-engines)", file=sys.stderr)
    taking_part = [name for name in given.only if name not in absent]
    measured: dict[str, list[float]] = {name: [] for name in taking_part}
    with tempfile.TemporaryDirectory(dir=given.scratch, prefix="engines-", ignore_cleanup_errors=True) as scratch:
        for turn in range(given.repeats):
            for name in taking_part:
                contender, room = CONTENDERS[name], Path(scratch) / f"{turn}-{name}"
                room.mkdir()
                plan = engines.Plan(
                    contender.who, str(room), given.tasks, given.workers,
                    facility=given.facility, durable=contender.durable, depth=given.depth,
                )  # fmt: skip
                measured[name].append(given.tasks / engines.perform(plan))
                if not given.json:
                    print(
                        f"{turn + 1} of {given.repeats}: {measured[name][-1]:9,.1f} tasks/s  {contender.title}",
                        flush=True,
                    )
    rates = {name: statistics.median(found) for name, found in measured.items()}
    met = goals(rates)
    if given.json:
        print(json.dumps({"tasks_per_second": measured, "medians": rates, "goals": met, "left_out": absent}))
        return 0 if all(met.values()) else 1
    print(f"\n{'median':>9} {'least':>9} {'most':>9}  {'ours : theirs':>13}  tasks/s")
    for name, rate in rates.items():
        ratio = f"{rates['firstlight'] / rate:.2f}" if "firstlight" in rates else ""
        title = CONTENDERS[name].title + (f" on {given.facility}" if CONTENDERS[name].who == "firstlight" else "")
        found = measured[name]
        spread = f"{min(found):9,.1f} {max(found):9,.1f}"
        print(f"{rate:9,.1f} {spread}  {ratio:>13}  {title}; keeps {CONTENDERS[name].keeps}")
    for goal, reached in met.items():
        print(f"{'PASS' if reached else 'FAIL'}  {goal}")
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
