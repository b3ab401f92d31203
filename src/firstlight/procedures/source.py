"""The step of the source that a trial names."""

from collections.abc import Sequence

from firstlight.core import Action, CampaignSpec, Point, Scalar

from ._action import make


class Source:
    """One step a source, each on a facility of its own: a trial performs that of its source and no other.

    The sources are those of the specification's `fidelity`, and a step has the name of the source that it is for.
    """

    def actions(self, spec: CampaignSpec, trial: str, point: Point) -> Sequence[Action]:
        """The one action "<trial>.<source>". Raises ValueError where the steps are not exactly those of the sources."""
        if spec.fidelity is None:
            raise ValueError("it performs the step of a trial's source, and no sources are declared: add fidelity")
        steps = {step.name: step for step in spec.procedure.steps}
        names = [step_name(source.value) for source in spec.fidelity.sources]
        if set(steps) != set(names) or len(steps) < len(spec.procedure.steps):
            raise ValueError(f"its steps are {', '.join(steps)}, and its sources {', '.join(names)}: name them alike")
        return [make(steps[step_name(point[spec.fidelity.parameter])], trial, point)]


def step_name(source: Scalar) -> str:
    """The name of the step for this source."""
    return source if isinstance(source, str) else f"{source:.15g}"
