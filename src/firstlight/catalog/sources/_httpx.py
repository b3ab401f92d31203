"""httpx, or what to do where it is missing."""

try:
    import httpx
except ImportError as error:
    raise ImportError("other people's data facilities need httpx: install firstlight[data]") from error

__all__ = ["httpx"]
