"""Small pools made up for tests, and strategies that do as they are told."""

import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from firstlight import core
from firstlight.backtest import Pool, Settings

NOWHERE = core.ProcedureSpec(steps=(core.StepSpec(operation="look up", facility="caller"),))


def a_pool(
    values: Sequence[Sequence[float] | float], name: str = "made", direction: str = "maximize", objectives: int = 1
) -> Pool:
    """A pool of the points x = 0, 1, 2, ...: each with its replicates, or one value; an empty sequence fails."""
    rows = tuple((float(i),) for i in range(len(values)))
    outcomes = [v if isinstance(v, Sequence) else [v] for v in values]
    return Pool(
        name=name,
        spec=core.CampaignSpec(
            id=name, parameters=(core.Continuous(name="x", low=0, high=max(1.0, len(values) - 1.0)),),
            goal=core.Goal(objectives=(core.Objective(observable="y", direction=direction),)),  # type: ignore[arg-type]
            procedure=NOWHERE, pool=core.Pool(columns=("x",), rows=rows),
        ),
        observables=("y",), outcomes=tuple(tuple((float(r),) for r in replicates) for replicates in outcomes),
    )  # fmt: skip


def two_objectives(values: Sequence[tuple[float, float]], name: str = "two") -> Pool:
    """A pool of the points x = 0, 1, 2, ... with two objectives to minimise."""
    rows = tuple((float(i),) for i in range(len(values)))
    goal = core.Goal(objectives=tuple(core.Objective(observable=o, direction="minimize") for o in ("a", "b")))
    return Pool(
        name=name,
        spec=core.CampaignSpec(
            id=name, parameters=(core.Continuous(name="x", low=0, high=len(values) - 1.0),), goal=goal,
            procedure=NOWHERE, pool=core.Pool(columns=("x",), rows=rows),
        ),
        observables=("a", "b"), outcomes=tuple((tuple(map(float, v)),) for v in values),
    )  # fmt: skip


class Scripted:
    """Proposes the rows of a pool in a given order, and remembers what it was told."""

    def __init__(self, pool: Pool, order: Sequence[int]) -> None:
        self.pool, self.order = pool, order
        self.heard: list[core.Results] = []
        self.asked: list[tuple[int, int]] = []

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> list[core.Proposal]:
        self.heard.append(results)
        self.asked.append((count, seed))
        done = len(results.rows)
        return [core.Proposal(point=self.pool.points[i]) for i in self.order[done : done + count]]


USUAL = Settings(budget=20)


def olympus(
    directory: Path, rows: str, parameters: Sequence[Mapping[str, object]], measurements: Sequence[str] = ("yield",),
    goal: object = "maximize", constraints: str = "none",
) -> None:  # fmt: skip
    """A folder in the form of Olympus."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {
        "constraints": {"parameters": constraints}, "parameters": list(parameters),
        "measurements": [{"name": m, "type": "continuous"} for m in measurements], "default_goal": goal,
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "data.csv").write_text(rows)


def parabola(directory: Path, name: str = "hill", peak: float = 5.0, side: int = 9) -> None:
    """A grid of side x side points with one summit, as a table and a description beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = ["a,b,yield"]
    lines += [f"{a},{b},{100 - (a - peak) ** 2 - (b - 2) ** 2}" for a, b in product(range(side), repeat=2)]
    (directory / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (directory / f"{name}.yaml").write_text("objectives: {yield: maximize}\n")
