"""Instruments that speak OPC UA: devices of OPC 30500 (LADS), and servers of no companion specification."""

from ._instrument import OpcuaInstrument, discover

__all__ = ["OpcuaInstrument", "discover"]
