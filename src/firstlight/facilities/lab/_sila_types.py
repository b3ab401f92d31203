"""SiLA 2's data types in our words: what a parameter, a response or a property is, and its values to and fro."""

import base64
import datetime
import math
import re
import uuid
from collections.abc import Iterable
from typing import Any

from sila2.framework import Feature
from sila2.framework.constraints.element_count import ElementCount
from sila2.framework.constraints.length import Length
from sila2.framework.constraints.maximal_element_count import MaximalElementCount
from sila2.framework.constraints.maximal_exclusive import MaximalExclusive
from sila2.framework.constraints.maximal_inclusive import MaximalInclusive
from sila2.framework.constraints.maximal_length import MaximalLength
from sila2.framework.constraints.minimal_element_count import MinimalElementCount
from sila2.framework.constraints.minimal_exclusive import MinimalExclusive
from sila2.framework.constraints.minimal_inclusive import MinimalInclusive
from sila2.framework.constraints.minimal_length import MinimalLength
from sila2.framework.constraints.pattern import Pattern
from sila2.framework.constraints.set import Set
from sila2.framework.constraints.unit import Unit
from sila2.framework.data_types.any import Any as SilaAny
from sila2.framework.data_types.any import SilaAnyType
from sila2.framework.data_types.binary import Binary
from sila2.framework.data_types.boolean import Boolean
from sila2.framework.data_types.constrained import Constrained
from sila2.framework.data_types.data_type_definition import DataTypeDefinition
from sila2.framework.data_types.date import Date, SilaDateType
from sila2.framework.data_types.integer import Integer
from sila2.framework.data_types.list import List
from sila2.framework.data_types.real import Real
from sila2.framework.data_types.structure import Structure
from sila2.framework.data_types.time import Time
from sila2.framework.data_types.timestamp import Timestamp

from ...core import Argument, ArgumentType, Scalar, Signal

_PLURAL = {
    Length: ("minLength", "maxLength"), MinimalLength: ("minLength",), MaximalLength: ("maxLength",),
    ElementCount: ("minItems", "maxItems"), MinimalElementCount: ("minItems",), MaximalElementCount: ("maxItems",),
}  # fmt: skip
_FORMATS = {Date: "date", Time: "time", Timestamp: "date-time"}


def argument(node: Any) -> Argument:
    """A parameter, response or property of a feature, with unit and limits from its constraints."""
    kind, more = _kind(node.data_type)
    return Argument(name=node._identifier, type=kind, schema=_schema(node.data_type), description=_words(node), **more)


def signal(name: str, node: Any) -> Signal | None:
    """A property as a signal; None where its value is not a single one."""
    kind, more = _kind(node.data_type)
    if kind in ("array", "object"):
        return None
    more.pop("choices", None)
    return Signal(name=name, type=kind, description=_words(node), **more)


def encoded(nodes: Iterable[Any], given: dict[str, object]) -> dict[str, Any]:
    """What sila2 takes for the parameters of a command. Raises ValueError, KeyError or TypeError."""
    return {node._identifier: _native(node.data_type, given[node._identifier]) for node in nodes}


def decoded(nodes: Iterable[Any], message: Any) -> dict[str, object]:
    """The plain values of a message's fields.

    Constraints are not looked at: what an instrument says of a run that is over stands, also where it is out of bounds.
    """
    return {node._identifier: _plain(node.data_type, getattr(message, node._identifier), node) for node in nodes}


def is_large(nodes: Iterable[Any]) -> bool:
    """Whether values may have to be carried apart, by binary transfer."""
    return any(_holds(node.data_type, (Binary, SilaAny)) for node in nodes)


def bare(data_type: Any, value: str) -> Any:
    """The message of a text of this type, whatever its constraints."""
    if isinstance(data_type, DataTypeDefinition):
        return data_type.message_type(**{data_type._identifier: bare(data_type.data_type, value)})
    return bare(data_type.base_type, value) if isinstance(data_type, Constrained) else data_type.to_message(value)


def _words(node: Any) -> str:
    return " ".join(str(node._description).split())


def _holds(data_type: Any, kinds: tuple[type, ...]) -> bool:
    match data_type:
        case Constrained():
            return _holds(data_type.base_type, kinds)
        case DataTypeDefinition():
            return _holds(data_type.data_type, kinds)
        case List():
            return _holds(data_type.element_type, kinds)
        case Structure():
            return any(_holds(f.data_type, kinds) for f in data_type.fields)
        case _:
            return isinstance(data_type, kinds)


def _kind(data_type: Any) -> tuple[ArgumentType, dict[str, Any]]:
    match data_type:
        case DataTypeDefinition():
            return _kind(data_type.data_type)
        case Constrained():
            kind, more = _kind(data_type.base_type)
            return kind, more | _limits(data_type, kind)
        case Integer():
            return "integer", {}
        case Real():
            return "number", {}
        case Boolean():
            return "boolean", {}
        case List():
            return "array", {}
        case Structure() | SilaAny():
            return "object", {}
        case _:
            return "string", {}


def _limits(data_type: Constrained, kind: ArgumentType) -> dict[str, Any]:
    """Unit, limits and choices. Exclusive limits become the next number within, as our limits are inclusive."""
    number = kind in ("number", "integer")
    found: dict[str, Any] = {}
    for constraint in data_type.constraints:
        if isinstance(constraint, Unit):
            found["unit"] = constraint.label.replace("°C", "degC").replace("µ", "u").replace("μ", "u")
        elif isinstance(constraint, Set) and (number or isinstance(data_type.base_type, Date | Time | Timestamp)):
            texts = [value.reference_value if number else value.value_from_xml for value in constraint.set_values]
            found["choices"] = tuple(int(float(str(t))) if kind == "integer" else t for t in texts)
        elif isinstance(constraint, Set):
            found["choices"] = tuple(value.value_from_xml for value in constraint.set_values)
        elif number and isinstance(constraint, MinimalInclusive | MinimalExclusive):
            found["low"] = _inside(constraint, kind, 1)
        elif number and isinstance(constraint, MaximalInclusive | MaximalExclusive):
            found["high"] = _inside(constraint, kind, -1)
    return found


def _inside(constraint: Any, kind: ArgumentType, way: int) -> float:
    value = float(constraint.reference_value)
    if isinstance(constraint, MinimalInclusive | MaximalInclusive):
        return value
    if kind == "integer":
        return (math.floor(value) + 1.0) if way > 0 else (math.ceil(value) - 1.0)
    return math.nextafter(value, way * math.inf)


def _schema(data_type: Any) -> dict[str, object]:
    """What JSON Schema says beyond type, unit, limits and choices."""
    match data_type:
        case DataTypeDefinition():
            return _schema(data_type.data_type)
        case Constrained():
            found = _schema(data_type.base_type)
            for constraint in data_type.constraints:
                for word in _PLURAL.get(type(constraint), ()):
                    found[word] = next(v for v in vars(constraint).values() if isinstance(v, int))
                if isinstance(constraint, Pattern):
                    found["pattern"] = constraint.pattern
            return found
        case List():
            kind, more = _kind(data_type.element_type)
            element = Argument(name="", type=kind, schema=_schema(data_type.element_type), **more)
            return {"items": element.json_schema()}
        case Structure():
            fields = {f._identifier: argument(f).json_schema() for f in data_type.fields}
            return {"properties": fields, "required": list(fields), "additionalProperties": False}
        case SilaAny():
            return {"properties": {"type": {"type": "string"}, "value": {}}, "required": ["type", "value"]}
        case Binary():
            return {"contentEncoding": "base64"}
        case Date() | Time() | Timestamp():
            return {"format": _FORMATS[type(data_type)]}
        case _:
            return {}


def _native(data_type: Any, value: Any) -> Any:
    match data_type:
        case DataTypeDefinition():
            return _native(data_type.data_type, value)
        case Constrained():
            return _native(data_type.base_type, value)
        case List():
            return [_native(data_type.element_type, item) for item in value]
        case Structure():
            return data_type.namedtuple_type(**encoded(data_type.fields, value))
        case SilaAny():
            return SilaAnyType(value["type"], _native(_type_of(value["type"]), value["value"]))
        case Binary():
            return base64.b64decode(value, validate=True)
        case Date():
            return Date.from_string(value)
        case Time():
            return datetime.time.fromisoformat(value)
        case Timestamp():
            return datetime.datetime.fromisoformat(value)
        case _:
            return value


def _type_of(words: str) -> Any:
    """The type that the XML of a value of type Any describes, read as the only one of a feature."""
    node = re.sub(r' xmlns="[^"]*"', "", words)
    name = f"Any{uuid.uuid4().hex}"
    said = "<Identifier>{0}</Identifier><DisplayName>{0}</DisplayName><Description>{0}</Description>"
    return (
        Feature(
            '<Feature SiLA2Version="1.0" FeatureVersion="1.0" Originator="org.firstlight" Category="any" '
            f'xmlns="http://www.sila-standard.org">{said.format(name)}'
            f"<DataTypeDefinition>{said.format('Any')}{node}</DataTypeDefinition></Feature>"
        )
        ._data_type_definitions["Any"]
        .data_type
    )


def _plain(data_type: Any, message: Any, top: Any) -> object:
    match data_type:
        case DataTypeDefinition():
            return _plain(data_type.data_type, getattr(message, data_type._identifier), top)
        case Constrained():
            return _plain(data_type.base_type, message, top)
        case List():
            return [_plain(data_type.element_type, item, top) for item in message]
        case Structure():
            fields = {f._identifier: f for f in data_type.fields}
            return {name: _plain(f.data_type, getattr(message, name), top) for name, f in fields.items()}
        case _:
            return _value(data_type.to_native_type(message, toplevel_named_data_node=top))


def _value(native: Any) -> object:
    match native:
        case SilaDateType():
            stamp = datetime.datetime.combine(native.date, datetime.time(), native.timezone)
            return f"{native.date.isoformat()}{stamp.isoformat()[19:]}"
        case SilaAnyType():
            return {"type": native.type_xml, "value": _value(native.value)}
        case datetime.time() | datetime.datetime():
            return native.isoformat()
        case bytes():
            return base64.b64encode(native).decode()
        case tuple() if hasattr(native, "_asdict"):
            return {key: _value(item) for key, item in native._asdict().items()}
        case list():
            return [_value(item) for item in native]
        case _:
            return native


def scalar(value: object) -> Scalar | None:
    """A single value; None where it is none."""
    return value if isinstance(value, str | int | float) else None
