"""The model factory: data by query, a frozen manifest, a training campaign, a version in the registry."""

from ._labelling import ask_for_labels
from ._manifest import NotForTraining, frozen
from ._pinning import UsableOnly, pinned
from ._registry import CatalogShelf, UsableModels, open_registry
from ._retraining import Retraining
from ._shadow import in_shadow, served
from ._together import contribution, lent
from ._training import NothingTrained, prepared, register, spec_of, trains

__all__ = [
    "CatalogShelf", "NotForTraining", "NothingTrained", "Retraining", "UsableModels", "UsableOnly", "ask_for_labels",
    "contribution", "frozen", "in_shadow", "lent", "open_registry", "pinned", "prepared", "register", "served",
    "spec_of", "trains",
]  # fmt: skip
