"""What the benchmarks of engines share: the tasks, and every contender performing them in a process of its own.

A contender is warmed up first (its pilots and workers are there, and have performed something), and timed from its
first submission to its last result. Tasks are functions of a point, performed in worker processes.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
WARM = "warm"
"""A point with this in it is a task of the warm-up, which is not counted."""
WIDTH = 5
"""Parameters of a point."""


class Plan(NamedTuple):
    """What a contender performs: `tasks` tasks, `workers` at once. With `seed` they sleep, and are written down.

    `scratch` is an empty directory. The rest is for our own side: what chooses the points, where they are performed,
    whether all is durable, how many points are chosen ahead of need (None: as many as by default), and how many actions
    are with the facility at once, where not one a worker.
    """

    who: str
    scratch: str
    tasks: int
    workers: int
    seed: int = 0
    strategy: str = "random"
    facility: str = "local"
    durable: bool = True
    ahead: int | None = None
    depth: int = 0

    @property
    def diary(self) -> str:
        """Where sleepers write down what they did; "" where tasks do nothing."""
        return str(Path(self.scratch) / "diary") if self.seed else ""


# ---------------------------------------------------------------------- the tasks


def task(point: Mapping[str, Any], diary: str = "", seed: int = 0) -> float:
    """Nothing; or with a diary a sleep. Both give back how near the point is to where it is best."""
    if diary and WARM not in point:
        _nap(diary, seed)
    elif WARM in point:
        time.sleep(float(point[WARM]))
    return -sum((float(point[f"x{i}"]) - 0.3) ** 2 for i in range(WIDTH) if f"x{i}" in point)


def duration(seed: int, number: int) -> float:
    """Seconds that the task with this number sleeps: log-normal around 1 s."""
    return random.Random(f"{seed} {number}").lognormvariate(0.0, 0.5)


def _nap(diary: str, seed: int) -> None:
    """Whoever begins as the n-th sleeps as long as the n-th must, so that all contenders have the same list."""
    with open(f"{diary}.number", "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        number = file.seek(0, os.SEEK_END)
        file.write(b".")
        file.flush()
    start = time.monotonic()
    time.sleep(duration(seed, number))
    with open(diary, "ab", buffering=0) as file:
        file.write(f"{number} {start!r} {time.monotonic()!r} {os.getpid()}\n".encode())


def who_am_i(point: Mapping[str, Any]) -> int:
    """The process that performs it, after a moment in which others have to perform the next."""
    task(point)
    return os.getpid()


def points(plan: Plan) -> list[dict[str, float]]:
    """At random."""
    rng = random.Random(plan.tasks)
    return [{f"x{i}": rng.random() for i in range(WIDTH)} for _ in range(plan.tasks)]


# ---------------------------------------------------------------------- Parsl


def pilots(plan: Plan, checkpoint: bool = False) -> Any:
    """Parsl's configuration: one block of workers on this machine, connected over the loopback."""
    from parsl.config import Config
    from parsl.dataflow.memoization import BasicMemoizer
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    provider = LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1)  # type: ignore[no-untyped-call]
    executor = HighThroughputExecutor(
        label="htex", address="127.0.0.1", loopback_address="127.0.0.1", max_workers_per_node=plan.workers,
        cores_per_worker=1e-6, encrypted=False, provider=provider,
    )  # fmt: skip
    return Config(
        executors=[executor], run_dir=f"{plan.scratch}/runinfo", strategy="none", initialize_logging=False,
        memoizer=BasicMemoizer(checkpoint_mode="task_exit") if checkpoint else None,
    )  # fmt: skip


def raw_parsl(checkpoint: bool) -> Callable[[Plan], float]:
    """Everything is submitted at once to the high-throughput executor, and waited for."""

    def go(plan: Plan) -> float:
        import parsl
        from parsl.app.python import PythonApp

        with parsl.load(pilots(plan, checkpoint)):
            app, asks = PythonApp(task, cache=checkpoint), PythonApp(who_am_i)  # type: ignore[no-untyped-call]
            warmed(plan.workers, lambda many: [f.result() for f in [asks({WARM: 0.05}) for _ in range(many)]])
            start = time.perf_counter()
            futures = [app(point, plan.diary, plan.seed) for point in points(plan)]
            for future in futures:
                future.result()
            return time.perf_counter() - start

    return go


def warmed(workers: int, ask: Callable[[int], Iterable[int]]) -> None:
    """Have tasks performed until every worker has performed one."""
    seen: set[int] = set()
    deadline = time.monotonic() + 180
    while len(seen) < workers:
        assert time.monotonic() < deadline, f"{len(seen)} of {workers} workers have come up"
        seen.update(ask(2 * workers))


# ---------------------------------------------------------------------- Colmena


def colmena(plan: Plan) -> float:
    """A Thinker with a slot a worker for sleepers; nothing that does nothing waits for a slot: all is submitted."""
    from colmena.models import Result
    from colmena.queue.python import PipeQueues
    from colmena.task_server.parsl import ParslTaskServer
    from colmena.thinker import BaseThinker, ResourceCounter, result_processor, task_submitter

    queues = PipeQueues(keep_inputs=False)
    server = ParslTaskServer([task, who_am_i], queues, pilots(plan))
    server.start()
    slots = plan.workers if plan.seed else plan.tasks
    todo = iter(points(plan))

    class Refill(BaseThinker):  # type: ignore[misc]
        """A free slot gets the next point."""

        def __init__(self) -> None:
            super().__init__(queues, ResourceCounter(slots, ["work"]))
            self.rec.reallocate(None, "work", slots)
            self.results = 0

        @task_submitter(task_type="work")  # type: ignore[untyped-decorator]
        def submit(self) -> None:
            point = next(todo, None)
            if point is not None:
                self.queues.send_inputs(point, plan.diary, plan.seed, method="task")

        @result_processor  # type: ignore[untyped-decorator]
        def receive(self, result: Result) -> None:
            assert result.success, result.failure_info
            self.results += 1
            self.rec.release("work")
            if self.results == plan.tasks:
                self.done.set()

    def ask(many: int) -> list[int]:
        for _ in range(many):
            queues.send_inputs({WARM: 0.05}, method="who_am_i")
        return [queues.get_result().value for _ in range(many)]

    try:
        warmed(plan.workers, ask)
        thinker = Refill()
        start = time.perf_counter()
        thinker.start()
        thinker.done.wait()
        took = time.perf_counter() - start
        thinker.join()
    finally:
        queues.send_kill_signal()
        server.join()
    return took


# ---------------------------------------------------------------------- libEnsemble


def libensemble(plan: Plan) -> float:
    """Worker processes on this machine, beside a persistent generator that always has points in store."""
    import numpy as np
    from libensemble import Ensemble
    from libensemble.alloc_funcs.start_only_persistent import only_persistent_gens
    from libensemble.gen_funcs.persistent_sampling import persistent_uniform
    from libensemble.specs import AllocSpecs, ExitCriteria, GenSpecs, LibeSpecs, SimSpecs

    def simulate(H: Any, persis_info: Any, sim_specs: Any, libE_info: Any) -> Any:
        out = np.zeros(1, dtype=sim_specs["out"])
        out["f"] = task({f"x{i}": x for i, x in enumerate(H["x"][0])}, plan.diary, plan.seed)
        return out, persis_info

    user = {"initial_batch_size": 2 * plan.workers, "lb": np.zeros(WIDTH), "ub": np.ones(WIDTH)}
    ensemble = Ensemble(
        libE_specs=LibeSpecs(
            comms="local", nworkers=plan.workers, gen_on_manager=True, safe_mode=False,
            save_H_and_persis_on_abort=False, disable_log_files=True, ensemble_dir_path=f"{plan.scratch}/ensemble",
        ),
        sim_specs=SimSpecs(sim_f=simulate, inputs=["x"], outputs=[("f", float)]),
        gen_specs=GenSpecs(
            gen_f=persistent_uniform, persis_in=["f", "sim_id"], outputs=[("x", float, (WIDTH,))], user=user
        ),
        alloc_specs=AllocSpecs(alloc_f=only_persistent_gens, user={"async_return": True}),
        exit_criteria=ExitCriteria(sim_max=plan.tasks),
    )  # fmt: skip
    ensemble.add_random_streams()
    history, _, flag = ensemble.run()
    done = history[history["sim_ended"]]
    assert flag == 0 and len(done) >= plan.tasks, f"libEnsemble: {flag}, {len(done)} of {plan.tasks}"
    # It starts its workers itself, so its own clock is what there is: from the first point given out.
    return float(done["sim_ended_time"].max() - done["sim_started_time"].min())


# ---------------------------------------------------------------------- ours


def firstlight(plan: Plan) -> float:
    """The whole loop, from the strategy to the published dataset, after a campaign that wakes the workers."""
    return asyncio.run(_campaigns(plan))


def facility_options(plan: Plan) -> dict[str, Any]:
    """The facility's table in the settings."""
    options: dict[str, Any] = {"slots": plan.depth or plan.workers}
    if plan.facility == "parsl":
        # The same pilots as everybody's.
        options |= {"workers": plan.workers, "cores_per_worker": 1e-6, "min_blocks": 1, "init_blocks": 1}
        options |= {"encrypted": False}
    return options if plan.durable else options | {"fsync": False}


async def _campaigns(plan: Plan) -> float:
    from firstlight import config, core
    from firstlight.app import App

    home = Path(plan.scratch) / "home"
    settings = config.Settings(
        data_dir=home, journal="sqlite" if plan.durable else "memory",
        facilities={plan.facility: facility_options(plan)},
    )  # fmt: skip

    def spec(id: str, trials: int, strategy: str, *first: core.Parameter, **told: Any) -> core.CampaignSpec:
        own = {"directory": str(HERE), **told}
        step = core.StepSpec(operation="engines:task", facility=plan.facility, settings=own)
        return core.CampaignSpec(
            id=id,
            parameters=(*first, *(core.Continuous(name=f"x{i}", low=0.0, high=1.0) for i in range(WIDTH))),
            goal=core.Goal(
                objectives=(core.Objective(observable="y", direction="maximize"),), budget=core.Budget(trials=trials)
            ),
            procedure=core.ProcedureSpec(steps=(step,)),
            strategy=core.StrategySpec(name=strategy),
            parallel=plan.depth or plan.workers,
            ahead=plan.ahead,
            seed=1,
        )

    async with App.open(settings) as app:
        warm = core.Continuous(name=WARM, low=0.05, high=0.06)
        woken = await app.create(app.check_spec(spec("warm", 4 * plan.workers, "random", warm)), "benchmark")
        await app.run(woken.id, by="benchmark")
        told = {"diary": plan.diary, "seed": plan.seed} if plan.seed else {}
        timed = await app.create(app.check_spec(spec("timed", plan.tasks, plan.strategy, **told)), "benchmark")
        start = time.perf_counter()
        ended = await app.run(timed.id, by="benchmark")
        took = time.perf_counter() - start
        assert ended.succeeded == plan.tasks, f"{ended.succeeded} of {plan.tasks} succeeded, {ended.failed} failed"
        facility = app.facility(plan.facility)
        if hasattr(facility, "shutdown"):
            await facility.shutdown()
    return took


CONTENDERS: dict[str, Callable[[Plan], float]] = {
    "parsl": raw_parsl(False),
    "parsl-checkpoint": raw_parsl(True),
    "colmena": colmena,
    "libensemble": libensemble,
    "firstlight": firstlight,
}


def perform(plan: Plan, patience: float = 600.0) -> float:
    """Seconds that a contender takes, in a process of its own. Raises SystemExit with what it said where it fails."""
    scripts = Path(sys.executable).parent
    environment = os.environ | {
        # Parsl finds its own programs by name, and its workers our tasks.
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    log = Path(plan.scratch) / "said.log"
    with open(log, "wb") as said, contextlib.ExitStack() as ends:
        command = [sys.executable, __file__, json.dumps(plan._asdict())]
        child = ends.enter_context(
            subprocess.Popen(command, env=environment, cwd=plan.scratch, stdout=subprocess.PIPE, stderr=said)
        )
        try:
            answer = child.communicate(timeout=patience)[0]
        except subprocess.TimeoutExpired:
            child.kill()
            answer = b""
    if child.returncode:
        raise SystemExit(f"{plan.who} failed ({child.returncode}):\n{log.read_text(errors='replace')[-3000:]}")
    return float(answer.split()[-1])


if __name__ == "__main__":
    # Tasks are to be known to workers by the name of this module, not as of a script.
    import engines

    given = engines.Plan(**json.loads(sys.argv[1]))
    print(engines.CONTENDERS[given.who](given), flush=True)
