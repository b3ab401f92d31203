"""Campaigns from Python: run any function, or ask and tell."""

import asyncio
import hashlib
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import wait
from pathlib import Path
from typing import Any, Literal, TypeVar

import cloudpickle
import msgspec
from msgspec.structs import replace

from . import app as composition
from . import config, core, engine
from .core import Budget, CampaignSpec, Constraint, Goal, Objective, Point, Row
from .facilities.compute import ThreadFacility, interpret

T = TypeVar("T")
ASK, CALLER = "ask", core.CALLER
"""Operation and facility of trials that the caller performs."""
Evaluate = Callable[..., Any]


def maximize(
    observable: str, *, unit: str = "", target: float | None = None, threshold: float | None = None
) -> Objective:
    """An objective to maximise; the goal is met at `target`, and values below `threshold` are not worth having."""
    return Objective(observable=observable, direction="maximize", unit=unit, target=target, threshold=threshold)


def minimize(
    observable: str, *, unit: str = "", target: float | None = None, threshold: float | None = None
) -> Objective:
    """An objective to minimise; the goal is met at `target`, and values above `threshold` are not worth having."""
    return Objective(observable=observable, direction="minimize", unit=unit, target=target, threshold=threshold)


def match(observable: str, target: float, *, tolerance: float = 0.0, unit: str = "") -> Objective:
    """An objective to bring to `target`; anything within `tolerance` of it meets the goal."""
    return Objective(observable=observable, direction="match", unit=unit, target=target, tolerance=tolerance)


class Asked(dict[str, core.Scalar]):
    """A point to try: a dictionary of parameter values that knows which trial it belongs to."""

    def __init__(self, point: Point, trial: str) -> None:
        super().__init__(point)
        self.trial = trial


class Explanation(engine.Explanation, frozen=True, kw_only=True):
    """Why a trial's point was chosen: `row` has the decision and what came of it.

    `replay()` asks the strategy again what it was asked, knowing what it knew; the answer's `same` says whether it
    says the same, `differences` where not. Raises ValueError where nobody was asked (`unasked` says why).
    """

    replay: Callable[[], engine.Replay]


class ResultsTable(Sequence[Row]):
    """The trials that have ended and count, in that order; `rejected` are those whose outcome is marked as bad."""

    def __init__(self, spec: CampaignSpec, results: core.Results) -> None:
        self.spec, self._results = spec, results

    def __len__(self) -> int:
        return len(self._results.rows)

    def __getitem__(self, index: Any) -> Any:
        return self._results.rows[index]

    def __iter__(self) -> Iterator[Row]:
        return iter(self._results.rows)

    @property
    def rejected(self) -> Sequence[Row]:
        """The trials whose outcome somebody marked as bad; `rejected` of each says why."""
        return self._results.rejected

    @property
    def front(self) -> list[Row]:
        """The Pareto front: one row where there is one objective."""
        return self._results.best(self.spec)

    def to_records(self) -> list[dict[str, Any]]:
        """A dictionary a trial: its id, the point as run, every observable and its sigma, and why it failed."""
        records = []
        for row in self:
            record: dict[str, Any] = {"trial": row.trial, **row.ran}
            for name, seen in row.seen.items():
                record[name] = seen.value
                if seen.sigma:
                    record[f"{name}.sigma"] = seen.sigma
            records.append(record | {"cost": row.cost, "failure": row.failure.cause if row.failure else None})
        return records

    def to_pandas(self) -> Any:
        """A pandas.DataFrame with a row a trial. Needs the extra "pandas"."""
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_pandas() needs pandas: pip install 'firstlight[pandas]'") from error
        return pandas.DataFrame.from_records(self.to_records())


class Campaign:
    """One pursuit of one goal, from Python.

    By default everything is journaled in the data directory (`data_dir`, else $FIRSTLIGHT_HOME, else
    ~/.local/share/firstlight): the campaign survives this process, and the command line sees it too. With
    `durable=False` it lives in memory. `with_data` names earlier data to begin with (datasets, or queries for some):
    their rows come as trials, in its units; ValueError where they tell it nothing.

    >>> import firstlight as fl
    >>> campaign = fl.Campaign(
    ...     "parabola",
    ...     parameters=[fl.Continuous("x", -1, 2)],
    ...     objectives=[fl.minimize("y")],
    ...     budget=fl.Budget(trials=15),
    ...     durable=False,
    ... )
    >>> best = campaign.run(lambda point: point["x"] ** 2, workers="threads")
    >>> abs(best.point["x"]) < 0.1
    True
    """

    def __init__(
        self,
        name: str,
        parameters: Sequence[core.Parameter],
        objectives: Sequence[Objective],
        *,
        budget: Budget | None = None,
        constraints: Sequence[Constraint] = (),
        outcome_constraints: Sequence[core.OutcomeConstraint] = (),
        observables: Sequence[core.Observable] = (),
        pool: Sequence[Mapping[str, core.Scalar]] | core.Pool | None = None,
        strategy: str | core.StrategySpec = "bayes",
        no_improvement: core.NoImprovement | None = None,
        regret: core.Regret | None = None,
        fidelity: core.Fidelity | None = None,
        batch: int = 1,
        shared: Sequence[str] = (),
        parallel: int = 1,
        seed: int = 0,
        limits: core.Limits | None = None,
        title: str = "",
        description: str = "",
        with_data: str | Sequence[str] = (),
        durable: bool = True,
        data_dir: Path | str | None = None,
    ) -> None:
        goal = Goal(
            objectives=tuple(objectives), outcome_constraints=tuple(outcome_constraints),
            budget=budget or Budget(), no_improvement=no_improvement, regret=regret,
        )  # fmt: skip
        spec = CampaignSpec(
            id=name, title=title, description=description, parameters=tuple(parameters), goal=goal,
            procedure=_procedure(ASK, CALLER, limits or core.Limits()), observables=tuple(observables),
            constraints=tuple(constraints), pool=_pool(pool), batch=batch, parallel=max(parallel, batch), seed=seed,
            fidelity=fidelity, shared=tuple(shared),
            strategy=core.StrategySpec(name=strategy) if isinstance(strategy, str) else strategy,
        )  # fmt: skip
        self._spec = composition.check_spec(spec)
        self._home = _Home(durable, data_dir)
        self._with_data = (with_data,) if isinstance(with_data, str) else tuple(with_data)
        self._created = False

    @classmethod
    def load(cls, id: str, *, data_dir: Path | str | None = None) -> "Campaign":
        """A campaign of the data directory, to look at or to go on with. Raises LookupError."""
        self = cls.__new__(cls)
        self._home = _Home(True, data_dir)
        state, _ = self._home.wait(self._home.app.state(id))
        self._spec, self._created = state.spec, True
        return self

    # ------------------------------------------------------------------ run

    def run(
        self,
        evaluate: Evaluate,
        *,
        parallel: int | None = None,
        workers: Literal["processes", "threads"] = "processes",
        facility: str = "local",
        resources: core.Resources | None = None,
        on_trial: Callable[[Row], None] | None = None,
    ) -> Row | None:
        """Run until the goal is met or the budget is spent, and return the best trial (None: none was good).

        `evaluate(point)` gets a dictionary of parameter values, and gives back a number, a mapping of
        observables to numbers (or to (value, sigma)), or raises `firstlight.Failed`. In "processes" (the
        default) the campaign's `limits` hold, and whatever it does to its process is a failed trial; in
        "threads" it shares this process. With `facility` it runs on another computer of the data directory
        (`firstlight facility list`), which must see this directory and have the same Python packages; `resources`
        are what every trial needs there. Ctrl-C lays the campaign down; run it again to go on.
        """
        step = self._spec.procedure.steps[0]
        if self._created and step.facility == CALLER:
            raise ValueError(f"campaign {self._spec.id} is driven by ask and tell: go on with those")
        if workers == "threads" and step.limits != core.Limits():
            raise ValueError("limits need workers='processes': a thread cannot be stopped")
        if workers == "threads" and (facility != "local" or resources is not None):
            raise ValueError("threads are this process's: another facility and resources need workers='processes'")
        function = cloudpickle.dumps(evaluate)
        if not self._created:
            name = hashlib.sha256(function).hexdigest()[:16]
            path = self._home.settings.data_dir.absolute() / "functions" / f"{name}.pkl"
            self._spec = replace(self._spec, procedure=_procedure(f"pickle:{path}", facility, step.limits, resources))
            self._spec = self._home.app.check_spec(self._spec)
        self._home.keep(Path(self._spec.procedure.steps[0].operation.removeprefix("pickle:")), function)
        self._open()
        self._home.leave_session()
        slots = parallel or self._spec.parallel
        self._home.use(ThreadFacility(evaluate, slots=slots) if workers == "threads" else None)
        listeners = [_listener(on_trial, self._state()[1])] if on_trial else []
        self._home.wait(self._home.app.run(self._spec.id, composition.runner(), parallel or 0, listeners))
        return self.best

    # ------------------------------------------------------------------ ask and tell

    def ask(self, count: int = 1) -> list[Asked]:
        """At most `count` points to try next; none once the budget is spent or the goal is met."""
        session = self._session()
        trials = self._home.wait(session.ask(count))
        return [Asked(t.point, t.id) for t in trials]

    def tell(
        self, point: "Asked | str | Mapping[str, core.Scalar]", outcome: Any, *, as_run: Point | None = None,
        source: str = "",
    ) -> None:  # fmt: skip
        """What came of a trial: what `evaluate` may give back, or a `firstlight.Failed`.

        `point` is one that was asked for (or its trial's id), or any other point: a result that nobody asked
        for is taken in as well, and spends no budget. `as_run` gives the values that came out otherwise.
        """
        session = self._session()
        result = interpret(outcome)
        if as_run:
            result = replace(result, as_run={**result.as_run, **as_run})
        trial = _trial_of(point, session)
        if trial:
            self._home.wait(session.tell(trial, result))
            return
        if isinstance(point, str):
            raise LookupError(f"trial {point} is not waiting to be told")
        if wrong := core.violations(replace(self._spec, constraints=(), pool=None), dict(point)):
            raise ValueError("; ".join(wrong))
        self._home.wait(session.add(dict(point), result, source or composition.person()))

    # ------------------------------------------------------------------ steer

    def inject(self, point: Mapping[str, Any], *, note: str = "") -> None:
        """Have this point tried next; it counts against the budget.

        Values are numbers, words, or texts with a unit ("353 K"). Here and in the methods below, what cannot be is
        refused at once: ValueError says what is wrong with the values, RuntimeError why it cannot follow.
        """
        self._say(lambda spec: self._home.app.requested(spec, point, note))

    def forbid(self, region: Mapping[str, Any], *, reason: str = "") -> None:
        """No point in this region from now on: {"temperature": (80, 100), "solvent": ["DMF", "THF"]}."""
        self._say(lambda spec: self._home.app.forbidden(spec, region, reason))

    def allow(self, region: Mapping[str, Any], *, reason: str = "") -> None:
        """A region that was forbidden is open again."""
        self._say(lambda spec: self._home.app.allowed(spec, region, reason))

    def correct(self, trial: "Row | Asked | str | int", values: Mapping[str, Any], *, note: str = "") -> None:
        """Put values of a trial that has ended right: parameters as run, observables (a number, or value and sigma)."""
        self._say(lambda spec: self._home.app.corrected(spec, self._trial(trial), values, note))

    def reject(self, trial: "Row | Asked | str | int", *, reason: str) -> None:
        """Mark the outcome of a trial as bad: it no longer counts, and nothing is learned from it."""
        self._say(lambda spec: core.OutcomeRejected(trial=self._trial(trial), reason=reason))

    def restore(self, trial: "Row | Asked | str | int", *, reason: str = "") -> None:
        """A rejected outcome counts again."""
        self._say(lambda spec: core.OutcomeRestored(trial=self._trial(trial), reason=reason))

    def budget(self, *, reason: str = "", **limits: Any) -> None:
        """Change the budget: `trials`, `cost`, `time` (seconds, or a text such as "2 h"); None is no limit."""
        self._say(lambda spec: self._home.app.budgeted(spec, limits, reason))

    def _say(self, word: Callable[[CampaignSpec], core.Fact]) -> None:
        self._open()
        state, _ = self._state()
        if state.closed:
            raise RuntimeError(f"campaign {self._spec.id} is closed ({state.closed}): nothing of it changes any more")
        fact = word(state.spec)
        try:
            self._home.say(self._spec.id, fact, composition.person())
        except core.InconsistentError as error:
            raise RuntimeError(str(error)) from error

    def _trial(self, trial: "Row | Asked | str | int") -> str:
        name = trial.trial if isinstance(trial, Row | Asked) else str(trial)
        return name if name.startswith(f"{self._spec.id}.") else f"{self._spec.id}.{name}"

    # ------------------------------------------------------------------ look

    @property
    def id(self) -> str:
        """The campaign's id: the name it was given, numbered where that was taken."""
        self._open()
        return self._spec.id

    @property
    def spec(self) -> CampaignSpec:
        return self._spec

    @property
    def state(self) -> core.Campaign:
        """The campaign as it stands."""
        return self._state()[0]

    @property
    def results(self) -> ResultsTable:
        """Every trial that has ended and counts."""
        return ResultsTable(self._spec, self._state()[1].view())

    @property
    def best(self) -> Row | None:
        """The best trial; with several objectives the most balanced one of the Pareto front (see `front`)."""
        return _most_balanced(self._spec, self.front)

    @property
    def front(self) -> list[Row]:
        """The Pareto front."""
        return self.results.front

    def explain(self, trial: "str | Row | Asked" = "") -> Explanation:
        """Why a trial's point was chosen: of this trial (or its number), by default of the last one.

        Raises LookupError where there is no such trial.
        """
        id = trial if isinstance(trial, str) else trial.trial
        id = f"{self.id}.{id}" if id.isdecimal() else id
        found = self._home.wait(self._home.app.explain(self.id, id))
        again = self._home.app.ask_again
        return Explanation(**msgspec.structs.asdict(found), replay=lambda: self._home.wait(again(found)))

    def close(self) -> None:
        """Let go of the campaign and its files. It can be loaded again."""
        self._home.close()

    def __enter__(self) -> "Campaign":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Campaign {self._spec.id}>"

    def _open(self) -> None:
        if not self._created:
            app, added = self._home.app, tuple[core.TrialAdded, ...]()
            if self._with_data:
                from . import data  # Few campaigns need it, and it takes a while to load.

                added = data.earlier(app, self._spec, self._with_data).trials
            self._spec = self._home.wait(app.create(self._spec, composition.person(), added))
            self._created = True

    def _session(self) -> engine.Session:
        self._open()
        return self._home.session(self._spec.id)

    def _state(self) -> tuple[core.Campaign, core.Ledger]:
        self._open()
        return self._home.wait(self._home.app.state(self._spec.id))


class _Home:
    """A data directory, its parts, and the event loop they live in, in a thread of its own."""

    def __init__(self, durable: bool, data_dir: Path | str | None) -> None:
        scratch = None if durable else tempfile.mkdtemp(prefix="firstlight-")
        where = Path(scratch) if scratch else Path(data_dir) if data_dir else None
        settings = config.load_settings(where, os.environ)
        self.settings = settings if durable else replace(settings, journal="memory")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="firstlight", daemon=True)
        self._thread.start()
        self._held: engine.Session | None = None
        self.app = self.wait(self._open_app())
        # Whoever forgets to close a campaign leaves no thread, lease or scratch directory behind either.
        self._end = weakref.finalize(self, _shut, self.app, self._loop, self._thread, scratch)

    async def _open_app(self) -> composition.App:
        return composition.App.open(self.settings)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it in the loop and wait. Ctrl-C cancels it, lets it lay things down, and goes on up."""
        laid_down = threading.Event()

        async def whole() -> T:
            try:
                return await work
            finally:
                laid_down.set()

        future = asyncio.run_coroutine_threadsafe(whole(), self._loop)
        try:
            # A signal that another thread caught is seen only when this one wakes, so it wakes now and then.
            while not future.done():
                wait([future], timeout=0.1)
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            laid_down.wait(timeout=30)
            raise

    def session(self, id: str) -> engine.Session:
        if self._held is None:
            self._held = self.wait(self.app.session(id, composition.runner()))
        return self._held

    def say(self, id: str, fact: core.Fact, by: str) -> None:
        """Have a person's word recorded: here, or by whoever runs the campaign."""
        self.wait(self._held.say(fact, by) if self._held is not None else self.app.request(id, fact, by))

    def leave_session(self) -> None:
        if self._held is not None:
            session, self._held = self._held, None
            self.wait(session.close())

    def use(self, facility: core.Facility | None) -> None:
        self.wait(self.app.replace_facility("local", facility))

    def keep(self, path: Path, function: bytes) -> None:
        """Leave a pickled function where workers, and whoever resumes the campaign, find it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        private = path.with_suffix(f".{os.getpid()}")
        private.write_bytes(function)
        private.replace(path)

    def close(self) -> None:
        if self._end.alive:
            self.leave_session()
            self._end()


def _shut(app: composition.App, loop: asyncio.AbstractEventLoop, thread: threading.Thread, scratch: str | None) -> None:
    asyncio.run_coroutine_threadsafe(app.__aexit__(), loop).result(timeout=30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    if scratch:
        shutil.rmtree(scratch, ignore_errors=True)


def _procedure(
    operation: str, facility: str, limits: core.Limits, resources: core.Resources | None = None
) -> core.ProcedureSpec:
    # Functions that live in modules beside the script are found where the script found them.
    settings: dict[str, object] = {} if facility == CALLER else {"directory": os.getcwd()}
    step = core.StepSpec(
        operation=operation,
        facility=facility,
        settings=settings,
        limits=limits,
        resources=resources or core.Resources(),
    )
    return core.ProcedureSpec(steps=(step,))


def _pool(pool: Any) -> core.Pool | None:
    """A pool from rows as mappings, or from anything with `to_dict(orient="records")`, such as a DataFrame."""
    if pool is None or isinstance(pool, core.Pool):
        return pool
    rows = pool.to_dict(orient="records") if hasattr(pool, "to_dict") else list(pool)
    columns = tuple(rows[0]) if rows else ()
    return core.Pool(columns=columns, rows=tuple(tuple(row[c] for c in columns) for row in rows))


def _trial_of(point: Any, session: engine.Session) -> str:
    """The trial that is waiting to be told of this point, "" if none is."""
    waiting = {t.id: t.point for t in session.campaign.open.values() if not t.settled}
    if isinstance(point, Asked):
        return point.trial if point.trial in waiting else ""
    if isinstance(point, str):
        return point if point in waiting else ""
    return next((id for id, asked in waiting.items() if asked == dict(point)), "")


def _listener(on_trial: Callable[[Row], None], ledger: core.Ledger) -> engine.Listener:
    """Calls back with each trial that ends from now on; `ledger` has what went before."""

    def listen(entry: core.Entry, campaign: core.Campaign) -> None:
        ended = ledger.ended
        ledger.add(entry)
        if ledger.ended > ended:
            on_trial(ledger.view().rows[-1])

    return listen


def _most_balanced(spec: CampaignSpec, front: Sequence[Row]) -> Row | None:
    """The row of the front whose worst objective, on the front's own scale, is least bad."""
    if not front:
        return None
    found = [core.losses_of(spec, row) or () for row in front]
    lows, highs = [min(c) for c in zip(*found, strict=True)], [max(c) for c in zip(*found, strict=True)]

    def worst(one: tuple[float, ...]) -> float:
        return max((x - a) / (b - a) if b > a else 0.0 for x, a, b in zip(one, lows, highs, strict=True))

    return min(zip(front, found, strict=True), key=lambda pair: worst(pair[1]))[0]
