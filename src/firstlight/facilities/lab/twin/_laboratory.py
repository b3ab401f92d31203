"""The state of the twin laboratory: what is where, how much and how hot, and what each physical step does to it.

It knows no clock and no network: `advance` lets time pass, everything else happens at once.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping

import numpy as np

from . import _physics as physics
from ._device import Fault
from ._physics import Numbers

STEP = 1.0
"""Seconds between two looks of the controllers; time passes in such steps."""
WELLS = tuple(f"{row}{column}" for row in "ABCD" for column in range(1, 7))
PLATES = 8
STARTS: Mapping[str, str] = {f"plate-{n}": f"hotel-{n}" for n in range(1, PLATES + 1)}
PLACES = (*STARTS.values(), "deck", "heater", "furnace", "reader")
CAPACITY = 1500.0
"""uL, of a well."""
DEAD = 200.0
"""uL that stay in a bottle whatever one does."""
PRIME = 1.0
"""uL that the needle gives to the waste before it dispenses."""
WASHING = 200.0
"""uL of solvent for a wash."""
BOTTLES: Mapping[str, tuple[float, Mapping[int, float]]] = {
    "precursor": (40_000.0, {physics.A: 1e-3}),
    "ligand": (40_000.0, {physics.B: 1e-3}),
    "catalyst": (10_000.0, {physics.C: 2e-4}),
    "solvent": (100_000.0, {}),
}
"""uL in each full bottle, and what is in it (mol/L)."""


@dataclasses.dataclass
class Hot:
    """A heated place: its temperature (K), its controller, and what is wrong with it."""

    body: physics.Body
    limit: float
    kelvin: float = physics.AMBIENT
    target: float | None = None
    summed: float = 0.0
    power: float = 0.0
    runaway: bool = False
    offset: float = 0.0
    door: bool = False

    def advance(self, seconds: float) -> None:
        """One step: power from the thermometer, which may be off; then first order."""
        if self.runaway:
            self.power = 1.0
        elif self.target is None:
            self.power, self.summed = 0.0, 0.0
        else:
            shown = self.kelvin + self.offset
            self.power, self.summed = physics.control(self.body, shown, self.target, self.summed, seconds)
        loss = 3.0 if self.door else 1.0
        goal = physics.AMBIENT + self.body.rise * self.power / loss
        self.kelvin = float(physics.relax(np.asarray(self.kelvin), goal, seconds, self.body.inertia / loss))

    def stop(self) -> None:
        """A contactor of its own cuts the power, whatever the thermostat does."""
        self.target, self.runaway, self.power, self.summed = None, False, 0.0, 0.0


class Laboratory:
    """The whole of it. Random numbers come from one generator a device, so that order between devices is nothing."""

    def __init__(self, seed: int = 0, noise: bool = True) -> None:
        names = ("handler", "spectrometer", "faults")
        self.random = {n: np.random.default_rng([seed, i]) for i, n in enumerate(names)}
        self.noise = 1.0 if noise else 0.0
        self.seconds = 0.0
        count = len(STARTS) * len(WELLS)
        self.umol: Numbers = np.zeros((count, len(physics.SPECIES)))
        self.volume: Numbers = np.zeros(count)
        self.kelvin: Numbers = np.full(count, physics.AMBIENT)
        self.mixed: Numbers = np.ones(count)
        self.place = dict(STARTS)
        self.bottles = {name: amount for name, (amount, _) in BOTTLES.items()}
        self.waste, self.evaporated = 0.0, 0.0
        self.spilt: Numbers = np.zeros(len(physics.SPECIES))
        self.hot = {
            "heater": Hot(physics.BLOCK, physics.AMBIENT + 125.0),
            "furnace": Hot(physics.FURNACE, physics.AMBIENT + 235.0),
        }
        self.stirring = 0.0
        self.wear, self.clogged = 0.0, False
        self.lamp, self.lamp_drift = 1.0, 5e-6
        self.standard: float | None = None
        self.doors = {"spectrometer": False, "mover": False, "handler": False}
        self.crashed = ""
        self.executions = list[dict[str, object]]()
        self.counts = Counter[str]()

    def index(self, well: str) -> int:
        """Of "plate-1/A3". Raises Fault where there is none."""
        plate, _, name = well.partition("/")
        if plate not in self.place or name not in WELLS:
            raise Fault(f"there is no well {well!r}; they are called such as plate-1/A3", "invalid-input")
        return list(self.place).index(plate) * len(WELLS) + WELLS.index(name)

    def rows(self, plate: str) -> slice:
        """The wells of a plate."""
        first = list(self.place).index(plate) * len(WELLS)
        return slice(first, first + len(WELLS))

    def at(self, place: str) -> str | None:
        """The plate that stands there."""
        return next((plate for plate, where in self.place.items() if where == place), None)

    def need(self, well: str, place: str) -> int:
        """The index of a well whose plate stands at a place. Raises Fault where it stands elsewhere."""
        index = self.index(well)
        plate = well.partition("/")[0]
        if self.place[plate] != place:
            raise Fault(f"{plate} is at {self.place[plate]}, not at {place}")
        return index

    def filled(self) -> list[tuple[str, str, int]]:
        """The wells that hold anything: plate, name and index."""
        names = [(plate, well) for plate in self.place for well in WELLS]
        return [(*name, i) for i, name in enumerate(names) if self.volume[i] > 0 or self.umol[i].any()]

    def remove(self, reagent: str, volume: float) -> None:
        """Somebody pours from a bottle into the waste (uL)."""
        self._draw(reagent, volume, None)

    def advance(self, seconds: float) -> None:
        """Let time pass, in whole steps and what is left."""
        while seconds > 1e-9:
            step = min(seconds, STEP)
            self._step(step)
            seconds -= step

    def _step(self, seconds: float) -> None:
        self.seconds += seconds
        self.lamp *= math.exp(-self.lamp_drift * seconds)
        for hot in self.hot.values():
            hot.advance(seconds)
        for plate, place in self.place.items():
            rows, hot_place = self.rows(plate), self.hot.get(place)
            around = hot_place.kelvin if hot_place else physics.AMBIENT
            inertia = {"heater": 30.0, "furnace": 60.0}.get(place, 120.0)
            self.kelvin[rows] = physics.relax(self.kelvin[rows], around, seconds, inertia)
            # Diffusion mixes within minutes, a stirrer within seconds.
            stirred = self.stirring / 100.0 if place == "heater" else 0.0
            self.mixed[rows] = physics.relax(self.mixed[rows], 1.0, seconds, 300.0 / (1.0 + 10.0 * stirred))
        wet = np.flatnonzero(self.volume > 0.0)
        if not len(wet):
            return
        gone = np.minimum(physics.evaporation(self.kelvin[wet]) * seconds, self.volume[wet])
        self.volume[wet] -= gone
        self.evaporated += float(gone.sum())
        live = wet[(self.volume[wet] > 1.0) & ((self.umol[wet, physics.A] > 0) | (self.umol[wet, physics.P] > 0))]
        if len(live):
            self.umol[live] = physics.react(
                self.umol[live], self.volume[live], self.kelvin[live], self.mixed[live], seconds
            )

    def dispense(self, reagent: str, well: str, volume: float) -> float:
        """Bring a volume (uL) from a bottle into a well on the deck; what really came. Raises Fault."""
        index = self.need(well, "deck")
        if reagent not in self.bottles:
            raise Fault(f"there is no bottle {reagent!r}; there are {', '.join(self.bottles)}", "invalid-input")
        if self.clogged:
            raise Fault("the needle is clogged: nothing was dispensed; wash it")
        scatter = self.noise * (0.3 + 0.008 * volume * (1.0 + self.wear)) * self.random["handler"].standard_normal()
        wanted = max(0.0, volume * (1.0 - 0.02 * self.wear * self.noise) + scatter)
        there = max(0.0, self.bottles[reagent] - DEAD)
        prime = min(PRIME, there)
        given = min(wanted, there - prime)
        self.wear = min(self.wear + 0.004, 1.0)
        self._draw(reagent, prime, None)
        room = CAPACITY - float(self.volume[index])
        self._draw(reagent, min(given, room), index)
        self._draw(reagent, max(given - room, 0.0), None)
        if given > room:
            raise Fault(f"{well} overflowed: {given - room:.1f} uL of {reagent} were spilt")
        if given < wanted:
            raise Fault(f"the bottle of {reagent} is empty: {given:.1f} uL of {volume:g} uL were dispensed")
        return given

    def _draw(self, reagent: str, volume: float, index: int | None) -> None:
        """From a bottle into a well, or into the waste."""
        self.bottles[reagent] -= volume
        contents = BOTTLES[reagent][1]
        if index is None:
            self.waste += volume
            for species, strength in contents.items():
                self.spilt[species] += strength * volume
            return
        before = float(self.volume[index])
        self.volume[index] += volume
        if before + volume > 0:
            self.kelvin[index] = (self.kelvin[index] * before + physics.AMBIENT * volume) / (before + volume)
        for species, strength in contents.items():
            self.umol[index, species] += strength * volume
        self.mixed[index] = min(self.mixed[index], 0.4)

    def mix(self, well: str) -> None:
        """Stir a well on the deck with the needle. Raises Fault."""
        self.mixed[self.need(well, "deck")] = 1.0

    def wash(self) -> None:
        """Clean the needle with solvent. Raises Fault where there is not enough."""
        if self.bottles["solvent"] - DEAD < WASHING:
            raise Fault("there is not enough solvent for a wash")
        self._draw("solvent", WASHING, None)
        self.clogged, self.wear = False, 0.0

    def transfer(self, plate: str, origin: str, to: str) -> None:
        """Put a plate from one place to another. Raises Fault; onto another plate, the two collide."""
        for place in (origin, to):
            if place not in PLACES:
                raise Fault(f"there is no place {place!r}; there are {', '.join(PLACES)}", "invalid-input")
        if plate not in self.place:
            raise Fault(f"there is no plate {plate!r}; there are {', '.join(self.place)}", "invalid-input")
        if self.crashed:
            raise Fault(f"the mover has crashed and waits for a person: {self.crashed}")
        if self.place[plate] != origin:
            raise Fault(f"{plate} is not at {origin}: the gripper closed on nothing")
        other = self.at(to)
        if other is not None and other != plate:
            self.crashed = f"{plate} met {other} at {to}"
            raise Fault(f"collision: {self.crashed}")
        self.place[plate] = to

    def measure(self, well: str) -> dict[str, object]:
        """What the spectrometer sees of a well in it, against the last standard or a new lamp. Raises Fault."""
        index = self.need(well, "reader")
        umol, volume = self.umol[index], float(self.volume[index])
        reference = self.standard or 1.0
        light = (10 ** -physics.absorbance(umol, physics.WAVELENGTHS) + physics.STRAY) / (1 + physics.STRAY)
        counts = self._counts(light * physics.LAMP * self.lamp)
        spectrum = -np.log10(np.maximum(counts, 1.0) / (physics.LAMP * reference))
        band = spectrum * (physics.WAVELENGTHS >= 460.0)
        top = int(np.argmax(band))
        around = slice(max(top - 2, 0), top + 3)
        weights = np.maximum(spectrum[around] - 0.5 * spectrum[top], 0.0)
        centre = float(np.average(physics.WAVELENGTHS[around], weights=weights)) if weights.sum() > 0 else 0.0
        emitted = self._counts(np.array([physics.fluorescence(umol, volume) * self.lamp]))[0] / reference
        return {
            "PeakAbsorbance": float(spectrum[top]), "PeakWavelength": centre, "Intensity": float(emitted),
            "Saturated": bool(emitted * reference >= physics.FULL_SCALE or spectrum.max() > 2.5),
            "Spectrum": [round(float(x), 5) for x in spectrum],
        }  # fmt: skip

    def measure_standard(self) -> dict[str, object]:
        """Look through the standard well, which corrects what the lamp has lost since it was new."""
        counts = float(self._counts(np.array([physics.LAMP * self.lamp]))[0])
        self.standard = counts / physics.LAMP
        return {"LampIntensity": self.standard, "Counts": counts}

    def _counts(self, light: Numbers) -> Numbers:
        """What a detector counts: photons scatter by their square root, electronics by a few, and it saturates."""
        scatter = np.sqrt(np.maximum(light, 0.0) + 25.0) * self.random["spectrometer"].standard_normal(light.shape)
        return np.asarray(np.clip(light + self.noise * scatter, 0.0, physics.FULL_SCALE))

    def matter(self) -> dict[str, float]:
        """How much is where (uL, and umol of each species), and what is missing, which should be nothing."""
        drawn = {name: BOTTLES[name][0] - left for name, left in self.bottles.items()}
        wells = self.umol.sum(axis=0) + self.spilt

        def brought(species: int) -> float:
            return sum(drawn[name] * held.get(species, 0.0) for name, (_, held) in BOTTLES.items())

        product = float(wells[physics.P] + wells[physics.D])
        volume = {"drawn": sum(drawn.values()), "wells": float(self.volume.sum())}
        volume |= {"waste": self.waste, "evaporated": self.evaporated}
        return volume | {
            "missing": volume["drawn"] - volume["wells"] - self.waste - self.evaporated,
            "missing A": brought(physics.A) - float(wells[physics.A] + wells[physics.X]) - product,
            "missing B": brought(physics.B) - float(wells[physics.B]) - product,
            "missing C": brought(physics.C) - float(wells[physics.C]),
        }

    def record(self, device: str, operation: str, arguments: Mapping[str, object]) -> dict[str, object]:
        """Write down that something physically begins; the entry's outcome is filled in at its end."""
        entry: dict[str, object] = {
            "number": len(self.executions), "at": round(self.seconds, 3), "device": device, "operation": operation,
            "arguments": dict(arguments), "outcome": "running",
        }  # fmt: skip
        self.executions.append(entry)
        self.counts[f"{device}.{operation}"] += 1
        return entry
