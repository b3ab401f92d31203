"""Models: trained from the catalog, judged, registered, served, and used and improved in the loop."""

from ._family import Column, Examples, Family, Inherited, Inherits, Item, Learnable, Scores, inherited_by
from ._prediction import Prediction
from ._spec import Gate, Order, Split, Training, TrainSpec, read_spec
from .families import family, family_at

__all__ = [
    "Column", "Examples", "Family", "Gate", "Inherited", "Inherits", "Item", "Learnable", "Order", "Prediction",
    "Scores", "Split", "TrainSpec", "Training", "family", "family_at", "inherited_by", "read_spec",
]  # fmt: skip
