"""The short forms of objectives, bounds on outcomes, observables and budgets, made into the strict ones."""

import re
from typing import Any

from firstlight.core import Budget, Goal, NoImprovement, Objective, Observable, OutcomeConstraint, Regret

from ._border import Border, split
from ._document import Items, Table, line_of, marked
from ._problems import meant, shown

DIRECTIONS = {
    "maximize": "maximize", "maximise": "maximize", "max": "maximize",
    "minimize": "minimize", "minimise": "minimize", "min": "minimize",
    "match": "match",
}  # fmt: skip
"""Every way to write a direction."""
_WORDS = ("maximize", "minimize", "match")
_BOUND = re.compile(r"\s*`?([^`<>=]+?)`?\s*(<=|>=)\s*([^<>=]+?)\s*")


def goal(document: Table, border: Border) -> Table:
    """The strict goal, from `goal` and the fields of it that may stand at the top."""
    given = document.get("goal")
    parts = Table(line_of(document, "goal") or document.line)
    if given is not None:
        table = border.table(given, "goal", parts.line, "a table with objectives and a budget")
        parts = border.only(table, Goal.__struct_fields__, "goal") if table is not None else parts
    for key in Goal.__struct_fields__:
        if document.get(key) is None:
            continue
        if key in parts:
            border.note(
                f"goal.{key}",
                f"{key} is there twice, in goal and at the top",
                "Keep one of them.",
                line_of(document, key),
            )
        parts.put(key, document[key], line_of(document, key))
    made = Table(parts.line)
    readers = {
        "objectives": _objectives, "outcome_constraints": _outcome_constraints,
        "budget": _budget, "no_improvement": _no_improvement, "regret": _regret,
    }  # fmt: skip
    for key, value in parts.items():
        made.put(key, readers[key](value, line_of(parts, key), border), line_of(parts, key))
    _gain_in_unit_of_objective(made, border)
    return made


def _objectives(value: Any, line: int, border: Border) -> Items:
    made = Items(line)
    if isinstance(value, Table):
        for i, (name, body) in enumerate(value.items()):
            at, field = line_of(value, name), f"goal.objectives[{i}]"
            if isinstance(body, str):
                body, word = Table(at), body
                body.put("direction", word, at)
            table = border.table(body, field, at, "`yield: maximize`, or a table with direction and unit")
            made.put(
                table if table is None else _objective(field, _named(table, "observable", name, at), at, border), at
            )
        return made
    for i, body in enumerate(border.items(value, "goal.objectives", line, "`yield: maximize`, a line each")):
        at, field = line_of(value, i), f"goal.objectives[{i}]"
        table = border.table(body, field, at, "{maximize: yield}")
        made.put(table if table is None else _objective(field, table, at, border), at)
    return made


def _named(table: Table, key: str, name: Any, line: int) -> Table:
    made = Table(line)
    made.put(key, name, line)
    for k, value in table.items():
        made.put(k, value, line_of(table, k))
    return made


def _objective(field: str, table: Table, line: int, border: Border) -> Table | None:
    made = Table(line)
    shorts = [key for key in table if isinstance(key, str) and key in DIRECTIONS]
    for key, value in border.only(table, (*Objective.__struct_fields__, *shorts), field).items():
        if key in shorts:
            # `maximize: yield` says both what and how.
            made.put("direction", key, line_of(table, key))
            made.put("observable", value, line_of(table, key))
        else:
            made.put(key, value, line_of(table, key))
    word = made.get("direction")
    if not isinstance(word, str) or word not in DIRECTIONS:
        message = "it is missing" if word is None else f"{shown(word)} is not a direction"
        border.note(f"{field}.direction", message, meant(word, _WORDS), line_of(made, "direction"))
        return None
    made["direction"] = DIRECTIONS[word]
    unit = border.unit_of(made, ("target", "threshold", "tolerance"))
    border.quantities(made, unit, field, ("target", "tolerance", "threshold"), difference="tolerance")
    return made


def _outcome_constraints(value: Any, line: int, border: Border) -> Items:
    made = Items(line)
    if isinstance(value, str):
        value = marked([value])
    at_all = "goal.outcome_constraints"
    for i, body in enumerate(border.items(value, at_all, line, 'a list, as in ["purity >= 95 %"]')):
        at, field = line_of(value, i) or line, f"{at_all}[{i}]"
        if isinstance(body, str):
            match = _BOUND.fullmatch(body)
            if match is None:
                border.note(field, f"{shown(body)} is not a bound", "Write it as: purity >= 95 %", at)
                made.put(None, at)
                continue
            body = marked({"observable": match[1], "relation": match[2], "bound": match[3]})
        table = border.table(body, field, at, '"purity >= 95 %"')
        if table is not None:
            table = border.only(table, OutcomeConstraint.__struct_fields__, field)
            border.quantities(table, border.unit_of(table, ("bound",)), field, ("bound",))
        made.put(table, at)
    return made


def in_units_of_observables(goal: Table, observables: Items, border: Border) -> None:
    """Bounds on outcomes in the unit of what they bound, for the fold compares plain numbers."""
    declared: dict[str, str] = {}
    for key, tables in (("observable", goal.get("objectives", ())), ("name", observables)):
        for t in tables:
            if t and isinstance(t.get(key), str) and isinstance(t.get("unit", ""), str):
                declared.setdefault(t[key], t.get("unit", ""))
    for i, table in enumerate(goal.get("outcome_constraints", ())):
        unit, name = (table.get("unit", ""), table.get("observable")) if table else ("", None)
        if not unit or not isinstance(unit, str) or not isinstance(name, str):
            continue
        wanted = declared.get(name, unit)
        if unit == wanted or not isinstance(table.get("bound"), int | float):
            continue
        field = f"goal.outcome_constraints[{i}].unit"
        try:
            table["bound"], table["unit"] = border.units.convert(table["bound"], unit, wanted), wanted
        except ValueError as error:
            border.note(field, str(error), f"Give the bound in {wanted or 'a plain number'}.", line_of(table, "unit"))


def observables(value: Any, line: int, border: Border) -> Items:
    """A list of strict observables, from names, or from names with a unit."""
    made = Items(line)
    if isinstance(value, Table):
        pairs = [(name, body, line_of(value, name)) for name, body in value.items()]
    else:
        given = border.items(value, "observables", line, 'a list of names, or `purity: "%"`, a line each')
        pairs = [(None, body, line_of(given, i)) for i, body in enumerate(given)]
    for i, (name, body, at) in enumerate(pairs):
        field = f"observables[{i}]"
        if isinstance(body, str) or (body is None and name is not None):
            body = marked({"name": body} if name is None else {"unit": body})
        table = border.table(body, field, at, '`purity: "%"`')
        if table is not None:
            table = border.only(table, Observable.__struct_fields__, field)
            table = table if name is None else _named(table, "name", name, at)
        made.put(table, at)
    return made


def _budget(value: Any, line: int, border: Border) -> Table | None:
    at = "goal.budget"
    if isinstance(value, int) and not isinstance(value, bool):
        value = marked({"trials": value})
    table = border.table(value, at, line, "{trials: 40, time: 2 h, cost: 100 USD}")
    if table is None:
        return None
    made = border.only(table, (*Budget.__struct_fields__, "time"), at)
    if "time" in made:
        made.put("seconds", made.pop("time"), line_of(table, "time"))
    border.quantities(made, "s", at, ("seconds",))
    cost = made.get("cost")
    if isinstance(cost, str):
        number, unit = split(cost)
        if number != number:
            border.note(
                f"{at}.cost", f"{shown(cost)} is not a cost", "Write it as: cost: 100 USD", line_of(made, "cost")
            )
        elif unit and made.get("cost_unit", unit) != unit:
            message = f"it is in {unit!r}, and cost_unit is {made['cost_unit']!r}"
            border.note(f"{at}.cost", message, "Give it in one unit.", line_of(made, "cost"))
        made["cost"] = number
        if unit:
            made.put("cost_unit", unit, line_of(made, "cost"))
    return made


def _no_improvement(value: Any, line: int, border: Border) -> Table | None:
    at = "goal.no_improvement"
    if isinstance(value, int) and not isinstance(value, bool):
        value = marked({"trials": value})
    table = border.table(value, at, line, "{trials: 20, gain: 0.5}")
    return None if table is None else border.only(table, NoImprovement.__struct_fields__, at)


def _regret(value: Any, line: int, border: Border) -> Table | None:
    at = "goal.regret"
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        value = marked({"gain": value})
    table = border.table(value, at, line, "{gain: 0.5, chance: 0.05}")
    if table is None:
        return None
    made = border.only(table, Regret.__struct_fields__, at)
    border.quantities(made, "", at, ("chance",))
    return made


def _gain_in_unit_of_objective(goal: Table, border: Border) -> None:
    """The gain as a difference in the unit of the one objective that it is a gain of."""
    rule, objectives = goal.get("regret"), [o for o in goal.get("objectives") or () if o]
    if not rule:
        return
    if len(objectives) != 1:
        # That is what is wrong, and is told as such: not the unit.
        if isinstance(rule.get("gain"), str):
            rule["gain"] = split(rule["gain"])[0]
        return
    unit = objectives[0].get("unit", "")
    border.quantities(rule, unit if isinstance(unit, str) else "", "goal.regret", ("gain",), difference="gain")
