"""Run campaigns. The only package that sequences anything."""

from ._recorder import Clock, Listener, create, recover
from ._run import request, run
from ._session import Session, open_session
from ._slots import FairSlots
from ._stages import wanted

__all__ = [
    "Clock",
    "FairSlots",
    "Listener",
    "Session",
    "create",
    "open_session",
    "recover",
    "request",
    "run",
    "wanted",
]
