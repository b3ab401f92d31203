"""The port: actions as jobs of an IRI facility, and what came of them from their run directories."""

import asyncio
import contextlib
import math
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
from msgspec.structs import replace

from ....core import Action, Cause, FacilityStatus, Failure, Finding, JobStatus, Outcome, Permit, Unavailable
from .._command import CONTINUED
from .._rundir import RunDirectory, opened, replace_file, run_directory
from ._examine import examine
from ._files import Files, RemoteFiles, SharedFiles
from ._http import Api, Refused, Unaccepted
from ._jobspec import Site, job_spec, node_hours
from ._secret import Secret
from ._standing import Look, refusal

LIVE = ("new", "queued", "held", "active")
PAGE = 1000
INVALID = (400, 413, 422)
PROGRESS = "checkpoint/progress.jsonl"
"""Where an action may say how far it has come, in its run directory: a line each time."""
HEARD = 5.0
"""Seconds between two looks at what actions say of themselves, however many there are."""
_KEYS = uuid.UUID("8c0e35a3-2a0f-4a4c-9df5-6f3b7a3e41d0")


class IriFacility:
    """Performs actions on a computer behind the IRI Facility API, version 2 (docs/how-to/run-through-iri.md).

    `url` is the API's, `resource` and `filesystem` are ids or names, `workdir` a directory there. `token` is the name
    of an environment variable or the path of a file (mode 0600), never the token. `project` is charged. `python` has
    firstlight there, and `setup` are lines of shell before it. With `shared`, `root` is `workdir` as seen from this
    machine. `launcher` starts the processes of an action ("srun -n {processes}"); `job_launcher` is the JobSpec's.
    Seconds: `duration` of a job whose action has no limit, `poll` between two looks at all jobs, `grace` before a job
    that is gone without a result counts as gone. `tries` is how often an action is submitted without one.

    What an action is about to cost is remembered below `root` before it is asked for, under an Idempotency-Key of its
    own; only the result.json of its run directory decides what came of it.
    """

    def __init__(
        self, root: Path | str, slots: int = 16, *, url: str, resource: str, token: str, workdir: str,
        filesystem: str = "", project: str = "", queue: str = "", python: str = "python3",
        setup: str | Sequence[str] = (), attributes: Mapping[str, str] | None = None, launcher: str = "",
        job_launcher: str = "", duration: float = 3600.0, shared: bool = False, poll: float = 10.0,
        grace: float = 60.0, tries: int = 3, ca: str = "", assets: Path | str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:  # fmt: skip
        if slots < 1 or tries < 1:
            raise ValueError(f"slots and tries must be at least 1, not {slots} and {tries}")
        if not workdir.startswith("/"):
            raise ValueError(f"workdir must be an absolute path on the facility's file system, not {workdir!r}")
        if min(poll, duration) <= 0 or grace < 0:
            raise ValueError("poll and duration must be more than 0 seconds, and grace not less than 0")
        self._root, self._slots = Path(root).absolute(), slots
        self._poll, self._grace, self._tries = poll, grace, tries
        self._api = Api(url, Secret(token), ca, transport)
        self._look = Look(self._api, resource, project)
        self._filesystem = filesystem
        self._site = Site(
            name=resource, workdir=workdir.rstrip("/"), python=python, project=project, queue=queue,
            setup=tuple(setup.splitlines() if isinstance(setup, str) else setup), launcher=tuple(launcher.split()),
            job_launcher=job_launcher, duration=duration, attributes=dict(attributes or {}),
        )  # fmt: skip
        self._files: Files = SharedFiles(self._root, assets)
        if not shared:
            self._files = RemoteFiles(self._api, self._filesystem_id, self._site, self._root, assets)
        self._one: dict[str, asyncio.Lock] = {}
        self._listing, self._states, self._listed = asyncio.Lock(), dict[str, dict[str, Any]](), -math.inf
        self._launched: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._traces: dict[str, str] = {}
        self._heard = time.monotonic()

    @property
    def slots(self) -> int:
        return self._slots

    async def submit(self, permit: Permit) -> str:
        action = permit.action
        run = opened(self._root, action.id)
        with _understood():
            async with self._alone(action.id):
                if run.result() is None and not run.submissions():
                    against = await self._against(action)
                    await asyncio.to_thread(run.write_spec, permit, True)
                    if against:
                        run.commit(Failure(cause="refused", message=against))
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
        gone_since, vain = math.inf, 0
        with _understood():
            while (outcome := await self._known(run, permit)) is None:
                native = self._native(run)
                gone = await self._gone(native) if await self._state(native) is None else None
                gone_since = math.inf if gone is None else min(gone_since, time.monotonic())
                again = gone is not None and gone.get("exit_code") == CONTINUED and permit.action.repeatable
                over = time.monotonic() - gone_since >= self._grace
                if gone is not None and (again or over or run.asked_to_end):
                    gone_since, vain = math.inf, vain + (not again)
                    await self._without_result(run, permit, gone, again, vain)
                else:
                    await self._hear(run, native)
                    await asyncio.sleep(self._poll)
        return outcome

    async def cancel(self, job: str) -> None:
        run = run_directory(self._root, job)
        if run.spec() is not None and run.result() is None:
            run.ask_to_end()
            with _understood():
                await self._end(run, self._native(run))

    async def close(self) -> None:
        await self._api.close()

    async def status(self, action: Action | None = None) -> FacilityStatus:
        """Raises Unavailable."""
        with _understood():
            standing = await self._look.standing(action.resources.account if action else "")
            states = [s.get("state") for s in (await self._all()).values()]
        against = standing.against or (refusal(standing, node_hours(self._site, action)) if action else "")
        known = {"up": "up", "degraded": "degraded", "down": "down"}
        return FacilityStatus(
            state="down" if against else known.get(standing.state, "unknown"),  # type: ignore[arg-type]
            message=against or "; ".join(standing.incidents), running=states.count("active"),
            queued=len(states) - states.count("active"),
        )  # fmt: skip

    async def job(self, job: str) -> JobStatus:
        """Raises Unavailable."""
        run = run_directory(self._root, job)
        native = self._native(run)
        if run.result() is not None:
            return JobStatus(state="ended", native=native)
        if not native:
            return JobStatus(state="unknown", message="the facility has not answered yet")
        try:
            found = await self._api.get(await self._path("status", native), historical="true")
        except Refused as error:
            return JobStatus(state="unknown", native=native, message=str(error))
        status = found.get("status") or {}
        words = {"new": "queued", "queued": "queued", "held": "held", "active": "active"}
        state = words.get(status.get("state", ""), "ended" if status else "unknown")
        used = (status.get("meta_data") or {}).get("node_hours") or 0.0
        return JobStatus(
            state=state, native=native, message=str(status.get("message") or ""),  # type: ignore[arg-type]
            node_hours=float(used) if isinstance(used, int | float) else 0.0,
        )  # fmt: skip

    async def examine(self) -> Sequence[Finding]:
        """Everything that has to be right, the most basic first. It changes nothing."""
        shared = isinstance(self._files, SharedFiles)
        return await examine(self._api, self._look, self._site, None if shared else self._filesystem_id, self._root)

    # ------------------------------------------------------------------ asking

    async def _against(self, action: Action) -> str:
        """Why it is refused. Raises Unavailable where it is only not the time for it."""
        try:
            standing = await self._look.standing(action.resources.account)
        except Refused as error:
            return str(error)
        if standing.against:
            raise Unaccepted(f"nothing is submitted to {standing.name} now: {standing.against}")
        return refusal(standing, node_hours(self._site, action))

    async def _ask(self, run: RunDirectory, permit: Permit) -> None:
        """Have the engine asked once, whatever happened to the answer before."""
        asked = run.submissions()
        if run.result() is not None or (asked and asked[-1].native):
            return
        number, fresh = len(asked) or 1, not asked
        if not fresh or await self._asked_anew(run, permit, number):
            await self._launch(run, number, fresh)

    async def _asked_anew(self, run: RunDirectory, permit: Permit, number: int) -> bool:
        """Have everything there, and say here that the engine is about to be asked."""
        try:
            await self._files.bring(run, permit, again=number > 1)
        except Refused as error:
            if number > 1:
                raise
            run.commit(_failure(error))
            return False
        if run.asked_to_end:
            run.commit(Failure(cause="cancelled", message="cancelled before it was submitted"))
            return False
        # The body is kept, because a key answers to one body only, and options may be others tomorrow.
        body = msgspec.json.encode(job_spec(self._site, permit.action, run.path.name, number))
        replace_file(run.path / f"jobspec-{number}.json", body, fsync=True)
        await asyncio.to_thread(run.submitting)
        return True

    async def _launch(self, run: RunDirectory, number: int, fresh: bool) -> None:
        path = run.path / f"submit-{number}.json"
        body = msgspec.json.decode((run.path / f"jobspec-{number}.json").read_bytes())
        # The moment makes it another key where an action of the same name was submitted from another place.
        key = uuid.uuid5(_KEYS, f"{run.path.name} {number} {run.submissions()[number - 1].at!r}")
        try:
            resource = quote(await self._look.id(self._site.name, "compute"), safe="")
            answer = await self._api.ask(
                "POST", f"compute/job/{resource}", body=body, headers={"Idempotency-Key": str(key)}
            )
        except Unaccepted:
            if fresh:
                path.unlink()
            raise
        except Refused as error:
            # A request that was made before may have been accepted: that it is not allowed now says nothing of that.
            if not fresh and error.status not in INVALID:
                raise
            run.commit(_failure(error))
            return
        native = str(answer["id"])
        self._launched[native] = time.monotonic()
        run.submitted(path, native)

    async def _end(self, run: RunDirectory, native: str) -> None:
        """Have it end: by the marker for whoever performs it, and by taking its job away."""
        if not native:
            if not run.submissions():
                run.commit(Failure(cause="cancelled", message="cancelled before it was submitted"))
            return
        if native in self._told:
            return
        await self._files.ask_to_end(run)
        with contextlib.suppress(Refused):  # It has ended, or is not known any more.
            await self._api.ask("DELETE", await self._path("cancel", native))
        self._told[native] = time.monotonic()

    # ------------------------------------------------------------------ looking

    async def _all(self) -> Mapping[str, dict[str, Any]]:
        """The jobs that have not ended, by their native ids: one request for all that wait, every `poll` seconds."""
        async with self._listing:
            if time.monotonic() - self._listed > 0.9 * self._poll:
                begun, states = time.monotonic(), dict[str, dict[str, Any]]()
                path = f"compute/status/{quote(await self._look.id(self._site.name, 'compute'), safe='')}"
                offset = 0
                while True:
                    page = await self._api.ask("POST", path, query={"limit": PAGE, "offset": offset}, body={})
                    states.update({str(j["id"]): j.get("status") or {} for j in page})
                    offset += len(page)
                    if len(page) < PAGE or len(states) < offset:  # The last, or the same ones again.
                        break
                self._states = {id: s for id, s in states.items() if s.get("state", "queued") in LIVE}
                self._listed = begun
        return self._states

    async def _state(self, native: str) -> str | None:
        """A word while it may live, None where it is not among those that do."""
        states = await self._all()
        if native in states:
            return str(states[native].get("state"))
        # A list that is older than the job says nothing of it.
        return "new" if self._launched.get(native, -math.inf) >= self._listed else None

    async def _hear(self, run: RunDirectory, native: str) -> None:
        """Have here the last of what an action that runs says of itself.

        Of one at a time, whoever comes first: it costs the facility the same with one of them and with thousands.
        """
        shared, state = isinstance(self._files, SharedFiles), self._states.get(native, {}).get("state")
        if shared or state != "active" or time.monotonic() - self._heard < max(self._poll, HEARD):
            return
        self._heard = time.monotonic()
        with contextlib.suppress(Unavailable, Refused):
            said = (await self._files.log(run, PROGRESS)).splitlines()
            await asyncio.to_thread(_keep_lines, run.path / PROGRESS, said)

    async def _gone(self, native: str) -> dict[str, Any] | None:
        """What is said of a job that is not listed; None where it lives after all."""
        try:
            found = await self._api.get(await self._path("status", native), historical="true")
        except Refused as error:
            if error.status != 404:
                raise
            return {"state": "unknown", "message": "the facility knows nothing of it any more"}
        status = found.get("status") or {}
        return None if status.get("state") in LIVE else status

    async def _known(self, run: RunDirectory, permit: Permit) -> Outcome | None:
        """What came of an action, brought here with all that belongs to it; it is asked for where it was not."""
        outcome = await asyncio.to_thread(run.result)
        if outcome is None:
            async with self._alone(permit.action.id):
                await self._ask(run, permit)
            native = self._native(run)
            if run.asked_to_end:
                await self._end(run, native)
            outcome = run.result()
            if outcome is None and await self._state(native) is None:
                outcome = await self._files.result(run)
        if outcome is None:
            return None
        await self._files.fetch(outcome)
        outcome = await asyncio.to_thread(run.commit, outcome)
        # As far as its own clock tells: submissions that left no result are not in it.
        hours = permit.action.resources.nodes * max(0.0, outcome.ended - outcome.started) / 3600
        used = {"node-hours": hours, "attempts": float(len(run.submissions()))}
        return outcome if outcome.used else replace(outcome, used=used)

    async def _without_result(
        self, run: RunDirectory, permit: Permit, gone: Mapping[str, Any], again: bool, vain: int
    ) -> None:
        """A job is over and left no result: it is asked for again, or that is the end of it."""
        number = len(run.submissions())
        said = f"job {self._native(run)} ended without a result: {gone.get('state')}, {gone.get('message') or ''}"
        said = self._api.secret.scrub(said.rstrip(", "))
        if run.asked_to_end:
            run.commit(Failure(cause="cancelled", message="cancelled on request", log=await self._log(run, number)))
        elif not again and not permit.action.repeatable and (trace := await self._files.trace(run)):
            # Whoever performs it may have outlived its job, and shows it by keeping the lease fresh.
            if self._traces.get(permit.action.id) == trace:
                run.commit(Failure(cause="lost", message=f"{said}; it was begun, and may not be begun again"))
            self._traces[permit.action.id] = trace
        elif not again and vain >= self._tries:
            log = await self._log(run, number)
            run.commit(Failure(cause="crashed", message=f"{said} (submitted {number} times)", log=log))
        else:
            async with self._alone(permit.action.id):
                if await self._asked_anew(run, permit, number + 1):
                    await self._launch(run, number + 1, fresh=False)

    # ------------------------------------------------------------------

    def _alone(self, action: str) -> asyncio.Lock:
        return self._one.setdefault(action, asyncio.Lock())

    async def _path(self, verb: str, native: str) -> str:
        resource = await self._look.id(self._site.name, "compute")
        return f"compute/{verb}/{quote(resource, safe='')}/{quote(native, safe='')}"

    async def _filesystem_id(self) -> str:
        return await self._look.id(self._filesystem, "filesystem")

    async def _log(self, run: RunDirectory, number: int) -> str:
        said = [await self._files.log(run, f"job-{number}.{end}") for end in ("out", "err")]
        return self._api.secret.scrub("\n".join(part for part in said if part))

    def _native(self, run: RunDirectory) -> str:
        asked = run.submissions()
        return asked[-1].native if asked else ""


@contextlib.contextmanager
def _understood() -> Iterator[None]:
    """A no to a question that decides nothing is not the end of an action: the token, say, may be another tomorrow."""
    try:
        yield
    except Refused as error:
        raise Unavailable(f"the facility does not allow it: {error}") from None


def _keep_lines(file: Path, lines: Sequence[str]) -> None:
    """Those that are not there yet, after those that are."""
    if lines:
        file.parent.mkdir(exist_ok=True)
        known = file.read_text().splitlines() if file.exists() else []
        with file.open("a") as kept:
            kept.writelines(f"{line}\n" for line in lines if line not in known)


def _failure(error: Refused) -> Failure:
    cause: Cause = "invalid-input" if error.status in INVALID else "refused"
    return Failure(cause=cause, message=f"the facility refused it: {error}")
