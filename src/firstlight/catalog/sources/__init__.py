"""Other people's data facilities: searched together, and brought here when they are wanted.

One file a kind: `optimade`, `tiled`, `web`, `dcat`, `openapi`. They need firstlight[data].
"""

from ._answer import Answer, Progress, Source, Unreachable
from ._cache import Cache
from ._federation import Heard, Hit, Merged, answers, merge, search

__all__ = [
    "Answer", "Cache", "Heard", "Hit", "Merged", "Progress", "Source", "Unreachable", "answers", "merge", "search",
]  # fmt: skip
