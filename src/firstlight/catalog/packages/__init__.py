"""Datasets out of the house and into it, in the packages that others read: RO-Crate, Croissant, DCAT-US, DataCite."""

from ._package import Damaged, Form, Package
from ._read import read
from ._write import write

__all__ = ["Damaged", "Form", "Package", "read", "write"]
