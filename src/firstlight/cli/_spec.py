"""From what was typed to a specification: a file or a domain, and what the options change in it."""

import difflib
from pathlib import Path

from msgspec.structs import replace

from .. import core
from . import _parts as parts
from ._output import Exit, Here, Problem
from ._verb import settings

_FILES = (".yaml", ".yml", ".json", ".toml")


class Changes(core.Value, frozen=True):
    """What options change in a specification; None leaves it as it is."""

    trials: int | None = None
    parallel: int | None = None
    seed: int | None = None
    strategy: str | None = None
    name: str | None = None
    facility: str | None = None


def read(here: Here, source: str, changes: Changes) -> core.CampaignSpec:
    """The specification that a file or an installed domain gives, changed and checked. Nothing is written.

    Raises BadCampaign or Problem.
    """
    # A specification is read before there is anything to write to: a wrong one leaves no trace.
    app = parts.app.App.open(replace(settings(here), journal="memory"))
    if source in parts.plugins.names("domains") and not Path(source).is_file():
        spec = _domain(source, app, changes)
    elif Path(source).is_file() or source.endswith(_FILES):
        spec = app.read_spec(Path(source))
    else:
        raise Problem(
            Exit.BAD_INPUT, _nothing(source), hint="`firstlight domains` lists them; `firstlight init` writes a file."
        )
    return app.check_spec(_changed(spec, changes))


def _domain(name: str, app: "parts.app.App", changes: Changes) -> core.CampaignSpec:
    domain: parts.domains.Domain = parts.plugins.load("domains", name)
    if missing := domain.missing():
        raise Problem(Exit.BAD_INPUT, missing)
    if domain.laboratory not in ("", changes.facility, *app.kinds):
        raise Problem(
            Exit.BAD_INPUT,
            f"{name} is performed in laboratory {domain.laboratory!r}, which this data directory has not",
            hint="`firstlight lab up` starts one that is simulated.",
        )  # fmt: skip
    return domain.campaign()


def _nothing(source: str) -> str:
    near = difflib.get_close_matches(source, parts.plugins.names("domains"), 1)
    return f"{source}: no such file, and no such domain" + (f"; did you mean {near[0]!r}?" if near else "")


def _changed(spec: core.CampaignSpec, changes: Changes) -> core.CampaignSpec:
    if changes.trials is not None:
        goal = replace(spec.goal, budget=replace(spec.goal.budget, trials=changes.trials))
        spec = replace(spec, goal=goal)
    if changes.parallel is not None:
        spec = replace(spec, parallel=changes.parallel)
    if changes.seed is not None:
        spec = replace(spec, seed=changes.seed)
    if changes.strategy is not None and changes.strategy != spec.strategy.name:
        # The options of one strategy mean nothing to another.
        spec = replace(spec, strategy=core.StrategySpec(name=changes.strategy))
    if changes.name is not None:
        spec = replace(spec, id=changes.name)
    if changes.facility is not None:
        named = "" if changes.facility == ANY else changes.facility
        steps = tuple(replace(s, facility=named, facilities=()) for s in spec.procedure.steps)
        spec = replace(spec, procedure=replace(spec.procedure, steps=steps))
    return spec


ANY = "any"
"""The facility of whoever leaves the choice to the coordinator."""
LONGER = 5
"""How many times the trials of the campaign its comparisons get: random search is to have the time to catch up."""


def baseline(spec: core.CampaignSpec, number: int) -> core.CampaignSpec:
    """The same problem with random points, and LONGER times the budget, whatever it brings."""
    budget = spec.goal.budget
    longer = replace(
        budget,
        trials=budget.trials and LONGER * budget.trials,
        cost=budget.cost and LONGER * budget.cost,
        seconds=budget.seconds and LONGER * budget.seconds,
    )
    return replace(
        spec, id=f"{spec.id}-random-{number}", strategy=core.StrategySpec(name="random"),
        seed=spec.seed + number, goal=replace(spec.goal, budget=longer, no_improvement=None),
    )  # fmt: skip
