"""Ingest: finished trials become datasets that can be found, cited and exported."""

from ._export import Format, export
from ._records import Card, Record
from .file import FileCatalog

__all__ = ["Card", "FileCatalog", "Format", "Record", "export"]
