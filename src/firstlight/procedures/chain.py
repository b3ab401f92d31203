"""Steps one after the other."""

from collections.abc import Sequence

from firstlight.core import Action, CampaignSpec, Point

from ._action import make


class Chain:
    """The specification's steps in their order: each begins once the one before has succeeded."""

    def actions(self, spec: CampaignSpec, trial: str, point: Point) -> Sequence[Action]:
        """One action "<trial>.<step name>" a step. Raises ValueError where there is none or two share a name."""
        names = [step.name for step in spec.procedure.steps]
        if not names:
            raise ValueError("a chain needs at least one step")
        if len(set(names)) != len(names):
            raise ValueError(f"the steps of a chain need names of their own, not {', '.join(names)}")
        made: list[Action] = []
        for step in spec.procedure.steps:
            made.append(make(step, trial, point, after=tuple(a.id for a in made[-1:])))
        return made
