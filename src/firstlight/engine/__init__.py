"""Run campaigns. The only package that sequences anything."""

from ._explain import Difference, Explanation, Replay, ask_again, explain
from ._recorder import Clock, Listener, create, recover, restore
from ._run import request, run
from ._session import Session, open_session
from ._slots import FairSlots, Slots
from ._stages import wanted

__all__ = [
    "Clock",
    "Difference",
    "Explanation",
    "FairSlots",
    "Listener",
    "Replay",
    "Session",
    "Slots",
    "ask_again",
    "create",
    "explain",
    "open_session",
    "recover",
    "request",
    "restore",
    "run",
    "wanted",
]
