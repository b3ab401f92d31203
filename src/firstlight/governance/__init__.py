"""Check: whether an action may touch the world."""

from .owner import OwnerPolicy

__all__ = ["OwnerPolicy"]
