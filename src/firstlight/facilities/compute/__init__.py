"""Computation: on this machine (`LocalFacility`), or in this very process (`ThreadFacility`)."""

from ._interpret import interpret
from ._rundir import checkpoint_of
from .local import LocalFacility
from .threads import ThreadFacility

__all__ = ["LocalFacility", "ThreadFacility", "checkpoint_of", "interpret"]
