"""A family of catalysed couplings, the simulator that foresees them, and the laboratory that knows better.

    python -m firstlight.testing.couplings PORT

A substrate is coupled with a choice of ligand, solvent and base, at a temperature, for a time, with so much catalyst.
What a ligand, solvent or base does to the barriers is much the same for all substrates; how fast a substrate reacts,
and what suits it in particular, is its own. The simulator makes the errors of computed barriers, a shift and one a
ligand, and knows nothing of a catalyst that dies. The laboratory is a twin in a process of its own, which other
programs speak to by HTTP as an OpenAPI document says; it reads with noise.
"""

import json
import sys
import zlib
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from firstlight import core

Array = npt.NDArray[np.float64]
LIGANDS = tuple(f"L{n}" for n in range(1, 49))
SOLVENTS = (
    "DMF", "DMSO", "MeCN", "THF", "dioxane", "toluene", "tBuOH", "EtOAc", "NMP", "water", "anisole", "CPME",
)  # fmt: skip
BASES = ("K2CO3", "Cs2CO3", "K3PO4", "NEt3", "DBU", "NaOtBu", "KOAc", "TMG")
NOISE = 1.0
"""Deviation of what the laboratory reads, in percent."""
PARAMETERS: tuple[core.Parameter, ...] = (
    core.Categorical(name="ligand", values=LIGANDS),
    core.Categorical(name="solvent", values=SOLVENTS),
    core.Categorical(name="base", values=BASES),
    core.Continuous(name="temperature", low=40.0, high=140.0, unit="degC"),
    core.Continuous(name="time", low=0.25, high=24.0, unit="h", scale="log"),
    core.Continuous(name="loading", low=0.2, high=5.0, unit="mol%", scale="log"),
)
_R, _AT = 8.314e-3, 363.15
_STEPS = 40


@lru_cache(maxsize=64)
def _chemistry(substrate: int) -> tuple[dict[str, Array], Array, Array]:
    """Effects on the logs of the four rates (coupling, side reaction, decay of the product, death of the catalyst) by
    value (k, 4), for one substrate; its own rates, and activation energies (kJ/mol)."""
    shared, own = np.random.default_rng(2024), np.random.default_rng([7, substrate])
    effects = {}
    for name, values, spread in (("ligand", LIGANDS, 1.2), ("solvent", SOLVENTS, 0.8), ("base", BASES, 0.6)):
        same = shared.normal(0.0, spread, (len(values), 4)) * [1.0, 0.7, 0.4, 0.8]
        effects[name] = same * own.normal(1.0, 0.15, 4) + own.normal(0.0, 0.35 * spread, (len(values), 4))
    rates = np.array([-1.2, -3.8, -5.0, -2.2]) + own.normal(0.0, [0.5, 0.4, 0.4, 0.4])
    return effects, rates, np.array([75.0, 95.0, 105.0, 95.0]) + own.normal(0.0, 4.0, 4)


@lru_cache(maxsize=64)
def _errors(substrate: int) -> Array:
    """What the simulator gets wrong of the coupling of each ligand, in RT."""
    rng = np.random.default_rng([11, substrate])
    return np.asarray(rng.normal(0.6, 0.3) + rng.normal(0.0, 0.45, len(LIGANDS)))


def worth(substrate: int, columns: Mapping[str, Any], simulated: bool = False) -> Array:
    """Percent of yield, less what catalyst, time and heat cost, (n,) at points by parameter, (n,) values each: what is,
    or what the simulator makes of it."""
    effects, rates, energies = _chemistry(substrate)
    places = {
        name: np.array([values.index(v) for v in columns[name]])
        for name, values in (("ligand", LIGANDS), ("solvent", SOLVENTS), ("base", BASES))
    }
    log = rates + sum(effects[name][at] for name, at in places.items())
    kelvin = np.asarray(columns["temperature"], float) + 273.15
    log = log - energies / _R * (1.0 / kelvin - 1.0 / _AT)[:, None]
    if simulated:
        log[:, 0] += _errors(substrate)[places["ligand"]]
        log[:, 3] = -50.0
    k = np.exp(np.minimum(log, 8.0))
    left, product, alive = np.ones(len(k)), np.zeros(len(k)), np.asarray(columns["loading"], float) / 2.0
    hours = np.asarray(columns["time"], float)
    for step in range(_STEPS):
        passed = hours * ((step + 1) ** 2 - step**2) / _STEPS**2
        wanted, whole = k[:, 0] * alive, k[:, 0] * alive + k[:, 1] * (1.0 + 0.3 * alive) + 1e-12
        used = left * (1.0 - np.exp(-whole * passed))
        left, product = left - used, (product + used * wanted / whole) * np.exp(-k[:, 2] * passed)
        alive = alive * np.exp(-k[:, 3] * passed)
    price = np.asarray(columns["loading"], float) * 8.0 + hours + 0.15 * (kelvin - 313.15)
    return np.asarray(100.0 * product - price)


def columns_of(unit: Array) -> dict[str, list[Any]]:
    """Values by parameter, (n,) each, from numbers from 0 to 1, (n, 6)."""
    columns: dict[str, list[Any]] = {}
    for p, u in zip(PARAMETERS, unit.T, strict=True):
        if isinstance(p, core.Categorical):
            columns[p.name] = [p.values[int(x * len(p.values))] for x in u]
        elif isinstance(p, core.Continuous):
            value = p.low * (p.high / p.low) ** u if p.scale == "log" else p.low + u * (p.high - p.low)
            columns[p.name] = np.clip(value, p.low, p.high).tolist()
    return columns


def reached(substrate: int, one_in: int, draws: int = 200_000) -> float:
    """What one point in so many at random reaches in the laboratory, but for its noise."""
    columns = columns_of(np.random.default_rng(99).random((draws, len(PARAMETERS))))
    return round(float(np.quantile(worth(substrate, columns), 1 - 1 / one_in)), 1)


def simulate(point: Mapping[str, Any], *, substrate: int) -> dict[str, float]:
    """What the simulator makes of one point."""
    columns = {p.name: [point[p.name]] for p in PARAMETERS}
    return {"worth": float(worth(substrate, columns, simulated=True)[0])}


# ------------------------------------------------------------------ the laboratory

_NUMBERS = {"temperature": (20.0, 160.0, "degC"), "time": (0.1, 48.0, "h"), "loading": (0.1, 10.0, "mol%")}
DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Coupling robot", "version": "1"},
    "paths": {"/couple": {"post": {
        "operationId": "Couple",
        "requestBody": {"content": {"application/json": {"schema": {
            "type": "object", "required": ["substrate", *(p.name for p in PARAMETERS)],
            "properties": {
                "substrate": {"type": "integer"},
                **{p.name: {"type": "string", "enum": list(p.values)}
                   for p in PARAMETERS if isinstance(p, core.Categorical)},
                **{n: {"type": "number", "minimum": low, "maximum": high, "unit": unit}
                   for n, (low, high, unit) in _NUMBERS.items()},
            },
        }}}},
        "responses": {"200": {"content": {"application/json": {"schema": {
            "type": "object", "properties": {"worth": {"type": "number"}}}}}}},
    }}},
}  # fmt: skip


class _Robot(BaseHTTPRequestHandler):
    # Of what it reads, and how often it has been asked: the same campaign reads the same again.
    asked: ClassVar[Counter[bytes]] = Counter()

    def do_GET(self) -> None:
        self._say(DOCUMENT)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        said = json.loads(content)
        self.asked[content] += 1
        rng = np.random.default_rng([13, zlib.crc32(content), self.asked[content]])
        columns = {p.name: [said[p.name]] for p in PARAMETERS}
        true = float(worth(said["substrate"], columns)[0])
        self._say({"worth": true + NOISE * float(rng.standard_normal())})

    def _say(self, told: object) -> None:
        content = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a laboratory that works is silent."""


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Robot) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
