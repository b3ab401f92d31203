"""What a training run says of the model that came of it: `report.json` beside the weights."""

import math
from pathlib import Path

import msgspec

from firstlight.core import Value

from ._family import Inherited, Item


class Curve(Value, frozen=True):
    """How training went, in short: steps done, and how bad it was on the examples for validation.

    `best_step` is the step whose weights were released; `first`, `best` and `last` are validations, smaller is better.
    """

    steps: int
    best_step: int
    first: float
    best: float
    last: float


class Compute(Value, frozen=True):
    """What training took: wall time in seconds, `device_hours` over all `world` processes, and energy in joules.

    `energy_joules` is None where nobody measured or estimated it; `energy_source` says how it is known. `memory_bytes`
    is the most that one process held, None where it is not known. `precision` is that of the forward pass.
    """

    device: str
    seconds: float
    device_hours: float
    world: int = 1
    tokens: int = 0
    tokens_per_second: float = 0.0
    energy_joules: float | None = None
    energy_source: str = ""
    memory_bytes: int | None = None
    precision: str = ""


class Parameters(Value, frozen=True):
    """How many numbers a model has that training changed, and how many it left as they were."""

    changed: int
    frozen: int = 0


class Report(Value, frozen=True):
    """What is known of a model once it is trained and judged.

    `metric` is the score by which versions are compared, smaller is better. `scores`, `parent_scores` and the scores of
    each of the `baselines` are on the same test. `parts` and `groups` say how many examples, and how many groups of
    them, were for training, validation and test. `order` is the digest of what the facility was told, `data` the files
    of the frozen manifest. `limits` are what the family says that its model cannot do, a sentence each. `inherited` are
    the weights of others that it, or the first of its ancestors, began with.
    """

    name: str
    family: str
    metric: str
    scores: dict[str, float]
    curve: Curve
    compute: Compute
    parameters: Parameters
    parts: dict[str, int] = {}
    groups: dict[str, int] = {}
    parent: str = ""
    baselines: dict[str, dict[str, float]] = {}
    parent_scores: dict[str, float] = {}
    forgetting: dict[str, float] = {}
    software: dict[str, str] = {}
    seed: int = 0
    order: str = ""
    data: tuple[Item, ...] = ()
    limits: tuple[str, ...] = ()
    inherited: tuple[Inherited, ...] = ()

    def __post_init__(self) -> None:
        if self.metric not in self.scores:
            known = ", ".join(self.scores) or "none"
            raise ValueError(f"report of {self.name}: there is no score {self.metric!r}; there are: {known}")
        for whose, scores in {"its": self.scores, "its parent's": self.parent_scores, **self.baselines}.items():
            for name, score in scores.items():
                if not math.isfinite(score):
                    raise ValueError(f"report of {self.name}: {whose} score {name!r} is {score}, and no number")


REPORT = "report.json"
"""What it is called in the folder of a release."""


def read_report(folder: Path) -> Report:
    """The report in the folder of a release. Raises FileNotFoundError, and ValueError saying what is wrong with it."""
    file = folder / REPORT
    try:
        return msgspec.json.decode(file.read_bytes(), type=Report)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ValueError(f"{file} is not the report of a model: {error}") from error


def write_report(folder: Path, report: Report) -> None:
    """Write it there; the same report is the same bytes. Raises OSError."""
    (folder / REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(report, order="deterministic"), indent=1))
