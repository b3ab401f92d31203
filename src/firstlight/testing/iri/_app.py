"""The operations over HTTP."""

import asyncio
import contextlib
import json
import re
import secrets
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ._files import LARGEST, Files, Refused
from ._forms import JobSpec
from ._jobs import LIVE, Job, Jobs, body_digest
from ._world import Facility, Fault, Item

PREFIX = "/api/v2"
Handler = Callable[[Request], Awaitable[Response]]
CREATED = ("mkdir", "symlink", "cp", "mv", "compress", "extract")
FAILURES = (OSError, Refused, ValueError, LookupError, EOFError, OverflowError, tarfile.TarError, re.error)
TITLES = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict",
    422: "Unprocessable Entity", 429: "Too Many Requests", 503: "Service Unavailable",
}  # fmt: skip


class Problem(Exception):
    """An answer that is an error, as RFC 9457 has it."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}


class Server:
    """The facility, its jobs, its files, and what has been asked of them."""

    def __init__(self, directory: Path, base: str, token: str, nodes: int) -> None:
        self.facility = Facility(directory / "world.json", base)
        self.files = Files(directory / "files")
        self.jobs = Jobs(directory / "jobs", nodes)
        self.tasks: dict[str, Item] = {}
        self._token, self._directory = token, directory
        self._answers = directory / "answers"
        self._answers.mkdir(exist_ok=True)
        self._asking: set[str] = set()
        self._working: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------ facility, status, account

    async def one(self, request: Request, items: list[Item], id: str) -> Response:
        _modified_since(request)
        return JSONResponse(_find(items, id))

    async def many(self, request: Request, items: list[Item]) -> Response:
        limits = request.query_params.get("limit"), request.query_params.get("offset")
        limit, offset = _whole(limits[0], 100, "limit", 1000), _whole(limits[1], 0, "offset", None)
        since = _modified_since(request)
        if since is not None:
            items = [i for i in items if datetime.fromisoformat(i["last_modified"]) >= since]
        for name, key in FILTERS.items():
            if (wanted := request.query_params.get(name)) is not None:
                _check(name, wanted)
                items = [i for i in items if _matches(i, name, key, wanted)]
        return JSONResponse(items[offset : offset + limit])

    # ------------------------------------------------------------------ compute

    async def launch(self, request: Request) -> Response:
        resource = self._compute(request)
        body = await _body(request)
        spec = _convert(body, JobSpec)
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
        return await self._once(request, f"launch {resource}", body, lambda: self.jobs.add(resource, body).shown(False))

    async def update(self, request: Request) -> Response:
        job, body = self._job(request), await _body(request)
        _convert(body, JobSpec)
        if job.state not in ("new", "queued", "held"):
            raise Problem(409, f"job {job.id} is {job.state}: only a job that waits can be changed")

        def change() -> Item:
            self.jobs.change(job, body)
            return job.shown(False)

        return await self._once(request, f"update {job.id}", body, change)

    async def _once(self, request: Request, what: str, body: Item, act: Callable[[], Item]) -> Response:
        """Do it once for every Idempotency-Key, whatever happens to the answer."""
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return JSONResponse(act())
        kept = self._answers / f"{what}-{key}".encode().hex()[:240]
        if kept.exists():
            answer = json.loads(kept.read_text())
            if answer["asked"] != body_digest(body):
                raise Problem(422, "Idempotency-Key reused with a different request body.")
            return JSONResponse(answer["answer"], headers={"Idempotency-Key-Reply": "hit"})
        if key in self._asking:
            raise Problem(409, "A request with this Idempotency-Key is already in progress.", {"Retry-After": "1"})
        self._asking.add(key)
        try:
            answer = act()
            # No await between the deed and this: both are there, or neither.
            kept.write_text(json.dumps({"asked": body_digest(body), "answer": answer}))
        finally:
            self._asking.discard(key)
        return JSONResponse(answer, headers={"Idempotency-Key-Reply": "miss"})

    async def job(self, request: Request) -> Response:
        job = self._job(request)
        _truth(request, "historical")
        return JSONResponse(job.shown(_truth(request, "include_spec")))

    async def list_jobs(self, request: Request) -> Response:
        resource, filters = self._compute(request), await _body(request, optional=True)
        query = request.query_params
        limit, offset = _whole(query.get("limit"), 100, "limit", 1000), _whole(query.get("offset"), 0, "offset", None)
        old, spec = _truth(request, "historical"), _truth(request, "include_spec")
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
        resource = _find(self.facility.resources(), id)
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
        body = await _body(request)
        asked = _convert(body, form)
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
        resource = _find(self.facility.resources(), id)
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
        return JSONResponse(_find(list(self.tasks.values()), request.path_params["task_id"]))

    async def delete_task(self, request: Request) -> Response:
        task = _find(list(self.tasks.values()), request.path_params["task_id"])
        if task["status"] in ("pending", "active"):
            task["status"] = "canceled"
        else:
            del self.tasks[task["id"]]
        return JSONResponse(f"task {task['id']} was deleted")

    # ------------------------------------------------------------------ for tests

    async def control(self, request: Request) -> Response:
        """Turn something: {"status": {...}}, {"fault": {...}}, {"incident": {...}}, {"set": {...}} ..."""
        asked, world, said = await _body(request), self.facility.world, None
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


FILTERS = {
    "name": "name", "short_name": "short_name", "description": "description", "group": "group",
    "resource_type": "resource_type", "current_status": "current_status", "status": "status", "type": "type",
    "resolution": "resolution", "resource_id": "resource_uris", "incident_id": "incident_uri",
    "capability": "capability_uris",
}  # fmt: skip
WORDS = {
    "current_status": ("up", "down", "degraded", "unknown"), "status": ("up", "down", "degraded", "unknown"),
    "type": ("planned", "unplanned", "reservation"),
    "resolution": ("unresolved", "cancelled", "completed", "extended", "pending"),
}  # fmt: skip


def make(directory: Path, base: str, token: str, nodes: int) -> ASGIApp:
    """The application."""
    server = Server(directory, base, token, nodes)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async def tick() -> None:
            while True:
                server.jobs.tick(server.facility.world.hold, server.charge)
                await asyncio.sleep(0.03)

        ticking = asyncio.get_running_loop().create_task(tick())
        yield
        ticking.cancel()

    routes, errors = _routes(server), {HTTPException: _http_error}
    return _with_transport(Starlette(routes=routes, lifespan=lifespan, exception_handlers=errors))


def _routes(server: Server) -> list[Route]:
    facility = server.facility
    kept: list[Route] = []

    def add(method: str, path: str, name: str, act: Handler, open: bool = False) -> None:
        handler = _guarded(server, name, act, open)
        kept.append(Route(f"{PREFIX}/{path}", handler, methods=[method], name=name))

    def both(path: str, names: tuple[str, str], items: Callable[[], list[Item]], open: bool) -> None:
        add("GET", path, names[0], lambda r: server.many(r, items()), open)
        add("GET", f"{path}/{{id}}", names[1], lambda r: server.one(r, items(), r.path_params["id"]), open)

    add("GET", "facility", "getFacility", lambda r: server.one(r, [facility.facility()], "testbed"), True)
    both("facility/sites", ("getSites", "getSite"), facility.sites, True)
    both("status/resources", ("getResources", "getResource"), facility.resources, True)
    both("status/incidents", ("getIncidents", "getIncident"), facility.incidents, True)
    both("status/events", ("getEventsByIncident", "getEventByIncident"), facility.events, True)
    both("account/capabilities", ("getCapabilities", "getCapability"), facility.capabilities, True)
    both("account/projects", ("getProjects", "getProject"), facility.projects, False)
    _allocations(server, add)
    add("GET", "compute/resources", "getComputeResources", lambda r: _supporting(server, "compute"), True)
    add("POST", "filesystem/resources", "getFilesystemResources", lambda r: _supporting(server, "filesystem"), True)
    add("POST", "compute/job/{resource_id}", "launchJob", server.launch)
    add("PUT", "compute/job/{resource_id}/{job_id}", "updateJob", server.update)
    add("GET", "compute/status/{resource_id}/{job_id}", "getJob", server.job)
    add("POST", "compute/status/{resource_id}", "getJobs", server.list_jobs)
    add("DELETE", "compute/cancel/{resource_id}/{job_id}", "cancelJob", server.cancel)
    for operation in server.files.operations:
        add("POST", f"filesystem/{operation}/{{resource_id}}", operation, server.operate)
    add("POST", "filesystem/upload/{resource_id}", "upload", server.upload)
    add("GET", "task", "getTasks", lambda r: _answer(list(server.tasks.values())))
    add("GET", "task/{task_id}", "getTask", server.task)
    add("DELETE", "task/{task_id}", "deleteTask", server.delete_task)
    kept.append(Route("/control", _guarded(server, "control", server.control, False), methods=["POST"]))
    return kept


def _allocations(server: Server, add: Callable[[str, str, str, Handler], None]) -> None:
    """Of the one project there is, and of the storage of the one place there is."""
    facility = server.facility
    root = "account/projects/{project}/project_allocations"

    def allocations(request: Request) -> list[Item]:
        _find(facility.projects(), request.path_params["project"])
        return facility.project_allocations()

    def users(request: Request) -> list[Item]:
        return facility.user_allocations(_find(allocations(request), request.path_params["id"])["id"])

    def storage(request: Request) -> Item:
        return _find(facility.resources(), request.path_params["resource_id"])

    async def locations(request: Request) -> Response:
        storage(request)
        return JSONResponse(facility.locations(server.files.root))

    async def endpoints(request: Request) -> Response:
        storage(request)
        return JSONResponse([])

    add("GET", root, "getProjectAllocationsByProject", lambda r: _answer(allocations(r)))
    add("GET", f"{root}/{{id}}", "getProjectAllocationByProject",
        lambda r: _answer(_find(allocations(r), r.path_params["id"])))  # fmt: skip
    add("GET", f"{root}/{{id}}/user_allocations", "getUserAllocationsByProjectAllocation",
        lambda r: _answer(users(r)))  # fmt: skip
    add("GET", f"{root}/{{id}}/user_allocations/{{user}}", "getUserAllocationByProjectAllocation",
        lambda r: _answer(_find(users(r), r.path_params["user"])))  # fmt: skip
    add("GET", "storage/locations/{resource_id}", "getStorageLocations", locations)
    add("GET", "storage/access-endpoints/{resource_id}", "getStorageAccessEndpoints", endpoints)


def _guarded(server: Server, name: str, act: Handler, open: bool) -> Handler:
    """With the token looked at, errors as problem+json, and whatever fault is due."""

    async def handle(request: Request) -> Response:
        fault = None if name == "control" else server.fault(name)
        try:
            if fault and fault.how.isdigit():
                retry = {"Retry-After": f"{fault.seconds:g}"} if fault.seconds else {}
                raise Problem(int(fault.how), fault.detail or "out of order", retry)
            if not open:
                server.admit(request)
            response = await act(request)
        except Problem as problem:
            response = _problem(request, problem)
        server.note(f"{name} {response.status_code} {request.url.path} {request.url.query}")
        if fault and fault.how == "slow":
            await asyncio.sleep(fault.seconds)
        if fault and fault.how == "drop":
            return _Dropped()
        return response

    return handle


class _Dropped(Response):
    """The connection ends without an answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["transport"].abort()


def _with_transport(app: Starlette) -> ASGIApp:
    """ASGI has no word for ending a connection: uvicorn's own is reached by its way of sending."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        scope["transport"] = getattr(getattr(send, "__self__", None), "transport", None)
        await app(scope, receive, send)

    return call


def _problem(request: Request, problem: Problem) -> Response:
    title = TITLES.get(problem.status, "Error")
    body = {"type": "about:blank", "status": problem.status, "title": title, "detail": problem.detail,
            "instance": str(request.url)}  # fmt: skip
    return JSONResponse(body, problem.status, problem.headers, media_type="application/problem+json")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _problem(request, Problem(error.status_code, error.detail, dict(error.headers or {})))


async def _answer(body: Any) -> Response:
    return JSONResponse(body)


async def _supporting(server: Server, endpoint: str) -> Response:
    return JSONResponse([r for r in server.facility.resources() if endpoint in r["supported_endpoints"]])


async def _body(request: Request, optional: bool = False) -> Item:
    """The body, with 2.0 as 2: to JSON Schema both are integers."""
    content = await request.body()
    if optional and content.strip() in (b"", b"null"):
        return {}
    try:
        body = _counted(json.loads(content))
    except ValueError as error:
        raise Problem(422, f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise Problem(422, "the body must be an object")
    return body


def _convert(body: Item, form: type[Any]) -> Any:
    try:
        return msgspec.convert(body, form)
    except msgspec.ValidationError as error:
        raise Problem(422, str(error)) from None


def _counted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _counted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_counted(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _find(items: list[Item], id: str) -> Item:
    for item in items:
        if item["id"] == id:
            return item
    raise Problem(404, f"there is no {id}")


def _whole(text: str | None, default: int, name: str, most: int | None) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or (most is not None and int(text[:9]) > most):
        raise Problem(422, f"{name} must be a whole number{'' if most is None else f' of at most {most}'}")
    return int(text)


def _truth(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "false").lower()
    if text not in ("true", "false", "null", ""):
        raise Problem(422, f"{name} must be true or false")
    return text == "true"


def _modified_since(request: Request) -> datetime | None:
    text = request.query_params.get("modified_since")
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Problem(422, "modified_since must be a date and a time, as ISO 8601 has them") from None
    if found.tzinfo is None or "T" not in text:
        raise Problem(422, "modified_since must have a time zone")
    return found


def _check(name: str, wanted: str) -> None:
    if name in WORDS and wanted not in WORDS[name]:
        raise Problem(422, f"{name} must be one of {', '.join(WORDS[name])}")
    if not wanted:
        raise Problem(422, f"{name} must not be empty")


def _matches(item: Item, name: str, key: str, wanted: str) -> bool:
    value = item.get(key, item.get("resource_uri") if name == "resource_id" else None)
    if name in ("resource_id", "incident_id", "capability"):
        return any(str(uri).rpartition("/")[2] == wanted for uri in (value if isinstance(value, list) else [value]))
    if name == "description":
        return wanted in str(value)
    return bool(value == wanted or (name == "resource_type" and str(value).startswith(f"{wanted}:")))
