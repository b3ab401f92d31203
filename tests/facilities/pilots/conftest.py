"""The fixtures, where there is what they need; the tests say why they are skipped where there is not."""

import importlib.util

if importlib.util.find_spec("parsl"):
    from .bench import pilots

    __all__ = ["pilots"]
