"""What a laboratory remembers, durably and for every process that uses it: jobs, runs and reservations."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ...core import Action, Failure, Outcome, Permit
from ._things import Things

_TABLES = """
CREATE TABLE IF NOT EXISTS jobs(
    id TEXT PRIMARY KEY, trial TEXT NOT NULL, permit BLOB NOT NULL, state TEXT NOT NULL, run TEXT NOT NULL DEFAULT '',
    attempt INTEGER NOT NULL DEFAULT 1, outcome BLOB, message TEXT NOT NULL DEFAULT '', submitted REAL NOT NULL,
    owner TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS jobs_of_trial ON jobs(trial);
CREATE TABLE IF NOT EXISTS runs(
    id TEXT PRIMARY KEY, instrument TEXT NOT NULL, operation TEXT NOT NULL, arguments TEXT NOT NULL,
    members TEXT NOT NULL, state TEXT NOT NULL, handle TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '',
    results TEXT NOT NULL DEFAULT '{}', started REAL NOT NULL DEFAULT 0, ended REAL NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS runs_by_state ON runs(state);
CREATE TABLE IF NOT EXISTS holds(
    resource TEXT NOT NULL, holder TEXT NOT NULL, owner TEXT NOT NULL, until REAL, PRIMARY KEY(resource, holder));
CREATE TABLE IF NOT EXISTS expected(trial TEXT PRIMARY KEY, actions BLOB NOT NULL);
"""


def taken(resource: str, capacity: int, holders: Sequence[str]) -> str:
    """Who has reserved all that there is of a resource, "" where some of it is free."""
    return f"{resource} is reserved by {', '.join(holders)}" if len(holders) >= capacity else ""


class Job(NamedTuple):
    """One action that was submitted. `state` is queued, running, ended or doubt."""

    id: str
    trial: str
    permit: Permit
    state: str
    run: str
    attempt: int
    outcome: Outcome | None
    message: str
    submitted: float
    owner: str

    def vouched(self, permit: Permit) -> bool:
        """Whether a person has said since it was in doubt that it was not performed."""
        return self.state == "doubt" and permit.approved > self.permit.approved


class RunRow(NamedTuple):
    """One execution on an instrument, for one action or several. `state`: starting, running, doubt, or ended ones."""

    id: str
    instrument: str
    operation: str
    arguments: dict[str, Any]
    members: tuple[str, ...]
    state: str
    handle: str
    message: str
    results: dict[str, Any]
    started: float
    ended: float


class Look(NamedTuple):
    """The states of the jobs of trials under way, those trials that have failed, and the labware of each sample."""

    states: dict[str, str]
    failed: set[str]
    labware: dict[str, str]


class Store(Things):
    """What is to be done, is done and was done, beside the things to which it is done: in the same file, so that what
    happens to both is one transaction."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self._db.executescript(_TABLES)

    # ------------------------------------------------------------------ jobs

    def submit(self, permit: Permit, owner: str) -> Job:
        """The job of an action, new or known. One in doubt is queued again where somebody has vouched for it."""
        action = permit.action
        with self.changing() as db:
            known = self.job(action.id)
            if known is None:
                db.execute(
                    "INSERT INTO jobs(id, trial, permit, state, submitted, owner) VALUES(?, ?, ?, 'queued', ?, ?)",
                    (action.id, action.trial, msgspec.json.encode(permit), time.time(), owner),
                )
            elif known.vouched(permit):
                self.again(permit, owner)
            found = self.job(action.id)
        assert found is not None
        return found

    def again(self, permit: Permit, owner: str) -> None:
        """A job is to be performed once more."""
        with self.changing() as db:
            db.execute(
                "UPDATE jobs SET permit=?, state='queued', run='', attempt=attempt+1, outcome=NULL, message='', owner=?"
                " WHERE id=?", (msgspec.json.encode(permit), owner, permit.action.id),
            )  # fmt: skip

    def job(self, id: str) -> Job | None:
        rows = self._jobs("WHERE id=?", id)
        return rows[0] if rows else None

    def jobs(self, *states: str) -> list[Job]:
        """Those in these states, in the order of their submission."""
        return self._jobs(f"WHERE state IN ({','.join('?' * len(states))}) ORDER BY submitted, rowid", *states)

    def jobs_of(self, trial: str) -> list[Job]:
        return self._jobs("WHERE trial=? ORDER BY submitted, rowid", trial)

    def _jobs(self, where: str, *args: object) -> list[Job]:
        columns = "id, trial, permit, state, run, attempt, outcome, message, submitted, owner"
        return [
            Job(
                id, trial, msgspec.json.decode(permit, type=Permit), state, run, attempt,
                None if outcome is None else msgspec.json.decode(outcome, type=Outcome), message, submitted, owner,
            )
            for id, trial, permit, state, run, attempt, outcome, message, submitted, owner in self._rows(
                f"SELECT {columns} FROM jobs {where}", *args
            )
        ]  # fmt: skip

    def adopt(self, job: str, owner: str) -> None:
        """This process looks after it from now on."""
        with self.changing() as db:
            db.execute("UPDATE jobs SET owner=? WHERE id=?", (owner, job))

    def end(self, job: str, outcome: Outcome) -> None:
        with self.changing() as db:
            db.execute("UPDATE jobs SET state='ended', outcome=? WHERE id=?", (msgspec.json.encode(outcome), job))

    def doubt(self, job: str, message: str) -> None:
        with self.changing() as db:
            db.execute("UPDATE jobs SET state='doubt', message=? WHERE id=?", (message, job))

    def say(self, messages: Mapping[str, str]) -> None:
        """What each of some jobs waits for; for people to look at."""
        with self.changing() as db:
            db.executemany(
                "UPDATE jobs SET message=? WHERE id=? AND message<>?", [(m, id, m) for id, m in messages.items()]
            )

    def expect(self, trial: str, actions: Sequence[Action]) -> None:
        """What is going to come of a trial, for whoever comes after this process."""
        with self.changing() as db:
            db.execute("INSERT OR REPLACE INTO expected VALUES(?, ?)", (trial, msgspec.json.encode(list(actions))))

    def expected(self) -> list[str]:
        """The trials under way of which it is known what is going to come, in the order in which that was told."""
        return [str(trial) for (trial,) in self._rows("SELECT trial FROM expected ORDER BY rowid")]

    def expected_of(self, trial: str) -> list[Action]:
        """What is going to come of a trial."""
        rows = self._rows("SELECT actions FROM expected WHERE trial=?", trial)
        return msgspec.json.decode(rows[0][0], type=list[Action]) if rows else []

    def look(self) -> Look:
        """How far everything has come that is to come, at one moment."""
        with self._lock:
            jobs = self._rows("SELECT id, trial, state, outcome FROM jobs WHERE trial IN (SELECT trial FROM expected)")
            where = self._rows("SELECT id, labware FROM samples WHERE trial IN (SELECT trial FROM expected)")
        ended = ((trial, msgspec.json.decode(outcome, type=Outcome)) for _, trial, _, outcome in jobs if outcome)
        return Look(
            {str(id): str(state) for id, _, state, _ in jobs},
            {str(trial) for trial, outcome in ended if isinstance(outcome, Failure)},
            {str(id): str(plate) for id, plate in where},
        )

    # ------------------------------------------------------------------ runs

    def owner(self, run: str) -> str:
        """The process that looks after a run under way, "" where none does."""
        rows = self._rows("SELECT owner FROM holds WHERE holder=? LIMIT 1", run)
        return str(rows[0][0]) if rows else ""

    def disown(self, owner: str) -> None:
        """A process looks after its jobs and runs no longer; whoever wants to know what came of them may."""
        with self.changing() as db:
            db.execute("UPDATE jobs SET owner='' WHERE owner=? AND state='queued'", (owner,))
            db.execute("UPDATE holds SET owner='' WHERE owner=?", (owner,))

    def begin(self, run: RunRow) -> None:
        """A run that is about to be started, before anything is sent."""
        with self.changing() as db:
            db.execute(
                "INSERT OR REPLACE INTO runs(id, instrument, operation, arguments, members, state, started)"
                " VALUES(?, ?, ?, ?, ?, 'starting', ?)",
                (
                    run.id, run.instrument, run.operation, json.dumps(run.arguments), json.dumps(run.members),
                    time.time(),
                ),
            )  # fmt: skip
            db.executemany(
                "UPDATE jobs SET state='running', run=?, message='' WHERE id=?", [(run.id, m) for m in run.members]
            )

    def run(self, id: str) -> RunRow | None:
        rows = self._runs("WHERE id=?", id)
        return rows[0] if rows else None

    def runs(self, *states: str) -> list[RunRow]:
        return self._runs(f"WHERE state IN ({','.join('?' * len(states))}) ORDER BY started", *states)

    def _runs(self, where: str, *args: object) -> list[RunRow]:
        columns = "id, instrument, operation, arguments, members, state, handle, message, results, started, ended"
        return [
            RunRow(
                id, instrument, operation, json.loads(arguments), tuple(json.loads(members)), state, handle, message,
                json.loads(results), started, ended,
            )
            for id, instrument, operation, arguments, members, state, handle, message, results, started, ended
            in self._rows(f"SELECT {columns} FROM runs {where}", *args)
        ]  # fmt: skip

    def started(self, run: str, handle: str) -> None:
        with self.changing() as db:
            # Whoever else looked after it may have settled it meanwhile.
            db.execute("UPDATE runs SET state='running', handle=? WHERE id=? AND state='starting'", (handle, run))

    def settle(
        self, run: str, state: str, message: str = "", results: Mapping[str, Any] | None = None,
        started: float = 0.0, ended: float = 0.0,
    ) -> None:  # fmt: skip
        """How a run ended, or that nobody knows."""
        with self.changing() as db:
            db.execute(
                "UPDATE runs SET state=?, message=?, results=?, started=COALESCE(?, started), ended=? WHERE id=?",
                (state, message, json.dumps(results or {}), started or None, ended or time.time(), run),
            )

    def requeue(self, run: str) -> None:
        """A run that never began: its actions wait again."""
        with self.changing() as db:
            db.execute("UPDATE jobs SET state='queued', run='' WHERE run=?", (run,))
            db.execute("UPDATE runs SET state='never', ended=? WHERE id=?", (time.time(), run))
            db.execute("DELETE FROM holds WHERE holder=?", (run,))

    # ------------------------------------------------------------------ reservations

    def hold(self, resources: Mapping[str, int], holder: str, owner: str, seconds: float | None) -> str:
        """Reserve one of each resource, of which there are so many, or none of them; who is in the way, "" if nobody.

        It lasts until it is released, or for `seconds` where nothing has been started on it yet.
        """
        now = time.time()
        with self.changing() as db:
            db.execute("DELETE FROM holds WHERE until IS NOT NULL AND until < ?", (now,))
            for resource, capacity in resources.items():
                rows = db.execute("SELECT holder FROM holds WHERE resource=? AND holder<>?", (resource, holder))
                if why := taken(resource, capacity, [other for (other,) in rows]):
                    return why
            until = None if seconds is None else now + seconds
            db.executemany(
                "INSERT OR REPLACE INTO holds(resource, holder, owner, until) VALUES(?, ?, ?, ?)",
                [(resource, holder, owner, until) for resource in resources],
            )
        return ""

    def orphans(self) -> list[tuple[str, str]]:
        """Runs under way and whose they are, by what they hold."""
        return [
            (str(run), str(owner))
            for run, owner in self._rows(
                "SELECT DISTINCT holder, owner FROM holds JOIN runs ON runs.id=holder"
                " WHERE runs.state IN ('starting', 'running')"
            )
        ]

    def claim(self, run: str, before: str, owner: str) -> bool:
        """Look after a run from now on, unless somebody else was quicker."""
        with self.changing() as db:
            return db.execute("UPDATE holds SET owner=? WHERE holder=? AND owner=?", (owner, run, before)).rowcount > 0

    def release(self, holder: str, resource: str = "") -> None:
        with self.changing() as db:
            if resource:
                db.execute("DELETE FROM holds WHERE holder=? AND resource=?", (holder, resource))
            else:
                db.execute("DELETE FROM holds WHERE holder=?", (holder,))

    def held(self) -> dict[str, tuple[str, ...]]:
        """Who holds each resource."""
        found: dict[str, tuple[str, ...]] = {}
        for resource, holder in self._rows(
            "SELECT resource, holder FROM holds WHERE until IS NULL OR until >= ?", time.time()
        ):
            found[resource] = (*found.get(resource, ()), holder)
        return found

    # ------------------------------------------------------------------ what touches things too

    def found(self, labware: str, place: str) -> None:
        """A person has seen where labware is: a move of it that no action waits for is no longer in doubt."""
        with self.changing():
            self.place(labware, place)
            for run in self.runs("doubt"):
                # Where an action waits for it, it is the action of which a person is asked.
                asked = any((job := self.job(m)) is not None and job.state == "doubt" for m in run.members)
                if not asked and labware in run.arguments.values():
                    self.settle(run.id, "attested", run.message, run.results)
                    self.release(run.id)

    def forget(self, trial: str) -> None:
        """Nothing more of a trial comes: what was promised to it is free again."""
        with self.changing() as db:
            db.execute("DELETE FROM promised WHERE trial=?", (trial,))
            db.execute("DELETE FROM expected WHERE trial=?", (trial,))
