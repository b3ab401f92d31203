"""A transport that holds everything that passes against the specification."""

import copy
import functools
import importlib.util
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

UNSPOKEN = (429, 502)
"""Answers that the specification says nothing of."""


@functools.cache
def load() -> Any:
    """The document, with problems in the media type that RFC 9457 gives them (it says application/json).

    None where it is not there.
    """
    home = os.environ.get("FIRSTLIGHT_DATA", str(Path(__file__).parents[4] / "shared" / "data"))
    file = Path(home) / "iri" / "iri-facility-api-v2.yaml"
    if not file.exists() or importlib.util.find_spec("openapi_core") is None:
        return None
    document = yaml.load(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if status.startswith(("4", "5")) and "application/json" in answer.get("content", {}):
                    answer["content"]["application/problem+json"] = answer["content"]["application/json"]
    return document


class Held(httpx.AsyncBaseTransport):
    """What it carried is in `seen`: (operation's path, method, status). What breaks the specification is raised."""

    def __init__(self) -> None:
        self._inner = httpx.AsyncHTTPTransport()
        self.seen: list[tuple[str, str, int]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        await response.aread()
        await request.aread()
        if load() is not None and response.status_code not in UNSPOKEN:
            check(request, response)
        self.seen.append((request.url.path, request.method, response.status_code))
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


def check(request: httpx.Request, response: httpx.Response) -> None:
    """Raises OpenAPIError where the request or the response is not as the specification has it."""
    testing = pytest.importorskip("openapi_core.testing")
    asked = testing.MockRequest(
        load()["servers"][0]["url"], request.method.lower(), request.url.path,
        args=dict(request.url.params), headers=dict(request.headers), data=request.content or None,
        content_type=request.headers.get("Content-Type", "application/json"),
    )  # fmt: skip
    kind = response.headers.get("Content-Type", "application/json").partition(";")[0]
    if response.is_error:
        assert kind == "application/problem+json", f"{response.status_code} is no problem of RFC 9457: {kind}"
        kind = "application/json"
    answered = testing.MockResponse(
        response.content, response.status_code, headers=dict(response.headers), content_type=kind
    )
    api = _api()
    # A refused request need not be right: it may have been refused for that.
    if response.is_success:
        api.validate_request(asked)
    if response.status_code != 204:
        api.validate_response(asked, answered)


@functools.cache
def _api() -> Any:
    core = pytest.importorskip("openapi_core")
    # The document itself is not quite right: the default of a view's size is less than its minimum.
    document = copy.deepcopy(load())
    # openapi-core takes a file for bytes, and the document for text.
    document["components"]["schemas"]["Body_upload"]["properties"]["file"] = {}
    return core.OpenAPI.from_dict(document, config=core.Config(spec_validator_cls=None))
