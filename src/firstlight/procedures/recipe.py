"""Steps on instruments, in the order that each needs, with settings worked out from the point."""

import re
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from firstlight.core import Action, CampaignSpec, Point, StepSpec

from ._action import make
from ._expression import filled


class Recipe:
    """Every step once for every replicate, each once those that it is `after` have succeeded.

    A step without `after` follows the one before it; `after: []` begins at once. In a text among its settings, what
    stands in braces is worked out: "{volume}" is a parameter, with its unit, "{200 - acid - base} uL" a sum of their
    numbers, and "{sample}" the id of the sample, of which every replicate has its own: "c1.5", or "c1.5-2".
    "{weigh.Mass}" is what an earlier step brought; it is left for the facility, which knows that.
    """

    def __init__(self, replicates: int = 1) -> None:
        if isinstance(replicates, bool) or not isinstance(replicates, int) or replicates < 1:
            raise ValueError(f"replicates must be a whole number from 1 up, not {replicates!r}")
        self.replicates = replicates

    def actions(self, spec: CampaignSpec, trial: str, point: Point) -> Sequence[Action]:
        """Actions "<trial>.<step name>", with "-1", "-2" ... where there are replicates.

        Raises ValueError where names, order or settings cannot be.
        """
        steps = spec.procedure.steps
        names = [step.name for step in steps]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"the steps of a recipe need names of their own, not {', '.join(names) or 'none'}")
        follows = dict(_order(steps))
        units = {p.name: p.unit for p in spec.parameters if hasattr(p, "unit")}
        made = []
        for copy in [f"-{n}" for n in range(1, self.replicates + 1)] if self.replicates > 1 else [""]:
            for step in steps:
                after = tuple(f"{trial}.{name}{copy}" for name in follows[step.name])
                values = {**point, "sample": f"{trial}{copy}"}
                settings = {
                    key: _own(filled(value, values, units, step.name, key), names, copy)
                    for key, value in step.settings.items()
                }
                made.append(make(replace(step, settings=settings), trial, point, f"{step.name}{copy}", after))
        return made


def _own(value: object, steps: Sequence[str], copy: str) -> object:
    """What earlier steps of the same replicate brought, and not of any other."""
    if not copy or not isinstance(value, str) or "{" not in value:
        return value
    return re.sub(r"\{([\w-]+)\.", lambda m: f"{{{m[1]}{copy}." if m[1] in steps else m[0], value)


def _order(steps: Sequence[StepSpec]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What each step follows. Raises ValueError where that is no earlier step."""
    before: list[str] = []
    for step in steps:
        after = tuple(before[-1:]) if step.after is None else step.after
        for name in after:
            if name not in before:
                there = ", ".join(before) or "none: it is the first"
                raise ValueError(f"step {step.name} is to be after {name!r}, and the steps before it are {there}")
        yield step.name, after
        before.append(step.name)
