"""YAML and JSON to plain values that know the line they stand on.

YAML is read as version 1.2 means it: only `true` and `false` are booleans (`no` and `on` are words), 1e-3 is a
number, dates are text. So a list of words means what it says.
"""

import json
import math
import re
from typing import Any, NoReturn

import yaml

from firstlight.core import Problem

from ._problems import BadCampaign, shown

MOST_BYTES, MOST_NODES = 1_000_000, 200_000
INTEGER = re.compile(r"[-+]?[0-9]+")
FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
NULL = re.compile(r"~|null|Null|NULL|")
BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
YAML_12 = {"null": NULL, "bool": BOOLEAN, "int": INTEGER, "float": re.compile(f"{FLOAT.pattern}|{SPECIAL.pattern}")}


_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class Table(dict[Any, Any]):
    """A mapping; `lines` has the line of every key and `line` its own (0: unknown)."""

    def __init__(self, line: int = 0) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[Any, int] = {}

    def put(self, key: Any, value: Any, line: int = 0) -> None:
        self[key] = value
        self.lines[key] = line or self.line


class Items(list[Any]):
    """A list; `lines` has the line of every item."""

    def __init__(self, line: int = 0) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[Any, int] = {}

    def put(self, value: Any, line: int = 0) -> None:
        self.lines[len(self)] = line or self.line
        self.append(value)


def line_of(container: object, key: object) -> int:
    """The line of a key or an index; 0 where it is unknown."""
    return container.lines.get(key, container.line) if isinstance(container, Table | Items) else 0


def line_at(document: object, field: str) -> int:
    """The line of the deepest part of a field ("parameters[1].high") that is there."""
    line, here = 0, document
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", field):
        key: Any = int(index) if index else name
        if not (isinstance(here, Table) and key in here) and not (isinstance(here, Items) and 0 <= key < len(here)):
            # A part that is missing belongs to whoever should have it.
            return line or (here.line if isinstance(here, Table | Items) else 0)
        line, here = line_of(here, key), here[key]
    return line


def read_text(text: str, source: str) -> Any:
    """Plain values from YAML. Raises BadCampaign."""
    _size(len(text), source)
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        _refuse(*_syntax(error), source, mark.line + 1 if mark else 0)
    except yaml.YAMLError as error:
        what = str(error).splitlines()[0]
        _refuse(f"it is not text: {what}", "Save it as UTF-8, without control characters.", source)
    except (RecursionError, ValueError):
        _refuse("it cannot be read: it is nested too deeply or has a wrong escape", "Simplify it.", source)
    if node is None:
        _refuse("it is empty", "Start from the file that `firstlight init` writes.", source)
    return _Reader(source).value(node, 0)


def read_json(text: str, source: str) -> Any:
    """Plain values from JSON. Raises BadCampaign."""
    _size(len(text), source)

    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for key in (k for k, _ in pairs):
            if sum(k == key for k, _ in pairs[:1000]) > 1:
                _refuse(f"{key!r} is there twice", "Keep one of them.", source)
        return dict(pairs)

    try:
        return marked(json.loads(text, object_pairs_hook=table))
    except json.JSONDecodeError as error:
        _refuse(f"it is not JSON: {error.msg} in column {error.colno}", "Correct it there.", source, error.lineno)
    except BadCampaign:
        raise
    except (RecursionError, ValueError):
        _refuse("it is nested too deeply, or has too long a number", "Simplify it.", source)


def marked(value: Any, depth: int = 0) -> Any:
    """The same values without lines. Raises RecursionError where they are nested too deeply."""
    if depth > 60:
        raise RecursionError
    if isinstance(value, dict):
        made = Table()
        for key, item in value.items():
            made.put(key, marked(item, depth + 1))
        return made
    if isinstance(value, list | tuple):
        items = Items()
        for item in value:
            items.put(marked(item, depth + 1))
        return items
    return value


class _Loader(yaml.SafeLoader):
    """Only its resolver is used: values are made by `_Reader`, which knows the lines."""

    yaml_implicit_resolvers: dict[str, Any] = {}


def whole(pattern: re.Pattern[str]) -> re.Pattern[str]:
    """The pattern for whole scalars: resolvers match from the start only."""
    return re.compile(rf"(?:{pattern.pattern})\Z")


for _tag, _pattern in YAML_12.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", whole(_pattern), None)


class _Reader:
    """Makes values of nodes; keeps count, so that aliases of aliases do not fill the memory."""

    def __init__(self, source: str) -> None:
        self.source, self.left = source, MOST_NODES

    def value(self, node: yaml.Node, depth: int) -> Any:
        self.left -= 1
        line = node.start_mark.line + 1
        if self.left < 0 or depth > 60:
            _refuse("it has too many values, or is nested too deeply", "Keep a pool in a CSV file.", self.source, line)
        if isinstance(node, yaml.CollectionNode) and node.tag not in _COLLECTIONS:
            _refuse(f"{shown(node.tag)} is a tag that means nothing here", "Leave the tag out.", self.source, line)
        if isinstance(node, yaml.MappingNode):
            return self.table(node, depth, line)
        if isinstance(node, yaml.SequenceNode):
            items = Items(line)
            for child in node.value:
                items.put(self.value(child, depth + 1), child.start_mark.line + 1)
            return items
        return self.scalar(node, line)

    def table(self, node: yaml.MappingNode, depth: int, line: int) -> Table:
        made, merged = Table(line), []
        for key_node, value_node in node.value:
            at = key_node.start_mark.line + 1
            key, value = self.value(key_node, depth + 1), self.value(value_node, depth + 1)
            if isinstance(key, Table | Items) or (isinstance(key, float) and not math.isfinite(key)):
                _refuse("a key is not a name", "Write `name: value`; put quotes around braces.", self.source, at)
            if key == "<<":
                merged += value if isinstance(value, Items) else [value]
            elif key in made:
                message = f"{key!r} is there twice (first in line {made.lines[key]})"
                _refuse(message, "Keep one of them.", self.source, at)
            else:
                made.put(key, value, at)
        for other in merged:
            for key in other if isinstance(other, Table) else ():
                if key not in made:
                    made.put(key, other[key], other.lines[key])
        return made

    def scalar(self, node: Any, line: int) -> Any:
        text, kind = str(node.value), str(node.tag).rpartition(":")[2]
        known = YAML_12.get(kind)
        if kind != "str" and (known is None or not known.fullmatch(text)):
            _refuse(f"{shown(text)} has a tag that means nothing here", "Leave the tag out.", self.source, line)
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "int":
            return int(text) if len(text) < 400 else math.inf
        if kind == "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            _refuse(f"{shown(text)} is not text", "Use ordinary characters.", self.source, line)
        return text


def _syntax(error: yaml.MarkedYAMLError) -> tuple[str, str]:
    what = error.problem or error.context or "it is not YAML"
    if "\\t" in what:
        return "a tab is used to indent", "Indent with blanks."
    if "mapping values are not allowed" in what:
        return "there is a colon too many, or the indentation is wrong", "Put quotes around text that contains ': '."
    return f"it is not YAML: {what}", "Correct it here, or in the line before."


def _size(size: int, source: str) -> None:
    if size > MOST_BYTES:
        _refuse(f"it has {size:,} characters, more than {MOST_BYTES:,}", "Keep a pool in a CSV file.", source)


def _refuse(message: str, remedy: str, source: str, line: int = 0) -> NoReturn:
    raise BadCampaign((Problem("", message, remedy),), source, (line,))
