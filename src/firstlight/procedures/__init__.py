"""Design: one point becomes the actions that try it."""

from .chain import Chain
from .replicates import Replicates

__all__ = ["Chain", "Replicates"]
