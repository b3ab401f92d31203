"""Trials a second of a no-op through the whole loop, beside what else people use, in one run.

    python benchmarks/throughput.py [--trials 400] [--parallel 2] [--json]

Everybody draws points at random, so that the loop is timed and not the thinking: what is compared is what it costs
to propose, dispatch, remember and finish a trial. Durable means that a finished trial survives a power cut.
Optuna and Ax take part where they are installed.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import firstlight as fl


def no_op(point: Mapping[str, object]) -> float:
    """The trial: give a number back."""
    return float(point["x"])  # type: ignore[arg-type]


def futures(trials: int, parallel: int, scratch: Path) -> None:
    """The floor: worker processes that remember nothing."""
    with ProcessPoolExecutor(parallel) as pool:
        assert len(list(pool.map(no_op, [{"x": i / trials} for i in range(trials)]))) == trials


def ours(durable: bool, workers: str) -> Callable[[int, int, Path], None]:
    """The whole loop: strategy, gate, journal, facility, dataset."""

    def go(trials: int, parallel: int, scratch: Path) -> None:
        with fl.Campaign(
            "no-op", [fl.Continuous("x", 0, 1)], [fl.maximize("y")], budget=fl.Budget(trials=trials),
            strategy="random", durable=durable, data_dir=scratch / workers if durable else None,
        ) as campaign:  # fmt: skip
            campaign.run(no_op, parallel=parallel, workers=workers)  # type: ignore[arg-type]
            assert len(campaign.results) == trials

    return go


def optuna_with(storage: str) -> Callable[[int, int, Path], None]:
    """Optuna with n_jobs threads."""

    def go(trials: int, parallel: int, scratch: Path) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        if storage == "journal":
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend

            kept: JournalStorage | str | None = JournalStorage(JournalFileBackend(str(scratch / "optuna.log")))
        else:
            kept = f"sqlite:///{scratch / 'optuna.db'}" if storage == "sqlite" else None
        sampler = optuna.samplers.RandomSampler(seed=1)
        study = optuna.create_study(storage=kept, direction="maximize", sampler=sampler)
        study.optimize(lambda t: no_op({"x": t.suggest_float("x", 0, 1)}), n_trials=trials, n_jobs=parallel)
        assert len(study.trials) == trials

    return go


def ax(trials: int, parallel: int, scratch: Path) -> None:
    """Ax with Sobol points, one after the other: its client has no workers of its own."""
    from ax.api.client import Client
    from ax.api.configs import RangeParameterConfig

    logging.getLogger("ax").setLevel(logging.ERROR)
    client = Client()
    client.configure_experiment(parameters=[RangeParameterConfig(name="x", bounds=(0, 1), parameter_type="float")])
    client.configure_optimization(objective="y")
    client.configure_generation_strategy(method="random_search")
    for _ in range(trials):
        for index, point in client.get_next_trials(max_trials=1).items():
            client.complete_trial(index, raw_data={"y": no_op(point)})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    contenders: dict[str, Callable[[int, int, Path], None]] = {
        "concurrent.futures (no memory at all)": futures,
        "firstlight, SQLite, processes (durable)": ours(True, "processes"),
        "firstlight, SQLite, threads (durable)": ours(True, "threads"),
        "firstlight, memory, threads": ours(False, "threads"),
    }
    if find_spec("optuna"):
        contenders |= {f"optuna, {s}, threads": optuna_with(s) for s in ("sqlite", "journal", "memory")}
    if find_spec("ax"):
        contenders["ax, memory"] = ax
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".throughput-") as scratch:
        for name, go in contenders.items():
            room = Path(scratch) / str(len(rates))
            room.mkdir()
            trials = min(given.trials, 100) if name.startswith(("ax", "optuna, sqlite")) else given.trials
            start = time.perf_counter()
            go(trials, given.parallel, room)
            rates[name] = trials / (time.perf_counter() - start)
            if not given.json:
                print(f"{rates[name]:10,.1f} trials/s  {name}", flush=True)
    ours_rate = rates["firstlight, SQLite, processes (durable)"]
    ratios = {name: ours_rate / rate for name, rate in rates.items()}
    goals = {"faster than Optuna on SQLite": ratios.get("optuna, sqlite, threads", float("inf")) > 1}
    if given.json:
        print(json.dumps({"trials_per_second": rates, "ours_to_theirs": ratios, "goals": goals}))
    else:
        for name, ratio in ratios.items():
            print(f"{ratio:10,.2f} x  firstlight (SQLite, processes) : {name}")
        for goal, met in goals.items():
            print(f"{'PASS' if met else 'FAIL'}  {goal}")
    return 0 if all(goals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
