"""The model factory: data by query, a frozen manifest, a training campaign, a version in the registry."""

from ._manifest import NotForTraining, frozen
from ._registry import CatalogShelf, UsableModels, open_registry
from ._retraining import Retraining
from ._shadow import in_shadow, served
from ._training import NothingTrained, prepared, register, spec_of

__all__ = [
    "CatalogShelf", "NotForTraining", "NothingTrained", "Retraining", "UsableModels", "frozen", "in_shadow",
    "open_registry", "prepared", "register", "served", "spec_of",
]  # fmt: skip
