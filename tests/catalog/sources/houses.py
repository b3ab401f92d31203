"""A server with several small houses in it, some of which misbehave, for tests of sources. Usage: PORT.

Whatever may happen a second time otherwise than the first goes by the parameter `key`, so that tests do not meet.
"""

import asyncio
import hashlib
import json
import random
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

CONTENT = random.Random(7).randbytes(3_000_000)
ETAG = f'"{hashlib.sha256(CONTENT).hexdigest()[:16]}"'
SEEN = dict[str, list[dict[str, Any]]]()
"""Requests by key, the headers and parameters of each."""


def seen(request: Request) -> int:
    """Which request of its key this is, from 1."""
    key = request.query_params.get("key", "")
    SEEN.setdefault(key, []).append(
        {"path": request.url.path, "headers": dict(request.headers), "params": dict(request.query_params)}
    )
    return len(SEEN[key])


async def log(request: Request) -> Response:
    return JSONResponse(SEEN.get(request.query_params["of"], []))


# ---------------------------------------------------------------------- files


async def file(request: Request) -> Response:
    """Three million bytes. `cut` breaks off after so many bytes of the first answer; `plain` knows no parts; `lie`
    leaves some bytes out; `new` is another file from the second request on; `named` is what it is called."""
    count, params = seen(request), request.query_params
    content, etag = CONTENT, ETAG
    if "new" in params and count > 1:
        content, etag = CONTENT[::-1], '"other"'
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304)
    headers = {"ETag": etag, "Content-Type": "text/csv", "Content-Length": str(len(content))}
    if "plain" in params:
        del headers["ETag"]
    if "named" in params:
        headers["Content-Disposition"] = params["named"]
    first, status = 0, 200
    if (asked := request.headers.get("range")) and request.headers.get("if-range") == etag and "plain" not in params:
        first, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
        first += 10 if "lie" in params and count == 2 else 0
        headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        headers["Content-Length"] = str(len(content) - first)
    cut = int(params["cut"]) if "cut" in params and count <= int(params.get("times", 1)) else len(content)

    async def body() -> AsyncIterator[bytes]:
        for at in range(first, min(first + cut, len(content)), 65536):
            yield content[at : min(at + 65536, first + cut)]
        if first + cut < len(content):
            await asyncio.sleep(0.05)
            raise ConnectionResetError("as the test wishes")

    return StreamingResponse(body(), status, headers)


async def small(request: Request) -> Response:
    seen(request)
    if request.path_params["name"].startswith("gone"):
        return PlainTextResponse("gone", 404)
    return PlainTextResponse(f"x,y\n1,{request.path_params['name']}\n", media_type="text/csv")


async def listing(request: Request) -> Response:
    return JSONResponse({"files": [
        {"url": "small/a.csv", "title": "Alpha scan", "license": "CC0-1.0", "doi": "10.5555/alpha"},
        {"url": "small/b.csv", "title": "Beta scan", "size": 7},
        "small/c.csv",
    ]})  # fmt: skip


async def page(request: Request) -> Response:
    links = ("small/a.csv", "about.html", "?C=N;O=D", "/small/b.csv")
    return Response("".join(f'<a href="{link}">x</a>' for link in links), media_type="text/html")


# ---------------------------------------------------------------------- misbehaviour


async def busy(request: Request) -> Response:
    """503 as often as `times`, then what there is."""
    if seen(request) <= int(request.query_params.get("times", 1)):
        headers = {"Retry-After": after} if (after := request.query_params.get("after")) else None
        return Response("later", int(request.query_params.get("status", 503)), headers)
    return JSONResponse({"dataset": []})


async def hang(request: Request) -> Response:
    seen(request)
    await asyncio.sleep(600)
    return Response()


async def junk(request: Request) -> Response:
    seen(request)
    content = b"[" * 200_000 if "deep" in request.query_params else b"\xff\xfe<<<\x00"
    return Response(content, media_type="application/json")


async def endless(request: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65536
            await asyncio.sleep(0.001)

    return StreamingResponse(body(), media_type="application/json")


async def away(request: Request) -> Response:
    """Leads to `to`, or round and round."""
    seen(request)
    return RedirectResponse(request.query_params.get("to") or str(request.url), 302)


async def whoami(request: Request) -> Response:
    seen(request)
    return JSONResponse({"headers": dict(request.headers), "dataset": []})


# ---------------------------------------------------------------------- CKAN and DCAT-US

PACKAGES: list[dict[str, Any]] = [
    {
        "id": f"p{n}", "name": f"wells-{n}", "title": f"Wells of region {n}", "notes": "Depth of ground water.",
        "license_id": "notspecified" if n == 2 else "cc-by", "metadata_modified": f"2024-0{n + 1}-01T00:00:00.000000",
        "organization": {"title": "Geological Survey", "name": "usgs"}, "maintainer_email": "wells@example.org",
        "tags": [{"name": "water"}, {"name": f"region{n}"}],
        "extras": [{"key": "accessLevel", "value": ["public", "restricted public", "non-public"][n]}],
        "resources": [
            {"url": f"http://HOST/small/w{n}.csv", "format": "CSV", "hash": "", "size": 10},
            {"url": "http://HOST/page", "format": "HTML"},
            *([{"url": "http://HOST/small/gone.csv", "format": "CSV"}] if n else []),
            *([{"url": "http://HOST/busy?times=99", "format": "CSV"}] if n == 2 else []),
        ],
    }
    for n in range(3)
]  # fmt: skip


def here(request: Request, said: object) -> Any:
    return json.loads(json.dumps(said).replace("HOST", request.url.netloc))


async def package_search(request: Request) -> Response:
    """Understands q as words of the title, and fq of the shape `tags:("a" OR "b")`."""
    seen(request)
    params = request.query_params
    found = [p for p in PACKAGES if all(word in p["title"].lower() for word in params.get("q", "").split())]
    if (fq := params.get("fq", "")).startswith("tags:("):
        wanted = set(fq.removeprefix("tags:(").rstrip(")").replace('"', "").split(" OR "))
        found = [p for p in found if wanted & {t["name"] for t in p["tags"]}]
    start, rows = int(params.get("start", 0)), int(params.get("rows", 10))
    result = {"count": len(found), "results": found[start : start + rows]}
    return JSONResponse(here(request, {"success": True, "result": result}))


async def package_show(request: Request) -> Response:
    found = [p for p in PACKAGES if request.query_params["id"] in (p["id"], p["name"])]
    if not found:
        return JSONResponse({"success": False, "error": {"message": "Not found"}}, 404)
    return JSONResponse(here(request, {"success": True, "result": found[0]}))


ONE_ONE = {
    "conformsTo": "https://project-open-data.cio.gov/v1.1/schema",
    "dataset": [
        {
            "identifier": "doi:10.5555/ABC", "title": "Rain", "description": "Daily rain.", "accessLevel": "public",
            "license": "https://creativecommons.org/publicdomain/zero/1.0/", "keyword": ["rain", "water"],
            "publisher": {"name": "Weather Office"}, "modified": "2024-05-01",
            "contactPoint": {"fn": "Ann", "hasEmail": "mailto:ann@example.org"},
            "distribution": [{"downloadURL": "http://HOST/small/rain.csv", "mediaType": "text/csv"}],
        },
        {
            "identifier": "secretish", "title": "Valves", "description": "Where valves are.", "keyword": ["water"],
            "accessLevel": "restricted public", "rights": "Ask the office.", "modified": "2023-01-01",
            "distribution": [{"accessURL": "http://HOST/page"}],
        },
    ],
}  # fmt: skip
THREE = {
    "@type": "Catalog",
    "dataset": [
        {
            "@id": "https://example.org/d/1", "title": "Plans", "description": "Plans of a plant.",
            "cuiRestriction": {"cuiBannerMarking": "CUI//SP-CTI", "designationIndicator": "Office"},
            "contactPoint": [{"fn": "Bo", "hasEmail": "mailto:bo@example.org"}], "issued": "2025-02-03T04:05:06Z",
            "publisher": {"@type": "Organization", "name": "Works"},
            "distribution": [{
                "downloadURL": "http://HOST/small/plan.csv", "license": "https://example.org/terms", "byteSize": 12,
                "checksum": {"algorithm": "sha256", "checksumValue": "0" * 64},
            }],
        },
        {
            "@id": "https://example.org/d/2", "title": "Maps", "description": "Maps.", "publisher": {"name": "Works"},
            "accessRights": "http://publications.europa.eu/resource/authority/access-right/PUBLIC",
        },
    ],
}  # fmt: skip


async def one_one(request: Request) -> Response:
    seen(request)
    if request.headers.get("if-none-match") == '"v1"':
        return Response(status_code=304)
    return JSONResponse(here(request, ONE_ONE), headers={"ETag": '"v1"'})


async def three(request: Request) -> Response:
    return JSONResponse(here(request, THREE))


# ---------------------------------------------------------------------- samples, described by OpenAPI

SAMPLES: list[dict[str, Any]] = [
    {
        "identifier": {"namespace": {"organization": "lab", "name": "study"}, "name": f"S{n:03}"},
        "metadata": {
            "title": f"Tumour {n}", "organism": "Homo sapiens" if n % 2 else "Mus musculus",
            "age": {"value": 10 + n}, "license": "CC-BY-4.0" if n else None, "updated": "2024-01-02T00:00:00Z",
        },
    }
    for n in range(25)
]  # fmt: skip


async def samples(request: Request) -> Response:
    """Refuses what its document does not declare, as strict servers do."""
    seen(request)
    params = request.query_params
    if unknown := set(params) - {"page", "per_page", "organism", "age_min", "search", "key"}:
        return JSONResponse({"errors": [f"unknown parameters: {sorted(unknown)}"]}, 422)
    found = [s for s in SAMPLES if params.get("organism", s["metadata"]["organism"]) == s["metadata"]["organism"]]
    found = [s for s in found if s["metadata"]["age"]["value"] >= float(params.get("age_min", 0))]
    found = [s for s in found if params.get("search", "").lower() in s["metadata"]["title"].lower()]
    page, size = int(params.get("page", 1)), int(params.get("per_page", 10))
    return JSONResponse({"summary": {"counts": {"all": len(found)}}, "data": found[(page - 1) * size : page * size]})


async def sample(request: Request) -> Response:
    found = [s for s in SAMPLES if s["identifier"]["name"] == request.path_params["name"]]
    return JSONResponse(found[0]) if found else JSONResponse({"errors": ["no such sample"]}, 404)


def path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Federated samples", "version": "1.2.0"},
    "servers": [{"url": "/"}],
    "components": {"parameters": {
        "Page": {"name": "page", "in": "query", "schema": {"type": "integer", "minimum": 1}},
        "Size": {"name": "per_page", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 10}},
    }},
    "paths": {
        "/sample": {"get": {
            "operationId": "sample_index",
            "parameters": [
                {"$ref": "#/components/parameters/Page"}, {"$ref": "#/components/parameters/Size"},
                {"name": "search", "in": "query", "schema": {"type": "string"}},
                {"name": "organism", "in": "query", "schema": {"enum": ["Homo sapiens", "Mus musculus"]}},
                {"name": "age_min", "in": "query", "schema": {"type": "number", "minimum": 0}},
            ],
            "responses": {"200": {"description": "samples"}},
        }},
        "/sample/{organization}/{namespace}/{name}": {"get": {
            "operationId": "sample_show",
            "parameters": [path_parameter("organization"), path_parameter("namespace"), path_parameter("name")],
            "responses": {"200": {"description": "a sample"}},
        }},
    },
}  # fmt: skip


async def document(request: Request) -> Response:
    return JSONResponse(DOCUMENT)


APP = Starlette(routes=[
    Route("/log", log), Route("/file", file), Route("/data/{rest}", file), Route("/small/{name}", small),
    Route("/listing.json", listing), Route("/page", page), Route("/busy", busy), Route("/busy.json", busy),
    Route("/hang", hang), Route("/hang.json", hang), Route("/junk", junk), Route("/junk.json", junk),
    Route("/endless", endless), Route("/away", away), Route("/whoami", whoami),
    Route("/api/3/action/package_search", package_search), Route("/api/3/action/package_show", package_show),
    Route("/data.json", one_one), Route("/three.json", three), Route("/openapi.json", document),
    Route("/sample", samples), Route("/sample/{organization}/{namespace}/{name}", sample),
])  # fmt: skip


if __name__ == "__main__":
    uvicorn.run(APP, host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
