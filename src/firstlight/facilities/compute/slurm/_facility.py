"""The port: actions as jobs of Slurm, and what came of them from their run directories."""

import asyncio
import contextlib
import math
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from ....core import Action, FacilityStatus, Failure, Finding, JobStatus, Outcome, Permit, Unavailable
from .._command import CONTINUED
from .._rundir import RunDirectory, Submission, opened, run_directory, tail
from .._staging import bring, keep
from . import _commands
from ._batches import Batches
from ._commands import FOREVER, Job, Refused
from ._looks import examine, standing, unfit
from ._script import BadAttribute, Site, options

LAUNCHER = "srun --mpi=pmix -N {nodes} -n {processes} -c {cores}"
HELD = "launch failed requeued held"
_TAIL = 4096


class SlurmFacility:
    """Performs actions as jobs of Slurm, from a machine where `sbatch` works (docs/how-to/run-on-slurm.md).

    `root` is a directory that this machine and the nodes see under the same path, and `python` the interpreter there
    that has firstlight (this one, unless said). `setup` are lines of shell before every job. `partition`, `account`
    and `qos` are Slurm's own unless said; an action's own go before them. `attributes` are any long options of sbatch.
    `launcher` starts the processes of an action that wants several. `container` are words before the Python of an
    action that wants a container ("apptainer exec {container}"), --container unless said. Seconds: `duration` of a job
    whose action has no limit, `warning` before its time is over, when the action is told (0: never), `poll` between
    two looks at all jobs, `grace` before a job that is gone without a result counts as gone. `tries` is how often an
    action is submitted without one, `array` how many jobs an array has at most (1: no arrays).

    What is about to be asked is durable before it is, under a name that no other job ever has: that name, never a
    number, is the job, and only the result.json of its run directory decides what came of it.
    """

    computes = True

    def __init__(
        self, root: Path | str, slots: int = 16, *, python: str = sys.executable, setup: str | Sequence[str] = (),
        partition: str = "", account: str = "", qos: str = "", attributes: Mapping[str, str] | None = None,
        launcher: str = LAUNCHER, container: str = "", duration: float = 3600.0, warning: float = 0.0,
        poll: float = 10.0, grace: float = 90.0, tries: int = 3, array: int = 1000,
        assets: Path | str | None = None,
    ) -> None:  # fmt: skip
        if min(slots, tries, array) < 1:
            raise ValueError(f"slots, tries and array must be at least 1, not {slots}, {tries} and {array}")
        if min(poll, duration) <= 0 or min(grace, warning) < 0:
            raise ValueError("poll and duration must be more than 0 seconds, grace and warning not less than 0")
        self._root, self._slots, self._assets = Path(root).absolute(), slots, assets
        self._poll, self._grace, self._tries = poll, grace, tries
        self._site = Site(
            root=self._root, python=python, partition=partition, account=account, qos=qos,
            setup=tuple(setup.splitlines() if isinstance(setup, str) else setup), attributes=dict(attributes or {}),
            launcher=tuple(shlex.split(launcher)), container=tuple(shlex.split(container)), duration=duration,
            warning=warning,
        )  # fmt: skip
        self._batches = Batches(self._site, array)
        self._one: dict[str, asyncio.Lock] = {}
        self._listing, self._jobs, self._listed = asyncio.Lock(), dict[str, Job](), -math.inf
        self._nudged: dict[str, list[float]] = {}

    @property
    def slots(self) -> int:
        return self._slots

    async def submit(self, permit: Permit) -> str:
        action, run = permit.action, opened(self._root, permit.action.id)
        async with self._alone(action.id):
            if run.result() is None and not run.submissions():
                await asyncio.to_thread(self._write_spec, run, permit)
            await self._ask(run, permit)
        return action.id

    async def find(self, action: str) -> str | None:
        run = opened(self._root, action)
        return action if run.submissions() or run.result() else None

    async def outcome(self, job: str) -> Outcome:
        run = run_directory(self._root, job)
        permit = run.spec()
        if permit is None:
            return Failure(cause="lost", message=f"nothing is known of {job} below {self._root}")
        since, vain = math.inf, 0
        while (outcome := await asyncio.to_thread(run.result)) is None:
            async with self._alone(job):
                await self._ask(run, permit)
            number, last = _last(run)
            if last is None:  # It was refused.
                continue
            code = await asyncio.to_thread(_exit_code, run, number)
            if code == CONTINUED and permit.action.repeatable:
                await self._again(run, permit, number)
            elif (found := await self._job(last)) is not None:
                since = math.inf
                await self._look_after(run, permit, found, last)
            elif await asyncio.to_thread(run.result) is None:
                since = min(since, time.monotonic())
                # A job that has said that it failed leaves nothing more, unless another performs its action.
                over = run.asked_to_end or code not in (None, 0) or time.monotonic() - since >= self._grace
                if over and await asyncio.to_thread(run.performer) is None:
                    since, vain = math.inf, vain + 1
                    await self._without_result(run, permit, number, last, vain)
            if run.result() is None:
                await asyncio.sleep(self._poll)
        if outcome.assets:
            await asyncio.to_thread(keep, outcome, self._root, self._assets)
        return outcome if outcome.used else replace(outcome, used=_used(run, permit, outcome))

    async def cancel(self, job: str) -> None:
        run = run_directory(self._root, job)
        if run.spec() is not None and run.result() is None:
            run.ask_to_end()
            if (last := _last(run)[1]) is not None:
                await self._end(last)

    async def close(self) -> None:
        """Jobs go on."""

    async def status(self, action: Action | None = None) -> FacilityStatus:
        """Raises Unavailable."""
        partition = (action.resources.queue if action else "") or self._site.partition
        status, jobs = await standing(partition), await self._all()
        running = sum(job.runs for job in jobs.values())
        status = replace(status, running=running, queued=len(jobs) - running)
        if action is None:
            return status
        if against := unfit(self._site, status, action):
            return replace(status, unfit=against)
        try:
            return replace(status, wait=await _commands.test_only(options(self._site, action)))
        except BadAttribute as error:
            return replace(status, unfit=str(error))
        except Refused as error:
            return replace(status, unfit=str(error)) if error.never else status

    async def job(self, job: str) -> JobStatus:
        """Raises Unavailable."""
        run = run_directory(self._root, job)
        permit, (_, last) = await asyncio.to_thread(run.spec), _last(run)
        native = last.native if last else ""
        nodes = permit.action.resources.nodes if permit else 1
        before = nodes * await asyncio.to_thread(run.spent) / 3600
        if (outcome := run.result()) is not None:
            used = _used(run, permit, outcome)["node-hours"] if permit else 0.0
            return JobStatus(state="ended", native=native, node_hours=used)
        if last is None:
            return JobStatus(state="unknown", message="Slurm has not been asked for it yet")
        if (found := await self._job(last)) is None:
            return JobStatus(state="unknown", native=native, message="Slurm does not list it", node_hours=before)
        held = "held" in found.reason.lower()
        return JobStatus(
            state="active" if found.runs else "held" if held else "queued", native=found.id or native,
            message="" if found.runs or found.reason == "None" else found.reason,
            expected_start=0.0 if found.runs else found.start,
            node_hours=before + (found.nodes * found.seconds / 3600 if found.runs else 0.0),
        )  # fmt: skip

    async def examine(self) -> Sequence[Finding]:
        """Everything that has to be right, the most basic first. It changes nothing."""
        return await examine(self._site)

    # ------------------------------------------------------------------ asking

    def _write_spec(self, run: RunDirectory, permit: Permit) -> None:
        """Raises Unavailable."""
        try:
            bring(permit.action, self._root, self._assets)
            run.write_spec(permit, fsync=True)
        except OSError as error:
            raise Unavailable(f"{run.path} cannot be written: {error.strerror}") from None

    async def _ask(self, run: RunDirectory, permit: Permit) -> None:
        """Have Slurm asked the first time."""
        if run.result() is None and not run.submissions():
            if run.asked_to_end:
                run.commit(Failure(cause="cancelled", message="cancelled before it was submitted"))
            else:
                await self._batches.submit(run, permit)

    async def _again(self, run: RunDirectory, permit: Permit, number: int) -> None:
        """Have Slurm asked once more after so many times; it is one who asks, however many wait."""
        async with self._alone(permit.action.id):
            if run.result() is None and len(run.submissions()) == number:
                if run.asked_to_end:
                    run.commit(Failure(cause="cancelled", message="cancelled on request"))
                else:
                    await self._batches.submit(run, permit)

    async def _end(self, last: Submission) -> None:
        """Take its job away, if it is in the list of this moment: a number alone might be another's by now."""
        name = _commands.name_of(last.name)
        if (found := (await _commands.jobs(f"--name={name}")).get(last.name)) is not None:
            with contextlib.suppress(Refused):  # It has ended meanwhile.
                await _commands.ask("scancel", f"--name={name}", found.id)

    # ------------------------------------------------------------------ looking

    async def _all(self) -> Mapping[str, Job]:
        """The jobs that have not ended: one squeue for all that wait, every `poll` seconds. Raises Unavailable."""
        async with self._listing:
            if time.monotonic() - self._listed > 0.9 * self._poll:
                begun = time.monotonic()
                found = await _commands.jobs()
                self._jobs = {place: job for place, job in found.items() if place.startswith(self._batches.prefix)}
                self._listed = begun
        return self._jobs

    async def _job(self, last: Submission) -> Job | None:
        """The job of a submission; None where Slurm lists none."""
        if (found := (await self._all()).get(last.name)) is not None:
            return found
        # A list that is older than the job says nothing of it.
        if time.time() - last.at < time.monotonic() - self._listed + 1.0:
            return Job(id=last.native, state="PENDING", reason="None", start=0.0, seconds=0.0, nodes=1)
        return None

    async def _look_after(self, run: RunDirectory, permit: Permit, found: Job, last: Submission) -> None:
        """Help a job along that Slurm would let wait for no reason, and end one that it would let wait for ever."""
        if run.asked_to_end:
            await self._end(last)
        elif found.runs:
            self._nudged.pop(last.name, None)
        elif found.reason == "BeginTime" and (run.attempts() or not self._begins_later(permit.action)):
            # Slurm lets it wait for two minutes once it was requeued.
            await self._tell("update", f"JobId={found.id}", "StartTime=now")
        elif found.reason.lower() == HELD or found.reason in FOREVER:
            at = self._nudged.setdefault(last.name, [])
            at.append(time.monotonic())
            if found.reason in FOREVER and at[-1] - at[0] >= self._grace:
                await self._end(last)
                run.commit(Failure(cause="refused", message=f"Slurm would never begin it: {found.reason}"))
            elif found.reason not in FOREVER and len(at) > self._tries:
                await self._end(last)
                run.commit(Failure(cause="crashed", message=f"its job could not be launched {len(at)} times: {HELD}"))
            elif found.reason not in FOREVER:
                await self._tell("release", found.id)

    def _begins_later(self, action: Action) -> bool:
        """Whether it was asked to."""
        return "begin" in {**self._site.attributes, **action.resources.attributes}

    async def _tell(self, *words: str) -> None:
        with contextlib.suppress(Refused):  # It may have begun, or ended, meanwhile.
            await _commands.ask("scontrol", *words)

    async def _without_result(
        self, run: RunDirectory, permit: Permit, number: int, last: Submission, vain: int
    ) -> None:
        """A job is gone and left no result: it is asked for again, or that is the end of it."""
        state = await _commands.state_of(last.name) or "Slurm does not know it any more"
        said = f"job {last.native or last.name} ended without a result: {state}"
        if run.asked_to_end:
            run.commit(Failure(cause="cancelled", message="cancelled on request", log=_log(run, number)))
        elif run.attempts() and not permit.action.repeatable:
            said += "; it was begun, and may not be begun again"
            run.commit(Failure(cause="lost", message=said, log=_log(run, number)))
        elif vain >= self._tries:
            said += f" (submitted {number} times)"
            run.commit(Failure(cause="crashed", message=said, log=_log(run, number)))
        else:
            await self._again(run, permit, number)

    # ------------------------------------------------------------------

    def _alone(self, action: str) -> asyncio.Lock:
        return self._one.setdefault(action, asyncio.Lock())


def _last(run: RunDirectory) -> tuple[int, Submission | None]:
    """How often it was submitted, and how the last time."""
    asked = run.submissions()
    return len(asked), asked[-1] if asked else None


def _exit_code(run: RunDirectory, number: int) -> int | None:
    """What the script of a job ended with, as it said itself."""
    try:
        return int((run.path / f"job-{number}.exit").read_text())
    except FileNotFoundError:
        return None


def _log(run: RunDirectory, number: int) -> str:
    """The last words of the action, and of the job that was to perform it."""
    said = tail(run.last()) if run.attempts() else ""
    with contextlib.suppress(OSError):
        job = (run.path / f"job-{number}.out").read_bytes()[-_TAIL:].decode(errors="replace")
        said = "\n".join(part for part in (said, job.strip()) if part)
    return said


def _used(run: RunDirectory, permit: Permit, outcome: Outcome) -> dict[str, float]:
    """As far as the action's own clock tells: attempts that left no word are not in it."""
    took = run.spent() + max(0.0, outcome.ended - outcome.started)
    hours = permit.action.resources.nodes * took / 3600
    return {"node-hours": hours, "attempts": float(max(run.attempts(), len(run.submissions())))}
