"""An action made from a step of the specification."""

from firstlight.core import Action, Point, StepSpec


def make(step: StepSpec, trial: str, point: Point, name: str = "", after: tuple[str, ...] = ()) -> Action:
    """The action "<trial>.<name>" that carries out a step at a point; the step's own name by default."""
    name = name or step.name
    if not name or "." in name:
        raise ValueError(f"step name {name!r} must not be empty or contain a dot: an action is called <trial>.<name>")
    return Action(
        id=f"{trial}.{name}", trial=trial, facility=step.facility, name=name, operation=step.operation, point=point,
        settings=step.settings, after=after, limits=step.limits, cost=step.cost, repeatable=step.repeatable,
        approval=step.approval, facilities=step.facilities, resources=step.resources, inputs=step.inputs,
        outputs=step.outputs,
    )  # fmt: skip
