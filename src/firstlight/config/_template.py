"""What `firstlight init` writes: a campaign file and its function, ready to run."""

from pathlib import Path

from ._settings import BadSettings

CAMPAIGN = """\
# A campaign: what may be varied, what is wanted, and how a point is tried.
#     firstlight validate campaign.yaml
#     firstlight run campaign.yaml
id: leaching
title: Nickel from laterite ore
description: Find leaching conditions that bring nickel into solution without wasting acid.

parameters:
  temperature: {low: 30, high: 95, unit: degC}
  acid: {low: 0.1, high: 2.0, unit: mol/L, description: Sulfuric acid at the start}
  time: {low: 10, high: 240, unit: min, scale: log}
  stirring: {type: integer, low: 200, high: 800, unit: rpm}
  grind: [coarse, medium, fine]

# Only what can be added up: here a bound on heat and acid together.
constraints:
  - temperature + 20*acid <= 125

objectives:
  recovery: {direction: maximize, unit: "%", target: 90}

# Measured besides, and bounded: a trial that uses more acid does not count as good.
observables:
  acid_use: mol/L
outcome_constraints:
  - acid_use <= 0.8 mol/L

budget: {trials: 40, time: 2 h}

# The function `measure` in experiment.py, beside this file. Failing and slow trials are data too.
evaluate: {function: "experiment:measure", timeout: 1 min, memory: 1 GB}

strategy: bayes
parallel: 2
seed: 1
"""

EXPERIMENT = '''\
"""A leaching experiment that stands in for a real one: replace it by your simulation or measurement."""

import math

PARTICLE = {"coarse": 150.0, "medium": 75.0, "fine": 38.0}
"""Diameter in micrometres."""


def measure(point: dict) -> dict:
    """Leach laterite ore in sulfuric acid for a while, by the shrinking-core model.

    `point` has a value for every parameter, in the units of campaign.yaml. What is returned are the
    observables: a number each, or {"value": ..., "sigma": ..., "unit": ...}.
    """
    kelvin = point["temperature"] + 273.15
    finer = 100.0 / PARTICLE[point["grind"]]
    rate = 1.8e6 * math.exp(-57_000.0 / (8.314 * kelvin)) * point["acid"] ** 0.8  # 1/min for a 100 um particle
    stirred = 1.0 - math.exp(-point["stirring"] / 250.0)
    reacted = 1.0 - (1.0 - min(1.0, rate * stirred * point["time"] * finer)) ** 3
    # The rest of the ore takes acid too, the more the finer, the hotter and the longer.
    slow = (point["time"] / 240.0) ** 0.5
    gangue = 0.3 * point["acid"] * finer * slow * math.exp((point["temperature"] - 95.0) / 40.0)
    acid_use = 0.5 * reacted + gangue
    supplied = min(1.0, point["acid"] / acid_use)
    return {"recovery": 96.0 * reacted * supplied, "acid_use": acid_use * supplied}
'''

TEMPLATE = {"campaign.yaml": CAMPAIGN, "experiment.py": EXPERIMENT}
"""The text of each file, by its name."""


def write_template(directory: Path) -> list[Path]:
    """Write the files of `TEMPLATE` and return their paths. Raises BadSettings where one is there already."""
    paths = [directory / name for name in TEMPLATE]
    if there := [path for path in paths if path.exists()]:
        raise BadSettings(f"{there[0]}: it is there already and stays as it is. Name another directory.")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path in paths:
            with path.open("x", encoding="utf-8") as file:
                file.write(TEMPLATE[path.name])
    except OSError as error:
        raise BadSettings(f"{directory}: it cannot be written: {error.strerror}. Name another directory.") from error
    return paths
