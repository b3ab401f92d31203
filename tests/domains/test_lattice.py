"""Tables, transport and statistics of the bundle. OpenMC runs where it is installed: here, or in its own environment.

With FIRSTLIGHT_HEAVY=1 the whole C5G7 core is computed too, for about a minute.
"""

import asyncio
import itertools
import json
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from firstlight import app, config, core
from firstlight.domains import lattice
from firstlight.domains._apart import interpreter
from firstlight.domains._lattice_c5g7 import CHI, MATERIALS, Material

PYTHON = sys.executable if find_spec("openmc") else interpreter("lattice")
needs_openmc = pytest.mark.skipif(PYTHON is None, reason="there is no OpenMC, and no environment of its own")
heavy = pytest.mark.skipif(os.environ.get("FIRSTLIGHT_HEAVY") != "1", reason="set FIRSTLIGHT_HEAVY=1 to run it")

POINT: core.Point = {"corner": 4.3, "edge": 7.0, "middle": 8.7, "inner": 7.0, "pitch": 1.5, "radius": 0.5}

CORE = """
TUBES = {(2, 5), (2, 8), (2, 11), (3, 3), (3, 13), (5, 2), (5, 5), (5, 8), (5, 11), (5, 14), (8, 2), (8, 5), (8, 11),
         (8, 14), (11, 2), (11, 5), (11, 8), (11, 11), (11, 14), (13, 3), (13, 13), (14, 5), (14, 8), (14, 11)}
def pin(i, j, outer, middle, inner):
    down, across = abs(i - 8), abs(j - 8)
    if (i, j) in TUBES or (i, j) == (8, 8):
        return "guide_tube" if (i, j) in TUBES else "fission_chamber"
    if max(down, across) == 8:
        return outer
    return inner if max(down, across) <= 5 and down + across <= 8 else middle
def assembly(*zones):
    return [[pin(i, j, *zones) for j in range(17)] for i in range(17)]
U, M, W = assembly("uo2", "uo2", "uo2"), assembly("mox43", "mox70", "mox87"), [["water"] * 17] * 17
PINS = [[name for part in row for name in part[i]] for row in ((U, M, W), (M, U, W), (W, W, W)) for i in range(17)]
def core(histories):
    return lattice.transport(PINS, 1.26, 0.54, ["reflective", "vacuum", "vacuum", "reflective"], 0.0, histories, 1)
"""
"""The two-dimensional core of the benchmark: two assemblies of either kind, and water around."""


def in_openmc(script: str) -> Any:
    """What a script prints last, run beside OpenMC."""
    lines = f"import json\nfrom firstlight.core import Failed\nfrom firstlight.domains import lattice\n{script}"
    done = subprocess.run([str(PYTHON), "-c", lines], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


# ------------------------------------------------------------------ the tables


@pytest.mark.parametrize("name", MATERIALS)
def test_what_a_group_loses_is_absorbed_or_scattered(name: str) -> None:
    """The benchmark prints the total as well: a digit typed wrong breaks the balance."""
    m = MATERIALS[name]
    assert np.allclose(np.add(m.absorption, np.sum(m.scatter, axis=1)), m.total, rtol=5e-6)
    assert np.shape(m.scatter) == (7, 7)
    assert np.all(np.tril(m.scatter, -2) == 0)
    assert len(m.fission) == len(m.nu)
    assert all(f < a for f, a in zip(m.fission, m.absorption, strict=False))


def test_fission_neutrons_are_shared_out_completely() -> None:
    assert sum(CHI) == pytest.approx(1.0, abs=2e-5)


def test_more_plutonium_absorbs_more_and_fissions_more() -> None:
    fuels = [MATERIALS[lattice.FUELS[content]] for content in sorted(lattice.FUELS)]
    assert all(a.absorption[6] < b.absorption[6] and a.fission[6] < b.fission[6]
               for a, b in itertools.pairwise(fuels))  # fmt: skip


def infinite(m: Material) -> float:
    """The eigenvalue of a medium without end, from its tables alone."""
    losses = np.diag(np.add(m.absorption, np.sum(m.scatter, axis=1))) - np.transpose(m.scatter)
    return float(np.multiply(m.nu, m.fission) @ np.linalg.solve(losses, CHI))


# ------------------------------------------------------------------ the bundle


def test_a_bundle_has_its_zones() -> None:
    pins = [name for row in lattice.bundle("corner", "edge", "middle", "inner") for name in row]
    assert {zone: pins.count(zone) for zone in lattice.ZONES} == lattice.ZONES
    assert pins.count("water") == 9
    assert len(pins) == 81


def test_folding_keeps_the_mean_and_makes_pins_alike() -> None:
    fuel = np.array(lattice.bundle("f", "f", "f", "f")) == "f"
    halves = np.random.default_rng(0).uniform(1.0, 2.0, (2, 9, 9)) * fuel
    power, variances = lattice.folded(lattice.Solution(1.0, 0.01, halves, np.where(fuel, 0.01, 0.0)))
    assert power[:, fuel].mean() == pytest.approx(1.0)
    assert np.allclose(power, power[:, ::-1]) and np.allclose(power, power.transpose(0, 2, 1))
    assert variances[0, 1] == pytest.approx(variances[0, 0] / 2)
    assert np.all(power[:, ~fuel] == 0)


def test_the_hottest_pin_is_not_the_luckiest() -> None:
    """Of pins that are all the same, the highest reading lies far above them; what is reported does not."""
    rng = np.random.default_rng(1)
    readings = [rng.normal(1.0, 0.05 * math.sqrt(2.0), (2, 9, 9)) for _ in range(400)]
    found = [lattice.hottest(reading, np.full((9, 9), 0.05**2)) for reading in readings]
    power = np.array([value for value, _ in found])
    assert power.mean() == pytest.approx(1.0, abs=0.01)
    assert power.std() == pytest.approx(0.05, rel=0.15)
    assert all(sigma == pytest.approx(0.05) for _, sigma in found)
    assert np.mean([reading.mean(0).max() for reading in readings]) > 1.1


def test_pins_that_do_not_fit_are_invalid_input() -> None:
    for point in ({**POINT, "radius": 0.76}, {**POINT, "pitch": 1.7}):
        with pytest.raises(core.Failed, match="do not fit") as failed:
            lattice.evaluate(point)
        assert failed.value.cause == "invalid-input"


def test_the_specification_asks_for_plutonium_and_for_room() -> None:
    spec = app.check_spec(lattice.spec())
    assert core.violations(spec, POINT) == ()
    assert core.violations(spec, {**POINT, "radius": 0.6, "pitch": 1.45})
    assert core.violations(spec, {**POINT, "middle": 0.0})


# ------------------------------------------------------------------ with OpenMC


@needs_openmc
def test_media_without_end_have_the_eigenvalue_of_their_tables() -> None:
    found = in_openmc("""
tables, seen = dict(lattice.MATERIALS), {}
for name in ("uo2", "mox87"):
    lattice.MATERIALS["water"] = tables[name]
    made = lattice.transport([[name]], 1.26, 0.54, ["reflective"] * 4, 0.0, 8000, 1)
    seen[name] = [made.k, made.k_sigma]
print(json.dumps(seen))""")
    for name, (k, sigma) in found.items():
        assert 0 < sigma < 0.02
        assert abs(k - infinite(MATERIALS[name])) < 3 * sigma


@needs_openmc
def test_the_core_of_the_benchmark_with_few_histories() -> None:
    k, sigma = in_openmc(CORE + "found = core(20_000)\nprint(json.dumps([found.k, found.k_sigma]))")
    assert 0 < sigma < 0.012
    assert abs(k - 1.18655) < 3 * sigma


@needs_openmc
@heavy
def test_the_core_of_the_benchmark() -> None:
    k, sigma, most = in_openmc(CORE + """
found = core(1_600_000)
rates = found.halves.mean(0)
print(json.dumps([found.k, found.k_sigma, float(rates.max() / rates.sum() * 4 * 264)]))""")  # fmt: skip
    assert 0 < sigma < 0.0015
    assert abs(k - 1.18655) < 3 * sigma
    assert most == pytest.approx(2.498, rel=0.04)


@needs_openmc
def test_the_same_point_twice_and_too_few_neutrons() -> None:
    first, second, other, failure = in_openmc(f"""
point, seen = {POINT!r}, []
for at in (point, point, {{**point, "corner": 8.7}}):
    seen.append(lattice.evaluate(at, histories=4000))
try:
    lattice.evaluate(point, histories=1)
except Failed as failed:
    seen.append([failed.cause, failed.message])
print(json.dumps(seen))""")
    assert first == second
    assert other["peaking"]["value"] != first["peaking"]["value"]
    assert set(first) == {"peaking", "k_inf", "plutonium", "water_to_fuel"}
    assert first["peaking"]["sigma"] > 0 and first["k_inf"]["sigma"] > 0
    assert 1.0 < first["k_inf"]["value"] < 1.4
    assert failure[0] == "did-not-converge"
    assert "fission sites" in failure[1]


@needs_openmc
def test_a_campaign_through_the_local_facility(tmp_path: Path) -> None:
    spec = lattice.DOMAIN.spec()
    step = replace(spec.procedure.steps[0], settings={"histories": 2000})
    short = replace(spec, procedure=replace(spec.procedure, steps=(step,)), strategy=core.StrategySpec(name="sobol"),
                    goal=replace(spec.goal, budget=core.Budget(trials=2)))  # fmt: skip
    campaign = replace(lattice.DOMAIN, spec=lambda: short).campaign()
    if not find_spec("openmc"):
        assert campaign.procedure.steps[0].operation == "command"

    async def run() -> core.Results:
        async with app.App.open(config.load_settings(tmp_path / "home", {})) as here:
            made = await here.create(here.check_spec(campaign), "test")
            await here.run(made.id, "test")
            return (await here.state(made.id))[1].view()

    rows = asyncio.run(run()).rows
    assert len(rows) == 2
    for row in rows:
        assert row.failure is None, row.failure
        assert row.seen["peaking"].sigma > 0
        assert row.seen["k_inf"].sigma > 0
    assert not list(Path(tmp_path).rglob("statepoint.*"))
