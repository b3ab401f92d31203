"""OpenAPI 3.0 and 3.1 documents, as far as asking for lists needs them (https://spec.openapis.org/oas/v3.1.1)."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urljoin

import msgspec
import yaml

from firstlight.core import Value

from ._said import UNREADABLE


class Operation(Value, frozen=True):
    """One GET: its path, and its parameters by name, each as the document declares it."""

    name: str
    path: str
    parameters: dict[str, dict[str, Any]]

    def address(self, server: str, path: Mapping[str, str]) -> str:
        """Where it is, with the parameters of its path put in. Raises ValueError where one is missing."""

        def put(match: re.Match[str]) -> str:
            value = path.get(match[1], "")
            if not value or value in (".", ".."):
                raise ValueError(f"{self.name} needs {match[1]}: say where it is (path)")
            return quote(value, safe="")

        return server + re.sub(r"\{([^}]+)\}", put, self.path)

    def check(self, params: Sequence[tuple[str, str]]) -> None:
        """Raises ValueError where a parameter is not declared, is missing or has a value that is not allowed."""
        for name, value in params:
            declared = self.parameters.get(name)
            if declared is None or declared.get("in") != "query":
                known = ", ".join(sorted(n for n, p in self.parameters.items() if p.get("in") == "query"))
                raise ValueError(f"{self.name} has no query parameter {name!r}: it has {known or 'none'}")
            if problem := _problem(_schema(declared), value):
                raise ValueError(f"{self.name} does not take {value!r} as {name}: {problem}")
        given = {name for name, _ in params}
        for name, declared in self.parameters.items():
            if declared.get("in") == "query" and declared.get("required") and name not in given:
                raise ValueError(f"{self.name} needs the query parameter {name!r}: say so in the mapping (always)")

    def clamped(self, name: str, count: int) -> int:
        """A number that the parameter allows, `count` or the nearest to it."""
        schema = _schema(self.parameters.get(name, {}))
        low, high = schema.get("minimum"), schema.get("maximum")
        count = min(count, int(high)) if isinstance(high, int | float) else count
        return max(count, int(low)) if isinstance(low, int | float) else count

    def takes_several(self, name: str) -> bool:
        """Whether it may be given several times, for any of the values."""
        declared = self.parameters.get(name, {})
        return declared.get("schema", {}).get("type") == "array" and declared.get("explode", True) is not False


class Document(Value, frozen=True):
    """A document: its server, and what may be asked of it by operationId and by "GET /path"."""

    server: str
    operations: dict[str, Operation]

    def operation(self, name: str) -> Operation:
        """Raises ValueError where there is none of this name."""
        if name not in self.operations:
            raise ValueError(f"the OpenAPI document has no operation {name!r}: it has {', '.join(self.operations)}")
        return self.operations[name]


def parsed(content: bytes, server: str, base: str) -> Document:
    """A document in JSON or YAML that is at `base`. Its server is `server`, or else the first that it names.

    Raises ValueError where it is none.
    """
    try:
        said = msgspec.json.decode(content) if content.lstrip()[:1] == b"{" else yaml.safe_load(content)
    except (*UNREADABLE, yaml.YAMLError) as error:
        raise ValueError(f"it is neither JSON nor YAML ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(said, dict) or not str(said.get("openapi", "")).startswith("3."):
        raise ValueError("it does not say that it is OpenAPI 3")
    operations = dict[str, Operation]()
    for path, item in _object(said, "paths").items():
        item = _resolved(said, item)
        about = item.get("get")
        if not isinstance(about, dict):
            continue
        listed = [*item.get("parameters", []), *about.get("parameters", [])]
        parameters = dict[str, dict[str, Any]]()
        for one in (_resolved(said, p) for p in listed):
            parameters[str(one.get("name"))] = {**one, "schema": _resolved(said, one.get("schema") or {})}
        operation = Operation(name=str(about.get("operationId") or f"GET {path}"), path=path, parameters=parameters)
        operations |= {operation.name: operation, f"GET {path}": operation}
    servers = said.get("servers")
    named = servers[0].get("url") if isinstance(servers, list) and servers and isinstance(servers[0], dict) else "/"
    found = (server or urljoin(base, str(named))).rstrip("/")
    if not found.startswith(("http://", "https://")):
        raise ValueError("it does not say where its server is: give the option url")
    return Document(server=found, operations=operations)


def at(said: object, pointer: str) -> Any:
    """What is at a JSON pointer (RFC 6901), None where nothing is. "*" goes to all items of a list."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    for n, part in enumerate(parts):
        if isinstance(said, list) and part == "*":
            rest = "".join("/" + p.replace("~", "~0").replace("/", "~1") for p in parts[n + 1 :])
            return [at(item, rest) for item in said]
        if isinstance(said, list) and part.isdecimal():
            said = said[int(part)] if int(part) < len(said) else None
        else:
            said = said.get(part) if isinstance(said, dict) else None
    return said


def _object(said: Mapping[str, Any], key: str) -> dict[str, Any]:
    inner = said.get(key)
    return inner if isinstance(inner, dict) else {}


def _resolved(document: Mapping[str, Any], said: object) -> dict[str, Any]:
    """What a reference within the document leads to. Raises ValueError where that is nothing, or it goes in circles."""
    for _ in range(20):
        if not isinstance(said, dict):
            raise ValueError("a reference in it leads to nothing")
        if "$ref" not in said:
            return said
        if not str(said["$ref"]).startswith("#/"):
            raise ValueError(f"it refers to another document ({said['$ref']}), which is not read")
        said = at(document, str(said["$ref"])[1:])
    raise ValueError("its references go in circles")


def _schema(declared: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of one value of a parameter."""
    schema = _object(declared, "schema")
    return _object(schema, "items") if schema.get("type") == "array" else schema


def _problem(schema: Mapping[str, Any], value: str) -> str:
    """Why a value is not allowed, "" where it is."""
    kinds = schema.get("type", "string")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "string" not in kinds and ("integer" in kinds or "number" in kinds):
        try:
            number = float(value)
        except ValueError:
            return "it must be a number"
        if "number" not in kinds and number != int(number):
            return "it must be a whole number"
        low, high = schema.get("minimum"), schema.get("maximum")
        if (isinstance(low, int | float) and number < low) or (isinstance(high, int | float) and number > high):
            return f"it must be from {low} to {high}"
    if "boolean" in kinds and "string" not in kinds and value not in ("true", "false"):
        return "it must be true or false"
    if isinstance(allowed := schema.get("enum"), list) and value not in map(str, allowed):
        return f"it must be one of {', '.join(map(str, allowed))}"
    return ""
