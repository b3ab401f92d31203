"""The laws that the twin laboratory obeys: heat, evaporation, kinetics, optics. Pure functions of numbers and arrays.

A precursor A and a ligand B make luminescent dots P, which decay to D: A + B -> P -> D, with a catalyst C. A that is
hot before it has found B burns to X. Part of P is healed, H (of P, not beside it): its surface traps are passivated,
so that it shines and decays more slowly. The shape
of the laws is from textbooks; the numbers are chosen so that an optimum lies inside what the devices can do:

- Arrhenius and consecutive reactions: Atkins, Physical Chemistry, ch. "Chemical kinetics".
- Vapour pressure of dimethyl sulfoxide: Antoine's equation with the coefficients of the NIST Chemistry WebBook for
  325 to 442 K; evaporation through a stagnant film: Bird, Stewart, Lightfoot, Transport Phenomena, ch. 22.
- A lumped body under a proportional-integral controller: Astrom, Hagglund, PID Controllers, ch. 2 and 3.
- Beer-Lambert, stray light, inner filter and Stern-Volmer: Lakowicz, Principles of Fluorescence Spectroscopy, ch. 2, 8.

Units: K, s, uL, umol (so umol/uL is mol/L), cm, nm.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

R = 8.314462618
"""J/(mol K)."""
REFERENCE = 353.15
"""K, at which rate constants are stated."""
AMBIENT = 295.15
A, B, C, P, D, X, H = range(7)
"""Places of the species in an array; H is the healed part of P."""
SPECIES = ("A", "B", "C", "P", "D", "X", "H")


class Rate(NamedTuple):
    """A rate constant at 353.15 K, and its activation energy in J/mol."""

    at_reference: float
    energy: float

    def at(self, kelvin: Numbers | float) -> Numbers | float:
        """At a temperature, by Arrhenius."""
        return self.at_reference * np.exp(-self.energy / R * (1 / np.maximum(kelvin, 1.0) - 1 / REFERENCE))


COUPLING = Rate(16.0, 65e3)
"""A + B -> P, L/(mol s), with all of the catalyst's sites taken."""
DECAY = Rate(2e-5, 110e3)
"""P -> D by heat, 1/s, from which healing shelters."""
OXIDATION = Rate(6e-5, 40e3)
"""P -> D by air, 1/s: slow, but cold hardly helps, and so nobody should wait for ever."""
BURNING = Rate(1e-4, 140e3)
"""A -> X, 1/s: so it must be coupled in the cool, before it is annealed."""
HEALING = Rate(3e-4, 85e3)
"""P -> H, 1/s."""
CATALYST_HALF = 2e-5
"""mol/L of catalyst at which coupling is half as fast as it can be."""
CATALYST_HARM = 2e-5
"""mol/L of catalyst that doubles decay."""
HOTTEST = 463.15
"""K, above which reactions are no faster: the dots are gone within seconds there already."""
FASTEST = 1.0
"""1/s, than which no reaction is faster: in what little a hot well still holds, it waits for diffusion."""
SHELTERED = 0.15
"""How fast the healed part decays, relative to the other."""


def burning(kelvin: Numbers | float) -> Numbers | float:
    """1/s, of A to X: by Arrhenius, until it waits for the hot wall (0.05 1/s)."""
    k = BURNING.at(kelvin)
    return k / (1 + k / 0.05)


def rates(umol: Numbers, litres_e6: Numbers, kelvin: Numbers, mixed: Numbers) -> Numbers:
    """The change of each species (umol/s) in each well, from umol (wells x species) and volumes in uL."""
    volume = np.maximum(litres_e6, 1e-3)
    catalyst = umol[:, C] / volume
    made = COUPLING.at(kelvin) * catalyst / (CATALYST_HALF + catalyst) * mixed * umol[:, A] * umol[:, B] / volume
    made = np.minimum(made, FASTEST * np.minimum(umol[:, A], umol[:, B]))
    harm = 1 + catalyst / CATALYST_HARM
    decay = np.minimum(DECAY.at(kelvin) * harm, FASTEST)
    oxidation = np.minimum(OXIDATION.at(kelvin) * harm, FASTEST)
    healed = np.minimum(umol[:, H], umol[:, P])
    lost_healed = (SHELTERED * decay + oxidation) * healed
    lost = (decay + oxidation) * (umol[:, P] - healed) + lost_healed
    heal = HEALING.at(kelvin) * (umol[:, P] - healed)
    burnt = burning(kelvin) * umol[:, A]
    none = np.zeros_like(made)
    return np.stack([-made - burnt, -made, none, made - lost, lost, burnt, heal - lost_healed], axis=1)


def react(umol: Numbers, volume: Numbers, kelvin: Numbers, mixed: Numbers, seconds: float) -> Numbers:
    """The species after some seconds (Runge-Kutta of fourth order, in steps that the fastest reaction allows)."""
    kelvin = np.minimum(kelvin, HOTTEST)
    if not len(umol):
        return umol
    harmed = 1 + umol[:, C] / np.maximum(volume, 1e-3) / CATALYST_HARM
    fastest = np.minimum((DECAY.at(kelvin) + OXIDATION.at(kelvin)) * harmed, 2 * FASTEST)
    fastest = fastest + HEALING.at(kelvin) + burning(kelvin)
    fastest = fastest + np.minimum(
        COUPLING.at(kelvin) * (umol[:, A] + umol[:, B]) / np.maximum(volume, 1.0), 2 * FASTEST
    )
    steps = min(max(1, math.ceil(seconds * float(np.max(fastest)) / 0.4)), 200)
    h = seconds / steps
    for _ in range(steps):
        k1 = rates(umol, volume, kelvin, mixed)
        k2 = rates(umol + h / 2 * k1, volume, kelvin, mixed)
        k3 = rates(umol + h / 2 * k2, volume, kelvin, mixed)
        k4 = rates(umol + h * k3, volume, kelvin, mixed)
        umol = umol + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        # Rounding must not make matter: what would be below nothing is given back by its partners.
        under = np.minimum(umol[:, A], umol[:, B])
        umol[:, [A, B]] -= np.minimum(under, 0.0)[:, None]
        umol[:, P] += np.minimum(under, 0.0)
        over = np.minimum(umol[:, P], 0.0)
        umol[:, P] -= over
        umol[:, D] += over
        umol[:, H] = np.clip(umol[:, H], 0.0, umol[:, P])
    return umol


WELL_AREA = 1.9
"""cm2, of a well of a plate of 24."""
MOLAR_VOLUME = 7.1e4
"""uL/mol of dimethyl sulfoxide (78.13 g/mol, 1.10 g/mL)."""
FILM = 0.1
"""cm/s, the mass transfer coefficient under a vented cover."""


def vapour_pressure(kelvin: Numbers | float) -> Numbers | float:
    """Pa, of dimethyl sulfoxide."""
    return 1e5 * 10 ** (4.49107 - 1807.002 / (np.maximum(kelvin, 280.0) - 60.995))


def evaporation(kelvin: Numbers | float) -> Numbers | float:
    """uL/s from one well."""
    moles = vapour_pressure(kelvin) / (R * np.asarray(kelvin)) * 1e-6  # mol/cm3
    return FILM * WELL_AREA * moles * MOLAR_VOLUME


class Body(NamedTuple):
    """A heated thing: how far full power brings it above its surroundings (K), how slowly (s), and its controller."""

    rise: float
    inertia: float
    gain: float
    reset: float


BLOCK = Body(rise=180.0, inertia=60.0, gain=0.04, reset=10.0)
FURNACE = Body(rise=500.0, inertia=120.0, gain=0.02, reset=40.0)


def relax(now: Numbers, towards: Numbers | float, seconds: float, inertia: Numbers | float) -> Numbers:
    """First order, exactly: where it is after some seconds."""
    return towards + (now - towards) * np.exp(-seconds / np.asarray(inertia))


def control(body: Body, kelvin: float, target: float, summed: float, seconds: float) -> tuple[float, float]:
    """The controller's power (0 to 1) and its integral; this stands still while power is at an end of its range."""
    error = target - kelvin
    wanted = body.gain * error + summed
    power = min(max(wanted, 0.0), 1.0)
    if power == wanted:
        summed += body.gain * error * seconds / body.reset
    return power, summed


WAVELENGTHS: Numbers = np.arange(400.0, 701.0, 10.0)
EXCITATION = 405.0
STRAY = 1e-3
"""Share of light that reaches the detector past the sample; absorbance cannot be read much above its -log10."""
FULL_SCALE = 65535.0
"""Counts at which the detector saturates."""
LAMP = 40000.0
"""Counts of the new lamp through an empty well."""
BRIGHTNESS = 9e4
"""Counts for every photon taken up being given back."""
QUENCHING = 5000.0
"""L/mol, of the ligand on the dots' light (Stern-Volmer)."""


def _band(at: Numbers | float, centre: float, width: float) -> Numbers:
    return np.exp(-0.5 * ((np.asarray(at) - centre) / width) ** 2)


def peak(healed: float) -> float:
    """nm, of the dots: those that are healed are larger too."""
    return 505.0 + 20.0 * healed


def quantum_yield(healed: float) -> float:
    """Of the dots, by the share of them that is healed."""
    return 0.12 + 0.68 * healed


def extinction(at: Numbers | float, healed: float) -> Numbers:
    """L/(mol cm) of A, B, C, P, D and X at wavelengths: species x wavelengths."""
    at = np.atleast_1d(np.asarray(at, dtype=np.float64))
    return np.stack([
        4000 * _band(at, 380.0, 20.0), np.zeros_like(at), 200 * _band(at, 450.0, 60.0),
        22000 * _band(at, peak(healed), 22.0) + 9000 * _band(at, 400.0, 45.0), 6000 * _band(at, 410.0, 60.0),
        5000 * _band(at, 420.0, 70.0),
    ])  # fmt: skip


def absorbance(umol: Numbers, at: Numbers | float) -> Numbers:
    """Of one well from above, by Beer-Lambert. What is in the light's way is umol over area: volume cancels out."""
    healed = float(umol[H] / umol[P]) if umol[P] > 0 else 0.0
    return np.asarray(umol[:6] * 1e-6 / (WELL_AREA * 1e-3) @ extinction(at, healed))


def seen(true: Numbers) -> Numbers:
    """What a spectrometer makes of an absorbance, with stray light and nothing else."""
    return np.asarray(-np.log10((10**-true + STRAY) / (1 + STRAY)))


def fluorescence(umol: Numbers, volume: float) -> float:
    """Counts, before the detector saturates: of one well excited at 405 nm, with inner filter and quenching by B."""
    if umol[P] <= 0 or volume <= 0:
        return 0.0
    healed = float(umol[H] / umol[P])
    each = umol[:6] * 1e-6 / (WELL_AREA * 1e-3) * extinction(EXCITATION, healed)[:, 0]
    total = float(each.sum())
    taken = float(each[P]) / total * (1 - 10**-total)
    return BRIGHTNESS * quantum_yield(healed) * taken / (1 + QUENCHING * float(umol[B]) / volume)
