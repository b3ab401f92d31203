"""SECoP's structure report as operations and signals, and values to and from its data types."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from ...core import Argument, ArgumentType, Effect, Operation, Scalar, Signal

Kind = Literal["read", "set", "move", "command"]
_TYPES: dict[str, ArgumentType] = {
    "double": "number", "scaled": "number", "int": "integer", "bool": "boolean", "enum": "string", "string": "string",
    "blob": "string", "array": "array", "tuple": "array", "struct": "object", "matrix": "object",
}  # fmt: skip
SCALARS = ("double", "scaled", "int", "bool", "enum", "string")
ID = "_id"
"""The member of a command's argument that takes the id of the action, for nodes that remember runs by it."""


class Route(msgspec.Struct, frozen=True):
    """How an operation is performed: by what, and the data types that it takes and gives."""

    kind: Kind
    module: str
    accessible: str
    operation: Operation
    takes: dict[str, Any] | None = None
    gives: dict[str, Any] | None = None

    @property
    def what(self) -> str:
        return f"{self.module}:{self.accessible}"


def argument(name: str, datainfo: Mapping[str, Any], unit: str = "", **more: Any) -> Argument:
    """A data type as an argument; `unit` is what "$" stands for."""
    kind = datainfo["type"]
    scale = datainfo.get("scale", 1) if kind == "scaled" else 1
    bounds = {
        bound: datainfo[key] * scale
        for bound, key in (("low", "min"), ("high", "max"))
        if kind in ("double", "int", "scaled") and key in datainfo
    }
    choices = tuple(datainfo["members"]) if kind == "enum" else ()
    schema = _schema(datainfo) if kind not in ("double", "int", "scaled", "bool", "enum") else {}
    made = {"unit": str(datainfo.get("unit", "")).replace("$", unit), "choices": choices, "schema": schema}
    return Argument(name=name, type=_TYPES.get(kind, "object"), **{**made, **bounds, **more})


def _schema(datainfo: Mapping[str, Any]) -> dict[str, object]:
    kind, made = datainfo["type"], dict[str, object]()
    made = {"type": _TYPES.get(kind, "object")}
    match kind:
        case "double" | "int" | "scaled":
            scale = datainfo.get("scale", 1)
            made |= {w: datainfo[k] * scale for w, k in (("minimum", "min"), ("maximum", "max")) if k in datainfo}
            made |= {"unit": datainfo["unit"]} if "unit" in datainfo else {}
        case "enum":
            made["enum"] = list(datainfo["members"])
        case "string":
            made |= {w: datainfo[k] for w, k in (("minLength", "minchars"), ("maxLength", "maxchars")) if k in datainfo}
        case "array":
            made["items"] = _schema(datainfo["members"])
            made |= {w: datainfo[k] for w, k in (("minItems", "minlen"), ("maxItems", "maxlen")) if k in datainfo}
        case "tuple":
            members = [_schema(member) for member in datainfo["members"]]
            made |= {"prefixItems": members, "minItems": len(members), "maxItems": len(members)}
        case "struct":
            optional = datainfo.get("optional", [])
            made["properties"] = {name: _schema(member) for name, member in datainfo["members"].items()}
            made["required"] = [name for name in datainfo["members"] if name not in optional]
    return made


def to_wire(datainfo: Mapping[str, Any], value: Any) -> Any:
    """A value as it travels: an enum by its number, a scaled number by its integer."""
    match datainfo["type"]:
        case "scaled":
            return round(float(value) / datainfo["scale"])
        case "int":
            return int(value)
        case "enum":
            return datainfo["members"].get(value, value)
        case "bool":
            return bool(value)
        case "array":
            return [to_wire(datainfo["members"], item) for item in value]
        case "tuple":
            return [to_wire(member, item) for member, item in zip(datainfo["members"], value, strict=True)]
        case "struct":
            return {name: to_wire(datainfo["members"][name], item) for name, item in value.items()}
    return value


def from_wire(datainfo: Mapping[str, Any], value: Any) -> Any:
    """A value that has travelled, as we have it."""
    if value is None:
        return None
    match datainfo["type"]:
        case "scaled":
            return value * datainfo["scale"]
        case "enum":
            return next((name for name, number in datainfo["members"].items() if number == value), value)
        case "array":
            return [from_wire(datainfo["members"], item) for item in value]
        case "tuple":
            return [from_wire(member, item) for member, item in zip(datainfo["members"], value, strict=False)]
        case "struct":
            members = datainfo["members"]
            return {name: from_wire(members[name], item) for name, item in value.items() if name in members}
    return value


def packed(route: Route, settings: Mapping[str, object], action: str) -> tuple[Any, ...]:
    """The data of the request, () where the command takes none."""
    if route.takes is None:
        return ()
    if route.kind == "command" and route.takes["type"] == "struct":
        given = dict(settings) | ({ID: action} if ID in route.takes["members"] else {})
        return (to_wire(route.takes, given),)
    (value,) = settings.values()
    return (to_wire(route.takes, value),)


def unpacked(route: Route, value: Any) -> dict[str, object]:
    """The results that came with the answer."""
    if route.gives is None:
        return {}
    given = from_wire(route.gives, value)
    return (
        given
        if route.gives["type"] == "struct" and isinstance(given, dict)
        else {route.operation.results[0].name: given}
    )


def routes(structure: Mapping[str, Any], only: str) -> dict[str, Route]:
    """The operations by their names: those of one module by what they do, of several as "module.what"."""
    found = dict[str, Route]()
    for module, told in structure["modules"].items():
        if only in ("", module):
            for route in _of(module, told, "" if only else f"{module}."):
                found[route.operation.name] = route
    return found


def _of(module: str, told: Mapping[str, Any], before: str) -> Iterator[Route]:
    accessibles = told["accessibles"]
    drivable = any("Drivable" in name for name in told.get("interface_classes", ()))
    unit = main_unit(told)
    for name, said in accessibles.items():
        datainfo, about = said["datainfo"], str(said.get("description", ""))
        if datainfo["type"] == "command":
            if name != "stop" and not (name.startswith("_") and said.get("_private")):
                yield _command(module, name, said, before, unit)
            continue
        if name == "value":
            results = (argument("value", datainfo, unit),)
            op = Operation(name=f"{before}read", effect="read", results=results, seconds=0.0, description=about)
            yield Route("read", module, name, op, gives=datainfo)
        if said.get("readonly", True):
            continue
        kind: Kind = "move" if name == "target" and drivable else "set"
        word = {"move": "move", "set": "set"}[kind] + ("" if name == "target" else f"_{name.lstrip('_')}")
        takes = argument(name.lstrip("_"), datainfo, unit)
        gives = accessibles["value"]["datainfo"] if kind == "move" and "value" in accessibles else datainfo
        results = (argument("value", gives, unit),)
        effect: Effect = said.get("_effect", "consuming")
        op = Operation(
            name=before + word, effect=effect, arguments=(takes,), results=results, description=about,
            seconds=said.get("_seconds"),
        )  # fmt: skip
        yield Route(kind, module, name, op, takes=datainfo, gives=gives)


def _command(module: str, name: str, said: Mapping[str, Any], before: str, unit: str) -> Route:
    takes, gives = said["datainfo"].get("argument"), said["datainfo"].get("result")
    tells, defaults = said.get("_results", gives), said.get("_defaults", {})
    # A raw line to the hardware can do anything.
    effect: Effect = said.get("_effect", "hazardous" if name == "communicate" else "consuming")
    op = Operation(
        name=before + name.lstrip("_"), effect=effect, seconds=said.get("_seconds"),
        arguments=_members("argument", takes, unit, defaults), results=_members("result", tells, unit, {}),
        description=str(said.get("description", "")),
    )  # fmt: skip
    return Route("command", module, name, op, takes=takes, gives=tells)


def _members(
    alone: str, datainfo: Mapping[str, Any] | None, unit: str, defaults: Mapping[str, Scalar]
) -> tuple[Argument, ...]:
    if datainfo is None:
        return ()
    members = datainfo["members"] if datainfo["type"] == "struct" else {alone: datainfo}
    return tuple(argument(n, m, unit, default=defaults.get(n)) for n, m in members.items() if n != ID)


def signals(structure: Mapping[str, Any], only: str) -> dict[str, tuple[Signal, str, dict[str, Any]]]:
    """Each signal by its name, with what it is called there and its data type: what has one value of a simple type,
    and of each status its code."""
    found = dict[str, tuple[Signal, str, dict[str, Any]]]()
    for module, told in structure["modules"].items():
        if only not in ("", module):
            continue
        unit = main_unit(told)
        for name, said in told["accessibles"].items():
            datainfo = said["datainfo"]
            if name == "status":
                datainfo = {"type": "int"}
            if datainfo["type"] not in SCALARS:
                continue
            a = argument(("" if only else f"{module}.") + name.lstrip("_"), datainfo, unit)
            about = str(said.get("description", ""))
            signal = Signal(name=a.name, type=a.type, unit=a.unit, low=a.low, high=a.high, description=about)
            found[a.name] = signal, f"{module}:{name}", datainfo
    return found


def main_unit(told: Mapping[str, Any]) -> str:
    """The unit of a module's value."""
    value = told["accessibles"].get("value", {}).get("datainfo", {})
    return str(value.get("unit", ""))
