"""The priority areas: ready campaigns on real simulators, one file each, named by entry points.

Loading one loads no simulator; only trying a point does.
"""

from ._domain import Domain, Reference
from ._later import later

__all__ = ["Domain", "Reference", "later"]
