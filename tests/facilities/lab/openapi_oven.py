"""An oven with an HTTP API in a process of its own: jobs that go on after the answer, and answers that do not come.

Usage: PORT. With TOKEN in the environment it wants it as the bearer token.
"""

import asyncio
import os
import sys
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

JOBS = dict[str, dict[str, Any]]()
SEEN = dict[str, int]()
SLOW = 298
"""Degrees for which a job begins only a while after it was asked for."""
OTHERS = ("hang", "drop", "fault", "busy", "later", "moved", "late", "stop")
TASKS = set[asyncio.Task[None]]()
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "Oven", "version": "3"},
    "components": {
        "schemas": {
            "Bake": {
                "type": "object", "required": ["target"],
                "properties": {
                    "target": {"$ref": "#/components/schemas/Target"},
                    "seconds": {"type": "number", "minimum": 0, "default": 0.1, "x-unit": "s"},
                    "gas": {"enum": ["air", "argon"], "type": "string", "default": "air"},
                    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                },
            },
            "Target": {"type": "number", "minimum": 20, "maximum": 300, "unit": "degC"},
            "Job": {"type": "object", "properties": {"id": {"type": "string"}, "status": {"type": "string"}}},
        }
    },
    "paths": {
        "/bake": {"post": {
            "operationId": "bake",
            "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Bake"}}}},
            "responses": {"202": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Job"}}}}},
        }},
        "/jobs/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
            "get": {"responses": {}}, "delete": {"responses": {}},
        },
        "/temperature": {"get": {"operationId": "temperature", "responses": {
            "200": {"content": {"application/json": {"schema": {"type": "number", "unit": "degC"}}}}}}},
        "/door/{side}": {"put": {
            "operationId": "door",
            "parameters": [
                {"name": "side", "in": "path", "required": True, "schema": {"enum": ["left", "right"]}},
                {"name": "open", "in": "query", "required": True, "schema": {"type": "boolean"}},
            ],
            "responses": {"200": {"content": {"application/json": {"schema": {"type": "object"}}}}},
        }},
        "/hang": {"post": {"operationId": "hang", "responses": {}}},
        "/drop": {"post": {"operationId": "drop", "responses": {}}},
        "/fault": {"post": {"operationId": "fault", "responses": {}}},
        "/busy": {"post": {"operationId": "busy", "responses": {}}},
        "/later": {"post": {"operationId": "later", "responses": {}}},
        "/pending": {"get": {"operationId": "pending", "responses": {}}},
        "/moved": {"post": {"operationId": "moved", "responses": {}}},
        "/late": {"post": {"operationId": "late", "responses": {}}},
        "/seen": {"get": {"operationId": "seen", "responses": {
            "200": {"content": {"application/json": {"schema": {"type": "object"}}}}}}},
        "/stop": {"post": {"operationId": "halt", "responses": {}}},
    },
}  # fmt: skip


async def bake(request: Request) -> JSONResponse:
    said, key = await request.json(), request.headers["Idempotency-Key"]
    if said["target"] > 300:
        return JSONResponse({"title": "too hot", "detail": f"{said['target']} is too hot"}, 422)
    if said["target"] == SLOW:
        await asyncio.sleep(0.5)
    if key in JOBS:
        return JSONResponse(JOBS[key], 202)
    job = JOBS[key] = {"id": key, "status": "baking", "done": 0.0, "result": None, "error": ""}
    task = asyncio.create_task(work(job, said["target"], said["seconds"]))
    TASKS.add(task)
    task.add_done_callback(TASKS.discard)
    return JSONResponse(job, 202)


async def work(job: dict[str, Any], target: float, seconds: float) -> None:
    for step in range(1, 6):
        await asyncio.sleep(seconds / 5)
        if job["status"] != "baking":
            return
        job["done"] = step / 5
    if target == 299:
        job.update(status="broken", error="the fan is stuck")
    else:
        job.update(status="ready", result={"reached": target})


async def job(request: Request) -> JSONResponse:
    found = JOBS.get(request.path_params["id"])
    if found is None:
        return JSONResponse({"detail": "no such job"}, 404)
    if request.method == "DELETE":
        found["status"] = "aborted"
    return JSONResponse(found)


async def temperature(request: Request) -> JSONResponse:
    return JSONResponse(25.0 + len(JOBS))


async def door(request: Request) -> JSONResponse:
    return JSONResponse({"side": request.path_params["side"], "open": request.query_params["open"]})


async def other(request: Request) -> JSONResponse:
    what = request.url.path[1:]
    SEEN[what] = SEEN.get(what, 0) + 1
    match what:
        case "hang":
            await asyncio.sleep(60)
        case "fault":
            return JSONResponse({"detail": "no idea"}, 500)
        case "busy":
            return JSONResponse({"detail": "it is busy"}, 409)
        case "later" | "pending":
            return JSONResponse({"accepted": True}, 202)
        case "moved":
            return JSONResponse(None, 303, {"Location": "/seen"})
        case "late":
            return JSONResponse({"detail": "it took too long"}, 408)
        case "drop":
            os._exit(1)
        case "stop":
            for found in JOBS.values():
                if found["status"] == "baking":
                    found["status"] = "aborted"
    return JSONResponse(SEEN)


async def document(request: Request) -> JSONResponse:
    token = os.environ.get("TOKEN")
    if token and request.headers.get("Authorization") != f"Bearer {token}":
        return JSONResponse({"detail": "who are you?"}, 401)
    return JSONResponse(DOCUMENT)


app = Starlette(routes=[
    Route("/openapi.json", document), Route("/bake", bake, methods=["POST"]),
    Route("/jobs/{id}", job, methods=["GET", "DELETE"]), Route("/temperature", temperature),
    Route("/door/{side}", door, methods=["PUT"]), Route("/seen", other), Route("/pending", other),
    *(Route(f"/{what}", other, methods=["POST"]) for what in OTHERS),
])  # fmt: skip

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
