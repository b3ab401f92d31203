"""What is read from a request, and what is said where it is not right."""

import json
from datetime import datetime
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ._world import Item

TITLES = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict",
    422: "Unprocessable Entity", 429: "Too Many Requests", 503: "Service Unavailable",
}  # fmt: skip
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


class Problem(Exception):
    """An answer that is an error, as RFC 9457 has it."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}


def problem_of(request: Request, problem: Problem) -> Response:
    title = TITLES.get(problem.status, "Error")
    body = {"type": "about:blank", "status": problem.status, "title": title, "detail": problem.detail,
            "instance": str(request.url)}  # fmt: skip
    return JSONResponse(body, problem.status, problem.headers, media_type="application/problem+json")


async def http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem_of(request, Problem(error.status_code, error.detail, dict(error.headers or {})))


async def body_of(request: Request, optional: bool = False) -> Item:
    """The body, with 2.0 as 2: to JSON Schema both are integers."""
    content = await request.body()
    if optional and content.strip() in (b"", b"null"):
        return {}
    try:
        body = counted(json.loads(content))
    except ValueError as error:
        raise Problem(422, f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise Problem(422, "the body must be an object")
    return body


def convert(body: Item, form: type[Any]) -> Any:
    try:
        return msgspec.convert(body, form)
    except msgspec.ValidationError as error:
        raise Problem(422, str(error)) from None


def counted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: counted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [counted(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def one_of(items: list[Item], id: str) -> Item:
    for item in items:
        if item["id"] == id:
            return item
    raise Problem(404, f"there is no {id}")


def whole(text: str | None, default: int, name: str, most: int | None) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or (most is not None and int(text[:9]) > most):
        raise Problem(422, f"{name} must be a whole number{'' if most is None else f' of at most {most}'}")
    return int(text)


def truth(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "false").lower()
    if text not in ("true", "false", "null", ""):
        raise Problem(422, f"{name} must be true or false")
    return text == "true"


def modified_since(request: Request) -> datetime | None:
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


def check(name: str, wanted: str) -> None:
    if name in WORDS and wanted not in WORDS[name]:
        raise Problem(422, f"{name} must be one of {', '.join(WORDS[name])}")
    if not wanted:
        raise Problem(422, f"{name} must not be empty")


def matches(item: Item, name: str, key: str, wanted: str) -> bool:
    value = item.get(key, item.get("resource_uri") if name == "resource_id" else None)
    if name in ("resource_id", "incident_id", "capability"):
        return any(str(uri).rpartition("/")[2] == wanted for uri in (value if isinstance(value, list) else [value]))
    if name == "description":
        return wanted in str(value)
    return bool(value == wanted or (name == "resource_type" and str(value).startswith(f"{wanted}:")))
