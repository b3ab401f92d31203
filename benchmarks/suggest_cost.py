"""Milliseconds a suggestion of the default strategy, by observations and dimensions.

    python benchmarks/suggest_cost.py

"first" is a new instance that fits its hyper-parameters; "next" has one more observation and mostly finds them fitted.
"""

import time

import numpy as np

from firstlight import core
from firstlight.strategies.bayes import Bayes


def main() -> None:
    print(f"{'dimensions':>10} {'observations':>12} {'first ms':>9} {'next ms':>8}")
    goal = core.Goal(objectives=(core.Objective(observable="y", direction="maximize"),))
    for d in (5, 20):
        names = [f"x{i}" for i in range(d)]
        parameters = tuple(core.Continuous(name=n, low=0.0, high=1.0) for n in names)
        spec = core.CampaignSpec(id="c", parameters=parameters, goal=goal, procedure=core.ProcedureSpec(steps=()))
        for n in (10, 50, 100, 1_000, 5_000):
            x = np.random.default_rng(0).random((n + 4, d))
            y = np.sin(3.0 * x).sum(1)
            rows = [
                core.Row(
                    trial=str(i),
                    point=dict(zip(names, map(float, row), strict=True)),
                    observations=(core.Observation(observable="y", value=float(value)),),
                )
                for i, (row, value) in enumerate(zip(x, y, strict=True))
            ]
            strategy, spent = Bayes(initial=1), []
            for more in range(5):
                began = time.perf_counter()
                strategy.propose(spec, core.Results(rows=rows[: n + more]), 1, more)
                spent.append(1e3 * (time.perf_counter() - began))
            print(f"{d:>10} {n:>12} {spent[0]:>9.1f} {np.median(spent[1:]):>8.1f}")


if __name__ == "__main__":
    main()
