"""Design: one point becomes the actions that try it."""

from .chain import Chain
from .recipe import Recipe
from .replicates import Replicates
from .source import Source

__all__ = ["Chain", "Recipe", "Replicates", "Source"]
