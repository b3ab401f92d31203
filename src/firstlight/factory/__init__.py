"""The model factory: data by query, a frozen manifest, a training campaign, a version in the registry."""

from ._manifest import NotForTraining, frozen
from ._registry import CatalogShelf, UsableModels, open_registry
from ._retraining import Retraining
from ._training import NothingTrained, prepared, register, spec_of

__all__ = [
    "CatalogShelf", "NotForTraining", "NothingTrained", "Retraining", "UsableModels", "frozen", "open_registry",
    "prepared", "register", "spec_of",
]  # fmt: skip
