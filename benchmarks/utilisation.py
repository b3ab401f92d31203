"""What part of slot time is spent on trials, while the model of a thousand of them is fitted beside.

    make setup-engines && .venv/engines/bin/python benchmarks/utilisation.py [--slots 32] [--trials 1000] [--seed 1]
        [--only NAME ...] [--json] [--out DIR]

Trials sleep for times drawn log-normal around 1 s (sigma 0.5). The k-th that begins sleeps for the k-th time of one
list, whoever performs it. Workers themselves write down when a sleep began and ended; nobody else is asked. Busy is

    the part of all sleeps that lies in the window / (slots x the length of the window),

and the window reaches from the first moment at which as many slots sleep as ever do at once (all of them, where a
contender ever fills them) to the last beginning of a sleep: after the start, and before there is nothing left to begin.

Ours chooses every point with bayes, of five continuous parameters, durably, and as many points ahead of need as there
are slots (--ahead; a quarter of the slots is the default of campaigns). The others choose at random and model
nothing: libEnsemble has points in store, Colmena refills a slot when a result comes in. With --out, a figure of the
slots that were busy over time (needs matplotlib).
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import engines

GOAL = 0.97
CONTENDERS = {
    "libensemble": "libEnsemble, random points in store",
    "colmena": "Colmena, random points, a slot refilled by each result",
    "random": "firstlight, random points",
    "bayes": "firstlight, bayes",
}
MODULES = {"libensemble": "libensemble", "colmena": "colmena"}
OURS = ("random", "bayes")


class Sleep(NamedTuple):
    """As a worker wrote it down: seconds of a clock that all processes of a machine share."""

    start: float
    end: float


class Found(NamedTuple):
    """`busy` is the part of slot time, `most` how many slots were ever busy at once; `window` and `whole` are seconds.

    `gap` is the median time (s) in which a slot that fell free in the window got its next sleep.
    """

    busy: float
    most: int
    window: float
    whole: float
    gap: float


def read(diary: str) -> dict[int, list[Sleep]]:
    """The sleeps of each worker, in order."""
    found: dict[int, list[Sleep]] = {}
    for line in Path(diary).read_text().splitlines():
        _, start, end, worker = line.split()
        found.setdefault(int(worker), []).append(Sleep(float(start), float(end)))
    return {worker: sorted(sleeps) for worker, sleeps in found.items()}


def levels(sleeps: Sequence[Sleep]) -> list[tuple[float, int]]:
    """How many sleep from each moment on at which that changes; at equal times, ends go first."""
    changes = sorted([(s.start, 1) for s in sleeps] + [(s.end, -1) for s in sleeps])
    found, now = [], 0
    for at, change in changes:
        now += change
        found.append((at, now))
    return found


def judge(diary: Mapping[int, Sequence[Sleep]], slots: int) -> Found:
    """The figures of one contender."""
    sleeps = [sleep for worker in diary.values() for sleep in worker]
    course = levels(sleeps)
    most = max(count for _, count in course)
    begin = next(at for at, count in course if count == most)
    end = max(s.start for s in sleeps)
    slept = sum(max(0.0, min(s.end, end) - max(s.start, begin)) for s in sleeps)
    gaps = sorted(
        after.start - before.end
        for worker in diary.values()
        for before, after in pairwise(worker)
        if before.end >= begin
    )
    whole = max(s.end for s in sleeps) - min(s.start for s in sleeps)
    return Found(slept / (slots * (end - begin)), most, end - begin, whole, gaps[len(gaps) // 2])


def draw(diaries: Mapping[str, Mapping[int, Sequence[Sleep]]], slots: int, file: Path) -> None:
    """Busy slots over time, a panel a contender."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(len(diaries), 1, sharex=True, squeeze=False, figsize=(9, 1.9 * len(diaries)))
    for panel, (name, diary) in zip(panels[:, 0], diaries.items(), strict=True):
        course = levels([sleep for worker in diary.values() for sleep in worker])
        first = course[0][0]
        panel.fill_between([at - first for at, _ in course], [count for _, count in course], step="post", linewidth=0)
        panel.set(ylim=(0, slots * 1.05), ylabel="busy slots")
        panel.set_title(CONTENDERS[name], loc="left", fontsize=9)
    panels[-1, 0].set_xlabel("seconds since the first trial began")
    figure.tight_layout()
    figure.savefig(file, dpi=150)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ahead", type=int, help="points ours chooses ahead of need (default: as many as slots)")
    parser.add_argument("--facility", default="local", help="where our own trials are performed: local or parsl")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--out", type=Path, metavar="DIR")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    absent = [name for name in given.only if name in MODULES and find_spec(MODULES[name]) is None]
    if absent:
        print(f"not installed, and left out: {', '.join(absent)} (make setup-engines)", file=sys.stderr)
    diaries: dict[str, dict[int, list[Sleep]]] = {}
    found: dict[str, Found] = {}
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".engines-", ignore_cleanup_errors=True) as scratch:
        for name in (name for name in given.only if name not in absent):
            room = Path(scratch) / name
            room.mkdir()
            who, strategy = ("firstlight", name) if name in OURS else (name, "")
            plan = engines.Plan(
                who,
                str(room),
                given.trials,
                given.slots,
                given.seed,
                strategy=strategy,
                facility=given.facility,
                ahead=given.slots if given.ahead is None else given.ahead,
            )
            engines.perform(plan)
            diaries[name] = read(plan.diary)
            found[name] = judge(diaries[name], given.slots)
            if not given.json:
                f = found[name]
                print(
                    f"{f.busy:7.2%} busy for {f.window:6.1f} s, at most {f.most} at once;"
                    f" a slot waits {1e3 * f.gap:6.1f} ms; {f.whole:6.1f} s in all  {CONTENDERS[name]}",
                    flush=True,
                )
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        if find_spec("matplotlib"):
            draw(diaries, given.slots, given.out / "utilisation.png")
        else:
            print("no figure: matplotlib is not installed", file=sys.stderr)
    met = {"at least 97 % of slot time busy": found["bayes"].busy >= GOAL} if "bayes" in found else {}
    if given.json:
        figures = {name: f._asdict() for name, f in found.items()}
        print(json.dumps({"found": figures, "goals": met, "left_out": absent}))
    else:
        for goal, reached in met.items():
            print(f"{'PASS' if reached else 'FAIL'}  {goal}")
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
