"""Computers behind DOE's Integrated Research Infrastructure Facility API, version 2 (`IriFacility`)."""

from ._facility import IriFacility

__all__ = ["IriFacility"]
