"""The fixtures, where there is what they need; the tests say why they are skipped where there is not."""

import importlib.util

if all(importlib.util.find_spec(name) for name in ("httpx", "starlette", "uvicorn", "multipart")):
    from .bench import bench, specification

    __all__ = ["bench", "specification"]
