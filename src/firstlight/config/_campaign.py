"""A campaign file to a specification and back."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec.structs import replace

from firstlight.core import CALLER, PREDICT, CampaignSpec, Categorical, Problem, StepSpec, problems

from ._border import Border
from ._document import FLOAT, YAML_12, Items, Table, line_at, line_of, marked, read_json, read_text, whole
from ._goal_forms import goal, in_units_of_observables, observables
from ._problem_forms import constraints, parameters
from ._problems import BadCampaign, Checker, Known, meant, shown
from ._procedure_forms import fidelity, pool, procedure, shared, strategy
from ._typed import reworded, typed

Says = Callable[[CampaignSpec], str | None]
"""Why a specification cannot be met; None where it can."""
_SIMPLE = ("id", "title", "description", "parallel", "batch", "ahead", "seed", "model", "retrain_after", "agreement")
_TOP = (
    *CampaignSpec.__struct_fields__, "objectives", "outcome_constraints", "budget", "no_improvement", "regret",
    "evaluate",
)  # fmt: skip
ANYTHING = Known()


def load_campaign(
    source: Path | str | Mapping[str, Any],
    *,
    units: Checker,
    known: Known = ANYTHING,
    infeasible: Says | None = None,
    unperformable: Says | None = None,
    directory: Path | None = None,
) -> CampaignSpec:
    """The specification in a file (a Path, YAML or JSON), in YAML text, or in plain values.

    `directory` is where relative paths start: that of the file where it is not given. Without one (text from
    elsewhere) no other file is read. `infeasible` says why no point keeps the constraints,
    `unperformable` why the procedure cannot make actions of its steps. Raises BadCampaign, and nothing else, with
    every problem.
    """
    name = str(source) if isinstance(source, Path) else ""
    if isinstance(source, Path):
        directory = (directory or source.parent).absolute()
    document = _document(source, name)
    border = Border(units, directory)
    strict = _strict(document, border)
    _once(strict, known.computes)
    spec = typed(strict, border)
    if spec is None or border.noted:
        raise BadCampaign([p for p, _ in border.noted], name, [line for _, line in border.noted])
    if directory is not None:
        spec = _at_home(spec, directory, known.computes)
    found = _problems(spec, units, known, infeasible, unperformable)
    if found:
        raise BadCampaign(found, name, [line_at(strict, p.field) for p in found])
    return spec


def read_document(source: Path | str) -> dict[str, Any]:
    """The plain values in a file (a Path, YAML or JSON) or in YAML text, read as a campaign is. Raises BadCampaign."""
    return _document(source, str(source) if isinstance(source, Path) else "")


def check_campaign(
    spec: CampaignSpec,
    *,
    units: Checker,
    known: Known = ANYTHING,
    infeasible: Says | None = None,
    unperformable: Says | None = None,
) -> CampaignSpec:
    """A specification made in Python, held to the same rules. Raises BadCampaign."""
    try:
        built = msgspec.to_builtins(spec)
        spec = msgspec.convert(built, CampaignSpec)
    except msgspec.ValidationError as error:
        field, message, remedy = reworded(str(error), built)
        raise BadCampaign([Problem(field.removeprefix("."), message, remedy)]) from error
    except (TypeError, RecursionError, OverflowError) as error:
        message = f"it holds what cannot be recorded: {error}"
        raise BadCampaign([Problem("", message, "Use text, numbers, lists and tables.")]) from error
    if found := _problems(spec, units, known, infeasible, unperformable):
        raise BadCampaign(found)
    return spec


def _document(source: Path | str | Mapping[str, Any], name: str) -> Table:
    if isinstance(source, Path):
        try:
            text = source.read_bytes()[:4_000_004].decode("utf-8-sig")
        except OSError as error:
            problem = Problem(
                "", f"it cannot be read: {error.strerror or error}", "Check the path and its permissions."
            )
            raise BadCampaign([problem], name) from error
        except UnicodeDecodeError as error:
            raise BadCampaign([Problem("", "it is not text", "Save it as UTF-8.")], name) from error
        document = read_json(text, name) if source.suffix == ".json" else read_text(text, name)
    elif isinstance(source, str):
        document = read_text(source, name)
    else:
        try:
            document = marked(dict(source))
        except RecursionError as error:
            raise BadCampaign([Problem("", "it is nested too deeply", "Simplify it.")], name) from error
    if not isinstance(document, Table):
        problem = Problem("", f"{shown(document)} is not a campaign", "Write fields, as in `id: my-campaign`.")
        raise BadCampaign([problem], name, [1])
    return document


def _strict(document: Table, border: Border) -> Table:
    """The document without short forms."""
    given, made = border.only(document, _TOP, ""), Table(document.line)
    for key in _SIMPLE:
        if key in given:
            made.put(key, given[key], line_of(given, key))
    if "parameters" in given:
        made.put(
            "parameters",
            parameters(given["parameters"], line_of(given, "parameters"), border),
            line_of(given, "parameters"),
        )
    if "constraints" in given:
        line = line_of(given, "constraints")
        made.put("constraints", constraints(given["constraints"], line, made.get("parameters", Items()), border), line)
    if "pool" in given:
        line = line_of(given, "pool")
        made.put("pool", pool(given["pool"], line, made.get("parameters", Items()), border), line)
    if "observables" in given:
        line = line_of(given, "observables")
        made.put("observables", observables(given["observables"], line, border), line)
    wanted = goal(given, border)
    in_units_of_observables(wanted, made.get("observables", Items()), border)
    made.put("goal", wanted, wanted.line)
    how = procedure(given, border)
    made.put("procedure", how, how.line if how is not None else 0)
    if "strategy" in given:
        made.put(
            "strategy", strategy(given["strategy"], line_of(given, "strategy"), border), line_of(given, "strategy")
        )
    if "shared" in given:
        line = line_of(given, "shared")
        made.put("shared", shared(given["shared"], line, border), line)
    if "fidelity" in given:
        line = line_of(given, "fidelity")
        made.put("fidelity", fidelity(given["fidelity"], line, made.get("parameters", Items()), border), line)
    return made


def _once(strict: Table, computes: Callable[[str], bool]) -> None:
    """What is not a computation is not performed again in doubt, unless somebody says that it may be."""
    procedure = strict.get("procedure")
    steps = procedure.get("steps") if isinstance(procedure, Table) else None
    for step in steps if isinstance(steps, Items) else ():
        if not isinstance(step, Table) or "repeatable" in step:
            continue
        facility = step.get("facility", "local")
        if isinstance(facility, str) and facility not in ("", CALLER) and not computes(facility):
            step.put("repeatable", False)


def _at_home(spec: CampaignSpec, directory: Path, computes: Callable[[str], bool]) -> CampaignSpec:
    """Steps on computers know where the file is: their functions and commands stand beside it."""

    def housed(step: StepSpec) -> StepSpec:
        computed = not step.facility or computes(step.facility)
        if "directory" in step.settings or step.operation == PREDICT or not computed:
            return step
        return replace(step, settings={"directory": str(directory), **step.settings})

    steps = tuple(map(housed, spec.procedure.steps))
    return replace(spec, procedure=replace(spec.procedure, steps=steps))


# ------------------------------------------------------------------ what the language alone cannot check


def _problems(
    spec: CampaignSpec, units: Checker, known: Known, infeasible: Says | None, unperformable: Says | None
) -> list[Problem]:
    found = [*problems(spec), *_units(spec, units), *_parts(spec, known)]
    if not found and infeasible is not None and spec.constraints and (why := infeasible(spec)):
        found.append(Problem("constraints", why, "Relax a constraint, or widen the parameters."))
    if not found and unperformable is not None and (why := unperformable(spec)):
        found.append(Problem("procedure", why, "Correct its steps or options, or name another procedure."))
    return found


def _units(spec: CampaignSpec, units: Checker) -> list[Problem]:
    fields = [(f"parameters[{i}]", p.unit) for i, p in enumerate(spec.parameters) if not isinstance(p, Categorical)]
    fields += [(f"goal.objectives[{i}]", o.unit) for i, o in enumerate(spec.goal.objectives)]
    fields += [(f"goal.outcome_constraints[{i}]", c.unit) for i, c in enumerate(spec.goal.outcome_constraints)]
    fields += [(f"observables[{i}]", o.unit) for i, o in enumerate(spec.observables)]
    found = []
    for at, unit in fields:
        try:
            if unit:
                units.check(unit)
        except ValueError as error:
            found.append(Problem(f"{at}.unit", str(error), "Use a unit such as mmol/L, or leave it out."))
    return found


def _parts(spec: CampaignSpec, known: Known) -> list[Problem]:
    asked: list[tuple[str, str, str, Collection[str] | None]] = [
        (f"procedure.steps[{i}].facility", "facility", name, known.facilities)
        for i, s in enumerate(spec.procedure.steps)
        for name in (s.facility, *s.facilities)
    ]
    asked.append(("procedure.name", "procedure", spec.procedure.name, known.procedures))
    asked.append(("strategy.name", "strategy", spec.strategy.name, known.strategies))
    return [
        Problem(field, f"there is no {kind} {name!r}", meant(name, names))
        for field, kind, name, names in asked
        if names is not None and name and name not in names
    ]


# ------------------------------------------------------------------ and back


def dump_campaign(spec: CampaignSpec) -> str:
    """YAML that `load_campaign` makes an equal specification of. What is as usual is left out."""
    return yaml.dump(_short(spec), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Puts quotes around text that YAML 1.1 or 1.2 would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, _pattern in YAML_12.items():
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", whole(_pattern), None)
_Dumper.add_representer(float, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:float", _digits(value)))


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    # Only between double quotes are the rarer line ends kept apart from the ordinary one.
    ordinary = all(letter.isprintable() or letter == "\n" for letter in value)
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if ordinary else '"')


_Dumper.add_representer(str, _text)


def _digits(value: float) -> str:
    text = repr(value)
    return text if FLOAT.fullmatch(text) else f".{text}" if text in ("inf", "nan") else text.replace("inf", ".inf")


def _short(value: Any) -> Any:
    """Plain values without the fields that are as usual."""
    if isinstance(value, msgspec.Struct):
        made: dict[str, Any] = {}
        if isinstance(tag := value.__struct_config__.tag, str):
            made["type"] = tag
        for field in msgspec.structs.fields(value):
            item = getattr(value, field.name)
            usual = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
            if item != usual:
                made[field.name] = _short(item)
        return made
    if isinstance(value, Mapping):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_short(item) for item in value]
    return value
