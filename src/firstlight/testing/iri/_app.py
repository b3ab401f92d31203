"""The operations over HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ._requests import Problem, http_error, one_of, problem_of
from ._service import PREFIX, Server
from ._world import Item

Handler = Callable[[Request], Awaitable[Response]]


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

    routes, errors = _routes(server), {HTTPException: http_error}
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
    add("GET", "task", "getTasks", lambda r: answer_of(list(server.tasks.values())))
    add("GET", "task/{task_id}", "getTask", server.task)
    add("DELETE", "task/{task_id}", "deleteTask", server.delete_task)
    kept.append(Route("/control", _guarded(server, "control", server.control, False), methods=["POST"]))
    return kept


def _allocations(server: Server, add: Callable[[str, str, str, Handler], None]) -> None:
    """Of the one project there is, and of the storage of the one place there is."""
    facility = server.facility
    root = "account/projects/{project}/project_allocations"

    def allocations(request: Request) -> list[Item]:
        one_of(facility.projects(), request.path_params["project"])
        return facility.project_allocations()

    def users(request: Request) -> list[Item]:
        return facility.user_allocations(one_of(allocations(request), request.path_params["id"])["id"])

    def storage(request: Request) -> Item:
        return one_of(facility.resources(), request.path_params["resource_id"])

    async def locations(request: Request) -> Response:
        storage(request)
        return JSONResponse(facility.locations(server.files.root))

    async def endpoints(request: Request) -> Response:
        storage(request)
        return JSONResponse([])

    add("GET", root, "getProjectAllocationsByProject", lambda r: answer_of(allocations(r)))
    add("GET", f"{root}/{{id}}", "getProjectAllocationByProject",
        lambda r: answer_of(one_of(allocations(r), r.path_params["id"])))  # fmt: skip
    add("GET", f"{root}/{{id}}/user_allocations", "getUserAllocationsByProjectAllocation",
        lambda r: answer_of(users(r)))  # fmt: skip
    add("GET", f"{root}/{{id}}/user_allocations/{{user}}", "getUserAllocationByProjectAllocation",
        lambda r: answer_of(one_of(users(r), r.path_params["user"])))  # fmt: skip
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
            response = problem_of(request, problem)
        except ClientDisconnect:
            response = problem_of(request, Problem(400, "the request ended before its body did"))
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


async def answer_of(body: Any) -> Response:
    return JSONResponse(body)


async def _supporting(server: Server, endpoint: str) -> Response:
    return JSONResponse([r for r in server.facility.resources() if endpoint in r["supported_endpoints"]])
