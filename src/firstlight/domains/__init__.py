"""The priority areas: ready campaigns on real simulators.

Listing them loads no simulator; only trying a point does.
"""

from collections.abc import Iterator

from . import critical_materials
from ._domain import Domain

__all__ = ["Domain", "domains"]


def domains() -> Iterator[Domain]:
    """Every domain this package ships."""
    yield critical_materials.DOMAIN
