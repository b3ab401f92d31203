"""Plain values to the structs of the language, with every wrong type noted rather than the first one."""

import re
from typing import Any

import msgspec

from firstlight.core import (
    CampaignSpec,
    Constraint,
    Goal,
    Objective,
    Observable,
    OutcomeConstraint,
    Parameter,
    ProcedureSpec,
    StepSpec,
)

from ._border import Border
from ._document import Table, line_at, line_of
from ._problems import meant, shown

ELEMENTS: dict[str, Any] = {
    "parameters": Parameter, "constraints": Constraint, "objectives": Objective, "observables": Observable,
    "outcome_constraints": OutcomeConstraint, "steps": StepSpec,
}  # fmt: skip
PARTS: dict[str, Any] = {"goal": Goal, "procedure": ProcedureSpec}
CHOICES = {
    "direction": ("maximize", "minimize", "match"), "relation": ("<=", ">=", "=="), "scale": ("linear", "log"),
    "type": ("continuous", "integer", "ordered", "categorical", "linear", "mixture", "exclude", "forbid"),
}  # fmt: skip
WORDS = {
    "float": "a number", "int": "a whole number", "str": "text", "array": "a list", "object": "a table",
    "bool": "true or false", "int | float | str": "a number or text", "float | int | str": "a number or text",
}  # fmt: skip
_EXPECTED = re.compile(r"Expected `(.+?)`, got `(.+?)`")
_PATH = re.compile(r" - at (?:`key(?: in)?` in )?`(?:key in )?\$(.*)`$")


def typed(document: Table, border: Border) -> CampaignSpec | None:
    """The specification, or None where something is missing or has a wrong type, and noted."""
    made = _build(CampaignSpec, document, "", border)
    return None if border.noted else CampaignSpec(**made)


def _build(cls: type[msgspec.Struct], table: Table, at: str, border: Border) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for field in msgspec.structs.fields(cls):
        name, line = field.name, line_of(table, field.name)
        here = f"{at}.{name}" if at else name
        value = table.get(name)
        if name not in table:
            if field.required:
                border.note(here, "it is missing", f"Add {name}.", table.line)
        elif value is None:
            continue  # It could not be read, which is noted already.
        elif name in PARTS:
            made[name] = (
                PARTS[name](**parts) if _whole(parts := _build(PARTS[name], value, here, border), PARTS[name]) else None
            )
        elif name in ELEMENTS and isinstance(value, list):
            made[name] = tuple(
                _convert(item, ELEMENTS[name], f"{here}[{i}]", line_of(value, i), border)
                for i, item in enumerate(value)
                if item is not None
            )
        else:
            made[name] = _convert(value, field.type, here, line, border)
    return made


def _whole(made: dict[str, Any], cls: type[msgspec.Struct]) -> bool:
    return all(f.name in made for f in msgspec.structs.fields(cls) if f.required)


def _convert(value: Any, kind: Any, at: str, line: int, border: Border) -> Any:
    """The value as this type; None, and a note, where it cannot be."""
    simple = plain(value)
    try:
        return msgspec.convert(simple, kind)
    except msgspec.ValidationError as error:
        field, message, remedy = reworded(str(error), simple)
        line = line_at(value, field.removeprefix(".")) or line
        border.note(f"{at}{field}", message, remedy, line)
        return None


def plain(value: Any) -> Any:
    """The same values in ordinary dictionaries and lists."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def reworded(error: str, value: Any) -> tuple[str, str, str]:
    """The field, the message and the remedy in what msgspec says of a value."""
    path = _PATH.search(error)
    field = path[1].replace("[...]", "") if path else ""
    text = error[: path.start()] if path else error
    found, last = _at(value, field), re.findall(r"[^.\[\]]+", field)[-1:] or [""]
    if missing := re.match(r"Object missing required field `(.+)`", text):
        return f"{field}.{missing[1]}", "it is missing", f"Add {missing[1]}."
    if unknown := re.match(r"Object contains unknown field `(.+)`", text):
        return f"{field}.{unknown[1]}", f"there is no field {unknown[1]!r} here", "Take it out."
    if match := _EXPECTED.match(text):
        kind = match[1].removesuffix(" | null")
        wanted = WORDS.get(kind, kind)
        what = (
            shown(found)
            if found is not _NOTHING and not isinstance(found, dict)
            else f"one of its entries ({match[2]})"
        )
        quote = kind == "str" and match[2] in ("int", "float", "bool", "null")
        quote = quote or (match[2] == "bool" and "str" in kind)
        return field, f"{what} is not {wanted}", "Put quotes around it." if quote else f"Give {wanted}."
    if text.startswith("Invalid"):
        return field, f"{shown(found)} is not a {last[0]}", meant(found, CHOICES.get(last[0], ()))
    return field, text, "Correct it."


_NOTHING = object()


def _at(value: Any, field: str) -> Any:
    """What stands at a path; `_NOTHING` where it does not lead to one thing."""
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", field):
        try:
            value = value[int(index)] if index else value[name]
        except (LookupError, TypeError):
            return _NOTHING
    return value
