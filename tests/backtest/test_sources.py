"""Every form in which experiments lie on a disk, and what is said of those that cannot be used."""

import json
import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arro3.core import Array, DataType, Table
from arro3.io import write_parquet

from firstlight import app, backtest, catalog, core
from firstlight.backtest import Found, Pool

from .made import olympus, parabola

REAL = Path(os.environ.get("FIRSTLIGHT_DATA", Path(__file__).parents[3] / "shared" / "data")) / "experiments"
DESCRIBED = Path(__file__).parents[2] / "benchmarks" / "pools"


def only(found: Found) -> Pool:
    assert len(found.pools) == 1, [str(f) for f in found.faults]
    return found.pools[0]


def written(directory: Path, table: str, description: str, name: str = "t") -> Found:
    (directory / f"{name}.csv").write_text(table)
    (directory / f"{name}.yaml").write_text(description)
    return app.find_pools(directory)


def kinds(pool: Pool) -> dict[str, str]:
    return {p.name: type(p).__name__ for p in pool.spec.parameters}


# ------------------------------------------------------------------ as in Olympus


def test_a_folder_as_in_olympus(tmp_path: Path) -> None:
    parameters: list[dict[str, object]] = [
        {"name": "base", "type": "categorical", "options": ["K2CO3", "Et3N", "DBU"], "descriptors": []},
        {"name": "T", "type": "continuous", "low": 20, "high": 100},
    ]
    olympus(tmp_path / "amide", "K2CO3,20,1.5\nEt3N,99.5,2.5\nEt3N,99.5,3.5\n", parameters)
    pool = only(app.find_pools(tmp_path))
    assert pool.name == "amide"
    assert pool.spec.parameters == (
        core.Categorical(name="base", values=("K2CO3", "Et3N", "DBU")),
        core.Continuous(name="T", low=20, high=100),
    )
    assert pool.points == ({"base": "K2CO3", "T": 20.0}, {"base": "Et3N", "T": 99.5})
    assert pool.outcomes == (((1.5,),), ((2.5,), (3.5,)))
    assert pool.spec.goal.objectives == (core.Objective(observable="yield", direction="maximize"),)


def test_numbers_on_a_grid_are_ordered_and_that_is_said(tmp_path: Path) -> None:
    rows = "".join(f"{a},{b / 7},{a + b}\n" for a, b in product((1, 2, 4), range(8)))
    numbers = [{"name": n, "type": "continuous", "low": 0, "high": 5} for n in ("a", "b")]
    olympus(tmp_path / "grid", rows, numbers)
    pool = only(app.find_pools(tmp_path))
    assert pool.spec.parameters[0] == core.Ordered(name="a", values=(1.0, 2.0, 4.0))
    # Every value of b is there three times only: too seldom for a grid.
    assert pool.spec.parameters[1] == core.Continuous(name="b", low=0, high=5)
    assert pool.assumed == ("a has 3 values: taken as ordered",)


def test_options_that_are_numbers_are_ordered(tmp_path: Path) -> None:
    options = [{"name": "dose", "type": "categorical", "options": ["6", "48", "12"], "descriptors": [[6], [48], [12]]}]
    olympus(tmp_path / "lnp", "6,1\n12,2\n48,0\n", options)
    assert only(app.find_pools(tmp_path)).spec.parameters == (core.Ordered(name="dose", values=(6.0, 12.0, 48.0)),)


def test_descriptors_come_along(tmp_path: Path) -> None:
    options = [{"name": "s", "type": "categorical", "options": ["DMF", "THF"], "descriptors": [[6.4, 1], [4, 0]]}]
    olympus(tmp_path / "s", "DMF,1\nTHF,2\n", options)
    (parameter,) = only(app.find_pools(tmp_path)).spec.parameters
    assert isinstance(parameter, core.Categorical)
    assert parameter.descriptors == {"DMF": {"d0": 6.4, "d1": 1.0}, "THF": {"d0": 4.0, "d1": 0.0}}


def test_a_simplex_is_a_mixture_only_where_it_is_one(tmp_path: Path) -> None:
    parts = [{"name": n, "type": "continuous", "low": 0, "high": 1} for n in ("a", "b")]
    olympus(tmp_path / "is", "0.25,0.75,1\n0.5,0.5,2\n", parts, constraints="simplex")
    olympus(tmp_path / "says", "0.25,0.75,1\n0.5,0.6,2\n", parts, constraints="simplex")
    true, false = app.find_pools(tmp_path).pools
    assert true.spec.constraints == (core.Mixture(parameters=("a", "b")),)
    assert false.spec.constraints == ()
    assert "do not sum to 1" in false.assumed[0]


def test_several_goals_are_several_objectives_unless_the_first_is_asked_for(tmp_path: Path) -> None:
    x = [{"name": "x", "type": "continuous", "low": 0, "high": 1}]
    olympus(tmp_path / "two", "0,1,9\n0.7,2,8\n", x, ("yield", "waste"), ["maximize", "minimize"])
    several, first = (only(app.find_pools(tmp_path, objectives=which)) for which in ("all", "first"))
    assert [o.direction for o in several.spec.goal.objectives] == ["maximize", "minimize"]
    assert first.spec.goal.objectives == several.spec.goal.objectives[:1]
    assert first.outcomes == (((1.0,),), ((2.0,),))
    assert first.digest != several.digest


def test_what_is_wrong_is_told_by_file_and_line_and_the_rest_is_used(tmp_path: Path) -> None:
    x = [{"name": "x", "type": "continuous", "low": 0, "high": 1}]
    olympus(tmp_path / "bad", "0,1\n3,2\n0.5,\n0.7,oops\n0.2\n0.9,nan\n1,4\n", x)
    olympus(tmp_path / "broken", "0,1\n", x)
    (tmp_path / "broken" / "config.json").write_text("{")
    found = app.find_pools(tmp_path)
    assert [len(p) for p in found.pools] == [2]
    told = "\n".join(map(str, found.faults))
    bad = Path("bad") / "data.csv"
    assert f"{bad}:2: x is 3.0, outside 0.0 to 1.0" in told
    assert f"{bad}:3: yield is missing" in told
    assert f"{bad}:4: yield is 'oops'" in told
    assert f"{bad}:5: it has 1 values for 2 columns" in told
    assert f"{bad}:6: yield is 'nan'" in told
    assert "broken" in told
    assert len(found.faults) == 6


def test_many_faults_of_a_file_are_counted(tmp_path: Path) -> None:
    x = [{"name": "x", "type": "continuous", "low": 0, "high": 1}]
    olympus(tmp_path / "bad", "0,1\n1,2\n" + "7,1\n" * 40, x)
    faults = app.find_pools(tmp_path).faults
    assert len(faults) == 6
    assert faults[-1].message == "and 35 more rows like these"


# ------------------------------------------------------------------ tables with a description


def test_a_description_may_say_no_more_than_what_is_wanted(tmp_path: Path) -> None:
    parabola(tmp_path)
    pool = only(app.find_pools(tmp_path))
    assert pool.name == "hill"
    assert kinds(pool) == {"a": "Ordered", "b": "Ordered"}
    assert pool.assumed == ("a is taken as ordered with 9 values", "b is taken as ordered with 9 values")
    assert pool.means[pool.places[5.0, 2.0], 0] == 100


def test_a_description_in_the_form_of_a_campaign_file(tmp_path: Path) -> None:
    table = "id,T [degC],solvent,n,purity,yield\n1,20,DMF,1,9,50\n2,300,THF,2,8,60\n3,80,DMF,3,3,70\n"
    description = """
id: mine
title: A reaction
parameters:
  T: {low: 293.15 K, high: 373.15 K, unit: degC}
  solvent: {values: [DMF, THF, MeCN]}
  n: {type: integer}
objectives: {yield: {maximize: , direction: maximize, unit: "%"}}
outcome_constraints: ["purity >= 5"]
observables: [purity]
""".replace("{maximize: , direction", "{direction")
    found = written(tmp_path, table, description)
    pool = only(found)
    assert pool.spec.id == pool.name == "mine"
    assert pool.spec.parameters[0] == core.Continuous(name="T", low=20, high=100, unit="degC")
    assert pool.spec.parameters[2] == core.Integer(name="n", low=1, high=3)
    assert pool.points[1] == {"T": 80.0, "solvent": "DMF", "n": 3}
    assert pool.observables == ("yield", "purity")
    # The second row left breaks the bound on purity: it is seen, and is not good.
    assert np.isnan(pool.losses[:, 0]).tolist() == [False, True]
    assert [str(f) for f in found.faults] == ["t.csv:3: T is 300.0, outside 20.0 to 100.0"]


def test_rows_that_break_a_constraint_are_left_out(tmp_path: Path) -> None:
    found = written(
        tmp_path, "a,b,y\n1,1,1\n2,3,1\n3,1,2\n", 'objectives: {y: minimize}\nconstraints: ["a + b <= 4"]\n'
    )
    assert len(only(found)) == 2
    assert str(found.faults[0]).startswith("t.csv:3: 1 a + 1 b is 5, not <= 4")


def test_parts_of_a_mixture_that_were_rounded_are_scaled_and_that_is_said(tmp_path: Path) -> None:
    table = "a,b,c,y\n0.33,0.33,0.33,1\n0.33,0.33,0.33,3\n0.2,0.3,0.5,2\n0.9,0.9,0.9,5\n"
    found = written(tmp_path, table, "objectives: {y: maximize}\nconstraints: [{mixture: [a, b, c]}]\n")
    pool = only(found)
    assert pool.outcomes == (((1.0,), (3.0,)), ((2.0,),))
    assert sum(pool.points[0].values()) == pytest.approx(1.0, abs=1e-12)  # type: ignore[arg-type]
    assert "2 rows are scaled so that a, b, c sum to 1" in pool.assumed
    assert found.faults[0].line == 5
    assert kinds(pool) == dict.fromkeys("abc", "Continuous")


def test_a_slip_of_the_pen_does_not_make_names_of_numbers(tmp_path: Path) -> None:
    table = "a,y\n" + "".join(f"{i / 10},{i}\n" for i in range(30)) + "O.3,5\n"
    found = written(tmp_path, table, "objectives: {y: maximize}\n")
    assert kinds(only(found)) == {"a": "Continuous"}
    assert str(found.faults[0]) == "t.csv:32: a is 'O.3', not a value it can have"


def test_a_column_that_never_changes_is_left_out(tmp_path: Path) -> None:
    pool = only(written(tmp_path, "a,b,y\n1,7,1\n2,7,2\n", "objectives: {y: maximize}\n"))
    assert kinds(pool) == {"a": "Continuous"}
    assert "b has one value only: left out" in pool.assumed


@pytest.mark.parametrize(
    ("description", "told"),
    [
        ("title: nothing wanted\n", "it does not say what is wanted"),
        ("objectives: {nope: maximize}\n", "the table has no column 'nope'; it has a, y"),
        ("objectives: {y: upwards}\n", "'upwards' is not a direction"),
        (
            "objectives: {y: maximize}\nparameters: {a: {low: 5, high: 1}}\n",
            "t.yaml: parameters[0].high: 1 is not above low 5",
        ),
        ("objectives: {y: maximize}\nfile: other.csv\n", "its table other.csv is not in"),
        ("objectives: {y: maximize}\nbudgets: 3\n", "there is no field 'budgets' here"),
        ("title: x\nobjectives: [\n", "t.yaml:3: it is not YAML"),
    ],
)
def test_what_is_wrong_with_a_description_is_told(description: str, told: str, tmp_path: Path) -> None:
    parabola(tmp_path / "good")
    found = written(tmp_path, "a,y\n1,2\n2,3\n", description)
    assert [p.name for p in found.pools] == ["hill"]
    assert any(told in str(f) and "t.yaml" in str(f) for f in found.faults), found.faults


def test_a_table_that_nothing_describes_says_what_to_write(tmp_path: Path) -> None:
    (tmp_path / "lonely.csv").write_text("a,y\n1,2\n")
    (fault,) = app.find_pools(tmp_path).faults
    assert str(fault) == "lonely.csv: nothing describes it: write lonely.yaml with `objectives`, or give --describe"


def test_descriptions_may_lie_elsewhere(tmp_path: Path) -> None:
    parabola(tmp_path / "data" / "deep")
    (tmp_path / "data" / "deep" / "hill.yaml").rename(tmp_path / "words.yaml")
    (tmp_path / "about").mkdir()
    (tmp_path / "about" / "any.yaml").write_text("file: deep/hill.csv\nid: from-afar\nobjectives: {yield: maximize}\n")
    pool = only(app.find_pools(tmp_path / "data", [tmp_path / "about"]))
    assert (pool.name, len(pool), pool.source) == ("from-afar", 81, str(Path("deep") / "hill.csv"))


def test_two_pools_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    parabola(tmp_path / "one")
    parabola(tmp_path / "two", peak=3)
    found = app.find_pools(tmp_path)
    assert only(found).source.startswith("one")
    assert "there is a pool hill already" in str(found.faults[0])


def test_pools_are_chosen_by_pattern_and_the_others_are_there_to_learn_from(tmp_path: Path) -> None:
    for name in ("a1", "a2", "b1"):
        parabola(tmp_path, name)
    (tmp_path / "b2.csv").write_text("x\n")
    found = app.find_pools(tmp_path, names=["a*"])
    assert [p.name for p in found.pools] == ["a1", "a2"]
    assert [p.name for p in found.others] == ["b1"]
    assert found.faults == ()


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    for name, peak in (("a", 5.0), ("b", 5.0), ("c", 4.0)):
        parabola(tmp_path, name, peak)
    a, b, c = app.find_pools(tmp_path).pools
    assert a.digest == b.digest != c.digest


# ------------------------------------------------------------------ other files


def test_a_parquet_file_with_a_description(tmp_path: Path) -> None:
    number, word = DataType.float64(), DataType.string()
    columns: dict[str, Any] = {
        "x": Array([0.5, 1.5], number),
        "s": Array(["u", "v"], word),
        "y": Array([1.0, None], number),
    }
    with (tmp_path / "p.parquet").open("wb") as file:
        write_parquet(Table.from_pydict(columns), file)
    (tmp_path / "p.json").write_text(json.dumps({"objectives": {"y": "minimize"}}))
    found = app.find_pools(tmp_path)
    assert only(found).points == ({"x": 0.5, "s": "u"},)
    assert [str(f) for f in found.faults] == ["p.parquet:2: y is missing"]


@pytest.mark.parametrize("to", ["parquet", "json"])
def test_a_dataset_that_we_exported_says_itself_what_it_is(to: catalog.Format, tmp_path: Path) -> None:
    spec = core.CampaignSpec(
        id="c",
        # "source" is a column of every table: the parameter stands there under another name.
        parameters=(core.Continuous(name="source", low=0, high=1), core.Categorical(name="s", values=("u", "v"))),
        goal=core.Goal(
            objectives=(core.Objective(observable="y", direction="minimize"),), budget=core.Budget(trials=9)
        ),
        procedure=core.ProcedureSpec(steps=(core.StepSpec(operation="m:f"),)),
    )  # fmt: skip
    seen = (core.Observation(observable="y", value=3.0),)
    rows = [
        core.Row(trial="1", point={"source": 0.25, "s": "u"}, observations=seen),
        core.Row(trial="2", point={"source": 0.5, "s": "v"}, failure=core.Failure(cause="crashed")),
        core.Row(
            trial="3", point={"source": 0.25, "s": "u"}, observations=(core.Observation(observable="y", value=5.0),)
        ),
    ]
    catalog.export(spec, rows, to, tmp_path / f"c.{to}")
    (tmp_path / "package.json").write_text('{"name": "not ours"}')
    found = app.find_pools(tmp_path)
    pool = only(found)
    assert found.faults == ()
    assert pool.outcomes == (((3.0,), (5.0,)), ())
    assert pool.spec.parameters == spec.parameters
    assert pool.spec.goal.budget == core.Budget()


# ------------------------------------------------------------------ real ones


@pytest.mark.skipif(not REAL.is_dir(), reason="the real experiments are not here")
def test_the_real_experiments_can_all_be_read() -> None:
    found = app.find_pools(REAL, [DESCRIBED])
    pools = {p.name: p for p in found.pools}
    assert len(pools) >= 29
    assert {str(f) for f in found.faults} == {
        f"{Path('olympus') / 'liquid_dce' / 'data.csv'}:1: airgap is 3.0, outside 0.01 to 0.5; "
        "post_airgap is 4.0, outside 0.01 to 0.5"
    }
    assert {o.direction for p in ("photo_wf3", "perovskite-stability") for o in pools[p].spec.goal.objectives} == {
        "minimize"
    }
    assert len(pools["crossed-barrel-replicates"]) == 600
    assert all(len(r) == 3 for r in pools["crossed-barrel-replicates"].outcomes)
    assert [p.name for p in backtest.siblings_of(pools["buchwald_a"], found.pools)] == ["buchwald_b", "buchwald_c"]
    # The same barrels, as means in one file and one by one in another, are no sibling.
    assert backtest.siblings_of(pools["crossed_barrel"], found.pools) == []
    for pool in found.pools:
        assert core.problems(pool.spec) == (), pool.name
