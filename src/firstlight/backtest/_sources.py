"""Every pool in a directory tree: sets in the form of Olympus, tables with a description, and our own exports."""

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from firstlight import core

from ._columns import assembled, constant, converted, kind, sniffed
from ._pool import Pool
from ._sheet import Cell, Fault, Sheet, Unreadable, read_sheet

TABLES, DESCRIPTIONS = (".csv", ".parquet"), (".yaml", ".yml", ".json")
EACH_FAULTS = 5
"""Of one file so many faults are told one by one; the rest are counted."""
NOWHERE = core.ProcedureSpec(steps=(core.StepSpec(operation="look up", facility=core.CALLER),))
"""Nobody performs the trials of a pool: their outcomes are known."""
LOOK_UP = {"steps": [{"operation": "look up", "facility": core.CALLER}]}
_DIRECTIONS = {"maximize": "maximize", "max": "maximize", "minimize": "minimize", "min": "minimize"}
_UNIT = re.compile(r"(.+?) \[[^\]]*\]")


class Form(core.Value, frozen=True):
    """How descriptions are read, which this part does not know: a file to plain values, and these to a specification.

    Both raise ValueError, with a reason fit to show.
    """

    read: Callable[[Path], Mapping[str, Any]]
    spec: Callable[[Mapping[str, Any]], core.CampaignSpec]


class Found(core.Value, frozen=True):
    """The pools of a directory tree that were asked for, in the order of their names; what could not be used; and the
    other pools, from which strategies may learn."""

    pools: tuple[Pool, ...]
    faults: tuple[Fault, ...]
    others: tuple[Pool, ...] = ()


def pools(
    directory: Path | str, *, describe: Sequence[Path | str] = (), form: Form | None = None,
    objectives: Literal["all", "first"] = "all", names: Sequence[str] = (),
) -> list[Pool]:  # fmt: skip
    """Every pool in a directory tree (see `find`); what could not be used is passed over."""
    return list(find(directory, describe=describe, form=form, objectives=objectives, names=names).pools)


def find(
    directory: Path | str, *, describe: Sequence[Path | str] = (), form: Form | None = None,
    objectives: Literal["all", "first"] = "all", names: Sequence[str] = (),
) -> Found:  # fmt: skip
    """Every pool in a directory tree.

    Read are folders with `config.json` and `data.csv` as in Olympus; CSV and Parquet files with a description of the
    same name beside them or in a directory of `describe` (there its field `file` names the table); and datasets that
    `firstlight export` wrote as Parquet or JSON. `objectives` "first" keeps only the first objective of each. `names`
    are patterns of pools to keep (`buchwald_*`). Without a `form`, descriptions are not read.
    """
    root = Path(directory)
    found, faults, described = list[Pool](), list[Fault](), set[Path]()

    def take(made: tuple[Pool | None, list[Fault]]) -> None:
        pool, wrong = made
        found.extend([pool] if pool is not None else [])
        faults.extend(_few(wrong))

    descriptions = list(_descriptions(root, [Path(d) for d in describe], faults)) if form is not None else []
    for description in descriptions:
        assert form is not None
        table, made = _described(description, root, form)
        described |= {table} if table else set()
        take(made)
    for path in sorted(p for p in root.rglob("*") if p.is_file() and p not in described):
        if (path.parent / "config.json").exists() and (path.parent / "data.csv").exists():
            if path.name == "data.csv":
                take(_olympus(path, str(path.relative_to(root))))
        elif path.suffix in (*TABLES, ".json"):
            take(_export(path, str(path.relative_to(root))))
    if objectives == "first":
        found = [p if len(p.spec.goal.objectives) == 1 else _first(p) for p in found]
    unique = _unique(found, faults)
    kept = tuple(p for p in unique if not names or any(fnmatch.fnmatchcase(p.name, n) for n in names))
    told = tuple(f for f in faults if not names or _concerns(f, kept, names))
    return Found(pools=kept, faults=told, others=tuple(p for p in unique if p not in kept))


def _concerns(fault: Fault, kept: Sequence[Pool], names: Sequence[str]) -> bool:
    """Whether a fault is about a pool that was asked for, or could be: its file or folder has such a name."""
    path = Path(fault.file)
    called = (path.stem, path.parent.name)
    return any(p.source == fault.file for p in kept) or any(fnmatch.fnmatchcase(c, n) for c in called for n in names)


def _unique(found: Iterable[Pool], faults: list[Fault]) -> list[Pool]:
    kept: dict[str, Pool] = {}
    for pool in sorted(found, key=lambda p: (p.name, p.source)):
        first = kept.setdefault(pool.name, pool)
        if first is not pool:
            message = f"there is a pool {pool.name} already, in {first.source}: give one of them another id"
            faults.append(Fault(file=pool.source, line=0, message=message))
    return list(kept.values())


def _few(faults: list[Fault]) -> list[Fault]:
    if len(faults) <= EACH_FAULTS + 1:
        return faults
    more = Fault(file=faults[0].file, line=0, message=f"and {len(faults) - EACH_FAULTS} more rows like these")
    return [*faults[:EACH_FAULTS], more]


def _first(pool: Pool) -> Pool:
    """The same pool with its first objective only."""
    goal = replace(pool.spec.goal, objectives=pool.spec.goal.objectives[:1])
    keep = [goal.objectives[0].observable, *(c.observable for c in goal.outcome_constraints)]
    places = [pool.observables.index(name) for name in dict.fromkeys(keep)]
    outcomes = tuple(tuple(tuple(r[j] for j in places) for r in replicates) for replicates in pool.outcomes)
    return Pool(
        name=pool.name, spec=replace(pool.spec, goal=goal), observables=tuple(dict.fromkeys(keep)), outcomes=outcomes,
        source=pool.source, assumed=pool.assumed,
    )  # fmt: skip


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63] or "pool"


# ------------------------------------------------------------------ as in Olympus


def _olympus(path: Path, source: str) -> tuple[Pool | None, list[Fault]]:
    """A folder with `config.json` and `data.csv`, which has no header: its columns are those of the configuration."""
    try:
        config = msgspec.json.decode((path.parent / "config.json").read_bytes())
        parameters = [dict(p) for p in config["parameters"]]
        measured = [str(m["name"]) for m in config["measurements"]]
        names = [str(p["name"]) for p in parameters]
        sheet = read_sheet(path, [*names, *measured])
        goals = config.get("default_goal", "minimize")
        goals = list(goals) if isinstance(goals, list) else [goals] * len(measured[:1])
        objectives = tuple(
            core.Objective(observable=name, direction=_DIRECTIONS[goal])  # type: ignore[arg-type]
            for name, goal in zip(measured, goals, strict=False)
        )
        simplex = isinstance(config.get("constraints"), dict) and config["constraints"].get("parameters") == "simplex"
        return _of_olympus(path.parent.name, parameters, objectives, sheet, source, simplex)
    except (KeyError, TypeError, ValueError, OSError) as error:
        what = f"{error} is missing or unknown" if isinstance(error, KeyError) else str(error)
        return None, [Fault(file=source, line=0, message=f"its config.json or data cannot be used: {what}")]


def _of_olympus(
    name: str, parameters: Sequence[Mapping[str, Any]], objectives: tuple[core.Objective, ...], sheet: Sheet,
    source: str, simplex: bool,
) -> tuple[Pool | None, list[Fault]]:  # fmt: skip
    assumed, kept = [], []
    mixture = core.Mixture(parameters=tuple(str(p["name"]) for p in parameters))
    closed = simplex and all(abs(sum(row) - 1.0) < 1e-6 for row in _numbers(sheet, mixture.parameters))
    if simplex and not closed:
        assumed.append("it is declared a simplex, and its rows do not sum to 1: taken as free")
    for p in parameters:
        cells = sheet.columns[str(p["name"])]
        if constant(cells):
            assumed.append(f"{p['name']} is always {cells[0]}: left out")
            continue
        body = _olympus_parameter(p, cells, smooth=closed)
        kept.append(converted({"name": str(p["name"]), **body}))
        if body["type"] == "ordered":
            assumed.append(f"{p['name']} has {len(body['values'])} values: taken as ordered")
    spec = core.CampaignSpec(
        id=_slug(name), title=name, parameters=tuple(kept), goal=core.Goal(objectives=objectives),
        procedure=NOWHERE, constraints=(mixture,) if closed and len(kept) == len(parameters) else (),
    )  # fmt: skip
    return assembled(name, spec, sheet, {}, source, assumed)


def _olympus_parameter(p: Mapping[str, Any], cells: Sequence[Cell], smooth: bool) -> dict[str, Any]:
    options = [str(o) for o in p.get("options") or ()]
    if not options:
        body = sniffed(cells, smooth)
        # Where the numbers are no grid, the declared range is the space.
        return {**body, "low": float(p["low"]), "high": float(p["high"])} if body["type"] == "continuous" else body
    as_numbers = sniffed(options, smooth=True)["type"] == "continuous"
    if as_numbers:
        return {"type": "ordered", "values": sorted(map(float, options))}
    body = {"type": "ordered" if p.get("type") == "ordinal" else "categorical", "values": options}
    told = p.get("descriptors") or ()
    if body["type"] == "categorical" and len(told) == len(options) and all(told):
        body["descriptors"] = {
            o: {f"d{j}": float(x) for j, x in enumerate(d)} for o, d in zip(options, told, strict=True)
        }
    return body


def _numbers(sheet: Sheet, names: Sequence[str]) -> list[tuple[float, ...]]:
    return [tuple(float(str(c)) for c in row) for row in zip(*(sheet.columns[n] for n in names), strict=True)]


# ------------------------------------------------------------------ tables with a description


def _descriptions(root: Path, elsewhere: Sequence[Path], faults: list[Fault]) -> Iterable[Path]:
    for directory in elsewhere:
        if not directory.is_dir():
            faults.append(Fault(file=str(directory), line=0, message="there is no such directory of descriptions"))
        yield from sorted(p for p in directory.rglob("*") if p.suffix in DESCRIPTIONS)
    known = {d.resolve() for d in elsewhere}
    for path in sorted(p for p in root.rglob("*") if p.suffix in DESCRIPTIONS):
        beside = any(path.with_suffix(suffix).exists() for suffix in TABLES)
        if beside and not any(path.resolve().is_relative_to(d) for d in known):
            yield path


def _described(path: Path, root: Path, form: Form) -> tuple[Path | None, tuple[Pool | None, list[Fault]]]:
    """The table that a description speaks of, and its pool."""
    table = None
    try:
        document = dict(form.read(path))
        table = _table_of(path, root, document.pop("file", None))
        source = str(table.relative_to(root)) if table.is_relative_to(root) else str(table)
        return table, _with_document(document, path.stem, read_sheet(table), source, form)
    except ValueError as error:
        return table, (None, [_said(path, root, line) for line in str(error).splitlines()])


def _said(path: Path, root: Path, text: str) -> Fault:
    """One line of what is wrong with a description, with the line of the file where it is told."""
    told = re.fullmatch(rf"(?:{re.escape(str(path))}:(?:(\d+):)? )?(.*)", text)
    line, message = (told[1], told[2]) if told else (None, text)
    file = path.relative_to(root) if path.is_relative_to(root) else path
    return Fault(file=str(file), line=int(line or 0), message=message)


def _table_of(path: Path, root: Path, name: object) -> Path:
    if name is None:
        beside = [path.with_suffix(suffix) for suffix in TABLES if path.with_suffix(suffix).exists()]
        if not beside:
            raise ValueError("there is no table beside it: name one, as in `file: measured.csv`")
        return beside[0]
    for candidate in (root / str(name), path.parent / str(name)):
        if candidate.is_file():
            return candidate
    # Whoever gives a part of the tree has its files at other depths.
    fits = sorted(p for p in root.rglob(Path(str(name)).name) if p.is_file())
    if len(fits) != 1:
        raise ValueError(f"its table {name} is not in {root}")
    return fits[0]


def _with_document(
    document: dict[str, Any], stem: str, sheet: Sheet, source: str, form: Form
) -> tuple[Pool | None, list[Fault]]:
    headers = {m[1]: header for header in sheet.columns if (m := _UNIT.fullmatch(header))}
    headers = {name: header for name, header in headers.items() if name not in sheet.columns}
    known = {**dict.fromkeys(sheet.columns), **dict.fromkeys(headers)}
    observed = _observed(document)
    lacking = [name for name in observed if name not in known]
    given = document.get("parameters")
    bodies = _bodies(given, [n for n in sheet.columns if n not in observed and n not in headers.values()])
    lacking += [name for name in bodies if name not in known]
    if lacking:
        raise ValueError(f"the table has no column {', '.join(map(repr, lacking))}; it has {', '.join(sheet.columns)}")
    mixed = {n for c in document.get("constraints") or () if isinstance(c, Mapping) for n in c.get("mixture") or ()}
    assumed, made = [], dict[str, Any]()
    for name, body in bodies.items():
        cells = sheet.columns[headers.get(name, name)]
        if given is None and constant(cells):
            assumed.append(f"{name} has one value only: left out")
            continue
        made[name], note = _completed(body, cells, smooth=name in mixed)
        if note:
            assumed.append(f"{name} is taken as {note}")
    document = {"id": _slug(stem), **document, "parameters": made}
    name = str(document["id"]) if "id" in document else stem
    document["id"] = _slug(name)
    document.setdefault("procedure", LOOK_UP)
    # A campaign has to end, and a pool does.
    document.setdefault("budget", {"trials": 1})
    spec = form.spec(document)
    spec = replace(spec, goal=replace(spec.goal, budget=core.Budget()), procedure=NOWHERE)
    return assembled(name, spec, sheet, headers, source, assumed)


def _observed(document: Mapping[str, Any]) -> list[str]:
    """The names of observables, however they are written; what is wrong with them the form says."""
    goal = document.get("goal")
    objectives = document.get("objectives") or (goal.get("objectives") if isinstance(goal, Mapping) else None)
    if not objectives:
        raise ValueError("it does not say what is wanted: add it, as in `objectives: {yield: maximize}`")
    if isinstance(objectives, Mapping):
        names = [str(n) for n in objectives]
    else:
        words = ("observable", "maximize", "maximise", "max", "minimize", "minimise", "min")
        names = [str(o[w]) for o in objectives if isinstance(o, Mapping) for w in words if w in o]
    more = document.get("observables") or ()
    return names + [str(o["name"]) if isinstance(o, Mapping) else str(o) for o in more]


def _bodies(given: object, columns: Sequence[str]) -> dict[str, Any]:
    """What is said of every parameter: all other columns where none is named."""
    if given is None:
        return dict.fromkeys(columns)
    if isinstance(given, Mapping):
        return {str(name): body for name, body in given.items()}
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ValueError("parameters is neither a list nor a table")
    return {str(p["name"]) if isinstance(p, Mapping) else str(p): p if isinstance(p, Mapping) else None for p in given}


def _completed(body: Any, cells: Sequence[Cell], smooth: bool) -> tuple[Any, str]:
    """A parameter with what the data say where nothing is said, and that in words."""
    if body is not None and not isinstance(body, Mapping):
        return body, ""
    said = {k: v for k, v in (body or {}).items() if k != "name"}
    if said.keys() & {"values", "low", "high"}:
        return said, ""
    wanted = said.get("type")
    found = sniffed(cells, smooth=smooth or wanted in ("continuous", "integer") or "scale" in said)
    if wanted == "categorical" and found["type"] != "categorical":
        found = {"type": "categorical", "values": list(dict.fromkeys(str(c).strip() for c in cells))}
    if wanted == "ordered" and found["type"] == "continuous":
        found = {"type": "ordered", "values": sorted({float(str(c)) for c in cells})}
    if wanted == "integer":
        found |= {"low": int(found["low"]), "high": int(found["high"])}
    return {**found, **said}, kind(found)


# ------------------------------------------------------------------ our own exports


def _export(path: Path, source: str) -> tuple[Pool | None, list[Fault]]:
    """A dataset that says itself what it is; other tables need a description, other JSON files are none of ours."""
    try:
        sheet = read_sheet(path)
    except Unreadable as error:
        return None, [] if path.suffix == ".json" else [Fault(file=source, line=0, message=str(error))]
    if not sheet.about:
        message = f"nothing describes it: write {path.stem}.yaml with `objectives`, or give --describe"
        return None, [Fault(file=source, line=0, message=message)]
    try:
        spec = msgspec.convert(sheet.about["spec"], core.CampaignSpec)
    except ValueError as error:
        return None, [Fault(file=source, line=0, message=f"its specification cannot be read: {error}")]
    roles = {str(column["name"]): (column["role"], column["type"]) for column in sheet.about["columns"]}
    # A parameter whose name is taken in the table has another one there; the order is that of the specification.
    varied = [name for name, (role, _) in roles.items() if role == "parameter"]
    headers = dict(zip((p.name for p in spec.parameters), varied, strict=False))
    flags = next((name for name, of in roles.items() if of == ("failure", "bool")), None)
    failed = [bool(f) for f in sheet.columns[flags]] if flags else []
    spec = replace(spec, goal=replace(spec.goal, budget=core.Budget()), procedure=NOWHERE)
    return assembled(path.stem, spec, sheet, headers, source, (), failed)
