"""The operations."""

import asyncio
import re
import secrets
import tarfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ._files import LARGEST, Files, Refused
from ._forms import JobSpec
from ._jobs import LIVE, Answer, Job, Jobs
from ._requests import FILTERS, Problem, body_of, check, convert, matches, modified_since, one_of, truth, whole
from ._world import Facility, Fault, Item

PREFIX = "/api/v2"
CREATED = ("mkdir", "symlink", "cp", "mv", "compress", "extract")
FAILURES = (OSError, Refused, ValueError, LookupError, EOFError, OverflowError, tarfile.TarError, re.error)


class Server:
    """The facility, its jobs, its files, and what has been asked of them."""

    def __init__(self, directory: Path, base: str, token: str, nodes: int) -> None:
        self.facility = Facility(directory / "world.json", base)
        self.files = Files(directory / "files")
        self.jobs = Jobs(directory / "jobs", nodes)
        self.tasks: dict[str, Item] = {}
        self._token, self._directory = token, directory
        self._working: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------ facility, status, account

    async def one(self, request: Request, items: list[Item], id: str) -> Response:
        modified_since(request)
        return JSONResponse(one_of(items, id))

    async def many(self, request: Request, items: list[Item]) -> Response:
        limits = request.query_params.get("limit"), request.query_params.get("offset")
        limit, offset = whole(limits[0], 100, "limit", 1000), whole(limits[1], 0, "offset", None)
        since = modified_since(request)
        if since is not None:
            items = [i for i in items if datetime.fromisoformat(i["last_modified"]) >= since]
        for name, key in FILTERS.items():
            if (wanted := request.query_params.get(name)) is not None:
                check(name, wanted)
                items = [i for i in items if matches(i, name, key, wanted)]
        return JSONResponse(items[offset : offset + limit])

    # ------------------------------------------------------------------ compute

    async def launch(self, request: Request) -> Response:
        resource = self._compute(request)
        body = await body_of(request)
        spec = convert(body, JobSpec)
        if spec.container is not None:
            raise Problem(422, "there is no container runtime on this resource")
        account = spec.attributes.account if spec.attributes else None
        forwarded = request.headers.get("X-IRI-Facility-Project")
        if bool(account) == bool(forwarded):
            raise Problem(400, "Project/account must be specified in exactly one place: job_spec.attributes.account "
                               "or X-IRI-Facility-Project")  # fmt: skip
        if (account or forwarded) not in {"m0001"}:
            raise Problem(403, f"project {account or forwarded} is none of yours")
        if self.facility.world.status.get(resource) == "down":
            raise Problem(503, f"resource {resource} is down", {"Retry-After": "60"})
        if kept := self._answered(request, resource, body):
            return kept
        return self._answer(request, resource, body, self.jobs.new(resource, body))

    async def update(self, request: Request) -> Response:
        job, body = self._job(request), await body_of(request)
        convert(body, JobSpec)
        if kept := self._answered(request, job.id, body):
            return kept
        if job.state not in ("new", "queued", "held"):
            raise Problem(409, f"job {job.id} is {job.state}: only a job that waits can be changed")

        job.spec = body
        return self._answer(request, job.id, body, job)

    def _answered(self, request: Request, what: str, body: Item) -> Response | None:
        """The answer already given under an Idempotency-Key."""
        key = f"{what} {request.headers.get('Idempotency-Key')}"
        for job in self.jobs.all.values():
            if key in job.answers:
                if job.answers[key].asked != body:
                    raise Problem(422, "Idempotency-Key reused with a different request body.")
                return JSONResponse(job.answers[key].answer, headers={"Idempotency-Key-Reply": "hit"})
        return None

    def _answer(self, request: Request, what: str, body: Item, job: Job) -> Response:
        """Keep the job and the answer in one stroke: both are there after a crash, or neither."""
        answer, headers = job.shown(False), {}
        if key := request.headers.get("Idempotency-Key"):
            job.answers[f"{what} {key}"] = Answer(asked=body, answer=answer)
            headers["Idempotency-Key-Reply"] = "miss"
        self.jobs.keep(job)
        return JSONResponse(answer, headers=headers)

    async def job(self, request: Request) -> Response:
        job = self._job(request)
        truth(request, "historical")
        return JSONResponse(job.shown(truth(request, "include_spec")))

    async def list_jobs(self, request: Request) -> Response:
        resource, filters = self._compute(request), await body_of(request, optional=True)
        query = request.query_params
        limit, offset = whole(query.get("limit"), 100, "limit", 1000), whole(query.get("offset"), 0, "offset", None)
        old, spec = truth(request, "historical"), truth(request, "include_spec")
        found = [j for j in self.jobs.all.values() if j.resource == resource and (old or j.state in LIVE)]
        if isinstance(states := filters.get("states"), list):
            found = [j for j in found if j.state in states]
        shown = [j.shown(spec) for j in sorted(found, key=lambda j: (j.queued, j.id))]
        return JSONResponse(shown[offset : offset + limit])

    async def cancel(self, request: Request) -> Response:
        job = self._job(request)
        self.jobs.cancel(job)
        self.charge(job)
        return Response(status_code=204)

    def charge(self, job: Job) -> None:
        self.facility.world.used += job.node_hours
        self.facility.keep()

    def _compute(self, request: Request) -> str:
        id = str(request.path_params["resource_id"])
        resource = one_of(self.facility.resources(), id)
        if "compute" not in resource["supported_endpoints"]:
            raise Problem(404, f"resource {id} computes nothing")
        return id

    def _job(self, request: Request) -> Job:
        resource, id = self._compute(request), request.path_params["job_id"]
        if id not in self.jobs.all or self.jobs.all[id].resource != resource:
            raise Problem(404, f"there is no job {id} on {resource}")
        return self.jobs.all[id]

    # ------------------------------------------------------------------ files and tasks

    async def operate(self, request: Request) -> Response:
        operation = request.url.path.removeprefix(f"{PREFIX}/filesystem/").partition("/")[0]
        self._filesystem(request)
        form, act = self.files.operations[operation]
        body = await body_of(request)
        asked = convert(body, form)
        return self._task(operation, body, lambda: act(asked), 201 if operation in CREATED else 200)

    async def upload(self, request: Request) -> Response:
        self._filesystem(request)
        path = request.query_params.get("path")
        if path is None:
            raise Problem(422, "path is missing")
        kind = request.headers.get("Content-Type", "")
        if not kind.startswith("multipart/form-data") or "boundary=" not in kind:
            raise Problem(422, "file is missing: the body must be multipart/form-data")
        async with request.form() as form:
            file = form.get("file")
            content = file.encode() if isinstance(file, str) else await file.read(LARGEST + 1) if file else None
        if content is None:
            raise Problem(422, "file is missing")
        if len(content) > LARGEST:
            raise Problem(400, f"a file may have {LARGEST} bytes")
        return self._task("upload", {"path": path}, lambda: self.files.upload(path, content), 200)

    def _filesystem(self, request: Request) -> None:
        id = request.path_params["resource_id"]
        resource = one_of(self.facility.resources(), id)
        if "filesystem" not in resource["supported_endpoints"]:
            raise Problem(404, f"resource {id} keeps no files")
        if resource["current_status"] == "down":
            raise Problem(503, f"resource {id} is down", {"Retry-After": "60"})

    def _task(self, operation: str, arguments: Item, act: Callable[[], Any], status: int) -> Response:
        id = secrets.token_hex(8)
        command = {"router": "filesystem", "command": operation, "args": arguments}
        self.tasks[id] = {"id": id, "status": "pending", "result": None, "command": command}
        doing = asyncio.get_running_loop().create_task(self._do(id, act))
        self._working.add(doing)
        doing.add_done_callback(self._working.discard)
        return JSONResponse({"task_id": id, "task_uri": self.facility.uri(f"task/{id}")}, status)

    async def _do(self, id: str, act: Callable[[], Any]) -> None:
        await asyncio.sleep(self.facility.world.task_seconds)
        if self.tasks[id]["status"] != "pending":
            return
        self.tasks[id]["status"] = "active"
        try:
            output = await run_in_threadpool(act)
        except FAILURES as error:
            self.tasks[id] |= {"status": "failed", "result": {"error": str(error)}}
        else:
            self.tasks[id] |= {"status": "completed", "result": {"output": output}}

    async def task(self, request: Request) -> Response:
        return JSONResponse(one_of(list(self.tasks.values()), request.path_params["task_id"]))

    async def delete_task(self, request: Request) -> Response:
        task = one_of(list(self.tasks.values()), request.path_params["task_id"])
        if task["status"] in ("pending", "active"):
            task["status"] = "canceled"
        else:
            del self.tasks[task["id"]]
        return JSONResponse(f"task {task['id']} was deleted")

    # ------------------------------------------------------------------ for tests

    async def control(self, request: Request) -> Response:
        """Turn something: {"status": {...}}, {"fault": {...}}, {"incident": {...}}, {"set": {...}} ..."""
        asked, world, said = await body_of(request), self.facility.world, None
        world.status.update(asked.get("status", {}))
        for name, value in asked.get("set", {}).items():
            setattr(world, name, value)
        if "fault" in asked:
            world.faults.append(msgspec.convert(asked["fault"], Fault))
        if "incident" in asked:
            said = self.facility.open_incident(**asked["incident"])
        if "close" in asked:
            self.facility.close_incident(asked["close"])
        if asked.get("forget"):
            self.jobs.forget()
        self.facility.keep()
        return JSONResponse(said)

    def fault(self, operation: str) -> Fault | None:
        """The fault that this request meets."""
        for fault in self.facility.world.faults:
            if fault.times > 0 and fault.operation in ("", operation):
                fault.times -= 1
                self.facility.keep()
                return fault
        return None

    def note(self, line: str) -> None:
        """In the list of requests, by which tests count them."""
        with open(self._directory / "requests.log", "a") as file:
            file.write(f"{line}\n")

    def admit(self, request: Request) -> None:
        """Raises Problem where the bearer token is not the one."""
        said = request.headers.get("Authorization", "")
        if not secrets.compare_digest(said.encode(), f"Bearer {self._token}".encode()):
            detail = "the token is not valid" if said else "a bearer token is needed"
            raise Problem(401, detail, {"WWW-Authenticate": "Bearer"})
