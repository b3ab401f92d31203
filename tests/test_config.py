"""Campaign files and settings: what is accepted, what is turned away, and in which words."""

import copy
import hashlib
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from firstlight import config, core
from firstlight.config import BadCampaign, BadSettings, Known
from firstlight.units import PintUnits

HERE = Path(__file__).parent
BAD = sorted((HERE / "bad").glob("*.yaml"))
REFERENCE = HERE.parent / "docs/reference/campaign-file.md"
UNITS = PintUnits()
KNOWN = Known(
    facilities={"local", "hplc", "perlmutter", "cell"}, strategies={"bayes", "sobol", "random", "grid"},
    procedures={"chain", "replicates", "source", "cascade", "recipe"},
)  # fmt: skip


def infeasible(spec: core.CampaignSpec) -> str | None:
    """Stands for the linear programme of the strategies: it knows one contradiction."""
    sums = [c for c in spec.constraints if isinstance(c, core.Linear)]
    return "there is no point that keeps both sums" if len(sums) > 1 and sums[0].bound == 9 else None


def load(source: Any, directory: Path | None = None) -> core.CampaignSpec:
    return config.load_campaign(source, units=UNITS, known=KNOWN, infeasible=infeasible, directory=directory)


def expected(file: Path) -> tuple[str, str]:
    first = file.read_bytes().split(b"\n", 1)[0].decode()
    found = re.fullmatch(r"# expect: (.*?) ?\| (.+)", first)
    assert found, f"{file} must begin with '# expect: field | phrase'"
    return found[1].strip(), found[2].strip()


@pytest.mark.parametrize("file", BAD, ids=lambda f: f.stem)
def test_a_bad_file_is_turned_away_naming_exactly_what_is_wrong(file: Path) -> None:
    field, phrase = expected(file)
    began = time.process_time()
    with pytest.raises(BadCampaign) as caught:
        load(file)
    assert time.process_time() - began < 5
    assert [p.field for p in caught.value.problems] == [field]
    text = str(caught.value)
    assert phrase in text
    assert len(text.splitlines()) == 1 and text.startswith(str(file))
    assert caught.value.problems[0].remedy.strip()


def test_there_are_enough_bad_files() -> None:
    assert len(BAD) >= 40


def test_a_problem_names_the_file_and_the_line() -> None:
    file = HERE / "bad/pool-out-of-bounds.yaml"
    with pytest.raises(BadCampaign) as caught:
        load(file)
    line = next(i for i, text in enumerate(file.read_text().splitlines(), 1) if "[11," in text)
    assert str(caught.value).startswith(f"{file}:{line}: pool.rows[1]: ")


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(BadCampaign) as caught:
        load(
            "id: x\nparameters:\n  a: {low: 0, high: hot}\n  b: {lo: 1, low: 0, high: 1}\n"
            "objectives: {y: up}\nparallel: two\n"
        )
    assert [p.field for p in caught.value.problems] == [
        "parameters[0].high", "parameters[1].lo", "goal.objectives[0].direction", "procedure", "parallel",
    ]  # fmt: skip
    assert caught.value.lines == (3, 4, 5, 1, 6)


# ------------------------------------------------------------------ what is accepted

WHOLE = """
id: everything
title: "yes"
description: 1e3 words
parameters:
  temperature: {low: 20 degC, high: 353.15 K}
  dose: {low: 1e-3, high: 10, scale: log, unit: g}
  cycles: {type: integer, low: 1, high: 9.0}
  grade: {values: [1, 2.5, 4]}
  size: {type: ordered, values: [small, large]}
  stirring: [no, on, off]
  solvent: {values: [water, DMF], descriptors: {water: {polarity: 10.2}, DMF: {polarity: 6.4}}}
constraints:
  - dose + 2*cycles <= 20
  - 1 <= dose + `cycles` / 2 <= 12
  - {exclude: {solvent: DMF, temperature: [20]}}
objectives:
  - maximise: yield
    unit: "%"
    target: 90
    threshold: 20 %
  - {match: film, target: 50 nm, tolerance: 0.001 um}
observables: {purity: "%", colour: }
outcome_constraints: ["purity >= 0.95 g/g"]
budget: {trials: 40, time: 2 h, cost: 100 USD}
no_improvement: 12
procedure:
  - {function: lab:mix, name: mix, facility: hplc, repeatable: false, approval: "Is the hood closed?", cost: 2}
  - {command: [./simulate, "{temperature}", 3], timeout: 10 min, memory: 2 GB, settings: {env: {A: b}}}
strategy: sobol
parallel: 4
batch: 2
shared: temperature
"""


def test_short_forms_become_the_strict_nouns(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(WHOLE)
    spec = load(file)
    assert spec.title == "yes" and spec.description == "1e3 words"
    assert spec.parameters[0] == core.Continuous(
        name="temperature", low=20, high=UNITS.convert(353.15, "K", "degC"), unit="degC"
    )
    assert spec.parameters[1:6] == (
        core.Continuous(name="dose", low=1e-3, high=10, scale="log", unit="g"),
        core.Integer(name="cycles", low=1, high=9),
        core.Ordered(name="grade", values=(1, 2.5, 4)),
        core.Ordered(name="size", values=("small", "large")),
        core.Categorical(name="stirring", values=("no", "on", "off")),
    )
    assert spec.constraints == (
        core.Linear(terms={"dose": 1, "cycles": 2}, relation="<=", bound=20),
        core.Linear(terms={"dose": 1, "cycles": 0.5}, relation=">=", bound=1),
        core.Linear(terms={"dose": 1, "cycles": 0.5}, relation="<=", bound=12),
        core.Exclude(combination={"solvent": ("DMF",), "temperature": (20,)}),
    )
    best, film = spec.goal.objectives
    assert best == core.Objective(observable="yield", direction="maximize", unit="%", target=90, threshold=20)
    assert (film.unit, film.target) == ("nm", 50) and film.tolerance == pytest.approx(1)
    assert spec.goal.outcome_constraints[0] == core.OutcomeConstraint(
        observable="purity", relation=">=", bound=UNITS.convert(0.95, "", "%"), unit="%"
    )
    assert spec.goal.budget == core.Budget(trials=40, cost=100, cost_unit="USD", seconds=7200)
    assert spec.goal.no_improvement == core.NoImprovement(trials=12)
    mix, simulate = spec.procedure.steps
    assert mix == core.StepSpec(
        operation="lab:mix", name="mix", facility="hplc", repeatable=False, approval="Is the hood closed?", cost=2
    )
    assert simulate.settings == {
        "directory": str(tmp_path), "argv": ["./simulate", "{temperature}", 3], "env": {"A": "b"},
    }  # fmt: skip
    assert spec.shared == ("temperature",)
    assert simulate.operation == "command" and simulate.limits == core.Limits(seconds=600, memory=2_000_000_000)


SOURCES = """
id: c
parameters: {x: {low: 0, high: 10}, o: {values: [1, 2.5], unit: mm}, s: [a, b]}
objectives: {y: maximize}
budget: 3
evaluate: m:f
fidelity: {parameter: o, target: 2.5, costs: {1: 0.5, 2.5: 10}}
"""


def test_sources_and_their_costs() -> None:
    sources = (core.Source(value=1, cost=0.5), core.Source(value=2.5, cost=10))
    assert load(SOURCES).fidelity == core.Fidelity(parameter="o", target=2.5, sources=sources)
    head = SOURCES.partition("fidelity")[0]
    words = load(f"{head}fidelity: {{parameter: s, target: b, costs: {{a: 1, b: 2}}}}")
    assert words.fidelity is not None
    assert [s.value for s in words.fidelity.sources] == ["a", "b"]
    for spec in (load(SOURCES), words):
        assert load(config.dump_campaign(spec)) == spec


def test_a_tolerance_is_a_difference() -> None:
    spec = load(MINIMAL.replace("y: maximize", "y: {direction: match, unit: K, target: 20 degC, tolerance: 1 degC}"))
    (objective,) = spec.goal.objectives
    assert objective.target == pytest.approx(293.15) and objective.tolerance == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("short", "gain", "chance"),
    [
        ("0.5", 0.5, 0.05),
        ("500 mK", 0.5, 0.05),
        ("{gain: 0.9 degF, chance: 10 %}", 0.5, 0.1),
        ("{gain: 2, chance: 0.01}", 2.0, 0.01),
    ],
)
def test_a_regret_is_a_difference_in_the_unit_of_its_objective(short: str, gain: float, chance: float) -> None:
    text = f"""
id: melt
parameters: {{x: {{low: 0, high: 1}}}}
objectives: {{heat: {{direction: minimize, unit: degC}}}}
budget: 20
evaluate: lab:melt
regret: {short}
"""
    spec = load(text)
    assert spec.goal.regret is not None
    assert [spec.goal.regret.gain, spec.goal.regret.chance] == pytest.approx([gain, chance])
    assert load(config.dump_campaign(spec)) == spec


def test_a_default_that_is_unknown_is_told_of_the_whole_file() -> None:
    with pytest.raises(BadCampaign, match=r"^2: strategy\.name: there is no strategy 'bayes'"):
        config.load_campaign(MINIMAL, units=UNITS, known=Known(strategies=("sobol",)))


def test_what_is_dumped_loads_back_the_same() -> None:
    spec = load(WHOLE)
    assert load(config.dump_campaign(spec)) == spec
    odd = replace(
        spec, title=" 1e3", description="null\n- a: b # c\t\u2028é\x85", agreement="0x1F", seed=2**53,
        parameters=(*spec.parameters, core.Categorical(name="yes", values=("~", "1_000", "2026-01-01", "1:3", "true"))),
    )  # fmt: skip
    assert load(config.dump_campaign(odd)) == odd


@given(st.floats(allow_nan=False, allow_infinity=False), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
@example(5e-324, "\x85")
@example(-0.0, "\u2028 ")
def test_every_number_and_text_survives_a_dump(number: float, text: str) -> None:
    step = core.StepSpec(
        operation="m:f", settings={"number": number, "text": text, "deep": [{"a": [text, 3, None, True]}]}
    )
    spec = replace(load(WHOLE), description=text, procedure=core.ProcedureSpec(steps=(step,)))
    assert load(config.dump_campaign(spec)) == spec


def test_json_is_read_too(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text('{"id": "j",\n\t"parameters": {"x": {"low": 0, "high": 1}}, "objectives": {"y": "maximize"},'
                    ' "budget": 3, "evaluate": "m:f"}')  # fmt: skip
    assert load(file).parameters == (core.Continuous(name="x", low=0, high=1),)
    file.write_text('{"id": "j", "parameters": {"n": {"values": [1, 2]}}, "objectives": {"y": "maximize"},'
                    ' "budget": 3, "fidelity": {"parameter": "n", "target": 2, "costs": {"1": 1, "2": 9}},'
                    ' "evaluate": "m:f"}')  # fmt: skip
    sources = (core.Source(value=1, cost=1), core.Source(value=2, cost=9))
    assert load(file).fidelity == core.Fidelity(parameter="n", target=2, sources=sources)
    file.write_text('{"id": "j", "id": "k"}')
    with pytest.raises(BadCampaign, match="'id' is there twice"):
        load(file)
    file.write_text('{"id": "j",\n]')
    with pytest.raises(BadCampaign, match=r"c\.json:2: it is not JSON"):
        load(file)


def test_a_file_that_is_not_there_is_a_bad_campaign(tmp_path: Path) -> None:
    with pytest.raises(BadCampaign, match="cannot be read: No such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(BadCampaign, match="cannot be read: Is a directory"):
        load(tmp_path)


MINIMAL = """
id: c
parameters: {x: {low: 0, high: 10}, n: {type: integer, low: 0, high: 5}, s: [a, b], o: {values: [1, 2.5]}}
objectives: {y: maximize}
budget: 3
evaluate: m:f
"""


def test_a_pool_is_read_from_a_csv_file(tmp_path: Path) -> None:
    (tmp_path / "candidates.csv").write_text("\ufeffs, x,n,o\r\na,1e0,2.0,2.50\r\n\r\nb,2,3,1.0\r\n", encoding="utf-8")
    spec = load(MINIMAL + "pool: candidates.csv", tmp_path)
    assert spec.pool == core.Pool(columns=("s", "x", "n", "o"), rows=(("a", 1.0, 2, 2.5), ("b", 2.0, 3, 1)))
    assert [type(v) for row in spec.pool.rows for v in row] == [str, float, int, float, str, float, int, int]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s,x,n,o\na,hot,1,1\n", "row 1: x is 'hot', not a number"),
        ("s,x,n,o\na,1,1\n", "row 1 has 3 values for 4 columns"),
        ("s,x,n\na,1,1\n", "'o' is missing"),
        ("s,x,n,o,z\na,1,1,1,1\n", "'z' is not a parameter"),
        ("s,x,n,o\nc,1,1,1\n", "s is 'c', none of a, b"),
        ("s,x,n,o\na,nan,1,1\n", "x is nan, not a number"),
        ("s,x,n,o\na,1,1.5,1\n", "n is 1.5, not a whole number"),
        ("", "is empty"),
        ("s,x,n,o\n", "the pool is empty"),
        ('s,x,n,o\n"a,1,1,1\n', "not a CSV file"),
    ],
)
def test_a_bad_pool_file_is_turned_away(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(BadCampaign) as caught:
        load(MINIMAL + "pool: p.csv", tmp_path)
    assert message in str(caught.value)


def test_text_from_elsewhere_reads_no_file() -> None:
    with pytest.raises(BadCampaign, match="a file cannot be read here"):
        load(MINIMAL + "pool: /etc/passwd")


def test_a_pool_may_be_a_list_of_points() -> None:
    spec = load(MINIMAL + "pool: [{x: 1, n: 2, s: a, o: 1}]")
    assert spec.pool == core.Pool(columns=("x", "n", "s", "o"), rows=((1, 2, "a", 1),))


def test_anchors_and_merges_are_fine() -> None:
    spec = load(
        "id: c\nparameters:\n  a: &a {low: 0, high: 1}\n  b: {<<: *a, high: 2}\n"
        "objectives: {y: max}\nbudget: 3\nevaluate: m:f"
    )
    assert spec.parameters == (core.Continuous(name="a", low=0, high=1), core.Continuous(name="b", low=0, high=2))


def test_a_specification_made_in_python_is_held_to_the_same_rules() -> None:
    spec = load(MINIMAL)
    assert config.check_campaign(spec, units=UNITS, known=KNOWN) == spec
    with pytest.raises(BadCampaign, match=r"procedure: two steps are too many\. Correct"):
        config.check_campaign(spec, units=UNITS, known=KNOWN, unperformable=lambda spec: "two steps are too many")
    wrong: dict[str, tuple[Any, str]] = {
        "parallel: 0 trials": (replace(spec, parallel=0), "parallel"),
        "'a' is not a number": (
            replace(spec, parameters=(replace(core.Continuous(name="x", low=0, high=1), low="a"),)),
            "parameters[0].low",
        ),
        "there is no strategy": (replace(spec, strategy=core.StrategySpec(name="magic")), "strategy.name"),
        "cannot be recorded": (replace(spec, strategy=core.StrategySpec(options={"f": print})), ""),
    }
    for phrase, (bad, field) in wrong.items():
        with pytest.raises(BadCampaign) as caught:
            config.check_campaign(bad, units=UNITS, known=KNOWN)
        assert phrase in str(caught.value) and caught.value.problems[0].field == field


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.just([]), st.just({}),
    st.sampled_from(["x + y <= 3", "5 kg", "1e400", "-1 h", "m**9**9", "match", "a:b", "a", [1, "a"], {"x": 1}, [[1]],
                     {"type": "integer"}, {"low": 1, "high": 2}, {"name": []},
                     {"observable": {}, "direction": "match"}]),
)  # fmt: skip


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at] * bool(at) + [path for key, item in inner for path in _paths(item, (*at, key))]


# Most of all short and strict forms together, as plain values.
DOCUMENTS = [
    yaml.safe_load(WHOLE.replace("[no, on, off]", "[a, b]")),
    yaml.safe_load(config.dump_campaign(load(WHOLE))),
    yaml.safe_load(SOURCES),
    yaml.safe_load(config.dump_campaign(load(SOURCES))),
    yaml.safe_load(MINIMAL + "pool: {columns: [x, n, s, o], rows: [[1, 2, a, 1], [1, 3, a, 1]]}"),
    yaml.safe_load(
        MINIMAL
        + "pool: [{x: 1, n: 2, s: a, o: 1}]\nmodel: surrogate\nahead: 2\nstrategy: {name: bayes, options: {a: 1}}"
    ),
]


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_no_mutation_of_a_valid_document_raises_anything_else(data: st.DataObject) -> None:
    document = copy.deepcopy(data.draw(st.sampled_from(DOCUMENTS)))
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, last = data.draw(st.sampled_from(_paths(document)))
        place = document
        for key in parents:
            place = place[key]
        match data.draw(st.sampled_from(["set", "delete", "rename"])):
            case "delete":
                del place[last]
            case "rename" if isinstance(place, dict):
                place[data.draw(st.one_of(st.text(max_size=6), st.integers(), st.none(), st.booleans()))] = place.pop(
                    last
                )
            case _:
                place[last] = copy.deepcopy(data.draw(JUNK))
        if not _paths(document):
            return
    try:
        spec = load(document)
    except BadCampaign as error:
        assert error.problems and all(p.message and p.remedy for p in error.problems)
        assert len(str(error).splitlines()) >= 1
    else:
        assert load(config.dump_campaign(spec)) == spec
        assert core.decode(core.encode(core.Entry(seq=1, at=0.0, by="me", fact=core.CampaignOpened(spec=spec))))


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=80), st.text("{}[]:,-&*!|>'\"%@` \n\tab01<~?#", max_size=40)))
def test_no_text_raises_anything_else(text: str) -> None:
    with pytest.raises(BadCampaign):
        load(text)


@settings(max_examples=300, deadline=None)
@given(st.text("abc 0123456789.eE+-*/()<>=`_", max_size=30))
def test_no_constraint_raises_anything_else(text: str) -> None:
    document = yaml.safe_load(
        "{id: c, parameters: {a: {low: 0, high: 1}, b: {low: 0, high: 1}}, "
        "objectives: {y: max}, budget: 1, evaluate: 'm:f'}"
    )
    try:
        load(document | {"constraints": [text, "a <= 1"]})
    except BadCampaign as error:
        assert error.problems[0].field.startswith("constraints")


# ------------------------------------------------------------------ the reference, the template, the settings


def blocks() -> list[tuple[int, str]]:
    text = REFERENCE.read_text()
    return [(text[: m.start()].count("\n") + 1, m[1]) for m in re.finditer(r"```yaml\n(.*?)```", text, re.DOTALL)]


@pytest.mark.parametrize(("line", "block"), blocks(), ids=lambda v: str(v) if isinstance(v, int) else "")
def test_every_example_of_the_reference_is_valid(line: int, block: str, tmp_path: Path) -> None:
    (tmp_path / "candidates.csv").write_text("temperature,solvent\n25,water\n40,ethanol\n")
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes" / "coarse.dat").write_text("1 2 3")
    whole = re.search(r"^id:", block, re.MULTILINE)
    rest = {
        "id": "id: example\n",
        "parameters": "parameters: {temperature: {low: 0, high: 100}, a: {low: 0, high: 1}, b: {low: 0, high: 1}, "
        "c: {low: 0, high: 1}, solvent: [water, ethanol]}\n",
        "objectives": "objectives: {yield: maximize}\n", "budget": "budget: 40\n",
        "evaluate": "evaluate: experiment:measure\n",
    }  # fmt: skip
    top = {m[1] for m in re.finditer(r"^(\w+):", block, re.MULTILINE)}
    top |= {"evaluate"} if "procedure" in top else set()
    text = block if whole else "".join(text for key, text in rest.items() if key not in top) + block
    assert load(text, tmp_path).id


def test_the_short_forms_of_what_a_step_needs_are_read(tmp_path: Path) -> None:
    (tmp_path / "mesh.dat").write_bytes(b"1 2 3")
    text = """
id: c
parameters: {x: {low: 0, high: 1}}
objectives: {y: maximize}
budget: 3
procedure:
  - {name: one, function: "m:f", facility: any, inputs: {mesh: mesh.dat}, outputs: "*.h5"}
  - name: two
    command: [solver]
    facility: [local, hplc]
    resources: {nodes: 2, processes: 8, pre_launch: module load x, attributes: {nice: 5}}
"""
    one, two = load(text, tmp_path).procedure.steps
    assert (one.facility, one.facilities, one.outputs) == ("", (), ("*.h5",))
    digest = "sha256:" + hashlib.sha256(b"1 2 3").hexdigest()
    assert one.inputs == {"mesh": core.Asset(uri=(tmp_path / "mesh.dat").as_uri(), digest=digest, size=5,
                                             media_type="application/octet-stream")}  # fmt: skip
    assert one.settings == {"directory": str(tmp_path)}
    assert (two.facility, two.facilities) == ("", ("local", "hplc"))
    assert two.resources == core.Resources(
        nodes=2, processes=8, pre_launch=("module load x",), attributes={"nice": "5"}
    )


def test_the_reference_names_every_field() -> None:
    text = REFERENCE.read_text()
    nouns = (
        core.CampaignSpec, core.Goal, core.Objective, core.OutcomeConstraint, core.Observable, core.Budget,
        core.NoImprovement, core.Regret, core.Continuous, core.Ordered, core.Categorical, core.Linear, core.Mixture,
        core.Exclude, core.Forbid, core.Pool, core.ProcedureSpec, core.StepSpec, core.Limits, core.StrategySpec,
        core.Fidelity, core.Source, core.Resources, core.Asset,
    )  # fmt: skip
    assert not {f"{n.__name__}.{f}" for n in nouns for f in n.__struct_fields__ if f"`{f}`" not in text}


def test_the_template_is_valid_and_runs(tmp_path: Path) -> None:
    paths = config.write_template(tmp_path / "new")
    assert [p.name for p in paths] == ["campaign.yaml", "experiment.py"]
    spec = load(paths[0])
    scope: dict[str, Any] = {}
    exec(paths[1].read_text(), scope)
    observed = scope["measure"]({"temperature": 90.0, "acid": 1.5, "time": 60.0, "stirring": 500, "grind": "fine"})
    assert observed.keys() == {"recovery", "acid_use"}
    assert 0 < observed["recovery"] <= 100 and 0 < observed["acid_use"] <= 1.5
    assert {o.observable for o in spec.goal.objectives} | {o.name for o in spec.observables} == observed.keys()
    with pytest.raises(BadSettings, match="is there already"):
        config.write_template(tmp_path / "new")


STEERED = core.CampaignSpec(
    id="c",
    parameters=(
        core.Continuous(name="t", low=20.0, high=120.0, unit="degC"),
        core.Integer(name="n", low=1, high=9),
        core.Ordered(name="grade", values=(40, 100.5), unit="um"),
        core.Ordered(name="stir", values=("low", "high")),
        core.Categorical(name="solvent", values=("DMF", "a, b", "1")),
    ),
    goal=core.Goal(objectives=(core.Objective(observable="y", direction="maximize", unit="%"),)),
    observables=(core.Observable(name="haze"),),
    procedure=core.ProcedureSpec(steps=()),
)


def test_a_point_that_is_typed_has_the_types_of_its_parameters() -> None:
    typed = {"n": "3", "t": "353.15 K", "grade": "0.1005 mm", "stir": "low", "solvent": "1"}
    point = config.read_point(STEERED, typed, UNITS)
    assert list(point) == ["t", "n", "grade", "stir", "solvent"]
    assert point == {"t": pytest.approx(80.0), "n": 3, "grade": 100.5, "stir": "low", "solvent": "1"}
    assert [type(v) for v in point.values()] == [float, int, float, str, str]
    assert config.read_point(STEERED, point, UNITS) == point


def test_a_point_that_is_wrong_is_told_with_everything_that_is() -> None:
    with pytest.raises(BadCampaign) as caught:
        config.read_point(STEERED, {"n": "3.5", "T": "80", "t": "3 g", "grade": "41", "solvent": "THF"}, UNITS)
    said = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in said] == ["n", "T", "t", "grade", "solvent", "stir"]
    for line, phrase in zip(said, ("not a whole", "no parameter 'T'", "cannot be turned", "none of 40", "none of its",
                                   "missing"), strict=True):  # fmt: skip
        assert phrase in line


@pytest.mark.parametrize(
    ("given", "region"),
    [
        ({"t": "80..100"}, core.Forbid(ranges={"t": (80.0, 100.0)})),
        ({"t": "353.15 .. 373.15 K"}, core.Forbid(ranges={"t": (80.0, 100.0)})),
        ({"t": "..40", "n": "7.."}, core.Forbid(ranges={"t": (20.0, 40.0), "n": (7, 9)})),
        ({"t": (80, 100), "n": 4}, core.Forbid(ranges={"t": (80.0, 100.0), "n": (4.0, 4.0)})),
        ({"t": "-5..30"}, core.Forbid(ranges={"t": (-5.0, 30.0)})),
        ({"grade": "30..60 um"}, core.Forbid(ranges={"grade": (30.0, 60.0)})),
        ({"grade": "40"}, core.Forbid(values={"grade": (40,)})),
        ({"grade": [40, 100.5]}, core.Forbid(values={"grade": (40, 100.5)})),
        ({"solvent": "DMF,1", "stir": ["low"]}, core.Forbid(values={"solvent": ("DMF", "1"), "stir": ("low",)})),
        ({"solvent": "a, b"}, core.Forbid(values={"solvent": ("a, b",)})),
    ],
)
def test_a_region_is_read_as_people_write_it(given: dict[str, Any], region: core.Forbid) -> None:
    found = config.read_region(STEERED, given, UNITS)
    assert found.values == region.values
    assert found.ranges == {n: pytest.approx(r) for n, r in region.ranges.items()}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"t": "100..80"}, "100 to 80 is no range"),
        ({"t": "a..b"}, "t: "),
        ({"stir": "low..high"}, "they have no range"),
        ({"solvent": "THF"}, "none of its values"),
        ({"z": "1..2"}, "there is no parameter 'z'"),
        ({"t": [1, 2, 3]}, "is not a range"),
    ],
)
def test_a_region_that_is_none_is_told(given: dict[str, Any], said: str) -> None:
    with pytest.raises(BadCampaign, match=said):
        config.read_region(STEERED, given, UNITS)


def test_a_correction_names_parameters_and_observables() -> None:
    as_run, seen = config.read_correction(STEERED, {"t": "81.5", "y": "0.93 g/g", "haze": (0.2, 0.01)}, UNITS)
    assert as_run == {"t": 81.5}
    assert [(o.observable, o.value, o.unit, o.sigma) for o in seen] == [
        ("y", pytest.approx(93.0), "%", 0.0), ("haze", 0.2, "", 0.01),
    ]  # fmt: skip
    with pytest.raises(BadCampaign, match="no parameter or observable 'hazy'"):
        config.read_correction(STEERED, {"hazy": "1"}, UNITS)


def test_forbidden_regions_of_a_file_have_a_short_form_and_a_strict_one() -> None:
    text = """
id: c
parameters:
  t: {low: 20, high: 120, unit: degC}
  solvent: [DMF, THF]
objectives: {y: maximize}
budget: 5
evaluate: "m:f"
constraints:
  - forbid: {t: 353.15..373.15 K, solvent: DMF}
  - {type: forbid, ranges: {t: [20, 30]}, values: {solvent: [THF]}}
"""
    spec = load(text)
    short, strict = spec.constraints
    assert isinstance(short, core.Forbid)
    assert short.ranges["t"] == pytest.approx((80.0, 100.0))
    assert short.values == {"solvent": ("DMF",)}
    assert strict == core.Forbid(ranges={"t": (20.0, 30.0)}, values={"solvent": ("THF",)})
    assert load(config.dump_campaign(spec)) == spec


def test_settings_come_from_the_directory_and_the_environment(tmp_path: Path) -> None:
    plain = config.load_settings(None, {"FIRSTLIGHT_HOME": str(tmp_path)})
    assert plain == config.Settings(data_dir=tmp_path)
    assert plain.journal_part() == ("sqlite", {"path": tmp_path / "journal.sqlite"})
    assert config.load_settings(None, {}).data_dir == Path.home() / ".local/share/firstlight"
    (tmp_path / "firstlight.toml").write_text(
        'journal = "memory"\n[facilities.polaris]\nkind = "iri"\ntoken = "s3cret"\n'
    )
    written = config.load_settings(tmp_path, {})
    assert written.journal_part() == ("memory", {}) and written.facilities["polaris"]["kind"] == "iri"
    dsn = "postgresql://me:s3cret@host/db"
    told = config.load_settings(tmp_path, {"FIRSTLIGHT_JOURNAL": dsn})
    assert told.journal_part() == ("postgres", {"dsn": dsn})
    assert "s3cret" not in repr(told) + str(told) + str(list(told.__rich_repr__()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('jurnal = "memory"', "there is no setting 'jurnal'. Did you mean 'journal'?"),
        ('journal = "mysql://me:s3cret@host"', "is none that is known"),
        ("journal = 3", "is none that is known"),
        ("facilities = 3", "facilities are tables"),
        ("[facilities.a]\nkind = 3", "facilities.a.kind is not text"),
        ("journal = ", "it is not TOML"),
    ],
)
def test_bad_settings_are_turned_away(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "firstlight.toml").write_text(text)
    with pytest.raises(BadSettings) as caught:
        config.load_settings(tmp_path, {})
    assert message in str(caught.value) and "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("step", "repeatable"),
    [
        ("{name: a, operation: handler.Mix, facility: cell}", False),
        ("{name: a, operation: handler.Mix, facility: cell, repeatable: true}", True),
        ("{name: a, function: 'm:f'}", True),
        ("{name: a, function: 'm:f', facility: any}", True),
    ],
)
def test_what_is_not_computed_is_not_performed_again_unless_somebody_says_so(step: str, repeatable: bool) -> None:
    text = f"""
id: c
parameters: {{x: {{low: 0, high: 1}}}}
objectives: {{y: maximize}}
budget: 3
procedure: {{name: recipe, steps: [{step}], options: {{}}}}
"""
    assert load(text).procedure.steps[0].repeatable is repeatable
