"""What a model says of a point, and whether it may be believed there."""

from firstlight.core import Observation, Value


class Prediction(Value, frozen=True):
    """What a model expects to be observed at a point: values by observable, each with its unit and sigma.

    `sigma` is the calibrated deviation of one reading from the value. `familiar` is whether the point is like what the
    model learned from; where it is not, `why` says what is strange about it, and neither value nor sigma holds.
    """

    values: dict[str, Observation]
    familiar: bool = True
    why: str = ""
