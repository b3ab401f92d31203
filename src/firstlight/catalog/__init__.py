"""Ingest: finished trials become datasets that can be found, cited and exported."""

from ._export import Format, export
from .file import FileCatalog

__all__ = ["FileCatalog", "Format", "export"]
