"""The step of the source that a trial names."""

from collections.abc import Sequence

from msgspec.structs import replace

from firstlight.core import Action, CampaignSpec, Point, Scalar

from ._action import make
from ._expression import filled


class Source:
    """One step a source, each on a facility of its own: a trial performs that of its source and no other.

    The sources are those of the specification's `fidelity`, and a step has the name of the source that it is for. In
    the settings of a step on an instrument, texts are worked out as in a recipe: "{temperature}" is a parameter with
    its unit. Functions and commands have the point itself.
    """

    def actions(self, spec: CampaignSpec, trial: str, point: Point) -> Sequence[Action]:
        """The one action "<trial>.<source>". Raises ValueError where the steps are not exactly those of the sources."""
        if spec.fidelity is None:
            raise ValueError("it performs the step of a trial's source, and no sources are declared: add fidelity")
        steps = {step.name: step for step in spec.procedure.steps}
        names = [step_name(source.value) for source in spec.fidelity.sources]
        if set(steps) != set(names) or len(steps) < len(spec.procedure.steps):
            raise ValueError(f"its steps are {', '.join(steps)}, and its sources {', '.join(names)}: name them alike")
        step = steps[step_name(point[spec.fidelity.parameter])]
        if ":" not in step.operation and step.operation != "command":
            values, units = {**point, "sample": trial}, {p.name: p.unit for p in spec.parameters if hasattr(p, "unit")}
            settings = {key: filled(value, values, units, step.name, key) for key, value in step.settings.items()}
            step = replace(step, settings=settings)
        return [make(step, trial, point)]


def step_name(source: Scalar) -> str:
    """The name of the step for this source."""
    return source if isinstance(source, str) else f"{source:.15g}"
