"""This machine as a facility: crash-proof, with limits, and fast enough for functions of a millisecond."""

from ._facility import LocalFacility

__all__ = ["LocalFacility"]
