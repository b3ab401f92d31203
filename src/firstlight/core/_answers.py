"""Whether a model that predicts points can answer for a campaign. Pure."""

from collections.abc import Mapping, Sequence

from ._problem import CampaignSpec, Categorical


def unanswered(spec: CampaignSpec, observables: Sequence[str], units: Mapping[str, str]) -> str:
    """Why a model that predicts these `observables` says nothing of what a campaign asks at its points; "" where it
    does. `units` are those of what it predicts and of what it is asked, by name.
    """
    goal = spec.goal
    wanted = {o.observable for o in goal.objectives} | {b.observable for b in goal.outcome_constraints}
    if missing := sorted(wanted - set(observables)):
        return f"it predicts {', '.join(observables)}, and not {', '.join(missing)}"
    here = {p.name: "" if isinstance(p, Categorical) else p.unit for p in spec.parameters}
    asked = [name for name in units if name not in observables]
    if strange := [name for name in asked if name not in here]:
        return f"it is asked {', '.join(strange)}, which is no parameter here"
    return next((other_unit(n, here[n], units[n]) for n in asked if here[n] != units[n]), "")


def other_unit(name: str, here: str, learned: str) -> str:
    """That a model has learned something in another unit than a campaign has it in."""
    return f"{name} is in {here or 'no unit'} here, and it has learned it in {learned or 'no unit'}"
