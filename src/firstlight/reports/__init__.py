"""Look: figures, one HTML file a campaign, and how much faster than random search it was.

Computing the metrics needs numpy alone; writing a report needs the extra "report".
"""

from ._analysis import Analysis, Random, analyse
from ._dataset import Column, Dataset, Node, write_dataset
from ._hypervolume import hypervolume
from ._metrics import (
    Bound,
    Factor,
    acceleration,
    best_curve,
    enhancement,
    expected_draws,
    hypervolume_curve,
    needed,
    pool_acceleration,
    pool_expected,
    pool_quantile,
    reference_box,
    trial_losses,
)
from ._subject import Run, Subject, gather
from ._summary import summary
from ._write import MissingExtra, Report, write_report

__all__ = [
    "Analysis",
    "Bound",
    "Column",
    "Dataset",
    "Factor",
    "MissingExtra",
    "Node",
    "Random",
    "Report",
    "Run",
    "Subject",
    "acceleration",
    "analyse",
    "best_curve",
    "enhancement",
    "expected_draws",
    "gather",
    "hypervolume",
    "hypervolume_curve",
    "needed",
    "pool_acceleration",
    "pool_expected",
    "pool_quantile",
    "reference_box",
    "summary",
    "trial_losses",
    "write_dataset",
    "write_report",
]
