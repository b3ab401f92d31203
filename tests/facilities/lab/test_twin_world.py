"""The physics of the twin laboratory against what is known in closed form."""

import time

import numpy as np
import pytest

from firstlight.facilities.lab.twin import _physics as physics
from firstlight.facilities.lab.twin._device import Fault
from firstlight.facilities.lab.twin._laboratory import DEAD, STARTS, WELLS, Laboratory
from firstlight.facilities.lab.twin.world import World

HOT = 378.15


def filled(seed: int = 0, noise: bool = False, **volumes: float) -> Laboratory:
    """One well, plate-1/A1 on the deck, of these volumes (uL), mixed."""
    lab = Laboratory(seed, noise)
    lab.transfer("plate-1", "hotel-1", "deck")
    for reagent, volume in volumes.items():
        lab.dispense(reagent, "plate-1/A1", volume)
    lab.mix("plate-1/A1")
    return lab


def cook(lab: Laboratory, place: str, degrees: float, seconds: float) -> None:
    """Bring plate-1 somewhere hot for a while (after 150 s of heating up) and back to cool."""
    was = lab.place["plate-1"]
    lab.transfer("plate-1", was, place)
    lab.hot[place].target = degrees + 273.15
    lab.stirring = 300.0
    lab.advance(150.0 + seconds)
    lab.hot[place].stop()
    lab.transfer("plate-1", place, "deck")
    lab.advance(400.0)


def test_rates_follow_arrhenius() -> None:
    for rate in (physics.COUPLING, physics.DECAY, physics.OXIDATION, physics.HEALING):
        low, high = float(rate.at(330.0)), float(rate.at(370.0))
        assert np.log(high / low) == pytest.approx(rate.energy / physics.R * (1 / 330.0 - 1 / 370.0), rel=1e-12)
        assert float(rate.at(physics.REFERENCE)) == rate.at_reference


def test_equal_parts_couple_as_second_order_does() -> None:
    """Where nothing burns (300 K), 1/[A] grows linearly: [A] = [A]0 / (1 + k [A]0 t)."""
    kelvin, volume, catalyst = 300.0, 300.0, 2e-5
    umol = np.zeros((1, 7))
    umol[0, :3] = 0.09, 0.09, catalyst * volume
    k = float(physics.COUPLING.at(kelvin)) / 2
    after = physics.react(umol, np.array([volume]), np.array([kelvin]), np.ones(1), 9000.0)
    assert after[0, physics.A] == pytest.approx(0.09 / (1 + k * 0.09 / volume * 9000.0), rel=2e-4)


def test_product_decays_as_consecutive_first_order_does() -> None:
    """Without partners or catalyst, what is not healed decays and heals: P - H = P0 exp(-(kd + kh) t)."""
    umol = np.array([[0.0, 0.0, 0.0, 0.1, 0.0, 0.0, 0.0]])
    kd, kh, ko, t = *(float(r.at(HOT)) for r in (physics.DECAY, physics.HEALING, physics.OXIDATION)), 600.0
    after = physics.react(umol, np.array([300.0]), np.array([HOT]), np.ones(1), t)[0]
    bare = 0.1 * np.exp(-(kd + ko + kh) * t)
    slow = physics.SHELTERED * kd
    healed = 0.1 * kh / (kd + kh - slow) * (np.exp(-slow * t) - np.exp(-(kd + kh) * t)) * np.exp(-ko * t)
    assert after[physics.P] - after[physics.H] == pytest.approx(bare, rel=2e-4)
    assert after[physics.H] == pytest.approx(healed, rel=2e-4)
    assert after[physics.P] + after[physics.D] == pytest.approx(0.1, rel=1e-12)


def test_a_furnace_at_full_power_and_cooling_down_is_first_order() -> None:
    lab = Laboratory()
    furnace, body = lab.hot["furnace"], physics.FURNACE
    furnace.runaway = True
    lab.advance(90.0)
    assert furnace.kelvin == pytest.approx(physics.AMBIENT + body.rise * (1 - np.exp(-90.0 / body.inertia)), rel=1e-9)
    top = furnace.kelvin
    furnace.stop()
    lab.advance(200.0)
    expected = physics.AMBIENT + (top - physics.AMBIENT) * np.exp(-200.0 / body.inertia)
    assert furnace.kelvin == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("place", "degrees"), [("heater", 105.0), ("furnace", 150.0)])
def test_a_heated_place_overshoots_a_little_and_settles(place: str, degrees: float) -> None:
    lab = Laboratory()
    hot = lab.hot[place]
    hot.target = degrees + 273.15
    seen = []
    for _ in range(900):
        lab.advance(1.0)
        seen.append(hot.kelvin - 273.15)
    assert degrees + 0.5 < max(seen) < degrees + 15.0
    assert seen[-1] == pytest.approx(degrees, abs=0.1)


def test_absorbance_is_linear_until_stray_light() -> None:
    umol = np.array([0.0, 0.0, 0.0, 0.01, 0.0, 0.0, 0.0])
    one = physics.absorbance(umol, 505.0)
    assert one[0] == pytest.approx(22000 * 0.01e-6 / 1.9e-3 + 9000 * 0.01e-6 / 1.9e-3 * np.exp(-0.5 * (105 / 45) ** 2))
    assert physics.absorbance(7 * umol, 505.0)[0] == pytest.approx(7 * one[0], rel=1e-12)
    low, high = physics.seen(one)[0], physics.seen(60 * one)[0]
    assert low == pytest.approx(one[0], rel=0.01)
    assert high < 3.01 < 60 * one[0]


def test_the_standard_corrects_what_the_lamp_lost() -> None:
    lab = filled(precursor=150.0, ligand=100.0, catalyst=40.0)
    cook(lab, "heater", 100.0, 400.0)
    lab.transfer("plate-1", "deck", "reader")
    fresh = lab.measure("plate-1/A1")["Intensity"]
    lab.lamp *= 0.8
    faded = lab.measure("plate-1/A1")["Intensity"]
    assert lab.measure_standard()["LampIntensity"] == pytest.approx(lab.lamp)
    assert faded == pytest.approx(0.8 * float(str(fresh)))
    assert lab.measure("plate-1/A1")["Intensity"] == pytest.approx(fresh, rel=0.02)


def test_matter_is_conserved_whatever_happens() -> None:
    lab = filled(noise=True, seed=3, precursor=300.0, ligand=280.0, catalyst=60.0)
    for well in WELLS[1:12]:
        lab.dispense("precursor", f"plate-1/{well}", 200.0)
        lab.dispense("ligand", f"plate-1/{well}", 300.0)
        lab.dispense("catalyst", f"plate-1/{well}", 50.0)
    before = lab.bottles["solvent"]
    with pytest.raises(Fault, match="overflowed"):
        lab.dispense("solvent", "plate-1/A1", 1000.0)
    # What ran over the edge is gone from the bottle too.
    assert before - lab.bottles["solvent"] == pytest.approx(1000.0, abs=40.0)
    lab.wash()
    cook(lab, "heater", 120.0, 900.0)
    cook(lab, "furnace", 240.0, 900.0)
    matter = lab.matter()
    assert matter["evaporated"] > 500.0
    assert matter["waste"] > 200.0
    for name in ("missing", "missing A", "missing B", "missing C"):
        assert matter[name] == pytest.approx(0.0, abs=1e-9 * matter["drawn"]), name


def test_hot_solvent_evaporates_as_its_vapour_pressure_says() -> None:
    assert float(physics.vapour_pressure(462.0)) == pytest.approx(1e5, rel=0.05)  # boils at 189 degC
    lab = filled(solvent=1000.0)
    lab.kelvin[:] = 373.15
    lab.hot["heater"].kelvin = 373.15
    lab.transfer("plate-1", "deck", "heater")
    before, rate = float(lab.volume[0]), float(physics.evaporation(373.15))
    lab.hot["heater"].target = 373.15
    lab.hot["heater"].summed = (373.15 - physics.AMBIENT) / physics.BLOCK.rise
    lab.advance(100.0)
    assert before - float(lab.volume[0]) == pytest.approx(100.0 * rate, rel=0.05)


def test_seeds_are_reproduced_and_differ() -> None:
    def given(seed: int, others: bool = False) -> list[float]:
        lab = filled(seed, noise=True)
        if others:
            lab.measure_standard()
        return [lab.dispense("precursor", f"plate-1/{well}", 100.0) for well in WELLS]

    assert given(1) == given(1) == given(1, others=True)
    assert given(1) != given(2)
    first = {name: float(random.random()) for name, random in Laboratory(1).random.items()}
    assert len(set(first.values())) == len(first), "each device has numbers of its own"
    assert np.std(given(1)) < 3.0
    assert abs(np.mean(given(1)) - 100.0) < 3.0


def test_a_worn_needle_gives_less_until_it_is_washed() -> None:
    lab = Laboratory(5)
    lab.transfer("plate-1", "hotel-1", "deck")
    lab.wear = 1.0
    worn = np.mean([lab.dispense("solvent", f"plate-1/{well}", 500.0) for well in WELLS])
    lab.wash()
    clean = np.mean([lab.dispense("solvent", f"plate-1/{well}", 500.0) for well in WELLS])
    assert worn < clean - 3.0


def test_an_empty_bottle_delivers_what_it_has_and_says_so() -> None:
    lab = filled()
    lab.bottles["catalyst"] = DEAD + 31.0
    with pytest.raises(Fault, match=r"30\.0 uL of 50 uL"):
        lab.dispense("catalyst", "plate-1/A1", 50.0)
    assert lab.volume[0] == pytest.approx(30.0)
    assert lab.bottles["catalyst"] == pytest.approx(DEAD)


def test_plates_collide_and_are_only_where_they_are() -> None:
    lab = Laboratory()
    with pytest.raises(Fault, match="not at deck"):
        lab.dispense("solvent", "plate-1/A1", 50.0)
    with pytest.raises(Fault, match="closed on nothing"):
        lab.transfer("plate-1", "deck", "heater")
    with pytest.raises(Fault, match="collision"):
        lab.transfer("plate-1", "hotel-1", "hotel-2")
    with pytest.raises(Fault, match="waits for a person"):
        lab.transfer("plate-1", "hotel-1", "deck")
    assert lab.place == STARTS


AXES = {
    "ligand, uL": (40.0, 100.0, 150.0, 200.0, 280.0), "catalyst, uL": (3.0, 12.0, 30.0, 50.0, 70.0),
    "heat, degC": (50.0, 75.0, 95.0, 115.0, 140.0), "for, s": (60.0, 400.0, 1200.0, 3000.0, 7200.0),
    "anneal, degC": (50.0, 90.0, 120.0, 150.0, 180.0), "then, s": (10.0, 120.0, 300.0, 600.0, 1200.0),
}  # fmt: skip


def held(umol: physics.Numbers, volume: physics.Numbers, degrees: float, times: tuple[float, ...]) -> physics.Numbers:
    """Wells at one temperature, as they are at each of these times."""
    seen, before = [], 0.0
    kelvin, mixed = np.full(len(umol), degrees + 273.15), np.ones(len(umol))
    for moment in times:
        while before < moment:
            step = min(60.0, moment - before)
            umol = physics.react(umol, volume, kelvin, mixed, step)
            before += step
        seen.append(umol)
    return np.stack(seen)


def test_the_best_recipe_lies_inside() -> None:
    """By brute force: all 15,625 recipes of 150 uL of precursor in 500 uL, without noise, each at even temperatures."""
    ligand, catalyst = np.meshgrid(*list(AXES.values())[:2], indexing="ij")
    start = np.zeros((ligand.size, 7))
    start[:, :3] = np.stack([np.full(ligand.size, 0.15), 1e-3 * ligand.ravel(), 2e-4 * catalyst.ravel()], axis=1)
    degrees, times, anneals, thens = list(AXES.values())[2:]

    def wells(count: int) -> physics.Numbers:
        return np.full(count, 500.0)

    heated = np.stack([held(start, wells(len(start)), d, times) for d in degrees])
    flat = heated.reshape(-1, 7)
    annealed = np.stack([held(flat, wells(len(flat)), d, thens) for d in anneals])
    made = np.array([physics.fluorescence(u, 500.0) for u in annealed.reshape(-1, 7)])
    # anneal, then, heat, for, ligand, catalyst: in the order of the axes.
    grid = made.reshape(5, 5, 5, 5, 5, 5).transpose(4, 5, 2, 3, 0, 1)
    best = np.unravel_index(int(grid.argmax()), grid.shape)
    named = {name: values[i] for (name, values), i in zip(AXES.items(), best, strict=True)}
    print(f"of {grid.size} the best: {grid.max():.0f} counts at {named}")
    assert grid.max() < physics.FULL_SCALE
    for axis, name in enumerate(AXES):
        profile = np.moveaxis(grid, axis, 0).reshape(5, -1).max(axis=1)
        print(f"{name}: {dict(zip(AXES[name], profile.round().tolist(), strict=True))}")
        assert max(profile[0], profile[-1]) < 0.99 * grid.max(), f"{name} is best at an end of its range"


def test_a_world_that_cannot_keep_up_is_slower_and_still_answers() -> None:
    lab = filled(precursor=200.0, ligand=200.0, catalyst=50.0, solvent=270.0)
    world = World(lab, speed=1e7)
    time.sleep(0.05)
    began = time.monotonic()
    assert 0.0 < world.now().seconds < 1e5
    assert time.monotonic() - began < 1.0
    # What it could not keep up with is not owed.
    seconds = lab.seconds
    assert world.now().seconds - seconds < 1e5
