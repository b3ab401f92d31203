"""The plans of a queue server as operations, and what is wrong with arguments before they are sent."""

import ast
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ...core import Argument, ArgumentType, Effect, Operation

Schema = dict[str, Any]
Names = Mapping[str, Sequence[str]]

_PLAIN = {
    "int": "integer", "float": "number", "str": "string", "bool": "boolean", "None": "null", "NoneType": "null",
    "dict": "object", "Dict": "object", "Mapping": "object", "list": "array", "List": "array", "tuple": "array",
    "Tuple": "array", "set": "array", "Sequence": "array", "Iterable": "array", "Iterator": "array",
}  # fmt: skip
_JSON: dict[str, type | tuple[type, ...]] = {
    "number": (int, float), "integer": int, "string": str, "boolean": bool, "array": (list, tuple), "object": dict,
    "null": type(None),
}  # fmt: skip
_FLAGS = {"__READABLE__": "is_readable", "__MOVABLE__": "is_movable", "__FLYABLE__": "is_flyable"}
RESULTS = (
    Argument(name="exit_status", type="string"),
    Argument(name="run_uids", type="array", schema={"items": {"type": "string"}}),
    Argument(name="scan_ids", type="array", schema={"items": {"type": "integer"}}),
)
"""What every plan brings: the server keeps no more of what a plan returns."""


class Offer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a plan is offered: what it does to the world, `fixed` arguments that are sent each time and not asked for,
    and optional arguments that are `needed` (without a default of their own they are not asked for otherwise)."""

    effect: Effect = "consuming"
    fixed: dict[str, Any] = {}
    needed: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True):
    """A plan that is offered, and the JSON Schema of every argument that it takes."""

    operation: Operation
    schemas: dict[str, Schema]
    fixed: dict[str, Any]
    places: dict[str, Any]
    """Arguments that are sent by their place, with their defaults, the last of them as many as it holds; {} where all
    are sent by name."""

    def wrong(self, given: Mapping[str, Any]) -> list[str]:
        """What is wrong with arguments (fixed ones included), each in a sentence."""
        taken = {**given, **self.fixed}
        known = self.schemas.keys()
        strange = [*(given.keys() & self.fixed.keys()), *(name for name in taken if name not in known)]
        said = [f"{self.operation.name} has no argument {name!r} to be given" for name in strange]
        missing = [a.name for a in self.operation.arguments if a.default is None and a.name not in taken]
        said += [f"{name} is missing" for name in missing]
        for name, value in taken.items():
            said += [f"{name}: {why}" for why in _wrong(self.schemas.get(name, {}), value)]
        return said

    def item(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The plan with its arguments, as an item of the queue."""
        taken = {**given, **self.fixed}
        places = [taken.pop(name, default) for name, default in self.places.items()]
        args = [*places[:-1], *places[-1]] if places else []
        return {"item_type": "plan", "name": self.operation.name, "args": args, "kwargs": taken}


def offered(
    allowed: Mapping[str, Any], devices: Mapping[str, Any], offers: Mapping[str, Offer] | None
) -> dict[str, Plan]:
    """The plans of `plans_allowed` that are offered (all of them where `offers` is None), by name.

    One that must be given what nobody has annotated is left out, unless it is among the `fixed`. Raises KeyError,
    TypeError, ValueError and SyntaxError where a description cannot be understood.
    """
    there = list(_devices(devices))
    names: dict[str, list[str]] = {
        word: [name for name, said in there if said.get(flag)] for word, flag in _FLAGS.items()
    }
    names |= {"__DEVICE__": [name for name, _ in there], "__PLAN__": list(allowed), "__CALLABLE__": []}
    names["__PLAN_OR_DEVICE__"] = [*names["__PLAN__"], *names["__DEVICE__"]]
    chosen = {name: Offer() for name in allowed} if offers is None else offers
    made = {name: _plan(allowed[name], names, offer) for name, offer in chosen.items() if name in allowed}
    return {name: plan for name, plan in made.items() if plan is not None}


def _devices(said: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All devices and their components, by the names that plans take ("motor", "motor.velocity")."""
    for name, device in said.items():
        yield f"{within}{name}", device
        yield from _devices(device.get("components") or {}, f"{within}{name}.")


def _plan(said: Mapping[str, Any], names: Names, offer: Offer) -> Plan | None:
    arguments, schemas = list[Argument](), dict[str, Schema]()
    before, places = dict[str, Any](), dict[str, Any]()
    for parameter in said["parameters"]:
        name, kind = parameter["name"], parameter["kind"]["name"]
        if kind == "VAR_KEYWORD":
            continue
        default = ast.literal_eval(parameter["default"]) if "default" in parameter else None
        schema = schemas[name] = _schema_of(parameter, default, names)
        if kind == "VAR_POSITIONAL":
            schema = schemas[name] = {"type": "array", "items": schema}
            places = {**before, name: ()}
        elif kind != "KEYWORD_ONLY":
            before[name] = default
        if name in offer.fixed:
            continue
        must = "default" not in parameter or name in offer.needed
        asked = _first(schema)
        if must and "type" not in asked:
            return None
        if must or ("type" in asked and isinstance(default, int | float | str)):
            arguments.append(_argument(parameter, asked, default if isinstance(default, int | float | str) else None))
    operation = Operation(
        name=said["name"], effect=offer.effect, arguments=tuple(arguments), results=RESULTS,
        description=str(said.get("description") or ""),
    )  # fmt: skip
    return Plan(operation=operation, schemas=schemas, fixed=offer.fixed, places=places)


def _argument(parameter: Mapping[str, Any], schema: Schema, default: Any) -> Argument:
    kind: ArgumentType = schema["type"]
    more = {key: word for key, word in schema.items() if key not in ("type", "enum", "minimum", "maximum")}
    if "step" in parameter:
        more["step"] = float(parameter["step"])
    return Argument(
        name=parameter["name"], type=kind, low=schema.get("minimum"), high=schema.get("maximum"), default=default,
        choices=tuple(schema.get("enum", ())), schema=more, description=str(parameter.get("description") or ""),
    )  # fmt: skip


def _schema_of(parameter: Mapping[str, Any], default: Any, names: Names) -> Schema:
    """Of one value of a parameter; {} is anything. What is not annotated is of the type of its default."""
    annotation = parameter.get("annotation")
    bounds = {word: float(parameter[key]) for word, key in (("minimum", "min"), ("maximum", "max")) if key in parameter}
    if annotation is None:
        plain = _PLAIN.get(type(default).__name__, "null")
        return {} if plain == "null" else {"type": plain}
    own = {**names, **annotation.get("devices", {}), **annotation.get("plans", {}), **annotation.get("enums", {})}
    made = _schema(ast.parse(annotation["type"], mode="eval").body, own, bounds)
    # A default is one of what may be given, whatever the annotation says.
    return _union([made, {"type": "null"}]) if default is None and "default" in parameter else made


def _schema(node: ast.expr, names: Names, bounds: Schema) -> Schema:
    """A Python type, as the server writes it, as JSON Schema; numbers in it are within `bounds`."""
    match node:
        case ast.Constant(value=None):
            return {"type": "null"}
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _union([_schema(left, names, bounds), _schema(right, names, bounds)])
        case ast.Subscript(value=outer, slice=inner):
            parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            word = _word(outer)
            if word == "Literal":
                words = [ast.literal_eval(part) for part in parts]
                return {"type": _PLAIN.get(type(words[0]).__name__, "string"), "enum": words}
            made = [_schema(p, names, bounds) for p in parts if not (isinstance(p, ast.Constant) and p.value is ...)]
            if word in ("Optional", "Union"):
                return _union([*made, {"type": "null"}] if word == "Optional" else made)
            plain = _PLAIN.get(word)
            return {"type": plain, "items": _union(made)} if plain == "array" else {"type": plain} if plain else {}
    word = _word(node)
    if word in names:
        return {"type": "string", "enum": list(names[word])}
    plain = _PLAIN.get(word)
    return ({"type": plain, **bounds} if plain in ("number", "integer") else {"type": plain}) if plain else {}


def _word(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _union(made: Sequence[Schema]) -> Schema:
    """Any of these. Where names of devices are among them, a text is one of those, even if anything else is allowed."""
    flat = [inner for schema in made for inner in schema.get("anyOf", [schema])]
    if {} in flat:
        named = [schema for schema in flat if "enum" in schema]
        flat = [*named, *({"type": kind} for kind in _JSON if kind != "string")] if named else [{}]
    different = [schema for number, schema in enumerate(flat) if schema not in flat[:number]]
    return different[0] if len(different) == 1 else {"anyOf": different}


def _first(schema: Schema) -> Schema:
    """What is asked for where several types are taken: the first that is not null."""
    return next((s for s in schema.get("anyOf", [schema]) if s.get("type") != "null"), {})


def _wrong(schema: Schema, value: Any) -> Iterator[str]:
    """What is wrong with a value, by the words of JSON Schema that `_schema` writes."""
    if "anyOf" in schema:
        tried = [(inner, list(_wrong(inner, value))) for inner in schema["anyOf"]]
        if all(why for _, why in tried):
            # What it means to be is the first that has its type.
            yield from next((why for inner, why in tried if _is(inner["type"], value)), tried[0][1])
        return
    kind = schema.get("type")
    if kind is None:
        return
    if not _is(kind, value):
        yield f"{value!r} is not of the type {kind}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{value!r} is none of {', '.join(map(str, schema['enum'][:20])) or 'none that are there'}"
    elif kind in ("number", "integer"):
        if not math.isfinite(value):
            yield f"{value} is not a number"
        if value < schema.get("minimum", value):
            yield f"{value:g} is below the lowest, {schema['minimum']:g}"
        if value > schema.get("maximum", value):
            yield f"{value:g} is above the highest, {schema['maximum']:g}"
    elif kind == "array":
        for number, inner in enumerate(value):
            yield from (f"[{number}] {why}" for why in _wrong(schema.get("items", {}), inner))


def _is(kind: str, value: Any) -> bool:
    return isinstance(value, _JSON[kind]) and (kind == "boolean" or not isinstance(value, bool))
