"""The short forms of a procedure, a strategy, sources and a pool, made into the strict ones."""

import csv
import hashlib
import mimetypes
from typing import Any

from firstlight.core import (
    PREDICT,
    Asset,
    Fidelity,
    Limits,
    Pool,
    ProcedureSpec,
    Resources,
    Scalar,
    StepSpec,
    StrategySpec,
)

from ._border import Border
from ._document import Items, Table, line_of, marked
from ._problems import shown

MOST_POOL_BYTES = 20_000_000
STEP_SHORTS = ("function", "command", "model", "timeout", "memory")
FIDELITY = "{parameter: source, target: instrument, costs: {simulation: 1, instrument: 20}}"
EXAMPLE = "`evaluate: experiment:measure`"


def procedure(document: Table, border: Border) -> Table | None:
    """The strict procedure, from `evaluate` (one step) or `procedure` (its steps, or all of it)."""
    one, many = document.get("evaluate"), document.get("procedure")
    line = line_of(document, "procedure" if one is None else "evaluate")
    if one is None and many is None:
        border.note("procedure", "nothing says how a point is tried", f"Add it, as in {EXAMPLE}.", document.line)
        return None
    if one is not None and many is not None:
        border.note("procedure", "evaluate and procedure are both there", "Keep one of them.", line)
    if one is not None or isinstance(many, Items | str):
        made, steps = Table(line), many if isinstance(many, Items) else marked([many if one is None else one])
        steps.line = line
        made.put("steps", steps, line)
    else:
        table = border.table(many, "procedure", line, "a table with steps")
        if table is None:
            return None
        made = border.only(table, ProcedureSpec.__struct_fields__, "procedure")
    if "steps" in made:
        given = border.items(made["steps"], "procedure.steps", line, "a list of steps")
        steps = Items(given.line or line)
        for i, body in enumerate(given):
            at = line_of(given, i) or line
            steps.put(_step(f"procedure.steps[{i}]", body, at, border), at)
        made["steps"] = steps
    return made


def _step(at: str, body: Any, line: int, border: Border) -> Table | None:
    if isinstance(body, str):
        body = marked({"operation": body})
    table = border.table(body, at, line, f'{EXAMPLE}, or {{command: [./simulate, "{{x}}"]}}')
    if table is None:
        return None
    table.line = table.line or line
    given = border.only(table, (*StepSpec.__struct_fields__, *STEP_SHORTS), at)
    what = [key for key in ("operation", "function", "command", "model") if key in given]
    if len(what) != 1:
        message = "it does not say what to do" if not what else f"{' and '.join(what)} are both there"
        border.note(f"{at}.operation", message, f"Give one of function, command and model, as in {EXAMPLE}.", line)
        return None
    made, settings = Table(line), given.get("settings")
    for key, value in given.items():
        if key not in (*STEP_SHORTS, "limits", "facility", "resources", "inputs"):
            made.put(key, value, line_of(given, key))
    _facility(given, made)
    for key, read in (("resources", _resources), ("inputs", _inputs)):
        if key in given:
            line_ = line_of(given, key)
            made.put(key, read(f"{at}.{key}", given[key], line_, border), line_)
    if isinstance(made.get("outputs"), str):
        made["outputs"] = marked([made["outputs"]])
    if "function" in given:
        made.put("operation", given["function"], line_of(given, "function"))
    if "command" in given:
        made.put("operation", "command", line_of(given, "command"))
        argv = given["command"]
        if not isinstance(argv, Items) or not argv or any(not isinstance(a, str | int | float) for a in argv):
            border.note(
                f"{at}.command", f"{shown(argv)} is not a list of words", "Write it as [program, argument, ...].", line
            )
        elif settings is None or isinstance(settings, Table):
            made["settings"] = Table(line)
            made["settings"].update({**(settings or {}), "argv": argv})
    if "model" in given:
        made.put("operation", PREDICT, line_of(given, "model"))
        made.put("settings", _model(at, given, border), line_of(given, "model"))
    limits = _limits(at, given, border)
    if limits is None or limits:
        made.put("limits", limits, line_of(given, "limits"))
    return made


def _model(at: str, given: Table, border: Border) -> Table:
    """The setting that names a registered model. Its version and its files are found once the campaign is opened."""
    name, line = given["model"], line_of(given, "model")
    if not isinstance(name, str) or not name:
        border.note(f"{at}.model", f"{shown(name)} is not the name of a model", "Name a registered one: alloy:3.", line)
    for key in ("settings", "inputs", "outputs"):
        if key in given:
            message = f"a model is asked of the point alone, and has no {key}"
            border.note(f"{at}.{key}", message, "Leave it out.", line_of(given, key))
    return _with(Table(line), model=name)


def _facility(given: Table, made: Table) -> None:
    """One by its name; `any`, or a list of names, where the coordinator is to choose."""
    if "facility" not in given:
        return
    value, line = given["facility"], line_of(given, "facility")
    made.put("facility", "" if value == "any" or isinstance(value, Items) else value, line)
    if isinstance(value, Items):
        made.put("facilities", value, line)


def _resources(at: str, value: Any, line: int, border: Border) -> Table | None:
    table = border.table(value, at, line, "{nodes: 2, processes: 8, cores: 4}")
    if table is None:
        return None
    made = border.only(table, Resources.__struct_fields__, at)
    for name in ("pre_launch", "post_launch"):
        if isinstance(made.get(name), str):
            made[name] = marked([made[name]])
    attributes = made.get("attributes")
    if isinstance(attributes, Table):
        # A scheduler's options are words to it, whatever they are to YAML.
        for key, option in attributes.items():
            if isinstance(option, int | float) and not isinstance(option, bool):
                attributes[key] = str(option)
    return made


def _inputs(at: str, value: Any, line: int, border: Border) -> Table | None:
    """Files by name, each with the digest of its bytes as they are now."""
    table = border.table(value, at, line, "{mesh: mesh.dat}")
    if table is None:
        return None
    made = Table(line)
    for name, file in table.items():
        here = line_of(table, name)
        asset = file if isinstance(file, Table) else _asset(f"{at}.{name}", file, here, border)
        if asset is not None:
            made.put(name, asset, here)
    return made


def _asset(at: str, name: Any, line: int, border: Border) -> Table | None:
    if not isinstance(name, str) or border.directory is None:
        what = "a file cannot be read here" if border.directory is None else f"{shown(name)} is not the name of a file"
        border.note(at, what, "Give the path of a file, as in {mesh: mesh.dat}.", line)
        return None
    file = (border.directory / name).absolute()
    try:
        with open(file, "rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
            size = source.tell()
    except OSError as error:
        border.note(at, f"{name} cannot be read: {error.strerror}", f"Put it in {border.directory}.", line)
        return None
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    asset = Asset(uri=file.as_uri(), digest=f"sha256:{digest}", media_type=kind, size=size)
    return _with(Table(line), **{name: getattr(asset, name) for name in Asset.__struct_fields__})


def _limits(at: str, given: Table, border: Border) -> Table | None:
    table = border.table(given.get("limits", Table()), f"{at}.limits", line_of(given, "limits"), "{seconds: 600}")
    if table is None:
        return None
    made = border.only(table, Limits.__struct_fields__, f"{at}.limits")
    for short, name in (("timeout", "seconds"), ("memory", "memory")):
        if short in given:
            made.put(name, given[short], line_of(given, short))
    border.quantities(made, "s", f"{at}.limits", ("seconds",))
    border.quantities(made, "byte", f"{at}.limits", ("memory",))
    memory = made.get("memory")
    if isinstance(memory, float) and memory == memory and abs(memory) < 1e18:
        made["memory"] = round(memory)
    return made


def strategy(value: Any, line: int, border: Border) -> Table | None:
    """The strict strategy, from its name alone."""
    if isinstance(value, str):
        value = marked({"name": value})
    table = border.table(value, "strategy", line, "`strategy: bayes`, or {name: bayes, options: {...}}")
    return None if table is None else border.only(table, StrategySpec.__struct_fields__, "strategy")


def fidelity(value: Any, line: int, parameters: Items, border: Border) -> Table | None:
    """The strict sources, from `costs`: what a trial costs, by source."""
    table = border.table(value, "fidelity", line, FIDELITY)
    if table is None:
        return None
    made = border.only(table, (*Fidelity.__struct_fields__, "costs"), "fidelity")
    if "costs" not in made:
        return made
    at, costs = line_of(made, "costs"), border.table(made.pop("costs"), "fidelity.costs", line, FIDELITY)
    if costs is None:
        return None
    if "sources" in made:
        border.note("fidelity.costs", "costs and sources are both there", "Keep one of them.", at)
    parameter = next((t for t in parameters if t and t["name"] == made.get("parameter")), Table())
    sources = Items(at)
    for name, cost in costs.items():
        here = line_of(costs, name)
        sources.put(_with(Table(here), value=_key(name, parameter), cost=cost), here)
    made.put("sources", sources, at)
    return made


def _with(table: Table, **fields: Any) -> Table:
    for key, value in fields.items():
        table.put(key, value)
    return table


def _key(name: Any, parameter: Table) -> Any:
    """The name of a field as its parameter has it: in JSON all of them are text."""
    try:
        return _cell(name, parameter) if isinstance(name, str) else name
    except ValueError:
        return name


def shared(value: Any, line: int, border: Border) -> Items:
    """The list of parameters that the points of a batch share, from the name of one."""
    return border.items(marked([value]) if isinstance(value, str) else value, "shared", line, "a list of parameters")


# ------------------------------------------------------------------ the pool


def pool(value: Any, line: int, parameters: Items, border: Border) -> Table | None:
    """The strict pool, from a CSV file, from a list of points, or from columns and rows."""
    if isinstance(value, Table) and set(value) == {"file"}:
        value = value["file"]
    if isinstance(value, str):
        return _read_pool(value, line, parameters, border)
    made = Table(line)
    if isinstance(value, Items):
        columns = marked([t["name"] for t in parameters if t and isinstance(t["name"], str)])
        rows = Items(line)
        for i, row in enumerate(value):
            if not isinstance(row, Table) or set(row) != set(columns):
                message = f"{shown(row)} is not a point"
                border.note(
                    f"pool.rows[{i}]", message, "Give every parameter a value, and nothing else.", line_of(value, i)
                )
                return None
            rows.put(marked([row[c] for c in columns]), line_of(value, i))
        made.put("columns", columns)
        made.put("rows", rows)
        return made
    table = border.table(value, "pool", line, "`pool: candidates.csv`, or a list of points")
    return None if table is None else border.only(table, Pool.__struct_fields__, "pool")


def _read_pool(name: str, line: int, parameters: Items, border: Border) -> Table | None:
    if border.directory is None:
        border.note("pool", "a file cannot be read here", "Give the points themselves: columns and rows.", line)
        return None
    file = border.directory / name
    try:
        if file.stat().st_size > MOST_POOL_BYTES:
            border.note("pool", f"{name} is larger than {MOST_POOL_BYTES:,} bytes", "Give fewer candidates.", line)
            return None
        text = file.read_text(encoding="utf-8-sig")
        lines = [row for row in csv.reader(text.splitlines(), strict=True) if any(cell.strip() for cell in row)]
    except OSError as error:
        border.note("pool", f"{name} cannot be read: {error.strerror}", f"Put it in {border.directory}.", line)
        return None
    except (ValueError, csv.Error) as error:
        border.note("pool", f"{name} is not a CSV file: {error}", "Save it as CSV, in UTF-8.", line)
        return None
    if not lines:
        border.note("pool.rows", f"{name} is empty", "Give a line of parameter names, and a line a candidate.", line)
        return None
    header, made, rows = [cell.strip() for cell in lines[0]], Table(line), Items(line)
    types = {t["name"]: t for t in parameters if t and isinstance(t["name"], str)}
    for number, cells in enumerate(lines[1:], 1):
        if len(cells) != len(header):
            message = f"{name}, row {number} has {len(cells)} values for {len(header)} columns"
            border.note(f"pool.rows[{number - 1}]", message, "Give one value a column.", line)
            return None
        row = Items(line)
        for column, cell in zip(header, cells, strict=True):
            try:
                row.put(_cell(cell.strip(), types.get(column, Table())))
            except ValueError:
                message = f"{name}, row {number}: {column} is {shown(cell)}, not a number"
                border.note(f"pool.rows[{number - 1}]", message, "Correct the row.", line)
        rows.put(row, line)
    made.put("columns", marked(header), line)
    made.put("rows", rows, line)
    return made


def _cell(text: str, parameter: Table) -> Scalar:
    """A cell as its parameter has it. Raises ValueError."""
    values = parameter.get("values")
    if parameter.get("type") not in ("continuous", "integer", "ordered"):
        return text
    if isinstance(values, Items) and any(isinstance(v, str) for v in values):
        return text
    number = float(text)
    if isinstance(values, Items) and number in values:
        return values[values.index(number)]  # type: ignore[no-any-return]
    return int(number) if parameter["type"] == "integer" and number.is_integer() else number
