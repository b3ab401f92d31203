"""An OpenAPI 3 document as operations and signals, and settings as requests."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from ...core import Argument, ArgumentType, Effect, Operation, Scalar, Signal

METHODS = ("get", "put", "post", "delete", "patch")
_TYPES: dict[str, ArgumentType] = {
    "number": "number", "integer": "integer", "string": "string", "boolean": "boolean", "array": "array",
    "object": "object",
}  # fmt: skip
_DEEPEST = 20
_UNIT = ("unit", "units", "x-unit", "x-units")


class Wishes(msgspec.Struct, frozen=True):
    """What the document does not say: other names, effects, units of texts that are quantities, units of results."""

    only: tuple[str, ...] = ()
    names: Mapping[str, str] = {}
    effects: Mapping[str, Effect] = {}
    quantities: Mapping[str, str] = {}
    units: Mapping[str, str] = {}
    needed: tuple[str, ...] = ()


class Place(msgspec.Struct, frozen=True):
    """Where an argument goes: in the path, query, header, body; or it is the whole body. With `unit` it is sent as a
    text of number and unit."""

    name: str
    where: str
    unit: str = ""


class Route(msgspec.Struct, frozen=True):
    """An operation and the request that performs it; `goes_on` where it is answered before it is done."""

    method: str
    path: str
    operation: Operation
    places: dict[str, Place]
    goes_on: bool = False

    @property
    def reads(self) -> bool:
        return self.operation.effect == "read"


class Request(msgspec.Struct, frozen=True):
    """What is sent."""

    path: str
    query: dict[str, Any] = {}
    headers: dict[str, str] = {}
    body: Any = None


def routes(document: Mapping[str, Any], wishes: Wishes) -> dict[str, Route]:
    """The operations by their names. Raises ValueError where it is no OpenAPI 3 document."""
    if not str(document.get("openapi", "")).startswith("3."):
        raise ValueError("it is no OpenAPI 3 document")
    found = dict[str, Route]()
    for path, item in document.get("paths", {}).items():
        for method in METHODS:
            if method not in item or (wishes.only and not any(path.startswith(p) for p in wishes.only)):
                continue
            said = item[method]
            route = _route(document, path, method, said, item.get("parameters", ()), wishes)
            if route is not None:
                found[route.operation.name] = route
    return found


def _route(
    document: Mapping[str, Any], path: str, method: str, said: Mapping[str, Any], shared: Sequence[Any], wishes: Wishes
) -> Route | None:
    by_path = f"{method.upper()} {path}"
    id = said.get("operationId", by_path)
    name = wishes.names.get(by_path, wishes.names.get(id, id))
    arguments, places = list[Argument](), dict[str, Place]()
    try:
        for argument, place in _arguments(document, said, shared, wishes):
            arguments.append(argument)
            places[argument.name] = place
    except LookupError:
        # It needs what cannot be given: a file, a cookie.
        return None
    effect: Effect = wishes.effects.get(name, "read" if method == "get" else "consuming")
    operation = Operation(
        name=name, effect=effect, arguments=tuple(arguments), results=_results(document, said, name, wishes),
        description=str(said.get("description") or said.get("summary") or ""),
    )  # fmt: skip
    good = {str(code) for code in said.get("responses", {}) if str(code).startswith("2")}
    return Route(method=method, path=path, operation=operation, places=places, goes_on=good == {"202"})


def _arguments(
    document: Mapping[str, Any], said: Mapping[str, Any], shared: Sequence[Any], wishes: Wishes
) -> Iterator[tuple[Argument, Place]]:
    """Those that must be given or have a default; the others can be left out, and are."""
    parameters = {
        (p["name"], p["in"]): p for p in (resolved(document, p) for p in (*shared, *said.get("parameters", ())))
    }
    taken = set[str]()
    for (name, where), p in parameters.items():
        required = p.get("required", False) or where == "path"
        if where == "cookie" and required:
            raise LookupError(name)
        made = _argument(document, name, p.get("schema", {}), required, wishes, str(p.get("description", "")))
        if made is not None and where != "cookie":
            taken.add(name)
            yield made, Place(name, where, wishes.quantities.get(name, ""))
    if "requestBody" not in said:
        return
    body = resolved(document, said["requestBody"])
    content = next((c for kind, c in body.get("content", {}).items() if kind.split(";")[0].endswith("json")), None)
    if content is None:
        if body.get("required", False):
            raise LookupError("body")
        return
    schema = resolved(document, content.get("schema", {}))
    if "properties" not in schema:
        if (made := _argument(document, "body", schema, body.get("required", False), wishes)) is not None:
            yield made, Place("body", "whole", wishes.quantities.get("body", ""))
        return
    for name, member in schema["properties"].items():
        called = f"body_{name}" if name in taken else name
        made = _argument(document, called, member, name in schema.get("required", ()), wishes)
        if made is not None:
            yield made, Place(name, "body", wishes.quantities.get(called, ""))


def _argument(
    document: Mapping[str, Any], name: str, schema: Any, required: bool, wishes: Wishes, about: str = ""
) -> Argument | None:
    schema = resolved(document, schema)
    default = schema.get("default")
    scalar = default if isinstance(default, int | float | str) else None
    if not required and name not in wishes.needed and name not in wishes.quantities and scalar is None:
        return None
    if name in wishes.needed or required:
        scalar = None if name in wishes.needed else scalar
    if name in wishes.quantities:
        return Argument(
            name=name, unit=wishes.quantities[name], description=about or str(schema.get("description", ""))
        )
    return argument(document, name, schema, scalar, about)


def argument(
    document: Mapping[str, Any], name: str, schema: Any, default: Scalar | None = None, about: str = ""
) -> Argument:
    """A schema as an argument."""
    schema = resolved(document, schema)
    kind = _kind(schema)
    more = kind in ("array", "object", "string") or "exclusiveMinimum" in schema or "exclusiveMaximum" in schema
    unit = next((str(schema[word]) for word in _UNIT if word in schema), "")
    return Argument(
        name=name, type=kind, unit=unit, low=_bound(schema, "minimum", "exclusiveMinimum"),
        high=_bound(schema, "maximum", "exclusiveMaximum"), default=default,
        choices=tuple(c for c in schema.get("enum", ()) if isinstance(c, int | float | str)),
        schema=_whole(document, schema) if more else {}, description=about or str(schema.get("description", "")),
    )  # fmt: skip


def _kind(schema: Mapping[str, Any]) -> ArgumentType:
    kind = schema.get("type", "object" if "properties" in schema else "string" if "enum" in schema else "object")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "object")
    return _TYPES.get(kind, "object")


def _bound(schema: Mapping[str, Any], word: str, exclusive: str) -> float | None:
    found = [
        float(b)
        for b in (schema.get(word), schema.get(exclusive))
        if isinstance(b, int | float) and not isinstance(b, bool)
    ]
    return found[0] if found else None


def resolved(document: Mapping[str, Any], schema: Any, depth: int = 0) -> dict[str, Any]:
    """A schema, parameter or body without $ref, allOf, and null among its alternatives at its top."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return {}
    made = dict(schema)
    if "$ref" in made:
        return resolved(document, _at(document, str(made.pop("$ref"))), depth + 1) | made
    if "allOf" in made:
        parts = [resolved(document, part, depth + 1) for part in made.pop("allOf")]
        properties = {k: v for part in (*parts, made) for k, v in part.get("properties", {}).items()}
        required = [r for part in (*parts, made) for r in part.get("required", ())]
        for part in parts:
            made = part | made
        made |= ({"properties": properties} if properties else {}) | ({"required": required} if required else {})
    for word in ("anyOf", "oneOf"):
        parts = [part for part in made.get(word, ()) if part.get("type") != "null"]
        if len(parts) == 1:
            del made[word]
            made = resolved(document, parts[0], depth + 1) | made
    return made


def _at(document: Mapping[str, Any], reference: str) -> Any:
    if not reference.startswith("#/"):
        raise ValueError(f"{reference} is in another document")
    found: Any = document
    for part in reference[2:].split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


def _whole(document: Mapping[str, Any], schema: Mapping[str, Any], depth: int = 0) -> dict[str, object]:
    """A schema with everything in its place; what refers to itself is left open."""
    if depth > 5:
        return {}
    made = resolved(document, schema)
    made.pop("default", None)
    if "properties" in made:
        made["properties"] = {k: _whole(document, v, depth + 1) for k, v in made["properties"].items()}
    if isinstance(made.get("items"), Mapping):
        made["items"] = _whole(document, made["items"], depth + 1)
    return made


def _results(document: Mapping[str, Any], said: Mapping[str, Any], name: str, wishes: Wishes) -> tuple[Argument, ...]:
    for code in ("200", "201", "202", "2XX", "default"):
        content = resolved(document, said.get("responses", {}).get(code, {})).get("content", {})
        schema = next((c.get("schema", {}) for kind, c in content.items() if kind.split(";")[0].endswith("json")), None)
        if schema is None:
            continue
        whole = resolved(document, schema)
        if "properties" in whole:
            return tuple(argument(document, key, member) for key, member in whole["properties"].items())
        made = argument(document, "result", whole)
        return (msgspec.structs.replace(made, unit=wishes.units.get(name, made.unit)),) if whole else ()
    return ()


def signals(routes: Mapping[str, Route]) -> dict[str, tuple[Signal, Route]]:
    """What a GET without arguments gives as one number or truth."""
    found = dict[str, tuple[Signal, Route]]()
    for name, route in routes.items():
        results = route.operation.results
        if route.method != "get" or route.operation.arguments or len(results) != 1 or results[0].name != "result":
            continue
        r = results[0]
        if r.type in ("number", "integer", "boolean"):
            about = route.operation.description
            signal = Signal(name=name, type=r.type, unit=r.unit, low=r.low, high=r.high, description=about)
            found[name] = signal, route
    return found


def request(route: Route, settings: Mapping[str, object]) -> Request:
    """The request that performs an operation with these settings. Raises ValueError where they would make another."""
    path, query, headers, body = route.path, dict[str, Any](), dict[str, str](), None
    for name, value in settings.items():
        place = route.places[name]
        sent: Any = f"{value} {place.unit}" if place.unit else value
        match place.where:
            case "path":
                if _text(sent) in ("", ".", ".."):
                    raise ValueError(f"{name}: {sent!r} would make another path")
                path = path.replace("{" + place.name + "}", quote(_text(sent), safe=""))
            case "query":
                query[place.name] = [_text(v) for v in sent] if isinstance(sent, list | tuple) else _text(sent)
            case "header":
                headers[place.name] = _text(sent)
            case "whole":
                body = sent
            case _:
                body = {**(body or {}), place.name: sent}
    return Request(path=path, query=query, headers=headers, body=body)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
