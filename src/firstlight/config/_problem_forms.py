"""The short forms of parameters and constraints, made into the strict ones."""

from typing import Any

import msgspec

from firstlight.core import Categorical, Continuous, Exclude, Forbid, Integer, Linear, Mixture, Ordered, Parameter

from ._border import Border
from ._document import Items, Table, line_of, marked
from ._people import region_of
from ._problems import meant, shown
from ._sums import parse_constraint
from ._typed import plain

PARAMETERS = {"continuous": Continuous, "integer": Integer, "ordered": Ordered, "categorical": Categorical}
CONSTRAINTS = {"linear": Linear, "mixture": Mixture, "exclude": Exclude, "forbid": Forbid}
EXAMPLE = "temperature: {low: 20, high: 80, unit: degC}"


def parameters(value: Any, line: int, border: Border) -> Items:
    """A list of strict parameters; None stands for one that cannot be read, and is noted."""
    made = Items(line)
    if isinstance(value, Table):
        for i, (name, body) in enumerate(value.items()):
            at = line_of(value, name)
            made.put(_parameter(f"parameters[{i}]", name, body, at, border), at)
        return made
    for i, body in enumerate(border.items(value, "parameters", line, f"`{EXAMPLE}`, a line each")):
        at, field = line_of(value, i), f"parameters[{i}]"
        table = border.table(body, field, at, "{name: temperature, low: 20, high: 80}")
        if table is not None and "name" not in table:
            border.note(f"{field}.name", "it is missing", "Give every parameter a name.", at)
            table = None
        made.put(table and _parameter(field, table["name"], table, at, border), at)
    return made


def _parameter(field: str, name: Any, body: Any, line: int, border: Border) -> Table | None:
    if isinstance(body, Items):
        if any(not isinstance(v, str) for v in body):
            message = f"{shown(list(body))} may be bounds or values"
            border.note(
                field, message, "Write {low: ..., high: ...}, or {values: [...]}; put quotes around words.", line
            )
            return None
        body, values = Table(line), body
        body.put("values", values, line)
    table = border.table(body, field, line, f"`{EXAMPLE}`")
    if table is None:
        return None
    kind = table.get("type") or _inferred(table)
    if not isinstance(kind, str) or kind not in PARAMETERS:
        border.note(
            f"{field}.type",
            f"{shown(kind)} is not a type of parameter",
            meant(kind, PARAMETERS),
            line_of(table, "type"),
        )
        return None
    made = Table(line)
    made.put("type", kind, line_of(table, "type"))
    made.put("name", name, line)
    made_of = border.only(table, ("type", *PARAMETERS[kind].__struct_fields__), field)
    for key, value in made_of.items():
        if key not in ("type", "name"):
            made.put(key, value, line_of(table, key))
    if kind in ("continuous", "integer"):
        unit = border.unit_of(made, ("low", "high"))
        border.quantities(made, unit, field, ("low", "high"))
        if kind == "integer":
            _whole(made)
    return made


def _whole(table: Table) -> None:
    for side in ("low", "high"):
        value = table.get(side)
        if isinstance(value, float) and value.is_integer():
            table[side] = int(value)


def _inferred(table: Table) -> str:
    values = table.get("values")
    if isinstance(values, Items):
        return "categorical" if any(isinstance(v, str | bool) for v in values) or "descriptors" in table else "ordered"
    return "categorical" if "descriptors" in table else "ordered" if "values" in table else "continuous"


def constraints(value: Any, line: int, parameters: Items, border: Border) -> Items:
    """A list of strict constraints. A chain ("0 <= a + b <= 1") becomes two of them."""
    made, known = Items(line), _readable(parameters)
    if isinstance(value, str):
        value = marked([value])
    for i, body in enumerate(border.items(value, "constraints", line, 'a list, as in ["a + b <= 1"]')):
        at = line_of(value, i) or line
        for one in _constraint(f"constraints[{len(made)}]", body, at, known, border):
            made.put(one, at)
    return made


def _readable(parameters: Items) -> list[Parameter]:
    """The parameters that are right so far, for their kinds and units; what is wrong with others is told elsewhere."""
    found: list[Parameter] = []
    for table in parameters:
        try:
            found.append(msgspec.convert(plain(table), Parameter))
        except msgspec.ValidationError:
            continue
    return found


def _constraint(field: str, body: Any, line: int, parameters: list[Parameter], border: Border) -> list[Table | None]:
    if isinstance(body, str):
        return _sum(field, body, line, border)
    table = border.table(
        body, field, line, '"a + 2*b <= 10", {mixture: [a, b]}, {exclude: {a: 1, b: 2}} or {forbid: {a: 1..2}}'
    )
    if table is None:
        return [None]
    named = {"linear": "terms", "mixture": "mixture", "exclude": "exclude", "forbid": "forbid"}
    kind = table.get("type") or next((kind for kind, key in named.items() if key in table), None)
    if not isinstance(kind, str) or kind not in CONSTRAINTS:
        message = "its kind cannot be told" if kind is None else f"{shown(kind)} is not a type of constraint"
        remedy = (
            "Write a sum as text, {mixture: [a, b]}, {exclude: {a: 1, b: 2}} or {forbid: {a: 1..2}}."
            if kind is None
            else ""
        )
        border.note(f"{field}.type", message, remedy or meant(kind, CONSTRAINTS), line)
        return [None]
    if kind == "forbid" and "forbid" in table:
        return [_region(field, border.only(table, ("type", "forbid"), field), line, parameters, border)]
    made = Table(line)
    made.put("type", kind, line)
    short = {"mixture": "parameters", "exclude": "combination"}
    allowed = ("type", *CONSTRAINTS[kind].__struct_fields__, *([kind] if kind in short else []))
    for key, value in border.only(table, allowed, field).items():
        if key != "type":
            made.put(short[kind] if key == kind else key, value, line_of(table, key))
    combination = made.get("combination")
    if isinstance(combination, Table):
        for name, values in combination.items():
            combination[name] = values if isinstance(values, Items) else marked([values])
    return [made]


def _region(field: str, table: Table, line: int, parameters: list[Parameter], border: Border) -> Table | None:
    """The strict form of {forbid: {temperature: 80..100, solvent: [DMF]}}."""
    at = line_of(table, "forbid")
    given = border.table(table["forbid"], f"{field}.forbid", at, "{temperature: 80..100, solvent: DMF}")
    if given is None:
        return None
    region, wrong = region_of(parameters, {str(name): plain(v) for name, v in given.items()}, border.units)
    for problem in wrong:
        place = f"{field}.forbid.{problem.field}"
        border.note(place, problem.message, problem.remedy, line_of(given, problem.field) or at)
    made: Table = marked(
        {"type": "forbid", "ranges": {n: list(r) for n, r in region.ranges.items()},
         "values": {n: list(v) for n, v in region.values.items()}}
    )  # fmt: skip
    made.line = line
    return made


def _sum(field: str, text: str, line: int, border: Border) -> list[Table | None]:
    try:
        relations = parse_constraint(text)
    except (ValueError, OverflowError) as error:
        border.note(field, f"{shown(text)}: {error}", "Write a sum such as a + 2*b <= 10.", line)
        return [None]
    made = []
    for one in relations:
        table: Table = marked({"type": "linear", "terms": one.terms, "relation": one.relation, "bound": one.bound})
        table.line = line
        made.append(table)
    return list(made)
