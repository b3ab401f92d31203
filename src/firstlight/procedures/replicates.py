"""The same step several times over."""

from collections.abc import Sequence

from firstlight.core import Action, CampaignSpec, Point

from ._action import make


class Replicates:
    """The specification's one step, `replicates` times independently, to see how far its outcome scatters.

    The trial succeeds once all have, and all their observations reach its row. A step that may be
    performed several times at one point still needs a facility with as many slots to do so at once.
    """

    def __init__(self, replicates: int = 2) -> None:
        if isinstance(replicates, bool) or not isinstance(replicates, int) or replicates < 1:
            raise ValueError(f"replicates must be a whole number from 1 up, not {replicates!r}")
        self.replicates = replicates

    def actions(self, spec: CampaignSpec, trial: str, point: Point) -> Sequence[Action]:
        """Actions "<trial>.<step name>-1", "-2" and so on. Raises ValueError unless there is exactly one step."""
        steps = spec.procedure.steps
        if len(steps) != 1:
            raise ValueError(f"replicates repeats one step, and the procedure has {len(steps)}: use a chain")
        return [make(steps[0], trial, point, f"{steps[0].name}-{n}") for n in range(1, self.replicates + 1)]
