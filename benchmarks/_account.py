"""What the crash benchmarks share: the work that is done, and the account of what came of it.

The work leaves a line in a file when it begins and when it ends, so that performances can be counted without asking
anybody whose word is to be tested.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from firstlight import config, core, engine
from firstlight.app import App

WORK = '''
import os, time

def work(point):
    """Say when it is executed, take its time, give a number back."""
    def say(what):
        with open(os.path.join(os.path.dirname(__file__), "executions.log"), "ab", buffering=0) as file:
            file.write(f"{what} {point['x']!r} {time.time()!r} {os.getpid()}\\n".encode())
    say("START")
    time.sleep(point["t"])
    say("END")
    return point["x"]
'''

MUST_BE_ZERO = (
    "trials without exactly one outcome",
    "trials that failed",
    "committed results lost",
    "outcomes without a committed result",
    "executed again after the result was committed",
    "live folds unlike the replayed",
    "open or pending at the end",
)


def spec(
    id: str, directory: Path, trials: int, seed: int, *, seconds: tuple[float, float], parallel: int, facility: str
) -> core.CampaignSpec:
    """Trials that last between so many seconds each."""
    step = core.StepSpec(operation="storm_work:work", facility=facility, settings={"directory": str(directory)})
    return core.CampaignSpec(
        id=id,
        parameters=(
            core.Continuous(name="x", low=0.0, high=1.0),
            core.Continuous(name="t", low=seconds[0], high=seconds[1], scale="log", unit="s"),
        ),
        goal=core.Goal(
            objectives=(core.Objective(observable="y", direction="maximize"),), budget=core.Budget(trials=trials)
        ),
        procedure=core.ProcedureSpec(steps=(step,)),
        strategy=core.StrategySpec(name="random"),
        parallel=parallel,
        seed=seed,
    )


async def begin(directory: Path, specs: Sequence[core.CampaignSpec]) -> None:
    """Open the campaigns, with the work that they are to do beside them."""
    (directory / "storm_work.py").write_text(WORK)
    async with App.open(config.load_settings(directory / "home", {})) as app:
        for each in specs:
            await app.create(app.check_spec(each), "storm")


def note_folds(directory: Path, id: str) -> engine.Listener:
    """A listener that notes the live fold of a campaign after every fact."""
    folds = open(directory / f"folds-{id}.log", "ab", buffering=0)  # noqa: SIM115 (as long as its process lives)

    def note(entry: core.Entry, campaign: core.Campaign) -> None:
        folds.write(f"{entry.seq} {_digest(campaign)}\n".encode())

    return note


async def account(directory: Path, id: str, trials: int) -> dict[str, int]:
    """Hold the journal, the run directories and the executions of a campaign against one another."""
    home = directory / "home"
    async with App.open(config.load_settings(home, {})) as app:
        entries = [entry async for entry in app.journal.read(id)]
        campaign, ledger = await engine.recover(id, app.journal)
    outcomes: Counter[str] = Counter()
    values: dict[str, float] = {}
    points: dict[str, str] = {}
    for entry in entries:
        match entry.fact:
            case core.ActionSucceeded(action=action, measured=measured):
                outcomes[action] += 1
                values[action] = measured.observations[0].value
            case core.ActionFailed(action=action):
                outcomes[action] += 1
            case core.TrialProposed(actions=actions, point=point):
                points |= {a.id: repr(point["x"]) for a in actions}
    committed = _committed(home / "facilities", points)
    starts, ends = _executions(directory / "executions.log")
    compared, unlike = _folds(directory / f"folds-{id}.log", entries)
    executed = sum(len(starts.get(x, [])) for x in points.values())
    return {
        "trials": campaign.succeeded + campaign.failed,
        "trials without exactly one outcome": sum(outcomes[a] != 1 for a in points) + (trials - len(points)),
        "trials that failed": campaign.failed,
        "committed results": len(committed),
        "committed results lost": sum(values.get(a) != value for a, (_, value) in committed.items()),
        "outcomes without a committed result": sum(a not in committed for a in values),
        "executions": executed,
        "extra executions": executed - len(points),
        "of them to the end": sum(max(0, ends[x] - 1) for x in points.values()),
        "executed again after the result was committed": sum(
            any(at > committed[a][0] for at in starts.get(x, [])) for a, x in points.items() if a in committed
        ),
        "live folds compared": compared,
        "live folds unlike the replayed": unlike,
        "open or pending at the end": len(campaign.open) + len(ledger.view().pending),
        "facts": len(entries),
    }


def _digest(campaign: core.Campaign) -> str:
    """A campaign as a few letters."""
    return hashlib.sha256(msgspec.json.encode(campaign, order="sorted")).hexdigest()[:16]


def _committed(facilities: Path, points: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """When each action's one result was committed, and its value, as the run directories have it."""
    found = {}
    for path in facilities.glob("*/actions/*/result.json"):
        action = json.loads((path.parent / "spec.json").read_text())["action"]["id"]
        outcome = json.loads(path.read_text())
        if action in points and outcome["type"] == "measured":
            found[action] = (path.stat().st_ctime, float(outcome["observations"][0]["value"]))
    return found


def _executions(log: Path) -> tuple[dict[str, list[float]], Counter[str]]:
    """When each point's work was begun, and how often it ended."""
    starts: dict[str, list[float]] = {}
    ends: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        what, x, at, _ = line.split()
        if what == "START":
            starts.setdefault(x, []).append(float(at))
        else:
            ends[x] += 1
    return starts, ends


def _folds(log: Path, entries: Sequence[core.Entry]) -> tuple[int, int]:
    """How many live folds were noted, and how many of them are unlike the replayed."""
    campaign = core.open_campaign(entries[0])
    folded = {1: _digest(campaign)}
    for entry in entries[1:]:
        campaign = core.reduce(campaign, entry)
        folded[entry.seq] = _digest(campaign)
    live = [line.split() for line in log.read_text().splitlines() if len(line.split()) == 2]
    return len(live), sum(folded.get(int(seq)) != digest for seq, digest in live)
